"""The index: exact search, updates that encode only what is new, kills, two processes, damage, and the large path."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from eval_fakes import FakeBackbone, HandSystem, gallery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_in_a_process import WIDTH, Fast
from PIL import Image

from fdp_core import backbones
from fdp_core.datasets import DatasetMissing, Gallery, Photo, load
from fdp_core.files import DiskFault
from fdp_core.retrieval import index as module
from fdp_core.retrieval import systems
from fdp_core.retrieval.features import CorruptPhotographs
from fdp_core.retrieval.index import MEMORY, CorruptIndex, Index, OtherModel, Update
from fdp_core.retrieval.vectors import VectorSets
from fdp_core.retrieval.workers import FolderInUse
from fdp_core.weights import MINI_WEIGHTS

PROGRAM = Path(__file__).parents[1] / "index_in_a_process.py"


def system():
    return systems.zero_shot(FakeBackbone(), 64, progress=False)


def built(model, photographs, uri=MEMORY):
    index = Index.open(uri, model)
    index.update(photographs, progress=False)
    return index


def files(folder, count=6, start=0):
    """Write files that the fast embedder takes for photographs, old enough to be known by their time."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        write(folder / f"{number:03d}.jpg", f"photograph {number}")
    return folder


def write(path, text, when=1_700_000_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (when, when))


def contents(index):
    """Return all that an index knows by heart: id -> path, vectors, corners."""
    sets = index.sets
    own = [slice(*sets.starts[n : n + 2]) for n in range(len(index))]
    return {
        name: (path, sets.vectors[rows].tobytes(), sets.corners[rows].tobytes())
        for name, path, rows in zip(index.ids, index.paths, own)
    }


class SeveralVectors(HandSystem):
    """Photograph n is axis n and, a little, axis n + 1; photograph 2 cannot be read."""

    def encode_gallery(self, gallery):
        vectors = np.eye(5, dtype=np.float32)[[0, 1, 1, 2, 3, 4, 4]]
        vectors[[1, 3, 5], [0, 1, 3]] = 0.6, 0.6, 0.6
        vectors[[1, 3, 5], [1, 2, 4]] = 0.8, 0.8, 0.8
        return VectorSets(vectors, np.array([0, 2, 4, 4, 6, 7]))


def test_search_finds_the_right_photograph(tmp_path):
    index = built(HandSystem(), gallery(tmp_path))
    hits = index.search("w3", k=2)
    assert [hit.id for hit in hits] == ["03.png", "00.png"]
    assert hits[0].score == 1.0 and hits[0].rank == 1 and hits[0].path == tmp_path / "03.png"
    assert hits[0].corners is None and index.ids[hits[0].row] == "03.png"
    assert len(index.search("w3", k=99)) == 5
    with pytest.raises(ValueError, match="k is 0"):
        index.search("w3", k=0)
    with pytest.raises(ValueError, match="query is empty"):
        index.search("  ")
    assert [hit.score for hit in index.search("w3", min_score=0.5)] == [1.0]


def test_a_query_that_the_backbone_cannot_spell_is_refused(tmp_path):
    index = built(system(), gallery(tmp_path))
    assert index.search("hotel")
    with pytest.raises(ValueError, match="fake cannot spell '\u6f22'"):
        index.search("the \u6f22 hotel")
    for unseen in ("\u200b", "\u0301", "\ufeff \u2060", "\x00"):
        with pytest.raises(ValueError, match="shows no letter"):
            index.search(unseen)


def test_an_empty_index_finds_nothing(tmp_path):
    index = Index.open(tmp_path / "i", Fast())
    assert len(index) == 0 and index.search("a") == [] and len(index.scores("a")) == 0 and len(index.sets) == 0


def test_a_folder_with_corrupt_photographs(tmp_path):
    gallery(tmp_path / "g", corrupt=(1,))
    (tmp_path / "g" / "notes.txt").write_text("not a photograph")
    index = Index.open(tmp_path / "i", system())
    for _ in range(2):  # they are tried again, and named again
        with pytest.warns(CorruptPhotographs, match=r"01\.png") as told:
            index.update(tmp_path / "g", progress=False)
        assert not any(str(tmp_path) in str(each.message) for each in told)
        assert index.ids == ("00.png", "02.png", "03.png", "04.png") and index.unreadable == ("01.png",)
    assert len(index.search("hotel")) == 4


def test_nothing_readable_and_nothing_there(tmp_path):
    with pytest.raises(DatasetMissing, match="no photographs"):
        built(system(), tmp_path)
    with pytest.raises(DatasetMissing, match="There is no folder"):
        built(system(), tmp_path / "none")
    with pytest.warns(CorruptPhotographs), pytest.raises(ValueError, match="None of the 2 photographs"):
        built(system(), gallery(tmp_path / "g", 2, corrupt=(0, 1)))


def test_several_vectors_a_photograph(tmp_path):
    index = built(SeveralVectors(), gallery(tmp_path / "g"), tmp_path / "i")
    assert index.ids == ("00.png", "01.png", "03.png", "04.png") and index.unreadable == ("02.png",)
    assert index.sets.vectors.shape == (7, 5) and index.sets.starts.tolist() == [0, 2, 4, 6, 7] and len(index) == 4
    np.testing.assert_allclose(index.scores("w1"), [0.8, 1, 0, 0], atol=3e-4)
    hits = index.search("w4", k=3)
    assert [(hit.id, hit.row) for hit in hits] == [("04.png", 3), ("03.png", 2), ("00.png", 0)]
    assert hits[1].score == pytest.approx(0.8, abs=3e-4) and hits[1].path == tmp_path / "g" / "03.png"
    assert Index.open(tmp_path / "i", SeveralVectors()).search("w4", k=3) == hits


def test_what_the_table_keeps_is_what_was_encoded_up_to_half_precision(tmp_path):
    model, folder = Fast(), files(tmp_path / "g", 9)
    index = built(model, folder, tmp_path / "i")
    shown = Gallery("g", "test", tuple(Photo(path.name, path) for path in sorted(folder.iterdir())), "", True)
    sets = model.encode_gallery(shown)
    np.testing.assert_array_equal(index.sets.vectors, sets.vectors.astype(np.float16))
    np.testing.assert_array_equal(index.sets.corners, sets.corners)
    whole = sets.scores(model.encode_queries(["hotel"]))[0]
    np.testing.assert_allclose(index.scores("hotel"), whole, atol=1e-3)
    for hit in index.search("hotel", 9):
        first, last = index.sets.starts[hit.row :][:2]
        best = first + np.argmax(index.sets.vectors[first:last] @ model.encode_queries(["hotel"])[0])
        np.testing.assert_array_equal(hit.corners, index.sets.corners[best])


def test_a_phrase_is_asked_for_by_its_words_where_a_vector_holds_one(tmp_path):
    model, shown = HandSystem(), gallery(tmp_path)
    model.encode_queries = lambda texts: np.eye(5, dtype=np.float32)[[int(text[-1]) for text in texts]]
    index = built(model, shown)
    assert [hit.score for hit in index.search("w1 w2", 3)] == [1, 0, 0]
    model.by_words = True  # half for the phrase, a quarter for either word
    assert [(hit.id, hit.score) for hit in index.search("w1 w2", 2)] == [("02.png", 0.75), ("01.png", 0.25)]
    np.testing.assert_array_equal(index.scores("w1 w2"), [0, 0.25, 0.75, 0, 0])


def test_only_what_is_new_is_encoded(tmp_path):
    folder, model = files(tmp_path / "g", 70), Fast()  # more than a slice
    index = built(model, folder, tmp_path / "i")
    assert len(model.seen) == len(index) == 70
    model.seen.clear()
    assert index.update(folder, progress=False) == Update(0, 70, 0, ())
    files(folder, 2, start=70)  # new
    (folder / "000.jpg").unlink()  # gone
    (folder / "album").mkdir()
    (folder / "001.jpg").rename(folder / "album" / "new name.jpg")
    write(folder / "002.jpg", "other contents")
    shutil.copy(folder / "003.jpg", folder / "a copy's.jpg")
    os.utime(folder / "004.jpg")  # touched
    assert index.update(folder, progress=False) == Update(3, 69, 2, ())
    assert sorted(model.seen) == ["002.jpg", "070.jpg", "071.jpg"]
    assert contents(index) == contents(built(Fast(), folder)) and len(index) == 72
    moved = tmp_path / "moved"
    folder.rename(moved)
    model.seen.clear()
    index = Index.open(tmp_path / "i", model)
    index.update(moved, progress=False)
    assert model.seen == [] and all(path.is_file() for path in index.paths)
    assert contents(index) == contents(built(Fast(), moved))


def test_an_unchanged_file_is_not_even_hashed(tmp_path, monkeypatch):
    folder = files(tmp_path / "g")
    index = built(Fast(), folder, tmp_path / "i")
    monkeypatch.setattr(module, "sha256_of", lambda path: pytest.fail(f"{path} was read"))
    index.update(folder, progress=False)
    monkeypatch.undo()
    (folder / "000.jpg").write_text("a")
    written = (folder / "000.jpg").stat().st_mtime_ns
    index.update(folder, progress=False)
    (folder / "000.jpg").write_text("b")  # as long, within the step of a coarse clock
    os.utime(folder / "000.jpg", ns=(written, written))
    index.update(folder, progress=False)
    assert contents(index) == contents(built(Fast(), folder))


names = st.sampled_from(["a.jpg", "b.jpg", "album/c.jpg", "album/d'e.jpg", "\udce9.jpg", "f.jpg"])
libraries = st.dictionaries(names, st.sampled_from(["", "one", "two", "three"]), min_size=1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(libraries, min_size=2, max_size=4), size=st.integers(1, 3))
def test_whatever_happens_to_a_library_an_update_gives_the_index_of_what_is_there(tmp_path, states, size):
    root = tmp_path / str(time.monotonic_ns())
    index = Index.open(MEMORY, Fast())
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", CorruptPhotographs)
        patch.setattr(module, "SLICE", size)
        patch.setattr(module, "FRAGMENTS", 2)
        for clock, state in enumerate(states):
            shutil.rmtree(root, ignore_errors=True)
            for name, text in state.items():
                write(root / name, text, 1_700_000_000 + clock)
            try:
                index.update(root, progress=False)
            except ValueError:
                assert not any(state.values())
                continue
            fresh = built(Fast(), root)
            assert contents(index) == contents(fresh) and index.unreadable == fresh.unreadable
            assert sum(map(bool, state.values())) == len(index)
            assert index.search("a", 9) == fresh.search("a", 9)


def test_two_of_one_content_are_two_photographs(tmp_path):
    model = Fast()
    for name in ("a.jpg", "b.jpg"):
        write(tmp_path / "g" / name, "the same")
    index = built(model, tmp_path / "g")
    assert len(model.seen) == 1 and index.ids == ("a.jpg", "b.jpg")
    assert [hit.id for hit in index.search("x")] == ["a.jpg", "b.jpg"]  # they tie
    twice = Gallery("g", "test", (Photo("a", tmp_path), Photo("a", tmp_path)), "", True)
    with pytest.raises(ValueError, match="several photographs of one id, 'a'; give each"):
        index.update(twice)


def test_photographs_in_memory(tmp_path):
    model = Fast()
    photos = tuple(Photo(name, Path(name), data=name.encode()) for name in ("a", "b"))
    index = built(model, Gallery("m", "test", photos, "", True))
    assert len(index) == 2 and index.update(Gallery("m", "test", photos, "", True)).encoded == 0


def test_filters(tmp_path):
    for name, taken, side in (("rome/a.jpg", "2024:05:01 10:00:00", 40), ("b.jpg", "", 300)):
        image, path = Image.new("RGB", (side, side), "red"), tmp_path / "g" / name
        exif = image.getexif()
        if taken:
            exif.get_ifd(0x8769)[0x9003] = taken
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, exif=exif)
    index = built(Fast(), tmp_path / "g")
    for where, right in {
        "folder = 'rome'": ["rome/a.jpg"],
        "folder = ''": ["b.jpg"],
        "taken >= date '2024-01-01'": ["rome/a.jpg"],
        "taken IS NULL": ["b.jpg"],
        f"size > {(tmp_path / 'g' / 'rome' / 'a.jpg').stat().st_size}": ["b.jpg"],
        "size < 0": [],
    }.items():
        assert [hit.id for hit in index.search("x", where=where)] == right, where
    assert index._rows[1].taken == datetime(2024, 5, 1, 10)
    with pytest.raises(ValueError, match=r"where is 'colour = 1', no condition on id, folder, size"):
        index.search("x", where="colour = 1")


def test_the_address_of_a_file_is_that_folder(tmp_path):
    index = built(Fast(), files(tmp_path / "g"), (tmp_path / "an index").as_uri())
    assert index.uri == str(tmp_path / "an index") and len(Index.open(tmp_path / "an index", Fast())) == 6


@pytest.fixture
def bucket(monkeypatch):
    """Return an address in a bucket of a server that stands in for S3; it needs moto[server,s3]."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{address}/photos", method="PUT")).close()
    yield "s3://photos/library"
    server.stop()


def test_an_index_in_a_bucket_is_the_one_in_memory(bucket, tmp_path):
    folder = files(tmp_path / "g", 12)
    index = built(Fast(), folder, bucket)
    (folder / "007.jpg").rename(folder / "moved.jpg")
    (folder / "001.jpg").unlink()
    write(folder / "new.jpg", "new")
    assert index.update(folder, progress=False) == Update(1, 11, 2, ())
    for found in (index, Index.open(bucket, Fast())):
        assert contents(found) == contents(built(Fast(), folder)) and len(found) == 12
        assert [hit.id for hit in found.search("hotel", 5)] == [
            hit.id for hit in built(Fast(), folder).search("hotel", 5)
        ]


def test_another_models_index_is_kept_aside(tmp_path):
    folder = files(tmp_path / "g")
    first = built(Fast(), folder, tmp_path / "i")
    with pytest.warns(OtherModel, match="another model too.*It is kept"):
        other = Index.open(tmp_path / "i", Fast("other" * 8))
    assert len(other) == 0 and other.update(folder, progress=False).encoded == 6
    assert contents(first) == contents(other) and first.update(folder, progress=False).encoded == 0


def run(folder, uri, pause=0.0, size=2):
    command = [sys.executable, PROGRAM, folder, uri, str(pause), str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_update_goes_on(tmp_path):
    folder, kills = files(tmp_path / "g", 40), int(os.environ.get("FDP_TEST_KILLS", "2"))
    right = contents(built(Fast(), folder))
    rng = np.random.default_rng()
    for attempt in range(kills):
        process = run(folder, tmp_path / "i", pause=0.01)
        assert process.stdout.readline() == "begins\n", process.stderr.read()
        time.sleep(rng.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if attempt == 1:
            (folder / "000.jpg").rename(folder / "0.jpg")
        if attempt % 5 == 4:  # else only the first ones would be killed amid their work
            shutil.rmtree(tmp_path / "i")
    (folder / "0.jpg").rename(folder / "000.jpg")
    model = Fast()
    index = built(model, folder, tmp_path / "i")
    assert contents(index) == right and len(model.seen) <= 40
    whole = tmp_path / "whole"
    built(Fast(), folder, whole)
    assert index.update(folder, progress=False) == Update(0, 40, 0, ())
    assert {path.suffix for path in tables(tmp_path / "i")} == {path.suffix for path in tables(whole)}  # no leftovers


def test_a_build_merges_nothing_and_only_ten_are_encoded_of_ten_that_came(tmp_path, monkeypatch):
    """A merge reads all ids and a look-up all contents, so that a build would take the square of its photographs."""
    monkeypatch.setattr(module, "SLICE", 5)
    folder, model = files(tmp_path / "g", 60), Fast()
    index = Index.open(tmp_path / "i", model)
    monkeypatch.setattr(index, "_scan", lambda *_: pytest.fail("the table was read"))
    monkeypatch.setattr(index, "_refresh", lambda: None)
    index.update(folder, progress=False)
    monkeypatch.undo()
    model.seen.clear()
    index = Index.open(tmp_path / "i", model)
    assert index.update(files(folder, 10, start=60), progress=False) == Update(10, 60, 0, ())
    assert len(model.seen) == 10 and contents(index) == contents(built(Fast(), folder))


def test_two_processes_at_once(tmp_path):
    folder = files(tmp_path / "g", 12)
    first = run(folder, tmp_path / "i", pause=0.2)
    assert first.stdout.readline() == "begins\n"
    index, deadline = Index.open(tmp_path / "i", Fast()), time.monotonic() + 60
    while len(index) == 0 and time.monotonic() < deadline:  # what the other commits is seen
        time.sleep(0.05)
    with pytest.raises(FolderInUse, match="Another process is working in .*/i. Wait"):
        index.update(folder)
    assert index.search("x")
    out, error = first.communicate(timeout=60)
    assert "Update(encoded=12" in out, error
    assert contents(index) == contents(built(Fast(), folder))


def tables(uri):
    return [path for path in Path(uri).rglob("*") if path.is_file() and path.stat().st_size and path.name != ".lock"]


def test_damage_is_one_error_that_names_the_table_and_loses_nothing(tmp_path):
    folder, uri = files(tmp_path / "g", 3), tmp_path / "i"
    right = contents(built(Fast(), folder, uri))
    rng = np.random.default_rng(0)
    refused = 0
    for path in tables(uri):
        whole = path.read_bytes()
        for damage in ["cut", "empty", *rng.integers(0, 8 * len(whole), 12).tolist()]:
            data = bytearray(whole)
            if isinstance(damage, str):
                data = data[: len(data) // 2 if damage == "cut" else 0]
            else:
                data[damage // 8] ^= 1 << damage % 8
            path.write_bytes(data)
            try:
                assert contents(Index.open(uri, Fast())) == right, (path.name, damage)
            except CorruptIndex as error:
                refused += 1
                assert str(uri) in str(error) and "photographs-fastfastfastfast" in str(error)
                assert path.read_bytes() == bytes(data)
        path.write_bytes(whole)
    assert refused > 10 and contents(Index.open(uri, Fast())) == right
    (tmp_path / "file").write_text("no index")
    with pytest.raises(CorruptIndex, match="is a file; an index is a folder"):
        Index.open(tmp_path / "file", Fast())


def test_a_table_whose_making_was_killed_is_made_again(tmp_path):
    folder = files(tmp_path / "g", 3)
    right = contents(built(Fast(), folder))
    for number, left in enumerate(("", "_transactions/0-1.txn", "_versions/18446744073709551614.manifest#1")):
        uri = tmp_path / f"{number}"
        path = uri / "photographs-fastfastfastfast.lance" / left
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half") if left else path.mkdir(exist_ok=True)
        assert len(Index.open(uri, Fast())) == 0
        assert contents(built(Fast(), folder, uri)) == right
    shutil.rmtree(path.parent)  # photographs without their versions are damage
    with pytest.raises(CorruptIndex, match="was not found"):
        Index.open(uri, Fast())


def test_a_full_disk_is_said_plainly(tmp_path, monkeypatch):
    index = Index.open(tmp_path / "i", Fast())

    def full(*arguments, **options):
        raise RuntimeError("lance error: LanceError(IO): No space left on device (os error 28), writer.rs:44")

    monkeypatch.setattr(index._db, "create_table", full)
    with pytest.raises(DiskFault, match=r"No space left.*MB are free in .*FDP_CACHE"):
        index.update(files(tmp_path / "g"), progress=False)


def test_what_a_model_gets_wrong(tmp_path):
    with pytest.raises(ValueError, match="encoded 5 photographs of 4"):
        built(SeveralVectors(), gallery(tmp_path, 4))

    class Broken(HandSystem):
        def encode_gallery(self, shown):
            raise ValueError("the model is broken")

    with pytest.raises(ValueError, match="the model is broken"):
        built(Broken(), gallery(tmp_path / "g", 3))


def test_numbers_that_are_none_do_not_come_in_or_out_in_silence(tmp_path):
    shown = gallery(tmp_path, 4)

    class Infinite(Fast):
        def encode_gallery(self, shown):
            sets = super().encode_gallery(shown)
            sets.vectors[0] = 1e6  # infinite in half precision
            return sets

        def encode_queries(self, texts):
            return np.full((len(texts), WIDTH), np.nan, np.float32)

    index = Index.open(tmp_path / "index", Infinite())
    with pytest.warns(CorruptPhotographs, match=f"{shown.photos[0].id}: .*infinite in half precision"):
        assert index.update(shown, progress=False).unreadable == (shown.photos[0].id,)
    with pytest.raises(ValueError, match="fast gave a vector with NaN .* for the query 'exit'"):
        index.search("exit")


@pytest.mark.parametrize("slip", [{"k": 2.5}, {"k": "3"}, {"min_score": np.nan}, {"min_score": "0.5"}, {"text": 5}])
def test_a_slip_in_a_search_is_told(slip):
    index = Index.open("memory://", Fast())
    with pytest.raises(ValueError, match="expected a"):
        index.search(**{"text": "exit"} | slip)
    for wrong in (None, ""):
        with pytest.raises(ValueError, match="expected a folder or an address"):
            Index.open(wrong, Fast())
    with pytest.raises(ValueError, match="expected a folder or a Gallery"):
        index.update(["a.jpg"])
    with pytest.raises(ValueError, match="expected an FDP model"):
        Index.open("memory://", "mini")


def test_beyond_the_exact_search_the_index_finds_the_same(tmp_path, monkeypatch):
    folder, model = files(tmp_path / "g", 300), Fast()
    exact = built(model, folder)
    monkeypatch.setattr(module, "EXACT", 100)
    monkeypatch.setattr(module, "GROUP", 50)
    index = built(model, folder, tmp_path / "i")
    files(folder, 3, start=300)
    for each in (index, exact):
        each.update(folder, progress=False)
        assert len(each) == 303
    found = 0
    for word in ("hotel", "bar", "taxi", "exit"):
        right = {hit.id: hit for hit in exact.search(word, 10)}
        hits = index.search(word, 10)
        found += len(right.keys() & {hit.id for hit in hits})
        for hit in hits:
            if hit.id in right:
                assert hit.score == right[hit.id].score
                np.testing.assert_array_equal(hit.corners, right[hit.id].corners)
        assert [hit.id for hit in index.search(word, 5, where="id < '003'")] == [
            hit.id for hit in exact.search(word, 5, where="id < '003'")
        ]
    assert index._sets is None and found >= 25  # directions without clusters are the worst case


def test_groups_of_other_bits_are_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EXACT", 100)
    monkeypatch.setattr(module, "GROUP", 50)
    folder, own = tmp_path / "g", module.GROUPS
    for name, bits, count in (("regions", 4, 120), (own, module.BITS, 121)):
        monkeypatch.setattr(module, "GROUPS", name)
        monkeypatch.setattr(module, "BITS", bits)
        index = Index.open(tmp_path / "i", Fast())
        index.update(files(folder, count), progress=False)
        assert [each.name for each in index._table.list_indices()] == [name]
    assert len(index.search("hotel", 10)) == 10


def test_few_open_files_are_enough_even_for_many_commits_and_groups(tmp_path):
    pytest.importorskip("resource")
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from index_in_a_process import Fast
from fdp_core.retrieval import index
index.SLICE, index.EXACT, index.GROUP = 2, 100, 50
opened = index.Index.open(sys.argv[2], Fast())
assert opened.update(sys.argv[1], progress=False).encoded == 140
assert opened._table.list_indices() and opened._table.stats()["fragment_stats"]["num_fragments"] == 1
assert len(opened.search("hotel", 10)) == 10
"""
    program = [sys.executable, "-c", code, str(files(tmp_path / "g", 140)), str(tmp_path / "i")]
    done = subprocess.run(program, cwd=PROGRAM.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_memory_does_not_grow_with_the_photographs(tmp_path):
    seen = []

    class Counting(Fast):
        def encode_gallery(self, shown):
            seen.append(len(shown))
            return super().encode_gallery(shown)

    built(Counting(), files(tmp_path / "g", 150), tmp_path / "i")
    assert max(seen) <= module.SLICE and sum(seen) == 150


@pytest.mark.skipif(not MINI_WEIGHTS.is_file(), reason="the shipped mini backbone is not in this checkout")
def test_the_shipped_mini_searches_the_shipped_gallery(tmp_path):
    shown, _ = load("mini")
    few = replace(shown, photos=shown.photos[:4])
    mini = systems.zero_shot(backbones.load("mini"), 128, cache_dir=tmp_path, progress=False)
    hits = built(mini, few, tmp_path / "index").search("hotel", k=3)
    assert len(hits) == 3 and hits[0].score >= hits[-1].score and np.isfinite(hits[0].score)
    assert Index.open(tmp_path / "index", mini).search("hotel", k=3) == hits


def test_the_padding_leaves_products_as_they_are():
    rng = np.random.default_rng(0)
    for width in (1, 7, 8, 256, 257):
        vectors = rng.normal(size=(5, width)) / width**0.5
        padded = module._pad(vectors.astype(np.float32)).astype(np.float32)
        assert padded.shape[1] % 8 == 0 and padded.shape[1] > width
        np.testing.assert_array_equal(padded[:, :width], vectors.astype(np.float16))
        short = (vectors**2).sum(axis=1) < 2
        np.testing.assert_allclose((padded[short] ** 2).sum(axis=1), 2, rtol=2e-3)
    assert WIDTH % 8

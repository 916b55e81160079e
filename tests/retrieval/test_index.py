"""The index: exact search, the same after a round trip, refused when stale or damaged; written slice by slice in memory
that does not grow with the photographs.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from eval_fakes import FakeBackbone, HandSystem, draw, gallery

from fdp_core import backbones
from fdp_core.datasets import DatasetMissing, Gallery, Photo, load
from fdp_core.retrieval import systems
from fdp_core.retrieval.features import CorruptPhotographs
from fdp_core.retrieval.index import CorruptIndex, Index, StaleIndex, open_index, write
from fdp_core.retrieval.vectors import VectorSets
from fdp_core.weights import MINI_WEIGHTS


def system():
    return systems.zero_shot(FakeBackbone(), 64, progress=False)


class SeveralVectors(HandSystem):
    """Photograph n is axis n and, a little, axis n + 1; photograph 2 cannot be read."""

    def encode_gallery(self, gallery):
        vectors = np.eye(5, dtype=np.float32)[[0, 1, 1, 2, 3, 4, 4]]
        vectors[[1, 3, 5], [0, 1, 3]] = 0.6, 0.6, 0.6
        vectors[[1, 3, 5], [1, 2, 4]] = 0.8, 0.8, 0.8
        return VectorSets(vectors, np.array([0, 2, 4, 4, 6, 7]))


def test_search_finds_the_right_photograph(tmp_path):
    index = Index.build(HandSystem(), gallery(tmp_path))
    hits = index.search("w3", k=2)
    assert [hit.id for hit in hits] == ["03.png", "00.png"]
    assert hits[0].score == 1.0 and hits[0].rank == 1 and hits[0].path == tmp_path / "03.png"
    assert len(index.search("w3", k=99)) == 5
    with pytest.raises(ValueError, match="k is 0"):
        index.search("w3", k=0)
    with pytest.raises(ValueError, match="query is empty"):
        index.search("  ")
    assert [hit.score for hit in index.search("w3", min_score=0.5)] == [1.0]


def test_a_query_that_the_backbone_cannot_spell_is_refused(tmp_path):
    index = Index.build(system(), gallery(tmp_path))
    assert index.search("hotel")
    with pytest.raises(ValueError, match="fake cannot spell '\u6f22'"):
        index.search("the \u6f22 hotel")


def test_a_folder_with_corrupt_photographs(tmp_path):
    gallery(tmp_path / "g", corrupt=(1,))
    (tmp_path / "g" / "notes.txt").write_text("not a photograph")
    with pytest.warns(CorruptPhotographs, match=r"01\.png"):
        index = Index.build(system(), tmp_path / "g")
    assert index.ids == ("00.png", "02.png", "03.png", "04.png") and index.unreadable == ("01.png",)
    assert len(index.search("hotel")) == 4


def test_an_empty_or_missing_folder_is_said_clearly(tmp_path):
    with pytest.raises(DatasetMissing, match="no photographs"):
        Index.build(system(), tmp_path)
    with pytest.raises(DatasetMissing, match="There is no folder"):
        Index.build(system(), tmp_path / "none")


def test_round_trip(tmp_path):
    index = Index.build(system(), gallery(tmp_path / "g"))
    path = index.save(tmp_path / "index.safetensors")
    loaded = Index.load(path, system())
    np.testing.assert_array_equal(loaded.features, index.features)
    assert (loaded.ids, loaded.paths, loaded.contents) == (index.ids, index.paths, index.contents)
    assert loaded.may_show is True and loaded.search("hotel") == index.search("hotel")
    with pytest.raises(ValueError, match="no model"):
        Index.load(path).search("hotel")


def test_several_vectors_a_photograph(tmp_path):
    index = Index.build(SeveralVectors(), gallery(tmp_path / "g"))
    assert index.ids == ("00.png", "01.png", "03.png", "04.png") and index.unreadable == ("02.png",)
    assert index.features.shape == (7, 5) and index.starts.tolist() == [0, 2, 4, 6, 7] and len(index) == 4
    np.testing.assert_array_equal(index.scores("w1"), np.array([0.8, 1, 0, 0], np.float32))
    hits = index.search("w4", k=3)
    assert [(hit.id, hit.row) for hit in hits] == [("04.png", 3), ("03.png", 2), ("00.png", 0)]
    assert hits[1].score == pytest.approx(0.8) and hits[1].path == tmp_path / "g" / "03.png"
    loaded = Index.load(index.save(tmp_path / "i"), SeveralVectors())
    np.testing.assert_array_equal(loaded.features, index.features)
    np.testing.assert_array_equal(loaded.starts, index.starts)
    assert loaded.search("w4", k=3) == hits


def test_one_vector_each_scores_as_the_matrix_does(tmp_path):
    index = Index.build(system(), gallery(tmp_path))
    query = np.asarray(system().encode_queries(["hotel"]))[0]
    expected = (index.features.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(index.scores("hotel"), expected)
    assert index.scores("hotel").dtype == np.float32 and index.starts.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("sound", [True, False])
def test_a_file_of_the_first_format_holds_one_vector_each(tmp_path, sound):
    features = np.eye(5, dtype=np.float32)[[3, 1]]
    described = {
        "format": "fdp-index-1",
        "model_hash": "hand",
        "contents": "",
        "ids": json.dumps(["a.png", "b.png"]),
        "paths": json.dumps(["photos/a.png", "photos/b.png"]),
        "unreadable": json.dumps(["c.png"]),
        "may_show": "true",
        "sha256": hashlib.sha256(features.tobytes() if sound else b"others").hexdigest(),
    }
    path = tmp_path / "old.index"
    path.write_bytes(safetensors.numpy.save({"features": features}, metadata=described))
    if not sound:
        with pytest.raises(CorruptIndex, match=r"old\.index is damaged.*hash"):
            Index.load(path)
        return
    index = Index.load(path, HandSystem())
    assert index.starts.tolist() == [0, 1, 2] and index.unreadable == ("c.png",) and index.may_show is True
    assert [(hit.id, hit.score) for hit in index.search("w1")] == [("b.png", 1.0), ("a.png", 0.0)]
    again = index.save(tmp_path / "new.index")
    with safetensors.safe_open(again, framework="numpy") as file:
        assert file.metadata()["format"] == "fdp-index-2" and file.get_tensor("starts").tolist() == [0, 1, 2]


def test_a_changed_start_is_found(tmp_path):
    index = Index.build(SeveralVectors(), gallery(tmp_path / "g"))
    path = index.save(tmp_path / "i")
    data, starts = path.read_bytes(), index.starts.tobytes()
    assert data.count(starts) == 1
    path.write_bytes(data.replace(starts, np.array([0, 1, 4, 6, 7]).tobytes()))  # sound by itself, yet another one
    with pytest.raises(CorruptIndex, match="do not have their hash"):
        Index.load(path)


def test_an_unknown_format_is_refused(tmp_path):
    path = tmp_path / "i"
    path.write_bytes(safetensors.numpy.save({"features": np.eye(2)}, metadata={"format": "fdp-index-3"}))
    with pytest.raises(CorruptIndex, match=r"no index of this version \(fdp-index-2\)"):
        Index.load(path)


def test_another_model_is_refused(tmp_path):
    path = Index.build(system(), gallery(tmp_path / "g")).save(tmp_path / "i")
    with pytest.raises(StaleIndex, match="another model"):
        Index.load(path, systems.zero_shot(FakeBackbone(), 96))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "text"])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    path = Index.build(system(), gallery(tmp_path / "g")).save(tmp_path / "broken.index")
    data = bytearray(path.read_bytes())
    if damage == "foreign":
        data = safetensors.numpy.save({"features": np.zeros((2, 2), np.float32)})
    elif damage == "flipped":
        data[-1] ^= 1
    else:
        data = {"empty": b"", "cut": data[: len(data) // 2], "text": b"hello, this is no index"}[damage]
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptIndex, match=r"broken\.index.*build it again"):
        Index.load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="Index.build"):
        Index.load(tmp_path / "none")


def test_changed_photographs_make_it_stale(tmp_path):
    folder, one = tmp_path / "g", FakeBackbone()
    gallery(folder)
    index = Index.build(system(), folder)
    index.check(folder)
    draw(folder / "00.png", 77)
    with pytest.raises(StaleIndex, match="other contents"):
        index.check(folder)
    draw(folder / "new.png", 78)
    (folder / "01.png").unlink()
    with pytest.raises(StaleIndex, match=r"1 new \(new\.png, \.\.\.\), 1 gone \(01\.png"):
        index.check(folder)
    assert one.seen == 0


def test_open_index_builds_only_when_it_has_to(tmp_path):
    folder, path = tmp_path / "g", tmp_path / "i.safetensors"
    gallery(folder)
    backbone = FakeBackbone()
    mine = systems.zero_shot(backbone, 64, progress=False)
    first = open_index(mine, folder, path)
    assert backbone.seen == 5 and path.is_file()
    assert open_index(mine, folder, path).search("hotel") == first.search("hotel") and backbone.seen == 5
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert open_index(mine, moved, path).search("hotel")[0].path.is_file() and backbone.seen == 5
    draw(moved / "new.png", 50)
    with pytest.warns(UserWarning, match="built again"):
        assert len(open_index(mine, moved, path)) == 6
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        open_index(mine, moved, path)
    assert len(open_index(mine, moved)) == 6


def test_parts_must_fit():
    with pytest.raises(ValueError, match="do not fit"):
        Index(np.zeros((2, 3), np.float32), ("a",), (), "h")
    with pytest.raises(ValueError, match="Photograph b has no vector"):
        Index(np.eye(2, dtype=np.float32), ("a", "b"), ("a", "b"), "h", starts=np.array([0, 2, 2]))


def test_a_system_that_encodes_another_number_of_photographs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="encoded 5 photographs of 4"):
        Index.build(SeveralVectors(), gallery(tmp_path, 4))


@pytest.mark.skipif(not MINI_WEIGHTS.is_file(), reason="the shipped mini backbone is not in this checkout")
def test_the_shipped_mini_searches_the_shipped_gallery(tmp_path):
    shown, _ = load("mini")
    few = replace(shown, photos=shown.photos[:4])
    mini = systems.zero_shot(backbones.load("mini"), 128, cache_dir=tmp_path, progress=False)
    index = open_index(mini, few, tmp_path / "index.safetensors")
    hits = index.search("hotel", k=3)
    assert len(hits) == 3 and hits[0].score >= hits[-1].score and np.isfinite(hits[0].score)
    assert Index.load(tmp_path / "index.safetensors", mini).search("hotel", k=3) == hits


class Several:
    """One vector for an odd photograph, two for an even one, by the number in its name."""

    model_hash = "several"

    def encode_gallery(self, shown):
        numbers = [int(photo.id[:2]) for photo in shown.photos]
        rows = [np.eye(9, dtype=np.float32)[n + (0 if first else 1)] for n in numbers for first in (1, 0)[: 2 - n % 2]]
        return VectorSets(np.array(rows), np.append(0, np.cumsum([2 - n % 2 for n in numbers])))

    def encode_queries(self, texts):
        return np.eye(9, dtype=np.float32)[[int(text) for text in texts]]


@pytest.mark.parametrize("make", [system, Several])
@pytest.mark.parametrize("size", [1, 2, 3, 99])
def test_slices_make_the_same_index(tmp_path, size, make):
    shown = gallery(tmp_path / "g", 7)
    whole = Index.build(make(), shown)
    path = write(make(), shown, tmp_path / "deep" / "i.safetensors", size)
    for mapped in (False, True):
        index = Index.load(path, make(), mapped=mapped)
        np.testing.assert_allclose(index.features, whole.features, atol=1e-6)
        np.testing.assert_array_equal(index.starts, whole.starts)
        assert (index.ids, index.paths, index.contents) == (whole.ids, whole.paths, whole.contents)
        assert [hit.id for hit in index.search("3", 4)] == [hit.id for hit in whole.search("3", 4)]
    assert isinstance(index.features, np.memmap) and not index.features.flags.writeable
    assert os.listdir(tmp_path / "deep") == ["i.safetensors"]


def test_a_slice_without_a_readable_photograph_is_named_and_left_out(tmp_path):
    shown = gallery(tmp_path / "g", 5, corrupt=(0, 1, 4))
    with pytest.warns(CorruptPhotographs) as told:
        path = write(system(), shown, tmp_path / "i", 2)
    assert all(any(name in str(each.message) for each in told) for name in ("00.png", "01.png", "04.png"))
    assert not any(str(tmp_path) in str(each.message) for each in told)
    index = Index.load(path)
    assert index.ids == ("02.png", "03.png") and index.unreadable == ("00.png", "01.png", "04.png")


def test_nothing_readable_leaves_no_file(tmp_path):
    shown = gallery(tmp_path / "g", 2, corrupt=(0, 1))
    with pytest.warns(CorruptPhotographs), pytest.raises(ValueError, match="None of the 2 photographs"):
        write(system(), shown, tmp_path / "out" / "i")
    assert os.listdir(tmp_path / "out") == []


def test_an_error_of_the_model_is_no_unreadable_slice(tmp_path):
    class Broken(Several):
        def encode_gallery(self, shown):
            raise ValueError("the model is broken")

    with pytest.raises(ValueError, match="the model is broken"):
        write(Broken(), gallery(tmp_path / "g", 3), tmp_path / "i", 2)


def test_an_interrupted_write_keeps_the_older_index(tmp_path):
    shown, path = gallery(tmp_path / "g", 4), tmp_path / "out" / "i"
    write(Several(), shown, path)
    before = path.read_bytes()

    class Dies(Several):
        seen = 0

        def encode_gallery(self, part):
            self.seen += 1
            if self.seen == 2:
                raise KeyboardInterrupt
            return super().encode_gallery(part)

    with pytest.raises(KeyboardInterrupt):
        write(Dies(), shown, path, 2)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["i"]


def test_an_index_of_many_photographs_is_streamed_and_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr("fdp_core.retrieval.index.SLICE", 2)
    shown = gallery(tmp_path / "g", 3)
    index = open_index(system(), shown, tmp_path / "i")
    assert isinstance(index.features, np.memmap)
    again = open_index(system(), shown, tmp_path / "i")
    assert [hit.id for hit in index.search("hotel")] == [hit.id for hit in again.search("hotel")]
    monkeypatch.setattr("fdp_core.retrieval.index.SLICE", 3)
    assert not isinstance(open_index(system(), shown, tmp_path / "j").features, np.memmap)


def test_a_map_of_a_damaged_file_is_refused(tmp_path):
    path = write(Several(), gallery(tmp_path / "g", 4), tmp_path / "i")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptIndex, match="damaged"):
        Index.load(path, mapped=True)


def peak_growth(folder: Path, count: int, streamed: bool) -> int:
    """Index one photograph ``count`` times in a process of its own; return by how many bytes its peak memory grew."""
    program = Path(__file__).parents[1] / "index_in_a_process.py"
    done = subprocess.run(
        [sys.executable, program, folder / "one.png", folder / "i", str(count), str(int(streamed))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return int(done.stdout)


def test_memory_does_not_grow_with_the_photographs(tmp_path):
    draw(tmp_path / "one.png", 0, (32, 32))
    few, many = (peak_growth(tmp_path, count, True) for count in (256, 4096))
    vectors = 4096 * 2 * 4096 * 4  # what the vectors take: 134 MB
    assert many - few < vectors / 8
    assert peak_growth(tmp_path, 4096, False) > vectors  # the measure sees what it should see


def test_the_slice_must_hold_something(tmp_path):
    with pytest.raises(ValueError, match="size is 0"):
        write(Several(), Gallery("g", "test", (Photo("a", tmp_path, ()),), "", True), tmp_path / "i", 0)

"""Fetching from a server that behaves, stalls, breaks off, lies and cheats; archives that are not what they seem."""

import errno
import hashlib
import http.server
import io
import itertools
import json
import shutil
import struct
import tarfile
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import yaml
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import archives, download
from fdp_core.datasets.__main__ import main
from fdp_core.datasets.archives import ArchiveError, unpack
from fdp_core.datasets.manifest import manifests_folder

FOLDER = Path(__file__).parents[2] / "data_manifests"
QUICK = {"timeout": 0.5, "tries": 3, "pause": 0.01}


def image(kind="JPEG", colour=(9, 99, 199)):
    stream = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(stream, kind)
    return stream.getvalue()


def make_zip(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def svt_zip():
    def entry(name, tag):
        return (
            f'<image><imageName>img/{name}</imageName><taggedRectangles><taggedRectangle height="4" width="5" x="1" '
            f'y="2"><tag>{tag}</tag></taggedRectangle></taggedRectangles></image>'
        )

    return make_zip({
        "svt1/test.xml": f"<tagset>{entry('a.jpg', 'Open')}{entry('b.jpg', 'OPEN')}</tagset>",
        "svt1/train.xml": f"<tagset>{entry('c.jpg', 'Bank')}</tagset>",
        "svt1/img/a.jpg": image(), "svt1/img/b.jpg": image("GIF"), "svt1/img/c.jpg": image("PNG"),
        "__MACOSX/svt1/._test.xml": "clutter",
    })  # fmt: skip


def iiit_zip():
    data = np.empty((1, 1), dtype=[("q", object), ("f", object)])
    text, files = np.empty((1, 1), dtype=object), np.empty((2, 1), dtype=object)
    text[0, 0], files[0, 0], files[1, 0] = "Coffee", "img_000001.jpg", "img_000003.jpg"
    data[0, 0] = (text, files)
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"data": data})
    images = {f"IIIT_STR_V1.0/imgDatabase/img_00000{n}.jpg": image("PNG") for n in (1, 2, 3)}
    return make_zip({"IIIT_STR_V1.0/data.mat": mat.getvalue(), **images})


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``; ``plan`` holds what to do wrong with the next requests for a path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.plan, self.log, self.release = {}, {}, [], threading.Event()

    def address(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, span = self.server, self.headers.get("Range")
        server.log.append((self.path, span))
        steps = server.plan.get(self.path, [])
        step = steps.pop(0) if steps else "serve"
        if self.path not in server.files or isinstance(step, int):
            return self.send_error(step if isinstance(step, int) else 404)
        body, start = server.files[self.path], 0
        if span and step != "no ranges":
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        body = body[start:]
        length = {"says more": len(body) + 100, "says less": len(body) // 2, "says far too much": 10**15}.get(
            step, len(body)
        )
        if step != "endless":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            if step in ("truncate", "stall"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                if step == "stall":
                    server.release.wait(5)
                return
            self.wfile.write(body)
            for _ in range(40 if step == "endless" else 0):
                self.wfile.write(bytes(100_000))
        except OSError:
            pass  # the client has gone

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.release.set()
        running.shutdown()


@pytest.fixture
def own(server, tmp_path, monkeypatch):
    """The real manifests with their addresses, hashes and bounds replaced; returns a function that does it."""
    folder, root = tmp_path / "manifests", tmp_path / "data"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setenv("FDP_MANIFESTS", str(folder))
    monkeypatch.setenv("FDP_DATA", str(root))
    monkeypatch.setattr(download, "CHUNK", 100)  # the test files are small

    def replace(name, contents, known=True, **change):
        path = folder / f"{name}.yaml"
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in data["files"]:
            content = contents[entry["file"]]
            server.files[f"/{entry['file']}"] = content
            if "urls" in entry:
                entry["urls"] = [server.address(f"/{entry['file']}")]
            entry.pop("sha256", None)
            entry.pop("md5", None)
            if known:
                entry["sha256"] = hashlib.sha256(content).hexdigest()
            entry["max_mb"] = 1
            entry.update(change)
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return root / data["folder"]

    return replace


def fetch(name, split=None, **network):
    return datasets.fetch(name, split, progress=False, **QUICK | network)


def test_svt_from_server_to_gallery(own, server):
    folder = own("svt", {"svt.zip": svt_zip()})
    assert fetch("svt") == folder
    assert sorted(path.name for path in folder.iterdir()) == ["downloads", "img", "test.xml", "train.xml"]
    gallery, queries = datasets.load("svt")
    assert [photo.id for photo in gallery.photos] == ["a.jpg", "b.jpg"] and queries.texts == ("open",)
    assert queries.relevant.all()
    asked = len(server.log)
    fetch("svt")
    assert len(server.log) == asked, "what is there is not fetched again"


def test_icdar2015_one_split_at_a_time(own):
    gt = make_zip({"gt_img_1.txt": "\ufeff0,0,4,0,4,4,0,4,SALE\r\n\r\n0,0,4,0,4,4,0,4,a,b\r\n"})
    folder = own("icdar2015", {
        "ch4_test_images.zip": make_zip({"img_1.jpg": image()}),
        "Challenge4_Test_Task4_GT.zip": gt,
        "ch4_training_images.zip": make_zip({"nested/folder/img_1.jpg": image()}),
        "ch4_training_localization_transcription_gt.zip": gt,
    })  # fmt: skip
    fetch("ic15", "test")
    assert sorted(path.name for path in folder.iterdir()) == ["downloads", "test_gts", "test_images"]
    with pytest.warns(UserWarning, match="99 queries without a relevant photograph"):
        gallery, queries = datasets.load("ic15")
    assert [word.text for word in gallery.photos[0].words] == ["SALE", "a,b"] and queries.texts == ("sale",)
    with pytest.raises(datasets.DatasetMissing, match="split 'train'"):
        datasets.load("ic15", "train")
    fetch("ic15")
    assert datasets.load("ic15", "train")[1].texts == ("a,b", "sale")


def test_iiit_is_trusted_on_first_use_and_checked_ever_after(own, server):
    content = iiit_zip()
    folder = own("iiit_str", {"IIIT_STR_V1.0.zip": content}, known=False)
    gallery, queries = datasets.load("iiit", download=True, progress=False)
    assert len(gallery) == 3 and queries.texts == ("coffee",) and queries.relevant.tolist() == [[True, False, True]]
    record = json.loads((folder / "downloads" / "record.json").read_text())
    trusted = record["trusted"]["IIIT_STR_V1.0.zip"]
    assert (trusted["sha256"], trusted["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert trusted["source"] == server.address("/IIIT_STR_V1.0.zip")
    # lost and fetched again, but the file has changed since
    shutil.rmtree(folder / "IIIT_STR_V1.0")
    (folder / "downloads" / "IIIT_STR_V1.0.zip").unlink()
    server.files["/IIIT_STR_V1.0.zip"] += b"changed"
    with pytest.raises(datasets.FetchError, match="is not the file that is meant.*kept as"):
        fetch("iiit")
    assert list((folder / "downloads").glob("*.wrong-*"))


def test_a_login_page_is_not_trusted(own):
    folder = own("iiit_str", {"IIIT_STR_V1.0.zip": b"<html>please log in</html>"}, known=False)
    with pytest.raises(datasets.FetchError, match="not an archive .a web page in its place.*kept as"):
        fetch("iiit")
    assert not (folder / "downloads" / "record.json").exists()


def test_mlt_archives_are_placed_by_hand(own):
    line = "0,0,4,0,4,4,0,4,Latin,Haus, garten\n0,0,4,0,4,4,0,4,Arabic,\u0633\u0648\u0642\n"
    contents = {
        "ImagesPart1.zip": make_zip({"ImagesPart1/tr_img_00001.jpg": image()}),
        "ImagesPart2.zip": make_zip({"ImagesPart2/tr_img_00002.png": image("PNG")}),
        "train_gt_t13.zip": make_zip({f"train_gt_t13/tr_img_0000{n}.txt": line for n in (1, 2)}),
    }
    folder = own("mlt2019", contents, known=False)
    with pytest.raises(datasets.DatasetMissing, match="downloads/ImagesPart1.zip, downloads/ImagesPart2.zip") as caught:
        fetch("mlt")
    assert "Register" in str(caught.value)
    (folder / "downloads").mkdir(parents=True)
    for name in ("ImagesPart1.zip", "train_gt_t13.zip"):
        (folder / "downloads" / name).write_bytes(contents[name])
    with pytest.raises(datasets.DatasetMissing, match="downloads/ImagesPart2.zip not found"):
        fetch("mlt")
    (folder / "downloads" / "ImagesPart2.zip").write_bytes(contents["ImagesPart2.zip"])
    fetch("mlt")
    gallery, queries = datasets.load("mlt")
    assert gallery.split == "train" and [photo.id for photo in gallery.photos] == [
        "tr_img_00001.jpg",
        "tr_img_00002.png",
    ]
    assert queries.texts == ("garten", "haus")
    assert [word.script for word in gallery.photos[0].words] == ["Latin", "Arabic"]


def test_a_set_that_lies_there_is_left_alone(own, server):
    folder = own("svt", {"svt.zip": svt_zip()})
    with zipfile.ZipFile(io.BytesIO(svt_zip())) as archive:
        archive.extractall(folder.parent)
    (folder.parent / "svt1").rename(folder)
    fetch("svt")
    assert not server.log and not (folder / "downloads").exists()


@pytest.mark.parametrize("step", ["truncate", "stall", "says more"])
def test_a_broken_connection_is_resumed(own, server, step):
    folder = own("svt", {"svt.zip": svt_zip()})
    server.plan["/svt.zip"] = [step]
    fetch("svt")
    assert [span for _, span in server.log][0] is None
    if step != "says more":
        assert server.log[1][1].startswith("bytes=")
    assert (folder / "test.xml").is_file() and not list((folder / "downloads").glob("*.part"))


def test_a_broken_off_run_goes_on_where_it_was(own, server):
    content = svt_zip()
    folder = own("svt", {"svt.zip": content})
    server.plan["/svt.zip"] = ["truncate"]
    with pytest.raises(datasets.FetchError, match="bytes are kept; run again to go on"):
        fetch("svt", tries=1)
    kept = (folder / "downloads" / "svt.zip.part").stat().st_size
    assert 0 < kept <= len(content) // 2
    fetch("svt")
    assert server.log[-1][1] == f"bytes={kept}-"


def test_a_server_without_ranges_starts_over(own, server):
    own("svt", {"svt.zip": svt_zip()})
    server.plan["/svt.zip"] = ["truncate", "no ranges"]
    fetch("svt")
    assert datasets.load("svt")[1].texts == ("open",)


@pytest.mark.parametrize("stale", [b"x" * 10, b"y" * 100_000])
def test_a_part_of_another_file_is_given_up(own, server, stale):
    folder = own("svt", {"svt.zip": svt_zip()})
    (folder / "downloads").mkdir(parents=True)
    (folder / "downloads" / "svt.zip.part").write_bytes(stale)
    fetch("svt")
    assert datasets.load("svt")[1].texts == ("open",)


@pytest.mark.parametrize("step", ["serve", "says less"])
def test_a_wrong_file_is_named_and_kept_aside(own, server, step):
    folder = own("svt", {"svt.zip": svt_zip()})
    server.files["/svt.zip"] = make_zip({"svt1/test.xml": "<other/>"})
    server.plan["/svt.zip"] = [step, step]
    with pytest.raises(datasets.FetchError, match="sha256:[0-9a-f]{64} expected, [0-9a-f]{64} received") as caught:
        fetch("svt")
    (aside,) = (folder / "downloads").glob("svt.zip.wrong-*")
    assert str(aside) in str(caught.value)
    assert not (folder / "test.xml").exists()


def test_a_wrong_file_placed_by_hand_is_kept_aside(own):
    folder = own("svt", {"svt.zip": svt_zip()})
    (folder / "downloads").mkdir(parents=True)
    (folder / "downloads" / "svt.zip").write_bytes(b"something else")
    with pytest.raises(datasets.FetchError, match="is not the file that the manifest means"):
        fetch("svt")
    assert list((folder / "downloads").glob("svt.zip.wrong-*"))


@pytest.mark.parametrize(
    ("step", "message"),
    [(404, "answered 404"), (503, "answered 503"), ("endless", "sends more than"), ("says far too much", "offers")],
)
def test_servers_that_refuse_or_overdo(own, server, step, message):
    own("svt", {"svt.zip": svt_zip()}, known=False)
    server.plan["/svt.zip"] = [step] * 3
    with pytest.raises(datasets.FetchError, match=message):
        fetch("svt")
    assert len(server.log) == (3 if step == 503 else 1)


def test_a_refused_connection_ends_as_the_clear_error(own, server, capsys):
    own("svt", {"svt.zip": svt_zip()}, urls=["http://127.0.0.1:9/svt.zip"])
    with pytest.raises(datasets.DatasetMissing) as caught:
        datasets.load("svt", download=True, progress=False)
    assert "Cannot get http://127.0.0.1:9/svt.zip: the connection was refused" in str(caught.value)
    assert "By hand" in str(caught.value) and "FDP_DATA" in str(caught.value)
    assert main(["fetch", "svt"]) == 1
    printed = capsys.readouterr().err
    assert "the connection was refused" in printed and "By hand" in printed and "svt/downloads/" in printed


def test_the_second_address_is_tried(own, server):
    address = server.address("/svt.zip")
    own("svt", {"svt.zip": svt_zip()}, urls=["http://127.0.0.1:9/svt.zip", address])
    fetch("svt")


def test_a_full_disk_is_said_plainly(own, monkeypatch):
    folder = own("svt", {"svt.zip": svt_zip()})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "enough_space", full)
    with pytest.raises(datasets.FetchError, match="disk that holds .* is full"):
        fetch("svt")
    monkeypatch.undo()
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(OSError, match="are needed, 1 are free"):
        archives.enough_space(folder, 10)


def test_a_broken_off_unpacking_is_noticed_and_mended(own, monkeypatch):
    folder = own("svt", {"svt.zip": svt_zip()})
    replace, calls = archives.os.replace, []

    def breaks(source, target):
        if str(target).endswith((".xml", ".jpg")):
            calls.append(target)
            if len(calls) == 4:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(archives.os, "replace", breaks)
    with pytest.raises(KeyboardInterrupt):
        fetch("svt")
    monkeypatch.setattr(archives.os, "replace", replace)
    assert (folder / "test.xml").is_file() and (folder / "img" / "a.jpg").is_file()
    with pytest.raises(datasets.DatasetMissing, match="unpacking was broken off"):
        datasets.load("svt")
    fetch("svt")
    assert len(datasets.load("svt")[0]) == 2


def test_verify_finds_damage(own, capsys):
    folder = own("svt", {"svt.zip": svt_zip()})
    fetch("svt")
    path = manifests_folder() / "svt.yaml"
    data = yaml.safe_load(path.read_text())
    data["splits"]["test"].update(photographs=2, words=2, legible=2, queries=1)
    data["splits"]["train"].update(photographs=1, words=1, legible=1, queries=1)
    path.write_text(yaml.safe_dump(data))
    assert [check.status for check in datasets.verify("svt")] == ["present", "present"]
    (folder / "img" / "a.jpg").write_bytes(image()[:-40])
    (check,) = datasets.verify("svt", "test")
    assert check.status == "damaged" and check.problems == ("image a.jpg has changed (its SHA-256 differs)",)
    shutil.rmtree(folder / "downloads")
    (check,) = datasets.verify("svt", "test")
    assert check.status == "damaged" and "a.jpg" in check.problems[0]
    assert datasets.verify("svt", "test", quick=True)[0].status == "present"
    (folder / "img" / "b.jpg").unlink()
    with pytest.warns(UserWarning, match="1 annotated images are not there: b.jpg"):
        datasets.load("svt")
    assert "image b.jpg is not there" in datasets.verify("svt", "test", quick=True)[0].problems
    (folder / "test.xml").write_text("<tagset>")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "test.xml, line 1" in datasets.verify("svt", "test")[0].problems[0]
    assert main(["verify", "svt"]) == 1
    assert "svt/test: damaged" in capsys.readouterr().out


# ---- archives


def hostile_zip(name="a.txt", mode=None, content=b"x"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("good.txt", "good")
        info = zipfile.ZipInfo(name)
        info.external_attr = (mode or 0o100644) << 16
        archive.writestr(info, content)
    return stream.getvalue()


def hostile_tar(name="a.txt", kind=tarfile.REGTYPE, link=""):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info, io.BytesIO(b""))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        hostile_zip("../evil.txt"), hostile_zip("/tmp/evil.txt"), hostile_zip("a/../../evil.txt"),
        hostile_zip("..\\evil.txt"), hostile_zip("C:\\evil.txt"), hostile_zip("link", 0o120777, b"/etc/passwd"),
        hostile_zip("device", 0o060644), hostile_zip("good.txt"), hostile_tar("../evil"), hostile_tar("/evil"),
        hostile_tar("l", tarfile.SYMTYPE, "/etc/passwd"), hostile_tar("l", tarfile.LNKTYPE, "good.txt"),
        hostile_tar("d", tarfile.CHRTYPE), hostile_tar("f", tarfile.FIFOTYPE), b"no archive at all", svt_zip()[:-200],
        b"PK\x05\x06" + bytes(18),
    ],
    ids=itertools.count(),  # by number: the bytes of an archive hold the time
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives_write_nothing(tmp_path, content):
    path = tmp_path / "in" / "archive"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="archive"):
        unpack(path, tmp_path / "deep" / "down" / "out", max_bytes=10**6)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["archive"]


def test_bombs_stop_at_the_bound(tmp_path):
    path = tmp_path / "bomb.zip"
    path.write_bytes(make_zip({"zeros": bytes(5_000_000)}))
    assert path.stat().st_size < 10_000
    with pytest.raises(ArchiveError, match="more than 1,000,000 bytes"):
        unpack(path, tmp_path / "out", max_bytes=1_000_000)
    # one that declares ten bytes, in both of its headers
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 5_000_000), struct.pack("<L", 10)))
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].file_size == 10
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(path, tmp_path / "out", max_bytes=1_000_000)
    assert not (tmp_path / "out").exists()


def test_strip_flatten_and_other_files_stay(tmp_path):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("top/a/one.txt", "top/b/two.txt", "readme.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    hashes = unpack(path, out, max_bytes=1000, strip=1)
    assert set(hashes) == {"a/one.txt", "b/two.txt"} and (out / "mine.txt").read_text() == "mine"
    assert hashes["a/one.txt"] == hashlib.sha256(b"top/a/one.txt").hexdigest()
    assert set(unpack(path, tmp_path / "flat", max_bytes=1000, flatten=True)) == {"one.txt", "two.txt", "readme.txt"}
    assert not list(tmp_path.glob(".unpacking-*"))

"""Fetching from servers that stall, lie and cheat, onto disks that fail, of archives made to harm."""

import bz2
import errno
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import hostile_server as wrong
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdp_core import datasets
from fdp_core.datasets import archives, download
from fdp_core.datasets.__main__ import main
from fdp_core.datasets.archives import MAX_READ, ArchiveError, is_archive, unpack

FOLDER = Path(__file__).parents[2] / "data_manifests"
QUICK = {"timeout": 0.4, "tries": 3, "pause": 0.01}
LETTERS = random.Random(0).randbytes(200_000)  # does not shrink: half of the archive is half of this


def make_zip(files, packing=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def make_tar(files, mode="w:", **attributes):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


TREE = {"top/words.txt": b"one\ntwo\n", "top/images/a.jpg": LETTERS}
GOOD = make_zip(TREE)


@pytest.fixture
def server():
    with wrong.Server() as running:
        yield running


@pytest.fixture
def tiny(server, tmp_path, monkeypatch):
    """A manifest of one archive on the server; returns a function that writes it and gives the set's folder."""
    manifests, root = tmp_path / "manifests", tmp_path / "data"
    manifests.mkdir()
    shutil.copy(FOLDER / "schema.json", manifests)
    monkeypatch.setenv("FDP_MANIFESTS", str(manifests))
    monkeypatch.setenv("FDP_DATA", str(root))
    monkeypatch.setattr(download, "CHUNK", 1000)

    def write(content=GOOD, known=True, file="tiny.zip", **change):
        server.files[f"/{file}"] = content
        entry = {"file": file, "urls": [server.address(f"/{file}")], "max_mb": 1, "strip": 1} | change
        if known:
            entry["sha256"] = hashlib.sha256(content).hexdigest()
        protocol = {"summary": "s", "source": "s", "relevance": "word", "queries": {"rule": "every"}}
        data = {
            "name": "tiny", "title": "A tiny set", "aliases": [], "description": "Made for the tests of fetching.",
            "licence": {"name": "none", "may_show": False, "source": "made here"}, "parser": "svt", "folder": "tiny",
            "tree": "tiny/", "by_hand": ["Make it."], "files": [entry],
            "splits": {"test": {"layout": {"annotations": ["words.txt"], "images": ["images"]}, "protocol": protocol}},
        }  # fmt: skip
        (manifests / "tiny.yaml").write_text(yaml.safe_dump(data))
        return root / "tiny"

    return write


def fetch(name="tiny", **network):
    return datasets.fetch(name, progress=False, **QUICK | network)


def fails(match, **network):
    """Fetch, and return the error's line."""
    with pytest.raises(datasets.FetchError, match=match) as caught:
        fetch(**network)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def assert_whole(folder):
    assert (folder / "images" / "a.jpg").read_bytes() == LETTERS and (
        folder / "words.txt"
    ).read_bytes() == b"one\ntwo\n"
    assert files_in(folder / "downloads") == ["record.json", "tiny.zip"], "neither parts nor marks stay"


# ---- servers

PASSING = {
    "broken off": [wrong.half],
    "broken off twice": [wrong.half, wrong.half],
    "stalls": [wrong.stall],
    "never answers": [wrong.silent],
    "hangs up": [wrong.hang_up],
    "speaks otherwise": [wrong.garbage],
    "500": [wrong.status(500)],
    "503, 502": [wrong.status(503), wrong.status(502)],
    "too many requests": [wrong.status(429)],
    "says longer": [wrong.says_longer],
    "says nonsense": [wrong.says_nonsense],
    "says nothing": [wrong.no_length],
    "says packed": [wrong.packed],
    "ignores the range": [wrong.half, wrong.no_range],
    "sends an earlier range": [wrong.half, wrong.earlier_range],
    "names no range": [wrong.half, wrong.nameless_range],
    "sends a shorter range": [wrong.half, wrong.short_range],
    "a page for the rest": [wrong.half, wrong.web_page],
    "an error for the rest": [wrong.half, wrong.status(503)],
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("steps", PASSING.values(), ids=PASSING)
def test_what_passes_is_overcome(tiny, server, steps, known):
    folder = tiny(known=known)
    server.plan["/tiny.zip"] = list(steps)
    assert fetch() == folder
    assert_whole(folder)


@pytest.mark.parametrize("step", [wrong.lying_range, wrong.nothing_more])
def test_lies_about_the_rest_are_found_by_the_hash(tiny, server, step):
    folder = tiny()
    server.plan["/tiny.zip"] = [wrong.half, step]
    fetch()
    assert_whole(folder)


LASTING = {
    "circle": (wrong.circle, "from address to address without end", 31),
    "redirect to nowhere": (wrong.nowhere, "the server answered 302 Found", 1),
    "redirect to a file": (wrong.to("file:///etc/passwd"), "no web address", 1),
    "redirect to a closed door": (wrong.to("http://127.0.0.1:9/"), "the connection was refused", 1),
    "404": (wrong.status(404), "the server answered 404 Not Found", 1),
    "204": (wrong.status(204), "the server answered 204 No Content", 1),
    "500": (wrong.status(500), "the server answered 500 Internal Server Error", 3),
    "escapes": (wrong.status(503, "\x1b[2Jgone"), r"the server answered 503 \[2Jgone\.", 3),
    "never answers": (wrong.silent, "the server stopped sending|does not answer", 3),
    "hangs up": (wrong.hang_up, "the connection was broken off", 3),
    "speaks otherwise": (wrong.garbage, "the connection was broken off", 3),
    "offers too much": (wrong.says_huge, "offers 1,000,000,000,000,000 bytes; the manifest allows 1,000,000", 1),
    "never ends": (wrong.endless, "sends more than the 1,000,000 bytes.* kept as .*wrong-", 1),
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("step", "message", "requests"), LASTING.values(), ids=LASTING)
def test_what_lasts_ends_in_one_line(tiny, server, step, message, requests, known):
    folder = tiny(known=known)
    server.plan["/tiny.zip"] = [step] * (1 if step is wrong.circle else 3)
    fails(message)
    assert len(server.log) == requests
    assert not (folder / "words.txt").exists()
    server.plan.clear()
    fetch()  # the server has come to its senses
    assert (folder / "words.txt").is_file()


@pytest.mark.parametrize("step", [wrong.wrong_bytes, wrong.says_shorter, wrong.web_page])
def test_a_wrong_file_is_kept_aside(tiny, server, step):
    folder = tiny()
    server.plan["/tiny.zip"] = [step]
    line = fails("sha256:[0-9a-f]{64} expected, [0-9a-f]{64} received. The file is kept as ")
    (aside,) = files_in(folder)
    assert aside.startswith("downloads/tiny.zip.wrong-") and str(folder / aside) in line
    fetch()
    assert (folder / "words.txt").is_file() and (folder / aside).is_file()


@pytest.mark.parametrize(
    ("step", "message"), [(wrong.web_page, "is not an archive .a web page"), (wrong.says_shorter, "is not an archive")]
)
def test_what_is_no_archive_is_not_trusted(tiny, server, step, message):
    folder = tiny(known=False)
    server.plan["/tiny.zip"] = [step]
    fails(f"{message}.* kept as ")
    assert [name.split(".wrong-")[0] for name in files_in(folder)] == ["downloads/tiny.zip"]
    fetch()
    assert (folder / "words.txt").is_file()


def test_the_next_address_goes_on_with_the_kept_part(tiny, server):
    server.files["/mirror"] = GOOD
    folder = tiny(urls=[server.address("/tiny.zip"), server.address("/mirror")])
    server.plan["/tiny.zip"] = [wrong.half, wrong.status(404)]
    fetch()
    assert_whole(folder)
    kept = server.log[0].sent
    # less than a chunk is lost where a line breaks
    last = server.log[-1]
    assert last.path == "/mirror" and len(GOOD) - kept <= last.sent < len(GOOD) - kept + 1000


def test_two_versions_are_not_joined(tiny, server):
    """No hash is known: nothing would tell that the file has changed on the way, so it is fetched from its start."""
    new = make_tar({"top/words.txt": b"new", "top/images/a.jpg": bytes(len(LETTERS))})
    folder = tiny(make_tar(TREE), known=False)
    server.plan["/tiny.zip"] = [wrong.half]
    assert "are kept" not in fails("Cannot get", tries=1)
    server.files["/tiny.zip"] = new
    fetch()
    assert (folder / "words.txt").read_bytes() == b"new" and set((folder / "images/a.jpg").read_bytes()) == {0}
    assert files_in(folder / "downloads") == ["record.json", "tiny.zip"]
    assert not any(request.span for request in server.log)


# ---- stopped by hand


def test_a_stopped_download_goes_on(tiny, server, monkeypatch):
    folder = tiny()
    received = []

    class Bar(download.tqdm):
        def update(self, n=1):
            received.append(n)
            if sum(received) >= 100_000:
                raise KeyboardInterrupt

    monkeypatch.setattr(download, "tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        fetch()
    part = folder / "downloads" / "tiny.zip.part"
    assert part.read_bytes() == GOOD[:100_000]
    monkeypatch.undo()
    monkeypatch.setenv("FDP_MANIFESTS", str(folder.parent.parent / "manifests"))
    monkeypatch.setenv("FDP_DATA", str(folder.parent))
    fetch()
    assert server.log[-1] == wrong.Request("/tiny.zip", "bytes=100000-", len(GOOD) - 100_000)
    assert_whole(folder)


def test_the_command_stops_cleanly(tiny, server):
    folder = tiny()
    server.plan["/tiny.zip"] = [wrong.stall]
    command = subprocess.Popen(
        [sys.executable, "-m", "fdp_core.datasets", "fetch", "tiny"],
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts what runs in the background deaf to Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    part, patience = folder / "downloads" / "tiny.zip.part", 600
    while not (part.exists() and part.stat().st_size) and patience and command.poll() is None:
        time.sleep(0.1)
        patience -= 1
    command.send_signal(signal.SIGINT)
    message = command.communicate(timeout=60)[1]
    assert command.returncode == 130 and "goes on from there" in message and "Traceback" not in message
    kept = part.stat().st_size
    assert kept > 60_000
    fetch()
    assert server.log[-1].span == f"bytes={kept}-"
    assert_whole(folder)


# ---- disks


def breaking_writes(monkeypatch, where, limit, number=errno.ENOSPC):
    """Let files whose path holds ``where`` take no more than ``limit`` bytes."""
    opens = Path.open

    def opening(path, mode="r", *args, **kwargs):
        stream = opens(path, mode, *args, **kwargs)
        if where not in str(path) or not set(mode) & set("wax"):
            return stream

        class Full(io.BufferedWriter):
            def write(self, data):
                self.flush()
                if os.fstat(self.fileno()).st_size + len(data) > limit:
                    raise OSError(number, os.strerror(number))
                return super().write(data)

        return Full(stream.detach())

    monkeypatch.setattr(Path, "open", opening)
    return lambda: monkeypatch.setattr(Path, "open", opens)


def test_a_disk_that_fills_up_keeps_what_came(tiny, server, monkeypatch):
    folder = tiny(urls=[server.address("/tiny.zip"), server.address("/mirror")])
    mend = breaking_writes(monkeypatch, ".part", 50_000)
    fails("The disk that holds .*downloads is full .No space left on device.*make room")
    assert (folder / "downloads" / "tiny.zip.part").read_bytes() == GOOD[:50_000]
    assert [request.path for request in server.log] == ["/tiny.zip"], "another address makes no room"
    mend()
    fetch()
    assert server.log[-1] == wrong.Request("/tiny.zip", "bytes=50000-", len(GOOD) - 50_000)
    assert_whole(folder)


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing_half_done(tiny, server, monkeypatch):
    folder = tiny()
    mend = breaking_writes(monkeypatch, ".unpacking-", 50_000)
    fails("is full")
    assert files_in(folder) == ["downloads/tiny.zip", "downloads/tiny.zip.unpacking"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny"], "no staging folder is left"
    with pytest.raises(datasets.DatasetMissing):
        datasets.load("tiny")
    mend()
    fetch()
    assert len(server.log) == 1 and (folder / "words.txt").is_file()


def test_room_is_looked_for_before_the_first_byte(tiny, server, monkeypatch):
    folder = tiny(make_tar(TREE))
    size = len(server.files["/tiny.zip"])
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 * size, 0, 2 * size - 1))
    fails(f"{2 * size:,} bytes are needed, {2 * size - 1:,} are free")  # the archive and what is in it
    assert files_in(folder) == []
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 * size, 0, 2 * size))
    fetch()


def test_a_folder_that_cannot_be_written(tiny, server, monkeypatch):
    folder = tiny()
    folder.parent.write_text("a file in place of the folder")
    fails("Cannot write to .*: Not a directory. Set FDP_DATA to a folder that you may write")
    folder.parent.unlink()
    make = os.mkdir

    def read_only(path, *args, **kwargs):
        if "data" in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        make(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", read_only)
    fails("Cannot write to .*: Read-only file system. Set FDP_DATA")
    assert not server.log


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tiny):
    folder = tiny()
    folder.parent.mkdir()
    folder.parent.chmod(0o555)
    fails("Cannot write to .*: Permission denied. Set FDP_DATA")
    folder.parent.chmod(0o755)


@pytest.mark.parametrize("content", ["[1]", '{"trusted": 5}', "{", "\u00e9", "[" * 100_000])
def test_a_damaged_record_is_named(tiny, content):
    folder = tiny()
    (folder / "downloads").mkdir(parents=True)
    (folder / "downloads" / "record.json").write_text(content, encoding="latin-1")
    fails("record.json is damaged; remove it")


# ---- archives


def zip_entry(name, content=b"x", mode=0o100644, flags=0, extra=()):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for other in extra:
            archive.writestr(other, "good")
        info = zipfile.ZipInfo("placeholder")
        info.filename, info.external_attr, info.create_system = name, mode << 16, 3
        archive.writestr(info, content)
    data = bytearray(stream.getvalue())
    if flags:  # in the local and in the central header
        local, central = data.rindex(b"PK\3\4"), data.rindex(b"PK\1\2")
        data[local + 6] |= flags
        data[central + 8] |= flags
    return bytes(data)


def long_name_tar(size):
    """A tar whose first header claims a name of ``size`` bytes, which it holds."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    return info.tobuf(tarfile.GNU_FORMAT) + b"a" * size + bytes(-size % 512 + 1024)


def nested_names(count):
    """A tar of headers that each say: the next header has a long name."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    return (info.tobuf(tarfile.GNU_FORMAT) + b"a" + bytes(511)) * count + bytes(1024)


PLAIN = make_tar({"top/a.txt": b"a" * 700, "top/b.txt": b"b" * 700, "top/words.txt": b"w"})
HOSTILE = {
    "zip: path out": (zip_entry("../evil.txt"), "'../evil.txt' is not the name"),
    "zip: path out, deep": (zip_entry("top/x/../../../evil.txt"), "is not the name"),
    "zip: absolute": (zip_entry("/tmp/evil.txt"), "is not the name"),
    "zip: drive": (zip_entry("C:\\evil.txt"), "is not the name"),
    "zip: server": (zip_entry("\\\\host\\share\\evil.txt"), "is not the name"),
    "zip: Windows path out": (zip_entry("top\\..\\..\\evil.txt"), "is not the name"),
    "zip: into downloads": (zip_entry("top/downloads/record.json", b"{}"), "kept for archives"),
    "zip: into Downloads": (zip_entry("top/Downloads/record.json", b"{}"), "kept for archives"),
    "zip: link": (zip_entry("top/link", b"/etc/passwd", 0o120777), "is a link or a device"),
    "zip: device": (zip_entry("top/null", b"", 0o020666), "is a link or a device"),
    "zip: pipe": (zip_entry("top/pipe", b"", 0o010666), "is a link or a device"),
    "zip: encrypted": (zip_entry("top/secret.txt", flags=1), "'top/secret.txt' is encrypted"),
    "zip: twice": (zip_entry("top/a.txt", extra=["top/a.txt"]), "'top/a.txt' occurs twice"),
    "zip: two cases": (zip_entry("top/A.TXT", extra=["top/a.txt"]), "'top/A.TXT' and 'a.txt' are one name"),
    "zip: two forms": (zip_entry("top/e\u0301", extra=["top/\u00e9"]), "are one name"),
    "zip: file and folder": (zip_entry("top/a/b", extra=["top/a"]), "'a' is a file and the folder of 'a/b'"),
    "zip: long name": (zip_entry("top/" + "a" * 256), "longer than a file name may be"),
    "zip: bomb": (make_zip({"top/zeros": bytes(2_000_000)}), "more than 1,000,000 bytes"),
    "zip: bomb in parts": (make_zip({f"top/{n}": bytes(300_000) for n in range(4)}), "more than 1,000,000 bytes"),
    "zip: bomb in names": (make_zip({f"top/{n}": b"" for n in range(101)}), "more than 100 files"),
    "zip: breaks off": (GOOD[: len(GOOD) // 2], "breaks off|not an archive"),
    "zip: end lost": (GOOD[:-10], "breaks off|not an archive"),
    "zip: middle lost": (GOOD[:50_000] + GOOD[60_000:], "is damaged"),
    "zip: changed inside": (GOOD[:50_000] + bytes(8) + GOOD[50_008:], "is damaged"),
    "zip: empty": (b"PK\5\6" + bytes(18), "holds no file"),
    "zip: clutter only": (make_zip({"__MACOSX/top/._a": "x", "top/.DS_Store": "x"}), "holds no file"),
    "tar: path out": (make_tar({"../evil": b"x"}), "is not the name"),
    "tar: absolute": (make_tar({"/tmp/evil": b"x"}), "is not the name"),
    "tar: link": (make_tar({"top/l": b""}, type=tarfile.SYMTYPE, linkname="/etc"), "is a link or a device"),
    "tar: hard link": (make_tar({"top/l": b""}, type=tarfile.LNKTYPE, linkname="../../x"), "is a link or a device"),
    "tar: device": (make_tar({"top/d": b""}, type=tarfile.BLKTYPE), "is a link or a device"),
    "tar: pipe": (make_tar({"top/p": b""}, type=tarfile.FIFOTYPE), "is a link or a device"),
    "tar: two cases": (make_tar({"top/a": b"", "top/A": b""}), "are one name"),
    "tar: breaks off in a file": (PLAIN[: 512 + 512 + 100], "is damaged"),
    "tar: breaks off between files": (PLAIN[: 512 + 1024], "is damaged .it breaks off between two files"),
    "tar: breaks off in a header": (PLAIN[: 512 + 1024 + 100], "is damaged .it breaks off"),
    "tar: header damaged": (PLAIN[:1536] + b"?" + PLAIN[1537:], "is damaged .it breaks off"),
    "tar: endless name": (gzip.compress(long_name_tar(MAX_READ + 1)), "not an archive"),
    "tar: names of names": (gzip.compress(nested_names(3000)), "not an archive|is damaged"),
    "tar.gz: bomb": (make_tar({"top/zeros": bytes(2_000_000)}, "w:gz"), "more than 1,000,000 bytes"),
    "tar.bz2: bomb": (make_tar({"top/zeros": bytes(2_000_000)}, "w:bz2"), "more than 1,000,000 bytes"),
    "tar.xz: bomb": (make_tar({"top/zeros": bytes(2_000_000)}, "w:xz"), "more than 1,000,000 bytes"),
    "tar.gz: breaks off": (make_tar(TREE, "w:gz")[:100_000], "is damaged"),
    "tar.gz: sum wrong": (gzip.compress(PLAIN)[:-8] + bytes(8), "is damaged .CRC check failed"),
    "tar.bz2: changed": (bz2.compress(PLAIN)[:60] + bytes(9) + bz2.compress(PLAIN)[69:], "is damaged|not an archive"),
    "nothing": (b"\n", "not an archive"),
    "a page": (b"<html>sign in</html>" * 100, "not an archive"),
}  # fmt: skip


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives_end_in_one_line_and_write_nothing(tiny, tmp_path, content, message, known):
    folder = tiny(content, known=known, max_files=100)
    before = set(files_in(tmp_path))
    line = fails(message)
    new = set(files_in(tmp_path)) - before - {"data/tiny/downloads/record.json"}
    (kept,) = new
    assert (tmp_path / kept).read_bytes() == content, "what came is kept"
    if known:  # it is the file that the manifest means: another download would not help
        assert kept == "data/tiny/downloads/tiny.zip"
    else:
        assert kept.startswith("data/tiny/downloads/tiny.zip.wrong-") and str(tmp_path / kept) in line
    record = folder / "downloads" / "record.json"
    assert not record.exists() or not json.loads(record.read_text())["trusted"]
    assert not (folder.parent / "evil.txt").exists() and not Path("/tmp/evil.txt").exists()


def test_a_bomb_that_lies_in_both_headers(tmp_path):
    path = tmp_path / "bomb.zip"
    zeros = make_zip({"zeros": bytes(5_000_000)})
    assert len(zeros) < 10_000
    path.write_bytes(zeros.replace(struct.pack("<L", 5_000_000), struct.pack("<L", 10)))
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(path, tmp_path / "out", max_bytes=1_000_000)
    assert files_in(tmp_path) == ["bomb.zip"]


def test_an_archive_in_an_archive_stays_packed(tmp_path):
    bomb = make_zip({"zeros": bytes(5_000_000)})
    for content in (make_zip({"inner.zip": bomb}), make_tar({"inner.zip": bomb})):  # the tar ends as a zip does, almost
        (tmp_path / "outer").write_bytes(content)
        assert unpack(tmp_path / "outer", tmp_path / "out", max_bytes=100_000) == {
            "inner.zip": hashlib.sha256(bomb).hexdigest()
        }


def test_archives_that_were_made_on_windows(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (("set\\", b""), ("set\\images\\", b""), ("set\\images\\a.jpg", b"a")):
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            archive.writestr(info, content)
    (tmp_path / "x.zip").write_bytes(stream.getvalue())
    assert list(unpack(tmp_path / "x.zip", tmp_path / "out", max_bytes=10, strip=1)) == ["images/a.jpg"]
    assert (tmp_path / "out" / "images" / "a.jpg").read_bytes() == b"a"


SMALL = [
    make_zip({"d/a.txt": b"hello " * 40, "d/b.txt": b"x"}, packing)
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
] + [make_tar({"d/a.txt": b"hello " * 200, "d/\u00e9" * 60: b"x"}, mode) for mode in ("w:", "w:gz", "w:bz2", "w:xz")]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_an_archive_error_or_harmless(tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(SMALL)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 600))] = data.draw(st.binary(max_size=8))
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "archive").write_bytes(content)
    assert is_archive(folder / "archive") in (True, False)
    try:
        unpack(folder / "archive", folder / "out", max_bytes=10_000)
    except ArchiveError as error:
        assert str(folder / "archive") in str(error)
    assert {path.name for path in tmp_path.iterdir()} == {"in"} and {p.name for p in (tmp_path / "in").iterdir()} == {
        "here"
    }
    assert {path.name for path in folder.iterdir()} <= {"archive", "out"}


# ---- every manifest


def miniature(entry, data):
    """Make an archive with the layout that a manifest declares, so that its parts are there when it is unpacked."""
    into = entry.get("into", ".")
    others = [other["into"] for other in data["files"] if "into" in other]
    wanted = [data["splits"][name]["layout"] for name in entry.get("splits", data["splits"])]
    files = {}
    for path in [Path(layout[part][0]) for layout in wanted for part in ("annotations", "images")]:
        if path.is_relative_to(into) and ("into" in entry or not any(path.is_relative_to(other) for other in others)):
            inner = path.relative_to(into)
            files[str(inner if inner.suffix and inner.parts else inner / "a.jpg")] = b"a"
    files = files or {"a.jpg": b"a"}
    if entry.get("flatten"):
        files = {f"deep/down/{Path(path).name}": content for path, content in files.items()}
    files = {"top/" * entry.get("strip", 0) + path: content for path, content in files.items()}
    return make_tar(files) if ".tar" in entry["file"] else make_zip(files)


WITH_ADDRESS = [
    source.name for source in datasets.all_manifests() if any("urls" in e for e in source.data.get("files", []))
]


@pytest.mark.parametrize("name", WITH_ADDRESS)
def test_every_manifest_with_addresses(server, tmp_path, monkeypatch, name):
    manifests = tmp_path / "manifests"
    shutil.copytree(FOLDER, manifests)
    monkeypatch.setenv("FDP_MANIFESTS", str(manifests))
    monkeypatch.setenv("FDP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "CHUNK", 1000)
    path = manifests / f"{name}.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    weights = data.get("kind") == "weights"
    folder = datasets.where(name)
    assert folder.is_relative_to(tmp_path)
    contents = {}
    for entry in data["files"]:
        content = b"weights of " + entry["file"].encode() if weights else miniature(entry, data)
        contents[entry["file"]] = content
        if "urls" in entry:
            server.files[f"/{entry['file']}"] = content
            entry["urls"] = [server.address(f"/{entry['file']}")]
        else:
            (folder / "downloads").mkdir(parents=True, exist_ok=True)
            (folder / "downloads" / entry["file"]).write_bytes(content)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    if any("sha256" in entry or "md5" in entry for entry in data["files"]):
        with pytest.raises(datasets.FetchError, match="expected.* kept as ") as caught:
            fetch(name)
        assert "\n" not in str(caught.value)
        (aside,) = folder.rglob("*.wrong-*")
        assert aside.read_bytes() in contents.values()
    for entry in data["files"]:
        for kind in ("md5", "sha256"):
            if kind in entry:
                entry[kind] = hashlib.new(kind, contents[entry["file"]]).hexdigest()
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert fetch(name) == folder
    source = next(source for source in datasets.all_manifests() if source.name == name)
    assert all(source.lacking(part) == [] for part in source.parts)
    asked = len(server.log)
    fetch(name)
    assert len(server.log) == asked, "what is there is not fetched again"
    if weights:
        assert [check.status for check in datasets.verify(name)] == ["present"] * len(data["files"])
    assert main(["where", name]) == 0 and main(["show", name]) == 0

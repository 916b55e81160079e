"""Files are whole or not there."""

import errno
import fcntl
import hashlib
import os
import pickle
import re
import stat
import subprocess
import sys

import pytest

from fdp_core import files


def test_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    assert files.atomic_write_text(path, "first\n") == path
    files.atomic_write_bytes(path, b"second\r\n")
    assert path.read_bytes() == b"second\r\n"
    assert list(path.parent.iterdir()) == [path], "no temporary file stays"


def test_text_is_utf8_with_its_own_line_ends(tmp_path):
    files.atomic_write_text(tmp_path / "t", "caf\u00e9\r\n\n")
    assert (tmp_path / "t").read_bytes() == b"caf\xc3\xa9\r\n\n"


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    files.atomic_write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    files.atomic_write_text(path, "old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    told = (
        r"x\.json cannot be written: No space.*MB are free in .*, 2.0 MB are needed.*FDP_CACHE.*FDP_DATA.*FDP_RESULTS"
    )
    with pytest.raises(files.DiskFault, match=told):
        files.atomic_write_text(path, "new " * 500_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", ["mkdir", "touch", "write_bytes"])
def test_whichever_call_a_disk_refuses_the_message_is_the_same(tmp_path, monkeypatch, number, call):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.Path, call, refuse)
    told = re.escape(f"{tmp_path / 'new' / 'x.json'} cannot be written: {os.strerror(number)}")
    with pytest.raises(files.DiskFault, match=told + ".*FDP_CACHE") as caught:
        files.atomic_write_bytes(tmp_path / "new" / "x.json", b"x")
    assert caught.value.errno == number and str(caught.value).startswith(str(tmp_path))  # no [Errno 28] before it
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*x*"))


def test_files_are_synced_through_a_handle_that_may_write(tmp_path, monkeypatch):
    """Windows refuses the other kind; folders, which it cannot open at all, are left out there."""
    modes, original = [], os.fsync

    def note(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
        original(descriptor)

    monkeypatch.setattr(files.os, "fsync", note)
    files.atomic_write_text(tmp_path / "a", "x")
    with files.atomic_path(tmp_path / "b") as temporary:
        temporary.write_text("y")
    assert len(modes) == 2 and set(modes) <= {os.O_WRONLY, os.O_RDWR}


def test_others_may_read_what_the_umask_allows(tmp_path):
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_text("x")
    files.atomic_write_text(atomic, "x")
    assert plain.stat().st_mode == atomic.stat().st_mode


def test_the_temporary_file_keeps_the_suffix(tmp_path):
    with files.atomic_path(tmp_path / "array.npy") as temporary:
        assert temporary.suffix == ".npy" and temporary.parent == tmp_path
        temporary.write_bytes(b"x")


def test_sha256_file(tmp_path):
    data = bytes(range(256)) * 9000
    (tmp_path / "f").write_bytes(data)
    assert files.sha256_file(tmp_path / "f") == hashlib.sha256(data).hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="there nobody can be asked")
def test_what_a_killed_process_left_is_collected_by_the_next(tmp_path):
    kill = "import os; from fdp_core import files\nwith files.atomic_path({!r}): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", kill.format(str(tmp_path / "x.json"))], check=False)
    left = list(tmp_path.iterdir())
    assert len(left) == 1 and left[0].name.startswith(".x-")
    mine = tmp_path / left[0].name.replace(left[0].name.split(".")[2].split("-")[0], str(os.getpid()))
    mine.touch()
    files.atomic_write_text(tmp_path / "y.json", "new")
    assert set(tmp_path.iterdir()) == {tmp_path / "y.json", mine}


@pytest.mark.parametrize("error", [ValueError("no disk"), OSError(errno.ENOENT, "none"), RuntimeError("other")])
def test_other_errors_than_a_disks_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, files.writing_to("x"):
        raise error
    assert caught.value is error


def test_a_librarys_words_tell_of_the_disk():
    with pytest.raises(files.DiskFault, match="x cannot be written: Read-only"), files.writing_to("x"):
        raise RuntimeError("lance: os error 30")

"""Files that are either whole or not there: atomic writes, and hashes of what lies on disk."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

ADVICE = (
    "Make room, or name a folder on another disk: FDP_CACHE for caches and indexes, FDP_DATA for data sets, "
    "FDP_RESULTS for records, the parameter out_dir for a training."
)
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_HOST = re.sub(r"\W", "", socket.gethostname())


class DiskFault(OSError):
    """A disk does not take a file; the message names it, what is free, and how to take another disk."""

    def __str__(self) -> str:
        return str(self.strerror)  # without the number in brackets


@contextlib.contextmanager
def writing_to(path: str | os.PathLike[str], size: int | None = None) -> Iterator[None]:
    """Say plainly that a disk is full or cannot be written, be it told by the system or, in words, by a library.

    Args:
        path: the file or folder that is written.
        size: its bytes, where they are known.

    Raises:
        DiskFault: it is, while ``path`` was written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else getattr(error, "errno", None)
        if number not in _REFUSED or isinstance(error, DiskFault):
            raise
        folder = next((base for base in (Path(path), *Path(path).absolute().parents) if base.is_dir()), Path("/"))
        room = f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB are free in {folder}"
        room += f", {size / 1e6:,.1f} MB are needed" if size and size > 50_000 else ""
        raise DiskFault(number, f"{path} cannot be written: {os.strerror(number)}; {room}. {ADVICE}") from error


@functools.cache  # once for a folder: some hold many thousand files
def _collect(folder: Path) -> None:
    """Remove what a killed process of this machine left half written in a folder."""
    for path in folder.glob(f".*-{_HOST}.*-*.tmp*"):
        owner = re.search(rf"-{_HOST}\.(\d+)-[^-]*\.tmp", path.name)
        if owner and not psutil.pid_exists(int(owner[1])):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], size: int | None = None) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and move it into place if the block ends well.

    Args:
        path: the file to make or replace; its folder is made where it is missing.
        size: its bytes, where they are known.

    Yields:
        The temporary path, with the same suffix (some writers choose their format by it).

    Raises:
        DiskFault: the folder cannot be written or the disk is full; ``path`` is then as it was before.
    """
    path = Path(path)
    owner = f"{_HOST}.{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.stem[:100]}-{owner}.tmp{path.suffix}")
    try:
        with writing_to(path, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            _collect(path.parent.absolute())
            temporary.touch(exist_ok=False)
            yield temporary
            with open(temporary, "r+b") as stream:  # Windows syncs only through a handle that may write
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Args:
        path: the file to make or replace.
        data: its whole content.

    Returns:
        ``path`` as a :class:`~pathlib.Path`.

    Raises:
        OSError: the folder cannot be written or the disk is full; an existing file is left as it was.
    """
    with atomic_path(path, len(data)) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` as UTF-8 with its line ends as they are; see :func:`atomic_write_bytes`."""
    return atomic_write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], kind: str, advice: str) -> Iterator[None]:
    """Name the file that does not hold what it should: a damaged one raises any kind of error.

    Raises:
        ValueError: anything but an ``OSError`` was raised; ``kind`` says what was expected, ``advice`` what to do.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        told = str(error) or type(error).__name__
        raise ValueError(f"{path} is no {kind} or is damaged ({told}); {advice}.") from error


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 lower-case hexadecimal digits, without loading it whole.

    Raises:
        OSError: the file cannot be read, or is a pipe or a device, which may never end.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    if os.stat(path).st_size == 0:  # files of the kernel say so, and some of them never end
        return hashlib.sha256().hexdigest()
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(source: str | os.PathLike[str] | bytes) -> str:
    """Return the SHA-256 of a file's bytes, or of bytes."""
    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else sha256_file(source)


def _sync_folder(folder: Path) -> None:
    """Let the new name outlast a power cut, where the system can; the replace itself is atomic anyway."""
    with contextlib.suppress(OSError):  # Windows opens no folders, network file systems refuse to sync them
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Unpacking archives from the net: only plain files, only into their folder, only up to a bounded size."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from fdp_core.datasets.readers import same_name
from fdp_core.datasets.types import inside

MAX_FILES = 500_000
MAX_READ = 1 << 24  # no header and no name of an honest archive is longer
_CLUTTER = {"__MACOSX", ".DS_Store", "Thumbs.db"}
_OPENERS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
# What the archive modules raise on damaged files, beside some OSErrors (see is_damage); RuntimeError: unknown packing.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error)
DAMAGE += (EOFError, RuntimeError, MemoryError, ValueError, OverflowError)
Opener = Callable[[], IO[bytes]]
Entry = tuple[str, int, Opener, str]


class ArchiveError(Exception):
    """An archive is damaged or not to be trusted; nothing of it was put in place."""


def is_damage(error: Exception) -> bool:
    """Return whether an error is the archive's fault, not the disk's: gzip and bz2 raise OSErrors of their own."""
    # EINVAL: a damaged zip sends us to a place before its start
    return not isinstance(error, OSError) or error.errno in (None, errno.EINVAL)


class _Bounded:
    """A stream for tarfile whose single reads are bounded: a header may claim a name of gigabytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.last = stream, b""
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        self.last = self.stream.read(size)
        return self.last


def is_archive(path: Path) -> bool:
    """Return whether a file begins as a tar does, compressed or not, or ends as a zip does."""
    try:
        with open_entries(path):
            return True
    except (ArchiveError, *DAMAGE):
        return False


@contextmanager
def open_entries(archive: Path) -> Iterator[Iterator[Entry]]:
    """Open a zip or tar by content and give (name, declared size, opener, fault) of all but folders."""
    with ExitStack() as stack:
        with archive.open("rb") as stream:
            head = stream.read(512)
        # A tar that holds a zip also ends as a zip does; a zip never begins as a tar does.
        if head[257:262] != b"ustar" and zipfile.is_zipfile(archive):
            yield _zip_entries(stack.enter_context(zipfile.ZipFile(archive)))
            return
        if head.startswith(b"PK\3\4"):
            raise ArchiveError("a zip archive that breaks off")
        opener = next((opener for mark, opener in _OPENERS if head.startswith(mark)), open)
        stream = _Bounded(stack.enter_context(opener(archive, "rb")))
        try:
            source = stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))
        except (*DAMAGE, OSError) as error:
            if not is_damage(error):
                raise
            raise ArchiveError("not an archive (a web page in its place?): neither zip nor tar") from None
        yield _tar_entries(source, stream)


def _zip_entries(source: zipfile.ZipFile) -> Iterator[Entry]:
    for entry in source.infolist():
        if not entry.is_dir() and not (entry.filename.endswith("\\") and entry.file_size == 0):  # made on Windows
            yield entry.filename, entry.file_size, lambda entry=entry: source.open(entry), _zip_fault(entry)


def _zip_fault(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device"
    return "is encrypted" if entry.flag_bits & 1 else ""


def _tar_entries(source: tarfile.TarFile, stream: _Bounded) -> Iterator[Entry]:
    for entry in source:
        if not entry.isdir():
            fault = "" if entry.isreg() and not entry.issparse() else "is a link or a device"
            yield entry.name, entry.size, lambda entry=entry: source.extractfile(entry), fault
    # tarfile takes any header that it cannot read for the end; a whole archive ends with blocks of zeros
    if stream.last != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it breaks off between two files")
    stream.read(MAX_READ)  # to the end, where the sums of compressed streams are checked


def _target(name: str, strip: int, flatten: bool) -> str | None:
    """Return where an entry goes, or None for clutter; raises ArchiveError for names that lead elsewhere."""
    try:
        parts = PurePosixPath(inside(name)).parts
    except ValueError as error:
        raise ArchiveError(str(error)) from None
    if _CLUTTER & set(parts) or parts[-1].startswith("._"):
        return None
    if max(len(os.fsencode(part)) for part in parts) > 255:
        raise ArchiveError(f"{name[:80]!r}... is longer than a file name may be")
    if flatten:
        return parts[-1]
    return str(PurePosixPath(*parts[strip:])) if len(parts) > strip else None


def _plan(
    entries: Iterator[Entry], max_bytes: int, max_files: int, strip: int, flatten: bool, keep_out: str | None
) -> tuple[dict[str, tuple[str, Opener]], int]:
    """Return target -> (name, opener) of the files to write, no two of them one file on any system, and their size."""
    plan: dict[str, tuple[str, Opener]] = {}
    targets: dict[str, str] = {}  # by the name as systems compare it
    declared = 0
    for name, size, opener, fault in entries:
        declared += size
        if fault:
            raise ArchiveError(f"{name!r} {fault}")
        if declared > max_bytes:
            raise ArchiveError(f"it would unpack to more than {max_bytes:,} bytes")
        if len(plan) >= max_files:
            raise ArchiveError(f"it holds more than {max_files:,} files")
        if (target := _target(name, strip, flatten)) is None:
            continue
        key = same_name(target)
        if (other := targets.get(key)) is not None:
            raise ArchiveError(f"{name!r} occurs twice" if other == target else f"{name!r} and {other!r} are one name")
        if keep_out and key.split("/", 1)[0] == keep_out:
            raise ArchiveError(f"{name!r} would go into {keep_out}/, which is kept for archives")
        targets[key], plan[target] = target, (name, opener)
    for key, target in targets.items():
        for folder in map(str, PurePosixPath(key).parents):
            if folder in targets:
                raise ArchiveError(f"{targets[folder]!r} is a file and the folder of {target!r}")
    if not plan:
        raise ArchiveError("it holds no file to unpack")
    return plan, declared


def unpack(
    archive: Path,
    folder: Path,
    *,
    max_bytes: int,
    max_files: int = MAX_FILES,
    strip: int = 0,
    flatten: bool = False,
    keep_out: str | None = None,
) -> dict[str, str]:
    """Unpack an archive into a folder, all or nothing as far as names and sizes go.

    Every name is checked before a byte is written; files are unpacked beside the folder and moved into it
    only when all of them are whole. Sizes are counted as they come, whatever the archive declares.

    Args:
        archive: a zip or tar file, compressed or not.
        folder: where its files go; made where it is missing, other files in it stay.
        max_bytes: the most that all ``max_files`` or fewer files together may unpack to.
        strip: how many leading folders of each name to leave out; ``flatten`` keeps only the last part.
        keep_out: a folder in ``folder`` that no file may go into, in lower case.

    Returns:
        Relative path -> SHA-256 of every file that was put in place.

    Raises:
        ArchiveError: damaged, hostile or too big.
        OSError: the disk is full or the folder cannot be written.
    """
    try:
        with open_entries(archive) as entries:
            plan, declared = _plan(entries, max_bytes, max_files, strip, flatten, keep_out)
            enough_space(folder.parent, declared)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as staging:
                hashes = _write(plan, Path(staging), max_bytes)
                for target in plan:
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(staging) / target, folder / target)
            return hashes
    except ArchiveError as error:
        raise ArchiveError(f"{archive}: {error}; nothing was unpacked") from None
    except (*DAMAGE, OSError) as error:
        if not is_damage(error):
            raise
        raise ArchiveError(f"{archive} is damaged ({error}); nothing was unpacked, get it again") from None


def _write(plan: dict[str, tuple[str, Opener]], staging: Path, max_bytes: int) -> dict[str, str]:
    hashes, total = {}, 0
    for target, (name, opener) in plan.items():
        path = staging / target
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with opener() as source, path.open("xb") as out:
            while chunk := source.read(1 << 20):
                total += len(chunk)
                if total > max_bytes:
                    raise ArchiveError(f"{name!r} holds more than it declares")
                out.write(chunk)
                digest.update(chunk)
        hashes[target] = digest.hexdigest()
    return hashes


def enough_space(folder: Path, needed: int) -> None:
    """Raise ``OSError(ENOSPC)`` when the disk of a folder has less than ``needed`` bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed, {free:,} are free", str(folder))

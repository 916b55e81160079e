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
# What the archive modules raise on damaged files, beside some OSErrors; see is_damage.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # unknown packing, too deep nesting
    MemoryError,
    ValueError,
    OverflowError,
)
Entry = tuple[str, int, Callable[[], IO[bytes]], str]


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
            raise ArchiveError(f"{archive} is a zip archive that breaks off; nothing was unpacked")
        opener = next((opener for mark, opener in _OPENERS if head.startswith(mark)), open)
        stream = _Bounded(stack.enter_context(opener(archive, "rb")))
        try:
            source = stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))
        except (*DAMAGE, OSError) as error:
            if not is_damage(error):
                raise
            raise ArchiveError(f"{archive} is not an archive (a web page in its place?): neither zip nor tar") from None
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
    """Return where an entry goes, or None for clutter; raises ValueError for names that lead elsewhere."""
    parts = PurePosixPath(inside(name)).parts
    if _CLUTTER & set(parts) or parts[-1].startswith("._"):
        return None
    if max(len(os.fsencode(part)) for part in parts) > 255:
        raise ValueError(f"{name[:80]!r}... is longer than a file name may be")
    if flatten:
        return parts[-1]
    return str(PurePosixPath(*parts[strip:])) if len(parts) > strip else None


class _Plan(dict[str, tuple[str, Callable[[], IO[bytes]]]]):
    """Target -> (name, opener) of the files to write; no two of them may be one file on any system."""

    def __init__(self, keep_out: str | None) -> None:
        super().__init__()
        self.keys_seen: dict[str, str] = {}
        self.keep_out = keep_out

    def enter(self, target: str, name: str, opener: Callable[[], IO[bytes]]) -> None:
        key = same_name(target)
        if (other := self.keys_seen.get(key)) is not None:
            raise ValueError(f"{name!r} occurs twice" if other == target else f"{name!r} and {other!r} are one name")
        if self.keep_out and key.split("/", 1)[0] == self.keep_out:
            raise ValueError(f"{name!r} would go into {self.keep_out}/, which is kept for archives")
        self.keys_seen[key] = target
        self[target] = (name, opener)

    def check_folders(self) -> None:
        for key, target in self.keys_seen.items():
            folder = key
            while (folder := folder.rpartition("/")[0]) != "":
                if folder in self.keys_seen:
                    raise ValueError(f"{self.keys_seen[folder]!r} is a file and the folder of {target!r}")


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
        max_bytes: the most that all files together may unpack to.
        max_files: the most files that it may hold.
        strip: how many leading folders of each name to leave out.
        flatten: keep only the last part of each name.
        keep_out: a folder in ``folder`` that no file may go into, in lower case.

    Returns:
        Relative path -> SHA-256 of every file that was put in place.

    Raises:
        ArchiveError: damaged, hostile or too big.
        OSError: the disk is full or the folder cannot be written.
    """
    nothing = "nothing was unpacked"
    try:
        with open_entries(archive) as entries:
            plan, declared = _Plan(keep_out), 0
            for name, size, opener, fault in entries:
                if fault:
                    raise ArchiveError(f"{archive}: {name!r} {fault}; {nothing}")
                declared += size
                if declared > max_bytes:
                    raise ArchiveError(f"{archive} would unpack to more than {max_bytes:,} bytes; {nothing}")
                if len(plan) >= max_files:
                    raise ArchiveError(f"{archive} holds more than {max_files:,} files; {nothing}")
                try:
                    target = _target(name, strip, flatten)
                    if target is not None:
                        plan.enter(target, name, opener)
                except ValueError as error:
                    raise ArchiveError(f"{archive}: {error}; {nothing}") from None
            if not plan:
                raise ArchiveError(f"{archive} holds no file to unpack")
            try:
                plan.check_folders()
            except ValueError as error:
                raise ArchiveError(f"{archive}: {error}; {nothing}") from None
            enough_space(folder.parent, declared)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as staging:
                hashes = _write(archive, plan, Path(staging), max_bytes)
                for target in plan:
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(staging) / target, folder / target)
            return hashes
    except (*DAMAGE, OSError) as error:
        if not is_damage(error):
            raise
        raise ArchiveError(f"{archive} is damaged ({error}); {nothing}") from None


def _write(archive: Path, plan: _Plan, staging: Path, max_bytes: int) -> dict[str, str]:
    hashes, total = {}, 0
    for target, (name, opener) in plan.items():
        path = staging / target
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with opener() as source, path.open("xb") as out:
            while chunk := source.read(1 << 20):
                total += len(chunk)
                if total > max_bytes:
                    raise ArchiveError(f"{archive}: {name!r} holds more than it declares; nothing was unpacked")
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

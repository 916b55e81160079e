"""Opening archives from the net: zip or tar by content, what they hold, and what is wrong with each entry."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

MAX_READ = 1 << 24  # no header and no name of an honest archive is longer
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

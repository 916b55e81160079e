"""Unpacking archives from the net: only plain files, only into their folder, only up to a bounded size."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from .types import inside

MAX_FILES = 500_000
_CLUTTER = {"__MACOSX", ".DS_Store", "Thumbs.db"}


class ArchiveError(Exception):
    """An archive is damaged or not to be trusted; nothing of it was put in place."""


@contextmanager
def _entries(archive: Path) -> Iterator[Iterator[tuple[str, int, IO[bytes] | None, str]]]:
    """Open a zip or tar by content and give (name, declared size, opener, fault) of all but folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as source:
            yield (
                (entry.filename, entry.file_size, lambda entry=entry: source.open(entry), _zip_fault(entry))
                for entry in source.infolist()
                if not entry.is_dir()
            )
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as source:
            yield (
                (entry.name, entry.size, lambda entry=entry: source.extractfile(entry), _tar_fault(entry))
                for entry in source
                if not entry.isdir()
            )
    else:
        raise ArchiveError(f"{archive} is neither a zip nor a tar archive (a web page in its place?)")


def _zip_fault(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device"
    return "is encrypted" if entry.flag_bits & 1 else ""


def _tar_fault(entry: tarfile.TarInfo) -> str:
    return "" if entry.isreg() and not entry.issparse() else "is a link or a device"


def _target(name: str, strip: int, flatten: bool) -> str | None:
    """Return where an entry goes, or None for clutter; raises ValueError for names that lead elsewhere."""
    parts = PurePosixPath(inside(name)).parts
    if _CLUTTER & set(parts) or parts[-1].startswith("._"):
        return None
    if flatten:
        return parts[-1]
    return str(PurePosixPath(*parts[strip:])) if len(parts) > strip else None


def unpack(archive: Path, folder: Path, *, max_bytes: int, strip: int = 0, flatten: bool = False) -> dict[str, str]:
    """Unpack an archive into a folder, all or nothing as far as names and sizes go.

    Every name is checked before a byte is written; files are unpacked beside the folder and moved into it
    only when all of them are whole. Sizes are counted as they come, whatever the archive declares.

    Args:
        archive: a zip or tar file, compressed or not.
        folder: where its files go; made where it is missing, other files in it stay.
        max_bytes: the most that all files together may unpack to.
        strip: how many leading folders of each name to leave out.
        flatten: keep only the last part of each name.

    Returns:
        Relative path -> SHA-256 of every file that was put in place.

    Raises:
        ArchiveError: damaged, hostile or too big.
        OSError: the disk is full or the folder cannot be written.
    """
    try:
        with _entries(archive) as entries:
            plan: dict[str, tuple[str, object]] = {}
            declared = 0
            for name, size, opener, fault in entries:
                try:
                    target = _target(name, strip, flatten)
                except ValueError as error:
                    raise ArchiveError(f"{archive}: {error}; nothing was unpacked") from None
                if fault:
                    raise ArchiveError(f"{archive}: {name!r} {fault}; nothing was unpacked")
                if target is None:
                    continue
                declared += size
                if declared > max_bytes or len(plan) >= MAX_FILES:
                    raise ArchiveError(f"{archive} would unpack to more than {max_bytes:,} bytes; nothing was unpacked")
                if target in plan:
                    raise ArchiveError(f"{archive}: {target!r} occurs twice; nothing was unpacked")
                plan[target] = (name, opener)
            if not plan:
                raise ArchiveError(f"{archive} holds no file to unpack")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as staging:
                hashes = _write(archive, plan, Path(staging), max_bytes)
                for target in plan:
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(staging) / target, folder / target)
            return hashes
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
    ) as error:
        raise ArchiveError(f"{archive} is damaged ({error}); nothing was unpacked") from None


def _write(archive: Path, plan: dict, staging: Path, max_bytes: int) -> dict[str, str]:
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
        raise OSError(28, f"{needed:,} bytes are needed, {free:,} are free", str(folder))

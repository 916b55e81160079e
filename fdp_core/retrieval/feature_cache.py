"""Rows of float16 features on disk that survive interruption: nothing counts until the journal says so.

One folder a store: ``features.f16`` (the rows), ``journal.jsonl`` (one line for each finished row, with its checksum)
and ``store.json`` (what the rows are). Rows are written with plain writes, not through a memory map: on a full
disk a map kills the process, a write raises an error that can be read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdp_core.files import atomic_write_text

_DATA, _JOURNAL, _META = "features.f16", "journal.jsonl", "store.json"
_SAME_TRUNK = ("format", "weights_hash", "image_size", "fit", "shape")


class NoSpace(OSError):
    """The disk cannot hold the feature cache."""


def _read_journal(folder: Path) -> dict[int, tuple[Any, int | None]]:
    """Read the finished rows (row -> entry, checksum); a torn last line, left by an interruption, is ignored."""
    done: dict[int, tuple[Any, int | None]] = {}
    for line in (folder / _JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            item = json.loads(line)
            done[int(item["row"])] = item["entry"], item.get("crc")  # journals of old have no checksums
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return done


def _sound(block: bytes, size: int, crc: int | None) -> bool:
    return len(block) == size and crc in (None, zlib.crc32(block))


def _read_meta(folder: Path) -> dict[str, Any] | None:
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) else None


class RowCache:
    """A fixed number of feature rows in a folder of its own.

    Args:
        root: folder of all stores.
        meta: what the rows are: ``format, weights_hash, image_size, fit, shape`` [C, G, G] and ``contents``,
            the hash of each row's photograph. The folder's name is the hash of it all.

    Raises:
        NoSpace: the disk cannot hold the rows.
    """

    def __init__(self, root: Path, meta: dict[str, Any]):
        key = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:24]
        self.meta, self.folder = meta, root / key
        self.shape = (len(meta["contents"]), *meta["shape"])
        self.row_bytes = int(np.prod(meta["shape"])) * 2
        self.size = self.shape[0] * self.row_bytes
        if not self._valid():
            self._create()
        self.done = self._check()
        if len(self.done) < self.shape[0]:
            self._adopt()

    def _valid(self) -> bool:
        data = self.folder / _DATA
        whole = data.is_file() and data.stat().st_size == self.size and (self.folder / _JOURNAL).is_file()
        return whole and _read_meta(self.folder) == self.meta

    def _create(self) -> None:
        """Make the files in a folder beside, then move it into place: nobody sees a half-made one."""
        root = self.folder.parent
        root.mkdir(parents=True, exist_ok=True)
        if self.folder.exists():  # damaged: cheap to make again, dangerous to trust
            shutil.rmtree(self.folder)
        needs = f"The feature cache needs {self.size / 1e9:.2f} GB in {root}"
        advice = "Give another cache_dir, or None to do without."
        free = shutil.disk_usage(root).free
        if free < self.size:
            raise NoSpace(f"{needs}, {free / 1e9:.2f} GB are free. {advice}")
        fresh = root / f".new-{uuid.uuid4().hex}"
        try:
            fresh.mkdir()
            with open(fresh / _DATA, "wb") as file:
                # Take the room now: a hole that cannot be filled would only show hours into the run.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self.size)
                else:
                    file.truncate(self.size)
            (fresh / _JOURNAL).touch()
            atomic_write_text(fresh / _META, json.dumps(self.meta, indent=1, sort_keys=True))
            os.rename(fresh, self.folder)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if not self._valid():  # else another process was faster
                raise NoSpace(f"{needs}, and it could not be made there: {error}. {advice}") from error

    def _check(self) -> dict[int, Any]:
        """Read the finished rows and return those (row -> entry) that still are what was written."""
        done = {}
        with open(self.folder / _DATA, "rb") as data:
            for row, (entry, crc) in sorted(_read_journal(self.folder).items()):
                if 0 <= row < self.shape[0]:
                    data.seek(row * self.row_bytes)
                    if crc is None or _sound(data.read(self.row_bytes), self.row_bytes, crc):
                        done[row] = entry
        return done

    def keep(self, rows: list[int], blocks: list[bytes], entries: list[Any]) -> None:
        """Write finished rows, then vouch for them.

        Args:
            rows: [B] row numbers.
            blocks: B rows of float16 as bytes.
            entries: B JSON values to keep beside them.

        Raises:
            NoSpace: the rows or the journal could not be written.
        """
        try:
            with open(self.folder / _DATA, "r+b") as data:
                for row, block in zip(rows, blocks, strict=True):
                    data.seek(row * self.row_bytes)
                    data.write(block)
                data.flush()
                os.fsync(data.fileno())
            kept = [{"row": row, "entry": e, "crc": zlib.crc32(block)} for row, block, e in zip(rows, blocks, entries)]
            lines = "".join(json.dumps(item) + "\n" for item in kept)
            with open(self.folder / _JOURNAL, "a", encoding="utf-8") as journal:
                journal.write("\n" + lines)  # the first break ends a line that an interruption tore
                journal.flush()
                os.fsync(journal.fileno())
        except OSError as error:
            raise NoSpace(
                f"The feature cache in {self.folder} cannot be written: {error}. What it holds stays."
            ) from error
        self.done.update(zip(rows, entries))

    def array(self) -> np.ndarray:
        """Return the rows as a read-only memory map [N, C, G, G] float16; unfinished rows hold anything."""
        return np.memmap(self.folder / _DATA, np.float16, "r", shape=self.shape)

    def _adopt(self) -> None:
        """Copy rows that another store of the same trunk holds: a grown folder costs only its growth."""
        wanted: dict[str, list[int]] = {}
        for row, content in enumerate(self.meta["contents"]):
            if row not in self.done:
                wanted.setdefault(content, []).append(row)
        for other in sorted(self.folder.parent.iterdir()):
            for content, block, entry in self._rows_of(other, wanted):
                rows = wanted.pop(content)
                self.keep(rows, [block] * len(rows), [entry] * len(rows))

    def _rows_of(self, other: Path, wanted: dict[str, list[int]]) -> Iterator[tuple[str, bytes, Any]]:
        known = _read_meta(other)
        if other == self.folder or known is None or any(known.get(k) != self.meta[k] for k in _SAME_TRUNK):
            return
        try:
            contents, done = known["contents"], _read_journal(other)
            with open(other / _DATA, "rb") as data:
                for row, (entry, crc) in done.items():
                    if contents[row] in wanted:
                        data.seek(row * self.row_bytes)
                        block = data.read(self.row_bytes)
                        if _sound(block, self.row_bytes, crc):
                            yield contents[row], block, entry
        except (OSError, KeyError, IndexError):
            return  # a damaged neighbour is no reason to stop

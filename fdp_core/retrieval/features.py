"""Trunk features of whole galleries, computed once: the trunk is frozen, the input deterministic (B7)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import DTypeLike
from tqdm import tqdm
from typing_extensions import TypedDict

from fdp_core.backbones import STRIDE, Backbone
from fdp_core.config import parse
from fdp_core.datasets.images import CorruptImage, open_image
from fdp_core.datasets.types import Gallery, Photo
from fdp_core.files import atomic_write_bytes, sha256_of
from fdp_core.retrieval import geometry
from fdp_core.retrieval.compiled import compiled_trunk
from fdp_core.retrieval.fast_trunk import FastTrunk
from fdp_core.retrieval.geometry import Geometry

_FORMAT = 2
Head = Callable[[torch.Tensor, np.ndarray], torch.Tensor]  # (features [B, C, G, G], their rows [B]) -> [B, ...]


class NoSpace(OSError):
    """The disk cannot hold the feature cache."""


class CorruptPhotographs(UserWarning):
    """Some photographs could not be read; the warning names each of them."""


class _Facts(TypedDict):
    geometry: Geometry
    crc: int


class FileRows:
    """Features [N, C, G, G] float16 in one file a photograph; a row is read when it is asked for.

    A file is named by its photograph's content (``contents``: N hashes) in a folder under ``root`` named by the trunk,
    so galleries share what they have in common and no changed input can be served. It holds one line of JSON (the
    geometry, a checksum) and the row, a ``cell`` [C, G, G]. It is written whole or not at all, so that nothing is lost
    or half there when a run is killed.
    """

    dtype, ndim = np.dtype(np.float16), 4

    def __init__(self, root: Path, trunk: dict[str, str | int], cell: tuple[int, int, int], contents: list[str]):
        key = json.dumps({**trunk, "shape": cell}, sort_keys=True)
        self.folder = root / hashlib.sha256(key.encode()).hexdigest()[:24]
        self.shape, self.size = (len(contents), *cell), int(np.prod(cell)) * 2
        self._files = [self.folder / f"{content}.f16" for content in contents]
        self._known = np.zeros(len(contents), bool)

    def __len__(self) -> int:
        return self.shape[0]

    def load(self, row: int) -> Geometry | None:
        """Check a row's file and return its geometry; None where there is none or it is damaged."""
        try:
            line, _, block = self._files[row].read_bytes().partition(b"\n")
            facts = parse(line, _Facts)
            self._known[row] = len(block) == self.size and zlib.crc32(block) == facts["crc"]
            return facts["geometry"] if self._known[row] else None
        except (OSError, ValueError):
            return None

    def reserve(self, count: int) -> None:
        """Make sure that the disk holds so many more rows, or raise :class:`NoSpace`: better now than hours later."""
        needs = f"The feature cache needs {count * self.size / 1e6:,.1f} MB in {self.folder.parent}"
        advice = "Set FDP_CACHE to a folder on another disk, or give another cache_dir; None does without."
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder.parent).free
        except OSError as error:
            raise NoSpace(f"{needs}, and it cannot be made there: {error.strerror}. {advice}") from error
        if free < count * self.size:
            raise NoSpace(f"{needs}, {free / 1e6:,.1f} MB are free. {advice}")

    def save(self, row: int, features: np.ndarray, placed: Geometry) -> None:
        """Write a row [C, G, G] and its geometry; :class:`NoSpace` where the disk does not take it."""
        block = np.ascontiguousarray(features, np.float16).tobytes()
        line = json.dumps({"geometry": dataclasses.asdict(placed), "crc": zlib.crc32(block)})
        try:
            atomic_write_bytes(self._files[row], line.encode() + b"\n" + block)
        except OSError as error:
            fault = f"The feature cache in {self.folder} cannot be written: {error}"
            raise NoSpace(f"{fault}. What it holds stays.") from error
        self._known[row] = True

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Read one row [C, G, G] by its number, or several [B, C, G, G] by a slice or integers; zeros if missing."""
        if isinstance(rows, (int, np.integer)):
            if not self._known[rows]:
                return np.zeros(self.shape[1:], np.float16)
            with open(self._files[rows], "rb") as file:
                file.seek(-self.size, os.SEEK_END)
                return np.frombuffer(file.read(), np.float16).reshape(self.shape[1:])
        chosen = np.arange(len(self))[rows]
        out = np.zeros((len(chosen), *self.shape[1:]), np.float16)
        for place, row in enumerate(chosen):
            out[place] = self[row]
        return out

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class FeatureStore:
    """Trunk features of a gallery.

    Attributes:
        array: [N, C, G, G] float16, in the gallery's order, in memory or in files; rows with ``ok`` False hold zeros.
        ok: [N] bool, False where a photograph could not be read.
        errors: (photograph id, reason) of each of those.
        geometries: N transforms from image pixels to the square input; None where not ok.
        ids: N photograph ids.
        computed: how many rows this call computed (the others came from the cache).
        seconds: wall time of computing them, reading and decoding of the photographs included.
    """

    array: np.ndarray | FileRows
    ok: np.ndarray
    errors: tuple[tuple[str, str], ...]
    geometries: tuple[Geometry | None, ...]
    ids: tuple[str, ...]
    image_size: int
    fit: str
    weights_hash: str
    folder: Path | None
    computed: int
    seconds: float

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: np.ndarray, device: str | torch.device = "cpu") -> torch.Tensor:
        """Read rows, [B] integers or a slice, as a tensor on a device: float32 [B, C, G, G]."""
        return torch.from_numpy(np.array(self.array[rows])).to(device).float()

    def encode(self, head: Head, batch_size: int = 8, device: str | torch.device = "cpu", name: str = "") -> np.ndarray:
        """Apply a head to all photographs, ``batch_size`` at a time; see :func:`encode_batches`."""
        good = np.flatnonzero(self.ok)
        parts = (good[i : i + batch_size] for i in range(0, len(good), batch_size))
        return encode_batches(((part, self.batch(part, device)) for part in parts), head, len(self), name)


@torch.inference_mode()
def encode_batches(
    batches: Iterable[tuple[np.ndarray, torch.Tensor]], head: Head, count: int, name: str = ""
) -> np.ndarray:
    """Apply a head to the features of photographs as they come.

    Args:
        batches: (rows [B], features [B, C, G, G]).
        head: (features, rows) -> [B, ...].
        count: N photographs in all, of the gallery ``name``.

    Returns:
        float32 [N, ...]; NaN where a photograph could not be read.

    Raises:
        ValueError: none of the photographs could be read.
    """
    rows, parts = [], []
    for part, features in batches:
        rows.extend(part)
        parts.append(head(features, part).float().cpu().numpy())
    if not rows:
        raise ValueError(f"None of the {count} photographs{f' of {name}' if name else ''} could be read.")
    found = np.concatenate(parts)
    encoded = np.full((count, *found.shape[1:]), np.nan, np.float32)
    encoded[rows] = found
    return encoded


@dataclass(frozen=True)
class Chunk:
    """Features [B, C, G, G] float16 on the CPU of some photographs: ``rows`` [B] of the gallery."""

    rows: list[int]
    features: np.ndarray
    geometries: list[Geometry]
    errors: list[tuple[int, str]]


def error_report(errors: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> str:
    """Return one line a photograph that could not be read, under a line with their number."""
    lines = [f"{len(errors)} photograph(s) could not be read and were left out:"]
    return "\n".join(lines + [f"  {name}: {reason}" for name, reason in errors])


def _read(photo: Photo, size: int, fit: str) -> tuple[np.ndarray, Geometry] | str:
    """Return (square uint8 image [S, S, 3], geometry), or the reason why there is none."""
    try:
        return geometry.fit_image(open_image(photo.source), size, mode=fit)
    except CorruptImage as error:
        return error.reason


def stream_features(
    backbone: Backbone,
    photos: tuple[Photo, ...],
    image_size: int = 640,
    fit: str = "letterbox",
    batch_size: int = 8,
    rows: list[int] | None = None,
    progress: bool = True,
    precision: str | None = None,
) -> Iterator[Chunk]:
    """Compute trunk features batch after batch without keeping them; the next batch is decoded meanwhile.

    Args:
        backbone: its trunk is run on ``photos``.
        image_size: side S of the square input, pixels.
        fit: how a photograph becomes a square, as in :func:`fdp_core.retrieval.geometry.fit_image`.
        batch_size: photographs at once.
        rows: only these photographs; None for all.
        progress: show a progress bar.
        precision: None: as the backbone computes; "float32" or "bfloat16": of the
            :class:`fdp_core.retrieval.fast_trunk.FastTrunk`, faster on a CPU, with other last digits; "openvino": of
            the :class:`fdp_core.retrieval.compiled.CompiledTrunk`, the fastest on a CPU.

    Yields:
        One :class:`Chunk` a batch; photographs that cannot be read stand in its ``errors`` instead of its ``rows``.
        Features are rounded to float16 as in the cache, so that a number does not depend on whether there is one.
    """
    rows = list(range(len(photos))) if rows is None else list(rows)
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    run = _trunk(backbone, precision if rows else None)
    with ThreadPoolExecutor(1) as reader, tqdm(total=len(rows), disable=not progress, desc="features") as bar:

        def submit(batch: list[int]) -> Future[list[tuple[np.ndarray, Geometry] | str]]:
            return reader.submit(lambda: [_read(photos[row], image_size, fit) for row in batch])

        ahead = submit(batches[0]) if batches else None
        for number, batch in enumerate(batches):
            read = ahead.result()
            ahead = submit(batches[number + 1]) if number + 1 < len(batches) else None
            good = [(row, item) for row, item in zip(batch, read) if not isinstance(item, str)]
            errors = [(row, item) for row, item in zip(batch, read) if isinstance(item, str)]
            features = np.zeros((0,), np.float16)
            if good:
                with torch.inference_mode():
                    features = run(np.stack([item[0] for _, item in good])).float().half().cpu().numpy()
                finite = np.isfinite(features).reshape(len(good), -1).all(axis=1)
                reason = "its features overflow half precision"
                errors += [(row, reason) for (row, _), fine in zip(good, finite) if not fine]
                good, features = [pair for pair, fine in zip(good, finite) if fine], features[finite]
            bar.update(len(batch))
            yield Chunk([row for row, _ in good], features, [item[1] for _, item in good], errors)


def _trunk(backbone: Backbone, precision: str | None) -> Callable[[np.ndarray], torch.Tensor]:
    """Return what makes features [B, C, G, G] of images uint8 [B, S, S, 3]."""
    if precision == "openvino":
        return compiled_trunk(backbone)
    fast = FastTrunk(backbone.clip, precision) if precision else None
    run = backbone.trunk if fast is None else lambda images: fast(images)[-1].contiguous()
    return lambda pixels: run(backbone.normalise(torch.from_numpy(pixels).to(backbone.device)))


def _content(photo: Photo) -> str:
    """Return the sha256 of a photograph's file; a file that cannot be read gets a name that fits no other."""
    try:
        return sha256_of(photo.source)
    except OSError:
        return f"unreadable-{uuid.uuid4().hex}"


def _in_memory(shape: tuple[int, ...]) -> np.ndarray:
    """Return zeros [N, C, G, G] float16, or say beforehand that the machine has no room for them."""
    size = int(np.prod(shape)) * 2
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else size
    if size > total:
        needs = f"The features of {shape[0]} photographs need {size / 1e9:.1f} GB"
        has = f"this machine has {total / 1e9:.1f} GB of memory"
        raise MemoryError(f"{needs}, {has}. Pass cache_dir to keep them on disk.")
    return np.zeros(shape, np.float16)


def trunk_features(
    backbone: Backbone,
    gallery: Gallery,
    image_size: int = 640,
    fit: str = "letterbox",
    cache_dir: str | Path | None = None,
    progress: bool = True,
    batch_size: int = 8,
    precision: str | None = None,
) -> FeatureStore:
    """Compute, or take from the cache, the frozen trunk's features of every photograph of a gallery.

    The cache's key is the weights' hash, the image size, the fit and the content of every file, so no changed
    input can be served from it, and galleries share it. Photographs that cannot be read are skipped, named in a warning
    at the end, and tried again by the next call.

    Args:
        cache_dir: folder of the cache; None keeps the features in memory.
        precision: as in :func:`stream_features`, as are the others; the cache does not tell rows by "float32" from
            others, which agree with them up to the rounding to half precision.

    Raises:
        NoSpace: the disk cannot hold the cache.
        MemoryError: there is no cache and the features exceed the machine's memory.
        ValueError: there is a cache, which holds no rows in "bfloat16".

    Source: defect B7.
    """
    if cache_dir is not None and precision in ("bfloat16", "openvino"):
        raise ValueError(f"The cache of features holds no rows in {precision}: leave cache_dir or precision away.")
    photos, count = gallery.photos, len(gallery.photos)
    start, computed = time.perf_counter(), 0
    cell = (backbone.width, image_size // STRIDE, image_size // STRIDE)
    geometries: list[Geometry | None] = [None] * count
    errors: list[tuple[str, str]] = []
    if cache_dir is None or count == 0:
        cache, array, todo = None, _in_memory((count, *cell)), list(range(count))
    else:
        trunk = {"format": _FORMAT, "weights_hash": backbone.weights_hash, "image_size": image_size, "fit": fit}
        root, contents = Path(cache_dir).expanduser().absolute(), [_content(photo) for photo in photos]
        cache = array = FileRows(root, trunk, cell, contents)
        geometries = [cache.load(row) for row in range(count)]
        todo = [row for row in range(count) if geometries[row] is None]
        cache.reserve(len(todo))
    chunks = stream_features(backbone, photos, image_size, fit, batch_size, todo, progress and bool(todo), precision)
    for chunk in chunks:
        for place, row in enumerate(chunk.rows):
            geometries[row] = chunk.geometries[place]
            if cache is None:
                array[row] = chunk.features[place]
            else:
                cache.save(row, chunk.features[place], chunk.geometries[place])
        computed += len(chunk.rows)
        errors += [(photos[row].id, reason) for row, reason in chunk.errors]
    if errors:
        warnings.warn(error_report(errors), CorruptPhotographs, stacklevel=2)
    return FeatureStore(
        array=array,
        ok=np.array([transform is not None for transform in geometries], bool),
        errors=tuple(errors),
        geometries=tuple(geometries),
        ids=tuple(photo.id for photo in photos),
        image_size=image_size,
        fit=fit,
        weights_hash=backbone.weights_hash,
        folder=None if cache is None else cache.folder,
        computed=computed,
        seconds=time.perf_counter() - start if computed else 0.0,
    )

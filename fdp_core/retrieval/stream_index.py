"""Index more photographs than the memory holds: their vectors go to the file as they come, slice by slice.

What grows with the gallery are the names of the photographs alone; pixels, features and vectors stay those of one
slice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fdp_core.datasets import images
from fdp_core.datasets.folder import load_folder
from fdp_core.retrieval import index
from fdp_core.retrieval.features import CorruptPhotographs, reason_of
from fdp_core.retrieval.vectors import VectorSets

SLICE = 256  # photographs whose vectors are in memory at once


def write(model: Any, photographs: Any, path: str | Path, size: int = SLICE, **options: Any) -> Path:
    """Encode photographs and write their index, whole or not at all; :meth:`.index.Index.load` reads it.

    Args:
        model: an FDP model or any embedding system.
        photographs: a gallery or a folder.
        path: the index file.
        size: photographs a slice, at least 1.
        options: as in :meth:`fdp_core.retrieval.index.Index.build`.

    Returns:
        The file; it holds what ``Index.build(...).save(path)`` writes.

    Raises:
        ValueError: none of the photographs can be read, or the model encodes another number of them.
    """
    if size < 1:
        raise ValueError(f"size is {size}; expected 1 or more photographs a slice.")
    gallery = load_folder(photographs) if isinstance(photographs, (str, Path)) else photographs
    system, path, photos = index._as_system(model, **options), Path(path), gallery.photos
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = index.contents_hash([Path(p.path) for p in photos], [p.id for p in photos])
    digest, counts, width = hashlib.sha256(), np.zeros(len(photos), np.int64), 0
    body, whole = (path.with_name(f".{path.name}.{kind}-{uuid.uuid4().hex}") for kind in ("rows", "new"))
    try:
        with open(body, "wb") as file:
            for start in range(0, len(photos), size):
                part = dataclasses.replace(gallery, photos=photos[start : start + size])
                sets = _encode(system, part)
                counts[start : start + size] = np.diff(sets.starts)
                if len(sets.vectors):
                    width = sets.vectors.shape[1]
                    block = np.ascontiguousarray(sets.vectors, "<f4").tobytes()
                    digest.update(block)
                    file.write(block)
        if not counts.any():
            raise ValueError(f"None of the {len(photos)} photographs of {gallery.name} could be read.")
        good = counts > 0
        starts = np.append(0, np.cumsum(counts[good])).astype("<i8")
        digest.update(starts.tobytes())
        kept = [photo for photo, fine in zip(photos, good) if fine]
        described = index.describe(
            model_hash=system.model_hash,
            contents=contents,
            ids=[photo.id for photo in kept],
            paths=[photo.path for photo in kept],
            unreadable=[photo.id for photo, fine in zip(photos, good) if not fine],
            may_show=gallery.may_show,
            sha256=digest.hexdigest(),
        )
        with open(whole, "wb") as out, open(body, "rb") as rows:
            _assemble(out, rows, (int(starts[-1]), width), starts, described)
        os.replace(whole, path)
    finally:
        for left in (body, whole):
            left.unlink(missing_ok=True)
    return path


def _encode(system: Any, part: Any) -> VectorSets:
    """Encode a slice; one in which nothing can be read has no vectors and is no error yet."""
    try:
        sets = system.encode_gallery(part)
    except ValueError:
        reasons = [_unreadable(photo) for photo in part.photos]
        if not all(reasons):
            raise
        lines = [f"  {photo.id}: {reason}" for photo, reason in zip(part.photos, reasons)]
        warnings.warn("\n".join(["None of a slice could be read:", *lines]), CorruptPhotographs, stacklevel=3)
        return VectorSets(np.zeros((0, 1), np.float32), np.zeros(len(part.photos) + 1, np.int64))
    sets = sets if isinstance(sets, VectorSets) else VectorSets.of(np.asarray(sets))
    if len(sets) != len(part.photos):
        raise ValueError(f"The model encoded {len(sets)} photographs of {len(part.photos)}.")
    return sets


def _unreadable(photo: Any) -> str | None:
    try:
        images.open_image(photo.path)
    except images.CorruptImage as error:
        return reason_of(error)
    return None


def _assemble(
    out: BinaryIO, rows: BinaryIO, shape: tuple[int, int], starts: np.ndarray, described: dict[str, str]
) -> None:
    """Write a safetensors file: the length of the header, the header, the tensors end to end."""
    size = 4 * shape[0] * shape[1]
    header = {
        "__metadata__": described,
        "features": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]},
        "starts": {"dtype": "I64", "shape": [len(starts)], "data_offsets": [size, size + starts.nbytes]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of eight, so that a map of them is aligned
    out.write(len(text).to_bytes(8, "little") + text)
    shutil.copyfileobj(rows, out, 1 << 20)
    out.write(starts.tobytes())
    out.flush()
    os.fsync(out.fileno())

"""Photographs that stand in a training set and in a test set alike, found by what they show, not by their bytes.

The perceptual hash says for 16 x 16 places of the small grey picture whether it gets lighter to the right (256 bits,
ImageHash's ``dhash``). Copies that were encoded anew, resized or cut a little at the rim differ in few bits, other
photographs in about half of them. Mirrored or turned copies and details that were cut out are not found.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import imagehash
import numpy as np
from tqdm import tqdm

from fdp_core.datasets.images import CorruptImage, open_image
from fdp_core.datasets.types import Gallery, Photo

SIDE = 16
BITS = SIDE * SIDE
# Measured on photographs of SVT and ICDAR 2015: copies cut by 2 % at each side differ in 29 bits (median); of some
# 500,000 pairs of other photographs the nearest two differ in 66, of rendered scenes in 62.
DISTANCE = 48


class Pair(NamedTuple):
    """Two photographs that look alike: their ids, and in how many of 256 bits they differ."""

    a: str
    b: str
    bits: int


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """The hashes of a gallery.

    Attributes:
        ids: of the N photographs that could be read.
        codes: uint64 ``[N, 4]``, 256 bits each.
        unreadable: id -> reason of the others.
    """

    ids: tuple[str, ...]
    codes: np.ndarray
    unreadable: dict[str, str]


def fingerprints(photos: Iterable[Photo], progress: bool = False) -> Fingerprints:
    """Hash photographs, opened and turned upright; one that cannot be read is noted and left out."""
    ids, codes, unreadable = [], [], {}
    for photo in tqdm(list(photos), desc="hashing", unit="image", disable=not progress):
        try:
            bits = imagehash.dhash(open_image(photo.path), SIDE).hash
        except CorruptImage as error:
            unreadable[photo.id] = error.reason
            continue
        ids.append(photo.id)
        codes.append(np.packbits(bits).view(np.uint64))
    return Fingerprints(tuple(ids), np.array(codes, np.uint64).reshape(len(ids), BITS // 64), unreadable)


def compare(a: Fingerprints, b: Fingerprints, distance: int = DISTANCE, progress: bool = False) -> list[Pair]:
    """Find the pairs of N and M hashes that differ in at most so many bits, the most alike first, then by id.

    Raises:
        ValueError: the distance is not 0 to 256.
    """
    if not 0 <= distance <= BITS:
        raise ValueError(f"distance is {distance}; expected 0 to {BITS} bits.")
    found: list[Pair] = []
    for start, bits in _differences(a, b, progress):
        rows, columns = np.nonzero(bits <= distance)
        found += [
            Pair(a.ids[start + row], b.ids[column], int(bits[row, column]))
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
    return sorted(found, key=lambda pair: (pair.bits, pair.a, pair.b))


def nearest(a: Fingerprints, b: Fingerprints) -> np.ndarray:
    """Return how far each of the M photographs of ``b`` is from the nearest of ``a``: int ``[M]``, bits of 256."""
    least = np.full(len(b.ids), BITS)
    for _, bits in _differences(a, b):
        least = np.minimum(least, bits.min(axis=0))
    return least


def _differences(a: Fingerprints, b: Fingerprints, progress: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, differing bits uint16 ``[rows, M]``) in blocks of 16 MB, however many photographs there are."""
    block = max(1, 500_000 // max(1, len(b.ids)))
    for start in tqdm(range(0, len(a.ids), block), desc="comparing", unit="block", disable=not progress):
        differing = np.bitwise_count(a.codes[start : start + block, None] ^ b.codes[None])
        yield start, differing.sum(axis=2, dtype=np.uint16)


def near_duplicates(gallery_a: Gallery, gallery_b: Gallery, distance: int = DISTANCE) -> list[Pair]:
    """Find photographs of one gallery that look like one of another, as :func:`compare` does; 0 finds equal hashes.

    Photographs that cannot be read are left out, with a warning that names them.
    """
    both = [fingerprints(gallery.photos) for gallery in (gallery_a, gallery_b)]
    for gallery, made in zip((gallery_a, gallery_b), both, strict=True):
        if made.unreadable:
            warnings.warn(f"{gallery.name}/{gallery.split}: {unreadable_line(made)}", stacklevel=2)
    return compare(*both, distance)


def unreadable_line(made: Fingerprints) -> str:
    """Say in one line which photographs could not be read, and so were not compared; five by name."""
    told = [f"{identity} ({reason})" for identity, reason in list(made.unreadable.items())[:5]]
    more = " ..." if len(made.unreadable) > 5 else ""
    return f"{len(made.unreadable)} photographs could not be read and were not compared: {', '.join(told)}{more}"

"""SynthText's ``gt.mat``: cell arrays of image names, word quadrilaterals ``[2, 4, n]`` and padded text."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from fdp_core.datasets.formats.listed import strings
from fdp_core.datasets.readers import read_mat
from fdp_core.datasets.types import Layout, Parsed, ParseError, Photo, Word, inside

VARIABLES = ("imnames", "wordBB", "txt")  # charBB, the larger part of the file, is not read


def _cells(path: Path) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Yield (image name, float32 ``[n, 4, 2]`` quadrilaterals in pixels, texts) of each image; readme.txt."""
    # rows of txt are padded and may hold several words and line ends; wordBB is 2-D where an image has one word
    content = read_mat(path, VARIABLES)
    if absent := [name for name in VARIABLES if name not in content]:
        raise ParseError(path, None, f"expected the variables {', '.join(VARIABLES)}; not found: {', '.join(absent)}")
    cells = [np.ravel(content[name]) for name in VARIABLES]
    if len({len(cell) for cell in cells}) != 1:
        found = ", ".join(f"{len(cell)} in {name}" for name, cell in zip(VARIABLES, cells))
        raise ParseError(path, None, f"expected as many entries in each variable, found {found}")
    for number, (name, box, text) in enumerate(zip(*cells), start=1):
        try:
            (name,) = strings(name)
            name = inside(name)
        except ValueError as error:
            raise ParseError(path, None, f"entry {number}: expected one image name ({error})") from None
        try:
            box = np.asarray(box, dtype=np.float32)
        except (ValueError, TypeError):
            box = np.zeros(1, dtype=np.float32)
        if box.size == 0:
            box = np.zeros((2, 4, 0), dtype=np.float32)
        if box.shape[:2] != (2, 4) or box.ndim > 3:
            raise ParseError(path, None, f"image {name}: expected wordBB of shape [2, 4, n], found {list(box.shape)}")
        boxes = np.ascontiguousarray(box.reshape(2, 4, -1).transpose(2, 1, 0))
        yield name, boxes, "\n".join(strings(text)).split()


def read_photos(path: Path, images: Path, skip: Sequence[str] = ()) -> tuple[Photo, ...]:
    """Read all images of a ``gt.mat``, in the order of their names.

    The names in it are relative to the folder of images. ``skip`` are patterns of names to leave out, such as
    ``67/fruits_129_*``: images known to be wrong.
    """
    photos: dict[str, Photo] = {}
    left_out = 0
    for name, boxes, texts in _cells(path):
        if any(fnmatchcase(name, pattern) for pattern in skip):
            left_out += 1
            continue
        if len(boxes) != len(texts):
            problem = f"image {name}: {len(boxes)} boxes in wordBB, but {len(texts)} words in txt"
            raise ParseError(path, None, f"{problem}; expected as many")
        if name in photos:
            raise ParseError(path, None, f"image {name} occurs twice")
        try:
            words = tuple(Word(text, box) for text, box in zip(texts, boxes))
        except ValueError as error:
            raise ParseError(path, None, f"image {name}: {error}") from None
        photos[name] = Photo(name, images / name, words)
    if left_out:
        warnings.warn(f"{path}: {left_out} images known to be wrong left out ({', '.join(skip)})", stacklevel=3)
    if not photos:
        raise ParseError(path, None, "holds no image")
    return tuple(photos[name] for name in sorted(photos))


def parse_synthtext(root: Path, layout: Layout) -> Parsed:
    """Read SynthText; ``layout`` holds ``annotations`` (gt.mat), ``images`` (a folder) and ``skip`` (patterns)."""
    return Parsed(read_photos(root / layout["annotations"][0], root / layout["images"][0], layout.get("skip", ())))

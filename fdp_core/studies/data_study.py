"""What a gallery is made of, in numbers: how long its words are, and how tall its text stands in the model's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from PIL import Image

from fdp_core.datasets.types import Gallery, Photo, Queries, Word
from fdp_core.datasets.verify import count
from fdp_core.retrieval.geometry import plan_fit

_TURNED = (5, 6, 7, 8)  # values of the EXIF orientation at which width and height change places


def counts(gallery: Gallery, queries: Queries) -> dict[str, Any]:
    """Count what stands in a split.

    Args:
        gallery: N photographs.
        queries: Q queries over them.

    Returns:
        ``photographs``, ``words``, ``legible``, ``distinct`` (legible words, case-folded), ``queries``, ``right``
        (photographs a query on average, 0 without queries) and ``distractors`` (photographs that answer none).
    """
    return {
        **count(gallery),
        "distinct": len({text.casefold() for text in _legible(gallery)}),
        "queries": len(queries),
        "right": float(queries.relevant.sum() / max(1, len(queries))),
        "distractors": int((~queries.relevant.any(axis=0)).sum()),
    }


def word_lengths(gallery: Gallery, queries: Queries) -> np.ndarray:
    """Return the number of characters of each legible word, int ``[W]``; of each query where no word is annotated."""
    return np.array([len(text) for text in _legible(gallery) or queries.texts], dtype=int)


def _legible(gallery: Gallery) -> list[str]:
    return [word.text for photo in gallery.photos for word in photo.words if not word.ignore]


def text_heights(gallery: Gallery, size: int, fit: str = "letterbox") -> np.ndarray:
    """Measure how tall words stand in the model's square input.

    The height of a word is the shorter side of the smallest rectangle around its polygon, after the transform that
    the photograph goes through; of a curved word that is more than the height of its letters.

    Args:
        gallery: photographs with words; only the head of each file is read.
        size: side of the input, pixels.
        fit: see :func:`fdp_core.retrieval.geometry.plan_fit`.

    Returns:
        float ``[W]``, pixels of the input, legible words in the order of the gallery; words of photographs that cannot
        be read are left out.
    """
    found = [np.zeros(0)]
    for photo in gallery.photos:
        if any(not word.ignore for word in photo.words) and (tall := word_heights(photo, size, fit)) is not None:
            found.append(tall[[not word.ignore for word in photo.words]])
    return np.concatenate(found)


def word_heights(photo: Photo, size: int, fit: str = "letterbox") -> np.ndarray | None:
    """Measure the words of one photograph as :func:`text_heights` does.

    Returns:
        float ``[W]``, pixels of the input, in the order of ``photo.words``; None where the file cannot be read.
    """
    if (sides := _sides(photo.path)) is None:
        return None
    plan = plan_fit(*sides, size, fit)
    return np.array([_height(word, plan) for word in photo.words], dtype=float)


def _height(word: Word, plan: Any) -> float:
    around = shapely.oriented_envelope(shapely.MultiPoint(plan.apply(word.polygon)))
    if around.geom_type != "Polygon":  # all corners on one line
        return 0.0
    corners = np.array(around.exterior.coords)
    return float(np.linalg.norm(np.diff(corners[:3], axis=0), axis=1).min())


def _sides(path: Any) -> tuple[int, int] | None:
    """Return width and height of a photograph as it is seen, from the head of its file; None for a broken one."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112) in _TURNED
    except Exception:  # PIL raises many kinds; whoever decodes the photograph names it
        return None
    return (height, width) if turned else (width, height)

"""Chapter 11, the data: how tall words stand in the model's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from fdp_core.datasets.types import Gallery, Photo
from fdp_core.retrieval.geometry import plan_fit

_TURNED = (5, 6, 7, 8)  # values of the EXIF orientation at which width and height change places


def text_heights(gallery: Gallery, size: int, fit: str = "letterbox") -> np.ndarray:
    """Measure how tall words stand in the model's square input.

    The height of a word is the shorter side of the smallest rectangle around its polygon, after the transform that
    the photograph goes through; of a curved word that is more than the height of its letters.

    Only the head of each file is read. ``size`` pixels and ``fit`` are those of
    :func:`fdp_core.retrieval.geometry.plan_fit`.

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
    return np.array([_height(plan.apply(word.polygon)) for word in photo.words], dtype=float)


def _height(polygon: np.ndarray) -> float:
    around = shapely.oriented_envelope(shapely.MultiPoint(polygon))
    if around.geom_type != "Polygon":  # all corners on one line
        return 0.0
    corners = np.array(around.exterior.coords)
    return float(np.linalg.norm(np.diff(corners[:3], axis=0), axis=1).min())


def _sides(path: Path) -> tuple[int, int] | None:
    """Return width and height of a photograph as it is seen, from the head of its file; None for a broken one."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112) in _TURNED
    except Exception:  # PIL raises many kinds; whoever decodes the photograph names it
        return None
    return (height, width) if turned else (width, height)

"""One transform for a photograph and its polygons, and the localiser's target maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from PIL import Image
from shapely.geometry.base import BaseGeometry

from fdp_core.datasets.types import Word
from fdp_core.words import is_legible

MODES = ("letterbox", "centre_crop", "squash")
FILL = (123, 117, 104)  # CLIP's mean colour: zero after normalisation, as the convolutions' own padding is


@dataclass(frozen=True)
class Geometry:
    """The map from image pixels to the square canvas: ``x' = scale * x + dx``, ``y' = scale_y * y + dy``.

    Coordinates are continuous: pixel ``i`` covers ``[i, i + 1)``. ``scale_y`` differs from ``scale`` only by
    the rounding of the resized sides to whole pixels, or where a photograph is squashed. ``width`` and
    ``height`` are the photograph's.
    """

    scale: float
    dx: float
    dy: float
    size: int
    scale_y: float | None = None
    width: int = 0
    height: int = 0

    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        scale_y = self.scale if self.scale_y is None else self.scale_y
        return np.array([self.scale, scale_y]), np.array([self.dx, self.dy])

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map points ``[P, 2]`` (x, y in image pixels) to canvas pixels, float64."""
        factor, offset = self._factors()
        return np.asarray(points, dtype=np.float64).reshape(-1, 2) * factor + offset

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Map canvas points ``[P, 2]`` back to image pixels, float64."""
        factor, offset = self._factors()
        return (np.asarray(points, dtype=np.float64).reshape(-1, 2) - offset) / factor

    def squashed(self) -> Geometry:
        """Return the released code's polygon transform: S/w and S/h, whatever the image did (defect D1)."""
        if not (self.width and self.height):
            raise ValueError("This geometry does not know its photograph's width and height; make it with plan_fit().")
        return plan_fit(self.width, self.height, self.size, "squash")


def plan_fit(width: int, height: int, size: int, mode: str = "letterbox") -> Geometry:
    """Plan how a photograph of ``width`` x ``height`` pixels becomes a square canvas of side ``size``.

    The mode is "letterbox" (whole photograph, padded), "centre_crop" (shorter side fills, ends cut) or "squash".

    Raises:
        ValueError: the mode is unknown or a side is not positive.

    Source: FDP section 4.1 and the released code (resize of the shorter side and centre crop); defect D1.
    """
    if min(width, height, size) < 1:
        raise ValueError(f"Cannot fit a {width} x {height} image into {size} x {size}: every side must be positive.")
    if mode == "squash":
        return Geometry(size / width, 0.0, 0.0, size, size / height, width, height)
    if mode == "letterbox":
        ratio = size / max(width, height)
        new_w, new_h = (max(1, min(size, round(side * ratio))) for side in (width, height))
        dx, dy = (size - new_w) // 2, (size - new_h) // 2
    elif mode == "centre_crop":
        short = min(width, height)
        new_w, new_h = (size if side == short else int(size * side / short) for side in (width, height))
        dx, dy = -int(round((new_w - size) / 2.0)), -int(round((new_h - size) / 2.0))
    else:
        raise ValueError(f"Unknown fit mode {mode!r}; expected one of {', '.join(MODES)}.")
    return Geometry(new_w / width, float(dx), float(dy), size, new_h / height, width, height)


def fit_image(
    image: Image.Image, size: int, mode: str = "letterbox", fill: tuple[int, int, int] = FILL
) -> tuple[np.ndarray, Geometry]:
    """Resize an RGB photograph (bicubic) onto the square canvas, as :func:`plan_fit` plans it.

    Returns:
        The canvas, uint8 ``[size, size, 3]``, letterbox bars in the colour ``fill``, and the transform.
    """
    geometry = plan_fit(image.width, image.height, size, mode)
    new_w = round(geometry.scale * image.width)
    new_h = round((geometry.scale_y or geometry.scale) * image.height)
    resized = image.convert("RGB").resize((new_w, new_h), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (size, size), fill)
    canvas.paste(resized, (int(geometry.dx), int(geometry.dy)))  # negative offsets cut: that is the centre crop
    return np.asarray(canvas, dtype=np.uint8).copy(), geometry


def fit_array(image: np.ndarray, size: int, mode: str = "letterbox") -> tuple[np.ndarray, Geometry]:
    """Resize a photograph in memory, uint8 [h, w, 3], as :func:`fit_image` does."""
    return fit_image(Image.fromarray(image), size, mode)


def visible_words(words: Iterable[Word], geometry: Geometry) -> tuple[Word, ...]:
    """Drop words that the canvas cuts off; one with less than 0.8 of its area left stays, marked ``ignore`` (D1).

    The words' polygons are in image pixels, ``geometry`` is their photograph's transform.
    """
    canvas = shapely.box(0, 0, geometry.size, geometry.size)
    kept = []
    for word in words:
        polygon = _polygon(geometry.apply(word.polygon))
        if polygon is None or canvas.covers(polygon):
            kept.append(word)
            continue
        share = polygon.intersection(canvas).area / polygon.area
        if share > 0:
            kept.append(word if share >= 0.8 else replace(word, ignore=True))
    return tuple(kept)


def shrink_polygon(points: np.ndarray, ratio: float = 0.4, whole_pixels: bool = False) -> BaseGeometry:
    """Shrink a polygon, ``[P, 2]`` pixels, by the Vatti offset A(1 - r^2) / P; the ratio r = 1 leaves it as it is.

    With ``whole_pixels`` the vertices are cut and the offset is rounded to whole pixels, as the released code does.

    Returns:
        A shapely geometry, possibly empty (a degenerate polygon).

    Source: FDP section 3.5; Vatti clipping as in text detection (DB, PSENet).
    """
    points = np.trunc(points) if whole_pixels else np.asarray(points, dtype=np.float64)
    polygon = _polygon(points)
    if polygon is None:
        return shapely.Polygon()
    offset = polygon.area * (1 - ratio**2) / polygon.length
    shrunk = polygon.buffer(-(int(offset + 0.5) if whole_pixels else offset))
    return shapely.transform(shrunk, np.trunc) if whole_pixels and not shrunk.is_empty else shrunk


def _polygon(points: np.ndarray) -> shapely.Polygon | None:
    """Build a valid polygon, or ``None`` for one without area; crossed quadrilaterals become their hull."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(points) < 3 or not np.isfinite(points).all():
        return None
    polygon = shapely.Polygon(points)
    if not polygon.is_valid:
        polygon = polygon.convex_hull
    return polygon if polygon.geom_type == "Polygon" and polygon.area > 0 else None


def target_maps(
    words: Sequence[Word], geometry: Geometry, grid: int, shrink: float = 0.4, mode: str = "area"
) -> tuple[np.ndarray, np.ndarray]:
    """Draw what the localiser should say about each cell of the feature grid.

    Args:
        words: annotated words, polygons in image pixels.
        geometry: the transform of their photograph (or :meth:`Geometry.squashed`).
        grid: G, cells a side.
        shrink: Vatti ratio of the text kernels.
        mode: "area" gives each cell the share that text kernels cover, so small words never vanish; "nearest" asks
            one pixel of each cell, the upper left one, as the released code's down-sampling does (defect D2).

    Returns:
        Target ``[G, G]`` float32 in 0-1, rows are y; ignore mask ``[G, G]`` bool, true where illegible or non-Latin
        text stands and the localiser is not judged.

    Source: FDP section 3.5 and the released code; defect D2.
    """
    if mode not in ("area", "nearest"):
        raise ValueError(f"Unknown target mode {mode!r}; expected 'area' or 'nearest'.")
    whole = mode == "nearest"
    kernels, ignored = [], []
    for word in words:
        points = geometry.apply(word.polygon)
        if is_legible(word):
            kernels.append(shrink_polygon(points, shrink, whole_pixels=whole))
        else:
            ignored.append(_polygon(np.trunc(points) if whole else points))
    measure = _nearest if whole else _coverage
    target = measure(kernels, grid, geometry.size)
    unknown = measure([polygon for polygon in ignored if polygon is not None], grid, geometry.size)
    return target, unknown > (0 if whole else target)


def _coverage(polygons: list[BaseGeometry], grid: int, size: int) -> np.ndarray:
    """Share of each cell that the union of polygons covers, exactly."""
    union = shapely.union_all(polygons) if polygons else shapely.Polygon()
    if union.is_empty:
        return np.zeros((grid, grid), dtype=np.float32)
    edges = np.arange(grid) * (size / grid)
    x, y = np.meshgrid(edges, edges)
    cells = shapely.box(x, y, x + size / grid, y + size / grid)
    share = shapely.area(shapely.intersection(cells, union)) / (size / grid) ** 2
    return np.clip(share, 0.0, 1.0).astype(np.float32)


def _nearest(polygons: list[BaseGeometry], grid: int, size: int) -> np.ndarray:
    """Is the upper left pixel of each cell inside (or on the border of) a polygon?"""
    edges = np.floor(np.arange(grid) * (size / grid))
    x, y = np.meshgrid(edges, edges)
    hits = np.zeros((grid, grid), dtype=bool)
    for polygon in polygons:
        hits |= shapely.intersects_xy(polygon, x.ravel(), y.ravel()).reshape(grid, grid)
    return hits.astype(np.float32)

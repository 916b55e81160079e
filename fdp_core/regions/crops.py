"""Cuts words out of photographs: a quadrilateral becomes an upright rectangle of fixed size."""

from __future__ import annotations

import cv2
import numpy as np

LONG = 2.0  # how much longer than wide a rectangle must be to have a direction of reading
STANDING = 3.0  # the same for one that stands upright
LEVEL = 1e-3  # a direction that moves less sideways is vertical: it reads downwards


def upright_box(points: np.ndarray) -> np.ndarray:
    """Return the axis-parallel box around points [P, 2] as corners float32 [4, 2], clockwise from the upper left."""
    (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def tilted_box(points: np.ndarray, along: np.ndarray | None = None) -> np.ndarray:
    """Return the rectangle around points that lies along a direction.

    Args:
        points: [P, 2], pixels.
        along: the direction of reading [2]; None takes the longer side of the smallest rectangle, turned so that it
            points right, where that rectangle is long enough to have a direction (LONG, and STANDING for a steep one:
            "I" and "1" are higher than wide); else the box is upright.

    Returns:
        Corners float32 [4, 2], clockwise from the word's upper left.
    """
    points = np.asarray(points, np.float32).reshape(-1, 2)
    if along is None:
        corners = cv2.boxPoints(cv2.minAreaRect(points))
        sides = np.diff(corners[[0, 1, 2]], axis=0)
        short, along = sorted(sides, key=np.linalg.norm)
        needed = STANDING if abs(along[1]) > 1.7 * abs(along[0]) else LONG  # steeper than 60 degrees
        if np.linalg.norm(along) < needed * np.linalg.norm(short):
            along = np.array([1, 0], np.float32)
        sideways = along[0] / max(np.linalg.norm(along), 1e-6)
        along = -along if (along[1] < 0 if abs(sideways) < LEVEL else sideways < 0) else along
    length = float(np.linalg.norm(along))
    x = np.asarray(along, np.float32) / length if length > 1e-6 else np.array([1, 0], np.float32)  # a point has no side
    axes = np.stack([x, [-x[1], x[0]]])  # rows: along the word, down across it
    return (upright_box(points @ axes.T) @ axes).astype(np.float32)


def reading_direction(polygon: np.ndarray) -> np.ndarray:
    """Return the direction [2] from a word's left edge to its right one; polygons start at the upper left, clockwise.

    A polygon of 2n points has n along the top and n back along the bottom.
    """
    half = len(polygon) // 2
    left, right = (polygon[0] + polygon[-1]) / 2, (polygon[half - 1] + polygon[half]) / 2
    return np.asarray(right - left, np.float32)


def grow(quad: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Move the sides of a quadrilateral, corners [4, 2] clockwise from the upper left, outwards: float32 [4, 2].

    ``before`` is (left, top) and ``after`` (right, bottom), in heights of the quadrilateral; negative moves inwards.
    """
    x, y = quad[1] - quad[0], quad[3] - quad[0]
    x = x / max(float(np.linalg.norm(x)), 1e-6) * float(np.linalg.norm(y))
    moved = np.array(quad, np.float32)
    moved[[0, 3]] -= before[0] * x
    moved[[1, 2]] += after[0] * x
    moved[[0, 1]] -= before[1] * y
    moved[[2, 3]] += after[1] * y
    return moved


def cut(image: np.ndarray, quad: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut a quadrilateral out of an image, uint8 [h, w, 3], and make it a rectangle: uint8 [height, width, 3].

    Its corners [4, 2] are in pixels, clockwise from the word's upper left; parts outside the image repeat its edge.
    """
    return cut_all(image, np.asarray(quad)[None], height, width)[0]


def cut_all(image: np.ndarray, quads: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut many quadrilaterals, corners [R, 4, 2], out of an image, as :func:`cut` does: uint8 [R, height, width, 3]."""
    quads = np.asarray(quads, np.float32)
    out = np.zeros((len(quads), height, width, 3), np.uint8)
    sides = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2)  # above, right, below, left
    # a warp reads single pixels: warp at about the source's size, then shrink by area averaging
    middle = np.ceil([np.maximum(sides[:, 0], sides[:, 2]), np.maximum(sides[:, 1], sides[:, 3])]).T
    middle = np.clip(middle, (width, height), (8 * width, 8 * height)).astype(int)
    low = np.maximum(np.floor(quads.min(1)).astype(int) - 2, 0)  # warping the part alone is faster
    high = np.minimum(np.ceil(quads.max(1)).astype(int) + 2, image.shape[1::-1])
    source = quads - low[:, None].astype(np.float32) - 0.5
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    goals = unit * middle[:, None].astype(np.float32) - np.float32(0.5)
    boxes = np.column_stack([low, high]).tolist()
    for place, quad, goal, size, (x0, y0, x1, y1) in zip(out, source, goals, middle.tolist(), boxes):
        if x1 <= x0 or y1 <= y0:
            continue  # beside the image: black
        part, warp = image[y0:y1, x0:x1], {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
        if np.abs(quad[0] - quad[1] + quad[2] - quad[3]).max() < 1e-3:  # parallel sides: the faster way is exact
            part = cv2.warpAffine(part, cv2.getAffineTransform(quad[:3], goal[:3]), size, **warp)
        else:
            part = cv2.warpPerspective(part, cv2.getPerspectiveTransform(quad, goal), size, **warp)
        place[:] = part if size == [width, height] else cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    return out

"""From a text map to word regions: threshold, connected pieces, smallest rectangles, grown back to whole words."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from fdp_core.regions.crops import LEVEL, LONG, STANDING

# A low threshold joins words that stand close, a high one breaks faint ones: the pieces of all are kept.
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
FEW = (0.15, 0.35, 0.6, 0.8, 0.95)  # where time counts; chosen on SVT train
# Letters set wide apart: gaps of so many cells are closed before the threshold.
CLOSED = ((5, 0.3), (9, 0.3))
SHRINK = 0.65  # Vatti ratio of the kernels that the fine text map is trained on: words keep apart, and stay visible
SMALLEST = 2  # cells: smaller pieces are noise
SAME = 0.85  # overlap (intersection over union) from which two regions are one


class Pieces(NamedTuple):
    """Connected pieces of thresholded maps.

    Attributes:
        boxes: int [P, 4], left, top, width and height in cells.
        scores: float32 [P], the mean probability of the cells of each.
        names: P pairs (labels int32 [H, W], number): the piece is where the labels equal the number.
    """

    boxes: np.ndarray
    scores: np.ndarray
    names: list[tuple[np.ndarray, int]]


def find(
    probability: np.ndarray,
    stride: float = 4.0,
    limit: int = 96,
    thresholds: tuple[float, ...] | None = None,
    same: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find word regions in a text map.

    Args:
        probability: float32 [H, W] in 0..1, the map of shrunk words.
        stride: pixels per cell.
        limit: at most so many regions, the surest first.
        thresholds: in 0..1; None takes ``THRESHOLDS``.
        same: overlap in 0..1 from which two regions are one; None takes ``SAME``.

    Returns:
        (corners float32 [R, 4, 2] in pixels of the input, clockwise from the upper left; scores float32 [R], the mean
        probability of the piece, 0..1, falling).

    Source: differentiable binarisation's box formation (unclip of shrunk kernels), at several thresholds.
    """
    pieces = cut_up(probability, thresholds or THRESHOLDS)
    if not len(pieces.boxes):
        return np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32)
    low = pieces.boxes[:, :2].astype(np.float32)
    sides = pieces.boxes[:, 2:].astype(np.float32)
    grown = unshrink(*sides.T)[:, None]
    kept = distinct(low - grown, low + sides + grown, pieces.scores, limit, same or SAME)
    centres, sides, along = rectangles([pieces.names[i] for i in kept], pieces.boxes[kept])
    grown = unshrink(*sides.T)[:, None]
    x = along * (sides[:, :1] / 2 + grown)
    y = np.stack([-along[:, 1], along[:, 0]], 1) * (sides[:, 1:] / 2 + grown)
    quads = centres[:, None] + np.stack([-x - y, x - y, x + y, y - x], 1)
    return (quads * stride).astype(np.float32), pieces.scores[kept]


def cut_up(probability: np.ndarray, thresholds: tuple[float, ...]) -> Pieces:
    """Return the connected pieces of a map [H, W] at every threshold, and of the map with its gaps closed."""
    plans = [(probability, threshold) for threshold in thresholds]
    for gap, threshold in CLOSED:
        plans.append((cv2.morphologyEx(probability, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8)), threshold))
    boxes, scores, names = [np.zeros((0, 4), np.int32)], [np.zeros(0, np.float32)], []
    for plane, threshold in plans:
        count, labels, stats, _ = cv2.connectedComponentsWithStats((plane > threshold).view(np.uint8))
        total = np.bincount(labels.ravel(), plane.ravel(), count)
        numbers = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= SMALLEST)
        numbers = numbers[numbers > 0]  # 0 is the background
        boxes.append(stats[numbers, :4])
        scores.append((total[numbers] / stats[numbers, cv2.CC_STAT_AREA]).astype(np.float32))
        names += [(labels, int(number)) for number in numbers]
    return Pieces(np.concatenate(boxes), np.concatenate(scores), names)


def rectangles(names: list[tuple[np.ndarray, int]], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rectangle of each piece: the smallest one where it is long enough to have a direction, else upright.

    The rule of :func:`fdp_core.regions.crops.tilted_box`, for many pieces at once.

    Args:
        names: R pieces, as in :class:`Pieces`.
        boxes: [R, 4], their boxes.

    Returns:
        (centres float32 [R, 2]; width along the text and height, float32 [R, 2], from outer edge to outer edge of the
        cells; direction of the text float32 [R, 2], unit length, to the right), in cells.
    """
    centres, sides, angles = np.empty((3, len(names), 2), np.float32)
    for n, ((labels, number), (left, top, wide, high)) in enumerate(zip(names, boxes.tolist())):
        part = (labels[top : top + high, left : left + wide] == number).view(np.uint8)
        outline, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
        centres[n], sides[n], angles[n] = cv2.minAreaRect(outline[0])
    turn = np.deg2rad(angles[:, 0])
    along = np.stack([np.cos(turn), np.sin(turn)], 1)
    stands = sides[:, 0] < sides[:, 1]
    along[stands] = np.stack([-along[stands, 1], along[stands, 0]], 1)
    sides = np.sort(sides, axis=1)[:, ::-1].copy()
    along[np.where(np.abs(along[:, 0]) < LEVEL, along[:, 1] < 0, along[:, 0] < 0)] *= -1
    steep = np.abs(along[:, 1]) > 1.7 * np.abs(along[:, 0])  # more than 60 degrees
    upright = sides[:, 0] < np.where(steep, STANDING, LONG) * sides[:, 1]
    centres[upright] = boxes[upright, :2] + (boxes[upright, 2:] - 1) / 2
    sides[upright] = boxes[upright, 2:] - 1
    along[upright] = 1, 0
    return centres + 0.5, sides + 1, along  # OpenCV's points are the cells' middles: half a cell on every side


def unshrink(width: np.ndarray, height: np.ndarray, ratio: float = SHRINK) -> np.ndarray:
    """Return by how much a kernel's sides (lengths > 0) move out to undo the Vatti offset A(1 - r^2) / P, exactly.

    The offset d solves ``2 d (w + h + 4 d) = (1 - r^2) (w + 2 d) (h + 2 d)``.
    """
    c = 1 - ratio**2
    a, b = 8 - 4 * c, 2 * (1 - c) * (width + height)
    return (-b + np.sqrt(b * b + 4 * a * c * width * height)) / (2 * a)


def suppress(scores: np.ndarray, overlap: Callable[[int], np.ndarray], limit: int, same: float) -> list[int]:
    """Return which boxes to keep, best score first, leaving out those that nearly equal a better one.

    Args:
        scores: [P]; equal ones keep their order.
        overlap: number of a box -> [P], its intersection over union with every box, 0..1.
        limit: at most so many.
        same: overlap beyond which two boxes are one.
    """
    gone, kept = np.zeros(len(scores), bool), []
    for i in np.argsort(-scores, kind="stable"):
        if len(kept) == limit:
            break
        if not gone[i]:
            kept.append(int(i))
            gone |= overlap(i) > same
    return kept


def distinct(low: np.ndarray, high: np.ndarray, scores: np.ndarray, limit: int, same: float) -> list[int]:
    """Return which upright boxes to keep, as :func:`suppress`.

    Args:
        low: [P, 2], upper left corners; ``high``: [P, 2], lower right ones.
        scores: [P]. limit: at most so many. same: overlap in 0..1.
    """
    area = np.prod(high - low, axis=1)

    def overlap(i: int) -> np.ndarray:
        sides = np.clip(np.minimum(high[i], high) - np.maximum(low[i], low), 0, None)
        shared = sides.prod(axis=1)
        return shared / np.maximum(area[i] + area - shared, 1e-9)

    return suppress(scores, overlap, limit, same)

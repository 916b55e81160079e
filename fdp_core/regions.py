"""From a text map to word regions: threshold, connected pieces, smallest rectangles, grown back to whole words."""

from __future__ import annotations

import cv2
import numpy as np

from fdp_core import crops

# A low threshold joins words that stand close, a high one breaks faint ones: the pieces of all are kept.
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
# Letters set wide apart: gaps of so many cells are closed before the threshold.
CLOSED = ((5, 0.3), (9, 0.3))
SHRINK = 0.65  # Vatti ratio of the kernels that the fine text map is trained on: words keep apart, and stay visible
SMALLEST = 2  # cells: smaller pieces are noise
SAME = 0.85  # overlap (intersection over union) from which two regions are one


def find(probability: np.ndarray, stride: float = 4.0, limit: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Find word regions in a text map.

    Args:
        probability: float32 [H, W] in 0..1, the map of shrunk words.
        stride: pixels per cell.
        limit: at most so many regions, the surest first.

    Returns:
        (corners float32 [R, 4, 2] in pixels of the input, clockwise from the upper left; scores float32 [R], the mean
        probability of the piece, 0..1, falling).

    Source: differentiable binarisation's box formation (unclip of shrunk kernels), at several thresholds.
    """
    quads, scores = [], []
    plans = [(probability, threshold) for threshold in THRESHOLDS]
    for gap, threshold in CLOSED:
        plans.append((cv2.morphologyEx(probability, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8)), threshold))
    for plane, threshold in plans:
        count, labels, stats, _ = cv2.connectedComponentsWithStats((plane > threshold).astype(np.uint8))
        for piece in range(1, count):
            left, top, wide, high, cells = stats[piece]
            if cells < SMALLEST:
                continue
            part = labels[top : top + high, left : left + wide] == piece
            outline, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            quad = crops.tilted_box(outline[0].reshape(-1, 2) + [left, top])
            # from the outermost cells' centres to their edges: half a cell on every side
            w, h = np.linalg.norm(quad[1] - quad[0]) + 1, np.linalg.norm(quad[3] - quad[0]) + 1
            quads.append(crops.grow_by(quad, 0.5 + unshrink(w, h)) + 0.5)
            scores.append(float(plane[top : top + high, left : left + wide][part].mean()))
    if not quads:
        return np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32)
    quads, scores = np.stack(quads).astype(np.float32), np.array(scores, np.float32)
    kept = distinct(quads, scores, limit)
    return quads[kept] * np.float32(stride), scores[kept]


def unshrink(width: float, height: float, ratio: float = SHRINK) -> float:
    """Return by how much a kernel's sides (lengths > 0) move out to undo the Vatti offset A(1 - r^2) / P, exactly.

    The offset d solves ``2 d (w + h + 4 d) = (1 - r^2) (w + 2 d) (h + 2 d)``.
    """
    c = 1 - ratio**2
    a, b = 8 - 4 * c, 2 * (1 - c) * (width + height)
    return float((-b + np.sqrt(b * b + 4 * a * c * width * height)) / (2 * a))


def distinct(quads: np.ndarray, scores: np.ndarray, limit: int) -> list[int]:
    """Return which regions to keep, best score first, leaving out those that nearly equal a better one.

    Equality is judged on the upright boxes around the regions.
    """
    low, high = quads.min(1), quads.max(1)
    area = np.prod(high - low, axis=1)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if len(kept) == limit:
            break
        shared = np.prod(np.clip(np.minimum(high[i], high[kept]) - np.maximum(low[i], low[kept]), 0, None), axis=1)
        if not (shared > SAME * (area[i] + area[kept] - shared)).any():
            kept.append(int(i))
    return kept

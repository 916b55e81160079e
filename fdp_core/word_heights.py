"""Words apart by their height: how small may text be before the map and the shift lose it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from fdp_core import geometry
from fdp_core.map_quality import point_auc, ratio_interval
from fdp_core.words import is_legible

Line = tuple[np.ndarray, np.ndarray, np.ndarray]  # value, low, high of K groups


@dataclass(frozen=True, eq=False)
class WordCells:
    """W legible words.

    Attributes:
        owner: int [W], row of its photograph in the ``Looks``.
        height: float [W], the shorter side of the smallest rectangle around its polygon, pixels of the square input.
        cells: float32 [W, G*G] in 0..1, the share of each cell that it covers.
    """

    owner: np.ndarray
    height: np.ndarray
    cells: np.ndarray


def word_cells(looks: Any) -> WordCells:
    """Take the legible words of :class:`fdp_core.attention_maps.Looks` apart."""
    grid = round(looks.text.shape[1] ** 0.5)
    owner, height, cells = [], [], []
    for number, (photo, placed) in enumerate(zip(looks.photos, looks.placed)):
        for word in filter(is_legible, photo.words):
            covered = geometry.target_maps([word], placed, grid, shrink=1.0)[0].ravel()
            if covered.any():
                owner.append(number)
                height.append(min(cv2.minAreaRect(placed.apply(word.polygon).astype(np.float32))[1]))
                cells.append(covered)
    return WordCells(np.array(owner), np.array(height), np.stack(cells))


def names_of(words: WordCells, edges: Sequence[float]) -> list[str]:
    """Name the K = len(edges) + 1 groups of words by height, with their numbers of words.

    Args:
        words: as above.
        edges: rising limits in pixels; a word at a limit belongs above it.
    """
    count = np.bincount(np.digitize(words.height, edges), minlength=len(edges) + 1)
    between = [f"{low:g}–{high:g}" for low, high in zip(edges, edges[1:])]
    names = [f"< {edges[0]:g}", *between, f"≥ {edges[-1]:g}"]
    return [f"{name}\nn = {number}" for name, number in zip(names, count)]


def attention_by_height(words: WordCells, edges: Sequence[float], weights: np.ndarray, seed: int = 0) -> Line:
    """Return the attention on the words of each group over their area, with intervals over photographs: float [K] each.

    Args:
        words: as above.
        edges: limits of the groups, pixels.
        weights: attention [N, H, L]; the mean over heads counts, among the cells.
        seed: of the bootstrap.

    Returns:
        (ratio, low, high); 1 is what attention that does not look gets; NaN for a group without words.
    """
    places = weights[..., 1:].mean(axis=1)
    places = places / np.maximum(places.sum(axis=1, keepdims=True), 1e-300)
    on_word = np.einsum("wc,wc->w", places[words.owner], words.cells)
    return _grouped(words, edges, on_word, words.cells.mean(axis=1), len(weights), seed)


def auc_by_height(looks: Any, words: WordCells, edges: Sequence[float], maps: Any, seed: int = 0) -> Line:
    """Return how well a text map tells the words of each group from places without text: AUC with intervals, [K] each.

    Args:
        looks: :class:`fdp_core.attention_maps.Looks`.
        words: as above.
        edges: limits of the groups, pixels.
        maps: float [N, G, G].
        seed: of the bootstrap.
    """
    flat = np.asarray(maps).reshape(len(looks.text), -1)
    found = np.full(len(words.owner), np.nan)
    for number, (owner, cells) in enumerate(zip(words.owner, words.cells)):
        seen = looks.judged[owner]
        beside = (1 - looks.text[owner])[seen]
        if cells[seen].any() and beside.any():
            found[number] = point_auc(flat[owner][seen], cells[seen], beside)[0]
    sure = ~np.isnan(found)
    return _grouped(words, edges, np.where(sure, found, 0), sure.astype(float), len(flat), seed)


def _grouped(
    words: WordCells, edges: Sequence[float], part: np.ndarray, whole: np.ndarray, count: int, seed: int
) -> Line:
    """Sum over each photograph's words of each group, then over photographs, which are what is drawn again."""
    lines, group = [], np.digitize(words.height, edges)
    for k in range(len(edges) + 1):
        mine = group == k
        sums = [np.bincount(words.owner[mine], value[mine], count) for value in (part, whole)]
        lines.append(ratio_interval(*sums, seed=seed) if sums[1].sum() > 0 else (np.nan,) * 3)
    return tuple(np.array(column, float) for column in zip(*lines))

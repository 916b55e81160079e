"""How good a text map is, how to spoil one on purpose, and how sure a share of attention is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from fdp_core.retrieval import geometry
from fdp_core.studies.attention_study import PoolStudy
from fdp_core.words import is_legible


def point_auc(values: np.ndarray, text: np.ndarray, beside: np.ndarray | None = None) -> tuple[float, float]:
    """Compare a map with where text is: AUC and average precision over points of the photograph.

    A cell counts as text by the share of it that text covers, and as no text by the rest: no threshold is needed.

    Args:
        values: the map, float [n], larger for text; equal values share a rank.
        text: float [n] in 0..1, the share of each cell that text covers.
        beside: float [n], the share of each cell that holds none; None is ``1 - text``.

    Returns:
        (AUC, the chance that a point on text gets a higher value than a point beside it; average precision). A map
        that knows nothing gets 0.5 and the share of text.

    Raises:
        ValueError: there is no text, or nothing but text.
    """
    beside = 1 - text if beside is None else beside
    if not (text.sum() > 0 and beside.sum() > 0):
        raise ValueError("The map cannot be judged: this needs cells with text and cells without.")
    labels, twice = np.repeat([1, 0], len(values)), np.tile(np.asarray(values, np.float64), 2)
    weights = np.concatenate([text, beside]).astype(np.float64)
    area = roc_auc_score(labels, twice, sample_weight=weights)
    return float(area), float(average_precision_score(labels, twice, sample_weight=weights))


def quality(study: PoolStudy, maps: Tensor | np.ndarray) -> np.ndarray:
    """Judge a text map of every photograph on its judged cells: float [N, 2], AUC and average precision.

    Args:
        study: N photographs.
        maps: float [N, G, G], logits or probabilities.

    Returns:
        As :func:`point_auc`; NaN for a photograph whose judged cells are all text or hold none.
    """
    out = np.full((len(study), 2), np.nan)
    for number, (plane, text, seen) in enumerate(zip(np.asarray(maps), study.text, study.judged)):
        if 0 < text[seen].sum() < seen.sum():
            out[number] = point_auc(plane.ravel()[seen], text[seen])
    return out


def shuffled(maps: Tensor, share: float = 1.0, seed: int = 0) -> Tensor:
    """Spoil text maps: in each, a random share of the cells swap their values among themselves.

    The values stay the same and so does the strength of the shift; only the places are wrong.

    Args:
        maps: float [N, G, G].
        share: of the cells, 0 (as it is) to 1 (a map that knows nothing).
        seed: of places and order.

    Raises:
        ValueError: the share is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; expected 0 to 1.")
    rng = np.random.default_rng([seed, 2])
    flat = maps.flatten(1).clone()
    for row in flat:
        chosen = rng.permutation(row.numel())[: round(share * row.numel())]
        row[torch.from_numpy(chosen)] = row[torch.from_numpy(rng.permutation(chosen))]
    return flat.view_as(maps)


def of_next_photograph(maps: Tensor) -> Tensor:
    """Give each of N >= 2 photographs the text map of the next one: right in kind, wrong in place.

    Raises:
        ValueError: there is only one.
    """
    if len(maps) < 2:
        raise ValueError("One photograph has no other one: give two or more.")
    return maps.roll(1, dims=0)


def annotated(study: PoolStudy, like: Tensor) -> Tensor:
    """Return the annotators' text as a map: a localiser that makes no mistake, float [N, G, G].

    Its values are those of the map ``like``, dealt out anew by the share of text in the cells (equal shares by lot), so
    that both shift with the same strength and differ in places only.
    """
    ranked = like.flatten(1).sort(dim=1).values
    lot = np.random.default_rng(0).random(study.text.shape)
    order = torch.from_numpy(np.lexsort((lot, study.text), axis=1))
    return torch.zeros_like(ranked).scatter(1, order, ranked).view_as(like)


def ratio_interval(
    part: np.ndarray, whole: np.ndarray, rounds: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate the ratio of two sums over photographs, with a 95 % interval from drawing the photographs again.

    Args:
        part: float [N] or [N, K], such as the attention on text, or a difference of two.
        whole: float [N] > 0, such as the area of text.
        rounds: number of draws. seed: of the draws.

    Returns:
        (ratio, low, high), float [] or [K] each.

    Raises:
        ValueError: the photographs differ in number, or there are none with ``whole`` > 0.
    """
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    if len(part) != len(whole) or not whole.sum() > 0:
        raise ValueError(f"{len(part)} parts of {len(whole)} wholes, which sum to {whole.sum()}: nothing to divide by.")
    count = len(whole)
    draws = np.random.default_rng([seed, 3]).integers(0, count, (rounds, count))
    times = np.stack([np.bincount(draw, minlength=count) for draw in draws]).astype(np.float64)
    times = times[times @ whole > 0]
    below = (times @ whole)[:, None] if part.ndim == 2 else times @ whole
    low, high = np.quantile(times @ part / below, [0.025, 0.975], axis=0)
    return part.sum(axis=0) / whole.sum(), low, high


# Words by their height: how small may text be before the map and the shift lose it?

Line = tuple[np.ndarray, np.ndarray, np.ndarray]  # value, low, high of K groups


@dataclass(frozen=True, eq=False)
class WordCells:
    """W legible words.

    Attributes:
        owner: int [W], row of its photograph in the :class:`PoolStudy`.
        height: float [W], the shorter side of the smallest rectangle around its polygon, pixels of the square input.
        cells: float32 [W, G*G] in 0..1, the share of each cell that it covers.
    """

    owner: np.ndarray
    height: np.ndarray
    cells: np.ndarray


def word_cells(study: PoolStudy) -> WordCells:
    """Return the legible words of a study one by one."""
    grid = round(study.text.shape[1] ** 0.5)
    owner, height, cells = [], [], []
    for number, (photo, placed) in enumerate(zip(study.photos, study.placed)):
        for word in filter(is_legible, photo.words):
            covered = geometry.target_maps([word], placed, grid, shrink=1.0)[0].ravel()
            if covered.any():
                owner.append(number)
                height.append(min(cv2.minAreaRect(placed.apply(word.polygon).astype(np.float32))[1]))
                cells.append(covered)
    return WordCells(np.array(owner), np.array(height), np.stack(cells))


def attention_by_height(words: WordCells, edges: Sequence[float], weights: np.ndarray, seed: int = 0) -> Line:
    """Return the attention on the words of each group over their area, with intervals over photographs: float [K] each.

    Args:
        words: as above. edges: limits of the groups, pixels. seed: of the bootstrap.
        weights: attention [N, H, L]; the mean over heads counts, among the cells.

    Returns:
        (ratio, low, high); 1 is what attention that does not look gets; NaN for a group without words.
    """
    places = weights[..., 1:].mean(axis=1)
    places = places / np.maximum(places.sum(axis=1, keepdims=True), 1e-300)
    on_word = np.einsum("wc,wc->w", places[words.owner], words.cells)
    return _grouped(words, edges, on_word, words.cells.mean(axis=1), len(weights), seed)


def auc_by_height(
    study: PoolStudy, words: WordCells, edges: Sequence[float], maps: np.ndarray | Tensor, seed: int = 0
) -> Line:
    """Return how well a text map tells the words of each group from places without text: AUC with intervals, [K] each.

    Args:
        study: N photographs. words: as above. edges: limits of the groups, pixels.
        maps: float [N, G, G]. seed: of the bootstrap.
    """
    flat = np.asarray(maps).reshape(len(study.text), -1)
    found = np.full(len(words.owner), np.nan)
    for number, (owner, cells) in enumerate(zip(words.owner, words.cells)):
        seen = study.judged[owner]
        beside = (1 - study.text[owner])[seen]
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

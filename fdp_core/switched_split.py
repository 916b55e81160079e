"""What the split into function and content words does to retrieval: one trained model, each query under each context.

A query's ranking depends on its own context alone. So two rankings a query tell the result of every possible split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fdp_core import metrics
from fdp_core.distinguish import CONTENT, FUNCTION
from fdp_core.evaluation import unscored_last
from fdp_core.vector_sets import VectorSets


def ranked(sets: VectorSets, encoded: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Compute the average precision of Q query vectors [Q, D] over N photographs: [Q] float64.

    Args:
        sets: N photographs.
        encoded: float [Q, D], unit norm.
        relevant: bool [Q, N].
    """
    return metrics.average_precisions(relevant, unscored_last(sets.scores(encoded).astype(float)))


@torch.inference_mode()
def under_each_context(model: Any, sets: VectorSets, texts: Sequence[str], relevant: np.ndarray) -> np.ndarray:
    """Compute each query's average precision behind the function and behind the content context.

    Args:
        model: a trained :class:`fdp_core.model.FDP` with two prompts.
        sets: vectors of N photographs by this model.
        texts: Q queries.
        relevant: bool [Q, N].

    Returns:
        float64 [2, Q]; row 0 behind the function context, row 1 behind the content context.

    Raises:
        ValueError: the model does not have two prompts.
    """
    if model.config.prompts != "two":
        raise ValueError(f"The model was made with prompts={model.config.prompts!r}; only 'two' has a split to switch.")
    texts = list(texts)
    encoded = [model.encode_queries(texts, [kind] * len(texts)).float().cpu().numpy() for kind in (FUNCTION, CONTENT)]
    return np.stack([ranked(sets, each, relevant) for each in encoded])


def of_gallery(index: Any, gallery: Any) -> VectorSets:
    """Put an index's vectors into a gallery's order, without vectors where a photograph could not be read.

    Args:
        index: a :class:`fdp_core.retrieval.Index` of this gallery.
        gallery: N photographs.
    """
    at = {name: row for row, name in enumerate(index.ids)}
    rows = [at.get(photo.id) for photo in gallery.photos]
    found = [[] if row is None else index.features[index.starts[row] : index.starts[row + 1]] for row in rows]
    starts = np.append(0, np.cumsum([len(rows) for rows in found])).astype(np.int64)
    return VectorSets(np.concatenate([rows for rows in found if len(rows)]).astype(np.float32), starts)


def choose(both: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Take each query's average precision behind the context that a split gives it.

    Args:
        both: float [2, Q], from :func:`under_each_context`.
        kinds: int [Q], 0 function and 1 content.

    Returns:
        float [Q].

    Raises:
        ValueError: shapes disagree, or a kind is neither 0 nor 1.
    """
    kinds = np.asarray(kinds)
    if both.ndim != 2 or len(both) != 2 or kinds.shape != both.shape[1:] or not np.isin(kinds, (0, 1)).all():
        raise ValueError(f"{kinds.shape} kinds for average precisions {both.shape}; expected 0 or 1 for [2, Q].")
    return both[kinds, np.arange(both.shape[1])]


def splits(clusters: np.ndarray, function: np.ndarray) -> dict[str, np.ndarray]:
    """Return the splits that the chapter compares, each int [Q].

    Args:
        clusters: int [Q], what the model decides.
        function: bool [Q], what a list of function words says.
    """
    clusters, listed = np.asarray(clusters), np.where(function, FUNCTION, CONTENT)
    return {
        "FDP's clusters": clusters,
        "function words by a list": listed,
        "all as function words": np.full_like(listed, FUNCTION),
        "all as content words": np.full_like(listed, CONTENT),
        "FDP's clusters, swapped": 1 - clusters,
    }


def gain(values: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Measure average precisions against those of the same queries by another way.

    Args:
        values: float [Q], 0-1.
        reference: float [Q], 0-1.

    Returns:
        ``mAP``, and by how much it exceeds the other's: ``gain``, with the 95 % interval ``from``, ``to`` of the paired
        bootstrap over the queries; per cent and points.
    """
    low, high = metrics.bootstrap_interval(values - reference)
    numbers = {"mAP": values.mean(), "gain": (values - reference).mean(), "from": low, "to": high}
    return {name: 100 * float(value) for name, value in numbers.items()}


def random_splits(both: np.ndarray, kinds: np.ndarray, rounds: int = 2000, seed: int = 0) -> np.ndarray:
    """Compute the mAP of splits of the same sizes that are dealt at random: float64 [rounds], 0-1."""
    rng = np.random.default_rng(seed)
    return np.array([choose(both, rng.permutation(kinds)).mean() for _ in range(rounds)])


def bounds(both: np.ndarray) -> tuple[float, float]:
    """Return the mAP of the worst and of the best of all possible splits, 0-1; no split can leave this range."""
    return float(both.min(axis=0).mean()), float(both.max(axis=0).mean())

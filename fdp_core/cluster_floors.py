"""Floors and controls for clusterings: what luck, one cloud or a planted difference would give."""

from __future__ import annotations

import numpy as np
from sklearn import metrics
from sklearn.cluster import KMeans

from fdp_core.word_clusters import silhouette


def permutation_floor(
    labels: np.ndarray, clusters: np.ndarray, rounds: int = 500, seed: int = 0, within: np.ndarray | None = None
) -> np.ndarray:
    """Compute the adjusted Rand index for labels that were dealt anew: what agreement luck alone gives.

    Args:
        labels: [N] bool or int.
        clusters: [N] int.
        rounds: how often.
        seed: of the dealing.
        within: [N], for example the words' lengths; labels are dealt only among words that are equal in it, so that
            agreement that goes through it stays in the floor. None deals among all.

    Returns:
        float64 [rounds].
    """
    rng, labels = np.random.default_rng(seed), np.asarray(labels)
    blocks = [np.arange(len(labels))] if within is None else [np.flatnonzero(within == v) for v in np.unique(within)]
    scores = np.empty(rounds)
    for i in range(rounds):
        dealt = labels.copy()
        for block in blocks:
            dealt[block] = labels[rng.permutation(block)]
        scores[i] = metrics.adjusted_rand_score(dealt, clusters)
    return scores


def p_value(score: float, floor: np.ndarray) -> float:
    """Return the share of a floor's draws, the score counted among them, that reach the score: in (0, 1]."""
    return float((1 + (floor >= score).sum()) / (1 + len(floor)))


def one_cloud(features: np.ndarray, seed: int = 0, n_init: int = 10) -> float:
    """Compute the silhouette of 2-means on one normal cloud with the features' mean and covariance.

    2-means halves whatever it is given: a silhouette means two clusters only where it exceeds this.

    Args:
        features: float [N, D].
        seed: of the draw and of the initial centres.
        n_init: restarts.
    """
    rng = np.random.default_rng(seed)
    centred = features - features.mean(axis=0)
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)  # also where D exceeds N
    cloud = rng.standard_normal((len(features), len(scale))) * scale / np.sqrt(len(features)) @ axes
    return silhouette(cloud, KMeans(2, n_init=n_init, random_state=seed).fit_predict(cloud))


def planted(features: np.ndarray, labels: np.ndarray, distance: float, seed: int = 0) -> np.ndarray:
    """Move the labelled words away along one random direction: a control of what the measures could see.

    Args:
        features: float [N, D].
        labels: bool [N].
        distance: how far, in standard deviations of a word from the mean (root of the total variance).
        seed: of the direction.

    Returns:
        float64 [N, D].
    """
    direction = np.random.default_rng(seed).standard_normal(features.shape[1])
    spread = np.sqrt(features.var(axis=0).sum())
    return features + distance * spread * np.asarray(labels, float)[:, None] * direction / np.linalg.norm(direction)

"""Floors and controls for clusterings: what luck, one cloud or a planted difference would give."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.cluster import KMeans

from fdp_core.closed_class import is_function
from fdp_core.word_clusters import purity, silhouette, split


@dataclass(frozen=True)
class Examined:
    """What 2-means makes of one word list of N words.

    Attributes:
        words: the N words.
        points: float64 [N, D], their text features.
        function: bool [N], function words by the list.
        kinds: int [N], the clusters of the first seed: 0 function, 1 content.
        rand: adjusted Rand index with the list, one a seed.
        stability: mean adjusted Rand index between the clusterings of two seeds; 1 with one seed.
        parted: share of the seeds for which "the" and "office" fell into different clusters.
        purity: of the first seed; ``commonest`` is the share of the commonest label, its floor.
        silhouette: of the first seed's clusters; ``cloud`` of 2-means on one normal cloud; ``listed`` of the list.
        floors: name -> float [rounds]: the index for labels dealt among all words, and among words of one length.
    """

    words: tuple[str, ...]
    points: np.ndarray
    function: np.ndarray
    kinds: np.ndarray
    rand: tuple[float, ...]
    stability: float
    parted: float
    purity: float
    commonest: float
    silhouette: float
    cloud: float
    listed: float
    floors: dict[str, np.ndarray]

    def p(self, floor: str) -> float:
        """Return the share of a floor's draws that reach the index of the first seed: in (0, 1]."""
        return p_value(self.rand[0], self.floors[floor])


def examine(
    features: Callable[[list[str]], Any],
    words: Sequence[str],
    source: str = "grammar",
    seeds: int = 5,
    rounds: int = 500,
) -> Examined:
    """Cluster a word list as FDP does, and hold the clusters against a list of function words.

    Args:
        features: words -> float [N, D], un-normalised text features of the bare words.
        words: N words.
        source: the list of function words (:func:`fdp_core.closed_class.is_function`).
        seeds: how many seeds of 2-means, from 0.
        rounds: draws of each floor.
    """
    words, function = list(words), is_function(words, source)
    points = np.asarray(features(words), np.float64)
    found = [split(features, words, seed) for seed in range(seeds)]
    kinds, length = found[0].kinds, np.array([len(word) for word in words])
    pairs = [metrics.adjusted_rand_score(a.kinds, b.kinds) for a, b in itertools.combinations(found, 2)]
    return Examined(
        words=tuple(words),
        points=points,
        function=function,
        kinds=kinds,
        rand=tuple(float(metrics.adjusted_rand_score(function, each.kinds)) for each in found),
        stability=float(np.mean(pairs)) if pairs else 1.0,
        parted=float(np.mean([each.parted for each in found])),
        purity=purity(function, kinds),
        commonest=max(int(function.sum()), int((~function).sum())) / len(function),
        silhouette=silhouette(points, kinds),
        cloud=one_cloud(points),
        listed=silhouette(points, function.astype(int)),
        floors={
            "any word": permutation_floor(function, kinds, rounds),
            "word of the same length": permutation_floor(function, kinds, rounds, within=length),
        },
    )


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

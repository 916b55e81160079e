"""Is the word class in the space at all? Linear probes of text features, beside probes that only see the spelling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fdp_core.word_clusters import traits
from fdp_core.words import fold

_FOLDS = 5


def letter_groups(words: Sequence[str]) -> np.ndarray:
    """Count the groups of one to three neighbouring letters, word borders included, of N words: float64 [N, groups]."""
    counter = CountVectorizer(analyzer="char_wb", ngram_range=(1, 3))
    return counter.fit_transform([fold(word) for word in words]).toarray().astype(float)


def linear_probe(features: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
    """Measure whether a straight cut could part the labels: cross-validated area under the ROC curve.

    Args:
        features: float [N, D] (or [N], one number a word).
        labels: bool [N]; each of the two needs 5 words at least.
        seed: of the folds.

    Returns:
        A float in [0, 1], 0.5 for luck: logistic regression, five stratified folds, features standardised in each.

    Raises:
        ValueError: fewer than five words on one side.
    """
    labels = np.asarray(labels, bool)
    if min(labels.sum(), (~labels).sum()) < _FOLDS:
        sides = f"{labels.sum()} and {(~labels).sum()} words"
        raise ValueError(f"{sides} on the two sides; expected {_FOLDS} or more each.")
    learner = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    points = features.reshape(len(labels), -1)
    return float(cross_val_score(learner, points, labels, cv=folds, scoring="roc_auc").mean())


def probes(features: np.ndarray, labels: np.ndarray, words: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Probe N words' features, and beside them what knows no model: :func:`linear_probe` of each.

    Args:
        features: float [N, D].
        labels: bool [N].
        words: the N words.
        seed: of the folds and of the dealing.

    Returns:
        ``text features``; ``length`` of the words; their ``groups of letters``; and the features with ``labels dealt``
        anew.
    """
    dealt = np.random.default_rng(seed).permutation(labels)
    return {
        "text features": linear_probe(features, labels, seed),
        "length": linear_probe(traits(words)["length"].astype(float), labels, seed),
        "groups of letters": linear_probe(letter_groups(words), labels, seed),
        "labels dealt": linear_probe(features, dealt, seed),
    }

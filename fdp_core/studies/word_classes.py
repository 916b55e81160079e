"""Do word clusters hold word classes? Lists of function words, and 2-means as FDP does it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import yaml
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor

from fdp_core.distinguish import Clusters
from fdp_core.words import ASSETS, FUNCTION_WORDS, fold

# The closed classes by name, from a grammar; the file tells which.
CLASSES: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in yaml.safe_load((ASSETS / "closed_classes.yaml").read_text(encoding="utf-8")).items()
}
SOURCES: tuple[str, ...] = ("grammar", "stop words", "library")
_LISTS: dict[str, frozenset[str]] = {
    "grammar": frozenset(word for words in CLASSES.values() for word in words),
    # scikit-learn 1.9.1 (BSD-3-Clause), after the list of the Glasgow Information Retrieval Group
    "stop words": frozenset(ENGLISH_STOP_WORDS),
    "library": frozenset(FUNCTION_WORDS),  # what fills short training vocabularies up (fdp_core.words)
}


def is_function(texts: Sequence[str], source: str = "grammar") -> np.ndarray:
    """Say which texts are function words by a list.

    A word that also has an open-class reading ("may", "will", "like", "round") counts as a function word.

    Args:
        texts: N words or phrases; a phrase is one where all of its words are, an empty text is none.
        source: "grammar" (:data:`CLASSES`), "stop words" (scikit-learn's English list) or "library"
            (:data:`fdp_core.words.FUNCTION_WORDS`).
    """
    if source not in _LISTS:
        raise ValueError(f"Unknown list of function words {source!r}; expected one of {', '.join(SOURCES)}.")
    known = _LISTS[source]
    split = [fold(text).split() for text in texts]
    return np.array([bool(words) and all(word in known for word in words) for words in split], dtype=bool)


ANCHORS = ("the", "office")


def fit(
    features: Callable[[list[str]], Tensor], words: Sequence[str], seed: int = 0
) -> tuple[list[str], Tensor, Clusters]:
    """Fit FDP's two clusters on a word list, the two anchors added where they are not in it.

    Arguments as of :func:`split`. That both anchors share a cluster is not warned of: the caller can see it.

    Returns:
        (the N folded words; their features, float [N, D], on the CPU; the clusters).
    """
    listed = list(dict.fromkeys([*map(fold, words), *ANCHORS]))
    points = features(listed).detach().cpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return listed, points, Clusters.fit(points, listed, seed, 10, *ANCHORS)


def split(features: Callable[[list[str]], Tensor], words: Sequence[str], seed: int = 0) -> tuple[np.ndarray, bool]:
    """Fit FDP's two clusters on a word list, the two anchors added where they are not in it.

    ``features`` turn words into un-normalised text features, float [N, D]; ``seed`` is that of the initial centres.

    Returns:
        (int64 [N], 0 function and 1 content; whether "the" and "office" fell into different clusters: else the
        stronger lean gave the names).

    Source: FDP section 3.3; :meth:`fdp_core.distinguish.Clusters.fit`.
    """
    listed, points, clusters = fit(features, words, seed)
    kinds = dict(zip(listed, clusters.assign(points).tolist()))
    return np.array([kinds[fold(word)] for word in words]), len({kinds[anchor] for anchor in ANCHORS}) == 2

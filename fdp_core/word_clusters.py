"""Do word clusters hold word classes? Word lists, 2-means as FDP does it, and what its clusters agree with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import metrics
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from fdp_core import datasets, lexicon
from fdp_core.distinguish import Clusters
from fdp_core.words import CONTENT_WORDS, FUNCTION_WORDS, MIN_LENGTH, fold

ANCHORS = ("the", "office")
FREQUENT = 500  # words of the general frequency list, as many as FDP fits its clusters on


def single_words(texts: Iterable[str]) -> list[str]:
    """Return the distinct folded single words among texts, in their order: a phrase is no word of a class."""
    return list(dict.fromkeys(word for word in map(fold, texts) if word and len(word.split()) == 1))


def word_lists(trained: Sequence[str]) -> dict[str, list[str]]:
    """Return the word lists that need no data set.

    Args:
        trained: the words that a model's clusters are fitted on (``FDP.words``); left out where empty.

    Returns:
        ``trained``: these; ``general``: :data:`fdp_core.words.FUNCTION_WORDS` and
        ``CONTENT_WORDS``; ``frequent``: the 500 most frequent English words of three and more letters.
    """
    common = [word for word in lexicon.words() if len(word) >= MIN_LENGTH and word.isalpha()]
    general = list(FUNCTION_WORDS + CONTENT_WORDS)
    lists = {"trained": list(trained), "general": general, "frequent": common[:FREQUENT]}
    return {name: words for name, words in lists.items() if words}


def query_lists(names: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the single words among the test queries of data sets.

    Args:
        names: of sets; nothing is fetched.

    Returns:
        (name -> words, names of the sets that are not here).
    """
    found, missing = {}, []
    for name in names:
        try:
            found[name] = single_words(datasets.load(name, "test")[1].texts)
        except datasets.DatasetMissing:
            missing.append(name)
    return found, missing


@dataclass(frozen=True)
class Split:
    """2-means of one word list as FDP does it.

    Attributes:
        kinds: int64 [N], 0 function and 1 content, for the N words without added anchors.
        parted: did "the" and "office" fall into different clusters? Else their names were given by the stronger lean.
    """

    kinds: np.ndarray
    parted: bool


def split(features: Callable[[list[str]], Any], words: Sequence[str], seed: int = 0, n_init: int = 10) -> Split:
    """Fit FDP's two clusters on a word list, the two anchors added where they are not in it.

    Args:
        features: words -> float [N, D], un-normalised text features of the bare words.
        words: N words.
        seed: of the initial centres.
        n_init: restarts.

    Source: FDP section 3.3; :meth:`fdp_core.distinguish.Clusters.fit`.
    """
    with_anchors = list(dict.fromkeys([*map(fold, words), *ANCHORS]))
    points = torch.as_tensor(features(with_anchors)).detach().cpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that both anchors share a cluster: `parted` tells
        clusters = Clusters.fit(points, with_anchors, seed, n_init, *ANCHORS)
    kinds = clusters.assign(points).numpy()
    at = {word: row for row, word in enumerate(with_anchors)}
    the, office = (kinds[at[anchor]] for anchor in ANCHORS)
    return Split(kinds[[at[fold(word)] for word in words]], bool(the != office))


def purity(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Compute purity: the share of words whose label is the commonest one of their cluster.

    Never below the share of the commonest label, however the clusters were made.

    Args:
        labels: [N] bool or int.
        clusters: [N] int.

    Returns:
        A float in (0, 1].

    Source: Manning, Raghavan & Schuetze, Introduction to Information Retrieval, section 16.3.
    """
    return float(metrics.cluster.contingency_matrix(labels, clusters).max(axis=0).sum() / len(labels))


def silhouette(features: np.ndarray, clusters: np.ndarray) -> float:
    """Compute the mean silhouette of clusters, -1..1, Euclidean; NaN where there is only one cluster."""
    few = len(np.unique(clusters))
    return float(metrics.silhouette_score(features, clusters)) if 1 < few < len(clusters) else float("nan")


def traits(words: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what the spelling of N words says: length, first and last letter, number of vowels, each [N]."""
    folded = [fold(word) for word in words]
    return {
        "length": np.array([len(word) for word in folded]),
        "first letter": np.array([word[:1] for word in folded]),
        "last letter": np.array([word[-1:] for word in folded]),
        "vowels": np.array([sum(letter in "aeiou" for letter in word) for word in folded]),
    }


def shared_information(labels: dict[str, np.ndarray], clusters: np.ndarray) -> dict[str, float]:
    """Compute the adjusted mutual information of clusters with each labelling: 1 the same, 0 as much as by luck.

    Source: Vinh, Epps & Bailey (2010), Journal of Machine Learning Research 11.
    """
    return {name: float(metrics.adjusted_mutual_info_score(values, clusters)) for name, values in labels.items()}


def flat_maps(features: np.ndarray, seed: int = 0, perplexity: float = 30.0) -> dict[str, np.ndarray]:
    """Draw N words on two planes: {"PCA": [N, 2], "t-SNE": [N, 2]}, float64.

    Args:
        features: float [N, D].
        seed: of t-SNE.
        perplexity: of t-SNE, about how many neighbours count; lowered where N is small.
    """
    plane = PCA(2, random_state=seed).fit_transform(features)
    near = min(perplexity, (len(features) - 1) / 3)
    return {"PCA": plane, "t-SNE": TSNE(2, perplexity=near, init="pca", random_state=seed).fit_transform(features)}

"""Do word clusters hold word classes? Word lists, 2-means as FDP does it, and what its clusters agree with."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fdp_core.distinguish import Clusters
from fdp_core.words import CONTENT_WORDS, FUNCTION_WORDS, MIN_LENGTH, english_words, fold

# Which words of English are function words, said by grammar and not by a model: closed lists with their sources.

# The closed classes of Quirk, Greenbaum, Leech & Svartvik (1985), A Comprehensive Grammar of the English Language,
# chapter 2: they hardly ever take a new member. Written down for this project, simple one-word forms only,
# no contractions and no archaic forms; under this project's licence. Adverbs (now, very, then), numerals and
# interjections are not closed classes there and are left out, whatever stop word lists say.
CLASSES: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "determiner": """
            a an the this that these those every each either neither some any no all both half such what which whose
            my your his her its our their much many more most few fewer fewest little less least several enough
            another other
        """,
        "pronoun": """
            i me mine myself you yours yourself yourselves he him himself she hers herself it itself we us ours
            ourselves they them theirs themselves who whom whoever whomever whatever whichever one ones oneself
            someone somebody something anyone anybody anything everyone everybody everything nobody nothing none
            others
        """,
        "preposition": """
            about above across after against along amid among amongst around as at before behind below beneath beside
            besides between beyond but by concerning despite down during except for from in inside into like minus
            near of off on onto opposite out outside over past per plus regarding round since than through throughout
            till to toward towards under underneath unlike until unto up upon versus via with within without
        """,
        "conjunction": """
            and or nor if because although though unless whereas while whilst when whenever where wherever whether once
            lest yet so
        """,
        "auxiliary": """
            am is are was were be been being have has had having do does did can could may might shall should will
            would must ought cannot
        """,
        "particle": "not",
    }.items()
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
        texts: N words or phrases; a phrase is one where all of its words are.
        source: "grammar" (:data:`CLASSES`), "stop words" (scikit-learn's English list) or "library"
            (:data:`fdp_core.words.FUNCTION_WORDS`).

    Returns:
        bool [N]. An empty text is none.

    Raises:
        ValueError: the source is unknown.
    """
    if source not in _LISTS:
        raise ValueError(f"Unknown list of function words {source!r}; expected one of {', '.join(SOURCES)}.")
    known = _LISTS[source]
    split = [fold(text).split() for text in texts]
    return np.array([bool(words) and all(word in known for word in words) for words in split], dtype=bool)


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
    common = [word for word in english_words() if len(word) >= MIN_LENGTH and word.isalpha()]
    general = list(FUNCTION_WORDS + CONTENT_WORDS)
    lists = {"trained": list(trained), "general": general, "frequent": common[:FREQUENT]}
    return {name: words for name, words in lists.items() if words}


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


# Floors and controls for clusterings: what luck, one cloud or a planted difference would give.


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
        source: the list of function words (:func:`fdp_core.studies.word_classes.is_function`).
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


# Is the word class in the space at all? Linear probes of text features, beside probes that only see the spelling.

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
        "length": linear_probe(np.array([len(fold(word)) for word in words], float), labels, seed),
        "groups of letters": linear_probe(letter_groups(words), labels, seed),
        "labels dealt": linear_probe(features, dealt, seed),
    }

"""Do word clusters hold word classes? Lists of function words, and 2-means as FDP does it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor

from fdp_core.distinguish import Clusters
from fdp_core.words import FUNCTION_WORDS, fold

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


def split(features: Callable[[list[str]], Tensor], words: Sequence[str], seed: int = 0) -> tuple[np.ndarray, bool]:
    """Fit FDP's two clusters on a word list, the two anchors added where they are not in it.

    Args:
        features: words -> float [N, D], un-normalised text features of the bare words.
        words: N words.
        seed: of the initial centres.

    Returns:
        (int64 [N], 0 function and 1 content; whether "the" and "office" fell into different clusters: else the
        stronger lean gave the names).

    Source: FDP section 3.3; :meth:`fdp_core.distinguish.Clusters.fit`.
    """
    with_anchors = list(dict.fromkeys([*map(fold, words), *ANCHORS]))
    points = features(with_anchors).detach().cpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that both anchors share a cluster: the answer tells
        clusters = Clusters.fit(points, with_anchors, seed, 10, *ANCHORS)
    kinds = dict(zip(with_anchors, clusters.assign(points).tolist()))
    return np.array([kinds[fold(word)] for word in words]), len({kinds[anchor] for anchor in ANCHORS}) == 2

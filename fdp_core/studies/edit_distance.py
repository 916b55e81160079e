"""Does a small edit distance mean likeness? FDP's distracted queries suppose so; four kinds of word pairs ask.

The pairs were written down for this project before any vector was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import Levenshtein
import numpy as np
from scipy.stats import rankdata
from torch.nn.functional import normalize

from fdp_core import distract
from fdp_core.evaluation import metrics


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((a, b) for a, b in (pair.split("/") for pair in text.split()))


PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "homophones": _pairs(  # one sound, two meanings
        "sea/see sail/sale meat/meet flour/flower night/knight write/right eight/ate one/won two/too "
        "brake/break hair/hare pair/pear plane/plain road/rode steel/steal tail/tale wait/weight week/weak"
    ),
    "word forms": _pairs(  # one word, inflected or derived
        "shop/shops park/parking bake/bakery city/cities child/children foot/feet mouse/mice drive/driver "
        "sell/sold buy/bought run/running open/opened safe/safety repair/repairs woman/women go/went "
        "teach/taught clean/cleaner"
    ),
    "technical terms": _pairs(  # spelt alike, different things
        "transistor/resistor conductor/inductor router/rotor server/sensor modem/mode cathode/anode radar/sonar "
        "laser/maser bolt/volt watt/volt amp/lamp kernel/kennel cache/catch byte/bite pixel/pivot fuse/use "
        "valve/value relay/delay"
    ),
    "synonyms": _pairs(  # one meaning, different words
        "sofa/couch car/automobile shop/store exit/way-out taxi/cab begin/start big/large film/movie doctor/physician "
        "street/road phone/telephone stone/rock gift/present baby/infant forest/wood ship/vessel garbage/trash "
        "autumn/fall"
    ),
}
_STEP = 0.1  # width of the bins of the relative edit distance


class Words:
    """All words of some pairs with their distances and cosines.

    Args:
        encode: texts -> float [n, D], for example :meth:`fdp_core.backbones.Backbone.encode_text`.
        pairs: kind -> pairs of words.

    Attributes:
        texts: n different words, sorted.
        edits: int [n, n], Levenshtein distances.
        relative: float [n, n], the distances by the length of the longer word, 0 to 1.
        cosines: float [n, n].
        named: bool [n, n], the pairs themselves, upper triangle.
    """

    def __init__(self, encode: Any, pairs: Mapping[str, Sequence[tuple[str, str]]] = PAIRS) -> None:
        self.pairs = pairs
        self.texts = sorted({word for group in pairs.values() for pair in group for word in pair})
        vectors = normalize(encode(self.texts).detach().double(), dim=-1).cpu().numpy()
        lengths = np.array([len(word) for word in self.texts])
        self.cosines = vectors @ vectors.T
        self.edits = np.array([[Levenshtein.distance(a, b) for b in self.texts] for a in self.texts])
        self.relative = self.edits / np.maximum.outer(lengths, lengths)
        self.named = np.zeros(self.edits.shape, bool)
        for group in pairs.values():
            self.named[tuple(np.sort(self.rows(group), axis=0))] = True

    def rows(self, group: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return the places of a group's pairs: int [2, pairs]."""
        place = {word: row for row, word in enumerate(self.texts)}
        return np.array([[place[word] for word in pair] for pair in group]).T

    def expected(self) -> np.ndarray:
        """Return the mean cosine of unnamed pairs as far apart in spelling: float [n, n]."""
        above = np.triu(np.ones_like(self.named), 1) & ~self.named
        bins = np.floor(self.relative / _STEP + 1e-9).astype(int)
        out = np.full(self.cosines.shape, np.nan)
        for number in np.unique(bins):
            alike = above & (bins == number)
            if alike.any():
                out[bins == number] = self.cosines[alike].mean()
        return out


def correlation(words: Words, rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return Spearman's correlation of edit distance and cosine over all pairs of words, and what luck reaches.

    Args:
        words: the words.
        rounds: how often the vectors are dealt to other words.
        seed: of the dealing.

    Returns:
        (rho, the correlation below which luck falls in 1 of 40 rounds). A rho below that: likeness falls with distance.
    """
    above = np.triu_indices(len(words.texts), 1)
    ranks = rankdata(words.edits[above])
    ranks -= ranks.mean()
    square = np.zeros(words.cosines.shape)
    square[above] = rankdata(words.cosines[above])
    square += square.T
    rng = np.random.default_rng(seed)

    def rho(order: np.ndarray) -> float:
        other = square[np.ix_(order, order)][above]
        other = other - other.mean()
        return float(ranks @ other / np.sqrt((ranks @ ranks) * (other @ other)))

    luck = [rho(rng.permutation(len(words.texts))) for _ in range(rounds)]
    return rho(np.arange(len(words.texts))), float(np.quantile(luck, 0.025))


def beyond_spelling(words: Words, seed: int = 0) -> Any:
    """Ask of each kind of pair whether its words are more alike than words spelt as differently.

    Returns:
        A pandas DataFrame, a line a kind: pairs, within reach (share that FDP would take for distractors), edits
        (mean distance), cosine, expected (at the same relative distance), beyond (their difference) and its
        interval over the pairs: from, to. Pairs as far apart as no other pair are left out of the last five.

    Raises:
        ValueError: no other pair of words is as far apart as any of a kind.
    """
    import pandas as pd

    expected, lines = words.expected(), {}
    for kind, group in words.pairs.items():
        a, b = words.rows(group)
        reach = np.array([max(distract.reach(x), distract.reach(y)) for x, y in group])
        gain = words.cosines[a, b] - expected[a, b]
        kept = ~np.isnan(gain)
        if not kept.any():
            raise ValueError(f"No other words are as far apart as the {kind}; give more pairs to compare with.")
        low, high = metrics.bootstrap_interval(gain[kept], seed=seed)
        lines[kind] = {
            "pairs": len(group),
            "within reach": float((words.edits[a, b] <= reach).mean()),
            "edits": float(words.edits[a, b].mean()),
            "cosine": float(words.cosines[a, b][kept].mean()),
            "expected": float(expected[a, b][kept].mean()),
            "beyond": float(gain[kept].mean()),
            "from": low,
            "to": high,
        }
    return pd.DataFrame(lines).T

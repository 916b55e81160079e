"""Chapter 15, edit distance against similarity: a speller, a dictionary of meanings and noise do not look alike."""

import chapters
import numpy as np
import pandas as pd
import pytest
from scipy import stats

CELLS = chapters.functions("15", pairs=8)
SPELT = {"near": [("park", "part"), ("night", "light"), ("cat", "cut"), ("dog", "dig"), ("stone", "store")]}
BOTH = SPELT | {"synonyms": CELLS.SYNONYMS}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def speller(texts):
    """Say of each word which letters stand at its beginning, middle and end."""
    out = np.zeros((len(texts), 3, 128))
    for row, text in enumerate(texts):
        for at, letter in enumerate(text):
            out[row, min(3 * at // len(text), 2), ord(letter)] += 1
    return unit(out.reshape(len(texts), -1))


def dictionary(texts):
    """Give the two words of a pair of synonyms nearly the same vector, and all other words vectors of their own."""
    vectors = np.random.default_rng(0).normal(size=(len(texts), 64))
    place = {text: row for row, text in enumerate(texts)}
    for a, b in CELLS.SYNONYMS:
        vectors[place[b]] = vectors[place[a]] + 0.2 * vectors[place[b]]
    return unit(vectors)


def test_the_synonyms_are_different_words_each_pair_once():
    every = {tuple(sorted(pair)) for pair in CELLS.SYNONYMS}
    assert len(every) == len(CELLS.SYNONYMS) == 18 and all(a != b and a == a.lower() for a, b in every)


def test_gains_by_hand():
    vectors = {"cat": (1.0, 0.0), "cot": (0.6, 0.8), "dog": (0.0, 1.0), "dig": (0.0, 1.0), "cut": (0.8, 0.6)}
    kinds = {"one": [("cot", "cat")], "two": [("dog", "dig"), ("cut", "cat")]}
    gains = CELLS.beyond_spelling(lambda texts: np.array([vectors[text] for text in texts]), kinds)
    # one edit of three letters and not named: cot and cut only
    assert gains["one"] == pytest.approx([0.6 - 0.96])
    assert gains["two"] == pytest.approx([1.0 - 0.96, 0.8 - 0.96])
    alone = CELLS.beyond_spelling(lambda texts: np.eye(len(texts)), {"one": [("cat", "cot")]})
    assert len(alone["one"]) == 0, "no other pair is as far apart"


def test_meaning_beyond_spelling_is_found_only_where_it_is():
    meant, spelt = (CELLS.beyond_spelling(encode, BOTH) for encode in (dictionary, speller))
    assert meant["synonyms"].mean() > 0.5 and abs(meant["near"].mean()) < 0.3
    assert spelt["synonyms"].mean() < 0.1


def test_rank_correlation_and_its_interval():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 5, 60)
    table = pd.DataFrame({"edits": x, "near": rng.normal(size=60) - x, "noise": rng.normal(size=60)})
    rho, low, high = CELLS.rank_correlation(table, "edits", "near", rounds=200)
    assert rho == pytest.approx(stats.spearmanr(table["edits"], table["near"])[0]) and low < rho < high < 0
    _, low, high = CELLS.rank_correlation(table, "edits", "noise", rounds=200)
    assert low < 0 < high
    assert np.isnan(CELLS.rank_correlation(table.assign(edits=2), "edits", "near")).all()


def test_mix_ups_are_picked_by_distance():
    table = pd.DataFrame({"edits": [1, 1, 2, 2], "mixed up": [0.5, 1.0, 0.0, 0.0], "other": [1, 2, 1, 2]})
    assert CELLS.mix_up_auc(table, "edits")[0] == 1 and CELLS.mix_up_auc(table, "other")[0] == 0.5

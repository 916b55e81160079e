"""Edit distance against similarity: a speller, a dictionary of meanings and noise are told apart."""

import chapters
import numpy as np
import pytest
import torch

from fdp_core import distract

CELLS = chapters.functions("09")
LETTERS = "abcdefghijklmnopqrstuvwxyz-"


def speller(texts):
    """Say of each word which letters stand at its beginning, middle and end."""
    out = torch.zeros(len(texts), 3, len(LETTERS))
    for row, text in enumerate(texts):
        for at, letter in enumerate(text):
            out[row, min(3 * at // len(text), 2), LETTERS.index(letter)] += 1
    return out.flatten(1)


def noise(texts, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(len(texts), 64)))


def dictionary(texts):
    """Give the two words of a pair of synonyms nearly the same vector, and all other words vectors of their own."""
    vectors = noise(texts)
    place = {text: row for row, text in enumerate(texts)}
    for a, b in CELLS.PAIRS["synonyms"]:
        vectors[place[b]] = vectors[place[a]] + 0.2 * vectors[place[b]]
    return vectors


def test_the_pairs_are_what_they_are_called():
    assert list(CELLS.PAIRS) == ["homophones", "word forms", "technical terms", "synonyms"]
    every = [tuple(sorted(pair)) for group in CELLS.PAIRS.values() for pair in group]
    assert len(set(every)) == len(every) and all(a != b and a == a.lower() for a, b in every)
    assert {len(group) for group in CELLS.PAIRS.values()} == {18}


def test_distances_cosines_and_expectation_by_hand():
    vectors = {"cat": (1.0, 0.0), "cot": (0.6, 0.8), "dog": (0.0, 1.0), "dig": (0.0, 2.0), "cut": (0.8, 0.6)}
    words = CELLS.compare(
        lambda texts: torch.tensor([vectors[text] for text in texts]),
        {"one": [("cot", "cat")], "two": [("dog", "dig"), ("cut", "cat")]},
    )
    assert words.texts == ["cat", "cot", "cut", "dig", "dog"]
    at = {text: row for row, text in enumerate(words.texts)}
    assert words.edits[at["cat"], at["cot"]] == 1 and words.edits[at["cat"], at["dog"]] == 3
    assert words.relative[at["cat"], at["cot"]] == pytest.approx(1 / 3)
    assert words.cosines[at["cat"], at["cot"]] == pytest.approx(0.6)
    assert words.named.sum() == 3 and np.array_equal(words.named, np.triu(words.named))
    # one edit apart and not named: cot and cut only
    assert words.expected[at["cat"], at["cot"]] == pytest.approx(0.6 * 0.8 + 0.8 * 0.6)
    lines = CELLS.beyond_spelling(words)
    assert lines.loc["one", "beyond"] == pytest.approx(0.6 - 0.96)
    assert lines.loc["two", "cosine"] == pytest.approx((1.0 + 0.8) / 2)
    assert lines["within reach"].eq(1).all() and lines["edits"].eq(1).all()


def test_a_speller_follows_the_letters_and_noise_follows_nothing():
    rho, luck = CELLS.correlation(CELLS.compare(speller), rounds=200)
    assert rho < luck < 0 and rho < -0.3
    inside = [CELLS.correlation(CELLS.compare(lambda t, s=s: noise(t, s)), rounds=200) for s in range(8)]
    assert sum(rho < luck for rho, luck in inside) <= 2


def test_meaning_beyond_spelling_is_found_only_where_it_is():
    lines = CELLS.beyond_spelling(CELLS.compare(dictionary))
    assert lines.loc["synonyms", "from"] > 0.5
    assert lines.drop("synonyms")["beyond"].abs().max() < 0.2
    spelt = CELLS.beyond_spelling(CELLS.compare(speller))
    assert spelt.loc["synonyms", "from"] <= 0


def test_reach_is_that_of_the_distracted_queries():
    own = {"own": [("sea", "set"), ("sofa", "tv")]}
    lines = CELLS.beyond_spelling(CELLS.compare(speller, CELLS.PAIRS | own))
    assert distract.reach("sea") == 1 and lines.loc["own", "within reach"] == 0.5


def test_it_is_the_same_every_time():
    one, two = (CELLS.correlation(CELLS.compare(speller), rounds=50, seed=3) for _ in range(2))
    assert one == two

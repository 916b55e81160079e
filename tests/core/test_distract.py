"""Tests of the distractors: neighbour lists, choice, soft targets."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core import config, distract

DICTIONARY = [
    "coffee",
    "toffee",
    "coffees",
    "office",
    "hotel",
    "hostel",
    "motel",
    "cat",
    "car",
    "bar",
    "bat",
    "hat",
    "ca",
]


def levenshtein(a: str, b: str) -> int:
    """The slow, obvious way, beside the package Levenshtein."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


letters = st.text(alphabet="abcé†", min_size=0, max_size=8)


@settings(max_examples=40, deadline=None)
@given(dictionary=st.lists(letters, max_size=25), anchors=st.lists(letters, max_size=5))
def test_neighbour_lists_match_the_slow_way(dictionary, anchors):
    finder = distract.Distractors(dictionary, anchors)
    for word in anchors:
        limit = 2 if len(word) > 5 else 1
        slow = sorted((levenshtein(word, other), other) for other in set(dictionary) - {word})
        assert finder.neighbours(word) == [pair for pair in slow if pair[0] <= limit]


def test_candidates_are_deterministic_anchor_first_and_padding_is_masked():
    """Test 9 of the list of defects."""
    finder = distract.Distractors(DICTIONARY, seed=7)
    first, again = (
        f.sample(["cat", "coffee", "zzz"]) for f in (finder, distract.Distractors(reversed(DICTIONARY), seed=7))
    )
    assert first.texts == again.texts and torch.equal(first.distances, again.distances)
    assert [row[0] for row in first.texts] == ["cat", "coffee", "zzz"]
    assert first.texts[2] == ["zzz", "###", "###", "###", "###"]
    assert first.valid.tolist() == [[True] * 5, [True, True, True, False, False], [True] + [False] * 4]
    assert set(first.texts[0][1:]) <= {"car", "bat", "hat", "ca"} and set(first.texts[1][1:3]) == {
        "toffee",
        "coffees",
    }
    assert all(
        "###" not in word
        for row, valid in zip(first.texts, first.valid, strict=True)
        for word, v in zip(row, valid)
        if v
    )
    assert len(first.flat()) == 15 and first.to("cpu").texts is first.texts


def test_the_choice_does_not_depend_on_the_hash_seed():
    code = (
        "from fdp_core.distract import Distractors as D;"
        "print(D(['bat', 'hat', 'mat', 'rat', 'sat', 'car'], seed=1).sample(['cat']).texts)"
    )
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": other},
        capture_output=True,
        text=True,
        check=True,
    )
    here = distract.Distractors(["bat", "hat", "mat", "rat", "sat", "car"], seed=1).sample(["cat"])
    assert child.stdout.strip() == str(here.texts)


def test_nearest_come_first_and_ties_change_with_the_step():
    words = ["abcdef", *[f"abcde{c}" for c in "ghijkl"], *[f"abcd{c}{c}" for c in "ghijkl"]]
    finder = distract.Distractors(words)
    batches = [finder.sample(["abcdef"], step=step) for step in range(8)]
    assert all(batch.distances.tolist() == [[0, 1, 1, 1, 1]] for batch in batches)
    assert len({tuple(batch.texts[0]) for batch in batches}) > 1
    assert finder.sample(["abcdef"], step=3).texts == batches[3].texts


def test_a_true_word_of_the_same_image_is_no_distractor():
    finder = distract.Distractors(DICTIONARY, candidates=5)
    batch = finder.sample(["cat", "cat"], exclude=[{"cat", "car", "hotel"}, set()])
    assert "car" not in batch.texts[0] and "car" in batch.texts[1]
    with pytest.raises(ValueError, match="2 anchors need 2 sets"):
        finder.sample(["cat", "cat"], exclude=[set()])


def test_soft_targets_by_hand():
    distances = torch.tensor([[0.0, 1.0, 2.0]])
    released = distract.soft_targets(distances, "inverse")
    e = torch.tensor([10.0, 1 / 1.1, 1 / 2.1]).exp()
    torch.testing.assert_close(released[0], e / e.sum())
    five = distract.soft_targets(torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0]]), "inverse")
    assert five[0, 0].item() == pytest.approx(0.99955, abs=2e-5)  # defect C4
    better = distract.soft_targets(distances, "temperature", 0.5)
    e = torch.tensor([0.0, -2.0, -4.0]).exp()
    torch.testing.assert_close(better[0], e / e.sum())


def test_padding_has_no_mass_in_the_target():
    valid = torch.tensor([[True, True, False]])
    for kind in get_args(config.Target):
        target = distract.soft_targets(torch.tensor([[0.0, 1.0, 3.0]]), kind, valid=valid)
        assert target[0, 2] == 0 and target.sum().item() == pytest.approx(1)
        assert distract.soft_targets(torch.tensor([[0.0, 1.0, 3.0]]), kind)[0, 2] > 0


def test_bad_arguments_are_errors():
    with pytest.raises(ValueError, match="temperature, inverse"):
        distract.soft_targets(torch.zeros(1, 2), "reciprocal")
    with pytest.raises(ValueError, match="positive"):
        distract.soft_targets(torch.zeros(1, 2), temperature=0)
    with pytest.raises(ValueError, match="candidates is 0"):
        distract.Distractors([], candidates=0)
    alone = distract.Distractors(DICTIONARY, candidates=1).sample(["cat"])
    assert alone.texts == [["cat"]] and distract.Distractors([]).sample([]).distances.shape == (0, 5)

"""Tests of the content/function clusters and of the word lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
import torch

from fdp_core.distinguish import Clusters, kind_id
from fdp_core.words import CONTENT_WORDS, FUNCTION_WORDS, frequent_words, keep_for_training


@pytest.fixture
def blobs():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 8, generator=generator)
    points[30:] += 6
    words = [f"f{i}" for i in range(29)] + ["the", "office"] + [f"c{i}" for i in range(29)]
    return points, words


def test_clusters_are_named_by_their_anchors(blobs):
    points, words = blobs
    clusters = Clusters.fit(points, words)
    assert clusters.assign(points).tolist() == [0] * 30 + [1] * 30
    torch.testing.assert_close(clusters.centres, torch.stack([points[:30].mean(0), points[30:].mean(0)]))
    swapped = Clusters.fit(points, words, function_anchor="office", content_anchor="the")
    assert torch.equal(swapped.assign(points), 1 - clusters.assign(points))


def test_fit_is_seeded_and_does_not_depend_on_the_callers_random_state(blobs):
    points, words = blobs
    first = Clusters.fit(points, words, seed=3, n_init=1)
    torch.manual_seed(5)
    assert torch.equal(first.centres, Clusters.fit(points, words, seed=3, n_init=1).centres)


def test_assignment_matches_the_slow_way_at_any_precision_and_batch(blobs):
    points, words = blobs
    clusters = Clusters.fit(points, words)
    for kind in (torch.float16, torch.float32, torch.float64):
        slow = [
            min((0, 1), key=lambda c, p=point: float((p.double() - clusters.centres[c].double()).norm()))
            for point in points.to(kind)
        ]
        assert clusters.assign(points.to(kind)).tolist() == slow
        assert [int(clusters.assign(point[None])) for point in points.to(kind)] == slow


def test_clusters_are_stable_across_save_and_load(blobs, tmp_path):
    """Test 8 of the list of defects."""
    from safetensors.torch import load_file, save_file

    points, words = blobs
    clusters = Clusters.fit(points, words).with_overrides({"Shop": "function"})
    save_file({"centres": clusters.centres}, tmp_path / "c.safetensors")
    again = Clusters(load_file(tmp_path / "c.safetensors")["centres"], clusters.overrides)
    assert torch.equal(again.centres, clusters.centres) and again.overrides == clusters.overrides == {"shop": 0}
    assert torch.equal(again.assign(points), clusters.assign(points))


def test_overrides_win(blobs):
    points, words = blobs
    clusters = Clusters.fit(points, words).with_overrides({"THE": "content"})
    assert clusters.assign(points[29:31], words[29:31]).tolist() == [1, 1]
    assert clusters.assign(points[29:31]).tolist() == [0, 1]
    assert clusters.weights(points[29:30], words=["the"]).tolist() == [[0.0, 1.0]]


def test_soft_weights_sum_to_one_and_harden(blobs):
    points, words = blobs
    clusters = Clusters.fit(points, words)
    soft = clusters.weights(points, temperature=1.0)
    torch.testing.assert_close(soft.sum(1), torch.ones(60))
    assert torch.equal(soft.argmax(1), clusters.assign(points))
    middle = clusters.centres.mean(0, keepdim=True)
    torch.testing.assert_close(clusters.weights(middle), torch.tensor([[0.5, 0.5]]))
    assert clusters.weights(points, temperature=1e-3).max(1).values.min() > 0.999
    with pytest.raises(ValueError, match="positive"):
        clusters.weights(points, temperature=0)


def test_anchors_in_one_cluster_are_told(blobs):
    points, words = blobs
    renamed = [*words[:28], "office", "the", *[f"x{i}" for i in range(30)]]
    with pytest.warns(UserWarning, match="fall into one cluster"):
        clusters = Clusters.fit(points, renamed)
    assert sorted(clusters.assign(points).unique().tolist()) == [0, 1]


def test_bad_input_is_an_error(blobs):
    points, words = blobs
    with pytest.raises(ValueError, match="'the' is not in the word list"):
        Clusters.fit(points, ["word" if word == "the" else word for word in words])
    with pytest.raises(ValueError, match="60 words need features"):
        Clusters.fit(points[:3], words)
    with pytest.raises(ValueError, match="not finite"):
        Clusters.fit(points * torch.nan, words)
    with pytest.raises(ValueError, match=r"\[2, D\]"):
        Clusters(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"\[N, 8\]"):
        Clusters.fit(points, words).assign(points[:, :4])
    with pytest.raises(ValueError, match="Unknown kind"):
        kind_id("verb")


@dataclass(frozen=True)
class FakeWord:
    text: str
    ignore: bool = False
    script: str = "Latin"


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        (FakeWord("Coffee"), True),
        (FakeWord("in"), False),
        (FakeWord("###"), False),
        (FakeWord("sh###p"), False),
        (FakeWord("coffee", ignore=True), False),
        (FakeWord("coffee", script="Arabic"), False),
        (FakeWord("bistro"), False),
        (FakeWord("  "), False),
    ],
)
def test_training_filter(word, kept):
    assert keep_for_training(word, {"coffee", "in", "###"}) is kept


def test_frequent_words():
    counts = Counter({"Bar": 5, "bar": 2, "zoo": 7, "by": 99, "extraordinarily": 50, "1984": 3, "a-b-c": 9})
    assert frequent_words(counts, size=5) == ["the", "office", "bar", "zoo", "1984"]
    longer = frequent_words(counts, size=100)
    assert len(longer) == len(set(longer)) == 100
    assert set(longer) & set(FUNCTION_WORDS[:30]) and set(longer) & set(CONTENT_WORDS[:40])
    assert all(3 <= len(word) <= 13 and word == word.lower() for word in frequent_words({}, 10_000))
    with pytest.raises(ValueError, match="at least 2"):
        frequent_words(counts, size=1)

"""Metrics against hand values, scikit-learn, slow obvious loops and their invariances."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fdp_core.evaluation import metrics
from fdp_core.retrieval import vectors


@st.composite
def rankings(draw):
    queries, photographs = draw(st.integers(1, 5)), draw(st.integers(1, 14))
    levels = draw(st.integers(1, 20))  # few levels: many ties
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    scores = rng.integers(0, levels, (queries, photographs)) / 7.0 - 1.0
    relevant = rng.random((queries, photographs)) < draw(st.floats(0.05, 0.95))
    relevant[np.arange(queries), rng.integers(0, photographs, queries)] = True
    return relevant, scores


def slow_average_precision(relevant, scores):
    """Sum over distinct thresholds of (recall step) x (precision at the threshold)."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [r for r, s in zip(relevant, scores) if s >= threshold]
        recall = sum(chosen) / sum(relevant)
        total += (recall - before) * sum(chosen) / len(chosen)
        before = recall
    return total


def test_hand_values():
    assert metrics.average_precision([1, 0, 1, 0, 0], [5, 4, 3, 2, 1]) == pytest.approx(0.8333, abs=1e-4)
    assert metrics.average_precision([0, 1, 0, 0], [4, 3, 2, 1]) == pytest.approx(0.5)
    assert metrics.average_precision([1, 1, 0], [3, 2, 1]) == 1.0


def test_all_tied_is_the_prevalence():
    assert metrics.average_precision([1, 0, 1, 0, 0], np.zeros(5)) == pytest.approx(0.4)


@settings(max_examples=150, deadline=None)
@given(rankings())
def test_equals_scikit_learn_and_the_slow_loop(case):
    relevant, scores = case
    fast = metrics.average_precisions(relevant, scores)
    np.testing.assert_allclose(fast, [average_precision_score(r, s) for r, s in zip(relevant, scores)], atol=1e-12)
    np.testing.assert_allclose(fast, [slow_average_precision(r, s) for r, s in zip(relevant, scores)], atol=1e-12)
    assert metrics.mean_average_precision(relevant, scores) == pytest.approx(fast.mean())


@settings(max_examples=60, deadline=None)
@given(rankings(), st.integers(1, 20), st.integers(0, 999))
def test_the_order_of_files_never_matters(case, k, seed):
    relevant, scores = case
    order = np.random.default_rng(seed).permutation(scores.shape[1])
    for metric in (
        metrics.mean_average_precision,
        lambda r, s: metrics.recall_at(r, s, k),
        lambda r, s: metrics.precision_at(r, s, k),
    ):
        assert metric(relevant, scores) == pytest.approx(metric(relevant[:, order], scores[:, order]), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(rankings(), st.integers(1, 20))
def test_hits_at_equals_the_mean_over_tie_orders(case, k):
    relevant, scores = case
    found = metrics.hits_at(relevant, scores, k)
    for row in range(len(scores)):
        ranked = sorted(set(scores[row]), reverse=True)
        places, expected = k, 0.0
        for level in ranked:
            group = relevant[row][scores[row] == level]
            expected += group.sum() * min(1.0, places / group.size)
            places = max(0, places - group.size)
        assert found[row] == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**31))
def test_top_rows_equal_a_full_sort(count, k, levels, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, count) / 3.0
    ids = [f"{name:03d}" for name in rng.permutation(count)]
    assert vectors.top_rows(scores, ids, k) == sorted(range(count), key=lambda row: (-scores[row], ids[row]))[:k]


def test_recall_and_precision_by_hand():
    relevant = np.array([[1, 0, 1, 0], [0, 0, 0, 1]], bool)
    scores = np.array([[4, 3, 2, 1], [4, 3, 2, 1]], float)
    assert metrics.recall_at(relevant, scores, 1) == pytest.approx((0.5 + 0) / 2)
    assert metrics.recall_at(relevant, scores, 3) == pytest.approx((1 + 0) / 2)
    assert metrics.precision_at(relevant, scores, 3) == pytest.approx((2 / 3 + 0) / 2)
    assert metrics.recall_at(relevant, scores, 99) == 1.0
    assert metrics.precision_at(relevant, scores, 10) == pytest.approx((0.2 + 0.1) / 2)


def test_chunks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    relevant, scores = rng.random((17, 30)) < 0.3, rng.integers(0, 9, (17, 30)).astype(float)
    relevant[:, 0] = True
    whole = metrics.average_precisions(relevant, scores)
    monkeypatch.setattr(metrics, "_CHUNK", 61)
    np.testing.assert_array_equal(metrics.average_precisions(relevant, scores), whole)


@pytest.mark.parametrize(("relevant_count", "photographs"), [(1, 1), (1, 4), (2, 5), (3, 5), (5, 5)])
def test_chance_level_equals_the_mean_over_all_orders(relevant_count, photographs):
    scores = np.arange(photographs, 0, -1.0)
    values = [
        metrics.average_precision(np.isin(np.arange(photographs), chosen), scores)
        for chosen in itertools.combinations(range(photographs), relevant_count)
    ]
    assert metrics.random_average_precision(relevant_count, photographs) == pytest.approx(np.mean(values))


def test_group_means_skip_empty_groups():
    got = metrics.group_means(np.array([0.2, 0.4, 0.9]), {"a": [1, 1, 0], "none": [0, 0, 0], "b": [0, 0, 1]})
    assert got == {"a": {"mean": pytest.approx(0.3), "queries": 2}, "b": {"mean": 0.9, "queries": 1}}
    with pytest.raises(ValueError, match="'c'"):
        metrics.group_means(np.zeros(3), {"c": np.zeros(2, bool)})


def test_bootstrap_is_seeded_and_holds_the_mean():
    values = np.random.default_rng(1).random(80)
    low, high = metrics.bootstrap_interval(values, rounds=300)
    assert (low, high) == metrics.bootstrap_interval(values, rounds=300)
    assert low < values.mean() < high


@pytest.mark.parametrize(
    ("relevant", "scores", "message"),
    [
        (np.ones((1, 2)), np.ones((1, 3)), "one shape"),
        (np.ones(3), np.ones(3), "matrices"),
        (np.ones((1, 2)), np.array([[0.0, np.nan]]), "NaN"),
        (np.zeros((2, 2)), np.ones((2, 2)), "2 queries have no relevant"),
    ],
)
def test_bad_input_is_refused(relevant, scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.average_precisions(relevant, scores)


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="k is 0"):
        metrics.recall_at(np.ones((1, 1)), np.ones((1, 1)), 0)


# Any real type gives what float64 gives.

TYPES = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 longdouble".split()


TENSORS = (torch.bfloat16, torch.float16, torch.uint8, torch.float32)


def typed(whole, name):
    """Small whole numbers in one of the real types that a caller may have."""
    if name == "list":
        return whole.tolist()
    if isinstance(name, torch.dtype):
        return torch.from_numpy(whole).to(name).requires_grad_(name.is_floating_point)
    return whole.astype(name)


@settings(max_examples=60, deadline=None)
@given(rankings(), st.integers(1, 20), st.sampled_from([*TYPES, *TENSORS, "list"]))
def test_every_real_type_of_scores_gives_the_same(case, k, name):
    relevant, scores = case
    whole = np.round((scores + 1) * 7).astype(np.int64)  # 0..19
    given, plain = typed(whole, name), (whole > 0 if name == "bool" else whole).astype(float)
    found = metrics.average_precisions(relevant, given)
    expected = [average_precision_score(r, s) for r, s in zip(relevant, plain)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    for metric in (metrics.recall_at, metrics.precision_at):
        assert metric(relevant, given, k) == metric(relevant, plain, k)
    assert metrics.mean_average_precision(relevant, given) == pytest.approx(np.mean(expected))
    assert metrics.average_precision(relevant[0], given[0]) == pytest.approx(expected[0])
    for rate, score, right in zip(metrics.above_rate(given, relevant, ~relevant), plain, relevant):
        assert np.isnan(rate) if right.all() else rate == pytest.approx(roc_auc_score(right, score))


def test_integer_scores_by_hand():
    assert metrics.average_precision([1, 0, 0, 1], np.array([3, 0, 1, 2], np.uint8)) == 1.0
    assert metrics.average_precision([0, 1], np.array([-128, 127], np.int8)) == 1.0
    assert metrics.share_below(np.array([3], np.uint8), np.array([250, 3], np.uint8)).tolist() == [0.25]
    assert metrics.group_means([1, 3], {"a": [1, 1]})["a"]["mean"] == 2.0
    assert metrics.bootstrap_interval(np.full(5, 200, np.uint8)) == (200.0, 200.0)


@pytest.mark.parametrize("scores", [[["a", "b"]], [[1j, 2]], np.array([[None, 1.0]]), np.zeros((1, 2), "M8[s]")])
def test_what_is_no_real_number_is_refused(scores):
    relevant = np.ones((1, 2), bool)
    for call in (metrics.average_precisions, lambda r, s: metrics.hits_at(r, s, 1)):
        with pytest.raises(TypeError, match="expected real numbers"):
            call(relevant, scores)
    with pytest.raises(TypeError, match="expected real numbers"):
        metrics.share_below(scores[0], [1.0])


def test_rates_want_one_shape():
    with pytest.raises(ValueError, match="one shape"):
        metrics.above_rate(np.zeros((1, 3)), np.ones((1, 2), bool), np.ones((1, 3), bool))


def test_verdict_leaves_zero_out_or_says_nothing():
    said = [metrics.verdict(*ends) for ends in ((0.1, 2), (-2, -0.1), (-1, 1), (0, 1), (-1, 0))]
    assert said == ["better", "worse"] + 3 * ["no clear difference"]

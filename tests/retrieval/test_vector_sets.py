"""Several vectors a photograph: the best cosine counts, and a photograph without vectors has no score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core.retrieval import vectors as vectors_module
from fdp_core.retrieval.vectors import VectorSets


def unit(rng, rows, width=7):
    vectors = rng.normal(size=(rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made(counts, width=7, seed=0):
    return VectorSets(unit(np.random.default_rng(seed), sum(counts), width), np.append(0, np.cumsum(counts, dtype=int)))


def slow_scores(sets, queries):
    """Walk through queries, photographs and vectors one by one."""
    scores = np.full((len(queries), len(sets.starts) - 1), np.nan, np.float32)
    for q, query in enumerate(queries):
        for n in range(scores.shape[1]):
            own = [sets.vectors[row] for row in range(sets.starts[n], sets.starts[n + 1])]
            if own:
                scores[q, n] = max(float(np.dot(query.astype(float), vector.astype(float))) for vector in own)
    return scores


numbers = st.lists(st.integers(0, 4), max_size=9)


@settings(deadline=None, max_examples=60)
@given(counts=numbers, asked=st.integers(0, 5), block=st.integers(1, 60), seed=st.integers(0, 999))
def test_scores_equal_a_slow_loop(counts, asked, block, seed):
    sets, queries = made(counts, seed=seed), unit(np.random.default_rng(seed + 1000), asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors_module, "_BLOCK", block)
        scores = sets.scores(queries)
    assert scores.dtype == np.float32 and scores.shape == (asked, len(counts))
    np.testing.assert_allclose(scores, slow_scores(sets, queries), rtol=0, atol=1e-7)
    np.testing.assert_array_equal(np.isnan(scores), np.tile(~sets.readable, (asked, 1)))


@settings(deadline=None)
@given(counts=numbers, seed=st.integers(0, 999), data=st.data())
def test_take_keeps_the_photographs_of_the_mask(counts, seed, data):
    sets = made(counts, seed=seed)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts))), bool)
    taken = sets.take(mask)
    kept = np.flatnonzero(mask)
    assert len(taken) == len(kept)
    for place, n in enumerate(kept):
        mine, theirs = slice(*taken.starts[place : place + 2]), slice(*sets.starts[n : n + 2])
        np.testing.assert_array_equal(taken.vectors[mine], sets.vectors[theirs])


def test_scores_by_hand():
    vectors = np.array([[1, 0], [0.6, 0.8], [0, -1], [0, 1]], np.float32)
    sets = VectorSets(vectors, np.array([0, 0, 2, 3, 3, 4, 4]))  # photographs 0, 3 and 5 have none
    scores = sets.scores(np.array([[1, 0], [0, 1], [-1, 0]], np.float32))
    none = np.nan
    expected = [[none, 1, 0, none, 0, none], [none, 0.8, -1, none, 1, none], [none, -0.6, 0, none, 0, none]]
    np.testing.assert_array_equal(scores, np.array(expected, np.float32))
    assert len(sets) == 6 and sets.readable.tolist() == [False, True, True, False, True, False]
    assert not sets.single and sets.vectors.nbytes == 4 * 2 * 4
    assert sets.take(np.arange(6) != 1).single


def test_a_query_gets_the_same_scores_in_any_block(monkeypatch):
    sets, queries = made([3, 0, 1, 5] * 10, width=64), unit(np.random.default_rng(5), 23, 64)
    whole = sets.scores(queries)
    for block in (1, 200, 1000):
        monkeypatch.setattr(vectors_module, "_BLOCK", block)
        np.testing.assert_array_equal(sets.scores(queries), whole)


def test_copies_of_a_photograph_tie_wherever_they_stand():
    own = unit(np.random.default_rng(3), 3, 257)
    sets = VectorSets(np.tile(own, (11, 1)), np.arange(0, 34, 3))
    scores = sets.scores(unit(np.random.default_rng(4), 5, 257))
    assert (scores == scores[:, :1]).all()


def test_one_vector_each():
    features = unit(np.random.default_rng(0), 4)
    features[[0, 2], 3] = np.nan
    sets = VectorSets.of(features)
    assert sets.starts.tolist() == [0, 0, 1, 1, 2] and sets.single and len(sets) == 4
    np.testing.assert_array_equal(sets.vectors, features[[1, 3]])
    assert VectorSets.of(features.astype(float)).vectors.dtype == np.float32


def test_nothing_readable_and_no_photograph():
    dark = VectorSets.of(np.full((3, 2), np.nan, np.float32))
    assert np.isnan(dark.scores(np.ones((2, 2)))).all() and not dark.readable.any() and dark.single
    empty = VectorSets.of(np.empty((0, 2), np.float32))
    assert empty.scores(np.ones((2, 2))).shape == (2, 0) and len(empty) == 0


ROWS = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    "vectors, starts, message",
    [
        (ROWS[0], [0, 3], r"vectors are float32 \(3,\); expected float32 \[R, D\]"),
        (ROWS.astype(float), [0, 3], "vectors are float64"),
        (ROWS, [[0, 3]], r"starts are int64 \(1, 2\); expected int64 \[N \+ 1\]"),
        (ROWS, [0.0, 3.0], "starts are float64"),
        (ROWS, np.empty(0, np.int64), r"starts are int64 \(0,\)"),
        (ROWS, [1, 3], "starts go from 1 to 3; expected 0 to 3"),
        (ROWS, [0, 2], "starts go from 0 to 2; expected 0 to 3"),
        (ROWS, [0, 2, 1, 3], "go down after place 1"),
        (ROWS * np.float32(np.nan), [0, 3], "vectors hold NaN"),
    ],
)
def test_parts_that_do_not_fit_are_refused(vectors, starts, message):
    with pytest.raises(ValueError, match=message):
        VectorSets(vectors, np.asarray(starts))


def test_other_bad_input_is_refused():
    sets = VectorSets.of(ROWS)
    with pytest.raises(ValueError, match=r"features are \(3,\); expected \[N, D\]"):
        VectorSets.of(ROWS[0])
    for queries in (np.ones((1, 2)), np.ones(3)):
        with pytest.raises(ValueError, match=r"queries are .*; expected \[Q, 3\]"):
            sets.scores(queries)
    for mask in (np.array([0, 1, 2]), np.ones(2, bool)):
        with pytest.raises(ValueError, match=r"The mask is .*; expected bool \(3,\)"):
            sets.take(mask)


@settings(deadline=None, max_examples=80)
@given(counts=numbers, k=st.integers(1, 12), copies=st.booleans(), seed=st.integers(0, 999))
def test_nearest_finds_what_the_scores_say(counts, k, copies, seed):
    sets = made(counts, seed=seed)
    if copies and len(sets.vectors):
        sets = VectorSets(np.ascontiguousarray(np.resize(sets.vectors[:2], sets.vectors.shape)), sets.starts)
    query = unit(np.random.default_rng(seed + 1000), 1)[0]
    places, found = sets.nearest(query, k)
    scores = sets.scores(query[None])[0]
    np.testing.assert_array_equal(found, scores[places])
    readable = np.flatnonzero(sets.readable)
    assert len(places) >= min(k, len(readable)) and set(places) <= set(readable)
    others = np.setdiff1d(readable, places)
    if len(others):  # whoever was left out is below the last of the k
        assert scores[others].max() < np.sort(found)[-k]


def test_nearest_refuses_another_width_and_no_places():
    with pytest.raises(ValueError, match=r"\(5,\).*\(7,\)"):
        made([1]).nearest(np.ones(5, np.float32), 1)
    with pytest.raises(ValueError, match="k is 0"):
        made([1]).nearest(np.ones(7, np.float32), 0)

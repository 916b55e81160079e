"""The large index: the products of the whole vectors, sure only where it is, and right wherever it says so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core.studies import large_index, vector_search
from fdp_core.studies.large_index import LargeIndex, exact, recall


def queries_in(dimensions, count, width=24, leak=0.0, seed=0):
    """Queries that fill a few dimensions, with a little in all others."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(99).normal(size=(width, dimensions)))[0]
    made = rng.normal(size=(count, dimensions)) @ basis.T + leak * rng.normal(size=(count, width))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def test_exact_is_a_sorted_list():
    vectors = vector_search.gaussian(50, 24)
    vectors[7] = vectors[31]  # they tie: the first row comes first
    asked = np.concatenate([vectors[31:32], queries_in(3, 4)])
    found = exact(vectors, asked, 6)
    for query, rows, products in zip(asked, found.rows, found.products):
        order = sorted(range(50), key=lambda row: (-float(vectors[row] @ query), row))
        assert rows.tolist() == order[:6]
        np.testing.assert_allclose(products, (vectors @ query)[order[:6]], rtol=1e-6)
    assert found.rows[0, :2].tolist() == [7, 31] and found.sure.all()


def test_a_subspace_that_holds_the_queries_loses_nothing():
    vectors, asked = vector_search.gaussian(3000, 24), queries_in(5, 40)
    index = LargeIndex.build(vectors, queries_in(5, 200, seed=1))
    assert index.basis.shape == (5, 24) and index.short.shape == (3000, 5)
    found, right = index.search(asked, 10, 20), exact(vectors, asked, 10)
    np.testing.assert_array_equal(found.rows, right.rows)
    np.testing.assert_allclose(found.products, right.products, rtol=1e-5)
    assert found.sure.all()


@settings(deadline=None, max_examples=60)
@given(
    leak=st.sampled_from([0.0, 0.02, 0.1, 0.5]),
    candidates=st.integers(5, 300),
    width=st.integers(1, 24),
    seed=st.integers(0, 99),
)
def test_what_is_called_sure_is_right(leak, candidates, width, seed):
    vectors, asked = vector_search.gaussian(200, 24, seed), queries_in(5, 8, leak=leak, seed=seed)
    index = LargeIndex.build(vectors, queries_in(5, 100, leak=0.5, seed=seed + 1), width)
    found, right = index.search(asked, 5, candidates), exact(vectors, asked, 5)
    # products, not rows: two ways of adding them up may swap what nearly ties
    np.testing.assert_allclose(found.products[found.sure], right.products[found.sure], atol=1e-5)
    assert found.sure.all() or candidates < 200
    # each found row has the product that it is said to have
    for query, rows, products in zip(asked, found.rows, found.products):
        np.testing.assert_allclose(products, vectors[rows] @ query, rtol=1e-5, atol=1e-6)


def test_queries_outside_of_the_subspace_are_not_called_sure():
    vectors, asked = vector_search.gaussian(2000, 24), vector_search.gaussian(20, 24, seed=5)
    index = LargeIndex.build(vectors, queries_in(3, 100))
    found = index.search(asked, 10, 30)
    assert recall(found.rows, exact(vectors, asked, 10).rows) < 0.6
    assert not found.sure.any()


def test_short_copies_may_lie_in_a_file(tmp_path):
    vectors, sample = vector_search.gaussian(300, 24), queries_in(5, 50)
    there = LargeIndex.build(vectors, sample, file=tmp_path / "short.npy")
    here = LargeIndex.build(vectors, sample)
    assert isinstance(there.short, np.memmap) and len(there) == 300
    np.testing.assert_array_equal(there.short, here.short)
    np.testing.assert_array_equal(there.search(sample, 3).rows, here.search(sample, 3).rows)


def test_blocks_do_not_matter(monkeypatch):
    vectors, sample = vector_search.gaussian(100, 24), queries_in(5, 50)
    whole = LargeIndex.build(vectors, sample)
    monkeypatch.setattr(large_index, "_BLOCK", 7)
    parts = LargeIndex.build(vectors, sample)
    np.testing.assert_allclose(whole.short, parts.short, atol=1e-6)
    assert parts.rest == pytest.approx(whole.rest, abs=1e-5)


def test_recall():
    assert recall(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 1], [6, 9]])) == 0.75
    with pytest.raises(ValueError, match="one or more"):
        recall(np.zeros((0, 3)), np.zeros((0, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, q: LargeIndex.build(v.astype(np.float64), q), "float64"),
        (lambda v, q: LargeIndex.build(v[:0], q), "R above 0"),
        (lambda v, q: LargeIndex.build(v, q[:, :5]), r"\[Q, 24\]"),
        (lambda v, q: LargeIndex.build(v, q[:0]), "no sample queries"),
        (lambda v, q: LargeIndex.build(v, q, 25), "1 to 24"),
        (lambda v, q: LargeIndex.build(v, q).search(q, 0), "k is 0"),
        (lambda v, q: LargeIndex.build(v, q).search(q, 10, 9), "at least k = 10"),
        (lambda v, q: exact(v, q, 61), "1 to 60"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        change(vector_search.gaussian(60, 24), queries_in(5, 50, leak=0.1))


def test_made_vectors_lie_near_real_ones():
    real = vector_search.gaussian(40, 24)
    made = vector_search.jittered(real, 500, noise=0.1)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    chance = vector_search.gaussian(500, 24, seed=3)
    assert (made @ real.T).max(axis=1).mean() > (chance @ real.T).max(axis=1).mean() + 0.1
    np.testing.assert_array_equal(made, vector_search.jittered(real, 500, noise=0.1))
    assert not np.array_equal(made, vector_search.jittered(real, 500, noise=0.1, seed=1))
    with pytest.raises(ValueError, match="at least 2"):
        vector_search.jittered(real[:1], 5)


def test_neighbours_are_the_nearest_and_not_oneself():
    real = vector_search.gaussian(30, 24)
    alike = real @ real.T - 2 * np.eye(30)
    near = vector_search.neighbours(real, 3)
    assert [set(row) for row in near] == [set(row) for row in np.argsort(-alike, axis=1)[:, :3]]


def test_turning_keeps_products():
    real = vector_search.gaussian(30, 24)
    wide = vector_search.turned(real, 40)
    np.testing.assert_allclose(wide @ wide.T, real @ real.T, atol=1e-5)
    with pytest.raises(ValueError, match="at least 24"):
        vector_search.turned(real, 23)

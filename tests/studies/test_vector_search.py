"""Search among made vectors: they lie as real ones do, and exact search is a sorted list."""

import numpy as np
import pytest

from fdp_core.studies import vector_search
from fdp_core.studies.vector_search import exact, recall


def test_exact_is_a_sorted_list():
    vectors = vector_search.gaussian(50, 24)
    vectors[7] = vectors[31]  # they tie: the first row comes first
    queries = np.concatenate([vectors[31:32], vector_search.gaussian(4, 24, seed=5)])
    found = exact(vectors, queries, 6)
    for query, rows in zip(queries, found):
        order = sorted(range(50), key=lambda row: (-float(vectors[row] @ query), row))
        assert rows.tolist() == order[:6]
    assert found[0, :2].tolist() == [7, 31]


@pytest.mark.parametrize("count", [1, 9])
def test_exact_gives_all_rows_of_few_vectors(count):
    assert exact(vector_search.gaussian(count, 24), vector_search.gaussian(2, 24, seed=1)).shape == (2, count)


def test_recall():
    assert recall(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 1], [6, 9]])) == 0.75
    with pytest.raises(ValueError, match="one or more"):
        recall(np.zeros((0, 3)), np.zeros((0, 3)))


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

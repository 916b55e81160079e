"""The one evaluation on hand-made systems whose numbers are known."""

import dataclasses

import numpy as np
import pytest
from eval_fakes import FakeBackbone, HandSystem, gallery, queries
from sklearn.metrics import average_precision_score

from fdp_core.evaluation.report import evaluate
from fdp_core.retrieval import systems
from fdp_core.retrieval.vectors import VectorSets


class Table:
    """Scores given as a matrix."""

    name = "table"

    def __init__(self, values):
        self.values = np.asarray(values, float)

    def scores(self, gallery, texts):
        return self.values


def test_a_perfect_system(tmp_path):
    report = evaluate(HandSystem(), gallery(tmp_path), queries(), ks=(1, 5))
    assert report.mean_ap == 1.0 and report.recall_at == {1: 1.0, 5: 1.0}
    assert report.precision_at == {1: 1.0, 5: pytest.approx(0.2)}
    assert report.protocol == "toy protocol" and report.set == "toy" and report.manifest_hash == "manifest"
    assert set(report.seconds) == {"gallery", "queries", "ranking"}
    assert report.values()["mAP"] == 1.0 and report.ids[0] == "00.png"


def test_numbers_equal_scikit_learn(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (5, 5)).astype(float)
    report = evaluate(Table(scores), gallery(tmp_path), queries())
    expected = [average_precision_score(r, s) for r, s in zip(queries().relevant, scores)]
    np.testing.assert_allclose(report.ap, expected)
    assert report.mean_ap == pytest.approx(np.mean(expected))
    assert list(report.ap[report.best()]) == sorted(report.ap, reverse=True)
    assert list(report.ap[report.worst(2)]) == sorted(report.ap)[:2]


def test_unreadable_photographs_stay_in_the_gallery_and_come_last(tmp_path):
    report = evaluate(HandSystem(unreadable=(2,)), gallery(tmp_path), queries())
    assert report.unreadable == ("02.png",) and len(report.ids) == 5
    assert report.ap[2] == pytest.approx(1 / 5)
    assert report.mean_ap == pytest.approx((4 + 0.2) / 5)
    assert report.ranking("w0")[-1] == 2
    values = np.arange(25.0).reshape(5, 5)
    values[:, 4] = np.nan
    assert evaluate(Table(values), gallery(tmp_path), queries()).unreadable == ("04.png",)


def test_groups_come_from_the_set_else_from_kinds_else_from_the_system(tmp_path):
    shown, asked, values = gallery(tmp_path), queries(), np.eye(5)
    values[3:] = -values[3:]
    kinds = np.array([0, 0, 0, 1, 1])
    by_kinds = evaluate(Table(values), shown, asked, kinds=kinds)
    assert by_kinds.groups["function"] == {"mean": 1.0, "queries": 3}
    assert by_kinds.groups["content"] == {"mean": pytest.approx(0.2), "queries": 2}
    assert by_kinds.groups_from == {"function": "clusters", "content": "clusters"}
    system = Table(values)
    system.assign_kinds = lambda texts: kinds
    assert evaluate(system, shown, asked).groups == by_kinds.groups
    own = dataclasses.replace(asked, groups={"function": kinds == 1, "phrase": kinds == 0})
    report = evaluate(system, shown, own)
    assert report.groups["function"]["queries"] == 2 and "content" not in report.groups
    assert report.groups_from == {"function": "set", "phrase": "set"}
    assert report.values()["mAP/phrase"] == 1.0


def test_raw_scores_are_ranked_and_equal_ones_go_by_id(tmp_path):
    report = evaluate(Table(np.full((5, 5), 0.25)), gallery(tmp_path), queries())
    assert report.ranking(0) == [0, 1, 2, 3, 4] and report.ranking(0, 2) == [0, 1]
    assert report.mean_ap == pytest.approx(0.2)
    np.testing.assert_array_equal(report.scores, np.full((5, 5), 0.25))


def test_copies_of_a_photograph_tie_wherever_they_stand(tmp_path):
    rng = np.random.default_rng(3)
    row = rng.normal(size=257).astype(np.float32)

    class Copies(HandSystem):
        def encode_gallery(self, gallery):
            return np.tile(row / np.linalg.norm(row), (5, 1))

        def encode_queries(self, texts):
            return rng.normal(size=(5, 257)).astype(np.float32)

    report = evaluate(Copies(), gallery(tmp_path), queries())
    assert (report.scores == report.scores[:, :1]).all()


class Sets(HandSystem):
    """Several vectors a photograph; query ``w<i>`` is axis i."""

    def __init__(self, vectors, starts):
        super().__init__(vectors.shape[1])
        self.sets = VectorSets(vectors.astype(np.float32), np.array(starts))

    def encode_gallery(self, gallery):
        return self.sets


def test_the_best_of_several_vectors_counts(tmp_path):
    # Photograph 0 also shows the word of photograph 1, less well; 2 has no vector; 3 also shows the word of 4, better.
    vectors = np.eye(5)[[0, 1, 1, 3, 4, 4]]
    vectors[1] = [0, 0.6, 0.8, 0, 0]
    vectors[5] = [0, 0, 0, 0.6, 0.8]
    report = evaluate(Sets(vectors, [0, 2, 3, 3, 5, 6]), gallery(tmp_path), queries())
    best = np.array([[1, 0, 0, 0], [0.6, 1, 0, 0], [0.8, 0, 0, 0], [0, 0, 1, 0.6], [0, 0, 1, 0.8]], np.float32)
    np.testing.assert_array_equal(report.scores[:, [0, 1, 3, 4]], best.astype(float))
    assert report.unreadable == ("02.png",) and report.ranking("w1") == [1, 0, 3, 4, 2]
    np.testing.assert_allclose(report.ap, [1, 1, 1 / 5, 1, 1 / 2])


def test_sets_of_one_vector_equal_a_matrix_bit_by_bit(tmp_path):
    rng = np.random.default_rng(7)
    features, encoded = rng.normal(size=(2, 5, 300)).astype(np.float32)
    features[3] = np.nan

    class Matrix(HandSystem):
        def encode_gallery(self, gallery):
            return features

        def encode_queries(self, texts):
            return encoded

    class One(Matrix):
        def encode_gallery(self, gallery):
            return VectorSets.of(features)

    matrix, one = (evaluate(system(), gallery(tmp_path), queries()) for system in (Matrix, One))
    np.testing.assert_array_equal(one.scores, matrix.scores)
    products = (encoded.astype(np.float64) @ features.astype(np.float64).T).astype(np.float32)
    np.testing.assert_array_equal(matrix.scores[:, [0, 1, 2, 4]], products[:, [0, 1, 2, 4]])
    assert one.unreadable == matrix.unreadable == ("03.png",) and one.scores.dtype == np.float64


def test_sets_of_another_gallery_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"3 photographs with \(5, 5\) .*expected \[5, D\]"):
        evaluate(Sets(np.eye(5), [0, 2, 3, 5]), gallery(tmp_path), queries())


def test_table_tells_the_first_rank(tmp_path):
    report = evaluate(Table(np.tile([5.0, 4, 3, 2, 1], (5, 1))), gallery(tmp_path), queries())
    assert report.table()["first rank"].tolist() == [1, 2, 3, 4, 5]


def test_chance_lies_near_its_expectation(tmp_path):
    from fdp_core.evaluation import metrics

    rng = np.random.default_rng(0)
    relevant = rng.random((300, 40)) < 0.1
    relevant[:, 0] = True
    shown = gallery(tmp_path, 40)
    asked = dataclasses.replace(queries(), texts=tuple(map(str, range(300))), relevant=relevant)
    report = evaluate(systems.chance(seed=1), shown, asked)
    expected = metrics.random_average_precision(relevant.sum(axis=1), 40).mean()
    assert report.mean_ap == pytest.approx(expected, abs=0.03)
    again = evaluate(systems.chance(seed=1), shown, asked)
    np.testing.assert_array_equal(report.scores, again.scores)


def test_queries_that_the_backbone_cannot_spell_are_named(tmp_path):
    asked = dataclasses.replace(queries(), texts=("\u6f22", "w1", "w2", "w3", "w4"))
    with pytest.warns(UserWarning, match="cannot spell '\u6f22': 1 of 5 queries"):
        evaluate(systems.zero_shot(FakeBackbone(), 64, progress=False), gallery(tmp_path), asked)


def test_bad_input_is_refused(tmp_path):
    shown = gallery(tmp_path)
    with pytest.raises(ValueError, match="relevance matrix"):
        evaluate(HandSystem(), shown, queries(4))
    with pytest.raises(ValueError, match="scores of shape"):
        evaluate(Table(np.eye(4)), shown, queries())
    with pytest.raises(TypeError, match=r"zero_shot\(backbone\)"):
        evaluate(FakeBackbone(), shown, queries())
    nobody = dataclasses.replace(queries(), relevant=np.zeros((5, 5), bool))
    with pytest.raises(ValueError, match="no relevant"):
        evaluate(HandSystem(), shown, nobody)

    class Short(HandSystem):
        def encode_gallery(self, gallery):
            return super().encode_gallery(gallery)[:3]

    with pytest.raises(ValueError, match=r"expected \[5, D\]"):
        evaluate(Short(), shown, queries())


def test_one_nan_is_told_by_the_photographs_name(tmp_path):
    class Some:
        name = "some"

        def scores(self, shown, texts):
            scores = np.eye(5)
            scores[2, 3] = np.nan
            return scores

    with pytest.warns(UserWarning, match=r"some gave no number \(NaN\) for some queries on 03\.png; these count"):
        report = evaluate(Some(), gallery(tmp_path), queries())
    assert report.unreadable == ("03.png",)

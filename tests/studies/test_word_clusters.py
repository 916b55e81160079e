"""Tests of the word clusters' measures, floors, lists, switched splits and figures."""

from __future__ import annotations

from types import SimpleNamespace

import chapters
import numpy as np
import pytest
import tiny
import torch

from fdp_core import config
from fdp_core.evaluation import metrics
from fdp_core.model import FDP
from fdp_core.retrieval.vectors import VectorSets
from fdp_core.studies import contexts, word_classes
from fdp_core.words import CONTENT_WORDS, FUNCTION_WORDS

CELLS = chapters.functions("03", function_words="grammar", seeds=2)
WORDS = list(FUNCTION_WORDS[:40] + CONTENT_WORDS[:40]) + ["the", "office"]


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    return rng.standard_normal((len(WORDS), 12)), word_classes.is_function(WORDS, "library")


@pytest.fixture(scope="module")
def model():
    made = FDP(tiny.backbone(), config.preset("default", image_size=64, probe="off")).eval()
    made.clusters = tiny.clusters(made.backbone)
    return made


def by_word(points):
    return lambda words: torch.from_numpy(points[[WORDS.index(word) for word in words]])


# lists


def test_closed_classes_are_folded_single_words_and_hold_no_content_word():
    for words in word_classes.CLASSES.values():
        assert all(word == word.lower() and word.isalpha() for word in words)
        assert len(words) == len(set(words))
    assert not word_classes.is_function(CONTENT_WORDS).any()


def test_a_phrase_is_a_function_phrase_only_where_all_of_its_words_are():
    assert word_classes.is_function(["Of The", "of coffee", "", " with "]).tolist() == [True, False, False, True]


def test_the_lists_differ_and_an_unknown_one_is_named():
    assert [word_classes.is_function(["bill"], source)[0] for source in word_classes.SOURCES] == [False, True, False]
    assert [word_classes.is_function(["now"], source)[0] for source in word_classes.SOURCES] == [False, True, True]
    with pytest.raises(ValueError, match="'glasgow'.*grammar, stop words, library"):
        word_classes.is_function(["the"], "glasgow")


# clusters


def test_split_finds_a_planted_difference_and_names_it_by_the_anchors(cloud):
    points, function = cloud
    kinds, parted = word_classes.split(by_word(CELLS.planted(points, function, 3.0)), WORDS)
    assert parted and (kinds == np.where(function, 0, 1)).all()


def test_split_adds_the_anchors_and_leaves_them_out_of_the_answer(cloud):
    points, _ = cloud
    whole, part = by_word(points), WORDS[:-2]
    kinds, _ = word_classes.split(whole, part)
    assert kinds.shape == (len(part),) and (kinds == word_classes.split(whole, WORDS)[0][:-2]).all()


def test_split_says_when_the_anchors_share_a_cluster(cloud):
    points, function = cloud
    moved = CELLS.planted(points, function, 3.0)
    moved[WORDS.index("the")] = moved[WORDS.index("office")]
    assert not word_classes.split(by_word(moved), WORDS)[1]


def test_purity_by_hand_and_never_below_the_commonest_label():
    labels, clusters = np.array([1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 1])
    assert CELLS.purity(labels, clusters) == pytest.approx(4 / 5)
    assert CELLS.purity(labels, np.zeros(5, int)) == pytest.approx(3 / 5)


def test_silhouette_of_one_cluster_is_no_number(cloud):
    assert np.isnan(CELLS.silhouette(cloud[0], np.zeros(len(WORDS), int)))


def test_linear_probe_sees_a_planted_cut_and_not_luck(cloud):
    points, function = cloud
    assert CELLS.linear_probe(CELLS.planted(points, function, 3.0), function) > 0.99
    dealt = [np.random.default_rng(i).permutation(function) for i in range(10)]
    assert np.mean([CELLS.linear_probe(points, each) for each in dealt]) == pytest.approx(0.5, abs=0.1)


# floors


def test_permutation_floor_is_around_zero_and_far_below_a_real_agreement():
    labels = np.arange(60) % 2
    floor = CELLS.dealt_anew(labels, labels, np.zeros(60), rounds=200)
    assert abs(floor.mean()) < 0.02 and floor.max() < 0.5
    for index, expected in ((1.0, 1 / 201), (-1.0, 1)):
        each = SimpleNamespace(rand=[index], floors={"any word": floor})
        assert CELLS.p_value(each, "any word") == pytest.approx(expected)


def test_dealing_within_blocks_keeps_what_goes_through_them():
    length = np.arange(60) // 30
    labels, clusters = length.astype(bool), length
    assert (CELLS.dealt_anew(labels, clusters, length, 20) == 1).all()
    assert (CELLS.dealt_anew(labels, clusters, np.zeros(60), 20) < 1).all()


@pytest.mark.parametrize("width", [5, 200])
def test_one_cloud_has_the_silhouette_of_one_cloud(width):
    rng = np.random.default_rng(1)
    single = rng.standard_normal((100, width)) * np.linspace(1, 3, width)
    double = single + np.where(np.arange(100) % 2, 40.0, 0.0)[:, None]
    names = [f"w{i}" for i in range(98)]
    halves, _ = word_classes.split(lambda words: torch.from_numpy(single[: len(words)]), names)
    assert CELLS.one_cloud(single) == pytest.approx(CELLS.silhouette(single[:98], halves), abs=0.06)
    assert CELLS.silhouette(double, np.arange(100) % 2) > CELLS.one_cloud(double) + 0.1


def test_planted_moves_only_the_labelled_words_by_the_asked_distance(cloud):
    points, function = cloud
    moved = CELLS.planted(points, function, 2.0) - points
    spread = np.sqrt(points.var(axis=0).sum())
    assert np.allclose(moved[~function], 0) and np.allclose(np.linalg.norm(moved[function], axis=1), 2 * spread)


def test_examine_tells_a_planted_difference_from_none(cloud):
    points, _ = cloud
    function = word_classes.is_function(WORDS)
    none, clear = (
        chapters.functions("03", function_words="grammar", seeds=2, bare=by_word(each)).examine(WORDS)
        for each in (points, CELLS.planted(points, function, 3.0))
    )
    assert clear.rand == [1.0, 1.0] and clear.stability == clear.parted == 1
    assert CELLS.purity(clear.function, clear.kinds) == 1 and CELLS.p_value(clear, "any word") < 0.05
    gain = [CELLS.silhouette(each.points, each.kinds) - CELLS.one_cloud(each.points) for each in (none, clear)]
    assert none.rand[0] < 0.2 and gain[0] < 0.1 < gain[1]
    assert function.mean() <= CELLS.purity(none.function, none.kinds) < 1
    assert (none.function == function).all() and none.kinds.shape == (len(WORDS),)


def test_letter_groups_count_letters_and_borders():
    found = CELLS.letter_groups(["aa", "b"])
    assert found.shape[0] == 2 and found.sum() == (4 + 3 + 2) + (3 + 2 + 1)  # " aa " and " b ": singles, pairs, triples


# switched splits


def test_each_context_is_the_models_own_encoding_and_choosing_is_evaluating(model):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((9, model.backbone.embed_dim)).astype(np.float32)
    sets = VectorSets.of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    texts, relevant = ["the", "office", "no parking"], rng.random((3, 9)) < 0.4
    relevant[:, 0] = True
    queries = SimpleNamespace(texts=texts, relevant=relevant)
    both = chapters.functions("03", queries=queries).under_each_context(model, sets)
    for kinds in ([0, 1, 1], [1, 0, 0]):
        encoded = model.encode_queries(texts, kinds).detach().numpy()
        expected = metrics.average_precisions(relevant, sets.scores(encoded).astype(float))
        assert np.allclose(CELLS.choose(both, np.array(kinds)), expected)


def test_random_splits_stay_within_the_worst_and_the_best():
    both, clusters = np.array([[0.9, 0.1, 0.5], [0.1, 0.7, 0.5]]), np.array([0, 1, 1])
    low, high = both.min(axis=0).mean(), both.max(axis=0).mean()
    luck = CELLS.random_splits(both, clusters, 50)
    assert len(luck) == 50 and luck.min() >= low and luck.max() <= high
    values = {round(float(CELLS.choose(both, np.roll(clusters, i)).mean()), 9) for i in range(3)}
    assert {round(float(value), 9) for value in luck} == values


def test_an_index_in_a_gallerys_order():
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    index = SimpleNamespace(ids=("b", "a"), sets=VectorSets(features, np.array([0, 3, 4])))
    gallery = SimpleNamespace(photos=[SimpleNamespace(id=name) for name in "acb"])
    sets = contexts.of_gallery(index, gallery)
    assert sets.starts.tolist() == [0, 1, 1, 4]
    assert sets.vectors.tolist() == [[6, 7], [0, 1], [2, 3], [4, 5]]


def test_a_photograph_that_cannot_be_read_is_ranked_last():
    sets = VectorSets.of(np.array([[np.nan, np.nan], [-1, 0], [0, 1]], np.float32))
    cells = chapters.functions("03", queries=SimpleNamespace(relevant=np.array([[True, False, False]])))
    found = cells.ranked(sets, np.array([[1.0, 0.0]]))
    assert found.tolist() == [pytest.approx(1 / 3)]

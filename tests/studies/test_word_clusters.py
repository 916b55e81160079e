"""Tests of the word clusters' measures, floors, lists, switched splits and figures."""

from __future__ import annotations

from types import SimpleNamespace

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


def test_word_lists_and_single_words():
    lists = word_classes.word_lists(["the", "office"])
    assert lists["trained"] == ["the", "office"] and len(lists["frequent"]) == word_classes.FREQUENT
    assert all(len(words) == len(set(words)) for words in lists.values())
    assert "trained" not in word_classes.word_lists([])
    assert word_classes.single_words(["Open", "no parking", "open", ""]) == ["open"]


# clusters


def test_split_finds_a_planted_difference_and_names_it_by_the_anchors(cloud):
    points, function = cloud
    found = word_classes.split(by_word(word_classes.planted(points, function, 3.0)), WORDS)
    assert found.parted and (found.kinds == np.where(function, 0, 1)).all()


def test_split_adds_the_anchors_and_leaves_them_out_of_the_answer(cloud):
    points, _ = cloud
    whole, part = by_word(points), WORDS[:-2]
    assert word_classes.split(whole, part).kinds.shape == (len(part),)
    assert (word_classes.split(whole, part).kinds == word_classes.split(whole, WORDS).kinds[:-2]).all()


def test_split_says_when_the_anchors_share_a_cluster(cloud):
    points, function = cloud
    moved = word_classes.planted(points, function, 3.0)
    moved[WORDS.index("the")] = moved[WORDS.index("office")]
    assert not word_classes.split(by_word(moved), WORDS).parted


def test_purity_by_hand_and_never_below_the_commonest_label():
    labels, clusters = np.array([1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 1])
    assert word_classes.purity(labels, clusters) == pytest.approx(4 / 5)
    assert word_classes.purity(labels, np.zeros(5, int)) == pytest.approx(3 / 5)


def test_silhouette_of_one_cluster_is_no_number(cloud):
    assert np.isnan(word_classes.silhouette(cloud[0], np.zeros(len(WORDS), int)))


def test_linear_probe_sees_a_planted_cut_and_not_luck(cloud):
    points, function = cloud
    assert word_classes.linear_probe(word_classes.planted(points, function, 3.0), function) > 0.99
    dealt = [np.random.default_rng(i).permutation(function) for i in range(10)]
    assert np.mean([word_classes.linear_probe(points, each) for each in dealt]) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="expected 5 or more"):
        word_classes.linear_probe(points, np.arange(len(points)) < 3)


def test_probes_stand_beside_what_spelling_alone_gives(cloud):
    points, function = cloud
    found = word_classes.probes(word_classes.planted(points, function, 3.0), function, WORDS)
    assert list(found) == ["text features", "length", "groups of letters", "labels dealt"]
    assert found["text features"] > 0.99 > found["length"] and found["labels dealt"] < 0.8


# floors


def test_permutation_floor_is_around_zero_and_far_below_a_real_agreement():
    labels = np.arange(60) % 2
    floor = word_classes.permutation_floor(labels, labels, rounds=200)
    assert abs(floor.mean()) < 0.02 and floor.max() < 0.5
    assert word_classes.p_value(1.0, floor) == pytest.approx(1 / 201)
    assert word_classes.p_value(-1.0, floor) == 1


def test_dealing_within_blocks_keeps_what_goes_through_them():
    length = np.arange(60) // 30
    labels, clusters = length.astype(bool), length
    assert (word_classes.permutation_floor(labels, clusters, 20, within=length) == 1).all()
    assert (word_classes.permutation_floor(labels, clusters, 20) < 1).all()


@pytest.mark.parametrize("width", [5, 200])
def test_one_cloud_has_the_silhouette_of_one_cloud(width):
    rng = np.random.default_rng(1)
    single = rng.standard_normal((100, width)) * np.linspace(1, 3, width)
    double = single + np.where(np.arange(100) % 2, 40.0, 0.0)[:, None]
    halves = word_classes.split(lambda words: torch.from_numpy(single[: len(words)]), [f"w{i}" for i in range(98)])
    assert word_classes.one_cloud(single) == pytest.approx(word_classes.silhouette(single[:98], halves.kinds), abs=0.06)
    assert word_classes.silhouette(double, np.arange(100) % 2) > word_classes.one_cloud(double) + 0.1


def test_planted_moves_only_the_labelled_words_by_the_asked_distance(cloud):
    points, function = cloud
    moved = word_classes.planted(points, function, 2.0) - points
    spread = np.sqrt(points.var(axis=0).sum())
    assert np.allclose(moved[~function], 0) and np.allclose(np.linalg.norm(moved[function], axis=1), 2 * spread)


def test_examine_tells_a_planted_difference_from_none(cloud):
    points, _ = cloud
    function = word_classes.is_function(WORDS)
    none = word_classes.examine(by_word(points), WORDS, seeds=2, rounds=50)
    clear = word_classes.examine(by_word(word_classes.planted(points, function, 3.0)), WORDS, seeds=2, rounds=50)
    assert clear.rand == (1.0, 1.0) and clear.purity == clear.stability == clear.parted == 1
    assert clear.p("any word") < 0.05 and clear.silhouette > clear.cloud + 0.1
    assert none.rand[0] < 0.2 and none.silhouette < none.cloud + 0.1 and none.commonest <= none.purity < 1
    assert (none.function == function).all() and none.kinds.shape == (len(WORDS),)


def test_letter_groups_count_letters_and_borders():
    found = word_classes.letter_groups(["aa", "b"])
    assert found.shape[0] == 2 and found.sum() == (4 + 3 + 2) + (3 + 2 + 1)  # " aa " and " b ": singles, pairs, triples


# switched splits


def test_each_context_is_the_models_own_encoding_and_choosing_is_evaluating(model):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((9, model.backbone.embed_dim)).astype(np.float32)
    sets = VectorSets.of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    texts, relevant = ["the", "office", "no parking"], rng.random((3, 9)) < 0.4
    relevant[:, 0] = True
    both = contexts.under_each_context(model, sets, texts, relevant)
    for kinds in ([0, 1, 1], [1, 0, 0]):
        encoded = model.encode_queries(texts, kinds).detach().numpy()
        expected = metrics.average_precisions(relevant, sets.scores(encoded).astype(float))
        assert np.allclose(contexts.choose(both, kinds), expected)


def test_choose_refuses_other_shapes_and_kinds():
    for kinds in ([0, 1, 2], [0, 1]):
        with pytest.raises(ValueError, match="expected 0 or 1"):
            contexts.choose(np.zeros((2, 3)), kinds)


def test_a_model_without_two_prompts_has_no_split(model):
    one = FDP(model.backbone, model.config.replace(prompts="one"))
    with pytest.raises(ValueError, match="prompts='one'"):
        contexts.under_each_context(one, VectorSets.of(np.ones((1, 32), np.float32)), ["a"], np.ones((1, 1)))


def test_random_splits_stay_within_the_worst_and_the_best():
    both, clusters = np.array([[0.9, 0.1, 0.5], [0.1, 0.7, 0.5]]), np.array([0, 1, 1])
    low, high = both.min(axis=0).mean(), both.max(axis=0).mean()
    luck = contexts.random_splits(both, clusters, 50)
    assert len(luck) == 50 and luck.min() >= low and luck.max() <= high
    values = {round(float(contexts.choose(both, np.roll(clusters, i)).mean()), 9) for i in range(3)}
    assert {round(float(value), 9) for value in luck} == values


def test_an_index_in_a_gallerys_order():
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    index = SimpleNamespace(ids=("b", "a"), features=features, starts=np.array([0, 3, 4]))
    gallery = SimpleNamespace(photos=[SimpleNamespace(id=name) for name in "acb"])
    sets = contexts.of_gallery(index, gallery)
    assert sets.starts.tolist() == [0, 1, 1, 4]
    assert sets.vectors.tolist() == [[6, 7], [0, 1], [2, 3], [4, 5]]


def test_a_photograph_that_cannot_be_read_is_ranked_last():
    sets = VectorSets.of(np.array([[np.nan, np.nan], [-1, 0], [0, 1]], np.float32))
    found = contexts.ranked(sets, np.array([[1.0, 0.0]]), np.array([[True, False, False]]))
    assert found.tolist() == [pytest.approx(1 / 3)]

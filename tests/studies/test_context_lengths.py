"""Tests of contexts trained alone on fixed vectors, and of the record of such a run."""

from __future__ import annotations

import dataclasses
import json
import os
from types import SimpleNamespace

import chapters
import numpy as np
import pytest
import tiny
import torch

from fdp_core import config
from fdp_core.evaluation import results
from fdp_core.model import FDP
from fdp_core.retrieval import geometry
from fdp_core.retrieval.features import FeatureStore
from fdp_core.studies import contexts, word_classes

TEXTS = ["the", "and", "office", "hotel", "coffee", "bank", "bakery", "from"]


def word(text):
    corners = np.array([[2, 2], [30, 2], [30, 12], [2, 12]], np.float32)
    return SimpleNamespace(text=text, polygon=corners, ignore=False, script="Latin")


@pytest.fixture(scope="module")
def trained():
    model = FDP(tiny.backbone(), config.preset("default", image_size=64, probe="off", batch_size=8))
    model.clusters = tiny.clusters(model.backbone)
    return model.eval()


@pytest.fixture(scope="module")
def lessons(trained):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, trained.backbone.embed_dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    photos = [SimpleNamespace(id=str(i), words=[word(TEXTS[i]), word(TEXTS[(i + 3) % 8])]) for i in range(6)]
    plan = geometry.fit_array(np.zeros((64, 64, 3), np.uint8), 64, "letterbox")[1]
    store = SimpleNamespace(array=vectors[:, :, None, None], ok=np.ones(6, bool), geometries=[plan] * 6)
    return SimpleNamespace(photos=photos), store


def test_fixed_vectors_are_the_models_own(trained):
    features = torch.randn(3, trained.backbone.width, 2, 2, generator=torch.Generator().manual_seed(0))
    named = dict.fromkeys(field.name for field in dataclasses.fields(FeatureStore))
    store = FeatureStore(**named | {"array": features.numpy(), "ok": np.ones(3, bool), "ids": tuple("abc")})
    with torch.no_grad():
        expected = trained.encode_features(features)["image"]
    found = contexts.fixed_vectors(trained, store)
    assert found.array.shape == (3, trained.backbone.embed_dim, 1, 1)
    np.testing.assert_allclose(found.array[:, :, 0, 0], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 16])
def test_both_contexts_get_the_length_and_nothing_else_learns(trained, length):
    model = contexts.PromptOnly(trained, length)
    assert {len(model.prompt.context_function), len(model.prompt.context_content)} == {length}
    (group,) = model.trainable_parameters()
    assert {id(value) for value in group["params"]} == {id(value) for value in model.prompt.parameters()}
    assert trained.config.context_function == 2, "the trained model stays as it was"
    for name, value in trained.trained_state().items():
        assert name.startswith("prompt.") or torch.equal(model.trained_state()[name], value)


def test_a_list_can_decide_instead_of_the_clusters(trained):
    def decide(texts):
        return np.where(word_classes.is_function(texts), 0, 1)

    assert contexts.PromptOnly(trained, 2, decide=decide).kinds_of(["hotel", "and"]).tolist() == [1, 0]
    own = contexts.PromptOnly(trained, 2)
    assert own.kinds_of(TEXTS).tolist() == trained.kinds_of(TEXTS).tolist()
    assert own.kinds_of(["hotel"], ["function"]).tolist() == [0]


def test_learning_moves_only_the_contexts_and_repeats_with_its_seed(trained, lessons):
    gallery, store = lessons
    model = contexts.learn(trained, 2, [gallery], [store], epochs=1, seed=3)
    again = contexts.learn(trained, 2, [gallery], [store], epochs=1, seed=3)
    other = contexts.learn(trained, 2, [gallery], [store], epochs=1, seed=4)
    assert torch.equal(model.prompt.context_content, again.prompt.context_content)
    assert not torch.equal(model.prompt.context_content, other.prompt.context_content)
    start = contexts.PromptOnly(trained, 2, 3).prompt.context_content
    assert not torch.equal(model.prompt.context_content, start)
    assert torch.equal(model.positions, trained.positions)


def test_length_nought_has_nothing_to_learn_and_no_context(trained, lessons):
    model = contexts.learn(trained, 0, [lessons[0]], [lessons[1]])
    function, content = (model.encode_queries(TEXTS, [kind] * len(TEXTS)) for kind in (0, 1))
    assert torch.equal(function, content)


def test_one_prompt_has_no_two_lengths(trained):
    with pytest.raises(ValueError, match="expected 'two'"):
        contexts.PromptOnly(FDP(trained.backbone, trained.config.replace(prompts="one")), 2)


# the record


CELLS = chapters.functions("03", singles=np.array([True, True, False]))
BOTH = np.array([[0.2, 0.4, 0.9], [0.5, 0.6, 0.7]])


def test_each_kind_stands_behind_its_own_context():
    found = CELLS.by_kind(BOTH, np.array([0, 1, 1]))
    assert found == {"function": pytest.approx(20), "content": pytest.approx(60)}
    assert list(CELLS.by_kind(BOTH, np.ones(3, int))) == ["content"]


def test_a_record_survives_being_saved_and_read(trained, tmp_path):
    keys = [("one vector", kind, length, 0) for length in (4, 0) for kind in ("function", "content")]
    values = {CELLS.KEY.format(*key): value for key, value in zip(keys, (20.0, 60.0, 10.0, 30.0))}
    rows = CELLS.read({"values": values})
    assert CELLS.widest(rows) == 30
    facts = {"set": "mini", "split": "test", "protocol": "listed", "parameters": {}, "value": 30.0}
    path = results.save(results.measurement(CELLS.SYSTEM, CELLS.METRIC, values, trained, **facts), tmp_path)
    assert os.path.basename(path).startswith("mini_test_fdp-context-lengths_")
    found = CELLS.read(results.load_all(tmp_path).iloc[0])
    assert found.equals(CELLS.read(json.loads(path.read_text())))
    lines = [dict(zip(found, line)) for line in found.to_numpy()]
    assert {(*(line[name] for name in ("view", "kind", "length", "seed")), line["mAP"]) for line in lines} == {
        (*key, value) for key, value in zip(keys, values.values())
    }

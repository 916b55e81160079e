"""Where the pool looks: the arithmetic on hand-made attention, and the real thing against the model itself."""

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from fdp_core import attention, config, datasets, focus, model
from fdp_core.retrieval import features
from fdp_core.studies import attention_study

SIZE, GRID = 128, 4


@pytest.fixture(scope="module")
def fdp():
    settings = config.Config(image_size=SIZE, prompts="none", shift_scale_init=2.0)
    return model.FDP(tiny.backbone(), settings).eval()


@pytest.fixture(scope="module")
def gallery():
    whole, _ = datasets.load("mini")
    return dataclasses.replace(whole, photos=whole.photos[:3])


@pytest.fixture(scope="module")
def store(fdp, gallery):
    return features.trunk_features(fdp.backbone, gallery, SIZE, progress=False)


@pytest.fixture(scope="module")
def study(fdp, gallery, store):
    return attention_study.run_pools(fdp, gallery, store)


def test_pool_logits_are_those_of_the_pool(fdp, store):
    x = attention.tokens(store.batch(slice(0, 2)), fdp.positions)
    _, weights = attention.attention_pool(x, fdp.backbone.pool)
    torch.testing.assert_close(attention.pool_logits(x, fdp.backbone.pool).softmax(-1), weights)


@pytest.mark.parametrize("how", ["log", "additive", "multiply", "off"])
def test_attention_after_the_shift_is_the_models_own(fdp, gallery, store, how):
    changed = model.FDP(fdp.backbone, fdp.config.replace(shift=how, shift_mean_token=how == "additive")).eval()
    seen = attention_study.run_pools(changed, gallery, store)
    mine = attention_study.attend(seen.trained, seen.text_logits, changed.shift)
    with torch.no_grad():
        theirs = changed.encode_features(store.batch(slice(None)))["attention"].numpy()
    np.testing.assert_allclose(mine, theirs, atol=1e-5)
    own = attention_study.attend(seen.own)
    np.testing.assert_allclose(own.sum(-1), 1)
    assert (np.abs(own - mine).max() > 1e-4) == (how != "off")


def test_vectors_with_the_models_own_map_and_shift_are_the_models(fdp, gallery, store, study):
    with torch.no_grad():
        theirs = fdp.encode_features(store.batch(slice(None)))["image"].numpy()
    for given in ((), (study.text_logits, fdp.shift)):
        np.testing.assert_allclose(attention_study.encode(fdp, store, *given), theirs, atol=1e-5)
    other = attention_study.encode(fdp, store, -study.text_logits)
    assert np.abs(other - theirs).max() > 1e-4
    off = attention_study.encode(fdp, store, shift=focus.AttentionShift("off", 0, learnable=False))
    np.testing.assert_allclose(np.linalg.norm(off, axis=1), 1, atol=1e-5)
    assert np.abs(off - theirs).max() > 1e-4


def test_own_and_trained_differ_in_the_positions_only(fdp, study, gallery, store):
    torch.testing.assert_close(study.own, study.trained)  # not trained yet: CLIP's table, resized
    moved = model.FDP(fdp.backbone, fdp.config).eval()
    with torch.no_grad():
        moved.positions += 1.0
    again = attention_study.run_pools(moved, gallery, store)
    torch.testing.assert_close(again.own, study.own)
    assert not torch.allclose(again.trained, study.trained)


def test_even_attention_gets_the_share_of_the_area(study):
    even = np.full((len(study), 4, GRID * GRID + 1), 1 / (GRID * GRID + 1))
    np.testing.assert_allclose(attention_study.share_on(even, study.text), np.repeat(study.area[:, None], 4, 1))


def test_the_mean_token_is_no_place():
    weights = np.array([[[0.5, 0.3, 0.1, 0.1, 0.0]]])
    assert attention_study.share_on(weights, np.array([[1.0, 0, 0, 0]]))[0, 0] == pytest.approx(0.6)
    assert attention_study.share_on(weights, np.array([[0, 0, 0, 1.0]]))[0, 0] == 0
    lost = np.array([[[1.0, 0, 0, 0, 0]]])
    assert attention_study.share_on(lost, np.ones((1, 4)))[0, 0] == 0  # all on the mean token: no NaN


def test_bars_are_not_judged_and_hold_no_photograph():
    word = datasets.Word("open", np.array([[0, 0], [20, 0], [20, 10], [0, 10]], np.float32))
    blurred = dataclasses.replace(word, polygon=word.polygon + [60, 30], ignore=True)
    from fdp_core.retrieval import geometry

    placed = geometry.plan_fit(80, 40, 80)  # twice as wide as high: bars of 20 pixels above and below
    photo = datasets.Photo("a", None, (word, blurred))
    text, inside, judged = (x.reshape(4, 4) for x in attention_study.cells_of(photo, placed, 4))
    assert inside[[0, 3]].max() == 0 and inside[[1, 2]].min() == 1
    assert text[1, 0] == pytest.approx(0.5) and text.sum() == pytest.approx(0.5)
    assert not judged[[0, 3]].any() and judged[1].all() and judged[2].tolist() == [True, True, True, False]


def test_photographs_without_legible_text_are_left_out_and_a_set_of_them_is_an_error(fdp, gallery, store):
    bare = tuple(dataclasses.replace(photo, words=()) for photo in gallery.photos)
    mixed = dataclasses.replace(gallery, photos=(bare[0], gallery.photos[1], bare[2]))
    study = attention_study.run_pools(fdp, mixed, store)
    assert study.rows == (1,) and study.photos == gallery.photos[1:2] and study.own.shape[0] == 1
    with pytest.raises(ValueError, match="needs words that are outlined"):
        attention_study.run_pools(fdp, dataclasses.replace(gallery, photos=bare), store)


def test_a_photograph_that_cannot_be_read_is_left_out(fdp, gallery, store):
    study = attention_study.run_pools(fdp, gallery, dataclasses.replace(store, ok=np.array([True, False, True])))
    assert [photo.id for photo in study.photos] == [gallery.photos[0].id, gallery.photos[2].id]


def test_a_map_needs_a_shift(study):
    with pytest.raises(ValueError, match="needs a shift"):
        attention_study.attend(study.own, study.text_logits)


def test_the_shift_multiplies_odds_by_no_more_than_its_span(study):
    how = focus.AttentionShift("log", 1.5, learnable=False)
    before, after = attention_study.attend(study.own), attention_study.attend(study.own, study.text_logits, how)
    with torch.no_grad():
        bias = how(study.text_logits).numpy()[:, 1:]
    reach = np.exp(bias.max(1) - bias.min(1))
    (one, two) = (attention_study.share_on(w, study.text) for w in (before, after))
    grown = (two / (1 - two)) / (one / (1 - one))
    assert (grown <= reach[:, None] * (1 + 1e-9)).all() and (grown >= 1 / reach[:, None] * (1 - 1e-9)).all()


def test_strength_zero_shifts_nothing(study):
    np.testing.assert_allclose(
        attention_study.attend(study.own, study.text_logits, focus.AttentionShift("log", 0.0, learnable=False)),
        attention_study.attend(study.own),
    )

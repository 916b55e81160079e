"""How good a text map is: against scikit-learn, against known worst and best maps, and broken on purpose."""

import chapters
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fdp_core.studies import attention_study

CELLS = chapters.functions("02")
rng = np.random.default_rng(0)


class Few(attention_study.PoolStudy):
    """A study with only what is needed here: a pool that looks evenly, or as ``logits`` [N, H, L] say."""

    def __init__(self, text, logits=None):
        count, cells = text.shape
        parts = {
            "photos": tuple(range(count)),
            "text": text.astype(np.float32),
            "judged": np.ones(text.shape, bool),
            "trained": torch.zeros(count, 2, cells + 1) if logits is None else logits,
        }
        for name, value in parts.items():
            object.__setattr__(self, name, value)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(3, 40), st.booleans())
def test_points_agree_with_scikit_learn(seed, count, coarse):
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 4, count).astype(float) if coarse else draw.normal(size=count)
    text = draw.random(count) * draw.integers(0, 2, count)
    text[0], text[1] = 0.5, 0
    auc, precision = attention_study.point_auc(values, text)
    labels, twice = np.repeat([1, 0], count), np.concatenate([values, values])
    weights = np.concatenate([text, 1 - text])
    assert auc == pytest.approx(roc_auc_score(labels, twice, sample_weight=weights))
    assert precision == pytest.approx(average_precision_score(labels, twice, sample_weight=weights))


def test_best_worst_and_blind_maps():
    text = np.array([1.0, 1, 0, 0, 0])
    assert attention_study.point_auc(text, text) == (1.0, 1.0)
    assert attention_study.point_auc(-text, text)[0] == 0.0
    assert attention_study.point_auc(np.zeros(5), text) == pytest.approx((0.5, 0.4))
    with pytest.raises(ValueError, match="cells without"):
        attention_study.point_auc(np.zeros(2), np.ones(2))


def test_only_judged_cells_count_and_what_cannot_be_judged_is_nan():
    text = np.zeros((2, 4))
    text[0, 0] = 1
    study = Few(text)
    maps = torch.tensor([[[1.0, 9.0], [0.0, 0.0]]] * 2)
    assert CELLS.map_quality(study, maps)[0, 0] == pytest.approx(2 / 3)
    study.judged[0, 1] = False
    found = CELLS.map_quality(study, maps)
    assert found[0].tolist() == [1.0, 1.0] and np.isnan(found[1]).all()


def test_shuffled_maps_keep_their_values_and_lose_their_places():
    maps, shuffled = np.arange(2 * 100.0).reshape(2, 10, 10), attention_study.shuffled
    for share, least, most in ((0.0, 0, 0), (1.0, 90, 100), (0.4, 20, 60)):
        spoilt = shuffled(maps, 1, share)
        np.testing.assert_array_equal(np.sort(spoilt.reshape(2, -1)), maps.reshape(2, -1))
        moved = (spoilt != maps).reshape(2, -1).sum(1)
        assert least <= moved.min() and moved.max() <= most
    np.testing.assert_array_equal(shuffled(maps, 1), shuffled(maps, 1))
    assert not np.array_equal(shuffled(maps, 1), shuffled(maps, 2))
    # the recorded ablations were made by this draw
    drawn = np.random.default_rng(1).permuted(maps.reshape(2, -1), axis=1).reshape(maps.shape)
    np.testing.assert_array_equal(shuffled(maps, 1), drawn)


def test_the_annotators_map_makes_no_mistake_with_the_same_values():
    text = rng.random((3, 16)) * (rng.random((3, 16)) < 0.3)
    text[:, 0] = 1
    given_map = torch.from_numpy(rng.normal(size=(3, 4, 4)))
    best = CELLS.by_outlines(given_map, text)
    assert torch.equal(best.flatten(1).sort(1).values, given_map.flatten(1).sort(1).values)
    flat = best.flatten(1).numpy()
    for row, share in zip(flat, text):
        assert row[share > 0].min() > row[share == 0].max()


def test_ratio_of_sums_and_its_interval():
    whole = rng.uniform(0.05, 0.2, 80)
    noise = rng.normal(1, 0.3, (80, 3))
    value, low, high = CELLS.ratio_interval(2 * whole[:, None] * noise, whole)
    assert value.shape == low.shape == (3,) and (low < value).all() and (value < high).all()
    np.testing.assert_allclose(value, 2, atol=0.25)
    one, lower, upper = CELLS.ratio_interval(2 * whole * noise[:, 0], whole)
    assert (one, lower, upper) == pytest.approx((value[0], low[0], high[0]))
    exact = CELLS.ratio_interval(3 * whole, whole)
    assert exact == pytest.approx((3, 3, 3))


def test_the_interval_covers_as_often_as_it_says():
    hits = 0
    for seed in range(120):
        draw = np.random.default_rng(seed)
        whole = draw.uniform(0.5, 1.5, 40)
        _, low, high = CELLS.ratio_interval(whole * draw.exponential(1, 40), whole, rounds=300, seed=seed)
        hits += low <= 1 <= high
    assert 0.85 <= hits / 120 <= 0.99

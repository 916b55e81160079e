import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fdp_core import datasets
from fdp_core.retrieval import geometry
from fdp_core.studies import attention_charts, attention_study

K = 3
LINE = (np.array([1.0, 2, 3]), np.array([0.5, 1, 2]), np.array([2.0, 3, 4]))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def looks():
    gallery, _ = datasets.load("mini")
    photos = gallery.photos[:2]
    placed = tuple(geometry.plan_fit(640, 640, 128) for _ in photos)
    text = np.zeros((2, 16), np.float32)
    empty = dict.fromkeys(field.name for field in dataclasses.fields(attention_study.Looks))
    return attention_study.Looks(**{**empty, "photos": photos, "placed": placed, "text": text})


@pytest.mark.parametrize("show", [True, False])
def test_gallery_shows_every_map_and_hides_what_may_not_be_shown(looks, show):
    planes = np.ones((2, 4, 4))
    fig = attention_charts.maps_gallery(
        looks, [0, 1], {"before": planes, "P(text)": planes / 2}, ["gain", "loss"], show, "by somebody"
    )
    axs = [ax for ax in fig.axes if ax.get_title() or ax.get_ylabel()]
    assert [ax.get_title() for ax in fig.axes[:3]] == ["words outlined", "before", "P(text)"]
    assert {"gain", "loss"} <= {ax.get_ylabel() for ax in axs} and fig.texts[0].get_text() == "by somebody"
    pixels = np.asarray(fig.axes[0].images[0].get_array())
    assert (len(np.unique(pixels)) == 1) == (not show)
    assert len(fig.axes[0].lines) == 2 * len(looks.photos[0].words)
    fig.draw_without_rendering()


def test_a_gallery_of_nothing_is_an_error(looks):
    with pytest.raises(ValueError, match="Nothing to draw"):
        attention_charts.maps_gallery(looks, [], {}, [])


def test_heads_are_sorted_by_the_first_stage_and_all_shown():
    value = np.array([2.0, 0.0, 1.0])
    fig = attention_charts.head_chart({"before": (value, value, value), "after": LINE}, "ratio")
    ax = fig.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2", "0"]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.01, 1, 2])  # zero has no logarithm: drawn at the edge


def test_curves_heights_and_points():
    marks = {"trained": 1, "on a par": 5}
    fig = attention_charts.curves({"a": LINE, "b": LINE}, [0.1, 1, 10], ("strength", "ratio"), marks)
    assert [text.get_text() for text in fig.axes[0].texts] == ["trained", "on a par"]
    assert fig.axes[0].get_xscale() == "log" and fig.axes[0].get_xlabel() == "strength"
    assert attention_charts.curves({"a": LINE}, [0, 1, 2], ("x", "y"), log=False).axes[0].get_xscale() == "linear"
    fig = attention_charts.height_chart(["<16", "16", "32"], {"AUC": {"map": LINE}, "ratio": {"a": LINE}}, (0.5, 1))
    assert [ax.get_ylabel() for ax in fig.axes] == ["AUC", "ratio"]

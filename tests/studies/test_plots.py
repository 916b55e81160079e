"""Figures: they hold what they should, in a place that is right, and never tell by colour alone."""

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from eval_fakes import HandSystem, gallery, queries
from PIL import Image

from fdp_core.evaluation import results
from fdp_core.evaluation.report import evaluate
from fdp_core.retrieval import geometry, index
from fdp_core.studies import charts, figure_style, plots
from fdp_core.studies.paper import compare_with_paper
from fdp_core.training.state import History


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def report(tmp_path):
    shown = gallery(tmp_path / "g")
    return evaluate(HandSystem(unreadable=(2,)), shown, queries(), kinds=np.array([0, 0, 1, 1, 1]))


def texts(fig):
    fig.canvas.draw()
    return " ".join(t.get_text() for t in fig.findobj(matplotlib.text.Text))


def test_retrieval_grid_marks_right_and_wrong_in_two_ways(tmp_path):
    hits = index.Index.build(HandSystem(), gallery(tmp_path)).search("w1", k=3)
    fig = plots.retrieval_grid(hits, "w1", [True, False, False], columns=2, attribution="by hand")
    found = texts(fig)
    assert "query: 'w1'" in found and "1  ✓  1.000" in found and "2  ✗  0.000" in found and "by hand" in found
    frames = [ax.spines["left"].get_edgecolor() for ax in fig.axes[:3]]
    assert frames[0] != frames[1] == frames[2]
    assert len(fig.axes) == 4 and not fig.axes[3].axison
    assert fig.get_facecolor() == (1, 1, 1, 1)


def test_retrieval_grid_without_truth_and_without_photographs(tmp_path):
    hits = index.Index.build(HandSystem(), gallery(tmp_path)).search("w1", k=2)
    fig = plots.retrieval_grid(hits, "w1", show=False)
    assert "✓" not in texts(fig) and "not shown" in texts(fig) and not fig.axes[0].images
    with pytest.raises(ValueError, match="2 hits but 1"):
        plots.retrieval_grid(hits, "w1", [True])
    with pytest.raises(ValueError, match="no hits"):
        plots.retrieval_grid([], "w1")


@pytest.mark.parametrize("mode", ["letterbox", "centre_crop"])
@pytest.mark.parametrize("size", [(320, 160), (96, 300)])
def test_a_map_lies_where_its_cell_is(mode, size):
    image = Image.new("RGB", size, "grey")
    _, placed = geometry.fit_image(image, 128, mode=mode)
    ax = plots.map_overlay(image, np.eye(4), placed)
    left, right, bottom, top = ax.images[1].get_extent()
    corners = placed.apply(np.array([[left, top], [right, bottom]]))
    np.testing.assert_allclose(corners, [[0, 0], [128, 128]], atol=1e-6)  # the map spans the square
    assert ax.get_xlim() == (0, size[0]) and ax.get_ylim() == (size[1], 0)
    assert ax.images[0].get_extent() == [0, size[0], size[1], 0]


def test_attention_is_shown_as_a_multiple_of_uniform():
    attention = torch.full((3, 17), 1 / 17)
    _, placed = geometry.fit_image(Image.new("RGB", (64, 64)), 64)
    ax = plots.attention_overlay(np.zeros((64, 64, 3), np.uint8), attention, placed)
    np.testing.assert_allclose(ax.images[1].get_array(), 1)
    assert "attention / uniform" in texts(ax.figure)


def test_token_map_by_hand():
    values = np.array([[9, 0, 1, 2, 3], [9, 2, 3, 4, 5]])
    np.testing.assert_array_equal(plots.token_map(values), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(plots.token_map(values[0]), [[0, 1], [2, 3]])
    np.testing.assert_array_equal(plots.token_map(np.eye(3)), np.eye(3))
    with pytest.raises(ValueError, match="6 tokens"):
        plots.token_map(np.zeros((2, 6)))


def test_localiser_overlay_draws_probabilities():
    _, placed = geometry.fit_image(Image.new("RGB", (64, 64)), 64)
    _, ax = plt.subplots()
    assert plots.localiser_overlay(np.zeros((64, 64, 3), np.uint8), torch.zeros(2, 2), placed, ax=ax) is ax
    np.testing.assert_allclose(ax.images[1].get_array(), 0.5)
    assert ax.images[1].get_clim() == (0, 1)


def test_loss_curves_find_their_terms_and_differ_by_line_style():
    history = [
        {"step": i, "epoch": 0, "lr_new": 1e-3, "align": 3.0 - i, "total": 4.0 - i, "note": "x"} for i in range(4)
    ]
    fig = charts.loss_curves([*history, {"step": 4, "validation": 50.0}])
    ax = fig.axes[0]
    assert [line.get_label() for line in ax.lines] == ["align", "total", "validation"]
    assert len({str(line.get_linestyle()) for line in ax.lines}) >= 2
    assert ax.get_xlabel() and ax.get_ylabel()
    smooth = charts.loss_curves(history, ["align"], smooth=2).axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(smooth, [3, 2.5, 1.5, 0.5])
    with pytest.raises(ValueError, match="no term 'loc'"):
        charts.loss_curves(history, ["loc"])
    with pytest.raises(ValueError, match="Nothing to draw"):
        charts.loss_curves([])


def test_loss_curves_of_a_training_log():
    log = History()
    for step in (1, 2, 3, 4):
        log.append({"kind": "step", "epoch": (step + 1) // 2, "step": step, "align": 4.0 / step, "total": 5.0})
        if step % 2 == 0:
            record = {"kind": "epoch", "epoch": step // 2, "step": step, "align": 9.0, "total": 5.0, "lr_new": 1e-3}
            log.append(record | {"validation_map": 0.1 * step, "best": True, "seconds": 1.0})
    fig = charts.loss_curves(log)
    losses, validation = fig.axes
    assert [line.get_label() for line in losses.lines] == ["align", "total"]
    np.testing.assert_allclose(losses.lines[0].get_ydata(), [4, 2, 4 / 3, 1])  # no epoch's mean among the steps
    np.testing.assert_allclose(validation.lines[0].get_ydata(), [20, 40])
    assert validation.lines[1].get_xdata() == [2]


def test_ap_bars_show_best_and_worst(report):
    fig = charts.ap_bars(report, count=3)
    best, worst = fig.axes
    assert [bar.get_width() for bar in best.patches] == [100, 100, 100]
    assert worst.patches[0].get_width() == pytest.approx(20)
    assert worst.get_yticklabels()[0].get_text() == "w2 (1)"
    assert {bar.get_hatch() for bar in best.patches} != {bar.get_hatch() for bar in worst.patches}


def test_system_bars(report):
    fig = charts.system_bars([report, replace(report, system="other")])
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["all queries", "function", "content"]
    assert "other" in texts(fig)


def test_cluster_map_is_the_same_whatever_the_sign():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(-2, 1, (6, 5)), rng.normal(2, 1, (6, 5))])
    kinds, words = np.repeat([0, 1], 6), [f"word{i}" for i in range(12)]
    ax = charts.cluster_map(torch.tensor(features), kinds, words, names=4)
    first = [c.get_offsets().data.copy() for c in ax.collections]
    assert [len(points) for points in first] == [6, 6] and len(ax.texts) == 4
    assert "variance" in ax.get_xlabel()
    again = [c.get_offsets().data for c in charts.cluster_map(features, kinds, words).collections]
    np.testing.assert_allclose(first, again)
    assert (first[0][:, 0].max() < first[1][:, 0].min()) or (first[0][:, 0].min() > first[1][:, 0].max())
    with pytest.raises(ValueError, match="do not fit"):
        charts.cluster_map(features, kinds, words[:3])


def test_tables(report):
    assert charts.report_table([report]).loc["by hand", "mAP"] == 84.0
    table = pd.DataFrame([results.record(report) | {"commit": "abcdef0123", "dirty": True}])
    short = charts.results_table(table)
    assert short["commit"].tolist() == ["abcdef01*"] and "dirty" not in short
    paper = pd.DataFrame(
        [{"method": "m", "venue": "v", "set": "toy", "metric": "mAP", "value": 1, "source": "s", "notes": ""}]
    )
    line = charts.paper_table(compare_with_paper(table, paper)).iloc[0]
    assert line["difference"] == 83.0 and line["comparable"].startswith("no")


def test_the_palette_keeps_apart_in_grey_and_style_stays_inside():
    def lightness(colour):
        return np.dot(matplotlib.colors.to_rgb(colour), [0.2126, 0.7152, 0.0722])

    assert abs(lightness(figure_style.BLUE) - lightness(figure_style.ORANGE)) > 0.15
    before = dict(plt.rcParams)
    charts.loss_curves([{"step": 0, "a": 1.0}])
    assert dict(plt.rcParams) == before


def test_the_style_leaves_a_backend_that_was_loaded_inside_interactive():
    before = matplotlib.is_interactive()
    try:
        matplotlib.interactive(False)
        with figure_style.figure_style():
            matplotlib.interactive(True)  # as the notebook's backend does when the first figure loads it
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(before)

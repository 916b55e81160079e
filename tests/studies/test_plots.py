"""Figures of single chapters: they hold what they should, and never tell by colour alone."""

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from eval_fakes import HandSystem, gallery, queries

from fdp_core.evaluation import results
from fdp_core.evaluation.report import evaluate
from fdp_core.studies import charts
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
    paper = pd.DataFrame(
        [{"method": "m", "venue": "v", "set": "toy", "metric": "mAP", "value": 1, "source": "s", "notes": ""}]
    )
    line = charts.paper_table(compare_with_paper(table, paper)).iloc[0]
    assert line["difference"] == 83.0 and line["comparable"].startswith("no")


def test_the_style_stays_inside():
    before = dict(plt.rcParams)
    charts.loss_curves([{"step": 0, "a": 1.0}])
    assert dict(plt.rcParams) == before

"""Shared figures: they hold what they should, in a place that is right, and never differ by colour alone."""

import dataclasses

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from eval_fakes import HandSystem, gallery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core.retrieval import geometry
from fdp_core.retrieval.index import Index
from fdp_core.studies import figures

pytestmark = pytest.mark.usefixtures("own_style")


def built(system, photographs):
    index = Index.open("memory://", system)
    index.update(photographs, progress=False)
    return index


def texts(fig):
    fig.canvas.draw()
    return " ".join(t.get_text() for t in fig.findobj(matplotlib.text.Text))


def test_ranked_photographs_mark_right_and_wrong_in_two_ways(tmp_path):
    hits = built(HandSystem(), gallery(tmp_path)).search("w1", k=3)
    fig = figures.ranked_photographs(hits, "w1", [True, False, False], columns=2, attribution="by hand")
    found = texts(fig)
    assert "query: 'w1'" in found and "1  ✓  1.000" in found and "2  ✗  0.000" in found and "by hand" in found
    frames = [ax.spines["left"].get_edgecolor() for ax in fig.axes[:3]]
    assert frames[0] != frames[1] == frames[2]
    assert len(fig.axes) == 4 and not fig.axes[3].axison
    assert fig.get_facecolor() == (1, 1, 1, 1)


def test_ranked_photographs_without_truth_and_without_photographs(tmp_path):
    hits = built(HandSystem(), gallery(tmp_path)).search("w1", k=2)
    fig = figures.ranked_photographs(hits, "costs $5 or $6", show=False)
    assert "✓" not in texts(fig) and "not shown" in texts(fig) and not fig.axes[0].images
    assert fig._suptitle.get_text() == "query: 'costs $5 or $6'"
    with pytest.raises(ValueError, match="2 hits but 1"):
        figures.ranked_photographs(hits, "w1", [True])
    with pytest.raises(ValueError, match="no hits"):
        figures.ranked_photographs([], "w1")


FOREIGN = ["$ale $$$", "$5 or $10", r"$\nosuch{$", "a_b^c", "{x:g} %s", "<b>&amp;", "`|`", "$", "100 %", "“é”"]


@pytest.mark.parametrize("text", FOREIGN)
def test_foreign_text_is_drawn_as_it_is_written(tmp_path, table, text):
    """No dollar sign of a query, a file name or an attribution starts a formula."""
    hits = built(HandSystem(), gallery(tmp_path)).search("w1", k=1)
    hits = [dataclasses.replace(hit, id=text) for hit in hits]
    foreign = table.assign(row=[text, text, "b", "b"], kind=[text, "two", text, "two"])
    _, placed = geometry.fit_image(Image.new("RGB", (64, 64)), 64)
    photograph = np.zeros((64, 64, 3), np.uint8)
    drawn = [
        figures.ranked_photographs(hits, text, show=False, attribution=text),
        figures.map_over_photograph(photograph, np.eye(2), placed, title=text, label=text).figure,
        figures.forest(foreign, "mAP, %", "row", "kind").figure,
        figures.curves(foreign, "at", "mAP, %", "kind").figure,
    ]
    for fig in drawn:
        found = [entry for entry in fig.findobj(matplotlib.text.Text) if text in entry.get_text()]
        assert found and not any(entry.get_parse_math() for entry in found)
        fig.canvas.draw()
    with figures.style():
        _, ax = plt.subplots()
        ax.set(title=text, xlabel=text)
        ax.annotate(text, (0, 0))
        ax.figure.text(0, 0, text)
        ax.figure.canvas.draw()
    assert not any(entry.get_parse_math() for entry in ax.figure.findobj(matplotlib.text.Text))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.sampled_from(list("$\\{}^_%#&~<>|`' a1")), min_size=1, max_size=12))
def test_any_text_can_be_a_title(text):
    _, placed = geometry.fit_image(Image.new("RGB", (8, 8)), 32)
    ax = figures.map_over_photograph(np.zeros((8, 8, 3), np.uint8), np.eye(1), placed, title=text)
    ax.figure.canvas.draw()
    assert ax.get_title() == text
    plt.close(ax.figure)


def test_tables_show_foreign_text_as_it_is_written():
    html = pd.DataFrame({"query": FOREIGN})._repr_html_()
    assert "mathjax_ignore" in html and "<b>" not in html and "$5 or $10" in html


@pytest.mark.parametrize("mode", ["letterbox", "centre_crop"])
@pytest.mark.parametrize("size", [(320, 160), (96, 300)])
def test_a_map_lies_where_its_cell_is(mode, size):
    image = Image.new("RGB", size, "grey")
    _, placed = geometry.fit_image(image, 128, mode=mode)
    ax = figures.map_over_photograph(image, np.eye(4), placed)
    left, right, bottom, top = ax.images[1].get_extent()
    corners = placed.apply(np.array([[left, top], [right, bottom]]))
    np.testing.assert_allclose(corners, [[0, 0], [128, 128]], atol=1e-6)  # the map spans the square
    assert ax.get_xlim() == (0, size[0]) and ax.get_ylim() == (size[1], 0)
    assert ax.images[0].get_extent() == [0, size[0], size[1], 0]


def test_attention_is_drawn_as_a_multiple_of_even_attention():
    _, placed = geometry.fit_image(Image.new("RGB", (64, 64)), 64)
    photograph = np.zeros((64, 64, 3), np.uint8)
    ax = figures.map_over_photograph(photograph, torch.full((3, 17), 1 / 17), placed, label="attention / even")
    np.testing.assert_allclose(ax.images[1].get_array(), 1)
    assert "attention / even" in texts(ax.figure)
    values = np.array([[9.0, 0, 1, 2, 3], [9, 2, 3, 4, 5]])
    ax = figures.map_over_photograph(photograph, values, placed)
    np.testing.assert_allclose(ax.images[1].get_array(), np.array([[1, 2], [3, 4]]) / 2.5)
    with pytest.raises(ValueError, match="6 tokens"):
        figures.map_over_photograph(photograph, np.zeros((2, 6)), placed)


def test_limits_are_kept_on_the_axes_given():
    _, placed = geometry.fit_image(Image.new("RGB", (64, 64)), 64)
    _, ax = plt.subplots()
    photograph = np.zeros((64, 64, 3), np.uint8)
    assert figures.map_over_photograph(photograph, torch.full((2, 2), 0.5), placed, ax, limits=(0, 1)) is ax
    assert ax.images[1].get_clim() == (0, 1)


@pytest.fixture
def table():
    rows = [("a", "one", 1.0), ("a", "two", 2.0), ("b", "one", 3.0), ("b", "two", np.nan)]
    table = pd.DataFrame(rows, columns=["row", "kind", "mAP, %"])
    return table.assign(**{"from": table["mAP, %"] - 0.5, "to": table["mAP, %"] + 1, "at": [1, 1, 2, 2]})


def test_forest_has_one_line_a_name_and_one_mark_a_kind(table):
    ax = figures.forest(table, "mAP, %", "row", "kind", reference=0)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"] and ax.get_xlabel() == "mAP, %"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one", "two"]
    points = [line for line in ax.lines if line.get_marker() not in ("None", None)]
    assert points[0].get_marker() != points[1].get_marker() and points[0].get_color() != points[1].get_color()
    np.testing.assert_allclose(points[0].get_xdata(), [1, 3])
    ends = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()]
    assert ends == [[0.5, 2.0], [2.5, 4.0]]
    assert figures.forest(table[table["kind"] == "one"], "mAP, %", "row").get_legend() is None


def test_curves_differ_by_dashes_and_show_their_intervals(table):
    ax = figures.curves(table, "at", "mAP, %", "kind", reference=1)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one", "two"]
    assert len({str(line._unscaled_dash_pattern) for line in ax.lines[:2]}) == 2
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 1], [2, 3]])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 0.5 and band[:, 1].max() == 4
    plain = figures.curves(table[table["kind"] == "one"][["at", "mAP, %"]], "at", "mAP, %")
    assert not plain.collections and len(plain.lines) == 1


def test_the_palette_is_the_style_files_and_differs_in_grey():
    def lightness(colour):
        return np.dot(matplotlib.colors.to_rgb(colour), [0.2126, 0.7152, 0.0722])

    assert abs(lightness(figures.BLUE) - lightness(figures.ORANGE)) > 0.15
    with figures.style():
        cycle = [colour.strip("#") for colour in plt.rcParams["axes.prop_cycle"].by_key()["color"]]
    assert [f"#{colour}" for colour in cycle] == list(figures.PALETTE)


def test_the_style_leaves_a_backend_that_was_loaded_inside_interactive():
    before = matplotlib.is_interactive()
    try:
        matplotlib.interactive(False)
        with figures.style():
            matplotlib.interactive(True)  # as the notebook's backend does when the first figure loads it
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(before)

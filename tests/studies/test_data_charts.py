"""Figures and numbers of data sets: values by hand, and every figure says what its axes mean."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import Gallery, Photo, Queries, Word
from fdp_core.datasets.types import box_polygon
from fdp_core.studies import data_charts, data_study

pytestmark = pytest.mark.usefixtures("own_style")


def texts(fig):
    fig.canvas.draw()
    return " ".join(t.get_text() for t in fig.findobj(matplotlib.text.Text))


def photograph(path: Path, words=(), size=(64, 32), exif: int | None = None) -> Photo:
    image, tags = Image.new("RGB", size, "white"), Image.Exif()
    if exif:
        tags[0x0112] = exif
    image.save(path, exif=tags)
    return Photo(path.name, path, tuple(words))


def gallery(*photos) -> Gallery:
    return Gallery("toy", "test", tuple(photos), "", True)


# ------------------------------------------------------------------------------------------------------- numbers


def test_counts_by_hand(tmp_path):
    box = box_polygon(0, 0, 4, 4)
    words = [Word("Bar", box), Word("bar", box), Word("###", box, ignore=True)]
    shown = gallery(photograph(tmp_path / "a.png", words), photograph(tmp_path / "b.png", [Word("exit", box)]))
    queries = datasets.queries_for(["bar", "exit", "none"], shown.photos)
    assert data_study.counts(shown, queries) == {
        "photographs": 2,
        "words": 4,
        "legible": 3,
        "distinct": 2,
        "queries": 3,
        "right": pytest.approx(2 / 3),
        "distractors": 0,
    }
    assert data_study.word_lengths(shown, queries).tolist() == [3, 3, 4]
    bare = gallery(Photo("a.png", tmp_path / "a.png"), Photo("c.png", tmp_path / "c.png"))
    listed = Queries(("cd", "efghi"), np.array([[True, False], [True, False]]), "by hand")
    assert data_study.counts(bare, listed)["distractors"] == 1
    assert data_study.word_lengths(bare, listed).tolist() == [2, 5]  # no word is annotated: the queries'
    nothing = Queries((), np.zeros((0, 2), bool), "none")
    assert data_study.counts(bare, nothing)["right"] == 0 and data_study.counts(bare, nothing)["distractors"] == 2


def test_heights_by_hand(tmp_path):
    turned = np.array([[20, 0], [40, 20], [32, 28], [12, 8]])  # 8 * sqrt(2) tall, by 45 degrees
    flat = np.array([[0, 0], [5, 0], [9, 0]])
    words = [
        Word("wide", box_polygon(0, 0, 20, 4)),
        Word("tall", box_polygon(0, 0, 6, 20)),
        Word("turned", turned),
        Word("flat", flat),
        Word("#", box_polygon(0, 0, 9, 9), ignore=True),
    ]
    shown = gallery(photograph(tmp_path / "a.png", words, (64, 32)))
    expected = [4, 6, 8 * 2**0.5, 0]
    np.testing.assert_allclose(data_study.text_heights(shown, 64), expected, atol=1e-4)
    np.testing.assert_allclose(data_study.text_heights(shown, 640), 10 * np.array(expected), atol=1e-3)
    # the shorter side fills the square: twice the letterbox's scale
    np.testing.assert_allclose(data_study.text_heights(shown, 64, "centre_crop"), 2 * np.array(expected), atol=1e-4)


def test_heights_of_photographs_that_lie_on_their_side(tmp_path):
    words = [Word("w", box_polygon(0, 0, 20, 4))]
    upright = photograph(tmp_path / "a.jpg", words, (64, 32))
    lying = photograph(tmp_path / "b.jpg", words, (64, 32), exif=6)  # seen as 32 x 64
    broken = Photo("c.jpg", tmp_path / "c.jpg", tuple(words))
    assert data_study.text_heights(gallery(upright, broken), 64).tolist() == pytest.approx([4])
    assert data_study.text_heights(gallery(lying), 64, "squash").tolist() == pytest.approx([4])
    assert data_study.text_heights(gallery(upright), 64, "squash").tolist() == pytest.approx([8])
    assert data_study.text_heights(gallery(), 64).shape == (0,)


# ------------------------------------------------------------------------------------------------------- figures


def test_word_length_bars_sum_to_all_words():
    fig = data_charts.word_length_bars({"one": [3, 3, 4, 99], "two": [1]}, longest=5)
    ax = fig.axes[0]
    first, second = ([bar.get_height() for bar in group] for group in ax.containers)
    assert first == [0, 0, 50, 25, 25] and second == [100, 0, 0, 0, 0]
    hatches = {group[0].get_hatch() for group in ax.containers}
    assert len(hatches) == 2, "told apart by more than colour"
    found = texts(fig)
    assert "characters" in found and "%" in found and "one (4 words)" in found and "5+" in found


def test_text_height_curves_reach_every_share_where_it_is():
    fig = data_charts.text_height_curves({"one": [8, 16, 16, 64], "two": [0, 40]}, size=640)
    ax = fig.axes[0]
    curve = ax.lines[0]
    assert list(zip(*curve.get_data())) == [(8, 0), (8, 25), (16, 50), (16, 75), (64, 100)]
    assert ax.lines[1].get_xdata().min() > 0, "a height of zero has no place on a logarithmic axis"
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    assert ax.get_xscale() == "log" and ax.lines[2].get_xdata()[0] == 32
    found = texts(fig)
    assert "pixels at an input of 640 x 640" in found and "one (median 16 pixels)" in found and "32 pixels" in found


def test_sample_grid_outlines_words_and_hides_what_may_not_be_shown(tmp_path):
    words = [
        Word("pay $5", box_polygon(0, 0, 4, 4)),
        Word("x" * 50, box_polygon(8, 8, 4, 4)),
        Word("three", box_polygon(0, 9, 4, 4)),
        Word("four", box_polygon(9, 0, 4, 4)),
        Word("#", box_polygon(1, 1, 2, 2), ignore=True),
    ]
    (tmp_path / "broken.png").write_text("no photograph")
    photos = [
        photograph(tmp_path / "a.png", words, (1000, 500)),
        Photo("broken.png", tmp_path / "broken.png"),
        photograph(tmp_path / "c.png"),
    ]
    fig = data_charts.sample_grid(photos, show=True, columns=2, attribution="by hand")
    assert len(fig.axes) == 4
    ax = fig.axes[0]
    assert [line.get_linestyle() for line in ax.lines] == ["-"] * 4 + ["--"]
    np.testing.assert_allclose(ax.lines[1].get_xydata()[0], [8, 8])  # in pixels of the photograph
    assert ax.get_xlim() == (0, 1000) and ax.get_ylim() == (500, 0)
    assert max(ax.images[0].get_array().shape) == 320
    found = texts(fig)
    assert "cannot be read" in found and "by hand" in found and "+ 1" in found and "…" in found and r"pay \$5" in found
    hidden = data_charts.sample_grid(photos[:1], show=False)
    assert np.unique(hidden.axes[0].images[0].get_array()).tolist() == [235]
    assert len(hidden.axes[0].lines) == 5
    with pytest.raises(ValueError, match="no photographs"):
        data_charts.sample_grid([], show=True)


def test_nearest_histogram_counts_every_photograph():
    bits = [0, 47, 48, 90, 256]
    fig = data_charts.nearest_histogram(bits, distance=48)
    ax = fig.axes[0]
    assert sum(bar.get_height() for bar in ax.patches) == len(bits)
    left = sum(bar.get_height() for bar in ax.patches if bar.get_x() < 48)
    assert left == 2 and ax.lines[0].get_xdata()[0] == 48
    assert "bits of 256" in texts(fig) and "taken for the same" in texts(fig)


@pytest.mark.parametrize(
    "draw",
    [
        data_charts.word_length_bars,
        lambda values: data_charts.text_height_curves(values, 640),
        lambda values: data_charts.nearest_histogram(values.get("toy", []), 48),
    ],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(ValueError, match="Nothing to draw"):
        draw({})
    with pytest.raises(ValueError, match="Nothing to draw: (toy|the test set) has no"):
        draw({"toy": []})

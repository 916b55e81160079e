"""Chapter 11: the heights of words by hand, and the chapter with every special value, on sets of every size."""

from pathlib import Path

import chapters
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import Gallery, Photo, Word
from fdp_core.datasets.types import box_polygon
from fdp_core.studies import data_study
from fdp_core.studies.parameters import BadParameter

CHAPTER = Path(__file__).parents[2] / "notebooks" / "11_data.ipynb"


def photograph(path: Path, words=(), size=(64, 32), exif: int | None = None) -> Photo:
    image, tags = Image.new("RGB", size, "white"), Image.Exif()
    if exif:
        tags[0x0112] = exif
    image.save(path, exif=tags)
    return Photo(path.name, path, tuple(words))


def gallery(*photos) -> Gallery:
    return Gallery("toy", "test", tuple(photos), "", True)


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


# ---- the chapter


def run(**values):
    """Run the chapter; return its names, and the text and axes of each of its figures."""
    names, figures = chapters.run("11", **values), {}
    for number in plt.get_fignums():
        figure = plt.figure(number)
        words = " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))
        figures[words] = figure.axes
    plt.close("all")
    return names, figures


def axes_of(figures, label):
    (axes,) = (axes for words, axes in figures.items() if label in words)
    return axes


@pytest.fixture
def folder(tmp_path):
    """Three photographs and a table: one word each on two of them."""
    base = tmp_path / "own"
    base.mkdir()
    for number, photo in enumerate(datasets.load("mini")[0].photos[:3]):
        Image.open(photo.path).save(base / f"{number}.jpg")
    (base / "words.csv").write_text('file,words\n0.jpg,pay $5\n1.jpg,"exit"\n')
    return base


@pytest.mark.filterwarnings("ignore:.*it can be searched, not measured")
@pytest.mark.parametrize("train_set", ["", "mini_train"])
@pytest.mark.parametrize("photographs", [1, 3])
def test_a_folder_without_words(folder, photographs, train_set):
    (folder / "words.csv").unlink()
    for number in range(photographs, 3):
        (folder / f"{number}.jpg").unlink()
    names, figures = run(dataset=str(folder), train_set=train_set)
    assert names["lengths"] == names["heights"] == {} and len(names["tested"].ids) == photographs
    assert len(figures) == 1 + bool(train_set), "nothing but the sample and, where asked for, the histogram"
    assert len(axes_of(figures, "0.jpg")) == photographs


def test_a_folder_with_one_word_and_one_photograph(folder):
    for number in (1, 2):
        (folder / f"{number}.jpg").unlink()
    (folder / "words.csv").write_text("file,words\n0.jpg,exit\n")
    names, figures = run(dataset=str(folder), train_set="")
    assert {key: values.tolist() for key, values in names["lengths"].items()} == {"own/test": [4]}
    assert names["heights"] == {}, "a folder has no polygons"
    bars = [bar.get_height() for bar in axes_of(figures, "characters")[0].patches]
    assert sum(bars) == 100 and bars[3] == 100


def test_several_sets_and_a_query(folder, capsys):
    names, figures = run(
        dataset=f"mini+{folder}", word="exit", count=2, train_set="mini_train+mini_train", split="test"
    )
    assert set(names["shown"]) == {"mini/test", "own/test"} and [p.id for p in names["samples"]["own/test"]] == [
        "1.jpg"
    ]
    assert "mini/test: 150 photographs, 4 of them distractors" in capsys.readouterr().out
    assert len(names["learnt"]) == 2
    axes = axes_of(figures, "characters")[0]
    for bars in axes.containers:
        assert sum(bar.get_height() for bar in bars) == pytest.approx(100)
    for words in ("length of the word, characters", "15+", "mini/test (824 words)", "own/test (3 words)"):
        axes_of(figures, words)
    heights = axes_of(figures, "pixels at an input of 640 x 640")[0]
    assert heights.get_xscale() == "log" and len(heights.lines) == 2
    with pytest.raises(BadParameter, match="There is nothing on page 9 for 'exit'"):
        run(dataset=str(folder), word="exit", page=9, train_set="")
    with pytest.raises(BadParameter, match="There is nothing on page 1 for 'nowhere'"):
        run(dataset=str(folder), word="nowhere", train_set="")


def test_photographs_that_may_not_be_shown_are_left_grey(tmp_path, monkeypatch):
    words = (Word("x" * 50, box_polygon(8, 8, 4, 4)), Word("#", box_polygon(1, 1, 2, 2), ignore=True))
    shown = photograph(tmp_path / "a.png", words, (1000, 500))
    (tmp_path / "broken.png").write_text("no photograph")
    broken = Photo("broken.png", tmp_path / "broken.png", words)
    load = datasets.load

    def secret(name, *arguments, **options):
        if name != "secret":
            return load(name, *arguments, **options)
        photos = (shown, broken)
        return Gallery("secret", "test", photos, "", False, "by hand"), datasets.queries_for(["x" * 50], photos)

    monkeypatch.setattr(datasets, "load", secret)
    figures = run(dataset="secret", train_set="mini_train")[1]
    first, second = axes_of(figures, "by hand")
    assert np.unique(first.images[0].get_array()).tolist() == [235]
    assert [line.get_linestyle() for line in first.lines] == ["-", "--"]
    np.testing.assert_allclose(first.lines[0].get_xydata()[0], [8, 8])  # in pixels of the photograph
    assert first.get_xlim() == (0, 1000) and first.get_ylim() == (500, 0)
    assert second.texts[0].get_text() == "cannot be read"


def test_present_means_all_sets_that_are_here(monkeypatch):
    monkeypatch.setattr(datasets, "present", lambda: ["mini", "mini_train"])
    names, figures = run(dataset="present", train_set="", split="")
    assert set(names["shown"]) == {"mini/test", "mini_train/train"}
    curves = axes_of(figures, "pixels at an input")[0].lines
    assert curves[0].get_linestyle() != curves[1].get_linestyle(), "told apart by more than colour"


def test_copies_are_found_and_counted(folder):
    names, figures = run(dataset=str(folder), train_set=f"mini_train+{folder}", distance=48)
    assert [pair.b for pair in names["pairs"]] == ["0.jpg", "1.jpg", "2.jpg"]
    axes = axes_of(figures, "bits of 256")[0]
    assert sum(bar.get_height() for bar in axes.patches) == 3
    assert sum(bar.get_height() for bar in axes.patches if bar.get_x() < 48) == 3

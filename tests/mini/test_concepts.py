"""The picture concepts: the table is sound, the fonts have them, and the committed overlap is what the queries say."""

import csv

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from fdp_core import datasets
from fdp_core.mini import concepts, fonts, gallery


def rows():
    with open(concepts.TABLE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def committed():
    with open(concepts.OVERLAP, encoding="utf-8", newline="") as file:
        return {row["query_set"]: (int(row["queries"]), row["overlap"].split()) for row in csv.DictReader(file)}


def test_the_table_parses_and_repeats_nothing_within_a_font():
    assert {row["font"] for row in rows()} == set(concepts.FONTS) == set(concepts.table())
    for font, part in concepts.table().items():
        of_font = [row for row in rows() if row["font"] == font]
        assert len(part) == len(of_font), f"{font}: a concept twice"
        assert len(set(part.values())) == len(of_font), f"{font}: a picture twice"
    for name in concepts.names():
        assert name.isascii() and name.isalpha() and name == name.lower(), name


def test_no_function_word_is_a_concept():
    assert not set(concepts.names()) & set(gallery.FUNCTION)
    assert concepts.overlap(gallery.FUNCTION) == []


def test_every_drawable_word_of_the_mini_gallery_is_a_concept():
    assert set(gallery.DRAWABLE) <= set(concepts.table()["font-awesome"])


def test_overlap_folds_case_and_compares_whole_queries():
    assert concepts.overlap(["Hotel", "coffee", "COFFEE", "the", "coffee shop"]) == ["coffee", "hotel"]
    assert concepts.overlap([]) == []


@pytest.mark.parametrize(
    ("font", "find"), [("font-awesome", fonts.find_icon_font), ("noto-color-emoji", fonts.find_emoji_font)]
)
def test_the_font_has_every_concept(font, find):
    path = find()
    if path is None:
        pytest.skip(f"{concepts.FONTS[font]} is not installed")
    with TTFont(path, lazy=True) as face:
        lacking = [name for name, code in concepts.table()[font].items() if code not in face.getBestCmap()]
    assert not lacking


def test_an_emoji_is_rgba_cropped():
    path = fonts.find_emoji_font()
    if path is None:
        pytest.skip("fonts-noto-color-emoji is not installed")
    for name in ("coffee", "house", "fox"):
        sprite = concepts.emoji(path, concepts.table()["noto-color-emoji"][name])
        assert sprite.dtype == np.float32 and sprite.ndim == 3 and sprite.shape[2] == 4
        assert min(sprite.shape[:2]) > 50, "the bitmaps are about 109 pixels high"
        colour, alpha = sprite[..., :3], sprite[..., 3]
        assert 0 <= colour.min() and 1 < colour.max() <= 255
        assert 0 <= alpha.min() and alpha.max() == 1
        for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
            assert edge.any(), "nothing to crop is left"
        assert not sprite.flags.writeable, "it is cached: nobody may paint on it"
    assert concepts.emoji(path, 0xE000) is None, "a private code point, which the font does not have"


def test_the_sheet_holds_what_both_fonts_draw():
    sheet = concepts.sheet()
    assert list(sheet) == sorted(set(concepts.table()["font-awesome"]) & set(concepts.table()["noto-color-emoji"]))
    for name, sprite in sheet.items():
        assert sprite.dtype == np.float32 and 80 < max(sprite.shape) <= 108 and sprite.shape[2] == 4, name
        assert sprite[..., :3].max() <= 255 and 0.9 < sprite[..., 3].max() <= 1, name
        assert all(edge.any() for edge in (sprite[0, :, 3], sprite[-1, :, 3], sprite[:, 0, 3], sprite[:, -1, 3])), name


def test_the_sheet_is_what_the_font_draws():
    path = fonts.find_emoji_font()
    if path is None:
        pytest.skip("fonts-noto-color-emoji is not installed")
    with Image.open(concepts.SHEET) as shipped:
        drawn, kept = (np.asarray(image.convert("RGBA"), float) for image in (concepts._draw_sheet(path), shipped))
    assert np.abs(drawn - kept).mean() < 2


def test_the_committed_overlap_agrees_with_the_mini_gallery():
    texts = concepts.query_texts("mini")
    assert committed()["mini"] == (len(texts), concepts.overlap(texts))
    assert set(committed()) == set(concepts.QUERY_SETS)


def test_the_committed_overlap_agrees_with_the_frozen_list():
    texts = concepts.query_texts("icdar2015")
    assert len(texts) == 100
    assert committed()["icdar2015"] == (len(texts), concepts.overlap(texts))


@pytest.mark.needs_data
def test_the_committed_overlap_agrees_with_svt(real_data):
    real_data("svt")
    texts = concepts.query_texts("svt")
    assert committed()["svt"] == (len(texts), concepts.overlap(texts))


def test_the_table_is_not_written_where_a_query_set_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    monkeypatch.setattr(concepts, "OVERLAP", tmp_path / "concept_overlap.csv")
    concepts.main([])
    printed = capsys.readouterr().out
    assert "noto-color-emoji" in printed and "mini: " in printed and "not there: svt" in printed
    with pytest.raises(SystemExit):
        concepts.main(["--write"])
    assert not concepts.OVERLAP.exists()


def test_what_is_written_is_what_the_table_says(tmp_path, monkeypatch):
    monkeypatch.setattr(concepts, "OVERLAP", tmp_path / "concept_overlap.csv")
    monkeypatch.setattr(concepts, "query_texts", lambda name: ("the", "Coffee", "zzyzx"))
    concepts.main(["--write"])
    assert committed() == {name: (3, ["coffee"]) for name in concepts.QUERY_SETS}


def test_a_missing_set_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    with pytest.raises(datasets.DatasetMissing):
        concepts.query_texts("svt")
    assert list(concepts.overlap_table()) == ["icdar2015", "mini"]

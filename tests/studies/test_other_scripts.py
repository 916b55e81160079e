"""Chapter 14 with every special value of its parameters, on few words and steps; its functions by hand."""

import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from chapters import elsewhere, functions, run  # noqa: F401  (elsewhere: a fixture for all tests here)
from PIL import Image

from fdp_core.datasets import DatasetMissing, Gallery, Photo, Word
from fdp_core.studies.parameters import BadParameter

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = {"words": 8, "held_out": 3, "steps": 2, "batch": 4, "context_steps": 1, "pictures": 1}


@pytest.fixture(scope="module")
def chapter():
    return functions("14", fonts="", seed=0, held_out=5, words=20)


def test_spellings_by_hand(chapter):
    assert chapter.plain("tiếng Ένα") == "tieng Ενα" and chapter.plain("ที่") == "ท"
    assert chapter.shown_order("عرب") == "برع" and chapter.shown_order("один") == "один"
    assert [chapter.by_sound(letter) for letter in "πжé漢"] == ["p", "z", "e", "漢"]


def test_words_are_of_their_script_and_lessons_are_unlike_what_is_searched_for(chapter):
    assert "ελλάδα" in chapter.LEXICON["Greek"] and "中国香港特别行政区" in chapter.LEXICON["Chinese"]
    assert not any(word.isascii() for word in chapter.LEXICON["Vietnamese"])
    held, lessons = chapter.split("Greek")
    assert len(held) == 5 and len(lessons) == 20 and not {*held} & {*lessons}
    far = chapter.process.cdist(held, lessons, scorer=chapter.distance.Levenshtein.normalized_distance)
    assert far.min() > 1 / 3
    assert [script for script, faces in chapter.OFFERED.items() if len(faces) < 2] == [
        "Devanagari", "Thai", "Chinese", "Korean", "Japanese"
    ]  # fmt: skip


def test_arabic_is_joined_and_runs_to_the_left(chapter):
    face = chapter.FACES[0]
    joined, alone = chapter.ink("عرب", face).copy(), chapter.ink("\u200c".join("عرب"), face)
    assert joined.shape[1] < alone.shape[1]
    tall = (chapter.ink("اب", face) > 128).sum(axis=0)  # alef, a stroke, then the low beh
    assert tall[-5:].max() > 2 * tall[:5].max()
    assert chapter.cut("ελλάδα", face).shape == (32, 128, 3)


def test_regions_frame_a_word_or_not(chapter):
    quad = np.array([[[0, 0], [10, 0], [10, 5], [0, 5]]], float)
    assert chapter.framed((0, 0, 10, 5), quad) and not chapter.framed((20, 0, 30, 5), quad)
    assert not chapter.framed((0, 0, 4, 2), quad), "much larger than the word"


def test_queries_of_a_set_are_its_words_in_other_scripts():
    box = np.array([[0, 0], [9, 0], [9, 9], [0, 9]])
    told = [("Ώρα", "Greek"), ("open", "Latin"), ("店", "Chinese")], [("ώρα", "Greek")]
    photos = [
        Photo(str(n), Path(str(n)), tuple(Word(text, box, script=script) for text, script in found))
        for n, found in enumerate(told)
    ]
    keys, right = functions("14", fonts="").other_words(Gallery("a", "test", tuple(photos), "", True), (), np.eye(2))
    assert keys == [("Greek", "ώρα"), ("Chinese", "店")] and right.tolist() == [[True, True], [True, False]]


def test_records_are_written_and_read_and_a_real_set_is_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    for text in ("ώρα", "και"):
        folder = tmp_path / "csvtr" / "CSVTR" / text
        folder.mkdir(parents=True)
        Image.new("RGB", (96, 64), (200, 30, 30)).save(folder / "Google_0001.jpeg")
    names = run("14", scripts="Greek, Arabic", keep_records=True, dataset="csvtr", photographs=1, **QUICK)
    log = [json.loads(line) for line in names["LOG"].read_text("utf-8").splitlines()]
    assert [r["script"] for r in log[:4]] == ["English", "Greek", "Arabic", "Arabic, as typed"]
    assert len(log[1]["trained"]) == 3 and log[1]["together"] == ["English", "Greek", "Arabic"]
    assert set(names["recorded"]["script"]) == {run["script"] for run in log}
    assert len(names["real"]) == 1 and names["real"]["trained"].tolist() == [1.0]
    assert {"order", "unjoined"} <= {*" ".join(names["tests"].index).replace(":", " ").split()}


def test_a_folder_of_fonts_adds_scripts_and_no_steps_leave_the_tower_as_it_was(tmp_path):
    last = Path(matplotlib.get_data_path(), "fonts/ttf/LastResortHE-Regular.ttf")  # a box for every letter
    for name in ("NotoOne.ttf", "NotoTwo.ttf"):
        shutil.copy(last, tmp_path / name)
    names = run("14", fonts=str(tmp_path), scripts="Thai", seed=1, **QUICK | {"steps": 0, "context_steps": 0})
    assert names["chosen"] == ["English", "Thai"] and "Thai" in names["found"]
    old, new = (names["spell"](names[tower], ["open"]) for tower in ("clip", "tower"))
    assert np.array_equal(old, new)


@pytest.mark.parametrize(
    "values, error, told",
    [
        ({"scripts": "Thai"}, BadParameter, "install fonts-noto-core"),
        ({"scripts": "Chinese"}, BadParameter, "install fonts-noto-cjk"),
        ({"scripts": "Runes"}, BadParameter, "unknown; there are: English"),
        ({"scripts": "Greek", "dataset": "mlt2019"}, DatasetMissing, "By hand|fetch mlt2019"),
    ],
    ids=str,
)
def test_what_is_not_here_is_said(values, error, told, tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    with pytest.raises(error, match=told):
        run("14", **QUICK | values)

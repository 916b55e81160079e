"""Reading alone: crops of annotated words in place of photographs, counted by hand."""

import cv2
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from fdp_core.config import Config
from fdp_core.datasets import Gallery, Photo, Queries, Word
from fdp_core.datasets.protocol import WORD_PROTOCOL
from fdp_core.datasets.types import box_polygon
from fdp_core.evaluation import metrics
from fdp_core.model import FDP
from fdp_core.regions import crops, word_finder
from fdp_core.regions.settings import RegionOptions
from fdp_core.regions.system import RegionSystem
from fdp_core.studies import word_crops

QUERIES = ("open", "hotel", "cafe", "bank", "hidden")
BENT = np.array([[10, 50], [50, 44], [90, 50], [90, 70], [50, 64], [10, 70]], np.float32)  # three points along the top


@pytest.fixture(scope="module")
def system():
    model = FDP(tiny.backbone(), Config(image_size=64, localiser_hidden=8, shift="off", probe="off", prompts="none"))
    torch.manual_seed(0)
    options = RegionOptions(height=32, width=64, engine="torch", precision="float32")
    return RegionSystem(model, options, word_finder.WordFinder(8, 8).eval(), progress=False)


@pytest.fixture
def gallery(tmp_path):
    """Two written photographs: six words that count, two that do not."""
    said = {
        "a.png": [
            Word("Open", box_polygon(8, 6, 60, 24)),
            Word("HOTEL", BENT),
            Word("open", box_polygon(10, 90, 50, 20)),
        ],
        "b.png": [
            Word("cafe", box_polygon(5, 5, 80, 30)),
            Word("hidden", box_polygon(5, 40, 60, 20), ignore=True),
            Word("open", box_polygon(8, 64, 60, 22)),
            Word("", box_polygon(70, 70, 20, 10), ignore=True),
            Word("alone", box_polygon(8, 94, 60, 22)),
        ],
    }
    photos = []
    for name, words in said.items():
        image = np.full((128, 100, 3), 230, np.uint8)
        for word in words:
            x, y = word.polygon[-1].astype(int)
            cv2.putText(image, word.text, (int(x) + 4, int(y) - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (20, 20, 60), 1)
        Image.fromarray(image).save(tmp_path / name)
        photos.append(Photo(name, tmp_path / name, tuple(words)))
    return Gallery("toy", "test", tuple(photos), "manifest", True)


@pytest.fixture
def asked():
    """Relevance over photographs: word crops make their own."""
    relevant = np.array([[1, 1], [1, 0], [0, 1], [0, 0], [0, 1]], bool)
    groups = {"short": np.array([True, False, True, True, False]), "hidden": np.array([False] * 4 + [True])}
    return Queries(QUERIES, relevant, "toy protocol", groups)


def test_relevant_pairs_are_counted_by_hand(system, gallery, asked):
    report = word_crops.evaluate(system, gallery, asked, WORD_PROTOCOL, ks=(1, 2))
    assert report.ids == ("a.png#0", "a.png#1", "a.png#2", "b.png#0", "b.png#2", "b.png#4")
    assert report.texts == ("open", "hotel", "cafe"), "what no word answers is not asked"
    assert report.relevant.astype(int).tolist() == [[1, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert report.scores.shape == (3, 6) and np.abs(report.scores).max() <= 1 + 1e-6
    assert set(report.recall_at) == set(report.precision_at) == {1, 2}
    assert report.mean_ap == pytest.approx(report.ap.mean())
    np.testing.assert_allclose(report.ap, metrics.average_precisions(report.relevant, report.scores))


def test_groups_keep_to_the_queries_that_are_left(system, gallery, asked):
    report = word_crops.evaluate(system, gallery, asked, WORD_PROTOCOL)
    assert report.groups["short"]["queries"] == 2
    assert report.groups["short"]["mean"] == pytest.approx(report.ap[[0, 2]].mean())
    assert "hidden" not in report.groups, "nobody of it is left"


def test_ignored_words_are_left_out_whatever_they_say(system, gallery, asked):
    report = word_crops.evaluate(system, gallery, asked, WORD_PROTOCOL)
    assert not {"b.png#1", "b.png#3"} & set(report.ids)
    assert "hidden" not in report.texts


def test_the_protocol_decides_what_counts(system, gallery, asked):
    """With five letters and more, hotel and alone are left."""
    report = word_crops.evaluate(system, gallery, asked, {**WORD_PROTOCOL, "min_length": 5})
    assert report.ids == ("a.png#1", "b.png#4") and report.texts == ("hotel",)
    assert report.relevant.tolist() == [[True, False]]


def test_each_word_is_cut_by_its_own_polygon(system, gallery, asked, monkeypatch):
    seen = []

    def encode(cuts):
        seen.append(cuts)
        return np.eye(len(cuts), 32, dtype=np.float32)

    monkeypatch.setattr(system, "encode_crops", encode)
    word_crops.evaluate(system, gallery, asked, WORD_PROTOCOL)
    image = np.asarray(Image.open(gallery.photos[0].path))
    four, bent = gallery.photos[0].words[0].polygon, crops.upright_box(BENT)
    (cuts,) = seen
    for cut, quad in zip(cuts, (four, bent)):
        around = crops.grow(quad, word_finder.MARGIN, word_finder.MARGIN)
        np.testing.assert_array_equal(cut, crops.cut(image, around, 32, 64))


def test_a_system_that_reads_everything_has_no_error(system, gallery, asked, monkeypatch):
    """Vectors by hand: every crop and every query is its word's own axis."""
    words = ["open", "hotel", "open", "cafe", "open", "alone"]
    axis = {word: np.eye(32, dtype=np.float32)[i] for i, word in enumerate(sorted(set(words)))}
    monkeypatch.setattr(system, "encode_crops", lambda cuts: np.stack([axis[word] for word in words]))
    monkeypatch.setattr(system, "encode_queries", lambda texts: np.stack([np.append(axis[text], 1) for text in texts]))
    report = word_crops.evaluate(system, gallery, asked, WORD_PROTOCOL)
    assert report.mean_ap == report.precision_at[1] == 1
    assert report.recall_at[1] == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert report.system == "FDP + regions, word crops" and report.protocol.endswith("toy protocol")
    assert report.settings["backbone"] == "mini"

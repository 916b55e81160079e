"""Training the reader: what a photograph's cuts say, one look, and a run that goes on where it stopped."""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
import pytest
import torch

from fdp_core import backbones
from fdp_core.datasets.types import Word
from fdp_core.mini import pretrain_reader
from fdp_core.mini.pretrain_finder import Example
from fdp_core.regions import reader, word_finder


@pytest.fixture
def scene() -> Example:
    """A grey scene with two white words and an unreadable one."""
    image = np.full((160, 320, 3), 90, np.uint8)
    boxes = [(20, 20, 120, 50), (160, 20, 260, 50), (20, 90, 140, 130)]
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 255
    polygons = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32) for x0, y0, x1, y1 in boxes]
    said = zip(("Open!", "24", "###"), polygons)
    return Example(cv2.imencode(".png", image)[1], tuple(Word(text, quad, text == "###") for text, quad in said))


@pytest.mark.parametrize(("text", "word"), [("Open!", "open"), ("Don't", "don't"), ("###", ""), ("Caf\u00e9s", "")])
def test_words_are_said_as_they_are_searched_for(text: str, word: str) -> None:
    assert pretrain_reader.said(text) == word


def test_cuts_say_their_word_or_nothing_and_unreadable_ones_are_left_out(scene, monkeypatch) -> None:
    found = np.array([[24, 22, 118, 52], [20, 20, 260, 50], [22, 92, 138, 128], [200, 100, 280, 140]], np.float32)
    quads = np.array([[[x0, y0], [x1, y0], [x1, y1], [x0, y1]] for x0, y0, x1, y1 in found])
    monkeypatch.setattr(word_finder, "find", lambda *_, **__: (quads, np.ones(4)))
    made = pretrain_reader.patches(word_finder.WordFinder(8, 8), scene)
    assert [patch.text for patch in made] == ["open", "24", "open", ""]  # two boxes; a cut of one word, one of none
    for patch in made[:3]:
        cut = pretrain_reader.crops.cut(patch.image, patch.quad, 32, 128)
        assert cut.mean() > 235
    assert [patch.text for patch in pretrain_reader.patches(None, scene)] == ["open", "24"]


def test_patches_come_back_from_their_file(scene, tmp_path) -> None:
    sets = {"icdar2015_train": [scene, scene], "bsds500": [scene]}
    finder = word_finder.WordFinder(8, 8)
    first = pretrain_reader.gather(sets, finder, tmp_path / "cuts.npz", {"icdar2015_train": 2})
    again = pretrain_reader.gather({}, finder, tmp_path / "cuts.npz")
    assert first.keys() == again.keys() and len(first["icdar2015_train"]) >= 4
    for one, other in zip(first["icdar2015_train"], again["icdar2015_train"]):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.text == other.text


@pytest.mark.parametrize("labels", [[["x", "y"]], [["x"]] * 3, {"a": 1}, None, [[1, 2]] * 3])
def test_a_damaged_file_of_cuts_is_named(scene, tmp_path, labels) -> None:
    kept = tmp_path / "cuts.npz"
    pretrain_reader.gather({"icdar2015_train": [scene]}, None, kept)
    with np.load(kept) as file:
        arrays = dict(file)
    whole = kept.read_bytes()
    np.savez(kept, **arrays | {"labels": np.frombuffer(json.dumps(labels).encode(), np.uint8)})
    for data in (kept.read_bytes(), whole[: len(whole) // 2], b""):
        kept.write_bytes(data)
        with pytest.raises(ValueError, match=r"cuts\.npz is no file of cuts or is damaged.*remove it"):
            pretrain_reader.gather({}, None, kept)


def test_training_goes_on_where_it_stopped(scene, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        pretrain_reader.training, "cosine", lambda *_: 1.0
    )  # it depends on how many steps were asked for
    image = scene.image()
    real = {
        "icdar2015_train": [pretrain_reader.patch(image, scene.words[0].polygon, "open")],
        "nothing": [pretrain_reader.patch(image, scene.words[2].polygon, "")],
    }

    def run(name: str, steps: int, start: str | None = None) -> dict[str, torch.Tensor]:
        asked = {"steps": steps, "lr": 1e-3, "batch": 8, "ema": 0.5, "known": 50, "seed": 0, "save": 1, "workers": 0}
        asked |= {
            "start": start and tmp_path / start,
            "every": 1,
            "minutes": None,
            "device": "cpu",
            "full_precision": True,
        }
        pretrain_reader.train(tmp_path / name, real, [scene], argparse.Namespace(**asked))
        return reader.load(backbones.load("mini"), tmp_path / name).clip.visual.state_dict()

    run("two.safetensors", 1)
    two, one = run("two.safetensors", 2), run("one.safetensors", 2)
    start = backbones.load("mini").clip.visual.state_dict()
    assert all(torch.allclose(two[name], one[name], atol=2e-4) for name in one)
    changed = {name for name in one if not torch.equal(one[name], start[name])}
    assert "attnpool.c_proj.weight" in changed and not any("running" in name for name in changed)
    later = run("later.safetensors", 1, "two.safetensors")  # a new schedule from another reader's weights
    apart = [sum(float((later[n] - some[n]).norm()) for n in changed) for some in (two, start)]
    assert 0 < apart[0] < apart[1]

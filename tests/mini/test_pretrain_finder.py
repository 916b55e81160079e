"""Training the word finder: targets and loss by hand, one view, and a run that goes on where it stopped."""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import pytest
import torch

from fdp_core.datasets.types import Word
from fdp_core.mini import pretrain_finder
from fdp_core.regions import word_finder


def box(x: float, y: float, length: float, height: float, turn: float = 0.0) -> np.ndarray:
    """Return a turned rectangle [6]; ``turn`` in degrees."""
    return np.array([x, y, length, height, np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))], np.float32)


def test_rectangle_of_a_word_is_the_mean_of_its_opposite_sides() -> None:
    quad = np.array([[0, 0], [20, 0], [20, 12], [0, 8]], np.float32)
    found = pretrain_finder.rectangle(quad + np.array([5, 5]))
    along = np.array([20, 2]) / np.hypot(20, 2)
    assert found[4:] == pytest.approx(along, abs=1e-5)
    straight = pretrain_finder.rectangle(np.array([[0, 0], [20, 0], [20, 8], [0, 8]], np.float32))
    assert straight == pytest.approx([10, 4, 20, 8, 1, 0])


def test_targets_lead_back_to_the_words() -> None:
    words = [box(60, 40, 64, 16, 5), box(160, 160, 150, 60, -10), box(128, 60, 100, 100)]
    wanted = pretrain_finder.targets(words, [box(220, 20, 40, 20)], 256)
    middles = np.concatenate(word_finder.centres(256, 256))
    strides = np.repeat(np.float32(word_finder.STRIDES), [1024, 256, 64])
    sure = wanted[:, 0] == 1
    cells = np.column_stack([np.log(wanted[sure, 1:5] / (word_finder.UNIT * strides[sure, None])), wanted[sure, 5:]])
    found = word_finder.boxes_of(cells, middles[sure], strides[sure])
    nearest = np.abs(found[:, None] - np.stack(words)).max(2)
    assert (nearest.min(1) < 1e-2).all() and set(nearest.argmin(1)) == {0, 1, 2}
    near = np.abs(middles - [220, 20]).max(1) < 8
    assert (wanted[near, 0] == -1).all()
    assert (wanted[np.abs(middles - [20, 220]).max(1) < 16, 0] == 0).all()


def test_a_perfect_answer_costs_nothing() -> None:
    wanted = torch.from_numpy(pretrain_finder.targets([box(60, 64, 64, 20)], [], 128))[None]
    strides = torch.repeat_interleave(torch.tensor(word_finder.STRIDES), torch.tensor([256, 64, 16])).float()
    cells = torch.zeros(1, len(strides), 7)
    cells[..., 0] = torch.where(wanted[..., 0] > 0, 20.0, -20.0)
    cells[..., 1:5] = torch.log(wanted[..., 1:5].clamp(min=0.1) / (word_finder.UNIT * strides[:, None]))
    cells[..., 5:] = wanted[..., 5:]
    grids = [part.transpose(1, 2).reshape(1, 7, n, n) for part, n in zip(cells.split([256, 64, 16], 1), (16, 8, 4))]
    value, parts = pretrain_finder.loss(grids, wanted)
    assert float(value) < 1e-3
    grids[0][:, 0] *= -1
    assert float(pretrain_finder.loss(grids, wanted)[0]) > 1


@pytest.fixture
def sets() -> dict[str, list[pretrain_finder.Example]]:
    """One grey scene with a white word, and the same as a photograph without text."""
    image = np.full((200, 240, 3), 90, np.uint8)
    image[80:110, 60:160] = 255
    jpeg = cv2.imencode(".jpg", image)[1]
    word = np.array([[60, 80], [160, 80], [160, 110], [60, 110]], np.float32)
    return {
        "rendered": [pretrain_finder.Example(jpeg, (Word("", word),))],
        "bsds500": [pretrain_finder.Example(jpeg, ())],
    }


def test_a_view_moves_words_with_the_picture(sets, monkeypatch) -> None:
    monkeypatch.setattr(pretrain_finder.scenery, "light", lambda rng, image: image)
    monkeypatch.setattr(pretrain_finder.scenery, "camera", lambda rng, image, hard: image)
    example, right = sets["rendered"][0], []
    middles = np.concatenate(word_finder.centres(256, 256)).astype(int)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        picture, wanted = pretrain_finder.view(rng, example.image(), example, 256, (0.9, 1.4))
        assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8 and wanted.shape == (1344, 7)
        x, y = middles[wanted[:, 0] == 1].T
        grey = np.median(picture, axis=(0, 1))
        right += list(np.abs(picture[y, x] - grey).min(1) > 60)
    assert len(right) > 20 and np.mean(right) > 0.95


@pytest.mark.parametrize("pooled", [True, False])
def test_training_goes_on_where_it_stopped(sets, tmp_path, monkeypatch, pooled) -> None:
    monkeypatch.setattr(pretrain_finder, "rate", lambda *_: 1.0)  # it depends on how many steps were asked for

    def run(name: str, steps: int) -> dict[str, torch.Tensor]:
        asked = {"steps": steps, "lr": 1e-3, "batch": 2, "side": 128, "cool": 0.4, "seed": 0, "save": 1, "workers": 0}
        asked |= {"teacher": None, "pooled": pooled}
        pretrain_finder.train(tmp_path / name, sets, argparse.Namespace(**asked))
        return word_finder.load(tmp_path / name).state_dict()

    run("two.safetensors", 1)
    two, one = run("two.safetensors", 2), run("one.safetensors", 2)
    assert all(torch.allclose(two[name], one[name], atol=1e-3) for name in one)
    word_finder.save(tmp_path / "start.safetensors", pretrain_finder.begin(0, pooled), {})  # packed as the others are
    start = word_finder.load(tmp_path / "start.safetensors").state_dict()
    moved = {name.split(".")[0] for name in one if not torch.equal(one[name], start[name])}
    assert moved >= {"layer4", "smooth", "head", "last"}
    if pooled:
        assert not moved & {"conv1", "conv2", "conv3", "layer1"}
    else:
        assert moved >= {"conv3", "layer1"} and not moved & {"conv1", "conv2"}


def test_a_finder_learns_what_its_teacher_says(sets, tmp_path) -> None:
    teacher = word_finder.save(tmp_path / "teacher.safetensors", pretrain_finder.begin(0, pooled=True), {})
    asked = {"steps": 4, "lr": 1e-3, "batch": 2, "side": 128, "cool": 0.4, "seed": 0, "save": 2, "workers": 0}
    asked |= {"teacher": teacher, "pooled": False}
    pretrain_finder.train(tmp_path / "taught.safetensors", sets, argparse.Namespace(**asked))
    taught, wise = word_finder.load(tmp_path / "taught.safetensors"), word_finder.load(teacher)
    assert not taught.pooled and wise.pooled
    start = word_finder.WordFinder()
    start.load_state_dict(wise.state_dict())
    images = torch.from_numpy(sets["rendered"][0].image()[None, :192, :224])

    def differs(finder: word_finder.WordFinder) -> float:
        with torch.no_grad():
            parts = (finder.levels(images), wise.levels(images))
            terms = pretrain_finder.imitation(parts[0], finder.grids(parts[0]), parts[1], wise.grids(parts[1]))
        assert all(value >= -1e-6 for value in terms.values())
        return float(sum(terms.values()))

    assert differs(wise) < 1e-5 and differs(taught) < differs(start)

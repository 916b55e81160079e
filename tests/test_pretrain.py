"""Pre-training: its losses, and that an interrupted run goes on to the same weights."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import safetensors.torch
import torch

from fdp_core import backbones, fonts, losses, pretrain, pretrain_batches

TTF = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "head_width": 64},
    "text_cfg": {"context_length": 64, "vocab_size": 128, "width": 16, "heads": 2, "layers": 1},
}
RECIPE = pretrain.Recipe(
    steps=4,
    batch_scenes=2,
    size=64,
    warmup=1,
    sheet_steps=1,
    mixed_steps=2,
    captions_from=2,
    text_width=16,
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(pretrain, "MINI", TINY)
    monkeypatch.setattr(fonts, "find_fonts", lambda folders=None: [str(TTF / "DejaVuSans.ttf")])
    monkeypatch.setattr(fonts, "find_icon_font", lambda folders=None: None)


def test_contrastive_equals_cross_entropy_with_one_positive_each():
    torch.manual_seed(0)
    x, t = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    scale = torch.tensor(7.0)
    labels = torch.arange(5)
    logits = scale * x @ t.T
    expected = 0.5 * (
        torch.nn.functional.cross_entropy(logits, labels) + torch.nn.functional.cross_entropy(logits.T, labels)
    )
    assert torch.allclose(losses.contrastive(x, t, torch.eye(5, dtype=torch.bool), scale), expected, atol=1e-6)


def test_contrastive_by_hand_with_two_positives():
    """Row 0 has two positives: each competes with the one negative alone."""
    x, t = torch.eye(2), torch.eye(2)[[0, 0, 1]]
    positive = torch.tensor([[True, True, False], [False, False, True]])
    row0, row1 = np.log1p(np.exp(-1)), np.log1p(2 * np.exp(-1))
    columns = np.log1p(np.exp(-1))
    value = float(losses.contrastive(x, t, positive, torch.tensor(1.0)))
    assert value == pytest.approx(0.5 * ((row0 + row1) / 2 + columns), abs=1e-6)


def test_cell_weights_are_shares_of_the_polygon():
    square = np.array([[32, 0], [96, 0], [96, 32], [32, 32]], np.float32)
    weights = pretrain_batches.cell_weights(square, 128, 4).reshape(4, 4)
    assert weights.sum() == pytest.approx(1)
    assert weights[0, 1] == pytest.approx(0.5, abs=0.1) and weights[0, 2] == pytest.approx(
        0.5, abs=0.1
    )  # drawn on a 4-pixel raster


def test_encode_text_cut_equals_full_length():
    torch.manual_seed(0)
    clip = backbones.build_mini(TINY).eval()
    tokens = backbones.CharTokenizer(64)(["open", "a longer text"])
    assert torch.allclose(
        pretrain.encode_text(clip, tokens[:, :16], torch.zeros(2, 0, 16)), clip.encode_text(tokens), atol=1e-5
    )


def test_an_interrupted_run_ends_with_the_same_weights(tiny, tmp_path):
    pretrain.train(tmp_path / "whole", RECIPE, None, "cpu", 0)
    pretrain.train(tmp_path / "parts", RECIPE, None, "cpu", 0, stop_at=2)
    pretrain.train(tmp_path / "parts", RECIPE, None, "cpu", 0)
    whole, parts = (safetensors.torch.load_file(tmp_path / run / "state.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert json.loads((tmp_path / "parts" / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])["step"] == 0


def test_another_recipe_is_not_resumed(tiny, tmp_path):
    pretrain.train(tmp_path, RECIPE, None, "cpu", 0, stop_at=1)
    with pytest.raises(ValueError, match="another recipe"):
        pretrain.train(tmp_path, pretrain.Recipe(steps=9), None, "cpu", 0)

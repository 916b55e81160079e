"""The fine text map: what it gives, what it learns from, its files, and that its training can be broken off."""

import functools
import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import safetensors.torch
import tiny
import torch

from fdp_core import backbones, weights
from fdp_core.mini import pretrain_text_map, scenery
from fdp_core.mini.bank import BankScene
from fdp_core.regions import text_map

WIDTHS = (32, 64, 128)  # of the tiny trunk's layers
WORD, HIDDEN, SMALL, PICTURE = (200, 0, 0), (0, 0, 200), (0, 200, 0), (200, 200, 0)


@pytest.fixture(scope="module")
def backbone():
    return tiny.backbone()


def random_map(seed: int = 0) -> text_map.TextMap:
    """Return a small one with random weights and BatchNorm statistics, in eval mode."""
    torch.manual_seed(seed)
    made = text_map.TextMap(WIDTHS, hidden=8)
    for norm in made.norms:
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    return made.eval()


# --- the network


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (160, 32), (32, 32)])
def test_one_logit_for_four_pixels_at_any_shape(backbone, size):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    levels = backbones.run_levels(backbone.clip, images)
    assert tuple(level.shape[1] for level in levels[:3]) == WIDTHS
    assert [level.shape[2:] for level in levels] == [(size[0] // s, size[1] // s) for s in (4, 8, 16, 32)]
    torch.testing.assert_close(levels[-1], backbones.run_trunk(backbone.clip, images))
    logits = random_map()(levels)
    assert logits.shape == (2, size[0] // text_map.STRIDE, size[1] // text_map.STRIDE)
    assert logits.isfinite().all() and logits.std() > 0


def test_layers_1_to_3_of_the_trunk_are_read_and_layer_4_is_not(backbone):
    levels = [x.clone() for x in backbones.run_levels(backbone.clip, torch.ones(1, 3, 64, 64))]
    made = random_map()
    with torch.no_grad():
        plain = made(levels)
        for i in range(4):
            other = [x + 3 if n == i else x for n, x in enumerate(levels)]
            changed = (made(other) - plain).abs().max() > 1e-4
            assert changed == (i < 3), f"layer {i + 1} {'has' if changed else 'has no'} influence"


def test_a_fresh_map_sees_no_text():
    made = text_map.TextMap(WIDTHS).eval()
    levels = [torch.zeros(1, width, 32 // s, 32 // s) for width, s in zip(WIDTHS, (1, 2, 4, 8))]
    assert torch.sigmoid(made(levels)).mean() < 0.3


# --- the loss


def test_loss_by_hand():
    """Two cells, one of text, both at a half: log 2, and an overlap of (2 * 0.5 + 1) / (0.5 + 1 + 1)."""
    target, nothing = torch.tensor([[[1.0, 0.0]]]), torch.zeros(1, 1, 2, dtype=torch.bool)
    value = text_map.loss(torch.zeros(1, 1, 2), target, nothing)
    assert float(value) == pytest.approx(math.log(2) + 1 - 2 / 2.5, abs=1e-5)


def test_overlap_is_a_mean_over_images():
    """An image without text and without an answer overlaps wholly, another one by hand as above."""
    logits = torch.tensor([[[0.0, 0.0]], [[-99.0, -99.0]]])
    target = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    value = text_map.loss(logits, target, torch.zeros(2, 1, 2, dtype=torch.bool))
    assert float(value) == pytest.approx((math.log(2) + 1 - 2 / 2.5) / 2, abs=1e-5)


def test_a_perfect_map_costs_nothing_and_its_contrary_much():
    target = (torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    nothing = torch.zeros(3, 8, 8, dtype=torch.bool)
    logits = 40 * (target - 0.5)
    assert float(text_map.loss(logits, target, nothing)) < 1e-4
    assert float(text_map.loss(-logits, target, nothing)) > 10


def test_ignored_cells_have_no_influence():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 8, 8, generator=generator).requires_grad_()
    target = (torch.rand(2, 8, 8, generator=generator) < 0.2).float()
    ignore = torch.rand(2, 8, 8, generator=generator) < 0.3
    value = text_map.loss(logits, target, ignore)
    value.backward()
    assert (logits.grad[ignore] == 0).all() and logits.grad[~ignore].abs().sum() > 0
    changed = torch.where(ignore, 9 * torch.randn(2, 8, 8, generator=generator), logits.detach())
    assert text_map.loss(changed, torch.where(ignore, 1 - target, target), ignore) == value


# --- its file


def test_a_saved_map_comes_back_in_half_precision(tmp_path, backbone):
    made = random_map()
    path = text_map.save(tmp_path / "sub" / "map.safetensors", made, backbone, {"steps": 3})
    loaded = text_map.load(backbone, path)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.widths == WIDTHS and loaded.hidden == 8
    for name, value in made.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        levels = backbones.run_levels(backbone.clip, torch.ones(1, 3, 64, 96))
        torch.testing.assert_close(loaded(levels), made(levels), atol=2e-2, rtol=2e-2)
    with safetensors.safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["text_map"])
    assert facts["lower_hash"] == text_map.lower_hash(backbone) and facts["steps"] == 3


def test_a_missing_map_says_how_to_make_one(tmp_path, backbone):
    with pytest.raises(
        text_map.TextMapMissing, match="python -m fdp_core.mini.pretrain_text_map --backbone mini --bank"
    ):
        text_map.load(backbone, tmp_path / "none.safetensors")
    assert issubclass(text_map.TextMapMissing, FileNotFoundError)


def test_a_map_of_another_backbone_is_refused_and_says_how_to_make_one(tmp_path, backbone):
    path = text_map.save(tmp_path / "map.safetensors", random_map(), tiny.backbone(seed=1))
    with pytest.raises(text_map.TextMapMissing, match="a trunk whose layers 1-3 .*pretrain_text_map --backbone"):
        text_map.load(backbone, path)


def test_damaged_files_are_named(tmp_path, backbone):
    path = text_map.save(tmp_path / "map.safetensors", random_map(), backbone)
    whole = path.read_bytes()
    for damaged in (whole[:-500], whole[:100], b"", b"no such file at all"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="map.safetensors holds no text map, or is damaged"):
            text_map.load(backbone, path)
    for described in (None, {"config": "{}"}, {"text_map": "{"}, {"text_map": '{"widths": [1, 2], "hidden": 3}'}):
        safetensors.torch.save_file({"a": torch.zeros(2)}, path, described)
        with pytest.raises(ValueError, match="holds no text map"):
            text_map.load(backbone, path)


# --- what it learns from


def box(left: float, top: float, width: float, height: float) -> np.ndarray:
    return np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]], np.float32)


def painted(*things: tuple[np.ndarray, tuple[int, int, int]], side: int = 160) -> BankScene:
    """Return a grey scene whose things are plain areas of colour: where they lie can be seen in any cut of it."""
    image = np.full((side, side, 3), 90, np.uint8)
    for polygon, colour in things:
        cv2.fillPoly(image, [np.round(polygon - 0.5).astype(np.int32)], colour)
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].ravel()
    polygons, colours = [polygon for polygon, _ in things], [colour for _, colour in things]
    return BankScene(
        jpeg,
        texts=["word"] * len(things),
        polygons=polygons,
        boards=["none"] * len(things),
        is_word=[colour != PICTURE for colour in colours],
        visible=[colour != HIDDEN for colour in colours],
    )


SCENE = painted(
    (box(12, 20, 80, 30), WORD),
    (box(60, 70, 70, 24), WORD),
    (box(20, 110, 60, 30), HIDDEN),
    (box(110, 20, 30, 30), PICTURE),
    (box(100, 120, 40, 3), SMALL),
)


def share(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return for each cell which share of its pixels has about a colour."""
    alike = np.abs(image.astype(int) - colour).max(2) < 60
    side = len(image) // text_map.STRIDE
    return alike.reshape(side, text_map.STRIDE, side, text_map.STRIDE).mean((1, 3))


@pytest.fixture
def still(monkeypatch):
    """Take the damage away, so that a cut shows its scene's own colours."""
    monkeypatch.setattr(scenery, "camera", lambda rng, image, hard: image)
    monkeypatch.setattr(scenery, "light", lambda rng, image: image)


def test_the_target_lies_inside_words(still):
    covered = 0
    for seed in range(30):
        image, target, ignore = pretrain_text_map.example(np.random.default_rng(seed), SCENE, 128)
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8
        assert target.shape == ignore.shape == (32, 32) and target.dtype == np.float32 and ignore.dtype == bool
        assert target.min() >= 0 and target.max() <= 1
        words = share(image, WORD)
        assert (words[target > 0] > 0).all(), f"seed {seed}: text is asked for where no word is"
        assert (words[target == 1] > 0.9).all()
        edge = (words > 0) & (words < 1)
        assert target[edge].mean() < 0.2, f"seed {seed}: the words are not shrunk"
        covered += target.sum()
    assert covered > 1000


def test_the_ignore_mask_covers_invisible_and_tiny_words_and_nothing_else(still):
    hidden_cells = small_cells = 0
    for seed in range(30):
        image, target, ignore = pretrain_text_map.example(np.random.default_rng(seed), SCENE, 128)
        hidden, small = share(image, HIDDEN), share(image, SMALL)
        assert ignore[hidden == 1].all(), f"seed {seed}: an invisible word is judged"
        assert not (target[(hidden > 0) | (small > 0)] > 0).any()
        near = cv2.dilate(((hidden > 0) | (small > 0)).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert not ignore[~near].any(), f"seed {seed}: something else is not judged"
        assert not (ignore & (target > 0)).any()
        hidden_cells += int((hidden == 1).sum())
        small_cells += int(ignore[small > 0.5].sum())
    assert hidden_cells > 200 and small_cells > 20


def test_a_scene_without_words_asks_for_nothing():
    _, target, ignore = pretrain_text_map.example(np.random.default_rng(0), painted(), 64)
    assert not target.any() and not ignore.any()
    only = painted((box(20, 20, 60, 40), PICTURE))
    _, target, ignore = pretrain_text_map.example(np.random.default_rng(0), only, 64)
    assert not target.any() and not ignore.any(), "a picture is no text, and is judged"


def test_an_example_depends_on_its_seed_alone():
    one, two, other = (pretrain_text_map.example(np.random.default_rng(s), SCENE, 96) for s in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(one, two))
    assert (one[0] != other[0]).any()


class ThreeScenes:
    """A bank of three scenes in memory."""

    scenes = [SCENE, painted((box(30, 60, 100, 36), WORD)), replace(SCENE, visible=[True] * 5)]

    def __len__(self) -> int:
        return 3


def test_batches_are_numbered():
    data = pretrain_text_map.Maps(ThreeScenes(), steps=4, batch=3, size=64)
    assert len(data) == 4
    images, target, ignore = data[2]
    assert images.shape == (3, 64, 64, 3) and images.dtype == torch.uint8
    assert target.shape == ignore.shape == (3, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(data[2], (images, target, ignore)))
    assert not torch.equal(data[1][0], images)
    assert not torch.equal(pretrain_text_map.Maps(ThreeScenes(), 4, 3, 64, seed=1)[2][0], images)


# --- training


@pytest.fixture
def quick(monkeypatch):
    """Train on pictures of 64 pixels."""
    monkeypatch.setattr(pretrain_text_map, "Maps", functools.partial(pretrain_text_map.Maps, size=64))


def run(out, backbone, steps, seed=0):
    pretrain_text_map.train(out, backbone, ThreeScenes(), steps=steps, lr=2e-3, batch=1, seed=seed, workers=0)


def test_a_short_training_ends_with_a_file_that_loads(quick, tmp_path, backbone):
    before = weights.state_hash(backbone.clip.state_dict())
    run(tmp_path / "map.safetensors", backbone, 2)
    loaded = text_map.load(backbone, tmp_path / "map.safetensors")
    assert loaded.widths == WIDTHS
    assert weights.state_hash(backbone.clip.state_dict()) == before, "the trunk stays as it is"
    with pytest.raises(ValueError, match="another run.*Use another --out or remove it"):
        run(tmp_path / "map.safetensors", backbone, 3)
    with pytest.raises(ValueError, match="another run"):
        run(tmp_path / "map.safetensors", tiny.backbone(seed=1), 2)


def test_an_interrupted_training_goes_on_to_the_same_map(quick, tmp_path, backbone, monkeypatch):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    run(whole, backbone, 102)
    calls, plain = [], text_map.loss

    def until_the_last_step_but_one(*args):
        calls.append(1)
        if len(calls) == 101:
            raise KeyboardInterrupt
        return plain(*args)

    with monkeypatch.context() as patched:
        patched.setattr(text_map, "loss", until_the_last_step_but_one)
        with pytest.raises(KeyboardInterrupt):
            run(parts, backbone, 102)
    text_map.load(backbone, parts)  # what was saved is whole
    assert parts.read_bytes() != whole.read_bytes()
    run(parts, backbone, 102)
    assert parts.read_bytes() == whole.read_bytes()

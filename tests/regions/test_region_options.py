"""Region options: what is refused, the frame without bars, and the reader against the plain trunk."""

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fdp_core import backbones
from fdp_core.regions import networks, settings, word_finder
from fdp_core.retrieval.fast_trunk import FastTrunk


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"limit": 0}, "limit is 0; expected a whole number, 1 or more"),
        ({"height": 30}, "height is 30; expected a positive multiple of 32"),
        ({"sizes": (960, 600)}, r"sizes\[1\] is 600"),
        ({"sizes": ()}, r"sizes is \(\); expected the longer side of one frame or more"),
        ({"sizes": ("960",)}, "sizes is .*; expected the longer side"),
        ({"limit": 2.5}, "limit is 2.5; expected a whole number"),
        ({"min_score": float("nan")}, "min_score is nan; expected a number between 0 and 1"),
        ({"turns": "false"}, "turns is 'false'; expected true or false"),
        ({"min_score": 1.0}, "min_score is 1.0; expected a number between 0 and 1"),
        ({"engine": "onnx"}, "engine is 'onnx'; expected one of auto, torch, openvino"),
        ({"precision": "int8"}, "precision is 'int8'; expected one of auto, float32, bfloat16, eight bits"),
    ],
)
def test_wrong_region_options_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        settings.RegionOptions(**wrong)


@pytest.mark.parametrize(
    "shape, goal",
    [((480, 640), (480, 640)), ((960, 1280), (480, 640)), ((100, 640), (96, 640)), ((640, 10), (640, 32))],
)
def test_frame_by_hand(shape, goal):
    small, scale = settings.frame(np.zeros((*shape, 3), np.uint8), 640)
    assert small.shape == (*goal, 3)
    np.testing.assert_allclose(scale, [shape[1] / goal[1], shape[0] / goal[0]])


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([32, 96, 128]))
def test_a_frame_has_no_bars_and_leads_back(height, width, size):
    """Both sides divide by 32, the longer one is asked for, and the frame's far corner is the photograph's."""
    small, scale = settings.frame(np.full((height, width, 3), 200, np.uint8), size)
    assert max(small.shape[:2]) == size and not any(side % 32 for side in small.shape[:2])
    assert (small == 200).all()
    np.testing.assert_allclose(scale * small.shape[1::-1], [width, height], rtol=1e-5)


def test_the_reader_is_the_plain_trunk_on_stored_pixels():
    backbone = tiny.backbone()
    trunk = FastTrunk(backbone.clip)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        read = networks.Reader(backbone, trunk, (32, 64)).eval()(torch.from_numpy(images))
        pixels = backbone.normalise(images)
        expected = F.normalize(backbone.zero_shot(backbones.run_trunk(backbone.clip, pixels)), dim=-1)
    torch.testing.assert_close(read, expected, atol=1e-4, rtol=0)


def test_no_cut_gives_no_vector():
    engine = networks.TorchEngine(word_finder.WordFinder(8, 8).eval(), tiny.backbone())
    assert engine.read(np.zeros((0, 32, 64, 3), np.uint8)).shape == (0, 32)

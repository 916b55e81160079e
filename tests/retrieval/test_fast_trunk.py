"""The fast trunk is the plain trunk: folded, not changed."""

import pytest
import tiny
import torch
from torch import nn

from fdp_core import backbones, weights
from fdp_core.retrieval.fast_trunk import FastTrunk

SIZE = (2, 3, 64, 96)


@pytest.fixture(scope="module", params=["tiny", "RN50"])
def clip(request):
    return tiny.backbone().clip if request.param == "tiny" else backbones.load("RN50", pretrained=False).clip


@pytest.fixture(scope="module")
def images():
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(0))


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return how far two tensors are apart, as a share of the expected one's length."""
    return float((found.float() - expected).norm() / expected.norm())


def test_float32_equals_the_plain_trunk(clip, images):
    with torch.no_grad():
        expected = backbones.run_levels(clip, images)
    found = FastTrunk(clip)(images)
    assert [x.shape for x in found] == [x.shape for x in expected]
    for one, other in zip(found, expected):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
        assert distance(one, other) < 1e-5


def test_bfloat16_is_within_five_per_cent(clip, images):
    with torch.no_grad():
        expected = backbones.run_levels(clip, images)
    for one, other in zip(FastTrunk(clip, "bfloat16")(images), expected):
        assert one.dtype == torch.bfloat16
        assert 0 < distance(one, other) < 0.05


def test_the_source_stays_as_it_is(clip, images):
    before, training = weights.state_hash(clip.state_dict()), clip.training
    pool = clip.visual.attnpool
    trunk = FastTrunk(clip, "bfloat16")
    trunk(images)
    assert weights.state_hash(clip.state_dict()) == before and clip.training == training
    assert clip.visual.attnpool is pool and clip.visual.conv1.weight.dtype == torch.float32
    assert any(isinstance(module, nn.BatchNorm2d) for module in clip.modules())


def test_no_batch_norm_and_no_gradient_is_left(clip):
    trunk = FastTrunk(clip)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())
    assert not any(p.requires_grad for p in trunk.parameters())


def test_a_model_in_training_is_frozen_as_in_evaluation(images):
    clip = tiny.backbone().clip
    expected = FastTrunk(clip)(images)
    clip.train()
    found = FastTrunk(clip)(images)
    assert clip.training
    assert all(torch.equal(one, other) for one, other in zip(found, expected))


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'float16'; expected one of float32, bfloat16"):
        FastTrunk(tiny.backbone().clip, "float16")

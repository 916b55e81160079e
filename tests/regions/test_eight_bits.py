"""Rounding to eight bits against the same arithmetic in PyTorch; skipped where OpenVINO is missing."""

import numpy as np
import pytest
import torch
from torch import nn

from fdp_core.regions import eight_bits
from fdp_core.retrieval import compiled

openvino = pytest.importorskip("openvino")


class Two(nn.Module):
    """Two convolutions, a pool and a sum of two branches, as the networks of the regions have them."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.last, self.seen = nn.Conv2d(8, 4, 3), lambda name, x: x
        self.weight = lambda conv: conv.weight

    def forward(self, images):
        x = self.seen("image", images.permute(0, 3, 1, 2).float() / 100 - 1)
        x = self.seen("one", nn.functional.conv2d(x, self.weight(self.one), self.one.bias, padding=1).relu())
        x = self.seen("pool", nn.functional.avg_pool2d(x, 2))
        y = nn.functional.conv2d(x, self.weight(self.two), self.two.bias)
        x = self.seen("sum", (y + x).relu())
        return nn.functional.conv2d(x, self.weight(self.last), self.last.bias)


def rounded(x, low, high):
    """Round to 256 levels between the ends, zero among them."""
    large, (least, most) = max(high, -low), (-128, 127) if low < 0 else (0, 255)
    return torch.fake_quantize_per_tensor_affine(x, large / most, 0, least, most)


def seven_bits(conv):
    weight = conv.weight.detach()
    scale = weight.abs().flatten(1).amax(1) / 63
    return torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros(len(scale)), 0, -127, 127)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Two().eval()


@pytest.fixture(scope="module")
def images():
    return [np.random.default_rng(seed).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8) for seed in range(3)]


def model(network):
    return compiled.convert(compiled.on_cpu(network), [1, -1, -1, 3], [1, 16, 24, 3])


def run(network, image, seen=lambda name, x: x, weight=lambda conv: conv.weight):
    network.seen, network.weight = seen, weight
    with torch.no_grad():
        found = network(torch.from_numpy(image)).numpy()
    network.seen, network.weight = lambda name, x: x, lambda conv: conv.weight
    return found


def test_the_ranges_are_those_of_all_examples(network, images):
    found, seen = eight_bits.measure(model(network), images, openvino.Core()), {}
    for image in images:
        run(network, image, lambda name, x: seen.setdefault(name, []).append((float(x.min()), float(x.max()))) or x)
    expected = [(min(low for low, _ in each), max(high for _, high in each)) for each in seen.values()]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_computed_is_what_rounding_in_torch_gives(network, images):
    small = model(network)
    ranges = eight_bits.measure(small, images, openvino.Core())
    eight_bits.round_network(small, ranges)
    fast = openvino.Core().compile_model(small, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images[0])[0]
    ends = dict(zip(("image", "one", "pool", "sum"), ranges))
    slow = run(network, images[0], lambda name, x: rounded(x, *ends[name]), seven_bits)
    away = np.abs(slow - run(network, images[0])).mean()
    assert away > 1e-4, "rounding shows"
    assert np.abs(fast - slow).mean() < 0.3 * away


def test_ranges_of_another_network_are_refused(network):
    with pytest.raises(ValueError, match="places to round; there are 1 ranges"):
        eight_bits.round_network(model(network), [[0.0, 1.0]])

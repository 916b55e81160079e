"""The fast engine against the plain one; skipped where the package is missing."""

import importlib.util
import os

import numpy as np
import pytest
import tiny
import torch

from fdp_core import backbones, datasets
from fdp_core.datasets.images import open_image
from fdp_core.regions import crops, networks, openvino, reader, word_finder
from fdp_core.regions.openvino import BATCH, OpenVinoEngine
from fdp_core.retrieval import compiled, fast_trunk
from fdp_core.retrieval.compiled import OpenVinoMissing

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="no wheel of openvino here")
SIZE = (32, 64)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    return word_finder.WordFinder(width=8, hidden=8).eval(), tiny.backbone()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_CACHE", str(tmp_path / "cache"))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_the_move_to_the_cpu_leaves_the_model_where_it_is(parts, monkeypatch):
    _, backbone = parts
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda module: module.to("meta"))  # a move that shows on this machine
    network = networks.Reader(backbone, fast_trunk.FastTrunk(backbone.clip), SIZE)
    moved = compiled.on_cpu(network)
    assert {p.device.type for p in moved.parameters()} == {"meta"}
    for module in (backbone, network):
        assert {p.device.type for p in module.parameters()} == {"cpu"}


def test_a_missing_package_is_named_with_its_remedy(parts, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name))
    with pytest.raises(OpenVinoMissing, match="needs the package openvino: install"):
        OpenVinoEngine(*parts, SIZE)


@needs_openvino
def test_float32_agrees_with_torch(parts):
    """Any size of photograph; more cuts than one batch, fewer, none."""
    plain, fast = networks.TorchEngine(*parts), OpenVinoEngine(*parts, SIZE)
    for shape in ((64, 64), (32, 64), (64, 32)):
        image = noise(*shape)
        for one, other in zip(fast.find(image), plain.find(image), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
    for count in (0, 1, BATCH, 2 * BATCH + 3):
        cuts = noise(count, *SIZE)
        np.testing.assert_allclose(fast.read(cuts), plain.read(cuts), atol=1e-3)


@needs_openvino
def test_bfloat16_nearly_agrees(parts):
    fast, cuts = OpenVinoEngine(*parts, SIZE, "bfloat16"), noise(5, *SIZE)
    assert ((fast.read(cuts) * networks.TorchEngine(*parts).read(cuts)).sum(1) > 0.99).all()


@needs_openvino
def test_eight_bits_find_and_read_nearly_the_same_and_each_time_alike(tmp_path):
    """The shipped networks on a scene of the shipped gallery."""
    given = word_finder.load(), reader.fitting(backbones.load("mini")), (32, 128)
    plain, fast = OpenVinoEngine(*given), OpenVinoEngine(*given, "eight bits")
    image = np.asarray(open_image(datasets.load("mini", "test")[0].photos[0].source))
    quads, sure = word_finder.find(plain.find, image)
    found, _ = word_finder.find(fast.find, image)
    far = np.abs(quads[sure > 0.5][:, None] - found).max((2, 3)).min(1)
    assert len(far) and (far < 8).all(), "every sure word, its corners within eight pixels"
    cuts = crops.cut_all(image, quads, 32, 128)
    alike = (plain.read(cuts) * fast.read(cuts)).sum(1)
    assert alike.min() > 0.97 and 0.99 < alike.mean() < 1 - 1e-5
    assert not list(tmp_path.rglob("ranges-*")), "those that ship are those of the shipped networks"
    np.testing.assert_array_equal(OpenVinoEngine(*given, "eight bits").read(cuts), fast.read(cuts))


@needs_openvino
def test_the_ranges_of_other_networks_are_measured_once(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "EXAMPLES", 100)
    cuts = noise(5, *SIZE)
    first = OpenVinoEngine(*parts, SIZE, "eight bits").read(cuts)
    assert ((first * networks.TorchEngine(*parts).read(cuts)).sum(1) > 0.97).all()
    (kept,) = tmp_path.rglob("ranges-*.json")
    for text in (kept.read_text(), "torn"):
        kept.write_text(text)
        np.testing.assert_array_equal(OpenVinoEngine(*parts, SIZE, "eight bits").read(cuts), first)


@needs_openvino
def test_compiled_networks_are_kept_and_a_torn_file_is_made_anew(parts, tmp_path):
    cuts = noise(5, *SIZE)
    first = OpenVinoEngine(*parts, SIZE).read(cuts)
    kept = [path for path in (tmp_path / "cache" / "openvino").iterdir() if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(b"torn")
    np.testing.assert_allclose(OpenVinoEngine(*parts, SIZE).read(cuts), first, atol=1e-5)


@needs_openvino
@pytest.mark.parametrize("before", [None, "false"])
def test_nothing_is_reported_and_the_environment_stays(monkeypatch, before):
    monkeypatch.delenv("CI", raising=False)
    if before:
        monkeypatch.setenv("CI", before)
    with compiled.unreported():
        assert os.environ["CI"] == "true"
    assert os.environ.get("CI") == before

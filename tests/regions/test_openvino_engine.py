"""The fast engine against the plain one; skipped where the optional packages are missing."""

import copy
import importlib.util
import os

import numpy as np
import pytest
import tiny
import torch

from fdp_core import backbones, datasets
from fdp_core.datasets import images
from fdp_core.regions import networks, openvino, settings, text_map
from fdp_core.regions.openvino import BATCH, OpenVinoEngine, OpenVinoMissing
from fdp_core.retrieval import fast_trunk

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="make fast")
needs_nncf = pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="make fast")
LOOK = {"map_size": 64, "height": 32, "width": 64}


@pytest.fixture(scope="module")
def parts():
    backbone = tiny.backbone()
    torch.manual_seed(0)
    some = text_map.TextMap((32, 64, 128), hidden=8).eval()
    torch.nn.init.normal_(some.last.weight, 0, 1)
    with torch.no_grad():
        levels = backbones.run_levels(backbone.clip, torch.randn(4, 3, 64, 64), 3)
        for norm, x in zip(some.norms, levels):
            norm.running_mean, norm.running_var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    return backbone, some


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("which", ["finder", "reader"])
def test_the_move_to_the_cpu_leaves_the_model_where_it_is(parts, monkeypatch, which):
    backbone, some = parts
    trunk = fast_trunk.FastTrunk(backbone.clip)
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda module: module.to("meta"))  # a move that shows on this machine
    if which == "finder":
        network = networks.Finder(backbone, trunk, some)
    else:
        network = networks.Reader(backbone, trunk, (32, 64))
    moved = openvino._on_cpu(network)
    assert {p.device.type for p in moved.parameters()} == {"meta"}
    for module in (backbone, some, network):
        assert {p.device.type for p in module.parameters()} == {"cpu"}


@pytest.mark.parametrize("missing", ["openvino", "nncf"])
def test_what_is_missing_is_named_with_its_remedy(parts, monkeypatch, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name) or True)
    with pytest.raises(OpenVinoMissing, match=f"needs.* {missing}.*make fast"):
        OpenVinoEngine(*parts, settings.Glance(engine="openvino", precision="int8", **LOOK))


@needs_openvino
def test_float32_agrees_with_torch(parts):
    """Any size of photograph; more cuts than one batch, fewer, none."""
    plain = networks.TorchEngine(*parts, settings.Glance(**LOOK))
    fast = OpenVinoEngine(*parts, settings.Glance(engine="openvino", **LOOK))
    for shape in ((64, 64), (32, 64), (64, 32)):
        image = noise(*shape)
        np.testing.assert_allclose(fast.find(image), plain.find(image), atol=1e-3)
    for count in (0, 1, BATCH, 2 * BATCH + 3):
        cuts = noise(count, 32, 64)
        np.testing.assert_allclose(fast.read(cuts), plain.read(cuts), atol=1e-3)


@needs_openvino
def test_bfloat16_nearly_agrees(parts):
    fast = OpenVinoEngine(*parts, settings.Glance(engine="openvino", precision="bfloat16", **LOOK))
    cuts = noise(5, 32, 64)
    expected = networks.TorchEngine(*parts, settings.Glance(**LOOK)).read(cuts)
    assert ((fast.read(cuts) * expected).sum(1) > 0.99).all()


@needs_nncf
def test_int8_is_kept_and_a_torn_file_made_anew(parts, tmp_path, monkeypatch):
    asked = settings.Glance(engine="openvino", precision="int8", **LOOK)
    monkeypatch.setattr(openvino, "CALIBRATION", 2)
    cuts = noise(5, 32, 64)
    first = OpenVinoEngine(*parts, asked, cache_dir=tmp_path).read(cuts)
    expected = networks.TorchEngine(*parts, settings.Glance(**LOOK)).read(cuts)
    assert ((first * expected).sum(1) > 0.9).all()
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    (kept,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(openvino, "calibration", lambda *_: pytest.fail("made anew without need"))
        np.testing.assert_array_equal(OpenVinoEngine(*parts, asked, cache_dir=tmp_path).read(cuts), first)
    (kept / "read.xml").write_text("torn")
    np.testing.assert_array_equal(OpenVinoEngine(*parts, asked, cache_dir=tmp_path).read(cuts), first)
    assert sorted(path.name for path in tmp_path.iterdir()) == [kept.name], "no half-made folder is left"


@needs_openvino
@pytest.mark.parametrize("before", [None, "false"])
def test_nothing_is_reported_and_the_environment_stays(monkeypatch, before):
    monkeypatch.delenv("CI", raising=False)
    if before:
        monkeypatch.setenv("CI", before)
    with openvino._unreported():
        assert os.environ["CI"] == "true"
    assert os.environ.get("CI") == before


@needs_nncf
def test_calibration_is_made_of_rendered_photographs(parts, monkeypatch):
    monkeypatch.setattr(openvino, "CALIBRATION", 3)
    backbone, some = copy.deepcopy(parts)
    finder = networks.Finder(backbone, fast_trunk.FastTrunk(backbone.clip), some).eval()
    frames, cuts = openvino.calibration(finder, settings.Glance(**LOOK), 64)
    assert len(frames) == 3 and all(max(frame.shape[1:3]) == 64 and frame.dtype == np.uint8 for frame in frames)
    assert cuts and all(batch.shape == (BATCH, 32, 64, 3) for batch in cuts)
    torch.nn.init.constant_(some.last.bias, -99.0)
    with pytest.raises(ValueError, match="finds nothing on rendered"):
        openvino.calibration(finder, settings.Glance(**LOOK), 64)
    gallery, _ = datasets.load("mini_train")
    first = np.asarray(images.open_image(gallery.photos[0].path))
    np.testing.assert_array_equal(frames[0][0], settings.frame(first, 64)[0])

import json

import pytest
import safetensors
import safetensors.torch
import tiny
import torch

from fdp_core import checkpoint
from fdp_core.config import Config, preset
from fdp_core.distinguish import Clusters
from fdp_core.model import FDP

SMALL = Config(image_size=160, localiser_hidden=8, probe_heads=4)


@pytest.fixture(scope="module")
def backbone():
    return tiny.backbone()


def trained(backbone, config=SMALL, seed=0):
    model = FDP(backbone, config)
    model.words, model.clusters = tuple(tiny.WORDS), tiny.clusters(backbone).with_overrides({"bank": 0})
    generator = torch.Generator().manual_seed(seed)
    for value in model.trained_state().values():
        value += 0.1 * torch.randn(value.shape, generator=generator)
    return model.eval()


def features():
    return torch.randn(2, 256, 5, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "config",
    [SMALL, preset("paper_compat", image_size=160), SMALL.replace(prompts="none", shift="off", probe="off")],
)
def test_a_loaded_model_does_what_the_saved_one_did(backbone, tmp_path, config):
    model = trained(backbone, config)
    path = checkpoint.save(tmp_path / "fdp.safetensors", model)
    loaded = checkpoint.load(path, backbone)
    assert loaded.config == config and loaded.words == model.words and not loaded.training
    assert torch.equal(loaded.clusters.centres, model.clusters.centres)
    assert loaded.clusters.overrides == {"bank": 0}
    for key in ("image", "local_logits"):
        assert torch.equal(loaded.encode_features(features())[key], model.encode_features(features())[key])
    queries = ["the", "bank", "office", "something else"]
    assert torch.equal(loaded.encode_queries(queries), model.encode_queries(queries))
    assert checkpoint.model_hash(loaded) == checkpoint.model_hash(model)


def test_clusters_are_stable_across_save_and_load(backbone, tmp_path):
    """Test 8 of the list of defects: nothing is fitted again."""
    model = trained(backbone)
    words = [*tiny.WORDS, "unseen", "longer phrase"]
    kinds = model.kinds_of(words)
    path = checkpoint.save(tmp_path / "a.safetensors", model)
    fitted = []
    original, Clusters.fit = Clusters.__dict__["fit"], classmethod(lambda *a, **k: fitted.append(1))
    try:
        for _ in range(2):
            loaded = checkpoint.load(path, backbone)
            assert torch.equal(loaded.kinds_of(words), kinds)
            path = checkpoint.save(tmp_path / "b.safetensors", loaded)
    finally:
        Clusters.fit = original
    assert not fitted


def test_a_checkpoint_holds_only_what_was_trained(backbone, tmp_path):
    model = trained(backbone)
    path = checkpoint.save(tmp_path / "fdp.safetensors", model)
    with safetensors.safe_open(path, framework="pt") as file:
        names, metadata = set(file.keys()), json.loads(file.metadata()["fdp"])
    assert names == {f"model/{name}" for name in model.trained_state()} | {"clusters/centres"}
    assert not any("backbone" in name or "clip" in name for name in names)
    header = json.loads(metadata["header"])
    assert header["backbone"] == {"name": "mini", "weights_hash": backbone.weights_hash}
    assert header["words"] == tiny.WORDS and Config.from_json(json.dumps(header["config"])) == SMALL
    trained_bytes = sum(v.numel() * v.element_size() for v in model.trained_state().values())
    assert path.stat().st_size < trained_bytes + 20_000


def test_a_packed_checkpoint_is_smaller_and_nearly_the_same(backbone, tmp_path):
    model = trained(backbone)
    plain, small = (
        checkpoint.save(tmp_path / "a.safetensors", model),
        checkpoint.save(tmp_path / "b.safetensors", model, 8),
    )
    assert small.stat().st_size < 0.6 * plain.stat().st_size
    for name, value in checkpoint.load(small, backbone).trained_state().items():
        expected = model.trained_state()[name]
        assert (value - expected).abs().max() <= expected.abs().max() / 127 / 2 + 1e-6
        assert value.dtype == expected.dtype and value.shape == expected.shape


def test_model_without_clusters(backbone, tmp_path):
    loaded = checkpoint.load(checkpoint.save(tmp_path / "x.safetensors", FDP(backbone, SMALL)), backbone)
    assert loaded.clusters is None and loaded.words == ()


def test_equal_models_give_equal_files(backbone, tmp_path):
    paths = [checkpoint.save(tmp_path / f"{i}.safetensors", trained(backbone)) for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


# --- what can be wrong with a file


def test_missing_file(backbone, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint .*nothing.safetensors"):
        checkpoint.load(tmp_path / "nothing.safetensors", backbone)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_file(backbone, tmp_path, keep):
    path = checkpoint.save(tmp_path / "cut.safetensors", trained(backbone))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(checkpoint.CheckpointError, match="cut.safetensors .* is cut off"):
        checkpoint.load(path, backbone)


def test_flipped_bit(backbone, tmp_path):
    path = checkpoint.save(tmp_path / "bit.safetensors", trained(backbone))
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(checkpoint.CheckpointError, match="bit.safetensors is damaged"):
        checkpoint.load(path, backbone)


def test_changed_header(backbone, tmp_path):
    path = checkpoint.save(tmp_path / "head.safetensors", trained(backbone))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"bakery", b"brewer"))
    assert path.read_bytes() != data
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        checkpoint.load(path, backbone)


def test_other_files(backbone, tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "torch.pt")
    safetensors.torch.save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(checkpoint.CheckpointError, match="from_official"):
        checkpoint.load(tmp_path / "torch.pt", backbone)
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint of this project"):
        checkpoint.load(tmp_path / "other.safetensors", backbone)


def test_another_backbone(backbone, tmp_path):
    path = checkpoint.save(tmp_path / "x.safetensors", trained(backbone))
    with pytest.raises(checkpoint.CheckpointError, match="trained on backbone mini with weights"):
        checkpoint.load(path, tiny.backbone(seed=1))


def test_unknown_switch_of_a_later_version(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(Config, "to_json", lambda self: json.dumps({"image_size": 160, "later": 1}))
    path = checkpoint.save(tmp_path / "x.safetensors", trained(backbone))
    with pytest.raises(checkpoint.CheckpointError, match="x.safetensors cannot be used: .*later"):
        checkpoint.load(path, backbone)


def test_an_interrupted_save_leaves_the_old_file(backbone, tmp_path, monkeypatch):
    path = checkpoint.save(tmp_path / "x.safetensors", trained(backbone))
    old = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, trained(backbone, seed=1))
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_model_hash_follows_every_part(backbone):
    model = trained(backbone)
    hashes = {checkpoint.model_hash(model)}
    model.positions.data[0, 0] += 1
    hashes.add(checkpoint.model_hash(model))
    model.clusters = Clusters(model.clusters.centres + 1)
    hashes.add(checkpoint.model_hash(model))
    hashes.add(checkpoint.model_hash(trained(backbone, SMALL.replace(probe_dropout=0.2))))
    hashes.add(checkpoint.model_hash(trained(tiny.backbone(seed=1))))
    assert len(hashes) == 5

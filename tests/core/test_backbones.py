import json
import os
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import safetensors.torch
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from fdp_core import _torchvision, backbones, files, weights

TEXTS = ["a", "office", "the quick brown fox jumps over", "", "office"]


@pytest.fixture(scope="module")
def mini():
    return tiny.backbone()


# --- the repair of torchvision


def test_open_clip_can_be_imported_after_the_package():
    code = "import fdp_core, open_clip, torchvision.transforms.v2, timm; print(fdp_core.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_repair_does_nothing_where_the_extension_loads(monkeypatch):
    monkeypatch.setattr(_torchvision, "_library", None)
    monkeypatch.setattr(_torchvision, "extension_loads", lambda: True)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    assert _torchvision.repair() is False
    assert _torchvision._library is None


def test_repair_twice_is_once():
    assert _torchvision.repair() == _torchvision.repair()


# --- the tokenizer


def test_characters_are_their_codes():
    ids = weights.CharTokenizer(8)(["Ab~", "longer than that"])
    assert ids.tolist()[0] == [1, ord("a"), ord("b"), ord("~"), 127, 0, 0, 0]
    assert ids.tolist()[1] == [1, *b"longer", 127]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Café", "cafe"),
        ("ÅNGSTRÖM", "angstrom"),
        ("™", "tm"),
        ("漢字", "??"),
        ("a\t b\n", "a b"),
        ("\x7f\x01", "??"),
    ],
)
def test_folding(text, folded):
    assert weights.CharTokenizer(8).fold(text) == folded
    assert bool(weights.CharTokenizer(8).unknown(text)) == ("?" in folded)


def test_letters_that_cannot_be_spelt_are_named():
    assert weights.CharTokenizer(8).unknown("Caf\u00e9 ?!") == ""
    assert weights.CharTokenizer(8).unknown("\u5496\u5561 shop \u5496") == "\u5496\u5561"


@given(st.text(max_size=40), st.integers(3, 30))
def test_every_text_has_one_start_and_one_end(text, length):
    row = weights.CharTokenizer(length)([text])[0]
    assert row[0] == 1
    assert (row == 127).sum() == 1
    end = int(row.argmax())
    assert (row[1:end] >= 32).all() and (row[1:end] <= 126).all() and (row[end + 1 :] == 0).all()


# --- the compact CLIP as a backbone


def test_attributes(mini):
    assert (mini.native_grid, mini.width, mini.heads, mini.embed_dim) == (4, 256, 4, 32)
    assert (mini.context_length, mini.text_width, mini.name) == (24, 32, "mini")
    assert mini.logit_scale == pytest.approx(1 / 0.07)
    assert len(mini.weights_hash) == 64


def test_everything_is_frozen_and_stays_in_eval_mode(mini):
    mini.train()
    assert not any(module.training for module in mini.modules())
    assert not any(parameter.requires_grad for parameter in mini.parameters())


def test_normalise_is_the_plain_formula(mini):
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    expected = (images / 255 - np.array(mini.mean)) / np.array(mini.std)
    np.testing.assert_allclose(mini.normalise(images), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="uint8"):
        mini.normalise(images.astype(np.float32))


def test_zero_shot_at_the_native_size_is_clips_own(mini):
    images = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    expected = mini.clip.encode_image(images)
    torch.testing.assert_close(mini.zero_shot(images), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mini.zero_shot(mini.trunk(images)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [32, 96, 160, 320])
def test_any_square_size(mini, size):
    assert mini.zero_shot(torch.randn(1, 3, size, size)).shape == (1, 32)


@pytest.mark.parametrize("shape", [(1, 3, 100, 100), (1, 3, 64, 96), (3, 64, 64), (1, 1, 64, 64)])
def test_other_inputs_are_refused(mini, shape):
    with pytest.raises(ValueError, match="multiple of 32"):
        mini.trunk(torch.zeros(shape))


def test_cut_text_encoding_is_clips_own(mini):
    expected = mini.clip.encode_text(mini.tokenize(TEXTS))
    torch.testing.assert_close(mini.encode_text(TEXTS), expected, atol=1e-5, rtol=1e-4)
    assert mini.encode_text([]).shape == (0, 32)


@pytest.mark.parametrize("context_length", [5, 8, 24, 77])
def test_any_context_length(context_length):
    text_cfg = {**tiny.CONFIG["text_cfg"], "context_length": context_length}
    clip = weights.seeded(lambda: weights.build_mini({**tiny.CONFIG, "text_cfg": text_cfg}), 3)
    backbone = backbones.wrap(clip, *(tiny.CONFIG[key] for key in ("mean", "std")))
    expected = clip.encode_text(backbone.tokenize(TEXTS))
    torch.testing.assert_close(backbone.encode_text(TEXTS), expected, atol=1e-5, rtol=1e-4)


def test_embedded_texts_get_gradients_and_ignore_what_follows_the_end(mini):
    tokens = mini.tokenize(["abc", "office"])
    x = mini.token_embedding(tokens).clone().requires_grad_()
    eot = tokens.argmax(dim=1)
    out = mini.encode_embedded(x, eot)
    out.sum().backward()
    assert x.grad[0, : eot[0] + 1].abs().sum() > 0
    assert x.grad[0, eot[0] + 1 :].abs().sum() == 0
    torch.testing.assert_close(out, mini.encode_text(["abc", "office"]), atol=1e-5, rtol=1e-4)


def test_too_long_an_embedded_text_is_refused(mini):
    with pytest.raises(ValueError, match="25 tokens does not fit"):
        mini.encode_embedded(torch.zeros(1, 30, 32), torch.tensor([24]))


def test_build_mini_refuses_other_architectures():
    with pytest.raises(ValueError, match="four block counts"):
        weights.build_mini({**tiny.CONFIG, "vision_cfg": {"layers": 12, "width": 64}})
    with pytest.raises(ValueError, match="vocab_size"):
        weights.build_mini({**tiny.CONFIG, "text_cfg": {**tiny.CONFIG["text_cfg"], "vocab_size": 99}})


# --- files


def write_mini(path, clip, **changes):
    state = {name: value.half() if value.is_floating_point() else value for name, value in clip.state_dict().items()}
    safetensors.torch.save_file(state, path, {"config": json.dumps(tiny.CONFIG), **changes})


def test_mini_is_read_from_half_precision(tmp_path, mini):
    path = tmp_path / "mini.safetensors"
    write_mini(path, mini.clip)
    loaded = backbones.load("mini", weights_file=path)
    assert loaded.weights_hash == files.sha256_file(path)
    assert loaded.clip.visual.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.encode_text(["word"]), mini.encode_text(["word"]), atol=5e-3, rtol=5e-2)
    assert loaded.mean == tuple(tiny.CONFIG["mean"])
    random = backbones.load("mini", weights_file=path, pretrained=False, seed=5)
    assert random.weights_hash != loaded.weights_hash


def test_missing_and_damaged_mini_files_are_named(tmp_path, mini):
    path = tmp_path / "mini.safetensors"
    with pytest.raises(weights.WeightsMissing, match="looked for .*mini.safetensors"):
        backbones.load("mini", weights_file=path)
    write_mini(path, mini.clip)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="mini.safetensors .*damaged"):
        backbones.load("mini", weights_file=path)
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, {"config": json.dumps(tiny.CONFIG)})
    with pytest.raises(ValueError, match="does not hold the weights"):
        backbones.load("mini", weights_file=path)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="expected one of mini, mini_clip, RN50"):
        backbones.load("ViT-B-32")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.parametrize("name", backbones.OPENAI_NAMES)
def test_openai_weights_without_file_or_network(tmp_path, name, no_network):
    with pytest.raises(weights.WeightsMissing) as error:
        backbones.load(name, cache_dir=tmp_path)
    text = str(error.value)
    assert f"backbone {name} " in text and str(tmp_path / f"{name}.pt") in text and "is not there" in text
    assert "put the file from https://" in text and "no network here" in text


def test_damaged_openai_weights(tmp_path, no_network):
    (tmp_path / "RN50.pt").write_bytes(b"half a download")
    with pytest.raises(weights.WeightsMissing, match="is damaged"):
        backbones.load("RN50", cache_dir=tmp_path)


def test_the_expected_hashes_are_the_published_ones():
    expected = {
        "RN50": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
        "RN50x4": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
        "RN50x16": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    }
    for name, digest in expected.items():
        assert f"/{digest}/{name}.pt" in open_clip.get_pretrained_url(name, "openai")


def test_openai_file_with_the_right_hash_is_loaded_without_network(tmp_path, monkeypatch, no_network):
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    vision = {"layers": (1, 1, 1, 1), "width": 8, "image_size": 64}
    clip = weights.seeded(lambda: open_clip.CLIP(16, vision, text, quick_gelu=True), 0)
    clip.visual.attnpool.num_heads = 4
    path = tmp_path / "RN50.pt"
    torch.save(clip.state_dict(), path)
    digest = files.sha256_file(path)
    monkeypatch.setattr(
        weights,
        "get_pretrained_url",
        lambda name, tag: f"https://openaipublic.example/clip/{digest}/{name}.pt",
    )
    backbone = backbones.load("RN50", cache_dir=tmp_path)
    assert backbone.weights_hash == digest
    torch.testing.assert_close(
        backbone.encode_text(["word"]), clip.encode_text(backbone.tokenize(["word"])), atol=1e-2, rtol=1e-2
    )


# --- random RN50


@pytest.fixture(scope="module")
def rn50():
    return backbones.load("RN50", pretrained=False)


def test_random_rn50_is_seeded_and_leaves_the_global_generator_alone(rn50):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    small = [weights.seeded(lambda: weights.build_mini(tiny.CONFIG), seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    assert weights.state_hash(small[0]) == weights.state_hash(small[1]) != weights.state_hash(small[2])
    assert rn50.weights_hash == weights.state_hash(rn50.clip.state_dict())


def test_random_rn50_matches_open_clip(rn50):
    assert (rn50.native_grid, rn50.width, rn50.heads, rn50.embed_dim, rn50.context_length) == (
        7,
        2048,
        32,
        1024,
        77,
    )
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    features = rn50.trunk(images)
    assert features.shape == (2, 2048, 7, 7)
    assert features.std() > 1e-3  # BatchNorm is randomised: the residual branches are alive
    torch.testing.assert_close(rn50.zero_shot(features), rn50.clip.encode_image(images), atol=1e-4, rtol=1e-4)
    expected = rn50.clip.encode_text(rn50.tokenize(TEXTS))
    torch.testing.assert_close(rn50.encode_text(TEXTS), expected, atol=1e-4, rtol=1e-4)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name in ("gpu", "cuda", "cuda:1", "", None, "CPU", 3):
        with pytest.raises(ValueError, match="There is no device .*; PyTorch sees no GPU here. Write one of: cpu[.]"):
            backbones.load("mini", device=name)
    assert backbones.find_device("cpu") == torch.device("cpu") == backbones.find_device(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert backbones.find_device("cuda:1") == torch.device("cuda", 1)
    for name in ("gpu", "cuda:2", "mps"):
        with pytest.raises(ValueError, match=f"no device '{name}'. Write one of: cpu, cuda, cuda:0, cuda:1[.]"):
            backbones.find_device(name)


def test_an_alphabet_gives_letters_ids_of_their_own():
    tokens = weights.CharTokenizer(8, "éγ")
    assert tokens(["Éγα"]).tolist() == [[1, 127, 128, ord("?"), 129, 0, 0, 0]]
    assert tokens.fold("É è  γ") == "é e γ" and tokens.unknown("γδ a") == "δ"
    for wrong in ("éé", "É", "a", "e\u0301"):
        with pytest.raises(ValueError, match="each once"):
            weights.CharTokenizer(8, wrong)


def test_a_wider_alphabet_leaves_known_texts_as_they_were():
    plain = backbones.load("mini")
    wider = backbones.extended(plain, "γδ")
    assert torch.equal(wider.encode_text(["open", "café"]), plain.encode_text(["open", "café"]))
    assert not torch.allclose(wider.encode_text(["γ"]), wider.encode_text(["δ"]))
    assert wider.weights_hash != plain.weights_hash and plain.tokenizer.alphabet == ""
    with pytest.raises(ValueError, match="cannot learn letters"):
        backbones.extended(wider, "ε")

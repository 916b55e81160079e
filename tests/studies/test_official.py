import pytest
import tiny
import torch

from fdp_core.config import preset
from fdp_core.studies.released import from_official


@pytest.fixture(scope="module")
def backbone():
    return tiny.backbone()


def released(seed=0, grid=5, width=256, dim=32, text=32):
    """A state dict in the released layout, of random values, with the sizes of the tiny backbone."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "prompt_learner.ctx1": (2, text),
        "prompt_learner.ctx2": (4, text),
        "cross_attention_textquery.w_qs.weight": (8 * dim, dim),
        "cross_attention_textquery.w_ks.weight": (8 * dim, dim),
        "cross_attention_textquery.w_vs.weight": (8 * dim, dim),
        "cross_attention_textquery.fc.weight": (dim, 8 * dim),
        "cross_attention_textquery.layer_norm.weight": (dim,),
        "cross_attention_textquery.layer_norm.bias": (dim,),
        "new_positional_embedding": (grid * grid + 1, width),
        "new_v_proj.weight": (width, width, 1, 1),
        "new_v_proj.bias": (width,),
        "new_c_proj.weight": (dim, width, 1, 1),
        "new_c_proj.bias": (dim,),
        "binarize.weight": (1, dim, 1, 1),
        "binarize.bias": (1,),
    }
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def with_clip(state, backbone):
    """Add CLIP three times under the prefixes that a wrapper would give it (B6)."""
    clip = backbone.clip.state_dict()
    for prefix in ("clip_model.", "prompt_learner.clip."):
        state |= {prefix + name: value for name, value in clip.items()}
    state |= {"image_encoder." + k.removeprefix("visual."): v for k, v in clip.items() if k.startswith("visual.")}
    state |= {"text_encoder." + k: v for k, v in clip.items() if not k.startswith("visual.")}
    state["clip_model.visual.bn1.num_batches_tracked"] = torch.tensor(3)
    state["prompt_learner.token_prefix"] = torch.zeros(1, 1, 32)
    return state


def test_every_tensor_goes_to_its_place(backbone):
    state = released()
    model = from_official(state, backbone)
    assert model.config == preset("paper_compat", image_size=160)
    assert not model.training and model.clusters is None
    assert torch.equal(model.prompt.context_function, state["prompt_learner.ctx1"])
    assert torch.equal(model.prompt.context_content, state["prompt_learner.ctx2"])
    assert torch.equal(model.positions, state["new_positional_embedding"])
    assert torch.equal(model.localiser.new_v.weight, state["new_v_proj.weight"])
    assert torch.equal(model.localiser.new_c.bias, state["new_c_proj.bias"])
    assert torch.equal(model.localiser.binarize.weight, state["binarize.weight"])
    assert torch.equal(model.probe.w_vs.weight, state["cross_attention_textquery.w_vs.weight"])
    assert torch.equal(model.probe.layer_norm.bias, state["cross_attention_textquery.layer_norm.bias"])
    features = torch.randn(1, 256, 5, 5, generator=torch.Generator().manual_seed(1))
    g = model.encode_features(features)["pooled"]
    torch.testing.assert_close(model.encode_features(features)["probed"], tiny.really_attend(model.probe, g))


@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
def test_the_file_of_the_released_training_loads_with_its_copies_of_clip(backbone, tmp_path, prefix):
    plain = from_official(released(), backbone)
    state = {prefix + name: value for name, value in with_clip(released(), backbone).items()}
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    written = {"epoch": 8, "model_state_dict": state, "optimizer_state_dict": optimiser.state_dict()}
    torch.save(written, tmp_path / "model_8.pth")
    wrapped = from_official(torch.load(tmp_path / "model_8.pth", weights_only=True), backbone)
    for name, value in plain.trained_state().items():
        assert torch.equal(value, wrapped.trained_state()[name])


def test_variants_of_shape_and_precision(backbone):
    plain, state = from_official(released(), backbone), released()
    state["new_positional_embedding"] = state["new_positional_embedding"][:, None]
    state["new_v_proj.weight"] = state["new_v_proj.weight"][:, :, 0, 0]
    state["binarize.0.weight"] = state.pop("binarize.weight").double()
    state["binarize.0.bias"] = state.pop("binarize.bias")
    state["prompt_learner.ctx1"], state["prompt_learner.ctx2"] = (
        state["prompt_learner.ctx2"],
        state["prompt_learner.ctx1"],
    )  # the shorter one is the function words' in either order
    model = from_official(state, backbone)
    for name, value in plain.trained_state().items():
        assert torch.equal(value, model.trained_state()[name]), name


def test_unknown_and_missing_names_are_all_listed(backbone):
    state = with_clip(released(), backbone)
    del state["binarize.bias"], state["prompt_learner.ctx2"]
    state["decoder.conv9.weight"] = torch.zeros(1)
    state["cross_attention_textquery.w_qs.bias"] = torch.zeros(256)
    with pytest.raises(ValueError) as error:
        from_official(state, backbone)
    text = str(error.value)
    assert "unknown names: cross_attention_textquery.w_qs.bias, decoder.conv9.weight" in text
    assert "missing names: binarize.bias, prompt_learner.ctx2" in text


def test_a_clip_of_other_shape_is_not_taken_for_ours(backbone):
    state = released() | {"clip_model.visual.conv1.weight": torch.zeros(99, 3, 3, 3)}
    with pytest.raises(ValueError, match="unknown names: clip_model.visual.conv1.weight"):
        from_official(state, backbone)


def test_other_sizes_are_refused(backbone):
    with pytest.raises(ValueError, match="positions is .*26, 128.*expected .*26, 256"):
        from_official(released(width=128), backbone)
    with pytest.raises(ValueError, match="8 heads of width 16, expected 32"):
        from_official(released(dim=16), backbone)
    with pytest.raises(ValueError, match="no tensors: epoch"):
        from_official({"epoch": 3}, backbone)


@pytest.mark.filterwarnings("ignore:.*fall into one cluster")
def test_words_give_the_clusters_that_the_file_lacks(backbone):
    model = from_official(released(), backbone, words=tiny.WORDS)
    assert model.words == tuple(tiny.WORDS) and model.clusters is not None
    assert model.encode_queries(["the", "bakery"]).shape == (2, 32)

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F

from fdp_core import backbones
from fdp_core.config import Config, preset
from fdp_core.distinguish import Clusters
from fdp_core.model import FDP
from fdp_core.weights import state_hash

SMALL = Config(image_size=160, localiser_hidden=8, probe_heads=4)
COMPAT = preset("paper_compat", image_size=160, probe_heads=4)
SWITCHES = [
    {"position_resize": "flat_nearest"},
    {"localiser": "linear"},
    *({"shift": how} for how in ("additive", "multiply", "replace", "off")),
    {"shift": "additive", "shift_mean_token": True},
    {"shift_scale_learnable": False},
    {"shift_heads": "released_order"},
    *({"probe": probe} for probe in ("official", "off")),
    *({"prompts": prompts} for prompts in ("one", "none")),
]


@pytest.fixture(scope="module")
def backbone():
    return tiny.backbone()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shake(model, seed=0, size=0.3):
    """Move everything trainable away from its initial value, so that a test sees all of it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("backbone."):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter += size * noise * parameter.std(correction=0).clamp(min=0.05)
    return model.eval()


def build(backbone, config):
    model = FDP(backbone, config)
    model.clusters = tiny.clusters(backbone)
    return model


def features_of(batch=3, grid=5, width=256, seed=1):
    return random(batch, width, grid, grid, seed=seed).relu()


# --- the paper's forward pass, written down slowly from its description


def slow_image(model, features, order="per_image"):
    """FDP section 3.2 as released: every projection made, PyTorch's own attention, real cross-attention."""
    clip, loc, probe = model.backbone.clip, model.localiser, model.probe
    pool, text = clip.visual.attnpool, clip.encode_text(model.backbone.tokenize(["scene text"]))
    batch, width, grid, _ = features.shape
    cells = features.reshape(batch, width, -1).permute(2, 0, 1)
    x = torch.cat([cells.mean(0, keepdim=True), cells]) + model.positions[:, None]
    logits = loc.binarize(loc.new_c(loc.new_v(features)))[:, 0]
    mask = torch.cat([torch.ones(batch, 1), logits.sigmoid().flatten(1)], dim=1)[:, None]
    heads = pool.num_heads
    mask = mask.repeat(heads, 1, 1) if order == "released_order" else mask.repeat_interleave(heads, 0)
    g, _ = F.multi_head_attention_forward(
        x[:1], x, x, width, heads, None, torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        None, None, False, 0.0, pool.c_proj.weight, pool.c_proj.bias, training=False, attn_mask=mask,
        use_separate_proj_weight=True, q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )  # fmt: skip
    g = g[0]
    n = probe.heads
    q = probe.w_qs(g).view(batch, n, 1, -1)
    k, v = (w(text).view(1, n, 1, -1).expand(batch, -1, -1, -1) for w in (probe.w_ks, probe.w_vs))
    attended = ((q / q.shape[-1] ** 0.5) @ k.transpose(2, 3)).softmax(-1) @ v
    h = F.layer_norm(
        probe.fc(attended.flatten(1)) + g, g.shape[-1:], probe.layer_norm.weight, probe.layer_norm.bias, 1e-6
    )
    return g, h, F.normalize(g + h, dim=-1), logits


def check_compat(backbone, config, features, order):
    model = shake(FDP(backbone, config.replace(shift_heads=order)), size=0.1)
    with torch.no_grad():
        out = model.encode_features(features)
        g, h, image, logits = slow_image(model, features, order)
    torch.testing.assert_close(out["local_logits"], logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out["pooled"], g, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out["probed"], h, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out["image"], image, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("order", ["per_image", "released_order"])
@pytest.mark.parametrize("batch", [1, 3])
def test_paper_compat_equals_the_slow_reference_on_a_compact_clip(backbone, batch, order):
    check_compat(backbone, COMPAT, features_of(batch), order)


@pytest.mark.parametrize(("size", "batch"), [(224, 2), (320, 1)])
def test_paper_compat_equals_the_slow_reference_on_random_rn50(size, batch):
    rn50 = backbones.load("RN50", pretrained=False, seed=1)
    features = rn50.trunk(random(batch, 3, size, size, seed=2))
    check_compat(rn50, preset("paper_compat", image_size=size), features, "released_order")


def block_noise(batch, side=160, block=20, seed=3):
    """Images of random squares that really differ from one another: uint8 [B, S, S, 3]."""
    blocks = np.random.default_rng(seed).integers(0, 256, (batch, side // block, side // block, 3), dtype=np.uint8)
    return blocks.repeat(block, axis=1).repeat(block, axis=2)


def test_images_that_differ_tell_the_two_orders_of_the_heads_apart(backbone):
    features = backbone.trunk(backbone.normalise(block_noise(3)))
    for order in ("per_image", "released_order"):
        check_compat(backbone, COMPAT, features, order)
    model, odd = (shake(FDP(backbone, COMPAT.replace(shift_heads=order))) for order in ("per_image", "released_order"))
    maps = torch.from_numpy(block_noise(3)[:, ::32, ::32, 0]).float() / 32 - 4
    right, mixed = (m.encode_features(features, maps)["attention"] for m in (model, odd))
    slots = torch.arange(3 * backbone.heads).remainder(3).view(3, -1) == torch.arange(3)[:, None]
    same = torch.isclose(right, mixed, rtol=1e-3, atol=1e-6).all(dim=-1)
    assert torch.equal(same, slots) and not same.all()  # slot b * H + h gets the map of image (b * H + h) mod B


def test_retrieval_in_the_released_order_takes_each_photograph_alone(backbone):
    model, odd = (shake(FDP(backbone, COMPAT.replace(shift_heads=order))) for order in ("per_image", "released_order"))
    features = features_of()
    expected = model.encode_features(features)["image"]
    assert not torch.allclose(odd.encode_features(features)["image"], expected, atol=1e-5)
    torch.testing.assert_close(odd.encode_photographs(features), expected)
    torch.testing.assert_close(odd.encode_images(block_noise(3)), model.encode_images(block_noise(3)))
    assert odd.encode_photographs(features[:0]).shape == (0, backbone.embed_dim)


# --- Focus


def test_a_mask_set_for_one_image_changes_only_that_image(backbone):
    """Test 1 of the list of defects; the released order fails it."""
    changed = {}
    for order in ("per_image", "released_order"):
        model = shake(FDP(backbone, SMALL.replace(shift_heads=order)))
        features, maps = features_of(), torch.zeros(3, 5, 5)
        before = model.encode_features(features, maps)["image"]
        maps[1, 2:4] = 6.0
        after = model.encode_features(features, maps)["image"]
        changed[order] = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after)]
    assert changed == {"per_image": [False, True, False], "released_order": [True, True, True]}


def test_untrained_default_with_its_shift_off_is_zero_shot_clip(backbone):
    model = FDP(backbone, SMALL.replace(shift="off")).eval()
    features = features_of()
    expected = F.normalize(backbone.zero_shot(features), dim=-1)
    torch.testing.assert_close(model.encode_features(features)["image"], expected, atol=1e-5, rtol=1e-4)


def test_a_gate_moves_attention_to_the_text_cells(backbone):
    model = FDP(backbone, SMALL).eval()
    maps = torch.full((3, 5, 5), -8.0)
    maps[:, 1, 1:4] = 8.0
    weights = model.encode_features(features_of(), maps)["attention"][..., 1:].view(3, 4, 5, 5)
    assert (weights[:, :, 1, 1:4].sum(-1) > 100 * (weights.sum((2, 3)) - weights[:, :, 1, 1:4].sum(-1))).all()


@pytest.mark.parametrize("changes", [{}, *SWITCHES], ids=str)
def test_every_switch_gives_unit_vectors_and_gradients(backbone, changes):
    config = SMALL.replace(**changes)
    model = build(backbone, config).train()
    out = model.encode_features(features_of())
    assert out["image"].shape == (3, 32) and out["local_logits"].shape == (3, 5, 5)
    assert out["attention"].shape == (3, 4, 26)
    assert ("shift" in out) == (config.shift != "off") and ("probed" in out) == (config.probe != "off")
    queries = model.encode_queries(["the", "office", "unseen phrase", "the"])
    assert queries.shape == (4, 32)
    for vectors in (out["image"], queries):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(vectors)))
    ((out["image"] @ queries.T).square().sum() + out["local_logits"].square().sum()).backward()
    silent = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    expected = {"probe.w_qs.weight", "probe.w_ks.weight"} if config.probe == "official" else set()
    if config.prompts == "one":
        expected = expected | {"prompt.context_function"}
    assert silent == expected
    assert not any(module.training for module in model.backbone.modules())


@pytest.mark.parametrize("grid", [1, 4, 7])
def test_any_grid_after_training_at_another(backbone, grid):
    model = shake(FDP(backbone, SMALL))
    assert model.encode_features(features_of(2, grid))["image"].shape == (2, 32)


def test_images_and_half_precision_features_take_the_same_path(backbone):
    model = shake(FDP(backbone, SMALL))
    pixels = torch.randint(0, 256, (2, 160, 160, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images = backbone.normalise(pixels)
    expected = model.encode_features(backbone.trunk(images))["image"]
    torch.testing.assert_close(model.encode_images(pixels), expected)
    torch.testing.assert_close(model.encode_images(pixels.numpy()), expected)
    torch.testing.assert_close(model.encode_images(images), expected)
    half = model.encode_features(backbone.trunk(images).half())["image"]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, atol=2e-3, rtol=1e-2)


def test_features_of_another_width_are_refused(backbone):
    with pytest.raises(ValueError, match=r"\[B, 256, G, G\], got \[1, 8, 5, 5\]"):
        FDP(backbone, SMALL).localise(torch.zeros(1, 8, 5, 5))


def test_dense_and_localise_agree_with_encode_features(backbone):
    model = shake(FDP(backbone, COMPAT))
    features = features_of()
    logits = model.encode_features(features)["local_logits"]
    torch.testing.assert_close(model.localise(features), logits)
    torch.testing.assert_close(model.localiser.binarize(model.dense(features))[:, 0], logits, atol=1e-4, rtol=1e-4)


# --- Distinguish and Prompt


def test_kinds_follow_the_clusters_and_can_be_overridden(backbone):
    model = build(backbone, SMALL)
    kinds = model.kinds_of(["the", "office", "brand new phrase"])
    assert kinds[:2].tolist() == [0, 1]
    assert torch.equal(kinds, model.clusters.assign(backbone.encode_text(["the", "office", "brand new phrase"])))
    assert model.kinds_of(["the", "the", "office"], ["content", None, 0]).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="noun"):
        model.kinds_of(["the"], ["noun"])
    with pytest.raises(ValueError, match="2 texts but 1 kinds"):
        model.kinds_of(["a", "b"], [0])


@pytest.mark.filterwarnings("ignore:.*fall into one cluster")
def test_clusters_are_fitted_on_the_bare_words_with_the_configured_seed(backbone):
    config = SMALL.replace(seed=3, cluster_n_init=4, function_anchor="and", content_anchor="hotel")
    model = FDP(backbone, config, tiny.WORDS)
    expected = Clusters.fit(backbone.encode_text(tiny.WORDS), tiny.WORDS, 3, 4, "and", "hotel")
    torch.testing.assert_close(model.clusters.centres, expected.centres)
    assert model.words == tuple(tiny.WORDS)


def test_each_word_is_decided_once(backbone, monkeypatch):
    model = build(backbone, SMALL)
    seen = []
    encode = backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda texts: seen.extend(texts) or encode(texts))
    for _ in range(3):
        model.kinds_of(["one", "two", "one"])
    assert sorted(seen) == ["one", "two"]
    model.clusters = Clusters(model.clusters.centres.flip(0))
    model.kinds_of(["one"])
    assert seen.count("one") == 2  # new clusters, new decision


def test_without_clusters_the_kinds_must_be_given(backbone):
    model = FDP(backbone, SMALL)
    with pytest.raises(ValueError, match="fit_clusters"):
        model.encode_queries(["the"])
    assert model.encode_queries(["the"], kinds=["function"]).shape == (1, 32)
    assert FDP(backbone, SMALL.replace(prompts="one")).encode_queries(["the"]).shape == (1, 32)


def test_queries_in_a_list_equal_queries_one_by_one(backbone):
    model = shake(build(backbone, SMALL))
    texts = ["the", "pharmacy", "x", "the", "a longer phrase"]
    with torch.no_grad():
        together = model.encode_queries(texts)
        alone = torch.cat([model.encode_queries([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert torch.equal(together[0], together[3])


def test_kind_matters_with_two_prompts_only(backbone):
    def pair(prompts):
        model = shake(FDP(backbone, SMALL.replace(prompts=prompts)))
        return model.encode_queries(["word"], [0]), model.encode_queries(["word"], [1])

    assert not torch.allclose(*pair("two"), atol=1e-4)
    assert torch.equal(*pair("one"))
    bare = FDP(backbone, SMALL.replace(prompts="none")).encode_queries(["word"])
    torch.testing.assert_close(bare, F.normalize(backbone.encode_text(["word"]), dim=-1))


def test_no_queries_give_no_rows(backbone):
    for prompts in ("two", "one", "none"):
        assert FDP(backbone, SMALL.replace(prompts=prompts)).encode_queries([]).shape == (0, 32)


def test_soft_mixing_lies_between_the_two_prompts(backbone):
    model = shake(build(backbone, SMALL))
    texts = ["the", "office", "something"]
    soft = model.encode_queries(texts, soft=True)
    torch.testing.assert_close(soft.norm(dim=-1), torch.ones(3))
    shares = model.clusters.weights(backbone.encode_text(texts))
    kinds = [model.encode_queries(texts, [kind] * 3) for kind in (0, 1)]
    expected = F.normalize(shares[:, :1] * kinds[0] + shares[:, 1:] * kinds[1], dim=-1)
    torch.testing.assert_close(soft, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="Soft mixing"):
        model.encode_queries(texts, kinds=[0, 0, 0], soft=True)


def test_a_context_that_leaves_no_room_is_refused(backbone):
    with pytest.raises(ValueError, match="21 vectors leaves no room .* 24 tokens"):
        FDP(backbone, SMALL.replace(context_content=21))


# --- what is trained


def test_learning_rate_groups(backbone):
    model = FDP(backbone, COMPAT)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {g["name"]: (g["lr"], {names[id(p)] for p in g["params"]}) for g in model.trainable_parameters()}
    assert groups["copied"][0] == 1e-4 and groups["new"][0] == 2e-3
    assert groups["copied"][1] == {
        "positions",
        *(f"localiser.{layer}.{kind}" for layer in ("new_v", "new_c") for kind in ("weight", "bias")),
    }
    assert {
        "prompt.context_function",
        "prompt.context_content",
        "probe.fc.weight",
        "localiser.binarize.bias",
    } <= groups["new"][1]
    everything = groups["copied"][1] | groups["new"][1]
    assert everything == {n for n, p in model.named_parameters() if p.requires_grad} == set(model.trained_state())


def test_training_changes_no_backbone_weight(backbone):
    before = state_hash(backbone.clip.state_dict())
    model = build(backbone, SMALL).train()
    optimiser = torch.optim.Adam(model.trainable_parameters())
    start = {name: value.clone() for name, value in model.trained_state().items()}
    for _ in range(2):
        optimiser.zero_grad()
        similarity = model.encode_features(features_of())["image"] @ model.encode_queries(["the", "office", "of"]).T
        (-similarity.diagonal().sum()).backward()
        optimiser.step()
    assert state_hash(backbone.clip.state_dict()) == before
    moved = {name for name, value in model.trained_state().items() if not torch.equal(value, start[name])}
    # the linear maps' and the last bias all reach the loss; nothing stands still
    assert moved == set(start)


def test_misfitting_weights_are_named(backbone):
    model = FDP(backbone, SMALL)
    state = model.trained_state()
    state["extra"] = state.pop("positions")
    state["probe.fc.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError) as error:
        model.load_trained_state(state)
    assert "missing positions" in str(error.value) and "unknown extra" in str(error.value)
    assert "probe.fc.weight is [2, 2], expected [32, 32]" in str(error.value)


def test_the_same_seed_gives_the_same_model(backbone):
    first, again = (FDP(backbone, SMALL).trained_state() for _ in range(2))
    assert state_hash(first) == state_hash(again)
    assert state_hash(FDP(backbone, SMALL.replace(seed=1)).trained_state()) != state_hash(first)

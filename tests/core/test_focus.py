import copy
import functools
import math

import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core import attention, focus


@pytest.fixture(scope="module")
def backbone():
    return tiny.backbone()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_pool(x, pool, bias=None):
    """PyTorch's own multi-head attention over all tokens, with M as a mask [B*H, L, L]."""
    batch, length, _ = x.shape
    mask = None
    if bias is not None:
        mask = bias.expand(batch, pool.num_heads, length).reshape(-1, 1, length).expand(-1, length, -1)
    x = x.transpose(0, 1)
    out, _ = F.multi_head_attention_forward(
        x, x, x, x.shape[-1], pool.num_heads, None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
        pool.c_proj.weight, pool.c_proj.bias, training=False, need_weights=False, attn_mask=mask,
        use_separate_proj_weight=True, q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )  # fmt: skip
    return out[0]


# --- positions (test 4 of the list of defects)


@given(side=st.integers(1, 12), grid=st.integers(1, 24), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_2d_resize_keeps_the_mean_row_and_the_native_size(side, grid, seed):
    table = random(side * side + 1, 6, seed=seed)
    resized = attention.resize_positions(table, grid)
    assert resized.shape == (grid * grid + 1, 6)
    assert torch.equal(resized[0], table[0])
    assert torch.equal(attention.resize_positions(table, side), table)


def test_2d_resize_is_separable_in_space():
    rows = torch.arange(7.0)
    table = torch.cat([torch.zeros(1, 2), torch.stack(torch.meshgrid(rows, rows, indexing="ij"), -1).flatten(0, 1)])
    cells = attention.resize_positions(table, 20)[1:].view(20, 20, 2)
    torch.testing.assert_close(cells[..., 0], cells[:, :1, 0].expand(20, 20))
    torch.testing.assert_close(cells[..., 1], cells[:1, :, 1].expand(20, 20))
    assert (cells[1:, 0, 0] - cells[:-1, 0, 0] > -1e-4).all()


@given(
    side=st.integers(1, 9),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    how=st.sampled_from(["2d", "flat_nearest"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_oblong_grids_have_a_row_for_every_cell(side, shape, how, seed):
    """The mean row stays, and a constant table stays constant."""
    table = random(side * side + 1, 6, seed=seed)
    resized = attention.resize_positions(table, shape, how)
    assert resized.shape == (shape[0] * shape[1] + 1, 6)
    assert torch.equal(resized[0], table[0])
    constant = torch.full((side * side + 1, 3), 1.5)
    torch.testing.assert_close(attention.resize_positions(constant, shape, how), torch.full((len(resized), 3), 1.5))


@pytest.mark.parametrize("shape", [(1, 4), (2, 6), (7, 14)])
def test_oblong_grids_are_read_row_by_row(shape):
    """Rows of the result run down the table, columns across it, each over the whole range."""
    down, across = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    table = torch.cat([torch.full((1, 2), 9.0), torch.stack([down, across], -1).flatten(0, 1)])
    resized = attention.resize_positions(table, shape)
    assert torch.equal(resized[0], table[0])
    cells = resized[1:].view(*shape, 2)
    torch.testing.assert_close(cells[..., 0], cells[:, :1, 0].expand(shape), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cells[..., 1], cells[:1, :, 1].expand(shape), atol=1e-4, rtol=1e-4)
    for axis, values in enumerate((cells[:, 0, 0], cells[0, :, 1])):
        assert (values.diff() > 0).all()
        torch.testing.assert_close(values, 6 - values.flip(0), atol=1e-4, rtol=1e-4)
        assert values.mean() == pytest.approx(3, abs=1e-4), f"axis {axis}"


@pytest.mark.parametrize("how", ["2d", "flat_nearest"])
def test_the_native_grid_is_the_table_itself(how):
    table = random(50, 6)
    assert attention.resize_positions(table, (7, 7), how) is table
    assert attention.resize_positions(table, 7, how) is table
    square = attention.resize_positions(table, 5, how)
    assert torch.equal(attention.resize_positions(table, (5, 5), how), square)
    assert not torch.equal(attention.resize_positions(table, (7, 5)), attention.resize_positions(table, (5, 7)))


def test_flat_nearest_is_the_released_defect():
    table = torch.arange(50.0)[:, None]
    flat = attention.resize_positions(table, 20, "flat_nearest")[:, 0].long()
    assert flat.tolist() == [i * 50 // 401 for i in range(401)]
    assert (flat == 0).sum() == 9  # nine rows copy the mean token
    true = torch.tensor([1 + (r * 7 // 20) * 7 + c * 7 // 20 for r in range(20) for c in range(20)])
    assert (flat[1:] == true).sum() == 54  # of 400 cells


def test_odd_tables_are_refused():
    with pytest.raises(ValueError, match="n\\*n \\+ 1"):
        attention.resize_positions(torch.zeros(49, 4), 7)
    with pytest.raises(ValueError, match="flat_nearest"):
        attention.resize_positions(torch.zeros(50, 4), 7, "bilinear")


# --- attention


@pytest.mark.parametrize("grid", [4, 7])
@pytest.mark.parametrize("masked", [False, True])
def test_one_query_pool_equals_full_attention(backbone, grid, masked):
    x = attention.tokens(random(3, 256, grid, grid), random(grid * grid + 1, 256, seed=1))
    bias = random(3, 4, grid * grid + 1, seed=2) if masked else None
    pooled, weights = attention.attention_pool(x, backbone.pool, bias)
    torch.testing.assert_close(pooled, slow_pool(x, backbone.pool, bias), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4))


def test_without_shift_the_pool_is_clips_own_at_the_native_grid(backbone):
    """Test 3 of the list of defects, second half."""
    features = random(2, 256, 4, 4)
    x = attention.tokens(features, backbone.pool.positional_embedding)
    for bias in (None, torch.zeros(2, 1, 17)):
        pooled, _ = attention.attention_pool(x, backbone.pool, bias)
        torch.testing.assert_close(pooled, backbone.pool(features), atol=1e-5, rtol=1e-4)


def test_gradients_of_the_pool_equal_those_of_full_attention(backbone):
    x, bias = random(2, 17, 256), random(2, 1, 17, seed=3)
    grads = []
    for pool in (lambda *a: attention.attention_pool(*a)[0], slow_pool):
        inputs = [t.clone().requires_grad_() for t in (x, bias)]
        pool(inputs[0], backbone.pool, inputs[1]).square().sum().backward()
        grads.append([t.grad for t in inputs])
    for fast, slow in zip(*grads):
        torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-3)


# --- localiser


def slow_logits(localiser, features):
    x = localiser.dense(features)
    if localiser.head == "linear":
        return localiser.binarize(x)[:, 0]
    x = localiser.reduce(x)
    x = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], localiser.norm.weight, localiser.norm.bias)
    return localiser.binarize(F.gelu(localiser.context(F.gelu(x).permute(0, 3, 1, 2))))[:, 0]


@pytest.mark.parametrize("head", ["linear", "conv"])
def test_multiplied_maps_equal_the_convolutions_one_by_one(backbone, head):
    localiser = focus.Localiser(backbone.pool, head, 16, seed=4)
    features = random(2, 256, 5, 5)
    torch.testing.assert_close(localiser(features), slow_logits(localiser, features), atol=1e-5, rtol=1e-4)
    grads = []
    for run in (localiser, lambda x: slow_logits(localiser, x)):
        localiser.zero_grad()
        run(features).square().sum().backward()
        grads.append([p.grad.clone() for p in localiser.parameters()])
    for fast, slow in zip(*grads):
        torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("head", ["conv", "linear"])
def test_the_kept_product_of_the_maps_follows_every_change_of_a_weight(backbone, head, mode):
    localiser, features = focus.Localiser(backbone.pool, head, 16, seed=4), random(2, 256, 3, 3)
    last = localiser.binarize if head == "linear" else localiser.reduce

    def agree():
        with mode():
            kept = [localiser(features) for _ in range(2)]
        torch.testing.assert_close(kept[0], localiser(features), atol=1e-4, rtol=1e-4)  # with gradients: never kept
        torch.testing.assert_close(kept[1], kept[0])
        return kept[0].clone()

    seen = [agree()]
    optimiser = torch.optim.Adam(localiser.parameters(), lr=0.1)
    for change in ("step", "load", "no_grad", "data"):
        if change == "step":
            localiser(features).square().sum().backward()
            optimiser.step()
        elif change == "load":
            localiser.load_state_dict(focus.Localiser(backbone.pool, head, 16, seed=5).state_dict())
        elif change == "no_grad":
            with torch.no_grad():
                last.bias[0] += 1
        else:
            last.weight.data = last.weight.data.flip(1)
        seen.append(agree())
        assert not torch.allclose(seen[-1], seen[-2])
    assert torch.allclose(copy.deepcopy(localiser)(features), seen[-1], atol=1e-4)


def test_dense_features_are_the_pools_projections_cell_by_cell(backbone):
    """Test 3 of the list of defects, first half: nothing has to be downloaded for them (MaskCLIP)."""
    localiser, features = focus.Localiser(backbone.pool), random(2, 256, 4, 4)
    dense = localiser.dense(features)
    for row in range(4):
        for column in range(4):
            expected = backbone.pool.c_proj(backbone.pool.v_proj(features[:, :, row, column]))
            torch.testing.assert_close(dense[:, :, row, column], expected, atol=1e-5, rtol=1e-4)


def test_the_copies_do_not_share_memory_with_clip(backbone):
    localiser = focus.Localiser(backbone.pool)
    assert localiser.new_v.weight.data_ptr() != backbone.pool.v_proj.weight.data_ptr()
    assert localiser.new_v.weight.requires_grad


def test_conv_head_looks_at_a_neighbourhood_and_the_linear_head_does_not(backbone):
    features = random(1, 256, 5, 5).requires_grad_()
    reach = {}
    for head in ("linear", "conv"):
        (grad,) = torch.autograd.grad(focus.Localiser(backbone.pool, head)(features)[0, 2, 2], features)
        reach[head] = int((grad[0].abs().sum(0) > 0).sum())
    assert reach == {"linear": 1, "conv": 9}


# --- attention shift


LOGITS = random(2, 3, 3, seed=8) * 3


def test_additive_shift_is_the_sigmoid_with_one_for_the_mean_token():
    shift = focus.AttentionShift("additive", learnable=False, mean_token=True)(LOGITS)
    assert torch.equal(shift, torch.cat([torch.ones(2, 1), LOGITS.sigmoid().flatten(1)], dim=1))
    assert torch.equal(focus.AttentionShift("additive")(LOGITS)[:, 0], torch.zeros(2))


def test_log_and_multiply_gate_the_attention():
    scores, sigma = random(2, 9, seed=9), LOGITS.sigmoid().flatten(1)
    product = scores.softmax(-1) * sigma
    expected = product / product.sum(-1, keepdim=True)
    for how in ("log", "multiply"):
        shift = focus.AttentionShift(how)(LOGITS)
        torch.testing.assert_close((scores + shift[:, 1:]).softmax(-1), expected)
        assert torch.equal(shift[:, 0], torch.zeros(2))


def test_replace_leaves_the_attention_to_the_map_alone():
    """Whatever the query and the keys say, a head's weights are sigma to the s, beside the mean token's one."""
    backbone = tiny.backbone()
    x = random(2, 5, backbone.width, seed=3)
    logits = random(2, 2, 2, seed=4)
    shift = focus.AttentionShift("replace", 2.0)
    _, weights = attention.attention_pool(x, backbone.pool, shift(logits)[:, None], shift.own)
    expected = torch.cat([torch.ones(2, 1), logits.sigmoid().flatten(1) ** 2], dim=1)
    expected = (expected / expected.sum(1, keepdim=True))[:, None].expand_as(weights)
    torch.testing.assert_close(weights, expected)
    assert focus.AttentionShift("log").own == 1


@given(st.floats(0, 1))
def test_multiply_mixes_by_its_scale(scale):
    shift = focus.AttentionShift("multiply", scale)(LOGITS)[:, 1:]
    torch.testing.assert_close(shift.exp(), (1 - scale + scale * LOGITS.sigmoid()).flatten(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("how", ["additive", "log", "multiply", "replace"])
@pytest.mark.parametrize("logit", [-1e4, -50.0, 0.0, 50.0, 1e4])
def test_extreme_maps_stay_finite(how, logit):
    module = focus.AttentionShift(how, 1.5)
    logits = torch.full((1, 2, 2), logit, requires_grad=True)
    shift = module(logits)
    shift.softmax(-1)[0, 0].backward()
    assert torch.isfinite(shift).all()
    if how == "replace":
        assert logits.grad is None, "the map learns by its own loss alone"
    else:
        assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(module.scale.grad)


def test_the_bound_of_the_additive_shift():
    """B4: 8 text cells of 400 rise from 2.0 % to 5.2 % of the mass; a gate gives them nearly all."""
    logits = torch.full((1, 20, 20), -50.0)
    logits.view(-1)[:8] = 50.0
    mass = {}
    for how in ("additive", "log"):
        shift = focus.AttentionShift(how, learnable=False, mean_token=how == "additive")(logits)
        mass[how] = float(shift.softmax(-1)[0, 1:9].sum())
    assert round(100 * mass["additive"], 1) == 5.2 == round(100 * 8 * math.e / (9 * math.e + 392), 1)
    assert mass["log"] == pytest.approx(8 / 9)  # the rest is the mean token's


def test_scale_is_a_parameter_only_if_learnable():
    assert [n for n, _ in focus.AttentionShift("log").named_parameters()] == ["scale"]
    fixed = focus.AttentionShift("log", 2.0, learnable=False)
    assert not list(fixed.parameters()) and not fixed.state_dict()
    torch.testing.assert_close(fixed(LOGITS), 2 * focus.AttentionShift("log")(LOGITS))
    off = focus.AttentionShift("off")
    assert off(LOGITS) is None and not list(off.parameters())


def test_unknown_switches_are_refused(backbone):
    with pytest.raises(ValueError, match="additive"):
        focus.AttentionShift("sum")
    with pytest.raises(ValueError, match="conv"):
        focus.Localiser(backbone.pool, "mlp")
    with pytest.raises(ValueError, match="per_image"):
        focus.over_heads(torch.zeros(2, 5), 4, "shuffled")
    with pytest.raises(ValueError, match="divisor"):
        focus.SpatialProbe(torch.zeros(30), 8, heads=8)


# --- which image gets which mask (B1)


@given(batch=st.integers(1, 7), heads=st.integers(1, 9))
def test_released_order_is_repeat_where_the_pool_wants_repeat_interleave(batch, heads):
    shift = random(batch, 5)
    slots = shift[:, None].repeat(heads, 1, 1)  # the released code
    expected = slots.view(batch, heads, 5)  # PyTorch's attention counts slot b*H + h
    assert torch.equal(focus.over_heads(shift, heads, "released_order"), expected)
    right = shift[:, None].repeat_interleave(heads, 0).view(batch, heads, 5)
    assert torch.equal(focus.over_heads(shift, heads).expand(batch, heads, 5), right)


def test_share_of_right_slots_in_the_released_training():
    owners = focus.over_heads(torch.arange(48.0)[:, None], 32, "released_order")[..., 0]
    share = (owners == torch.arange(48)[:, None]).float().mean()
    assert round(100 * float(share), 1) == 2.1


# --- probing (test 2 of the list of defects)


def official(dim=16, heads=4, seed=1, **kwargs):
    probe = focus.OfficialProbe(random(dim, seed=seed), heads, seed=seed, **kwargs)
    torch.nn.init.normal_(probe.layer_norm.weight, generator=torch.Generator().manual_seed(5))
    return probe


def test_official_probing_is_a_layer_norm_of_g_plus_a_constant():
    probe, g = official().eval(), random(6, 16, seed=2) * 5
    constant = probe.fc(probe.w_vs(probe.text))
    expected = F.layer_norm(g + constant, (16,), probe.layer_norm.weight, probe.layer_norm.bias, 1e-6)
    torch.testing.assert_close(probe(g), expected)
    torch.testing.assert_close(tiny.really_attend(probe, g), expected)


def test_constant_fast_path_equals_real_attention_in_training_too():
    probe, g = official(dropout=0.3).train(), random(50, 16, seed=2)
    outs = []
    for run in (probe, functools.partial(tiny.really_attend, probe)):
        torch.manual_seed(3)
        outs.append(run(g))
    torch.testing.assert_close(*outs)
    assert len(outs[0].round(decimals=4).unique(dim=0)) > 1  # dropout did something


def test_half_of_the_official_probe_never_learns():
    probe, g = official().eval(), random(6, 16, seed=2)
    tiny.really_attend(probe, g).square().sum().backward()
    for layer in (probe.w_qs, probe.w_ks):
        assert layer.weight.grad.abs().max() < 1e-5
    assert probe.w_vs.weight.grad.abs().max() > 1e-3 and probe.fc.weight.grad.abs().max() > 1e-3


def test_official_probe_of_rn50_has_33_6_million_parameters():
    with torch.device("meta"):
        layers = [torch.nn.Linear(1024, 8 * 1024, bias=False) for _ in range(4)]
    assert round(sum(p.numel() for layer in layers for p in layer.parameters()) / 1e6, 1) == 33.6
    probe = focus.OfficialProbe(torch.zeros(64), heads=8)
    assert probe.w_qs.weight.shape == (8 * 64, 64) and probe.fc.weight.shape == (64, 8 * 64)


def test_spatial_probe_starts_at_zero_and_equals_plain_attention():
    probe = focus.SpatialProbe(random(16, seed=1), width=24, heads=4, seed=2).eval()
    g, x = random(3, 16, seed=3), random(3, 10, 24, seed=4)
    assert probe(g, x).abs().max() == 0
    torch.nn.init.normal_(probe.fc.weight, generator=torch.Generator().manual_seed(6))
    y = probe.norm_tokens(x)
    q = probe.w_q(probe.norm_query(g) + probe.text).view(3, 4, 1, 4)
    k, v = (w(y).view(3, 10, 4, 4).transpose(1, 2) for w in (probe.w_k, probe.w_v))
    expected = probe.fc(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(3, 16))
    torch.testing.assert_close(probe(g, x), expected, atol=1e-5, rtol=1e-4)
    assert (probe(g, x) - probe(g, x.flip(2))).abs().max() > 1e-3  # it does look at the tokens


def test_modules_are_seeded(backbone):
    for make in (
        lambda seed: focus.Localiser(backbone.pool, "conv", seed=seed),
        lambda seed: focus.OfficialProbe(torch.ones(8), seed=seed),
        lambda seed: focus.SpatialProbe(torch.ones(8), 6, seed=seed),
    ):
        before = torch.get_rng_state()
        first, again, other = (make(seed).state_dict() for seed in (1, 1, 2))
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)


def test_one_query_with_dropout_keeps_the_mean():
    torch.manual_seed(0)
    x, w = random(1, 9, 8), random(8, 8, seed=2)
    query = random(1, 2, 4, seed=3)
    exact, _ = attention.one_query(query, x, w, w)
    drawn = torch.stack([attention.one_query(query, x, w, w, dropout=0.2)[0] for _ in range(2000)])
    torch.testing.assert_close(drawn.mean(0), exact, atol=0.2, rtol=0.1)

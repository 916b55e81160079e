"""Tests of the losses against values worked out by hand and against slow, obvious code."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core import losses


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_alignment_by_hand():
    images, texts = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # logits / image: [1, .6], [0, .8]; the diagonal is right
    rows = (math.log(1 + math.exp(-0.4)) + math.log(1 + math.exp(-0.8))) / 2
    columns = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(-0.2))) / 2
    assert losses.alignment(images, texts, 1.0).item() == pytest.approx((rows + columns) / 2, rel=1e-6)


def test_several_positives_by_hand():
    images, texts = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    positives = torch.tensor([[True, True, False], [False, True, True]])
    # logits: [1, .6, 0], [0, .8, 1]; image 0 holds words 0 and 1, image 1 holds words 1 and 2
    row0 = (math.log(1 + math.exp(0 - 1)) + math.log(1 + math.exp(0 - 0.6))) / 2
    row1 = (math.log(1 + math.exp(0 - 0.8)) + math.log(1 + math.exp(0 - 1))) / 2
    columns = (math.log(1 + math.exp(-1)) + 0.0 + math.log(1 + math.exp(-1))) / 3  # word 1 stands in every image
    expected = ((row0 + row1) / 2 + columns) / 2
    assert losses.alignment(images, texts, 1.0, positives).item() == pytest.approx(expected, rel=1e-6)


@given(size=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_single_positives_are_clips_loss(size, seed):
    images, texts = unit(size, 8, seed=seed), unit(size, 8, seed=seed + 100)
    diagonal = torch.eye(size, dtype=torch.bool)
    torch.testing.assert_close(losses.alignment(images, texts, 100.0), losses.alignment(images, texts, 100.0, diagonal))


def test_two_equal_words_in_a_batch_are_not_negatives():
    """Test 10 of the list of defects: "the" stands in images 0 and 1 of the batch."""
    positives = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    images, texts = torch.eye(3), torch.eye(3)
    images[1], texts[1] = images[0], texts[0]
    # The released loss scores the twin as a negative: even a perfect model pays log 2 for it.
    assert losses.alignment(images, texts, 100.0).item() == pytest.approx(2 / 3 * math.log(2), rel=1e-5)
    assert losses.alignment(images, texts, 100.0, positives).item() == pytest.approx(0, abs=1e-6)
    for seed in range(20):  # on any features, no positive is ever pushed away
        images, texts = unit(3, 8, seed=seed), unit(3, 8, seed=seed + 50)
        texts[1] = texts[0]
        logits = (10 * images @ texts.T).requires_grad_()
        (losses._contrast(logits, positives) + losses._contrast(logits.T, positives.T)).backward()
        assert (logits.grad[positives] <= 0).all() and (logits.grad[~positives] >= 0).all()


def test_a_batch_without_negatives_costs_nothing():
    images = unit(2, 4).requires_grad_()
    loss = losses.alignment(images, unit(2, 4, seed=1), 100.0, torch.ones(2, 2, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and (images.grad == 0).all()


def test_alignment_refuses_rows_without_positives():
    with pytest.raises(ValueError, match="needs a positive"):
        losses.alignment(unit(2, 4), unit(2, 4), 1.0, torch.tensor([[True, True], [False, False]]))
    with pytest.raises(ValueError, match=r"\[2, 2\]"):
        losses.alignment(unit(2, 4), unit(2, 4), 1.0, torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="equal shapes"):
        losses.alignment(unit(2, 4), unit(3, 4), 1.0)


def test_distraction_by_hand():
    image = torch.tensor([[1.0, 0.0]])
    candidates = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])
    target = torch.tensor([[0.75, 0.25]])
    p = math.exp(1) / (math.exp(1) + math.exp(0.6))
    expected = 0.75 * math.log(0.75 / p) + 0.25 * math.log(0.25 / (1 - p))
    assert losses.distraction(image, candidates, target, 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_distraction_matches_torch_and_is_never_negative():
    images, candidates = unit(4, 8), unit(4, 5, 8, seed=1)
    target = torch.softmax(torch.randn(4, 5, generator=torch.Generator().manual_seed(2)), dim=1)
    p = torch.stack([torch.softmax(20 * candidates[b] @ images[b], dim=0) for b in range(4)])
    slow = F.kl_div(p.log(), target, reduction="batchmean")
    torch.testing.assert_close(losses.distraction(images, candidates, target, 20.0), slow)
    torch.testing.assert_close(losses.distraction(images, candidates, p, 20.0), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_padding_takes_no_part_in_the_distraction():
    images, candidates = unit(2, 8).requires_grad_(), unit(2, 5, 8, seed=1)
    valid = torch.tensor([[True, True, True, False, False], [True, False, False, False, False]])
    target = torch.tensor([[0.8, 0.1, 0.1, 0, 0], [1.0, 0, 0, 0, 0]])
    loss = losses.distraction(images, candidates, target, 100.0, valid)
    alone = losses.distraction(images[:1], candidates[:1, :3], target[:1, :3], 100.0)
    torch.testing.assert_close(loss, alone / 2)  # the anchor alone has nothing to be told apart from
    changed = torch.where(valid[..., None], candidates, unit(2, 5, 8, seed=9))
    torch.testing.assert_close(losses.distraction(images, changed, target, 100.0, valid), loss)
    loss.backward()
    assert images.grad.isfinite().all()


def test_log_softmax_survives_sharp_logits():
    images = torch.tensor([[1.0, 0.0]])
    candidates = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    target = torch.tensor([[0.5, 0.5]])
    assert torch.isfinite(losses.distraction(images, candidates, target, 100.0))  # softmax().log() gives infinity


def released_balance(logits, target, ignore):
    """The formula of method.md section 6, cell by cell."""
    cells = list(zip(logits.flatten().tolist(), target.flatten().tolist(), ignore.flatten().tolist(), strict=True))
    positive = [math.log1p(math.exp(-s)) for s, t, i in cells if t == 1 and not i]
    negative = sorted((math.log1p(math.exp(s)) for s, t, i in cells if t == 0 and not i), reverse=True)
    negative = negative[: 3 * len(positive)]
    return (sum(positive) + sum(negative)) / (len(positive) + len(negative) + 1e-6)


def random_maps(seed, share=0.15):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, 6, 6, generator=generator)
    target = (torch.rand(3, 6, 6, generator=generator) < share).float()
    return logits, target, torch.rand(3, 6, 6, generator=generator) < 0.2


@pytest.mark.parametrize("seed", range(8))
def test_localisation_matches_the_slow_way(seed):
    logits, target, ignore = random_maps(seed, share=0.05 * seed)
    batch = losses.localisation(logits, target, ignore, balance="batch").item()
    assert batch == pytest.approx(released_balance(logits, target, ignore), rel=1e-5, abs=1e-7)
    rows = [i for i in range(3) if (target[i] * ~ignore[i]).sum() > 0]
    if rows:
        image = losses.localisation(logits[rows], target[rows], ignore[rows]).item()
        slow = sum(released_balance(logits[i], target[i], ignore[i]) for i in rows) / len(rows)
        assert image == pytest.approx(slow, rel=1e-5)


def test_image_without_text_still_teaches_and_cannot_crowd_out_the_others():
    """Defect D9."""
    logits, target = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)
    logits[1, 0] = 9.0  # a cluttered image without text
    assert losses.localisation(logits, target, balance="batch") == 0
    loss = losses.localisation(logits, target)
    assert loss.item() == pytest.approx((math.log(2) + math.log1p(math.exp(9))) / 2, rel=1e-5)
    target[0, 1, 1] = 1.0
    leaf = logits.clone().requires_grad_()
    losses.localisation(leaf, target).backward()
    assert (leaf.grad[0] > 0).sum() == 3 and (leaf.grad[0] < 0).sum() == 1  # negatives of its own: 3 for 1
    leaf = logits.clone().requires_grad_()
    losses.localisation(leaf, target, balance="batch").backward()
    assert (leaf.grad[0] > 0).sum() == 0  # all three come from the cluttered image


def test_partial_cells_weigh_by_their_coverage_and_are_never_negatives():
    logits = torch.full((1, 2, 2), 5.0, requires_grad=True)
    target = torch.tensor([[[0.3, 0.0], [0.0, 0.0]]])
    loss = losses.localisation(logits, target)
    expected = (0.3 * math.log1p(math.exp(-5)) + 3 * math.log1p(math.exp(5))) / 3.3
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert logits.grad[0, 0, 0] < 0 and (logits.grad.flatten()[1:] > 0).all()


def test_ignored_cells_get_no_gradient():
    logits, target, ignore = random_maps(3)
    leaf = logits.requires_grad_()
    for balance in ("image", "batch"):
        leaf.grad = None
        losses.localisation(leaf, target, ignore, balance=balance).backward()
        assert (leaf.grad[ignore] == 0).all() and leaf.grad.isfinite().all()
    everything = torch.ones_like(ignore)
    assert losses.localisation(leaf, target, everything) == 0


def test_localisation_refuses_bad_input():
    with pytest.raises(ValueError, match="one shape"):
        losses.localisation(torch.zeros(1, 2, 2), torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="one of image, batch"):
        losses.localisation(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), balance="none")


def test_total_is_a_dict_of_named_terms():
    terms = {"align": torch.tensor(1.0), "distract": torch.tensor(2.0), "loc": torch.tensor(4.0)}
    added = losses.total(terms, {"align": 1.0, "distract": 0.5, "loc": 0.25})
    assert {name: value.item() for name, value in added.items()} == {
        "align": 1,
        "distract": 2,
        "loc": 4,
        "total": 3,
    }
    with pytest.raises(ValueError, match="same names"):
        losses.total(terms, {"align": 1.0})

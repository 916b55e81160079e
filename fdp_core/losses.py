"""The three losses of FDP as pure functions; their total is a dict of named terms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor

from fdp_core.config import Balance, check


def alignment(images: Tensor, texts: Tensor, scale: float | Tensor, positives: Tensor | None = None) -> Tensor:
    """CLIP's symmetric contrastive loss between images and words, with one or several positives a row.

    Args:
        images: unit-norm image features ``[B, D]``, and ``texts`` alike; ``[M, D]`` where ``positives`` is given.
        scale: CLIP's logit scale (about 100).
        positives: bool ``[B, M]``, "image b contains word m"; every row and column needs one. ``None`` makes
            the pairs of the diagonal the only positives, as the released code does.

    Returns:
        A scalar: the mean of both directions' cross-entropies. Where a row has several positives, each of
        them is told apart from the row's negatives only, and they count equally; so no positive ever pushes
        another one down, which a target that shares its mass between them does.

    Raises:
        ValueError: shapes disagree, or a row or column has no positive.

    Source: FDP section 3.5 and the released code; defect D6.
    """
    if positives is None:
        if images.shape != texts.shape:
            raise ValueError(f"Pairs need equal shapes, not {list(images.shape)} and {list(texts.shape)}.")
        return ClipLoss()(images, texts, scale)
    if positives.shape != (len(images), len(texts)):
        raise ValueError(f"Positives must be [{len(images)}, {len(texts)}], not {list(positives.shape)}.")
    if not (positives.any(dim=1).all() and positives.any(dim=0).all()):
        raise ValueError("Every image and every word of the batch needs a positive.")
    return contrastive(images, texts, positives, scale)


def contrastive(features: Tensor, texts: Tensor, positives: Tensor, scale: float | Tensor) -> Tensor:
    """Multi-positive contrastive loss: each positive is told apart from the negatives only, never from other positives.

    ``features`` [N, D] and ``texts`` [M, D] are of unit norm, ``positives`` bool [N, M].

    Returns:
        A scalar: the mean of both directions; a row or column without a positive counts only among the negatives.
    """
    logits = scale * features @ texts.T
    return (_contrast(logits, positives) + _contrast(logits.T, positives.T)) / 2


def _contrast(logits: Tensor, positives: Tensor) -> Tensor:
    """Mean over rows with positives of the mean cross-entropy of each positive against the row's negatives."""
    # finfo.min, not -inf: a row without negatives must have a gradient of zero, not NaN
    negatives = logits.masked_fill(positives, torch.finfo(logits.dtype).min).logsumexp(dim=1, keepdim=True)
    each = torch.where(positives, F.softplus(negatives - logits), 0.0)
    count = positives.sum(dim=1)
    return (each.sum(dim=1) / count.clamp(min=1))[count > 0].mean()


def distraction(
    images: Tensor, candidates: Tensor, target: Tensor, scale: float | Tensor, valid: Tensor | None = None
) -> Tensor:
    """KL(q || p) between the soft target over a word's candidates and the image's choice among them.

    Args:
        images: unit-norm image features ``[B, D]``.
        candidates: unit-norm text features ``[B, K, D]``, anchor first.
        target: q, float ``[B, K]``, each row sums to one (:func:`fdp_core.distract.soft_targets`).
        scale: CLIP's logit scale (about 100).
        valid: bool ``[B, K]``; padding takes no part. ``None`` counts every candidate.

    Returns:
        A scalar: the mean over the batch, in nats, 0 or more.

    Source: FDP section 3.5 and the released code; defects C5 and C7 (log_softmax).
    """
    logits = scale * torch.einsum("bd,bkd->bk", images, candidates)
    if valid is not None:
        logits = logits.masked_fill(~valid, torch.finfo(logits.dtype).min)  # not -inf: 0 * -inf is no number
        target = target.masked_fill(~valid, 0.0)
    return F.kl_div(F.log_softmax(logits, dim=-1), target, reduction="batchmean")


def localisation(
    logits: Tensor, target: Tensor, ignore: Tensor | None = None, ratio: float = 3.0, balance: str = "image"
) -> Tensor:
    """Balanced binary cross-entropy of the localiser with hard negatives.

    Each cell counts as positive with the weight of its target; only cells with target 0 can be negatives, and
    of those the hardest are taken, ``ratio`` for each unit of positive weight.

    Args:
        logits: S, float ``[B, G, G]``.
        target: float ``[B, G, G]`` in 0-1: the share of a cell that text covers, or a hard 0/1 map.
        ignore: bool ``[B, G, G]``, cells that are not judged.
        ratio: hard negatives per positive.
        balance: "image" balances each image and takes the mean over images, one without text gives its
            ``ratio`` hardest negatives; "batch" pools all cells of the batch, as the released code does
            (nothing positive: zero loss).

    Returns:
        A scalar.

    Raises:
        ValueError: shapes disagree or the balance is unknown.

    Source: FDP section 3.5 and the released code; defect D9.
    """
    if logits.shape != target.shape:
        raise ValueError(f"Logits {list(logits.shape)} and target {list(target.shape)} must have one shape.")
    check("loc_balance", balance, Balance)
    judged = torch.ones_like(target, dtype=torch.bool) if ignore is None else ~ignore
    groups = (len(logits), -1) if balance == "image" else (1, -1)
    logits, target, judged = (x.reshape(groups) for x in (logits, target, judged))
    positive = target * judged
    negative = (target == 0) & judged
    weight = positive.sum(1)
    wanted = (ratio * (weight.clamp_min(1.0) if balance == "image" else weight)).floor().long()
    count = torch.minimum(negative.sum(1), wanted)
    # Sorted losses with a running index: a differentiable top-k with another k in each row.
    hardest = F.softplus(logits).masked_fill(~negative, -1.0).sort(dim=1, descending=True).values
    chosen = torch.arange(hardest.shape[1], device=hardest.device) < count[:, None]
    # where, not a product: a huge or masked value that is not chosen must not reach the sum
    losses = (positive * F.softplus(-logits)).sum(1) + torch.where(chosen, hardest, 0.0).sum(1)
    return (losses / (weight + count + 1e-6)).mean()


def total(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Add the weighted terms up (1 : 1 : 1 in the released code).

    Returns:
        The terms, named scalars, unweighted, and their weighted sum ``total``.

    Raises:
        ValueError: a term has no weight, or a weight no term.

    Source: FDP section 3.5.
    """
    if set(terms) != set(weights):
        raise ValueError(f"Terms {sorted(terms)} and weights {sorted(weights)} must have the same names.")
    return {**terms, "total": sum(weights[name] * value for name, value in terms.items())}

"""A backbone small enough for tests: a compact CLIP with seeded random weights, BatchNorm included."""

import torch
import torch.nn.functional as F

from fdp_core import backbones, focus, weights
from fdp_core.distinguish import Clusters

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 128, "head_width": 64},
    "text_cfg": {"context_length": 24, "vocab_size": 128, "width": 32, "heads": 2, "layers": 2},
    "mean": [0.5, 0.45, 0.4],
    "std": [0.25, 0.26, 0.27],
}
WORDS = ["the", "and", "of", "with", "from", "office", "hotel", "coffee", "bank", "pharmacy", "bakery"]


def backbone(seed: int = 0) -> backbones.Backbone:
    """Return a fresh one: C = 256, H = 4, D = 32, native grid 4, 24 tokens of width 32."""
    clip = weights.seeded(lambda: weights.build_mini(CONFIG), seed)
    return backbones.wrap(clip, CONFIG["mean"], CONFIG["std"])


def clusters(backbone: backbones.Backbone) -> Clusters:
    """Return clusters with "the" and "office" as centres, which a random tower need not part."""
    return Clusters(torch.stack([*backbone.encode_text(["the", "office"])]))


def really_attend(probe: focus.OfficialProbe, pooled: torch.Tensor) -> torch.Tensor:
    """Return what the official probe returns, by attending as the released code does: the check of its fast path."""
    query, key, value = (
        w(x).unflatten(-1, (probe.heads, -1))
        for w, x in ((probe.w_qs, pooled), (probe.w_ks, probe.text), (probe.w_vs, probe.text))
    )
    logits = torch.einsum("bhd,jhd->bhj", query, key) / query.shape[-1] ** 0.5
    attention = F.dropout(logits.softmax(dim=-1), probe.dropout, probe.training)
    out = probe.fc(torch.einsum("bhj,jhd->bhd", attention, value).flatten(1))
    return probe.layer_norm(F.dropout(out, probe.dropout, probe.training) + pooled)

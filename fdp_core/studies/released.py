"""Reads checkpoints in the layout of the released code, for the ``paper_compat`` preset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fdp_core.backbones import STRIDE, Backbone
from fdp_core.config import Config, preset
from fdp_core.model import FDP

# released name -> our name; "conv" tensors may come as [out, in] or [out, in, 1, 1]
_LAYOUT = {
    "new_positional_embedding": "positions",
    "new_v_proj.weight": "localiser.new_v.weight",
    "new_v_proj.bias": "localiser.new_v.bias",
    "new_c_proj.weight": "localiser.new_c.weight",
    "new_c_proj.bias": "localiser.new_c.bias",
    "binarize.weight": "localiser.binarize.weight",
    "binarize.bias": "localiser.binarize.bias",
    "cross_attention_textquery.w_qs.weight": "probe.w_qs.weight",
    "cross_attention_textquery.w_ks.weight": "probe.w_ks.weight",
    "cross_attention_textquery.w_vs.weight": "probe.w_vs.weight",
    "cross_attention_textquery.fc.weight": "probe.fc.weight",
    "cross_attention_textquery.layer_norm.weight": "probe.layer_norm.weight",
    "cross_attention_textquery.layer_norm.bias": "probe.layer_norm.bias",
}
_CONTEXTS = ("prompt_learner.ctx1", "prompt_learner.ctx2")
_TRAINED = tuple(sorted({name.split(".")[0] for name in (*_LAYOUT, *_CONTEXTS)}))
_FROZEN = (
    "num_batches_tracked",
    "token_prefix",
    "token_suffix",
    "attn_mask",
    "input_resolution",
    "context_length",
    "vocab_size",
)


def from_official(
    state_dict: Mapping[str, Any],
    backbone: Backbone,
    words: Sequence[str] | None = None,
    config: Config | None = None,
) -> FDP:
    """Load a checkpoint of the released code.

    Its copies of the frozen CLIP are ignored: ``backbone`` supplies CLIP. Cluster centres are not in such a
    file (B6, C1); they are fitted anew on ``words``, and without words queries need their kinds.

    Args:
        state_dict: what ``torch.load`` gave of the released training's file, {"epoch", "model_state_dict",
            "optimizer_state_dict"}, or its names and tensors alone; names may have the prefix ``module.``.
        backbone: the CLIP that it was trained on (RN50 for the authors').
        words: the frequent words for the clusters.
        config: by default ``paper_compat`` with the image size and the context lengths of the file.

    Raises:
        ValueError: names are missing or unknown, or shapes do not fit the backbone; all of them are listed.

    Source: the released code's layout; the shorter context is the function words' (2 against 4 vectors).
    """
    frozen = _frozen_shapes(backbone)
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, value in _unwrap(state_dict).items():
        short = _canonical(name)
        if short in _LAYOUT or short in _CONTEXTS:
            found[short] = _plain(short, value)
        elif not _is_frozen(name, value, frozen):
            unknown.append(name)
    missing = sorted({*_LAYOUT, *_CONTEXTS} - found.keys())
    if unknown or missing:
        parts = [f"unknown names: {', '.join(sorted(unknown))}"] * bool(unknown)
        parts += [f"missing names: {', '.join(missing)}"] * bool(missing)
        raise ValueError(
            f"This is not a checkpoint in the released layout: {'; '.join(parts)}. "
            f"Expected {', '.join((*_LAYOUT, *_CONTEXTS))}."
        )
    contexts = sorted((found.pop(name) for name in _CONTEXTS), key=len)
    function, content = contexts
    side = round((len(found["new_positional_embedding"]) - 1) ** 0.5)
    config = config or preset(
        "paper_compat", image_size=side * STRIDE, context_function=len(function), context_content=len(content)
    )
    head_width = len(found["cross_attention_textquery.w_qs.weight"]) // config.probe_heads
    if head_width != backbone.embed_dim:
        raise ValueError(
            f"The checkpoint's probe has {config.probe_heads} heads of width {head_width}, expected "
            f"{backbone.embed_dim} for backbone {backbone.name}: it was trained on another CLIP, or with "
            "another number of heads."
        )
    model = FDP(backbone, config, words)
    state = {_LAYOUT[name]: value for name, value in found.items()}
    state |= {"prompt.context_function": function, "prompt.context_content": content}
    mine = model.trained_state()
    model.load_trained_state(
        {k: v.reshape(mine[k].shape) if _same_but_flat(k, v, mine) else v for k, v in state.items()}
    )
    return model.eval()


def _unwrap(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    state_dict = state_dict.get("model_state_dict", state_dict)
    odd = [str(name) for name, value in state_dict.items() if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(
            f"Expected a state dict of names and tensors; these are no tensors: {', '.join(sorted(odd)[:10])}."
        )
    return {re.sub(r"^(module\.)+", "", name): value for name, value in state_dict.items()}


def _canonical(name: str) -> str:
    """Drop what wraps a trained name: an outer module before it, a list index or sub-module inside it."""
    match = re.search(rf"(?:^|\.)({'|'.join(_TRAINED)})(\..+)?$", name)
    if not match:
        return name
    head, rest = match.group(1), (match.group(2) or "").lstrip(".").split(".")
    if head == "new_positional_embedding":
        return head if rest == [""] else name
    if head == "binarize" and len(rest) == 2 and rest[0].isdigit():
        rest = rest[1:]
    if head == "cross_attention_textquery":
        rest = rest[-2:]
    return ".".join([head, *rest])


def _plain(name: str, value: Tensor) -> Tensor:
    value = value.detach().to("cpu", torch.float32)
    if name == "new_positional_embedding" and value.ndim == 3:  # [L, 1, C] or [1, L, C]
        value = value.squeeze(1) if value.shape[1] == 1 else value.squeeze(0)
    return value


def _same_but_flat(name: str, value: Tensor, mine: Mapping[str, Tensor]) -> bool:
    """Say whether a 1x1 convolution came as a matrix."""
    target = mine.get(name)
    return target is not None and value.ndim == 2 and target.ndim == 4 and target.shape == (*value.shape, 1, 1)


def _frozen_shapes(backbone: Backbone) -> dict[str, torch.Size]:
    shapes: dict[str, torch.Size] = {}
    for name, value in backbone.clip.state_dict().items():
        for short in (name, name.removeprefix("visual."), name.removeprefix("transformer.")):
            shapes[short] = value.shape
    return shapes


def _is_frozen(name: str, value: Tensor, frozen: Mapping[str, torch.Size]) -> bool:
    """Say whether a tensor is CLIP's own under some prefix: the file holds CLIP two or three times (B6)."""
    parts = name.split(".")
    if parts[-1] in _FROZEN:
        return True
    if parts[0] in _TRAINED and parts[0] != "prompt_learner":
        return False
    tails = (".".join(parts[i:]) for i in range(len(parts)))
    # a copy of the position table may have been resized; everything else must have CLIP's shape
    return any(
        tail in frozen and (tail.endswith("positional_embedding") or value.shape == frozen[tail]) for tail in tails
    )

"""The training step as one would write it first, and each of the means that make ours fast, one at a time.

The baseline step runs the frozen trunk every time, fills every text up to the tower's whole context, encodes each text
as often as it occurs and asks the text tower again which kind a word is, as the released code does. Its losses are
those of :func:`fdp_core.training.loop.loss_terms`: the check of the fast step, and what it is timed against.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fdp_core import prompt
from fdp_core.config import Config
from fdp_core.distinguish import CONTENT, FUNCTION
from fdp_core.distract import Distractors
from fdp_core.model import FDP
from fdp_core.training import loop, samples


@dataclass(frozen=True)
class Means:
    """What a step saves; all off is the baseline step, all on does what training does.

    Attributes:
        classify_once: a word's kind is looked up after the first time (C3).
        encode_once: equal texts of a step are encoded once (C3).
        cut_texts: texts end at the end token of the longest; the tower is causal, so nothing changes.
        keep_trunk: the frozen trunk's features come from the cache (B7).
        focus_once: an image passes Focus once a step, however many of its words are in the batch.
    """

    classify_once: bool = False
    encode_once: bool = False
    cut_texts: bool = False
    keep_trunk: bool = False
    focus_once: bool = False


ALL = Means(True, True, True, True, True)


def ladder() -> dict[str, Means]:
    """Return the baseline step, then one more of the means at a time, by name, up to all of them."""
    steps, means = {"direct": Means()}, Means()
    for field in dataclasses.fields(Means):
        means = dataclasses.replace(means, **{field.name: True})
        steps[f"+ {field.name.replace('_', ' ')}"] = means
    return steps


def loss_terms(
    model: FDP,
    data: samples.TrainingSet,
    squares: np.ndarray | None,
    batch: Sequence[tuple[int, str]],
    distractors: Distractors,
    config: Config,
    epoch: int,
    means: Means | None = None,
) -> dict[str, Tensor]:
    """Compute the named losses of one batch as :func:`fdp_core.training.loop.loss_terms`; gradients flow.

    They are equal up to rounding, without dropout. ``squares`` are the set's images, uint8 [M, S, S, 3], for the trunk;
    None where its features are kept. ``means`` say what is saved; None saves nothing.

    Raises:
        ValueError: the trunk shall run but there are no images.

    Source: the released code as :mod:`fdp_core` describes it; defects B7 and C3.
    """
    means = means or Means()
    images, words = [image for image, _ in batch], [word for _, word in batch]
    device = next(model.parameters()).device
    seen = _see(model, data, squares, images, means, device)
    barred = [data.contents[image] for image in images] if config.drop_true_distractors else None
    candidates = distractors.sample(words, barred, step=epoch).to(device)
    texts = words + candidates.flat()
    kinds = None
    if model.config.prompts == "two":
        if config.distractor_cluster == "anchor":  # the released code asks for the words twice: alone, with candidates
            own = _kinds(model, words + words, means)
            kinds = torch.cat([own[: len(words)], own[len(words) :].repeat_interleave(distractors.candidates)])
        else:
            kinds = _kinds(model, texts, means)
    return loop.weigh(model, data, batch, seen, _encode(model, texts, kinds, means), candidates, config)


def _see(
    model: FDP,
    data: samples.TrainingSet,
    squares: np.ndarray | None,
    images: list[int],
    means: Means,
    device: torch.device,
) -> dict[str, Tensor]:
    distinct = sorted(set(images)) if means.focus_once else images
    if means.keep_trunk:
        features = data.features(distinct, device)
    elif squares is None:
        raise ValueError("The trunk needs the images: give squares, uint8 [M, S, S, 3].")
    else:
        parts = [distinct[i : i + 8] for i in range(0, len(distinct), 8)]  # as the cache is filled
        normalise, trunk = model.backbone.normalise, model.backbone.trunk
        features = torch.cat([trunk(normalise(squares[part])) for part in parts])
    seen = model.encode_features(features)
    rows = torch.tensor([distinct.index(image) for image in images], device=device)
    return {name: seen[name][rows] for name in ("image", "local_logits")}


@torch.no_grad()
def _kinds(model: FDP, words: list[str], means: Means) -> Tensor:
    if means.classify_once:
        return model.kinds_of(words)
    return model.clusters.assign(_tower(model, words, None, means), words)


def _encode(model: FDP, texts: list[str], kinds: Tensor | None, means: Means) -> Tensor:
    """Encode prompted texts: unit vectors [N, D]."""
    keys = list(zip(texts, [CONTENT] * len(texts) if kinds is None else kinds.tolist()))
    wanted = sorted(set(keys), key=lambda key: (len(key[0]), key)) if means.encode_once else keys
    parts = [wanted[i : i + prompt.CHUNK] for i in range(0, len(wanted), prompt.CHUNK)]
    encoded = torch.cat([_tower(model, *map(list, zip(*part)), means) for part in parts])
    place = {key: row for row, key in enumerate(wanted)}
    rows = [place[key] for key in keys] if means.encode_once else list(range(len(keys)))
    return F.normalize(encoded[torch.tensor(rows, device=encoded.device)], dim=-1)


def _tower(model: FDP, texts: list[str], kinds: list[int] | None, means: Means) -> Tensor:
    """Run the text tower on bare texts (``kinds`` None) or behind their contexts: [N, D], un-normalised."""
    backbone, learner = model.backbone, model.prompt
    if kinds is None or learner is None or learner.mode == "none":
        tokens = backbone.tokenize(texts)
        end, embedded = tokens.argmax(dim=1), backbone.token_embedding(tokens)
    else:
        contexts = {FUNCTION: learner.context_function, CONTENT: learner.context_content}
        tokens, end = prompt.layout(backbone, texts, [len(contexts[kind]) for kind in kinds])
        tokens = F.pad(tokens, (0, backbone.context_length - tokens.shape[1]))
        rows = []
        for row, kind in zip(backbone.token_embedding(tokens.to(backbone.device)), kinds):
            context = contexts[kind]
            rows.append(torch.cat([row[:1], context, row[1 + len(context) :]]))
        embedded, end = torch.stack(rows), end.to(backbone.device)
    if means.cut_texts:
        return backbone.encode_embedded(embedded, end)
    clip = backbone.clip
    x = clip.transformer(embedded + clip.positional_embedding, attn_mask=clip.attn_mask)
    return clip.ln_final(x[torch.arange(len(x), device=x.device), end]) @ clip.text_projection

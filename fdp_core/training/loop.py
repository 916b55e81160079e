"""The one training loop: over cached trunk features, resumable to the bit, selection on held-out images.

Under ``torchrun``, once ``torch.distributed.init_process_group`` was called, each process encodes its share of every
batch and all take the same step: ``batch_size`` stays that of the whole, however many processes there are.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from fdp_core import losses, prompt
from fdp_core.config import Config
from fdp_core.datasets.types import Gallery
from fdp_core.distract import Candidates, Distractors, soft_targets
from fdp_core.evaluation import metrics
from fdp_core.model import FDP
from fdp_core.retrieval.features import trunk_features
from fdp_core.retrieval.workers import only_owner
from fdp_core.training import samples
from fdp_core.training.samples import batches_of
from fdp_core.training.state import LOG, TERMS, History, Run
from fdp_core.words import MIN_LENGTH, english_words, fold

DECAY = 0.1  # of both learning rates, from decay_epoch on
LEXICON_SIZE = 20_000  # the most frequent English words distract where no dictionary is given


def loss_terms(
    model: FDP, data: samples.TrainingSet, batch: Sequence[tuple[int, str]], distractors: Distractors,
    config: Config, epoch: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Compute the named losses of one batch.

    Args:
        model: the FDP model; ``encode_features`` and ``encode_queries`` are the same calls that retrieval uses.
        data: the training set.
        batch: B pairs (image, word).
        distractors: the neighbour lists.
        config: all switches.
        epoch: from 1; it changes the lot among equally near distractors.

    Returns:
        ``align``, ``distract``, ``loc`` and their weighted sum ``total``, scalars.

    With ``words_per_image`` above 1 an image passes Focus once, however many of its words are in the batch. Without
    dropout the losses are those of one pass a sample; that slow path stays because the released order of the attention
    shift (B1) depends on what else is in the batch.

    Source: FDP section 3.5; defects B7, C5, C6, C8, D6, D9.
    """
    images, words = [image for image, _ in batch], [word for _, word in batch]
    device = next(model.parameters()).device
    if config.words_per_image > 1:
        seen = focus_once(model, data, images, device)
    else:
        seen = _shared(lambda part: model.encode_features(data.features(part, device)), images)
    barred = [data.contents[image] for image in images] if config.drop_true_distractors else None
    candidates = distractors.sample(words, barred, step=epoch).to(device)
    kinds = None
    if config.prompts == "two" and config.distractor_cluster == "anchor":  # C8: distractors inherit their anchor's kind
        own = model.kinds_of(words)
        kinds = torch.cat([own, own.repeat_interleave(distractors.candidates)]).tolist()
    asked = list(zip(words + candidates.flat(), kinds or itertools.repeat(None)))

    def ask(part: list[tuple[str, int | None]]) -> dict[str, Tensor]:  # one call: equal words are encoded once
        texts, kinds_of_part = zip(*part)
        return {"texts": model.encode_queries(list(texts), list(kinds_of_part) if kinds else None)}

    texts = _shared(ask, asked)["texts"]
    return weigh(model, data, batch, seen, texts, candidates, config)


def weigh(
    model: FDP,
    data: samples.TrainingSet,
    batch: Sequence[tuple[int, str]],
    seen: dict[str, Tensor],
    texts: Tensor,
    candidates: Candidates,
    config: Config,
) -> dict[str, Tensor]:
    """Compute the losses of what was encoded.

    Args:
        model: for its temperature.
        data: the training set.
        batch: B pairs (image, word).
        seen: ``image`` [B, D] and ``local_logits`` [B, G, G] of :meth:`fdp_core.model.FDP.encode_features`.
        texts: unit vectors [B + B * K, D]: the words, then the candidates of each.
        candidates: the K candidates of each word.
        config: all switches.

    Returns:
        As :func:`loss_terms`.
    """
    images, words = [image for image, _ in batch], [word for _, word in batch]
    device = texts.device
    anchors, others = texts[: len(words)], texts[len(words) :].view(len(words), len(candidates.texts[0]), -1)
    valid = candidates.valid if config.mask_padding else None
    share = soft_targets(candidates.distances, config.distraction_target, config.distraction_temperature, valid)
    positives = data.contains(images, words).to(device) if config.positives == "multi" else None
    target, unknown = (torch.from_numpy(maps[images]).to(device) for maps in (data.targets, data.ignored))
    found = {
        "align": losses.alignment(seen["image"], anchors, model.logit_scale, positives),
        "distract": losses.distraction(seen["image"], others, share, model.logit_scale, valid),
        "loc": losses.localisation(seen["local_logits"], target, unknown, config.negative_ratio, config.loc_balance),
    }
    return losses.total(found, {name: getattr(config, f"weight_{name}") for name in TERMS})


def focus_once(model: FDP, data: samples.TrainingSet, images: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Encode each distinct image once and hand its ``image`` and ``local_logits`` to all of its B samples."""
    distinct = sorted(set(images))
    seen = _shared(lambda part: model.encode_features(data.features(part, device)), distinct)
    place = {image: row for row, image in enumerate(distinct)}
    rows = torch.tensor([place[image] for image in images], device=device)
    return {name: seen[name].index_select(0, rows) for name in ("image", "local_logits")}


def _processes() -> tuple[int, int]:
    """Return (number of this process, how many there are)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def _shared(encode: Callable[[list[Any]], dict[str, Tensor]], items: list[Any]) -> dict[str, Tensor]:
    """Encode a share of the items in each process and gather all; gradients go through a process's own share."""
    rank, world = _processes()
    if world == 1:
        return encode(items)
    size = -(-len(items) // world)
    padded = items + items[-1:] * (size * world - len(items))
    gathered = {}
    for name, own in encode(padded[rank * size : (rank + 1) * size]).items():
        if name in ("image", "local_logits", "texts"):
            parts = [torch.empty_like(own) for _ in range(world)]
            dist.all_gather(parts, own.detach().contiguous())
            gathered[name] = torch.cat([*parts[:rank], own, *parts[rank + 1 :]])[: len(items)]
    return gathered


def _add_gradients(weights: Sequence[Tensor]) -> None:
    """Add the gradients of all processes up; a weight without one in any of them stays without."""
    grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    there = grads[0].new_tensor([weight.grad is not None for weight in weights])
    dist.all_reduce(flat := torch.cat([*(grad.flatten() for grad in grads), there]))
    *parts, there = flat.split([*(weight.numel() for weight in weights), len(weights)])
    for weight, part, some in zip(weights, parts, there.tolist()):
        weight.grad = part.view_as(weight) if some else None


@torch.no_grad()
def validation_map(model: FDP, data: samples.TrainingSet, images: Sequence[int], batch_size: int = 32) -> float | None:
    """Measure mAP on held-out images: their words are the queries, they are the gallery.

    Args:
        model: the FDP model, in eval mode when it comes back.
        data: the training set.
        images: the held-out images.
        batch_size: images encoded at once.

    Returns:
        mAP, 0-1, or ``None`` when nothing is held out.
    """
    wanted = set(images)
    words = sorted({word for image, word in data.samples if image in wanted})
    if not words:
        return None
    model.eval()
    device = next(model.parameters()).device
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    encoded = torch.cat([model.encode_photographs(data.features(part, device)) for part in parts])
    scores = model.encode_queries(words) @ encoded.T
    return metrics.mean_average_precision(data.contains(images, words).T.numpy(), scores.float().cpu().numpy())


def train(
    model: FDP,
    galleries: Gallery | Sequence[Gallery],
    config: Config | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: bool = True,
    callback: Callable[[dict[str, Any]], None] | None = None,
    *,
    stores: samples.TrunkFeatures | Sequence[samples.TrunkFeatures] | None = None,
    dictionary: Collection[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    distractors: Distractors | None = None,
) -> History:
    """Train what is trainable; afterwards the model holds the weights of the best epoch and is in eval mode.

    Args:
        model: the FDP model; with two prompts its clusters must be fitted.
        galleries: one training gallery, or several.
        config: switches of the training; by default the model's own.
        out_dir: folder for ``last.pt`` (resumes), ``best.safetensors`` (the model) and ``history.jsonl``.
        resume: go on from ``last.pt`` if it is there; the result is that of an unbroken run on as many threads of
            PyTorch (a warning tells of another number). False starts anew.
        progress: show a progress bar.
        callback: called with each record of the history.
        stores: cached trunk features, one for each gallery; computed if ``None``.
        dictionary: words that may be samples and distractors; ``None`` admits every word of the set as a
            sample, and frequent English words distract too.
        cache_dir: where trunk features that are computed here are kept on disk.
        distractors: draws the distracted queries; ``None`` draws by edit distance among the words above.

    Returns:
        The history.

    Raises:
        ValueError: the data hold no usable word, or ``out_dir`` holds another run.
        fdp_core.retrieval.workers.FolderInUse: another training is writing to ``out_dir``.
        FloatingPointError: a loss is not finite.
        KeyboardInterrupt: handed on after a checkpoint was written.

    Source: FDP section 4.1 and the released code; defects B7, D5, E1.
    """
    config = config or model.config
    galleries = [galleries] if hasattr(galleries, "photos") else list(galleries)
    if stores is None:
        look = (config.image_size, config.fit, cache_dir, progress)
        stores = [trunk_features(model.backbone, gallery, *look, precision="float32") for gallery in galleries]
    data = samples.build(galleries, [stores] if hasattr(stores, "array") else list(stores), config, dictionary)
    learn_from, held_out = data.split(config.validation_share, config.seed)
    kept = set(learn_from)
    drawn = [sample for sample in data.samples if sample[0] in kept]
    words = [word for _, word in drawn]
    lent = english_words()[:LEXICON_SIZE] if dictionary is None else map(fold, dictionary)
    distractors = distractors or Distractors(
        [*words, *(word for word in lent if len(word) >= MIN_LENGTH)], words, config.candidates, config.seed
    )
    device = next(model.parameters()).device
    gpus = [device] if device.type == "cuda" else []
    rank, world = _processes()
    # the first process alone writes; the caller's generators stay untouched
    with only_owner(None if rank else out_dir), torch.random.fork_rng(devices=gpus):
        torch.manual_seed(config.seed)
        names = hashlib.sha256((data.fingerprint() + "\n".join(distractors.words)).encode()).hexdigest()
        run = Run(model, config, names, None if out_dir is None else Path(out_dir))
        resumed = resume and run.resume()
        if world > 1:
            dist.barrier()
        if rank:
            run.out_dir = run.history.path = None
        if not resumed:
            if model.prompt is not None and config.prompt_start == "neutral":
                prompt.start_neutral(model.prompt, model.backbone, words, seed=config.seed)
            run.history = History(run.out_dir / LOG if run.out_dir else None)
            run.save()
        for weight in run.weights if world > 1 else ():
            dist.broadcast(weight.data, 0)
        try:
            _loop(run, data, drawn, held_out, distractors, progress, callback or (lambda record: None))
        except KeyboardInterrupt:
            if run.whole:
                run.save()
            raise
    if run.best_weights is not None:
        model.load_trained_state(run.best_weights)
    model.eval()
    run.export_best()  # again: an interrupt may have come between an epoch and its export
    return run.history


def _loop(
    run: Run,
    data: samples.TrainingSet,
    drawn: Sequence[tuple[int, str]],
    held_out: Sequence[int],
    distractors: Distractors,
    progress: bool,
    callback: Callable[[dict[str, Any]], None],
) -> None:
    model, config = run.model, run.config
    owners = [image for image, _ in drawn]
    per_epoch = len(batches_of(owners, config, 1))
    with tqdm(total=config.epochs * per_epoch, initial=run.step, desc="train", disable=not progress) as bar:
        while run.epoch <= config.epochs:
            started = time.perf_counter()
            model.train()
            for group in run.optimiser.param_groups:
                base = config.lr_new if group["name"] == "new" else config.lr_copied
                group["lr"] = base * (DECAY if run.epoch > config.decay_epoch else 1.0)
            for numbers in batches_of(owners, config, run.epoch)[run.position :]:
                terms = loss_terms(model, data, [drawn[n] for n in numbers], distractors, config, run.epoch)
                values = {name: float(value.detach()) for name, value in terms.items()}
                if not np.isfinite(values["total"]):
                    raise FloatingPointError(
                        f"Epoch {run.epoch}, step {run.step + 1}: a loss is not finite: {values}. Train again with a "
                        "smaller lr_new or lr_copied."
                    )
                run.optimiser.zero_grad()
                terms["total"].backward()
                if _processes()[1] > 1:
                    _add_gradients(run.weights)
                run.whole = False
                run.optimiser.step()
                run.position, run.step = run.position + 1, run.step + 1
                run.sums = {name: run.sums[name] + values[name] for name in values}
                record = {"kind": "step", "epoch": run.epoch, "step": run.step, **values}
                run.history.append(record)
                run.remember_generators()
                run.whole = True
                bar.update()
                bar.set_postfix(epoch=run.epoch, loss=f"{values['total']:.3f}", refresh=False)
                callback(record)
            score = validation_map(model, data, held_out)
            run.whole = False
            better = run.keep_best(score)
            record = {
                "kind": "epoch",
                "epoch": run.epoch,
                "step": run.step,
                **{name: value / per_epoch for name, value in run.sums.items()},
                **{f"lr_{group['name']}": group["lr"] for group in run.optimiser.param_groups},
                "validation_map": score,
                "best": better,
                "seconds": time.perf_counter() - started,
            }
            run.history.append(record)
            run.epoch, run.position, run.sums = run.epoch + 1, 0, dict.fromkeys(run.sums, 0.0)
            run.whole = True
            if better:
                run.export_best()
            run.save()
            callback(record)

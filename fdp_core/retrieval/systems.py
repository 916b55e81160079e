"""Systems to rank with, behind one interface: zero-shot CLIP, FDP, an OCR pipeline, chance."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdp_core.backbones import STRIDE, Backbone
from fdp_core.checkpoint import model_hash
from fdp_core.config import Count, Size, check
from fdp_core.datasets.types import Gallery
from fdp_core.model import FDP
from fdp_core.retrieval import compiled
from fdp_core.retrieval.features import (
    CorruptPhotographs,
    FeatureStore,
    encode_batches,
    error_report,
    stream_features,
    trunk_features,
)
from fdp_core.retrieval.ocr import OcrSystem, TrigramSystem
from fdp_core.retrieval.vectors import Speed

_CHUNK = 256  # texts encoded at once
Option = str | Path | int | bool | None  # of a system: its name, cache_dir, batch_size, progress


class TrunkSystem:
    """A head on the frozen trunk's features, and a text encoder.

    Args:
        name: what tables call it.
        head: trunk features [B, C, G, G] of the ``backbone`` -> [B, D].
        text: list of N texts -> [N, D].
        image_size: side S of the square input, pixels; ``fit`` says how a photograph becomes it.
        model_hash: names everything that its vectors depend on.
        kinds: texts -> [Q] int, 0 function and 1 content; None where it does not tell them apart.
        cache_dir: folder of the feature cache; None computes afresh and keeps nothing.
        batch_size: photographs at once.
        precision: of the trunk, as in :func:`fdp_core.retrieval.features.stream_features`; "bfloat16" and "openvino"
            without a cache.

    Attributes:
        speed: of the latest :meth:`encode_gallery`.
        settings: what a record should tell about it.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        head: Callable[[Tensor], Tensor],
        text: Callable[[list[str]], Tensor],
        image_size: int,
        fit: str,
        model_hash: str,
        kinds: Callable[[list[str]], Tensor | np.ndarray] | None = None,
        cache_dir: str | Path | None = None,
        batch_size: int = 8,
        progress: bool = True,
        precision: str | None = None,
    ):
        check("image_size", image_size, Size)
        check("batch_size", batch_size, Count)
        self.name, self.backbone, self.head, self.text = name, backbone, head, text
        self.image_size, self.fit, self.cache_dir = image_size, fit, cache_dir
        self.batch_size, self.progress, self.speed, self.precision = batch_size, progress, None, precision
        self.model_hash = hashlib.sha256(f"{model_hash} {image_size} {fit}".encode()).hexdigest()
        if kinds is not None:
            self.assign_kinds = lambda texts: np.asarray(kinds(list(texts)))
        self.settings = {
            "backbone": backbone.name,
            "weights_hash": backbone.weights_hash,
            "model_hash": self.model_hash,
            "image_size": image_size,
            "fit": fit,
        }

    def encode_gallery(self, gallery: Gallery) -> np.ndarray:
        """Encode N photographs: [N, D] float32, unit norm; NaN rows for those that cannot be read (warned of).

        Raises:
            ValueError: none of them can be read.
        """
        start = time.perf_counter()
        if self.cache_dir is None:
            encoded = encode_batches(self._stream(gallery), self._vectors, len(gallery), gallery.name)
            computed = readable = np.count_nonzero(~np.isnan(encoded[:, 0]))
        else:
            store = self.features(gallery)
            encoded = store.encode(self._vectors, self.batch_size, self.backbone.device, gallery.name)
            computed, readable = store.computed, np.count_nonzero(store.ok)
        fresh = computed == readable  # a half-cached run times neither the one nor the other
        self.speed = Speed(
            photographs=computed if fresh else 0,
            seconds=time.perf_counter() - start,
            batch=self.batch_size,
            precision=self.precision or str(next(self.backbone.parameters()).dtype).removeprefix("torch."),
            device=str(self.backbone.device),
            timed="read, decode, resize, trunk and head"
            + ("" if fresh else "; part of the features came from the cache"),
        )
        return encoded

    def _stream(self, gallery: Gallery) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield (rows, features) of the photographs, which are not kept; a warning at the end names unreadable ones."""
        settings = (self.backbone, gallery.photos, self.image_size, self.fit, self.batch_size)
        errors = []
        for chunk in stream_features(*settings, progress=self.progress, precision=self.precision):
            errors += [(gallery.photos[row].id, reason) for row, reason in chunk.errors]
            if chunk.rows:
                features = torch.from_numpy(chunk.features).to(self.backbone.device)
                yield np.array(chunk.rows), features.float()
        if errors:
            warnings.warn(error_report(errors), CorruptPhotographs, stacklevel=4)

    def features(self, gallery: Gallery) -> FeatureStore:
        """Return the gallery's trunk features, from the cache where there is one."""
        settings = (self.backbone, gallery, self.image_size, self.fit, self.cache_dir, self.progress)
        return trunk_features(*settings, batch_size=self.batch_size, precision=self.precision)

    @torch.inference_mode()
    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Encode queries: list of Q texts -> [Q, D] float32, unit norm."""
        parts = [self.text(list(texts[i : i + _CHUNK])) for i in range(0, len(texts), _CHUNK)]
        return torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1).cpu().numpy()

    def _vectors(self, features: Tensor, rows: np.ndarray) -> Tensor:
        return torch.nn.functional.normalize(self.head(features).float(), dim=-1)


def zero_shot(
    backbone: Backbone, image_size: int | None = 640, fit: str = "letterbox", template: str = "{}", **options: Option
) -> TrunkSystem:
    """Make CLIP as it is a system: its own attention pool, positions resized in 2-D.

    Args:
        image_size: side of the square input, pixels; None for the size that the backbone was trained at.
        fit: how a photograph becomes a square.
        template: the prompt around a query, with one ``{}``; "{}" gives the bare word.
        options: ``name``, ``cache_dir``, ``batch_size``, ``progress``, ``precision`` of :class:`TrunkSystem`.

    Raises:
        ValueError: the template has no ``{}``.

    Source: FDP section 1 (CLIP as it is), defect B3 for the positions.
    """
    if "{}" not in template:
        raise ValueError(f"The template {template!r} has no place for the query; write {{}} where it goes.")
    size = image_size or backbone.native_grid * STRIDE
    system = TrunkSystem(
        options.pop("name", "zero-shot CLIP"),
        backbone,
        backbone.zero_shot,
        lambda texts: backbone.encode_text([template.replace("{}", text) for text in texts]),
        size,
        fit,
        f"zero-shot {backbone.weights_hash} {template}",
        **options,
    )
    system.settings["template"] = template
    return system


@contextlib.contextmanager
def _evaluating(model: FDP) -> Iterator[None]:
    """Switch dropout off for a while, and back on only where it was on."""
    training = getattr(model, "training", False)
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def fdp(model: FDP, **options: Option) -> TrunkSystem:
    """Make a trained FDP a system, which also assigns queries to the function or the content cluster.

    Image size and fit come from its config. Its model hash covers the weights at this moment: call it again after
    further training. ``options`` are those of :func:`zero_shot`. On a CPU without a cache the trunk runs in OpenVINO
    where that is installed, unless a ``precision`` is given; None is PyTorch.

    Source: FDP section 3.
    """

    if options.get("cache_dir") is None and model.backbone.device.type == "cpu" and compiled.installed():
        options.setdefault("precision", "openvino")

    def head(features: Tensor) -> Tensor:
        with _evaluating(model):
            return model.encode_photographs(features)

    def text(texts: list[str]) -> Tensor:
        with _evaluating(model):
            return model.encode_queries(texts)

    system = TrunkSystem(
        options.pop("name", "FDP"),
        model.backbone,
        head,
        text,
        model.config.image_size,
        model.config.retrieval_fit,
        model_hash(model),
        kinds=None if model.clusters is None else model.kinds_of,
        **options,
    )
    system.settings["config"] = dataclasses.asdict(model.config)
    return system


class Chance:
    """Random scores, the floor under every number (:func:`fdp_core.evaluation.metrics.random_average_precision`)."""

    def __init__(self, seed: int = 0):
        self.name, self.seed, self.settings = "chance", seed, {"seed": seed}

    def scores(self, gallery: Gallery, texts: list[str]) -> np.ndarray:
        """Return [Q, N] float in [0, 1)."""
        return np.random.default_rng(self.seed).random((len(texts), len(gallery.photos)))


# as zero_shot and fdp: what makes a system
chance, ocr, trigrams = Chance, OcrSystem, TrigramSystem

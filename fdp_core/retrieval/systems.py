"""Systems to rank with, behind one interface: zero-shot CLIP, FDP, an OCR pipeline, chance."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdp_core.backbones import STRIDE
from fdp_core.checkpoint import model_hash
from fdp_core.retrieval.features import (
    CorruptPhotographs,
    FeatureStore,
    device_of,
    error_report,
    stream_features,
    trunk_features,
)
from fdp_core.retrieval.vectors import Speed

_CHUNK = 256  # texts encoded at once


class TrunkSystem:
    """A head on the frozen trunk's features, and a text encoder.

    Args:
        name: what tables call it.
        backbone: a :class:`fdp_core.backbones.Backbone`.
        head: trunk features [B, C, G, G] -> [B, D].
        text: list of N texts -> [N, D].
        image_size: side S of the square input, pixels.
        fit: how a photograph becomes a square.
        model_hash: names everything that its vectors depend on.
        kinds: texts -> [Q] int, 0 function and 1 content; None where it does not tell them apart.
        cache_dir: folder of the feature cache; None computes afresh and keeps nothing.
        batch_size: photographs at once.
        progress: show progress bars.

    Attributes:
        speed: of the latest :meth:`encode_gallery`.
        settings: what a record should tell about it.
    """

    def __init__(
        self,
        name: str,
        backbone: Any,
        head: Callable[[Tensor], Tensor],
        text: Callable[[list[str]], Tensor],
        image_size: int,
        fit: str,
        model_hash: str,
        kinds: Callable[[list[str]], Any] | None = None,
        cache_dir: str | Path | None = None,
        batch_size: int = 8,
        progress: bool = True,
    ):
        self.name, self.backbone, self.head, self.text = name, backbone, head, text
        self.image_size, self.fit, self.cache_dir = image_size, fit, cache_dir
        self.batch_size, self.progress, self.speed = batch_size, progress, None
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

    def encode_gallery(self, gallery: Any) -> np.ndarray:
        """Encode every photograph.

        Args:
            gallery: N photographs.

        Returns:
            [N, D] float32, unit norm; NaN rows for photographs that cannot be read (a warning names them).
        """
        start, rows, parts = time.perf_counter(), [], []
        if self.cache_dir is not None:
            store = self.features(gallery)
            rows, computed = np.flatnonzero(store.ok).tolist(), store.computed
            if rows:
                parts.append(store.encode(lambda x, _: torch.from_numpy(self._encode(x)), self.batch_size)[rows])
        else:
            errors = []
            settings = (self.backbone, gallery.photos, self.image_size, self.fit, self.batch_size)
            for chunk in stream_features(*settings, progress=self.progress):
                errors += [(gallery.photos[row].id, reason) for row, reason in chunk.errors]
                if chunk.rows:
                    rows.extend(chunk.rows)
                    parts.append(self._encode(torch.from_numpy(chunk.features).float()))
            computed = len(rows)
            if errors:
                warnings.warn(error_report(errors), CorruptPhotographs, stacklevel=2)
        seconds = time.perf_counter() - start
        if not rows:
            raise ValueError(f"None of the {len(gallery.photos)} photographs of {gallery.name} could be read.")
        vectors = np.concatenate(parts)
        encoded = np.full((len(gallery.photos), vectors.shape[1]), np.nan, np.float32)
        encoded[rows] = vectors
        fresh = computed == len(rows)  # a half-cached run times neither the one nor the other
        self.speed = Speed(
            photographs=computed if fresh else 0,
            seconds=seconds,
            batch=self.batch_size,
            precision=precision_of(self.backbone),
            device=str(device_of(self.backbone)),
            timed="read, decode, resize, trunk and head"
            + ("" if fresh else "; part of the features came from the cache"),
        )
        return encoded

    def features(self, gallery: Any) -> FeatureStore:
        """Return the gallery's trunk features, from the cache where there is one."""
        settings = (self.backbone, gallery, self.image_size, self.fit, self.cache_dir, self.progress)
        return trunk_features(*settings, batch_size=self.batch_size)

    @torch.inference_mode()
    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Encode queries: list of Q texts -> [Q, D] float32, unit norm."""
        parts = [self.text(list(texts[i : i + _CHUNK])) for i in range(0, len(texts), _CHUNK)]
        return torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1).cpu().numpy()

    @torch.inference_mode()
    def _encode(self, features: Tensor) -> np.ndarray:
        vectors = self.head(features.to(device_of(self.backbone)))
        return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


def precision_of(module: Any) -> str:
    """Return the number format of a module's weights, for example ``float32``."""
    parameters = module.parameters() if hasattr(module, "parameters") else ()
    return next((str(p.dtype).removeprefix("torch.") for p in parameters), "float32")


def zero_shot(
    backbone: Any, image_size: int | None = 640, fit: str = "letterbox", template: str = "{}", **options: Any
) -> TrunkSystem:
    """Make CLIP as it is a system: its own attention pool, positions resized in 2-D.

    Args:
        backbone: a :class:`fdp_core.backbones.Backbone`.
        image_size: side of the square input, pixels; None for the size that the backbone was trained at.
        fit: how a photograph becomes a square.
        template: the prompt around a query, with one ``{}``; "{}" gives the bare word.
        options: ``name``, ``cache_dir``, ``batch_size``, ``progress`` of :class:`TrunkSystem`.

    Returns:
        A :class:`TrunkSystem`.

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
def _evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off for a while, and back on only where it was on."""
    training = getattr(model, "training", False)
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def fdp(model: Any, **options: Any) -> TrunkSystem:
    """Make a trained FDP a system.

    Its model hash covers the weights at this moment: call it again after further training.

    Args:
        model: a :class:`fdp_core.model.FDP`; image size and fit come from its config.
        options: ``name``, ``cache_dir``, ``batch_size``, ``progress`` of :class:`TrunkSystem`.

    Returns:
        A :class:`TrunkSystem` that also assigns queries to the function or the content cluster.

    Source: FDP section 3.
    """

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

    def scores(self, gallery: Any, texts: list[str]) -> np.ndarray:
        """Return [Q, N] float in [0, 1)."""
        return np.random.default_rng(self.seed).random((len(texts), len(gallery.photos)))


def chance(seed: int = 0) -> Chance:
    """Make the system that ranks at random, seeded."""
    return Chance(seed)


def ocr(**options: Any) -> Any:
    """Make the OCR pipeline a system: detect and read the words, rank by edit distance.

    Args:
        options: of :class:`fdp_core.retrieval.ocr.OcrSystem`.

    Raises:
        fdp_core.retrieval.ocr.OcrMissing: the optional packages are not installed.
    """
    from fdp_core.retrieval.ocr import OcrSystem

    return OcrSystem(**options)

"""A second glance: every word that the text map finds is cut out of the photograph and encoded by the same frozen CLIP.

One vector has to hold all words of a photograph, however small; a region's vector holds one. A photograph's score is
the largest cosine among its regions and its whole. The cost: more vectors to keep, and one more pass over the cuts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fdp_core import backbones, crops, geometry, regions
from fdp_core import text_map as maps
from fdp_core.checkpoint import model_hash
from fdp_core.evaluation import Speed
from fdp_core.fast_trunk import FastTrunk
from fdp_core.features import CorruptPhotographs, device_of, error_report, reason_of
from fdp_core.vector_sets import VectorSets

_CHUNK = 256  # texts, or cuts, encoded at once


@dataclass(frozen=True)
class Glance:
    """How the second glance looks.

    Attributes:
        limit: at most so many regions a photograph.
        map_size: side of the square input that the text map sees, pixels; None takes the model's own input size.
        height: of a cut, pixels, a multiple of 32; ``width`` likewise.
        margin: what is added around a region on every side, in heights of the region.
        whole: does the photograph's own vector (FDP's) take part beside its regions?
        pooled: keep one vector a photograph, the mean of all of these, in place of all: as small as FDP's, less sure.
        precision: "float32", or "bfloat16" where the processor computes in it (faster, other last digits).
    """

    limit: int = 96
    map_size: int | None = None
    height: int = 32
    width: int = 128
    margin: float = 0.0
    whole: bool = True
    pooled: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        sides = {"map_size": self.map_size or 32, "height": self.height, "width": self.width}
        for name, side in sides.items():
            if side < 32 or side % 32:
                raise ValueError(f"Glance.{name} is {side}; expected a positive multiple of 32 pixels.")
        if self.limit < 1:
            raise ValueError(f"Glance.limit is {self.limit}; expected 1 or more regions.")


class RegionSystem:
    """FDP with region vectors: an embedding system that gives several vectors a photograph.

    Args:
        model: a trained :class:`fdp_core.model.FDP`.
        glance: how to look.
        text_map: of the model's backbone; None loads the one that comes with it.
        name: what tables call it.
        batch_size: photographs at once.
        progress: show a progress bar.

    Raises:
        fdp_core.text_map.TextMapMissing: there is no text map for the backbone.

    Attributes:
        speed: of the latest :meth:`encode_gallery`, and ``sets`` its vectors; ``settings`` what a record should tell.
    """

    def __init__(
        self,
        model: Any,
        glance: Glance | None = None,
        text_map: maps.TextMap | None = None,
        name: str = "FDP + regions",
        batch_size: int = 4,
        progress: bool = True,
    ):
        self.name, self.model, self.glance = name, model.eval(), glance or Glance()
        self.backbone = model.backbone
        self.text_map = (text_map or maps.load(self.backbone)).eval()
        self._trunk = FastTrunk(self.backbone.clip, self.glance.precision)
        self.batch_size, self.progress, self.speed = batch_size, progress, None
        self.sets: VectorSets | None = None
        described = f"{model_hash(model)} {backbones.state_hash(self.text_map.state_dict())} {self.glance}"
        self.model_hash = hashlib.sha256(described.encode()).hexdigest()
        self.settings = {
            "backbone": self.backbone.name,
            "weights_hash": self.backbone.weights_hash,
            "model_hash": self.model_hash,
            "image_size": model.config.image_size,
            "fit": model.config.fit,
            "glance": dataclasses.asdict(self.glance),
            "config": dataclasses.asdict(model.config),
        }

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Encode queries: list of Q texts -> [Q, D] float32, unit norm."""
        with torch.inference_mode():
            parts = [self.model.encode_queries(texts[i : i + _CHUNK]) for i in range(0, len(texts) or 1, _CHUNK)]
        return torch.cat(parts).cpu().numpy()

    def assign_kinds(self, texts: list[str]) -> np.ndarray:
        """Say which texts are function words (0) and which content words (1): [Q] int."""
        return np.asarray(self.model.kinds_of(list(texts)))

    def encode_gallery(self, gallery: Any) -> VectorSets:
        """Encode every photograph: its regions' vectors, and its own where ``glance.whole``.

        Returns:
            The vectors; a photograph that cannot be read has none (a warning names it).
        """
        start, counts, parts, errors = time.perf_counter(), [], [], []
        for read in self._batches(gallery.photos):
            good = [item for item in read if not isinstance(item, tuple)]
            vectors = iter(self.encode_images(good) if good else [])
            for item in read:
                if isinstance(item, tuple):
                    errors.append(item)
                    counts.append(0)
                else:
                    parts.append(next(vectors))
                    counts.append(len(parts[-1]))
        if errors:
            warnings.warn(error_report(errors), CorruptPhotographs, stacklevel=2)
        if not parts:
            raise ValueError(f"None of the {len(gallery.photos)} photographs of {gallery.name} could be read.")
        self.speed = Speed(
            photographs=len(gallery.photos) - len(errors),
            seconds=time.perf_counter() - start,
            batch=self.batch_size,
            precision=self.glance.precision,
            device=str(device_of(self.backbone)),
            timed="read, decode, resize, trunk, head, text map, cuts and their encoding",
        )
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.sets = VectorSets(np.concatenate(parts).astype(np.float32), starts)
        return self.sets

    @torch.inference_mode()
    def encode_images(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Encode photographs in memory: uint8 [h, w, 3] each -> unit vectors float32 [K_i, D] each, the whole first."""
        found = self.find(images)
        cuts = [self.cut(image, quads) for image, (quads, _) in zip(images, found)]
        none = np.zeros((0, self.backbone.embed_dim), np.float32)
        vectors = self.encode_crops(np.concatenate(cuts)) if sum(map(len, cuts)) else none
        out, at = [], 0
        for i, part in enumerate(cuts):
            rows = vectors[at : at + len(part)]
            out.append(np.concatenate([self._whole[i][None], rows]) if self.glance.whole or not len(rows) else rows)
            at += len(part)
        return [_mean(rows) for rows in out] if self.glance.pooled else out

    @torch.inference_mode()
    def find(self, images: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Find word regions: for each photograph (corners float32 [R, 4, 2] in its own pixels, scores [R] in 0..1)."""
        size, config = self.glance.map_size or self.model.config.image_size, self.model.config
        fitted = [geometry.fit_array(image, size, config.fit) for image in images]
        x = self.backbone.normalise(np.stack([square for square, _ in fitted]))
        levels = self._trunk(x)
        with self._autocast():
            logits = self.text_map(levels)
        if size == config.image_size:
            self._whole = self.model.encode_features(levels[-1].float())["image"].cpu().numpy()
        else:
            squares = np.stack([geometry.fit_array(image, config.image_size, config.fit)[0] for image in images])
            features = self._trunk(self.backbone.normalise(squares))[-1].float()
            self._whole = self.model.encode_features(features)["image"].cpu().numpy()
        found = []
        for plane, (_, transform) in zip(torch.sigmoid(logits.float()).cpu().numpy(), fitted):
            quads, scores = regions.find(plane, maps.STRIDE, self.glance.limit)
            found.append((transform.invert(quads.reshape(-1, 2)).reshape(-1, 4, 2).astype(np.float32), scores))
        return found

    @torch.inference_mode()
    def encode_crops(self, cuts: np.ndarray | Tensor) -> np.ndarray:
        """Encode cuts by CLIP's own attention pool: uint8 [R, h, w, 3], sides multiples of 32 -> [R, D], unit norm."""
        parts = []
        for part in torch.as_tensor(cuts).split(_CHUNK):
            features = self._trunk(self.backbone.normalise(part))[-1].float()
            parts.append(F.normalize(self.backbone.zero_shot(features), dim=-1))
        return torch.cat(parts).cpu().numpy()

    def cut(self, image: np.ndarray, quads: np.ndarray) -> np.ndarray:
        """Cut regions (corners [R, 4, 2]) with their margin out of a photograph: uint8 [R, height, width, 3]."""
        g = self.glance
        cuts = [crops.cut(image, crops.grow(q, (g.margin,) * 2, (g.margin,) * 2), g.height, g.width) for q in quads]
        return np.stack(cuts) if cuts else np.zeros((0, g.height, g.width, 3), np.uint8)

    def _autocast(self) -> torch.autocast:
        half = self.glance.precision == "bfloat16"
        return torch.autocast(device_of(self.backbone).type, torch.bfloat16, enabled=half)

    def _batches(self, photos: tuple[Any, ...]) -> Iterator[list[np.ndarray | tuple[str, str]]]:
        """Read photographs, the next batch while this one is encoded; one that cannot be read is (id, reason)."""
        from tqdm import tqdm

        def read(photo: Any) -> np.ndarray | tuple[str, str]:
            try:
                return np.asarray(geometry.open_image(photo.path))
            except geometry.CorruptImage as error:
                return photo.id, reason_of(error)

        step = self.batch_size
        groups = [photos[i : i + step] for i in range(0, len(photos), step)]
        with ThreadPoolExecutor(1) as pool, tqdm(total=len(photos), disable=not self.progress, desc="regions") as bar:
            ahead = pool.submit(lambda group: [read(p) for p in group], groups[0]) if groups else None
            for number, group in enumerate(groups):
                now = ahead.result()
                if number + 1 < len(groups):
                    ahead = pool.submit(lambda group: [read(p) for p in group], groups[number + 1])
                yield now
                bar.update(len(group))


def _mean(rows: np.ndarray) -> np.ndarray:
    """Return the mean direction of unit vectors [K, D]: [1, D], unit norm."""
    total = rows.sum(0, keepdims=True)
    return (total / max(float(np.linalg.norm(total)), 1e-6)).astype(np.float32)

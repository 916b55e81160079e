"""Region vectors: every word that the text map finds is cut out of the photograph and encoded by the same frozen CLIP.

One vector has to hold all words of a photograph, however small; a region's vector holds one. A photograph's score is
the largest cosine among its regions'. The cost: more vectors to keep, and one more pass over the cuts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
import warnings

import numpy as np
import torch

from fdp_core import weights
from fdp_core.backbones import Backbone
from fdp_core.checkpoint import model_hash
from fdp_core.datasets import images
from fdp_core.datasets.types import Gallery, Photo
from fdp_core.model import FDP
from fdp_core.regions import boxes, word_finder
from fdp_core.regions.networks import TorchEngine
from fdp_core.regions.settings import Glance, cut_out, frame
from fdp_core.regions.text_map import STRIDE, TextMap, load
from fdp_core.retrieval import geometry
from fdp_core.retrieval.features import CorruptPhotographs, error_report, reason_of
from fdp_core.retrieval.vectors import Speed, VectorSets
from fdp_core.retrieval.workers import in_order
from fdp_core.words import english_words

_CHUNK = 256  # texts encoded at once


class RegionSystem:
    """FDP with region vectors: an embedding system that gives several vectors a photograph.

    Args:
        model: a trained one.
        options: the region options.
        text_map: of the model's backbone; None loads the one that comes with it.
        name: what tables call it; None is "FDP + regions", and "FDP + word finder" with one.
        progress: show a progress bar.
        finder: finds the words in place of the text map, in PyTorch whatever the engine, by its own sizes, limit and
            thresholds in place of the options' (:data:`fdp_core.regions.word_finder.OPTIONS`); None: the text map,
            which is not loaded beside a finder in PyTorch.
        reader: encodes the cuts in place of the model's backbone (:func:`fdp_core.regions.reader.load`: one that was
            trained on the finder's).

    Raises:
        fdp_core.regions.text_map.TextMapMissing: there is no text map for the backbone.
        fdp_core.regions.openvino.OpenVinoMissing: the options ask for an engine that is not installed.

    Attributes:
        speed: of the latest :meth:`encode_gallery`, and ``sets`` its vectors; ``settings`` what a record should tell.
    """

    def __init__(
        self,
        model: FDP,
        options: Glance | None = None,
        text_map: TextMap | None = None,
        name: str | None = None,
        progress: bool = True,
        finder: word_finder.WordFinder | None = None,
        reader: Backbone | None = None,
    ):
        self.finder = finder
        self.name = name or ("FDP + regions" if finder is None else "FDP + word finder")
        self.model, self.options = model.eval(), options or Glance()
        self.backbone = model.backbone
        if text_map is None and (finder is None or self.options.engine == "openvino"):
            text_map = load(self.backbone)
        self.text_map = text_map and text_map.eval()
        self.map_size = self.options.map_size or model.config.image_size
        sized = dataclasses.replace(self.options, map_size=self.map_size)
        if sized.engine == "openvino":
            from fdp_core.regions.openvino import OpenVinoEngine as Engine
        else:
            Engine = TorchEngine
        self._engine = Engine(reader or self.backbone, self.text_map, sized)
        self.progress, self.speed = progress, None
        self.sets: VectorSets | None = None
        mapped = weights.state_hash(self.text_map.state_dict()) if self.text_map else "no text map"
        described = f"{model_hash(model)} {mapped} {sized}"
        if finder is not None:
            finding = {**word_finder.OPTIONS, "common": word_finder.COMMON, "sharp": word_finder.SHARP}
            finding |= {"usual": word_finder.USUAL, "sure": word_finder.SURE}
            described += f" {weights.state_hash(finder.state_dict())} {finding}"
        if reader is not None:
            described += f" {reader.weights_hash}"
        self.model_hash = hashlib.sha256(described.encode()).hexdigest()
        self.settings = {
            "backbone": self.backbone.name,
            "weights_hash": self.backbone.weights_hash,
            "model_hash": self.model_hash,
            "image_size": model.config.image_size,
            "fit": model.config.retrieval_fit,
            "glance": dataclasses.asdict(self.options),
            "config": dataclasses.asdict(model.config),
        }
        if finder is not None:
            self.settings["finder"] = finding
        if reader is not None:
            self.settings["reader"] = reader.weights_hash

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Encode queries: list of Q texts -> [Q, D] float32, unit norm; with a finder [Q, D + 1], the last number 1."""
        vectors = self._encode_texts(texts)
        return vectors if self.finder is None else np.pad(vectors, ((0, 0), (0, 1)), constant_values=1)

    def _encode_texts(self, texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            parts = [self.model.encode_queries(texts[i : i + _CHUNK]) for i in range(0, len(texts) or 1, _CHUNK)]
        return torch.cat(parts).cpu().numpy()

    @functools.cached_property
    def _common(self) -> np.ndarray:
        """Return the vectors of frequent words: [W, D] float32."""
        return self._encode_texts(list(english_words()[: word_finder.COMMON]))

    def assign_kinds(self, texts: list[str]) -> np.ndarray:
        """Say which texts are function words (0) and which content words (1): [Q] int."""
        return np.asarray(self.model.kinds_of(list(texts)))

    def encode_gallery(self, gallery: Gallery) -> VectorSets:
        """Encode every photograph by :meth:`encode_image`, as many at once as the engine has workers.

        Returns:
            The vectors; a photograph that cannot be read has none (a warning names it).
        """
        start, counts, parts, errors = time.perf_counter(), [], [], []
        found = in_order(self._read, gallery.photos, self._engine.workers, self.progress, "regions")
        for photo, vectors in zip(gallery.photos, found):
            if isinstance(vectors, str):
                errors.append((photo.id, vectors))
            else:
                parts.append(vectors)
            counts.append(0 if isinstance(vectors, str) else len(vectors))
        if errors:
            warnings.warn(error_report(errors), CorruptPhotographs, stacklevel=2)
        if not parts:
            raise ValueError(f"None of the {len(gallery.photos)} photographs of {gallery.name} could be read.")
        self.speed = Speed(
            photographs=len(parts),
            seconds=time.perf_counter() - start,
            batch=self._engine.workers,
            precision=self.options.precision,
            device=str(self.backbone.device),
            timed="read, decode, resize, text map, cuts and their encoding" + (", head" if self.options.whole else ""),
        )
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.sets = VectorSets(np.concatenate(parts).astype(np.float32), starts)
        return self.sets

    def encode_image(self, image: np.ndarray) -> np.ndarray:
        """Encode a photograph in memory: uint8 [h, w, 3] -> unit vectors float32 [K, D].

        Returns:
            Its own vector first where ``options.whole`` or where no region was found, then those of its regions, the
            surest first; their mean direction alone where ``options.pooled``.
            With a finder, each has one number more, the negative of its handicap
            (:func:`fdp_core.regions.word_finder.handicap`), and queries a one there: a score is a cosine less that.
        """
        quads, scores = self.find(image)
        rows = self.encode_crops(self.cut(image, quads))
        if self.options.whole or not len(rows):
            rows = np.concatenate([self._whole(image)[None], rows])
            scores = np.append(np.float32(word_finder.MIN_SCORE), scores)
        if self.finder is not None:
            rows = np.column_stack([rows, -word_finder.handicap(rows, scores, self._common)])
        return _mean(rows) if self.options.pooled else rows

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find word regions: uint8 [h, w, 3] -> (corners float32 [R, 4, 2] in its pixels, scores float32 [R] in 0..1).

        The surest region stands first.
        """
        if self.finder is not None:
            return word_finder.find(self.finder, image, **word_finder.OPTIONS)
        small, scale = frame(image, self.map_size)
        look = self.options.limit, self.options.thresholds, self.options.same
        quads, scores = boxes.find(self._engine.find(small), STRIDE, *look)
        return quads * scale, scores

    def cut(self, image: np.ndarray, quads: np.ndarray) -> np.ndarray:
        """Cut regions (corners [R, 4, 2]) with their margin out of a photograph: uint8 [R, height, width, 3]."""
        return cut_out(image, quads, self.options)

    def encode_crops(self, cuts: np.ndarray) -> np.ndarray:
        """Encode cuts by CLIP's own attention pool: uint8 [R, height, width, 3] -> float32 [R, D], unit norm."""
        return self._engine.read(cuts)

    @torch.inference_mode()
    def _whole(self, image: np.ndarray) -> np.ndarray:
        """Return FDP's own vector of a photograph, as a model without regions gives it: [D]."""
        square, _ = geometry.fit_array(image, self.model.config.image_size, self.model.config.retrieval_fit)
        return self.model.encode_images(square[None])[0].cpu().numpy()

    def _read(self, photo: Photo) -> np.ndarray | str:
        """Read and encode one photograph, or say why it cannot be read."""
        try:
            image = np.asarray(images.open_image(photo.path))
        except images.CorruptImage as error:
            return reason_of(error)
        return self.encode_image(image)


def _mean(rows: np.ndarray) -> np.ndarray:
    """Return the mean direction of unit vectors [K, D]: [1, D], unit norm."""
    total = rows.sum(0, keepdims=True)
    return (total / max(float(np.linalg.norm(total)), 1e-6)).astype(np.float32)

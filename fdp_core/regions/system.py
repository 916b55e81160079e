"""Region vectors: every word that the finder finds is cut out of the photograph and encoded by a frozen CLIP.

One vector has to hold all words of a photograph, however small; a region's vector holds one. A photograph's score is
the largest among its regions'. The cost: more vectors to keep, and a pass over the cuts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
import warnings

import numpy as np
import torch

from fdp_core.backbones import Backbone
from fdp_core.checkpoint import model_hash
from fdp_core.datasets import images
from fdp_core.datasets.types import Gallery, Photo
from fdp_core.model import FDP
from fdp_core.regions import crops, openvino, word_finder
from fdp_core.regions.networks import TorchEngine
from fdp_core.regions.reader import fitting
from fdp_core.regions.settings import RegionOptions
from fdp_core.retrieval import compiled, geometry
from fdp_core.retrieval.features import CorruptPhotographs, error_report
from fdp_core.retrieval.vectors import Speed, VectorSets
from fdp_core.retrieval.workers import in_order
from fdp_core.words import english_words

_CHUNK = 256  # texts encoded at once
_UNSURE = 0.15  # certainty of a photograph's own vector, which stands in where no region was found


class RegionSystem:
    """FDP with region vectors: an embedding system that gives several vectors a photograph.

    Args:
        model: a trained one; it encodes the queries.
        options: the region options.
        finder: finds the words; None: the one that comes with the package, which serves any backbone.
        reader: encodes the cuts; None: :func:`fdp_core.regions.reader.fitting`.
        name: what tables call it.
        progress: show a progress bar.

    Raises:
        fdp_core.retrieval.compiled.OpenVinoMissing: the options ask for an engine that is not installed.

    Attributes:
        speed: of the latest :meth:`encode_gallery`, and ``sets`` its vectors; ``settings`` what a record should tell.
        model_hash: names all that the vectors depend on, but for engine and precision, which change last digits.
    """

    by_words = True  # a phrase is asked for word by word as well

    def __init__(
        self,
        model: FDP,
        options: RegionOptions | None = None,
        finder: word_finder.WordFinder | None = None,
        reader: Backbone | None = None,
        name: str = "FDP + regions",
        progress: bool = True,
    ):
        self.name, self.progress, self.speed = name, progress, None
        self.model, self.options, self.backbone = model.eval(), options or RegionOptions(), model.backbone
        finder = finder or word_finder.load()
        reads = reader or fitting(self.backbone)
        self._engine = _engine(finder, reads, self.options)
        self.sets: VectorSets | None = None
        plain = dataclasses.replace(self.options, engine="auto", precision="auto")
        digests = finder.digest(), reads.weights_hash
        described = f"{model_hash(model)} {digests} {plain} {word_finder.CHOSEN}"
        self.model_hash = hashlib.sha256(described.encode()).hexdigest()
        self.settings = {
            "backbone": self.backbone.name,
            "weights_hash": self.backbone.weights_hash,
            "model_hash": self.model_hash,
            "image_size": model.config.image_size,
            "fit": model.config.retrieval_fit,
            "regions": dataclasses.asdict(self.options) | word_finder.CHOSEN,
            "engine": f"{type(self._engine).__name__}, {self._engine.precision}",
            "finder": digests[0],
            "reader": digests[1],
            "config": dataclasses.asdict(model.config),
        }

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Encode queries: list of Q texts -> [Q, D + 1] float32, a unit vector and a one, see :meth:`encode_image`."""
        return np.pad(self._encode_texts(texts), ((0, 0), (0, 1)), constant_values=1)

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
        for photo, regions in zip(gallery.photos, found):
            if isinstance(regions, str):
                errors.append((photo.id, regions))
            else:
                parts.append(regions)
            counts.append(0 if isinstance(regions, str) else len(regions[0]))
        if errors:
            warnings.warn(error_report(errors), CorruptPhotographs, stacklevel=2)
        if not parts:
            told = f"None of the {len(gallery.photos)} photographs of {gallery.name} could be read"
            raise ValueError(f"{told}; the warning before this names the fault of each.")
        self.speed = Speed(
            photographs=len(parts),
            seconds=time.perf_counter() - start,
            batch=self._engine.workers,
            precision=self._engine.precision,
            device=str(self.backbone.device),
            timed="read, decode, resize, find words, cuts and their encoding",
        )
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        vectors, corners = (np.concatenate(part).astype(np.float32) for part in zip(*parts))
        self.sets = VectorSets(vectors, starts, corners)
        return self.sets

    def encode_image(self, image: np.ndarray) -> np.ndarray:
        """Encode a photograph in memory: uint8 [h, w, 3] -> float32 [K, D + 1], a row for each region, surest first.

        A row is the region's unit vector and the negative of its handicap
        (:func:`fdp_core.regions.word_finder.handicap`); queries have a one there, so that a score is a cosine less
        that. Where no region was found, FDP's own vector of the photograph stands in. Where ``options.pooled``, there
        is one row, the mean direction, without a handicap.
        """
        return self.encode_regions(image)[0]

    def encode_regions(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode a photograph as :meth:`encode_image` does: (rows [K, D + 1], the corners of their regions [K, 4, 2] in
        its pixels, NaN where a row is no single region's)."""
        quads, scores = self.find(image)
        rows = self.encode_crops(self.cut(image, quads))
        if not len(rows):
            rows, scores = self._whole(image)[None], np.array([_UNSURE], np.float32)
        if self.options.pooled or not len(quads):
            quads = np.full((1, 4, 2), np.nan, np.float32)
        if self.options.pooled:
            return np.pad(_mean(rows), ((0, 0), (0, 1))), quads
        return np.column_stack([rows, -word_finder.handicap(rows, scores, self._common)]), quads

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find word regions: uint8 [h, w, 3] -> (corners float32 [R, 4, 2] in its pixels, scores float32 [R] in 0..1).

        The surest region stands first.
        """
        return word_finder.find(self._engine.find, image, self.options)

    def cut(self, image: np.ndarray, quads: np.ndarray) -> np.ndarray:
        """Cut regions (corners [R, 4, 2]) out of a photograph: uint8 [R, height, width, 3]."""
        return crops.cut_all(image, quads, self.options.height, self.options.width)

    def encode_crops(self, cuts: np.ndarray) -> np.ndarray:
        """Encode cuts by CLIP's own attention pool: uint8 [R, height, width, 3] -> float32 [R, D], unit norm."""
        return self._engine.read(cuts)

    @torch.inference_mode()
    def _whole(self, image: np.ndarray) -> np.ndarray:
        """Return FDP's own vector of a photograph, as a model without regions gives it: [D]."""
        square, _ = geometry.fit_array(image, self.model.config.image_size, self.model.config.retrieval_fit)
        return self.model.encode_images(square[None])[0].cpu().numpy()

    def _read(self, photo: Photo) -> tuple[np.ndarray, np.ndarray] | str:
        """Read and encode one photograph, or say why it cannot be read."""
        try:
            image = np.asarray(images.open_image(photo.source))
        except images.CorruptImage as error:
            return error.reason
        return self.encode_regions(image)


def _engine(
    finder: word_finder.WordFinder, reads: Backbone, options: RegionOptions
) -> TorchEngine | openvino.OpenVinoEngine:
    """Return the engine that the options ask for."""
    on_cpu = reads.device.type == "cpu"
    name = options.engine
    if name == "auto":
        name = "openvino" if on_cpu and compiled.installed() else "torch"
        if on_cpu and name == "torch":
            warnings.warn("OpenVINO is not installed: regions run in PyTorch, several times as slow.", stacklevel=3)
    precision = options.precision
    if precision == "auto":
        precision = "eight bits" if name == "openvino" else "float32" if on_cpu else "bfloat16"
    if name == "torch":
        if precision == "eight bits":
            raise ValueError("precision='eight bits' needs engine='openvino', on a CPU with the package openvino.")
        return TorchEngine(finder, reads, precision)
    return openvino.OpenVinoEngine(finder, reads, (options.height, options.width), precision)


def _mean(rows: np.ndarray) -> np.ndarray:
    """Return the mean direction of unit vectors [K, D]: [1, D], unit norm."""
    total = rows.sum(0, keepdims=True)
    return (total / max(float(np.linalg.norm(total)), 1e-6)).astype(np.float32)

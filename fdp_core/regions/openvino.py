"""Both networks of the regions in OpenVINO, which is faster than PyTorch on a CPU.

One photograph runs on one core, as many photographs at once as there are cores: many small networks keep a core
busier than one core's share of each layer would.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from typing_extensions import TypedDict

from fdp_core import datasets
from fdp_core.backbones import Backbone
from fdp_core.config import parse
from fdp_core.datasets.images import open_image
from fdp_core.evaluation import provenance
from fdp_core.files import atomic_write_text
from fdp_core.regions import crops, eight_bits, word_finder
from fdp_core.regions.networks import Reader
from fdp_core.regions.settings import RegionOptions, frame
from fdp_core.regions.word_finder import WordFinder
from fdp_core.retrieval.compiled import convert, on_cpu, require
from fdp_core.retrieval.fast_trunk import FastTrunk
from fdp_core.retrieval.workers import Spare
from fdp_core.weights import MINI_WEIGHTS

if TYPE_CHECKING:
    import openvino

Look = Callable[[np.ndarray], list[np.ndarray]]  # the finder's grids of a frame

BATCH = 40  # cuts at once, at most: a call has a cost of its own, and a photograph has rarely more words
EXAMPLES = 25  # every so many-th scene of the shipped training set shows the networks' ranges
SHIPPED = MINI_WEIGHTS.with_name("eight_bits.json")  # the ranges of mini's networks


class _Ranges(TypedDict):
    networks: list[str]  # hashes of the finder and the reader
    size: list[int]  # height and width of a cut
    ranges: dict[str, eight_bits.Ranges]


class _Find(nn.Module):
    """The finder with a tuple of grids, which the converter wants."""

    def __init__(self, finder: WordFinder):
        super().__init__()
        self.finder = finder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.finder(images))


class OpenVinoEngine:
    """Runs the finder and the reader, compiled for this processor; the compiled networks are kept in a cache folder.

    It cuts to ``size``, height and width in multiples of 32 pixels. The precision is "eight bits" (see
    :mod:`fdp_core.regions.eight_bits`; its ranges come from rendered scenes: those of ``mini`` ship, others are kept
    in the cache folder), "float32", or "bfloat16", which is float32 on a processor that does not compute in it.
    ``workers`` are photographs at once.

    Raises:
        fdp_core.retrieval.compiled.OpenVinoMissing: openvino is not installed.
    """

    def __init__(self, finder: WordFinder, reader: Backbone, size: tuple[int, int], precision: str = "float32"):
        require()
        import openvino

        self._core, self.workers = openvino.Core(), _cores()
        self.precision, self._dimension = precision, reader.embed_dim
        # BatchNorm is folded in PyTorch; OpenVINO chooses the way of each layer itself
        reads = on_cpu(Reader(reader, FastTrunk(reader.clip), size))
        networks = {
            "find": convert(on_cpu(_Find(finder)), [1, -1, -1, 3], [1, 64, 96, 3]),
            "read": convert(reads, [-1, *size, 3], [2, *size, 3]),
        }
        self._options = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # it would put every worker's networks on the same core
            "CACHE_DIR": str(provenance.cache_folder("openvino")),
        }
        if precision == "eight bits":
            hashes = [finder.digest(), reader.weights_hash]
            ranges = self._ranges(networks, partial(word_finder.predict, finder), hashes, size)
            for name, network in networks.items():
                eight_bits.round_network(network, ranges["ranges"][name])
        self._requests = {name: Spare(partial(self._compile, network)) for name, network in networks.items()}

    def _ranges(
        self, networks: dict[str, openvino.Model], look: Look, hashes: list[str], size: tuple[int, int]
    ) -> _Ranges:
        """Return the ranges of both networks on rendered scenes: as they ship, or kept in the cache folder, or made."""
        name = hashlib.sha256(f"{hashes} {size}".encode()).hexdigest()
        kept = provenance.cache_folder("openvino") / f"ranges-{name}.json"
        for path in (SHIPPED, kept):
            try:
                found = parse(path.read_bytes(), _Ranges)
            except (OSError, ValueError):
                continue  # not there, or torn
            if found["networks"] == hashes and found["size"] == list(size):
                return found
        gallery, _ = datasets.load("mini_train", "train")
        scenes = [np.asarray(open_image(photo.source)) for photo in gallery.photos[::EXAMPLES]]
        frames = [frame(scene, RegionOptions().sizes[0])[0][None] for scene in scenes]
        cuts = np.concatenate([crops.cut_all(scene, word_finder.find(look, scene)[0], *size) for scene in scenes])
        cuts = [cuts[i : i + BATCH] for i in range(0, len(cuts), BATCH)]
        examples = {"find": frames, "read": cuts or [np.zeros((1, *size, 3), np.uint8)]}
        ranges = {kind: eight_bits.measure(networks[kind], examples[kind], self._core) for kind in networks}
        made = _Ranges(networks=hashes, size=list(size), ranges=ranges)
        atomic_write_text(kept, json.dumps(made))
        return made

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        """Return the finder's grids of one frame: uint8 [H, W, 3] -> float32 [7, H / s, W / s], s = 8, 16, 32."""
        return [grid[0] for grid in self._run("find", image[None])]

    def read(self, cuts: np.ndarray) -> np.ndarray:
        """Encode cuts: uint8 [R, h, w, 3] -> unit vectors float32 [R, D]."""
        out = np.zeros((len(cuts), self._dimension), np.float32)
        for i in range(0, len(cuts), BATCH):
            out[i : i + BATCH] = self._run("read", cuts[i : i + BATCH])[0]
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)  # few bits leave it near one only

    def _run(self, name: str, images: np.ndarray) -> list[np.ndarray]:
        """Run a network by a compiled copy that no other thread is using: handing work to streams of one is slower."""
        with self._requests[name].lend() as request:
            results = request.infer([np.ascontiguousarray(images)], share_inputs=True, share_outputs=True)
            return [results[i].copy() for i in range(len(results))]

    def _compile(self, network):
        return self._core.compile_model(network, "CPU", self._options).create_infer_request()


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Both networks of the regions in OpenVINO, which is faster than PyTorch on a CPU.

One photograph runs on one core, as many photographs at once as there are cores: many small networks keep a core
busier than one core's share of each layer would.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
import warnings
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fdp_core.backbones import Backbone
from fdp_core.evaluation import provenance
from fdp_core.regions.networks import Reader
from fdp_core.regions.word_finder import WordFinder
from fdp_core.retrieval.fast_trunk import FastTrunk
from fdp_core.retrieval.workers import Spare

BATCH = 8  # cuts at once; a fixed shape lets the compiler plan all memory


class OpenVinoMissing(ImportError):
    """The package of the fast engine is not installed."""


def installed() -> bool:
    """Say whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None


class _Find(nn.Module):
    """The finder with a tuple of grids, which the converter wants."""

    def __init__(self, finder: WordFinder):
        super().__init__()
        self.finder = finder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.finder(images))


class OpenVinoEngine:
    """Runs the finder and the reader, compiled for this processor; the compiled networks are kept in a cache folder.

    It cuts to ``size``, height and width in multiples of 32 pixels. The precision is "float32", or "bfloat16", which is
    float32 on a processor that does not compute in it. ``workers`` are photographs at once.

    Raises:
        OpenVinoMissing: openvino is not installed.
    """

    def __init__(self, finder: WordFinder, reader: Backbone, size: tuple[int, int], precision: str = "float32"):
        if not installed():
            raise OpenVinoMissing("engine='openvino' needs the package openvino: install requirements.txt, or 'torch'.")
        import openvino

        self._core, self.workers = openvino.Core(), _cores()
        self.precision, self._dimension = precision, reader.embed_dim
        # BatchNorm is folded in PyTorch; OpenVINO chooses the precision of each layer itself
        reads = _on_cpu(Reader(reader, FastTrunk(reader.clip), size))
        networks = {
            "find": _convert(_on_cpu(_Find(finder)), [1, -1, -1, 3], [1, 64, 96, 3]),
            "read": _convert(reads, [BATCH, *size, 3], [BATCH, *size, 3]),
        }
        self._options = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # it would put every worker's networks on the same core
            "CACHE_DIR": str(provenance.cache_folder("openvino")),
        }
        self._requests = {name: Spare(partial(self._compile, network)) for name, network in networks.items()}

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        """Return the finder's grids of one frame: uint8 [H, W, 3] -> float32 [7, H / s, W / s], s = 8, 16, 32."""
        return [grid[0] for grid in self._run("find", image[None])]

    def read(self, cuts: np.ndarray) -> np.ndarray:
        """Encode cuts: uint8 [R, h, w, 3] -> unit vectors float32 [R, D]."""
        out = np.zeros((len(cuts), self._dimension), np.float32)
        for i in range(0, len(cuts), BATCH):
            part = cuts[i : i + BATCH]
            full = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), np.uint8)])
            out[i : i + len(part)] = self._run("read", full)[0][: len(part)]
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


def _on_cpu(network: nn.Module) -> nn.Module:
    """Copy a network to the CPU: its parts are the model's own, which stay where they are."""
    return copy.deepcopy(network).eval().cpu()


def _convert(network: nn.Module, shape: list[int], example: list[int]):
    """Convert a network on uint8 images of a shape (-1: any size) to OpenVINO."""
    import openvino

    with warnings.catch_warnings(), torch.no_grad(), _unreported():
        warnings.simplefilter("ignore")  # of tracing: sizes and a way to do it that will be replaced
        images = torch.zeros(example, dtype=torch.uint8)
        inputs = [(openvino.PartialShape(shape), openvino.Type.u8)]
        return openvino.convert_model(network, example_input=images, input=inputs)


@contextlib.contextmanager
def _unreported():
    """Keep the package from reporting its use over the network: it asks this variable, and nothing else."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before

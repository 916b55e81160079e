"""Both networks of the regions in OpenVINO, which is faster than PyTorch on a CPU; an optional extra (`make fast`).

One photograph runs on one core, as many photographs at once as there are cores: many small networks keep a core
busier than one core's share of each layer would.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fdp_core import backbones, datasets, weights
from fdp_core.datasets.images import open_image
from fdp_core.evaluation import provenance
from fdp_core.regions import boxes
from fdp_core.regions.networks import Finder, Reader
from fdp_core.regions.settings import Glance, cut_out, frame
from fdp_core.regions.text_map import STRIDE, TextMap
from fdp_core.retrieval.fast_trunk import FastTrunk
from fdp_core.retrieval.workers import Spare

BATCH = 32  # cuts at once; a fixed shape lets the compiler plan all memory
CALIBRATION = 24  # rendered photographs of the shipped training set that set the ranges of the eight bits


class OpenVinoMissing(ImportError):
    """The optional packages of the fast engine are not installed."""


class OpenVinoEngine:
    """Runs the finder and the reader, compiled for this processor.

    Args:
        backbone: the frozen CLIP.
        text_map: its text map.
        options: sizes and precision; "bfloat16" is float32 on a processor that does not compute in bfloat16, "int8"
            keeps what is no convolution in bfloat16.
        cache_dir: where quantised networks are kept (seconds to make); None takes the place of
            :mod:`fdp_core.evaluation.provenance`.

    Raises:
        OpenVinoMissing: openvino, or for "int8" nncf, is not installed.

    Attributes:
        workers: photographs at once.
    """

    def __init__(
        self, backbone: backbones.Backbone, text_map: TextMap, options: Glance, cache_dir: str | Path | None = None
    ):
        wanted = ["openvino", "nncf"] if options.precision == "int8" else ["openvino"]
        if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
            raise OpenVinoMissing(
                f"engine='openvino' with precision={options.precision!r} needs {' and '.join(missing)}. "
                "Install the optional extra, in the checkout: make fast, or pip install -e '.[fast]'."
            )
        import openvino

        self._core, self.workers = openvino.Core(), _cores()
        # BatchNorm is folded in PyTorch; OpenVINO chooses the precision of each layer itself
        trunk = FastTrunk(backbone.clip)
        finder = _on_cpu(Finder(backbone, trunk, text_map))
        reader = _on_cpu(Reader(backbone, trunk, (options.height, options.width)))
        side = options.map_size or backbone.image_size
        networks = {
            "find": _convert(finder, [1, -1, -1, 3], [1, side, side, 3]),
            "read": _convert(
                reader, [BATCH, options.height, options.width, 3], [BATCH, options.height, options.width, 3]
            ),
        }
        if options.precision == "int8":
            key = _key(backbone, text_map, options, side)
            folder = Path(cache_dir or provenance.cache_folder("openvino")) / key
            networks = _quantised(self._core, networks, finder, options, side, folder)
        self._options = {
            "INFERENCE_PRECISION_HINT": "f32" if options.precision == "float32" else "bf16",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # it would put every worker's networks on the same core
        }
        self._dimension = reader.pool.c_proj.out_features
        self._requests = {name: Spare(partial(self._compile, network)) for name, network in networks.items()}

    def find(self, image: np.ndarray) -> np.ndarray:
        """Map one frame: uint8 [H, W, 3] -> probability of words, float32 [H / 4, W / 4]."""
        return self._run("find", image[None])[0]

    def read(self, cuts: np.ndarray) -> np.ndarray:
        """Encode cuts: uint8 [R, h, w, 3] -> unit vectors float32 [R, D]."""
        out = np.zeros((len(cuts), self._dimension), np.float32)
        for i in range(0, len(cuts), BATCH):
            part = cuts[i : i + BATCH]
            full = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), np.uint8)])
            out[i : i + len(part)] = self._run("read", full)[: len(part)]
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)  # eight bits leave it near one only

    def _run(self, name: str, images: np.ndarray) -> np.ndarray:
        """Run a network by a compiled copy that no other thread is using: handing work to streams of one is slower."""
        with self._requests[name].lend() as request:
            return request.infer([images], share_inputs=True, share_outputs=True)[0].copy()

    def _compile(self, network) -> Any:
        return self._core.compile_model(network, "CPU", self._options).create_infer_request()


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_cpu(network: nn.Module) -> nn.Module:
    """Copy a network to the CPU: its pool and text map are the model's own, which stay where they are."""
    return copy.deepcopy(network).eval().cpu()


def _convert(network: nn.Module, shape: list[int], example: list[int]):
    """Convert a network on uint8 images of a shape (-1: any size) to OpenVINO."""
    import openvino

    with warnings.catch_warnings(), torch.no_grad(), _unreported():
        warnings.simplefilter("ignore")  # of tracing: sizes and a way to do it that will be replaced
        images = torch.zeros(example, dtype=torch.uint8)
        inputs = [(openvino.PartialShape(shape), openvino.Type.u8)]
        return openvino.convert_model(network, example_input=images, input=inputs)


def _key(backbone: backbones.Backbone, text_map: TextMap, options: Glance, side: int) -> str:
    """Name what a quantised network was made from."""
    versions = [importlib.metadata.version(name) for name in ("openvino", "nncf")]
    facts = backbone.weights_hash, weights.state_hash(text_map.state_dict()), options.height, options.width, side
    facts += BATCH, CALIBRATION, options.margin, *versions
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _quantised(core, networks: dict, finder: Finder, options: Glance, side: int, folder: Path) -> dict:
    """Quantise both networks on rendered photographs, or take what the folder has kept."""
    if folder.is_dir():
        try:
            return {name: core.read_model(folder / f"{name}.xml") for name in networks}
        except RuntimeError:  # torn: make it anew
            shutil.rmtree(folder)
    frames, cuts = calibration(finder, options, side)
    made = {"find": _quantise(networks["find"], frames), "read": _quantise(networks["read"], cuts)}
    import openvino

    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    for name, network in made.items():
        openvino.save_model(network, fresh / f"{name}.xml")
    try:
        fresh.rename(folder)  # whole or not at all
    except OSError:
        shutil.rmtree(fresh)  # another process was first
    return {name: core.read_model(folder / f"{name}.xml") for name in networks}


def _quantise(network, samples: list[np.ndarray]):
    """Choose ranges from samples; matrix products (the attention pool) stay as they are: eight bits break them."""
    with _unreported():
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        return nncf.quantize(
            network,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(types=["MatMul"], validate=False),  # the finder has none
        )


@contextlib.contextmanager
def _unreported():
    """Keep both packages from reporting their use over the network: they ask this variable, and nothing else."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


@torch.inference_mode()
def calibration(finder: Finder, options: Glance, side: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return frames uint8 [1, H, W, 3] and batches of cuts uint8 [BATCH, h, w, 3] of rendered training photographs.

    The cuts are what the text map finds, good or bad: ranges set by clean words alone do not fit what it is shown.
    """
    gallery, _ = datasets.load("mini_train")
    frames, cuts = [], []
    for photo in gallery.photos[:CALIBRATION]:
        image = np.asarray(open_image(photo.path))
        small, scale = frame(image, side)
        frames.append(small[None])
        quads, _ = boxes.find(finder(torch.from_numpy(small)[None])[0].numpy(), STRIDE)
        cuts.append(cut_out(image, quads * scale, options))
    cuts = np.concatenate(cuts)
    if not len(cuts):
        raise ValueError("The text map finds nothing on rendered photographs: nothing to set ranges by. Use bfloat16.")
    step = max(1, len(cuts) // (CALIBRATION * BATCH))  # as many batches as frames, from all photographs
    cuts = cuts[np.arange(0, max(len(cuts), BATCH), step) % len(cuts)]
    return frames, [cuts[i : i + BATCH] for i in range(0, len(cuts) - BATCH + 1, BATCH)]

"""Networks in OpenVINO, which is faster than PyTorch on a CPU; the trunk of one vector a photograph among them."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
import warnings
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fdp_core.backbones import Backbone
from fdp_core.retrieval.fast_trunk import FastTrunk

if TYPE_CHECKING:
    import openvino


class OpenVinoMissing(ImportError):
    """The package of the fast engine is not installed."""


def installed() -> bool:
    """Say whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None


def require() -> None:
    """Raise :class:`OpenVinoMissing` where OpenVINO cannot be imported."""
    if not installed():
        raise OpenVinoMissing("engine='openvino' needs the package openvino: install requirements.txt, or 'torch'.")


def on_cpu(network: nn.Module) -> nn.Module:
    """Copy a network to the CPU: its parts are the model's own, which stay where they are."""
    return copy.deepcopy(network).eval().cpu()


def convert(network: nn.Module, shape: list[int], example: list[int]) -> openvino.Model:
    """Convert a network on uint8 images of a shape (-1: any size) to OpenVINO."""
    import openvino

    with warnings.catch_warnings(), torch.no_grad(), unreported():
        warnings.simplefilter("ignore")  # of tracing: sizes and a way to do it that will be replaced
        images = torch.zeros(example, dtype=torch.uint8)
        inputs = [(openvino.PartialShape(shape), openvino.Type.u8)]
        return openvino.convert_model(network, example_input=images, input=inputs)


@contextlib.contextmanager
def unreported() -> Iterator[None]:
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


class CompiledTrunk:
    """The frozen trunk of a backbone, compiled for this CPU, in float32: the same vectors on every processor.

    Raises:
        OpenVinoMissing: openvino is not installed.
    """

    def __init__(self, backbone: Backbone) -> None:
        require()
        import openvino

        model = convert(on_cpu(_Trunk(backbone)), [-1, -1, -1, 3], [1, 64, 64, 3])
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._request = compiled.create_infer_request()

    def __call__(self, images: np.ndarray) -> Tensor:
        """Return features float32 [B, C, G, G] of uint8 images [B, S, S, 3]."""
        found = self._request.infer([np.ascontiguousarray(images)], share_inputs=True, share_outputs=True)
        return torch.from_numpy(found[0].copy())


_trunks: weakref.WeakKeyDictionary[Backbone, CompiledTrunk] = weakref.WeakKeyDictionary()


def compiled_trunk(backbone: Backbone) -> CompiledTrunk:
    """Return a backbone's compiled trunk, compiled once: its weights are frozen."""
    if backbone not in _trunks:
        _trunks[backbone] = CompiledTrunk(backbone)
    return _trunks[backbone]


class _Trunk(nn.Module):
    """The trunk with the pixels' mean and deviation in it."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.trunk = FastTrunk(backbone.clip)
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.trunk.levels(x, 4)[-1]

"""How a second glance looks at a photograph: a frame for the text map, and one cut for each word that it shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core import attention, crops, regions
from fdp_core.backbones import STRIDE, Backbone
from fdp_core.fast_trunk import FastTrunk
from fdp_core.text_map import TextMap

CHUNK = 256  # cuts encoded at once
PRECISIONS = {"torch": ("float32", "bfloat16"), "openvino": ("float32", "bfloat16", "int8")}


@dataclass(frozen=True)
class Glance:
    """How the second glance looks.

    Attributes:
        limit: at most so many regions a photograph.
        thresholds: of the text map, in 0..1: the pieces above each of them are regions.
        same: overlap in 0..1 from which two regions are one.
        map_size: longer side of the frame that the text map sees, pixels; None takes the model's own input size.
        height: of a cut, pixels, a multiple of 32; ``width`` likewise.
        margin: what is added around a region on every side, in heights of the region.
        whole: does the photograph's own vector (FDP's) take part beside its regions? One without regions has it anyway.
        pooled: keep one vector a photograph, the mean of all of these, in place of all: as small as FDP's, less sure.
        engine: "torch", or "openvino" where that is installed (``make fast``): faster on a CPU.
        precision: "float32"; "bfloat16" where the processor computes in it; "int8" with OpenVINO. Other last digits.
    """

    limit: int = 96
    thresholds: tuple[float, ...] = regions.THRESHOLDS
    same: float = regions.SAME
    map_size: int | None = None
    height: int = 32
    width: int = 128
    margin: float = 0.0
    whole: bool = False
    pooled: bool = False
    engine: str = "torch"
    precision: str = "float32"

    def __post_init__(self) -> None:
        sides = {"map_size": self.map_size or STRIDE, "height": self.height, "width": self.width}
        for name, side in sides.items():
            if side < STRIDE or side % STRIDE:
                raise ValueError(f"Glance.{name} is {side}; expected a positive multiple of {STRIDE} pixels.")
        if self.limit < 1:
            raise ValueError(f"Glance.limit is {self.limit}; expected 1 or more regions.")
        if self.engine not in PRECISIONS:
            raise ValueError(f"Glance.engine is {self.engine!r}; expected one of {', '.join(PRECISIONS)}.")
        if self.precision not in PRECISIONS[self.engine]:
            known = ", ".join(PRECISIONS[self.engine])
            raise ValueError(f"Glance.precision is {self.precision!r}; {self.engine} has {known}.")


FAST = Glance(limit=32, thresholds=regions.FEW, same=0.65, engine="openvino", precision="int8")
"""The fastest glance that still reads: fewer regions, whole numbers of eight bits."""


def frame(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Resize a photograph so that its longer side is ``size`` and no bars are needed.

    Args:
        image: uint8 [h, w, 3].
        size: pixels, a multiple of 32.

    Returns:
        (uint8 [H, W, 3], both sides multiples of 32; what an x and a y of it are in the photograph, float32 [2]).
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    goal = [max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in (width, height)]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, goal, interpolation=how), np.array([width / goal[0], height / goal[1]], np.float32)


def cut_out(image: np.ndarray, quads: np.ndarray, glance: Glance) -> np.ndarray:
    """Cut regions (corners [R, 4, 2]) with their margin out of a photograph: uint8 [R, height, width, 3]."""
    if glance.margin:
        around = (glance.margin, glance.margin)
        quads = np.array([crops.grow(quad, around, around) for quad in quads], np.float32).reshape(-1, 4, 2)
    return crops.cut_all(image, quads, glance.height, glance.width)


class _Eye(nn.Module):
    """The frozen trunk behind CLIP's normalisation, on images as they are stored."""

    def __init__(self, backbone: Backbone, trunk: FastTrunk):
        super().__init__()
        self.trunk, self.half = trunk, trunk.dtype is torch.bfloat16
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(1, 3, 1, 1))
        self.to(backbone.device)

    def look(self, images: Tensor, count: int) -> list[Tensor]:
        """Return the first layers of uint8 images [B, H, W, 3]: [B, C_i, H / s, W / s], s = 4, 8, 16, 32."""
        x = (images.to(self.mean.device).permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.trunk.levels(x, count)


class Finder(_Eye):
    """Where are words? uint8 [B, H, W, 3], sides multiples of 32 -> probability float32 [B, H / 4, W / 4]."""

    def __init__(self, backbone: Backbone, trunk: FastTrunk, text_map: TextMap):
        super().__init__(backbone, trunk)
        self.text_map = text_map

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        with torch.autocast(self.mean.device.type, torch.bfloat16, enabled=self.half):
            logits = self.text_map(self.look(images, 3))
        return torch.sigmoid(logits.float())


class Reader(_Eye):
    """What does a word say? Cuts uint8 [R, h, w, 3] of one size -> unit vectors float32 [R, D], by CLIP's own pool."""

    def __init__(self, backbone: Backbone, trunk: FastTrunk, size: tuple[int, int]):
        super().__init__(backbone, trunk)
        self.pool = backbone.clip.visual.attnpool
        grid = size[0] // STRIDE, size[1] // STRIDE
        positions = attention.resize_positions(self.pool.positional_embedding.detach(), grid)
        self.register_buffer("positions", positions)

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        x = attention.tokens(self.look(images, 4)[-1].float(), self.positions)
        return F.normalize(attention.attention_pool(x, self.pool)[0], dim=-1)


class TorchEngine:
    """Runs both networks in PyTorch, on the backbone's device.

    Args:
        backbone: the frozen CLIP.
        text_map: its text map.
        glance: sizes and precision.
    """

    workers = 1  # PyTorch divides each photograph among all cores

    def __init__(self, backbone: Backbone, text_map: TextMap, glance: Glance):
        self.trunk = FastTrunk(backbone.clip, glance.precision)
        self._find = Finder(backbone, self.trunk, text_map).eval()
        self._sizes: dict[tuple[int, int], Reader] = {}
        self._backbone = backbone

    @torch.inference_mode()
    def find(self, image: np.ndarray) -> np.ndarray:
        """Map one frame: uint8 [H, W, 3] -> probability of words, float32 [H / 4, W / 4]."""
        return self._find(torch.from_numpy(image)[None])[0].cpu().numpy()

    @torch.inference_mode()
    def read(self, cuts: np.ndarray) -> np.ndarray:
        """Encode cuts of any one size, sides multiples of 32: uint8 [R, h, w, 3] -> unit vectors float32 [R, D]."""
        size = cuts.shape[1:3]
        if size not in self._sizes:  # the pool's position embedding is resized once for each
            self._sizes[size] = Reader(self._backbone, self.trunk, size).eval()
        parts = [self._sizes[size](part).cpu().numpy() for part in torch.from_numpy(cuts).split(CHUNK)]
        return np.concatenate(parts) if parts else np.zeros((0, self._backbone.embed_dim), np.float32)

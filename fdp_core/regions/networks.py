"""The two networks of the regions: the text map on a frame of the photograph, and the encoder of cuts."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core import attention
from fdp_core.backbones import STRIDE, Backbone
from fdp_core.regions.settings import Glance
from fdp_core.regions.text_map import TextMap
from fdp_core.retrieval.fast_trunk import FastTrunk

CHUNK = 256  # cuts encoded at once


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
        text_map: its text map; None: :meth:`find` is not used.
        options: sizes and precision.
    """

    workers = 1  # PyTorch divides each photograph among all cores

    def __init__(self, backbone: Backbone, text_map: TextMap | None, options: Glance):
        self.trunk = FastTrunk(backbone.clip, options.precision)
        self._find = text_map and Finder(backbone, self.trunk, text_map).eval()
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

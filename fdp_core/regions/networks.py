"""The two networks of the regions: the word finder on a frame of the photograph, and the reader of cuts."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core import attention
from fdp_core.backbones import STRIDE, Backbone
from fdp_core.regions import word_finder
from fdp_core.retrieval.fast_trunk import FastTrunk

CHUNK = 256  # cuts encoded at once


class Reader(nn.Module):
    """What does a word say? Cuts uint8 [R, h, w, 3] of one size -> unit vectors float32 [R, D], by CLIP's own pool.

    ``trunk`` is the backbone's, BatchNorm folded in, ``size`` height and width of a cut, pixels, multiples of 32.
    """

    def __init__(self, backbone: Backbone, trunk: FastTrunk, size: tuple[int, int]):
        super().__init__()
        self.trunk, self.pool = trunk, backbone.clip.visual.attnpool
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(1, 3, 1, 1))
        grid = size[0] // STRIDE, size[1] // STRIDE
        positions = attention.resize_positions(self.pool.positional_embedding.detach(), grid)
        self.register_buffer("positions", positions)
        self.to(backbone.device)

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        x = (images.to(self.mean.device).permute(0, 3, 1, 2).float() - self.mean) / self.std
        x = attention.tokens(self.trunk.levels(x, 4)[-1].float(), self.positions)
        return F.normalize(attention.attention_pool(x, self.pool)[0], dim=-1)


class TorchEngine:
    """Runs both networks in PyTorch on the reader's device; ``precision``: "float32" or "bfloat16"."""

    workers = 1  # PyTorch divides each photograph among all cores

    def __init__(self, finder: word_finder.WordFinder, reader: Backbone, precision: str = "float32"):
        self._finder, self._backbone, self.precision = finder.to(reader.device), reader, precision
        self._trunk = FastTrunk(reader.clip, precision)
        self._sizes: dict[tuple[int, int], Reader] = {}

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        """Return the finder's grids of one frame: uint8 [H, W, 3] -> float32 [7, H / s, W / s], s = 8, 16, 32."""
        return word_finder.predict(self._finder, image, self.precision == "bfloat16")

    @torch.inference_mode()
    def read(self, cuts: np.ndarray) -> np.ndarray:
        """Encode cuts of any one size, sides multiples of 32: uint8 [R, h, w, 3] -> unit vectors float32 [R, D]."""
        size = cuts.shape[1:3]
        if size not in self._sizes:  # the pool's position embedding is resized once for each
            self._sizes[size] = Reader(self._backbone, self._trunk, size).eval()
        parts = [self._sizes[size](part).cpu().numpy() for part in torch.from_numpy(cuts).split(CHUNK)]
        return np.concatenate(parts) if parts else np.zeros((0, self._backbone.embed_dim), np.float32)

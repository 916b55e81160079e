"""The frozen trunk made fast: BatchNorm folded into the convolutions, channels last, bfloat16 where asked."""

from __future__ import annotations

import copy

import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fdp_core.backbones import run_levels

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class FastTrunk(nn.Module):
    """A frozen copy of a CLIP ResNet's stem and layers 1-4.

    Args:
        clip: the CLIP; it is not changed.
        precision: "float32" gives the trunk's own result up to rounding; "bfloat16" keeps 8 bits of each number.

    Raises:
        ValueError: the precision is another one.
    """

    def __init__(self, clip: CLIP, precision: str = "float32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
        visual = copy.deepcopy(clip.visual).eval()
        visual.attnpool = nn.Identity()
        for module in visual.modules():
            _fold(module)
        self.dtype = PRECISIONS[precision]
        self.visual = visual.to(self.dtype).to(memory_format=torch.channels_last).requires_grad_(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Return layers 1-4 of normalised images [B, 3, H, W]: [B, C_i, H / s, W / s], s = 4, 8, 16, 32, own dtype."""
        return self.levels(images, 4)

    def levels(self, images: Tensor, count: int) -> list[Tensor]:
        """Return the first ``count`` of these layers; for a caller that traces them or stops early."""
        return run_levels(self, images.to(self.dtype).contiguous(memory_format=torch.channels_last), count)


def _fold(module: nn.Module) -> None:
    """Fold the BatchNorms of one stem, bottleneck or shortcut into the convolutions before them."""
    for i in (1, 2, 3):
        conv, norm = getattr(module, f"conv{i}", None), getattr(module, f"bn{i}", None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, f"conv{i}", fuse_conv_bn_eval(conv, norm))
            setattr(module, f"bn{i}", nn.Identity())
    if isinstance(module, nn.Sequential):
        names = list(module._modules)
        for first, second in zip(names, names[1:]):
            conv, norm = module._modules[first], module._modules[second]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[first] = fuse_conv_bn_eval(conv, norm)
                module._modules[second] = nn.Identity()

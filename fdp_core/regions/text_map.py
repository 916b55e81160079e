"""Where text is written, at a quarter of the pixels: the localiser at a finer stride (B5), for finding single words.

FDP's localiser sees the trunk's last features, one cell for 32 x 32 pixels: enough to shift attention, too coarse to
tell one word from the next. This one reads layers 1-3 of the same frozen trunk; its target is of the same kind,
word polygons shrunk by a Vatti offset, so that neighbouring words do not touch.
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core.backbones import Backbone
from fdp_core.files import atomic_write_bytes
from fdp_core.losses import localisation
from fdp_core.weights import MINI_WEIGHTS, state_hash

STRIDE = 4  # pixels per cell of the map
SHIPPED = MINI_WEIGHTS.with_name("mini_text_map.safetensors")
FORMAT = "fdp-text-map-1"


class TextMapMissing(FileNotFoundError):
    """There is no text map for a backbone."""


class TextMap(nn.Module):
    """A small feature pyramid on the frozen trunk's layers 1-3.

    Args:
        widths: channels of the trunk's layers 1-3.
        hidden: channels of the pyramid.

    Source: FDP section 3.2 (text localisation network) at a finer stride (defect B5); feature pyramid and shrunk
    kernels as in text detection (PSENet, DB).
    """

    def __init__(self, widths: tuple[int, ...], hidden: int = 48) -> None:
        super().__init__()
        self.widths, self.hidden = tuple(widths), hidden
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for width in widths)
        self.reduce = nn.ModuleList(nn.Conv2d(width, hidden, 1) for width in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(hidden, hidden, 3, padding=1) for _ in widths[:-1])
        self.last = nn.Conv2d(hidden, 1, 3, padding=1)
        nn.init.constant_(self.last.bias, -2.0)  # most cells hold no text

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return text logits, float [B, H/4, W/4], of the trunk's layers at strides 4, 8, 16; later ones are unused."""
        sides = [reduce(norm(x)) for reduce, norm, x in zip(self.reduce, self.norms, levels)]
        x = sides[-1]
        for side, smooth in zip(sides[-2::-1], self.smooth):
            x = F.relu(smooth(F.relu(side + F.interpolate(x, size=side.shape[2:], mode="nearest"))))
        return self.last(x)[:, 0]


def loss(logits: Tensor, target: Tensor, ignore: Tensor) -> Tensor:
    """Return balanced cross-entropy plus the overlap (Dice) of map and target, which small words count in: a scalar.

    Args:
        logits: float [B, H, W].
        target: float [B, H, W] in 0..1: the share of a cell that shrunk words cover.
        ignore: bool [B, H, W], cells that are not judged.
    """
    seen = torch.sigmoid(logits) * ~ignore
    wanted = target * ~ignore
    dims = (1, 2)
    overlap = 1 - (2 * (seen * wanted).sum(dims) + 1) / (seen.square().sum(dims) + wanted.square().sum(dims) + 1)
    return localisation(logits, target, ignore) + overlap.mean()


def lower_hash(backbone: Backbone) -> str:
    """Return the sha256 (hex) of all that a text map depends on: the trunk's stem and layers 1-3, in half precision."""
    upper = ("layer4.", "attnpool.")
    state = backbone.clip.visual.state_dict()
    state = {name: value for name, value in state.items() if not name.startswith(upper)}
    return state_hash({k: v.half() if v.is_floating_point() else v for k, v in state.items()})


def save(path: str | Path, text_map: TextMap, backbone: Backbone, facts: dict | None = None) -> Path:
    """Write a text map (half precision) with the hash of the layers that it reads, whole or not at all."""
    described = {"format": FORMAT, "lower_hash": lower_hash(backbone), "widths": list(text_map.widths)}
    described |= {"hidden": text_map.hidden, **(facts or {})}
    state = {k: v.half() if v.is_floating_point() else v for k, v in text_map.state_dict().items()}
    state = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    return atomic_write_bytes(path, safetensors.torch.save(state, {"text_map": json.dumps(described)}))


def load(backbone: Backbone, path: str | Path | None = None) -> TextMap:
    """Read the text map of a backbone, in eval mode, on its device.

    Args:
        backbone: the frozen trunk that it reads.
        path: the file; None is the one that comes with ``mini``.

    Raises:
        TextMapMissing: there is none for this backbone, or it was trained on other weights.
        ValueError: the file is damaged or is no text map.
    """
    path = Path(path) if path else SHIPPED
    make = f"python -m fdp_core.mini.pretrain_text_map --backbone {backbone.name} --bank BANK --out FILE"
    if not path.is_file():
        raise TextMapMissing(f"There is no text map {path}; region vectors need one. Make it: {make}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["text_map"])
            digest = facts["lower_hash"]
            if facts["format"] != FORMAT:
                raise ValueError(f"its format is {facts['format']!r}, not {FORMAT!r}")
            state = {name: file.get_tensor(name) for name in file.keys()}
        text_map = TextMap(tuple(facts["widths"]), facts["hidden"])
        text_map.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} holds no text map, or is damaged ({error}). Make it again: {make}") from error
    if digest != lower_hash(backbone):
        raise TextMapMissing(
            f"{path} was trained on a trunk whose layers 1-3 have the hash {digest[:12]}..., not on {backbone.name}'s "
            f"with {lower_hash(backbone)[:12]}... Make one for it: {make}"
        )
    return text_map.eval().requires_grad_(False).to(backbone.device)

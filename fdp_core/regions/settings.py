"""How regions look at a photograph: a frame for the text map, and one cut for each word that it shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fdp_core.backbones import STRIDE
from fdp_core.regions import boxes, crops

PRECISIONS = {"torch": ("float32", "bfloat16"), "openvino": ("float32", "bfloat16", "int8")}


@dataclass(frozen=True)
class Glance:
    """Region options: how regions are found, cut and encoded.

    The name and the repr of this class are part of the hashes in records.

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
    thresholds: tuple[float, ...] = boxes.THRESHOLDS
    same: float = boxes.SAME
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


FAST = Glance(limit=32, thresholds=boxes.FEW, same=0.65, engine="openvino", precision="int8")
"""The fastest options that still read: fewer regions, whole numbers of eight bits."""


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


def cut_out(image: np.ndarray, quads: np.ndarray, options: Glance) -> np.ndarray:
    """Cut regions (corners [R, 4, 2]) with their margin out of a photograph: uint8 [R, height, width, 3]."""
    if options.margin:
        around = (options.margin, options.margin)
        quads = np.array([crops.grow(quad, around, around) for quad in quads], np.float32).reshape(-1, 4, 2)
    return crops.cut_all(image, quads, options.height, options.width)

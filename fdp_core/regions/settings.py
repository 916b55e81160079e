"""How regions look at a photograph: a frame for the word finder, and one cut for each word that it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_type_hints

import cv2
import numpy as np
from pydantic import Field

from fdp_core.backbones import STRIDE
from fdp_core.config import Count, Size, check


@dataclass(frozen=True)
class RegionOptions:
    """How regions are found, cut and encoded. The defaults were chosen on SVT train and held-out training photographs.

    Attributes:
        limit: at most so many regions a photograph, the surest.
        min_score: how sure the finder has to be of a region, in 0..1.
        sizes: longer sides of the frames that the finder sees, pixels; several are put together.
        height: of a cut, pixels, a multiple of 32; ``width`` likewise.
        turns: look at the photograph turned by 90, 180 and 270 degrees as well, in four times the time.
        pooled: keep one vector a photograph, the mean of all of these, in place of all: as small as FDP's, less sure.
        engine: "torch"; "openvino", faster on a CPU; "auto": OpenVINO where it is installed and the model is on a CPU.
        precision: "float32"; "bfloat16", with other last digits; "eight bits", OpenVINO's alone, the fastest, measured
            with the reader of ``mini``; "auto": eight bits with OpenVINO, bfloat16 on GPUs, else
            float32.

    Raises:
        ValueError: a value is outside its range.
    """

    limit: Count = 40
    min_score: Annotated[float, Field(gt=0, lt=1, description="a number between 0 and 1")] = 0.15
    sizes: Annotated[tuple[int, ...], Field(min_length=1, description="the longer side of one frame or more")] = (960,)
    height: Size = 32
    width: Size = 128
    turns: bool = False
    pooled: bool = False
    engine: Literal["auto", "torch", "openvino"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "eight bits"] = "auto"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(RegionOptions, include_extras=True).items():
            check(f"RegionOptions.{name}", getattr(self, name), kind)
        for number, side in enumerate(self.sizes):
            check(f"RegionOptions.sizes[{number}]", side, Size)


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

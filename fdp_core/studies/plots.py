"""Maps and regions over photographs, for the chapters that do not draw them in their cells yet."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from fdp_core.retrieval.geometry import Geometry
from fdp_core.studies.figures import BLUE, ORANGE, map_over_photograph, ranked_photographs, style

retrieval_grid, map_overlay = ranked_photographs, map_over_photograph


def attention_overlay(
    image: Image.Image, attention: ArrayLike, placed: Geometry, ax: Axes | None = None, title: str = "attention"
) -> Axes:
    """Draw attention [H, L] as a multiple of even attention over its photograph."""
    return map_over_photograph(image, attention, placed, ax, title, "attention / uniform")


def localiser_overlay(
    image: Image.Image, logits: Tensor, placed: Geometry, ax: Axes | None = None, title: str = "text map"
) -> Axes:
    """Draw the localiser's logits [G, G] as probabilities over their photograph."""
    return map_over_photograph(image, logits.detach().cpu().sigmoid(), placed, ax, title, "P(text)", (0.0, 1.0))


@style()
def regions_overlay(
    image: Image.Image, quads: np.ndarray, cosines: np.ndarray, ax: Axes | None = None, title: str = "regions"
) -> Axes:
    """Draw regions [R, 4, 2], pixels of the photograph; that with the largest of R cosines is thick and tells it."""
    if ax is None:
        _, ax = plt.subplots(figsize=(4, 4 * image.height / image.width))
    ax.imshow(image)
    best = int(np.argmax(cosines)) if len(cosines) else -1
    for i, quad in enumerate(quads):
        colour, width = (ORANGE, 2.5) if i == best else (BLUE, 1.0)
        ax.add_patch(plt.Polygon(quad, fill=False, color=colour, linewidth=width))
    ax.set_title(f"{title}, cosine {float(cosines[best]):.2f}" if best >= 0 else title)
    ax.set_axis_off()
    return ax

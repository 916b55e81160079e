"""The style under the names by which older figures take it; new ones take it from :mod:`fdp_core.studies.figures`."""

from __future__ import annotations

import matplotlib.pyplot as plt

from fdp_core.studies.figures import BLACK, BLUE, GREEN, ORANGE, PALETTE, PURPLE, RED, SKY, STYLE
from fdp_core.studies.figures import style as figure_style

__all__ = ["BLACK", "BLUE", "DASHES", "GREEN", "ORANGE", "PALETTE", "PURPLE", "RED", "SKY", "figure_style", "use_style"]
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))


def use_style() -> None:
    """Switch the style on for a whole notebook."""
    plt.style.use(STYLE)

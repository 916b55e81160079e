"""The one look of all figures: colour-blind-safe, readable on paper and on dark pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import matplotlib as mpl

# Okabe & Ito's palette: told apart with every common colour vision.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, RED, SKY, PURPLE, BLACK)
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MAP = "viridis"  # even steps of lightness: reads the same in grey
_STYLE = {
    "figure.facecolor": "white",  # opaque: axis labels stay readable on a dark page
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "image.cmap": MAP,
    "legend.frameon": False,
    "svg.hashsalt": "fdp",  # the same figure gives the same file
}


def use_style() -> None:
    """Switch the one style on for the whole notebook."""
    mpl.rcParams.update(_STYLE)


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Draw inside in the one style, and leave the user's own as it was."""
    interactive = mpl.is_interactive()
    try:
        with mpl.rc_context(_STYLE):
            try:
                yield
            finally:
                # The first figure may load the notebook's backend, which switches this on; to take it back would leave
                # all later figures of the notebook undrawn.
                interactive = mpl.is_interactive()
    finally:
        mpl.interactive(interactive)

"""What several chapters draw: photographs found, maps over photographs, values with intervals; all in one style.

A chapter switches the style on with ``plt.style.use(figures.STYLE)``. The functions use it by themselves.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from fdp_core.datasets import images
from fdp_core.retrieval.geometry import Geometry
from fdp_core.retrieval.index import Hit

STYLE = Path(__file__).with_name("book.mplstyle")  # text.parse_math is off: queries and names are drawn as written
pd.set_option("display.html.use_mathjax", False)  # and so they stand in tables
PALETTE = BLUE, ORANGE, GREEN, RED, SKY, PURPLE, BLACK = (  # Okabe and Ito: safe for colour-blind readers
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000",
)  # fmt: skip
GREY = "#666666"
MARKERS = "osD^vP*"
HATCHES = ("", "//", "..", "xx", "\\\\")
DASHES = ((), (4, 2), (1, 1.5), (4, 1.5, 1, 1.5), (6, 1, 1, 1, 1, 1), (8, 2), (2, 1))  # as seaborn takes them
_ROW = """<style>
.fdp-row { display: flex; flex-wrap: wrap; gap: 8px; min-height: 9em; }
.fdp-row summary { list-style: none; cursor: zoom-in; }
.fdp-row [open] summary { cursor: zoom-out; }
.fdp-row [open] img { width: 480px; max-width: 100%; }
.fdp-row img { margin: 0; }
</style>"""
_THUMBNAIL = 240  # pixels of the long side: keeps executed notebooks small


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw inside in the style of the book, and restore the caller's style afterwards."""
    interactive = mpl.is_interactive()
    try:
        with plt.style.context(STYLE):
            yield
            # The first figure may load the notebook's backend, which switches this on: it stays on for later figures.
            interactive = mpl.is_interactive()
    finally:
        mpl.interactive(interactive)


@style()
def ranked_photographs(
    hits: Sequence[Hit], query: str, relevant: Sequence[bool] | None = None, columns: int = 5,
    show: bool = True, attribution: str = "",
) -> Figure:  # fmt: skip
    """Draw found photographs in rank order, each with rank, score and, where known, whether it is right.

    Args:
        hits: K results, best first.
        query: the text searched for.
        relevant: K truth values: green frame and ✓, or red frame and ✗; None where nobody knows.
        columns: photographs a row. attribution: line under the figure.
        show: False draws ids in place of photographs that may not be shown in public.

    Raises:
        ValueError: there are no hits, or ``relevant`` has another length.
    """
    if not hits:
        raise ValueError("Nothing to draw: there are no hits.")
    if relevant is not None and len(relevant) != len(hits):
        raise ValueError(f"{len(hits)} hits but {len(relevant)} truth values.")
    columns = min(columns, len(hits))
    lines = math.ceil(len(hits) / columns)
    pictures = [_picture(hit.path, _THUMBNAIL) if show else None for hit in hits]
    tall = max(picture.height / picture.width if picture else 1.0 for picture in pictures)
    size = (2.1 * columns, (2.0 * min(tall, 1.4) + 0.35) * lines + 0.5)
    fig, axs = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for ax in axs.flat[len(hits) :]:
        ax.set_axis_off()
    for number, (ax, hit, picture) in enumerate(zip(axs.flat, hits, pictures)):
        colour, mark = "#888888", ""
        if relevant is not None:
            colour, mark = (GREEN, "✓") if relevant[number] else (RED, "✗")
        if picture is None:
            ax.set(xlim=(0, 1), ylim=(0, 1), facecolor="#eeeeee")
            ax.text(0.5, 0.5, f"{hit.id}\n(not shown:\nlicence)", ha="center", va="center", fontsize=7)
        else:
            ax.imshow(picture)
        ax.grid(False)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=colour, linewidth=4 if mark else 1)
        ax.set_title(f"{number + 1}  {mark}  {hit.score:.3f}", color=colour if mark else BLACK)
    fig.suptitle(f"query: {query!r}")
    if attribution:
        fig.supxlabel(attribution, fontsize=7)
    return fig


def thumbnails(hits: Sequence[Hit], nothing: str = "nothing found") -> str:
    """Return a row of small photographs as HTML, each with its score and the region that answered; a click enlarges it.

    Args:
        hits: best first.
        nothing: what to say where there are none, as plain text.
    """
    cells = []
    for hit in hits:
        name = html.escape(hit.id)
        try:
            picture, scale = _small(hit.path)
        except images.CorruptImage:
            cells.append(f"<div>{name}<br>is gone or broken</div>")
            continue
        if hit.corners is not None:
            picture = picture.copy()
            quad = hit.corners * scale
            quad += 4 * np.sign(quad - quad.mean(0))  # around the word, not over it
            ring = [tuple(point) for point in quad[[0, 1, 2, 3, 0, 1]].tolist()]
            for colour, width in ((BLACK, 6), (ORANGE, 4)):  # to be seen on any ground
                ImageDraw.Draw(picture).line(ring, colour, width, joint="curve")
        picture.save(jpeg := io.BytesIO(), "JPEG", quality=75)
        source = base64.b64encode(jpeg.getvalue()).decode()
        image = f'<img width="150" alt="{name}" title="{name}" src="data:image/jpeg;base64,{source}">'
        cells.append(f"<details><summary>{image}<br>{hit.score:.2f}</summary>{name}</details>")
    row = "".join(cells) or html.escape(nothing)
    return f'{_ROW}<div class="fdp-row tex2jax_ignore mathjax_ignore">{row}</div>'  # names are no formulas


@functools.lru_cache(1024)  # a search box asks for the same ones at each letter
def _small(path: Path, side: int = 480) -> tuple[Image.Image, float]:
    """Return a photograph of at most ``side`` pixels, and by how much it was shrunk."""
    whole = images.open_image(path)
    small = _picture(whole, side)
    return small, small.width / whole.width


@style()
def map_over_photograph(
    image: str | Path | Image.Image | np.ndarray, values: ArrayLike, geometry: Geometry, ax: Axes | None = None,
    title: str = "", label: str = "", limits: tuple[float, float] | None = None, alpha: float = 0.75
) -> Axes:  # fmt: skip
    """Draw a map of the trunk's grid over its photograph, in the photograph's own pixels.

    Args:
        image: file, PIL image or uint8 [H, W, 3].
        values: float [G, G]; or attention [heads, 1 + G * G] or [1 + G * G], mean token first: its mean over heads is
            drawn without the mean token, as a multiple of even attention.
        geometry: how the photograph was placed on the square input.
        ax: where to draw; None makes a figure.
        title: of the panel. label: of the colour bar; "" for none.
        limits: values of the first and the last colour; None for the map's own.
        alpha: opacity of the highest value, 0-1; 0 shows the photograph alone.

    Raises:
        ValueError: attention over a number of tokens that is no square grid and a mean token.
    """
    picture, values = _picture(image), _grid(values)
    (left, top), (right, bottom) = geometry.invert(np.array([[0, 0], [geometry.size, geometry.size]], float))
    low, high = limits or (float(values.min()), float(values.max()))
    if ax is None:
        _, ax = plt.subplots(figsize=(4.6, 3.6))
    # The stored picture is small; its coordinates stay those of the photograph.
    ax.imshow(_picture(picture, 640), extent=(0, picture.width, picture.height, 0))
    drawn = ax.imshow(
        values,
        extent=(left, right, bottom, top),
        alpha=alpha * (0.15 + 0.85 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)),
        **{"vmin": low, "vmax": max(high, low + 1e-12), "interpolation": "bilinear"},
    )
    ax.grid(False)
    ax.set(xlim=(0, picture.width), ylim=(picture.height, 0), title=title, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if label:
        ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.8)
    return ax


@style()
def forest(
    table: pd.DataFrame, x: str, y: str, hue: str | None = None, reference: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw values with their intervals as points in lines, the first line at the top.

    Args:
        table: one row a point, with columns ``x`` (value), ``from``, ``to`` (ends of its interval) and ``y`` (name of
            its line); a missing value leaves its place empty.
        x: column of the values. y: column of the names.
        hue: column by which the points of one line differ, drawn in other colours and marks; None for one point a line.
        reference: value marked by a dashed line. ax: where to draw; None makes a figure.
    """
    names, kinds = list(table[y].unique()), [None] if hue is None else list(table[hue].unique())
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, (0.16 + 0.07 * len(kinds)) * len(names) + 1.1))
    gap = 0.7 / len(kinds)
    for number, kind in enumerate(kinds):
        part = table if kind is None else table[table[hue] == kind]
        value, low, high = part[[x, "from", "to"]].to_numpy(float).T
        at = np.array([names.index(name) for name in part[y]]) + (number - (len(kinds) - 1) / 2) * gap
        colour = PALETTE[number % len(PALETTE)]
        ax.hlines(at, low, high, color=colour, linewidth=1.4)
        ax.plot(value, at, MARKERS[number % len(MARKERS)], color=colour, markersize=5, label=kind)
    if reference is not None:
        ax.axvline(reference, color=GREY, linestyle="--", linewidth=1)
    ax.set_yticks(range(len(names)), [str(name) for name in names])
    ax.set(xlabel=x, ylim=(len(names) - 0.4, -0.6))
    ax.grid(axis="y", visible=False)
    if hue is not None:
        ax.legend(fontsize=8)
    return ax


@style()
def curves(
    table: pd.DataFrame, x: str, y: str, hue: str | None = None, reference: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw values over a setting, one line a kind, told apart by colour, marks and dashes, with their intervals.

    Args:
        table: one row a point, with columns ``x`` and ``y``; where it has ``from`` and ``to``, a band shows them.
        x: column of the setting. y: column of the values.
        hue: column of the kinds; None for one line.
        reference: value of ``y`` marked by a dashed line. ax: where to draw; None makes a figure.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(5.8, 3.5))
    kinds = [None] if hue is None else list(table[hue].unique())
    look = {"palette": PALETTE[: len(kinds)], "dashes": DASHES[: len(kinds)], "markers": MARKERS[: len(kinds)]}
    names = {"hue": hue, "style": hue, "hue_order": kinds, "style_order": kinds, **look} if hue else {"marker": "o"}
    sns.lineplot(table, x=x, y=y, errorbar=None, ax=ax, **names)
    for number, kind in enumerate(kinds):
        part = (table if kind is None else table[table[hue] == kind]).sort_values(x)
        if "from" in part:
            band = part[[x, "from", "to"]].to_numpy(float).T
            ax.fill_between(*band, color=PALETTE[number % len(PALETTE)], alpha=0.15, linewidth=0)
    if reference is not None:
        ax.axhline(reference, color=GREY, linestyle="--", linewidth=1)
    if hue is not None:
        ax.legend(fontsize=8)
    return ax


def _picture(source: str | Path | Image.Image | np.ndarray, long_side: int | None = None) -> Image.Image:
    """Return an RGB image, shrunk to at most ``long_side`` pixels."""
    if isinstance(source, np.ndarray):
        source = Image.fromarray(source)
    image = source.convert("RGB") if isinstance(source, Image.Image) else images.open_image(source)
    if long_side:
        image = image.copy()
        image.thumbnail((long_side, long_side))
    return image


def _grid(values: ArrayLike) -> np.ndarray:
    """Return a map [G, G], or attention as such a map over even attention."""
    values = np.asarray(values, float)
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        return values
    cells = values.reshape(-1, values.shape[-1]).mean(axis=0)[1:]
    side = math.isqrt(cells.size)
    if side * side != cells.size:
        raise ValueError(f"{cells.size + 1} tokens are no square grid and a mean token.")
    return cells.reshape(side, side) / cells.mean()

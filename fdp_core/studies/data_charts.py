"""Figures of data sets: what their words are like, what their photographs show, how far training and test are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from fdp_core.datasets.images import CorruptImage, open_image
from fdp_core.studies.figure_style import BLACK, BLUE, DASHES, ORANGE, PALETTE, SKY, figure_style

_HATCHES = (None, "//", "..", "xx", "\\\\")
_THUMB = 320  # pixels: long side of a photograph in a sample; keeps executed notebooks small


def word_length_bars(lengths: Mapping[str, Sequence[int]], longest: int = 15) -> Figure:
    """Draw how many of the words of each set have so many characters.

    Args:
        lengths: set -> characters of each of its words.
        longest: longer words share the last bar.

    Returns:
        The figure; the bars of a set sum to 100 %.

    Raises:
        ValueError: a set has no words.
    """
    _check(lengths, "words")
    places, width = np.arange(1, longest + 1), 0.8 / len(lengths)
    with figure_style():
        fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
        for number, (name, values) in enumerate(lengths.items()):
            share = np.bincount(np.clip(values, 1, longest), minlength=longest + 1)[1:] / len(values)
            shift = (number - (len(lengths) - 1) / 2) * width
            ax.bar(
                places + shift,
                100 * share,
                0.95 * width,
                label=f"{name} ({len(values):,} words)",
                color=PALETTE[number % len(PALETTE)],
                hatch=_HATCHES[number % len(_HATCHES)],
                edgecolor="white",
            )
        ticks = [*map(str, places[:-1]), f"{longest}+"]
        ax.set(
            xlabel="length of the word, characters", ylabel="share of the words, %", xticks=places, xticklabels=ticks
        )
        ax.grid(axis="x", visible=False)
        ax.legend()
    return fig


def text_height_curves(heights: Mapping[str, Sequence[float]], size: int, cell: int = 32) -> Figure:
    """Draw which share of the words of each set is at most so tall in the model's input.

    Args:
        heights: set -> height of each of its words, pixels of the input.
        size: side of the square input, pixels.
        cell: side of a cell of the trunk's grid, pixels; a line marks it.

    Returns:
        The figure, its horizontal axis logarithmic.

    Raises:
        ValueError: a set has no words.
    """
    _check(heights, "words")
    with figure_style():
        fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
        for number, (name, values) in enumerate(heights.items()):
            tall = np.sort(np.maximum(np.asarray(values, float), 0.5))  # nothing is left of zero on this axis
            ax.step(
                np.concatenate([tall[:1], tall]),
                100 * np.arange(len(tall) + 1) / len(tall),
                where="post",
                label=f"{name} (median {np.median(tall):.0f} pixels)",
                color=PALETTE[number % len(PALETTE)],
                linestyle=DASHES[number % len(DASHES)],
            )
        ax.axvline(cell, color=BLACK, linewidth=1, linestyle=(0, (1, 2)))
        ax.text(cell * 1.05, 3, f"one cell, {cell} pixels", fontsize=8)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.set(
            xlabel=f"height of the word, pixels at an input of {size} x {size}",
            ylabel="share of the words, %",
            ylim=(0, 100),
        )
        ax.legend(loc="upper left")
    return fig


def sample_grid(photos: Sequence[Any], show: bool, columns: int = 4, attribution: str = "", words: int = 3) -> Figure:
    """Draw photographs with the outlines of their words; don't-care regions are thin and dashed.

    Args:
        photos: with ``id``, ``path`` and ``words`` (:class:`fdp_core.datasets.Photo`).
        show: False draws the outlines on an empty ground: photographs that may not be shown in public.
        columns: photographs a row.
        attribution: line under the figure.
        words: at most so many words in the title of a photograph.

    Returns:
        The figure; a photograph that cannot be read says so.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not photos:
        raise ValueError("Nothing to draw: there are no photographs.")
    columns = min(columns, len(photos))
    lines = math.ceil(len(photos) / columns)
    with figure_style():
        fig, axs = plt.subplots(
            lines, columns, figsize=(2.6 * columns, 2.4 * lines), squeeze=False, layout="constrained"
        )
        for ax in axs.flat:
            ax.set_axis_off()
        for ax, photo in zip(axs.flat, photos):
            legible = [word.text for word in photo.words if not word.ignore]
            more = f" + {len(legible) - words}" if len(legible) > words else ""
            ax.set_title(f"{photo.id}\n{_short(' | '.join(legible[:words]))}{more}", fontsize=7)
            try:
                image = open_image(photo.path)
            except CorruptImage:
                ax.text(0.5, 0.5, "cannot be read", ha="center", va="center", transform=ax.transAxes, fontsize=8)
                continue
            width, height = image.size
            image.thumbnail((_THUMB, _THUMB))
            ax.imshow(image if show else np.full((1, 1, 3), 235, np.uint8), extent=(0, width, height, 0))
            for word in photo.words:
                outline = np.vstack([word.polygon, word.polygon[:1]])
                style = {"color": SKY, "linewidth": 0.8, "linestyle": "--"} if word.ignore else {"color": ORANGE}
                ax.plot(*outline.T, **style)
            ax.set(xlim=(0, width), ylim=(height, 0))
        if attribution:
            fig.supxlabel(attribution, fontsize=7)
    return fig


def nearest_histogram(bits: Sequence[int], distance: int, most: int = 256) -> Figure:
    """Draw how far test photographs are from the nearest training photograph.

    Args:
        bits: of each test photograph, differing bits of its hash.
        distance: at most so many count as the same photograph; a line marks it.
        most: bits of the hash.

    Returns:
        The figure.

    Raises:
        ValueError: there are no photographs.
    """
    _check({"the test set": bits}, "photographs")
    edges = np.arange(0, most // 2 + 9, 4)
    with figure_style():
        fig, ax = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
        ax.hist(np.clip(bits, 0, edges[-1]), bins=edges, color=BLUE, edgecolor="white")
        ax.axvline(distance, color=BLACK, linestyle="--", linewidth=1)
        ax.text(distance - 2, 0.97, "taken for the same", ha="right", va="top", transform=ax.get_xaxis_transform())
        ax.text(distance + 2, 0.97, "taken for another", va="top", transform=ax.get_xaxis_transform())
        ax.set(
            xlabel=f"bits of {most} that differ from the nearest training photograph",
            ylabel="test photographs",
            xlim=(0, edges[-1]),
        )
    return fig


def _check(values: Mapping[str, Sequence[Any]], what: str) -> None:
    if not values:
        raise ValueError("Nothing to draw: there are no sets.")
    if empty := [name for name, items in values.items() if len(items) == 0]:
        raise ValueError(f"Nothing to draw: {empty[0]} has no {what}.")


def _short(text: str, most: int = 34) -> str:
    # dollar signs would begin a formula
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")

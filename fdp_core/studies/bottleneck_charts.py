"""Figures of the two bottlenecks: mAP over input size and text height, and signs against pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from fdp_core.datasets import images
from fdp_core.evaluation import metrics
from fdp_core.studies.figure_style import BLUE, DASHES, GREEN, ORANGE, PALETTE, figure_style

_GREY = "#666666"
_MARKERS = "osD^vP*X"


def size_curves(curves: Mapping[str, Any], chance: Mapping[str, float], native: int | None = None) -> Figure:
    """Draw mAP against the side of the input.

    Args:
        curves: what a line shows -> DataFrame, index the sides in pixels, columns ``mAP`` and, where there are
            intervals, ``from`` and ``to``; all in %.
        chance: the same names -> mAP of a random order, %; dotted.
        native: the size that the backbone was built for, pixels; marked.
    """
    with figure_style():
        fig, ax = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
        for number, (name, table) in enumerate(curves.items()):
            style = {"color": PALETTE[number], "marker": _MARKERS[number], "linestyle": DASHES[number]}
            ax.plot(table.index, table["mAP"], label=name, **style)
            if "from" in table:
                ax.fill_between(table.index, table["from"], table["to"], color=PALETTE[number], alpha=0.15, linewidth=0)
            if name in chance:
                ax.axhline(chance[name], color=PALETTE[number], linestyle=":", linewidth=1)
        if native is not None:
            ax.axvline(native, color=_GREY, linewidth=1, linestyle=(0, (1, 1)))
            ax.text(native, 1.01, "native", transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)
        sizes = sorted({int(size) for table in curves.values() for size in table.index})
        ax.set(xlabel="side of the square input, pixels (dotted: chance)", ylabel="mAP, %", ylim=(0, None))
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.legend(loc="best")
    return fig


def bin_names(table: Any, unit: str = "") -> list[str]:
    """Name the bins of :func:`fdp_core.studies.bottlenecks.by_height`: ``below 16``, ``16-24``, ``from 54``."""
    names = []
    for low, high in zip(table["low"], table["high"]):
        name = f"below {high:g}" if low == 0 else f"from {low:g}" if np.isinf(high) else f"{low:g}-{high:g}"
        names.append(name + unit)
    return names


def height_bars(table: Any) -> Figure:
    """Draw mAP by the height of the searched word, from :func:`fdp_core.studies.bottlenecks.by_height`.

    Bars have their intervals; a short line across each marks chance, and the number of pairs stands below.
    """
    places = np.arange(len(table))
    with figure_style():
        fig, ax = plt.subplots(figsize=(1.2 + 1.0 * len(table), 3.3), layout="constrained")
        spread = np.abs(table[["from", "to"]].to_numpy().T - table["mAP"].to_numpy())
        ax.bar(places, table["mAP"], 0.7, color=BLUE, edgecolor="white")
        ax.errorbar(places, table["mAP"], spread, fmt="none", ecolor="black", capsize=3, linewidth=1)
        ax.hlines(table["chance"], places - 0.42, places + 0.42, color=ORANGE, linewidth=2, label="chance")
        labels = [f"{name}\n{pairs} pairs" for name, pairs in zip(bin_names(table), table["pairs"])]
        ax.set_xticks(places, labels, fontsize=8)
        ax.set(xlabel="height of the searched word, pixels of the input", ylabel="mAP, %", ylim=(0, None))
        ax.grid(axis="x", visible=False)
        ax.legend(loc="upper left")
    return fig


def scale_panels(
    shares: Mapping[int, np.ndarray], heights: Mapping[int, np.ndarray], step: float = 1.5, least: int = 10
) -> Figure:
    """Draw how many wrong photographs a right one outranks, against its word's height, one line an input size.

    Args:
        shares: input size -> [Q, N], 0 to 1, NaN outside the pairs (:func:`fdp_core.studies.bottlenecks.outranked`).
        heights: input size -> [Q, N], pixels of that input.
        step: factor between the bins of heights.
        least: pairs that a bin must hold to be drawn.

    Returns:
        The figure: left over pixels of the input, right over per cent of its side.
    """
    with figure_style():
        fig, axs = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True, layout="constrained")
        for number, size in enumerate(shares):
            known = np.isfinite(shares[size]) & (heights[size] > 0)
            value, tall = 100 * shares[size][known], heights[size][known]
            style = {"color": PALETTE[number % 7], "marker": _MARKERS[number % 8], "linestyle": DASHES[number % 7]}
            for ax, at in zip(axs, (tall, 100 * tall / size)):
                place = np.floor(np.log(at) / np.log(step)).astype(int)
                kept = [n for n in np.unique(place) if (place == n).sum() >= least]
                middle = [np.exp(np.log(at[place == n]).mean()) for n in kept]
                ax.plot(middle, [value[place == n].mean() for n in kept], label=f"input {size}", markersize=4, **style)
        for ax, label in zip(axs, ("pixels of the input", "per cent of the input's side")):
            ax.axhline(50, color=_GREY, linestyle=":", linewidth=1)
            ax.set(xscale="log", xlabel=f"height of the searched word, {label}")
            ticks = [t for t in (1, 2, 4, 8, 16, 32, 64, 128) if ax.get_xlim()[0] <= t <= ax.get_xlim()[1]]
            ax.set_xticks(ticks, [str(t) for t in ticks])
            ax.minorticks_off()
        axs[0].set(ylabel="wrong photographs outranked, %")
        axs[1].legend(fontsize=8)
    return fig


def rate_dots(rates: Any, names: Sequence[str], seed: int = 0) -> Figure:
    """Draw rates over pairs, one dot a query, the mean with its 95 % interval over queries.

    Args:
        rates: DataFrame of :func:`fdp_core.studies.bottlenecks.picture_rates`, 0 to 1.
        names: the queries' texts; the outermost dots of the first column are named.
        seed: of the intervals and of the dots' spread.
    """
    rng, columns = np.random.default_rng(seed), list(rates)
    with figure_style():
        fig, ax = plt.subplots(figsize=(7.4, 0.75 * len(columns) + 0.9), layout="constrained")
        for place, column in enumerate(columns):
            values = rates[column].to_numpy()
            shift = rng.uniform(-0.18, 0.18, len(values))
            ax.plot(100 * values, place + shift, "o", color=PALETTE[4], markersize=4, alpha=0.7, zorder=2)
            low, high = metrics.bootstrap_interval(values, seed=seed)
            middle = 100 * values.mean()
            label = "mean, 95 % interval" if place == 0 else None
            style = {"fmt": "D", "color": BLUE, "capsize": 4, "markersize": 5, "zorder": 3, "label": label}
            ax.errorbar(middle, place + 0.34, xerr=[[middle - 100 * low], [100 * high - middle]], **style)
            if place == 0:
                for row in (int(values.argmin()), int(values.argmax())):
                    ax.annotate(names[row], (100 * values[row], shift[row]), fontsize=8, xytext=(0, -11), ha="center",
                                textcoords="offset points")  # fmt: skip
        ax.axvline(50, color=GREEN, linestyle="--", linewidth=1.2, label="chance")
        ax.set_yticks(range(len(columns)), columns)
        ax.set(xlabel="pairs in which the first ranks higher, % (a dot is a query)", xlim=(-3, 103))
        ax.set_ylim(len(columns) - 0.4, -0.55)
        ax.grid(axis="y", visible=False)
        ax.legend(loc="lower right", fontsize=8)
    return fig


def sign_and_picture(gallery: Any, report: Any, row: int, masks: Mapping[str, np.ndarray]) -> Figure:
    """Show a query's best-ranked sign beside the best-ranked picture of the thing, each with its rank.

    Args:
        gallery: N photographs. report: an :class:`fdp_core.evaluation.report.Report` of it. row: of the query.
        masks: from :func:`fdp_core.studies.bottlenecks.picture_masks`; the query must have a sign and a picture.
    """
    text, order = report.texts[row], report.ranking(row)
    with figure_style():
        fig, axs = plt.subplots(1, 2, figsize=(8.2, 4.5), layout="constrained")
        for ax, kind, says in zip(axs, ("sign", "picture"), ("the word", "the thing without the word")):
            rank, number = next((r, n) for r, n in enumerate(order, 1) if masks[kind][row, n])
            photo = gallery.photos[number]
            ax.imshow(images.open_image(photo.path))
            for word in photo.words:
                if kind == "sign" and word.text.lower() == text.lower() and not word.ignore:
                    ax.plot(*np.vstack([word.polygon, word.polygon[:1]]).T, color=ORANGE, linewidth=2)
            ax.set(title=f"{says}: rank {rank} of {len(order)}", xticks=[], yticks=[])
            ax.grid(False)
        fig.suptitle(f"query: {text!r}")
    return fig

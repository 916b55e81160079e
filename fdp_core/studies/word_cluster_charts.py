"""Figures of the words' clusters: maps, agreement with its floors, splits, context lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from fdp_core.distinguish import KINDS
from fdp_core.studies.charts import DASHES
from fdp_core.studies.figures import BLACK, BLUE, GREEN, ORANGE, SKY
from fdp_core.studies.figures import style as book_style

_COLOURS, _GREY = (BLUE, ORANGE), "#777777"


def word_maps(planes: Mapping[str, np.ndarray], kinds: np.ndarray, function: np.ndarray) -> Figure:
    """Draw the words on their planes: colour tells the cluster, the mark what the list says.

    Args:
        planes: name -> float [N, 2].
        kinds: int [N], the clusters: 0 function, 1 content.
        function: bool [N], function words by a list.
    """
    with book_style():
        fig, axs = plt.subplots(1, len(planes), figsize=(4.9 * len(planes), 4.4), squeeze=False, layout="constrained")
        for ax, (name, plane) in zip(axs[0], planes.items()):
            for listed, marker, size, edge in ((False, "o", 14, "none"), (True, "^", 46, BLACK)):
                for number, kind in enumerate(KINDS):
                    at = (np.asarray(kinds) == number) & (np.asarray(function) == listed)
                    label = f"{'function' if listed else 'other'} word by the list, cluster “{kind}”"
                    style = {"color": _COLOURS[number], "edgecolors": edge, "linewidths": 0.7}
                    ax.scatter(*plane[at].T, marker=marker, s=size, label=label, alpha=0.85, **style)
            ax.set(title=name, xlabel=f"{name}, first axis", ylabel=f"{name}, second axis", xticks=[], yticks=[])
        fig.legend(*axs[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def agreement(found: Mapping[str, Any]) -> Figure:
    """Draw the adjusted Rand index of every word list over its floors.

    Args:
        found: word list -> :class:`fdp_core.studies.word_classes.Examined`; a bar spans the middle 95 % of a floor.
    """
    names, scores = list(found), [each.rand for each in found.values()]
    floors = [each.floors for each in found.values()]
    with book_style():
        fig, ax = plt.subplots(figsize=(8, 0.62 * len(names) + 1.6), layout="constrained")
        kinds = list(floors[0])
        for row, (values, floor) in enumerate(zip(scores, floors)):
            for number, kind in enumerate(kinds):
                low, high = np.quantile(floor[kind], [0.025, 0.975])
                y, style = row + 0.16 * (number + 1), {"color": (_GREY, SKY)[number % 2], "linewidth": 5 - 2 * number}
                ax.plot([low, high], [y, y], label=f"95 % of luck: {kind}" if row == 0 else None, **style)
            label = "2-means, one mark a seed" if row == 0 else None
            ax.plot(values, np.full(len(values), row), "|", color=BLACK, markersize=13, markeredgewidth=2, label=label)
        ax.axvline(0, color=_GREY, linewidth=1, linestyle=":")
        ax.set(yticks=range(len(names)), yticklabels=names, xlabel="adjusted Rand index (1: the same split)")
        ax.set_xlim(right=max(0.3, *(max(values) for values in scores)) * 1.05)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        fig.legend(loc="outside lower center", ncols=3)
    return fig


def information(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw what clusters tell of the words' traits: word list -> trait -> adjusted mutual information."""
    with book_style():
        fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
        traits = list(next(iter(shares.values())))
        width = 0.8 / len(traits)
        for number, trait in enumerate(traits):
            at = np.arange(len(shares)) + (number - (len(traits) - 1) / 2) * width
            hatch = ("", "//", "..", "xx", "\\\\")[number % 5]
            colour = (BLACK, BLUE, ORANGE, GREEN, SKY)[number % 5]
            values = [each[trait] for each in shares.values()]
            ax.bar(at, values, width, label=trait, color=colour, hatch=hatch, edgecolor="white")
        ax.axhline(0, color=_GREY, linewidth=1)
        ax.set(xticks=range(len(shares)), xticklabels=list(shares), ylabel="adjusted mutual\ninformation (1: the same)")
        ax.set_xlabel("word list")
        ax.set_ylim(top=max(0.5, ax.get_ylim()[1]))
        ax.grid(axis="x", visible=False)
        ax.legend(ncols=3)
    return fig


def planted_curve(distances: Sequence[float], scores: Sequence[float], widths: Sequence[float], cloud: Any) -> Figure:
    """Draw how clusterings answer a planted difference: adjusted Rand index, and silhouette against one cloud's."""
    with book_style():
        fig, axs = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        axs[0].plot(distances, scores, "o-", color=BLUE)
        axs[0].set(ylabel="adjusted Rand index with the list", ylim=(-0.05, 1.05))
        axs[1].plot(distances, widths, "o-", color=BLUE, label="2-means on the words")
        axs[1].plot(distances, cloud, "s--", color=_GREY, label="2-means on one normal cloud")
        axs[1].set(ylabel="mean silhouette")
        axs[1].legend()
        for ax in axs:
            ax.set_xlabel("planted distance, standard deviations")
    return fig


def splits(values: Mapping[str, float], luck: np.ndarray, bounds: tuple[float, float]) -> Figure:
    """Draw the mAP of splits over that of random splits of the same sizes.

    Args:
        values: split, or another way to ask, -> mAP, 0-1.
        luck: float [rounds], mAP of random splits, 0-1.
        bounds: of the worst and of the best possible split, 0-1.
    """
    with book_style():
        fig, ax = plt.subplots(figsize=(8, 0.42 * len(values) + 2.0), layout="constrained")
        low, high = 100 * np.quantile(luck, [0.025, 0.975])
        ax.axvspan(low, high, color=SKY, alpha=0.35, linewidth=0, label="95 % of random splits of the same sizes")
        for end, name in zip(bounds, ("worst and best possible split", None)):
            ax.axvline(100 * end, color=_GREY, linestyle="--", label=name)
        ax.plot([100 * value for value in values.values()], range(len(values)), "o", color=BLUE, markersize=8)
        ax.set(yticks=range(len(values)), yticklabels=list(values), xlabel="mAP, %")
        ax.set_ylim(len(values) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        fig.legend(loc="outside lower center", ncols=2, fontsize=9)
    return fig


def length_curves(grouped: Mapping[tuple[str, str], Mapping[int, np.ndarray]]) -> Figure:
    """Draw mAP against the contexts' length, one panel a view and one line a kind of query.

    Args:
        grouped: as from :func:`fdp_core.studies.contexts.means`; a bar spans the seeds.
    """
    views = list(dict.fromkeys(view for view, _ in grouped))
    with book_style():
        fig, axs = plt.subplots(1, len(views), figsize=(4.6 * len(views), 3.4), squeeze=False, layout="constrained")
        for (view, kind), by_length in grouped.items():
            ax, number = axs[0, views.index(view)], KINDS.index(kind)
            lengths = list(by_length)
            centre = np.array([values.mean() for values in by_length.values()])
            ends = np.array([[values.min(), values.max()] for values in by_length.values()])
            bars = np.abs(ends.T - centre)
            at = np.arange(len(lengths)) + (number - 0.5) * 0.08  # side by side, so that no bar hides another
            style = {"color": _COLOURS[number], "marker": "o^"[number], "linestyle": DASHES[number], "capsize": 3}
            ax.errorbar(at, centre, bars, label=f"{kind} words", **style)
            ax.set(xticks=range(len(lengths)), xticklabels=lengths, title=view, ylabel="mAP, %")
            ax.set_xlabel("context vectors before the word")
        axs[0, 0].legend()
    return fig

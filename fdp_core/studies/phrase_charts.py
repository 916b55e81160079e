"""Figures of phrases and attributes: what each way of asking reaches, and pairs of photographs with the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from fdp_core.studies.figure_style import PALETTE, figure_style

_MARKS = "os^Dv"


def way_dots(
    table: Any, label: str, level: Mapping[str, float], ways: Sequence[str] | None = None, unit: str = "queries"
) -> Figure:
    """Draw a value with its interval for each way of asking, one panel for each kind of query.

    Args:
        table: a DataFrame with the columns system, kind, way, mean, from, to and queries, in %; lines without a mean
            are left out.
        label: of the value's axis, with its unit.
        level: kind -> the value of chance, in %, drawn dashed.
        ways: which, from top to bottom; None for all.
        unit: of the column "queries", where it counts something else.

    Returns:
        The figure.

    Raises:
        ValueError: nothing is left to draw.
    """
    table = table[table["mean"].notna()]
    ways = [way for way in ways or dict.fromkeys(table["way"]) if (table["way"] == way).any()]
    kinds, systems = list(dict.fromkeys(table["kind"])), list(dict.fromkeys(table["system"]))
    if not (kinds and ways):
        raise ValueError("Nothing to draw: the table has no line with a mean and a way that is asked for.")
    columns = min(2, len(kinds))
    lines = -(-len(kinds) // columns)
    with figure_style():
        size = (4.4 * columns, (0.36 * len(ways) + 0.8) * lines + 0.4)
        fig, axs = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained", sharey=True)
        for ax in axs.flat[len(kinds) :]:
            ax.set_axis_off()
        for ax, kind in zip(axs.flat, kinds):
            part = table[table["kind"] == kind]
            for number, system in enumerate(systems):
                own = part[part["system"] == system].set_index("way").reindex(ways)
                places = np.arange(len(ways)) + (number - (len(systems) - 1) / 2) * 0.22
                reach = np.abs(own[["from", "to"]].to_numpy(float).T - own["mean"].to_numpy(float))
                style = {"color": PALETTE[number % len(PALETTE)], "marker": _MARKS[number % len(_MARKS)]}
                ax.errorbar(own["mean"], places, xerr=reach, linestyle="", capsize=2, label=system, **style)
            if kind in level:
                ax.axvline(level[kind], color="#666666", linestyle="--", linewidth=1)
            ax.set(
                title=f"{kind} ({int(part['queries'].max())} {unit})",
                xlim=(-2, 102),
                yticks=np.arange(len(ways)),
                yticklabels=ways,
                ylim=(len(ways) - 0.4, -0.6),
            )
        fig.supxlabel(f"{label}; dashed: chance", fontsize=10)
        handles, names = axs.flat[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper center", ncols=len(systems))
    return fig


def pair_grid(pairs: Sequence[Any], attribution: str = "") -> Figure:
    """Draw pairs of photographs below each other's: the phrase together above, its words apart below.

    Args:
        pairs: of :func:`fdp_core.studies.phrases.make`, one a column.
        attribution: line under the figure.

    Returns:
        The figure.

    Raises:
        ValueError: there are no pairs.
    """
    if not pairs:
        raise ValueError("Nothing to draw: there are no pairs.")
    with figure_style():
        size = (2.6 * len(pairs), 5.4)
        fig, axs = plt.subplots(2, len(pairs), figsize=size, squeeze=False, layout="constrained")
        for column, pair in enumerate(pairs):
            for ax, image in zip(axs[:, column], (pair.together, pair.apart)):
                ax.imshow(image[:: max(1, len(image) // 320), :: max(1, len(image) // 320)])
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
            axs[0, column].set_title(pair.phrase)
        axs[0, 0].set_ylabel("together")
        axs[1, 0].set_ylabel("apart")
        if attribution:
            fig.supxlabel(attribution, fontsize=7)
    return fig

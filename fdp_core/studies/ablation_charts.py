"""Figures and tables of the ablation grid: differences with both intervals, and mAP against the size of the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fdp_core.studies.ablation_grid import GRID, ZERO, Difference, Row, Runs, compare
from fdp_core.studies.figure_style import BLUE, DASHES, ORANGE, PALETTE, figure_style

_GREY = "#666666"
_MARKS = "osD^v"
Lines = list[tuple[str, dict[str, Difference]]]  # (label, set -> difference)
Key = str | tuple[str, str]  # a row, or a row behind another text map


def found_in(
    sets: Mapping[str, Runs], row: Key, reference: Key, what: str = "ap", group: str | None = None
) -> dict[str, Difference]:
    """Compare two rows (:func:`fdp_core.studies.ablation_grid.compare`) on every set that has values of both.

    Args:
        sets: name of a set -> its runs.
        row: its name, or (name, text map).
        reference: what is subtracted.
        what: "ap" or "told_apart".
        group: only the queries of this group.

    Returns:
        Name of the set -> difference.
    """
    having = {}
    for name, runs in sets.items():
        try:
            having[name] = compare(runs, row, reference, what, group)
        except (KeyError, ValueError):  # not run there, or no query of the group has a value
            continue
    return having


def lines_of(rows: Sequence[Row], sets: Mapping[str, Runs], what: str = "ap") -> Lines:
    """Compare rows with their references: (name of the row, set -> difference), without rows that were run nowhere."""
    pairs = [(row.name, found_in(sets, row.name, row.reference, what)) for row in rows if row.name != row.reference]
    return [(name, found) for name, found in pairs if found]


def differences(lines: Sequence[tuple[str, Mapping[str, Difference]]], axis: str = "points of mAP") -> Figure:
    """Draw differences as points with two bars: the thick one over queries, the thin one over seeds.

    Args:
        lines: (label, set -> difference), from top to bottom.
        axis: what the horizontal axis counts.

    Returns:
        The figure, one panel a set. Filled marks: both intervals leave zero out.

    Raises:
        ValueError: there is nothing to draw.
    """
    names = list(dict.fromkeys(name for _, by_set in lines for name in by_set))
    if not names:
        raise ValueError("Nothing to draw: no row was run together with the one that it is compared with.")
    with figure_style():
        size = (2.3 + 3.3 * len(names), 0.27 * len(lines) + 1.5)
        fig, axs = plt.subplots(1, len(names), figsize=size, sharey=True, squeeze=False, layout="constrained")
        for ax, name in zip(axs[0], names):
            ax.axvline(0, color=_GREY, linewidth=1)
            for place, (_, by_set) in enumerate(lines):
                if name not in by_set:
                    continue
                found = by_set[name]
                colour = (BLUE if found.mean > 0 else ORANGE) if found.sure else _GREY
                wide = {"linewidth": 4, "alpha": 0.45, "solid_capstyle": "butt"}
                ax.plot(found.over_queries, (place, place), color=colour, **wide)
                if found.over_seeds is not None:
                    ax.plot(found.over_seeds, (place, place), color=colour, linewidth=1.2)
                ax.plot(found.by_seed, [place] * len(found.by_seed), "|", color=colour, markersize=7)
                face = colour if found.sure else "white"
                ax.plot(found.mean, place, _MARKS[0], color=colour, markerfacecolor=face, markersize=6)
            # The interval over three seeds may be very wide: the axis follows the queries and the seeds themselves.
            here = [by_set[name] for _, by_set in lines if name in by_set]
            seen = [value for found in here for value in (*found.over_queries, *found.by_seed)]
            room = 0.06 * (max(*seen, 0) - min(*seen, 0)) + 0.05
            ax.set(xlim=(min(*seen, 0) - room, max(*seen, 0) + room), title=name, xlabel=axis)
        axs[0, 0].set(yticks=range(len(lines)), yticklabels=[label for label, _ in lines])
        axs[0, 0].set_ylim(len(lines) - 0.4, -0.6)
        key = [
            Line2D([], [], color=BLUE, marker="o", linestyle="", label="surely better"),
            Line2D([], [], color=ORANGE, marker="o", linestyle="", label="surely worse"),
            Line2D([], [], color=_GREY, marker="o", markerfacecolor="white", linestyle="", label="not told apart"),
            Line2D([], [], color=_GREY, linewidth=4, alpha=0.45, label="95 % over queries"),
            Line2D([], [], color=_GREY, linewidth=1.2, label="95 % over seeds"),
            Line2D([], [], color=_GREY, marker="|", linestyle="", label="one seed"),
        ]
        fig.legend(handles=key, loc="outside lower center", ncols=3)
    return fig


def size_curves(sets: Mapping[str, Runs]) -> Figure:
    """Draw mAP against the side of the input, for CLIP as it is and for the full model.

    Args:
        sets: name of a set -> its runs.

    Returns:
        The figure, one panel a set; a point a seed, a line through their means.

    Raises:
        ValueError: there is nothing to draw.
    """
    families = {"zero-shot CLIP": ZERO, "FDP, full": "full"}
    chosen = {
        label: [row for row in GRID if row.name == base or (row.reference == base and "image_size" in row.changes)]
        for label, base in families.items()
    }
    with figure_style():
        width = 1.2 + 3.2 * len(sets)
        fig, axs = plt.subplots(1, max(1, len(sets)), figsize=(width, 3.3), squeeze=False, layout="constrained")
        for ax, (name, runs) in zip(axs[0], sets.items()):
            for number, (label, rows) in enumerate(chosen.items()):
                points = {
                    row.config().image_size: [record["mAP"] for record in runs[row.name, "learned"].values()]
                    for row in rows
                    if (row.name, "learned") in runs
                }
                if not points:
                    continue
                sides = sorted(points)
                style = {"color": PALETTE[number], "marker": _MARKS[number], "linestyle": DASHES[number]}
                ax.plot(sides, [np.mean(points[side]) for side in sides], label=label, **style)
                for side in sides:
                    ax.plot([side] * len(points[side]), points[side], "_", color=PALETTE[number], markersize=9)
            ax.set(xlabel="side of the input, pixels", ylabel="mAP, %", title=name, ylim=(0, None))
            if ax.get_legend_handles_labels()[0]:
                ax.legend()
    if not any(ax.lines for ax in axs[0]):
        plt.close(fig)
        raise ValueError("Nothing to draw: neither the full model nor zero-shot CLIP was run.")
    return fig


def table(rows: Sequence[Row], sets: Mapping[str, Runs]) -> Any:
    """Return a DataFrame: for each row and set mAP, its spread over seeds, the difference, intervals, verdict."""
    import pandas as pd

    lines = []
    for row in rows:
        for name, runs in sets.items():
            mine = runs.get((row.name, "learned"))
            if not mine:
                continue
            values = [record["mAP"] for record in mine.values()]
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            line = {"row": row.name, "set": name, "mAP, %": f"{np.mean(values):.1f}{spread}", "seeds": len(values)}
            if row.name != row.reference and (row.reference, "learned") in runs:
                found = compare(runs, row.name, row.reference)
                line |= {
                    "against": row.reference,
                    "difference": f"{found.mean:+.1f}",
                    "over queries": _interval(found.over_queries),
                    "over seeds": _interval(found.over_seeds),
                    "verdict": found.verdict,
                }
            lines.append(line)
    columns = ["row", "set", "mAP, %", "seeds", "against", "difference", "over queries", "over seeds", "verdict"]
    return pd.DataFrame(lines, columns=columns).fillna("").set_index("row")


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:+.1f} to {ends[1]:+.1f}"

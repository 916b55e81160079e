"""Figures of the chapter on speed: accuracy beside speed, the ladder of a training step, the search of many vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from fdp_core.studies.figure_style import BLUE, GREEN, ORANGE, RED, figure_style
from fdp_core.studies.speed import Ratio


def accuracy_speed(ours: Mapping[str, tuple[float, float]], published: Any, own: str) -> Figure:
    """Draw mean average precision over speed: our systems on one machine, published ones on other machines.

    Args:
        ours: name -> (photographs a second as a multiple of the OCR pipeline's, mAP in per cent); may be empty.
        published: a table with ``method``, ``fps`` (photographs a second, as its authors measured) and ``value``.
        own: title of the left panel.

    Returns:
        The figure, two panels; no speed of one can be held against one of the other.
    """
    with figure_style():
        fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.4), layout="constrained")
        for name, (speed, value) in ours.items():
            reads = "OCR" in name
            left.plot(speed, value, "s" if reads else "o", color=ORANGE if reads else BLUE, markersize=8)
            left.annotate(name, (speed, value), (6, 4), textcoords="offset points", fontsize=7)
        left.axvline(1, color="#666666", linestyle="--", linewidth=1)
        if not ours:
            left.text(1, 50, "no record: run\nbenchmarks/photograph_speed.py", ha="center", fontsize=8)
        speeds = [speed for speed, _ in ours.values()] or [1]
        low, high = min(speeds), max(speeds)
        left.set(xscale="log", xlim=(low / 1.5, high * 3), ylim=(0, 100), title=own)
        left.set(xlabel="photographs a second ÷ the OCR pipeline's", ylabel="mAP, %")
        lines = published.sort_values("value", ascending=False).to_dict("records")
        for number, line in enumerate(lines, start=1):
            mine = "FDP" in line["method"]
            right.plot(line["fps"], line["value"], "D" if mine else "^", color=GREEN if mine else RED, alpha=0.8)
            # numbers, alternately above and below: names would lie on each other
            away = (0, 5) if number % 2 else (0, -11)
            place = line["fps"], line["value"]
            right.annotate(str(number), place, away, textcoords="offset points", fontsize=7, ha="center")
        key = "\n".join(f"{number} {line['method']}" for number, line in enumerate(lines, start=1))
        right.text(1.02, 1, key, transform=right.transAxes, va="top", fontsize=7)
        right.set(xscale="log", xlabel="photographs a second (each on its authors' GPU)", ylabel="mAP, %")
        right.set_title("published: other hardware")
        for ax in (left, right):
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            ax.xaxis.set_minor_locator(NullLocator())
    return fig


def ladder(panels: Mapping[str, Mapping[str, Ratio]], bars: Sequence[float] = ()) -> Figure:
    """Draw how long a training step takes by each rung, as a share of the direct one.

    Args:
        panels: title -> rung -> ratio to the direct step.
        bars: shares to mark, for example 0.1.
    """
    with figure_style():
        height = 0.9 + 0.32 * max(len(rungs) for rungs in panels.values())
        fig, axs = plt.subplots(
            1, len(panels), figsize=(4.6 * len(panels), height), squeeze=False, layout="constrained"
        )
        for ax, (title, rungs) in zip(axs[0], panels.items()):
            middle = [100 * ratio.median for ratio in rungs.values()]
            away = [
                [100 * (ratio.median - ratio.low) for ratio in rungs.values()],
                [100 * (ratio.high - ratio.median) for ratio in rungs.values()],
            ]
            ax.barh(range(len(rungs)), middle, xerr=away, color=BLUE, ecolor="black", capsize=3)
            for share in bars:
                ax.axvline(100 * share, color=RED, linestyle="--", linewidth=1)
            ax.set(yticks=range(len(rungs)), xlabel="time of a step, % of the direct one", title=title)
            ax.set_yticklabels(list(rungs))
            ax.invert_yaxis()
            ax.grid(axis="y", visible=False)
    return fig

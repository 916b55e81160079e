"""Figures of the chapter on speed: accuracy beside speed, the ladder of a training step, the search of many vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from fdp_core.figure_style import BLUE, GREEN, ORANGE, RED, figure_style
from fdp_core.speed import Ratio


def accuracy_speed(ours: Mapping[str, tuple[float, float]], published: Any, own: str) -> Figure:
    """Draw mean average precision over speed: our systems on one machine, published ones on other machines.

    Args:
        ours: name -> (photographs a second as a multiple of the OCR pipeline's, mAP in per cent).
        published: a table with ``method``, ``fps`` (photographs a second, as its authors measured) and ``value``.
        own: title of the left panel.

    Returns:
        The figure, two panels with one axis of accuracy; no speed of one can be held against one of the other.

    Raises:
        ValueError: there is nothing to draw on the left.
    """
    if not ours:
        raise ValueError("No system has both a speed and an accuracy on record; run benchmarks/photograph_speed.py.")
    with figure_style():
        fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
        for name, (speed, value) in ours.items():
            reads = "OCR" in name
            left.plot(speed, value, "s" if reads else "o", color=ORANGE if reads else BLUE, markersize=8)
            _name(left, name, speed, value)
        left.set(xscale="log", xlabel="photographs a second ÷ the OCR pipeline's", ylabel="mAP, %", title=own)
        left.axvline(1, color="#666666", linestyle="--", linewidth=1)
        low, high = min(s for s, _ in ours.values()), max(s for s, _ in ours.values())
        left.set_xlim(low / 2, high * 2.5)
        for line in published.to_dict("records"):
            mine = "FDP" in line["method"]
            right.plot(line["fps"], line["value"], "D" if mine else "^", color=GREEN if mine else RED, alpha=0.8)
            _name(right, line["method"], line["fps"], line["value"])
        right.set(
            xscale="log", xlabel="photographs a second (each on its authors' GPU)", title="published: other hardware"
        )
        if len(published):
            right.set_xlim(published["fps"].min() / 2, published["fps"].max() * 4)
        left.set_ylim(0, 100)
    return fig


def _name(ax: Any, text: str, x: float, y: float) -> None:
    ax.annotate(text, (x, y), (5, 4), textcoords="offset points", fontsize=7)


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


def search_times(panels: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Draw how long each search takes as a share of the exact one, beside how much of the right answer it finds.

    Args:
        panels: title -> way -> (time, % of the exact search's; recall@10, %).
    """
    with figure_style():
        fig, axs = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.4), squeeze=False, layout="constrained")
        for ax, (title, ways) in zip(axs[0], panels.items()):
            for number, (name, (time, share)) in enumerate(ways.items()):
                ax.plot(time, share, "os^DvP"[number % 6], color=(BLUE, GREEN, ORANGE, RED)[number % 4], markersize=8)
                _name(ax, name, time, share)
            ax.set(xscale="log", xlabel="time, % of the exact search's", ylabel="recall@10, %", title=title)
            ax.set(xlim=(0.5, 400), ylim=(40, 105))
            ax.axhline(98, color="#666666", linestyle="--", linewidth=1)
    return fig

"""Figures of where a pool looks: maps over photographs, heads, strength of the shift, quality of the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fdp_core.datasets import images
from fdp_core.studies.figure_style import BLUE, DASHES, GREEN, MAP, ORANGE, PALETTE, PURPLE, RED, SKY, figure_style
from fdp_core.studies.plots import map_overlay
from fdp_core.words import is_legible

MOST = 16.0  # times even attention: the end of the colour scale
_GREY = 225  # in place of a photograph that may not be shown


def maps_gallery(
    looks: Any,
    rows: Sequence[int],
    maps: Mapping[str, np.ndarray],
    titles: Sequence[str],
    show: bool = True,
    attribution: str = "",
) -> Figure:
    """Draw photographs with their words outlined, one a line, and maps over them, one a column.

    Args:
        looks: :class:`fdp_core.studies.attention_study.Looks`.
        rows: which of its photographs.
        maps: column's name -> float [len(rows), any grid]. First attention as a multiple of even attention, drawn on
            a logarithmic scale; then probabilities, 0..1, whose names start with ``P(``.
        titles: one for each line.
        show: False draws grey in place of photographs that may not be shown in public.
        attribution: line under the figure.

    Returns:
        The figure.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not len(rows):
        raise ValueError("Nothing to draw: no photographs were chosen.")
    with figure_style():
        columns = 1 + len(maps)
        tall = max(looks.placed[row].height / looks.placed[row].width for row in rows)
        size = (1.85 * columns + 0.6, 1.85 * min(tall, 1.4) * len(rows) + 0.9)
        fig, axs = plt.subplots(len(rows), columns, figsize=size, squeeze=False, layout="constrained")
        for line, row in enumerate(rows):
            placed = looks.placed[row]
            image = images.open_image(looks.photos[row].path)
            image = np.asarray(image) if show else np.full((image.height, image.width, 3), _GREY, np.uint8)
            map_overlay(image, np.zeros((2, 2)), placed, axs[line, 0], alpha=0.0)
            for word in looks.photos[row].words:
                outline = np.vstack([word.polygon, word.polygon[:1]])
                axs[line, 0].plot(*outline.T, color="white", linewidth=2.5)
                axs[line, 0].plot(*outline.T, color=RED, linewidth=1.3, linestyle="-" if is_legible(word) else ":")
            axs[line, 0].set_ylabel(titles[line], fontsize=8)
            for ax, (name, planes) in zip(axs[line, 1:], maps.items()):
                chance = name.startswith("P(")
                values = planes[line] if chance else np.log2(np.clip(planes[line], 1, MOST))
                map_overlay(image, values, placed, ax, limits=(0.0, 1.0 if chance else np.log2(MOST)))
        for ax, name in zip(axs[0], ["words outlined", *maps]):
            ax.set_title(name, fontsize=9)
        ticks = np.arange(0, np.log2(MOST) + 1)
        names = ["≤ 1", *(f"{2**t:.0f}" for t in ticks[1:-1]), f"≥ {MOST:.0f}"]
        seen = 1 + sum(not name.startswith("P(") for name in maps)  # these columns come first
        _bar(fig, axs[:, :seen], np.log2(MOST), "attention / even attention").set_ticks(ticks, labels=names)
        if seen < columns:
            _bar(fig, axs[:, seen:], 1.0, "P(text)")
        if attribution:
            fig.text(0.5, -0.02, attribution, ha="center", va="top", fontsize=7)
    return fig


def _bar(fig: Figure, axs: np.ndarray, top: float, label: str) -> Any:
    """Add the colour scale of all maps of a kind: each map's own opacity varies, so the scale has none."""
    colours = ScalarMappable(Normalize(0, top), MAP)
    return fig.colorbar(colours, ax=axs, label=label, location="bottom", shrink=0.7, aspect=30, pad=0.01)


def head_chart(stages: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], unit: str) -> Figure:
    """Draw one number of every head at several stages, each with its interval; heads sorted by the first stage.

    Args:
        stages: name -> (value, low, high), float [H] each.
        unit: what the axis is labelled with; 1 is marked.

    Returns:
        The figure.
    """
    first = next(iter(stages.values()))[0]
    order = np.argsort(first, kind="stable")
    with figure_style():
        fig, ax = plt.subplots(figsize=(6.4, 0.24 * len(order) + 1.4), layout="constrained")
        gap = 0.7 / len(stages)
        for number, (name, (value, low, high)) in enumerate(stages.items()):
            at = np.arange(len(order)) + (number - (len(stages) - 1) / 2) * gap
            value, low, high = (np.maximum(each[order], 1e-2) for each in (value, low, high))
            colour, marker = PALETTE[number], "os^Dv"[number % 5]
            ax.hlines(at, low, high, color=colour, linewidth=1.4)
            ax.plot(value, at, marker, color=colour, markersize=4.5, label=name)
        ax.axvline(1, color="#666666", linestyle="--", linewidth=1)
        ax.set(xscale="log", xlabel=unit, ylabel="head", yticks=range(len(order)))
        ax.set_yticklabels([str(h) for h in order], fontsize=7)
        _plain_log(ax.xaxis)
        ax.grid(axis="y", visible=False)
        fig.legend(loc="outside upper center", ncols=len(stages))  # marks may lie anywhere on the axes
    return fig


def curves(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    at: Sequence[float],
    labels: tuple[str, str],
    marks: Mapping[str, float] | None = None,
    log: bool = True,
) -> Figure:
    """Draw a ratio with its interval over a setting, one line a text map.

    Args:
        lines: name -> (value, low, high), float [K] each.
        at: K settings.
        labels: of the two axes, with units.
        marks: settings to mark by a dotted line, by name.
        log: is the axis of the setting logarithmic?

    Returns:
        The figure.
    """
    with figure_style():
        fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
        for number, (name, (value, low, high)) in enumerate(lines.items()):
            colour = (BLUE, ORANGE, GREEN, PURPLE, SKY)[number % 5]
            ax.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.plot(at, value, color=colour, linestyle=DASHES[number], marker="os^Dv"[number % 5], label=name)
        ax.axhline(1, color="#666666", linestyle="--", linewidth=1)
        for name, setting in (marks or {}).items():
            ax.axvline(setting, color="#666666", linestyle=":", linewidth=1.2)
            ax.annotate(name, (setting, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
        ax.set(xlabel=labels[0], ylabel=labels[1])
        if log:
            ax.set_xscale("log")
            _plain_log(ax.xaxis)
        fig.legend(loc="outside lower center", ncols=min(3, len(lines)))  # curves may run anywhere on the axes
    return fig


def height_chart(
    names: Sequence[str], panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]], floors: Any
) -> Figure:
    """Draw numbers of words grouped by height, one panel a number, one mark a stage, with intervals.

    Args:
        names: K groups.
        panels: label of the axis -> stage -> (value, low, high), float [K] each.
        floors: for each panel the value of what knows nothing, drawn as a dashed line.

    Returns:
        The figure.
    """
    with figure_style():
        fig, axs = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.4), squeeze=False, layout="constrained")
        for ax, (label, stages), floor in zip(axs[0], panels.items(), floors):
            for number, (stage, (value, low, high)) in enumerate(stages.items()):
                at = np.arange(len(names)) + 0.16 * (number - (len(stages) - 1) / 2)
                colour = (BLUE, ORANGE, GREEN)[number % 3]
                ax.vlines(at, low, high, color=colour, linewidth=1.4)
                ax.plot(at, value, "os^"[number % 3], color=colour, label=stage)
            ax.axhline(floor, color="#666666", linestyle="--", linewidth=1)
            ax.set(xticks=range(len(names)), xlabel="height of the word on the input, pixels", ylabel=label)
            ax.set_xticklabels(names)
            ax.grid(axis="x", visible=False)
            ax.legend(fontsize=8)
    return fig


def _plain_log(axis: Any) -> None:
    """Write 0.1, 1, 10 in place of powers, and nothing between them."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())

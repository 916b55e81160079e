"""Figures and tables of numbers, never told apart by colour alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fdp_core.studies.figures import BLACK, BLUE, ORANGE, PALETTE, style

DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))


def loss_curves(history: Iterable[dict[str, Any]], terms: Sequence[str] | None = None, smooth: int = 1) -> Figure:
    """Draw the named terms of the loss over the steps and, where there was one, the validation beside them.

    Args:
        history: a :class:`fdp_core.training.state.History`, or dicts with ``step`` and terms.
        terms: which; None for every number of the steps but counters, seconds and learning rates.
        smooth: length of a running mean, steps.

    Returns:
        The figure.

    Raises:
        ValueError: there is nothing to draw, or a term is not in the history.
    """
    rows = list(history)
    steps = [row for row in rows if row.get("kind", "step") == "step"]
    checks = [row for row in rows if row.get("validation_map") is not None]
    known = {key: 0 for row in steps for key, value in row.items() if _is_term(key, value)}
    terms = list(known) if terms is None else list(terms)
    if not terms:
        raise ValueError("Nothing to draw: the history has no loss terms.")
    if unknown := [term for term in terms if term not in known]:
        raise ValueError(f"The history has no term {unknown[0]!r}; it has {', '.join(known)}.")
    with style():
        panels = 2 if checks else 1
        fig, axs = plt.subplots(1, panels, figsize=(5 * panels, 3.4), squeeze=False, layout="constrained")
        ax = axs[0, 0]
        for number, term in enumerate(terms):
            points = [(row.get("step", at), row[term]) for at, row in enumerate(steps) if term in row]
            at, values = np.array(points, float).T
            marker = "o" if len(values) == 1 else None
            ax.plot(at, _behind(values, smooth), label=term, linestyle=DASHES[number % len(DASHES)], marker=marker)
        ax.set(xlabel="step", ylabel="loss" if smooth == 1 else f"loss, mean of {smooth} steps")
        ax.legend()
        if checks:
            ax, epochs = axs[0, 1], [row["epoch"] for row in checks]
            values = [100 * row["validation_map"] for row in checks]
            ax.plot(epochs, values, marker="o", color=BLUE)
            best = int(np.argmax(values))
            ax.plot(epochs[best], values[best], marker="*", markersize=14, color=ORANGE, linestyle="", label="best")
            ax.set(xlabel="epoch", ylabel="validation mAP, %", xticks=_whole(epochs))
            ax.legend()
    return fig


def _is_term(key: str, value: Any) -> bool:
    counter = key in ("step", "epoch", "seconds") or key.startswith("lr")
    return not counter and isinstance(value, (int, float)) and not isinstance(value, bool)


def _behind(values: np.ndarray, length: int) -> np.ndarray:
    """Running mean over what lies behind: no value of the future, and no shorter curve."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    return (total[ends] - total[np.maximum(0, ends - length)]) / np.minimum(ends, length)


def _whole(epochs: Sequence[int]) -> list[int]:
    """Return at most some ten epochs to write at an axis."""
    return list(epochs)[:: max(1, len(epochs) // 10)]


def ap_bars(report: Any, count: int = 10) -> Figure:
    """Draw the queries with the best and the worst average precision side by side.

    Args:
        report: an :class:`fdp_core.evaluation.report.Report`.
        count: how many of each.

    Returns:
        The figure; grey lines mark the mean over all queries.
    """
    with style():
        height = 0.26 * min(count, len(report.texts)) + 0.9
        fig, axs = plt.subplots(1, 2, figsize=(8, height), sharex=True, layout="constrained")
        for ax, rows, colour, hatch, title in (
            (axs[0], report.best(count), BLUE, None, "best queries"),
            (axs[1], report.worst(count), ORANGE, "//", "worst queries"),
        ):
            names = [f"{report.texts[row]} ({int(report.relevant[row].sum())})" for row in rows]
            places = np.arange(len(rows))
            ax.barh(places, 100 * report.ap[rows], color=colour, hatch=hatch, edgecolor="white")
            for place, row in zip(places, rows):
                ax.text(
                    min(100 * report.ap[row] + 1, 88),
                    place,
                    f"{100 * report.ap[row]:.0f}",
                    va="center",
                    fontsize=8,
                )
            ax.axvline(100 * report.mean_ap, color="#666666", linestyle="--", linewidth=1)
            ax.set(xlim=(0, 100), title=title, xlabel="average precision, %", yticks=places, yticklabels=names)
            ax.invert_yaxis()
            ax.grid(axis="y", visible=False)
    return fig


def system_bars(reports: Sequence[Any], group: str | None = None) -> Figure:
    """Draw the mAP of several systems on one set, beside it that of each group of queries.

    Args:
        reports: of the same gallery and queries.
        group: only this group; None for all.

    Returns:
        The figure.
    """
    names = list(dict.fromkeys(name for report in reports for name in report.groups))
    names = [name for name in names if group in (None, name)]
    labels = ["all queries", *names]
    with style():
        fig, ax = plt.subplots(figsize=(1.4 + 1.5 * len(labels), 3.2), layout="constrained")
        width = 0.8 / len(reports)
        for number, report in enumerate(reports):
            values = [report.mean_ap] + [report.groups.get(name, {}).get("mean", np.nan) for name in names]
            places = np.arange(len(labels)) + (number - (len(reports) - 1) / 2) * width
            hatch = (None, "//", "..", "xx", "\\\\")[number % 5]
            colour = PALETTE[number % len(PALETTE)]
            ax.bar(
                places,
                100 * np.array(values),
                width * 0.95,
                label=report.system,
                color=colour,
                hatch=hatch,
                edgecolor="white",
            )
        ax.set(xticks=np.arange(len(labels)), xticklabels=labels, ylabel="mAP, %")
        ax.grid(axis="x", visible=False)
        ax.legend()
    return fig


def cluster_map(features: Any, kinds: Any, words: Sequence[str], names: int = 24, ax: Axes | None = None) -> Axes:
    """Draw text features in their two main directions, the two clusters by colour and sign.

    Args:
        features: [N, D] float.
        kinds: [N] int, 0 function and 1 content.
        words: N texts.
        names: how many words to write beside their points, evenly spread over the list.
        ax: where to draw; None makes a figure.

    Returns:
        The axes.
    """
    features = np.asarray(features.detach().cpu() if hasattr(features, "detach") else features, float)
    kinds = np.asarray(kinds)
    if not len(features) == len(kinds) == len(words):
        raise ValueError(f"{len(features)} features, {len(kinds)} kinds and {len(words)} words do not fit.")
    centred = features - features.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    # The sign of a direction is arbitrary: fix it, so that the picture is the same on every machine.
    directions = (
        directions[:2]
        * np.sign(directions[:2][np.arange(len(directions[:2])), np.abs(directions[:2]).argmax(axis=1)])[:, None]
    )
    flat = centred @ directions.T
    share = sizes[:2] ** 2 / max((sizes**2).sum(), 1e-30)
    with style():
        if ax is None:
            _, ax = plt.subplots(figsize=(6, 4.4), layout="constrained")
        for kind, name, colour, marker in ((0, "function", BLUE, "o"), (1, "content", ORANGE, "^")):
            member = kinds == kind
            ax.scatter(*flat[member].T, s=18, c=colour, marker=marker, label=f"{name} ({member.sum()})", alpha=0.8)
        for row in np.unique(np.linspace(0, len(words) - 1, min(names, len(words))).astype(int)):
            ax.annotate(words[row], flat[row], fontsize=7, xytext=(3, 2), textcoords="offset points", color=BLACK)
        ax.set(xlabel=f"direction 1 ({share[0]:.0%} of the variance)", ylabel=f"direction 2 ({share[1]:.0%})")
        ax.legend()
    return ax


def report_table(reports: Sequence[Any]) -> Any:
    """Return a DataFrame with one line a system and one column a number, all in %."""
    import pandas as pd

    lines = [{"system": r.system, **{name: 100 * value for name, value in r.values().items()}} for r in reports]
    return pd.DataFrame(lines).set_index("system").round(1)


def paper_table(comparison: Any) -> Any:
    """Return what :func:`fdp_core.studies.paper.compare_with_paper` gives, rounded, with words for "comparable"."""
    short = comparison.copy()
    for name in ("ours", "published", "difference"):
        short[name] = short[name].astype(float).round(1)
    short["comparable"] = ["yes" if fine else "no: another backbone than any published" for fine in short["comparable"]]
    return short

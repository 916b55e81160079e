"""The published numbers drawn, with ours beside them as what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from fdp_core.studies.figure_style import BLACK, BLUE, GREEN, ORANGE, RED, figure_style
from fdp_core.studies.paper import set_key

_LOOK = {
    "scene text retrieval": (BLUE, "o"),
    "text spotter": (ORANGE, "s"),
    "vision-language model": (GREEN, "^"),
    "FDP": (BLACK, "D"),
}


def family(line: dict[str, Any]) -> str:
    """Return the kind of a published method: one of the four that the figure tells apart.

    Args:
        line: a line of :func:`fdp_core.studies.paper.paper_results`.
    """
    if line["method"].startswith("FDP"):
        return "FDP"
    if str(line["notes"]).startswith("text spotter"):
        return "text spotter"
    general = ("CLIP-", "BLIP-", "SigLIP", "Chinese-CLIP")
    return "vision-language model" if line["method"].startswith(general) else "scene text retrieval"


def method_points(published: Any, ours: Any, names: Sequence[str] = ("SVT", "IIIT-STR")) -> Figure:
    """Draw the published mAP of every method, by year, a panel a set, and our records below, hollow.

    Args:
        published: from :func:`fdp_core.studies.paper.paper_results`.
        ours: lines of :func:`.results.load_all` to show, below a line; hollow are those of ``mini``, which
            no paper measured, and of systems without a backbone.
        names: the sets, as published.

    Returns:
        The figure.
    """
    shown = published[(published["metric"] == "mAP") & published["set"].isin(names)]
    methods = shown.drop_duplicates("method").sort_values(["year", "method"], kind="stable")
    rows = {line["method"]: at for at, line in enumerate(methods.to_dict("records"))}
    labels = [f"{line['year']}  {line['method']}" for line in methods.to_dict("records")]
    ours = ours[ours["set"].map(set_key).isin([set_key(name) for name in names])]
    own = list(dict.fromkeys(_own(line) for line in ours.sort_values("value").to_dict("records")))
    rows |= {label: len(methods) + 0.6 + at for at, label in enumerate(own)}
    with figure_style():
        size = (4.3 * len(names) + 1.2, 0.235 * len(rows) + 1.5)
        fig, axs = plt.subplots(1, len(names), figsize=size, sharey=True, squeeze=False, layout="constrained")
        handles: dict[str, Any] = {}
        for ax, name in zip(axs[0], names):
            for line in shown[shown["set"] == name].to_dict("records"):
                kind = family(line)
                colour, mark = _LOOK[kind]
                handles[kind] = ax.plot(line["value"], rows[line["method"]], mark, color=colour, label=kind)[0]
            for line in ours[ours["set"].map(set_key) == set_key(name)].to_dict("records"):
                other = line["backbone"] == "mini" or not isinstance(line["backbone"], str)
                key = "here: mini, or no CLIP at all" if other else "here: OpenAI's CLIP"
                fill = "white" if other else RED
                style = {"markerfacecolor": fill, "markeredgewidth": 1.5, "color": RED, "label": key}
                handles[key] = ax.plot(line["value"], rows[_own(line)], "v", **style)[0]
            if own:
                ax.axhline(len(methods) - 0.2, color=BLACK, linewidth=0.8)
            ax.set(xlabel=f"mAP on {name}, %", xlim=(0, 100))
        axs[0, 0].set_yticks(list(rows.values()), [*labels, *own])
        axs[0, 0].set_ylim(max(rows.values()) + 0.7, -0.7)
        axs[0, 0].set_ylabel("year and method")
        fig.legend(handles=list(handles.values()), loc="outside upper center", ncols=3)
    return fig


def _own(line: dict[str, Any]) -> str:
    backbone = line["backbone"]
    return f"{line['system']}, {backbone}" if isinstance(backbone, str) else line["system"]

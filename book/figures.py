"""Draws the two figures of the front page: ``python book/figures.py`` writes them to ``book/_static``."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle  # noqa: E402

OUT = Path(__file__).parent / "_static" / "fdp_overview.svg"
SEARCH, SHOWN = OUT.with_name("search.jpg"), 7  # two more than there are right photographs for most words
# Okabe and Ito's palette, told apart by colour-blind readers
FROZEN, FOCUS, DISTINGUISH, PROMPT, INK = "#e6e6e6", "#9fd3f0", "#f6d58a", "#a8dcc4", "#222222"
MIDDLE = {"ha": "center", "va": "center", "color": INK}
TEXT_CELLS = {(1, 2), (2, 2), (3, 2), (4, 2), (2, 3), (3, 3)}  # (column, row from the top) of the little map


def _box(ax, x, y, w, h, text, colour, bold=""):
    ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=0.12", fc=colour, ec=INK, lw=1))
    if bold:
        ax.text(x + w / 2, y + h - 0.24, bold, fontsize=10, weight="bold", **MIDDLE)
        ax.text(x + w / 2, y + (h - 0.36) / 2, text, fontsize=8.5, **MIDDLE)
    else:
        ax.text(x + w / 2, y + h / 2, text, fontsize=9, **MIDDLE)


def _arrow(ax, start, end, label="", above=0.14, bend=0.0):
    look = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": 1.1, "color": INK, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", **look))
    if label:
        ax.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above, label, fontsize=9.5, **MIDDLE)


def _photograph(ax, x, y):
    """A shop front with a sign: the thing to be found."""
    ax.add_patch(Rectangle((x, y), 1.5, 1.3, fc="#cfe4f5", ec=INK, lw=1))
    ax.add_patch(Rectangle((x + 0.1, y), 1.3, 0.85, fc="#b99b7a", ec="none"))
    ax.add_patch(Rectangle((x + 0.22, y + 0.5), 1.06, 0.28, fc="#7a1f2b", ec="none"))
    ax.text(x + 0.75, y + 0.64, "COFFEE", ha="center", va="center", fontsize=8, weight="bold", color="white")
    ax.add_patch(Rectangle((x + 0.25, y + 0.08), 0.5, 0.34, fc="#dff0fb", ec="none"))
    ax.add_patch(Rectangle((x + 0.92, y), 0.3, 0.42, fc="#5b4632", ec="none"))


def _text_map(ax, x, y, cell=0.15):
    """The localiser's map: dark where text is."""
    for column in range(6):
        for row in range(5):
            colour = "#0072b2" if (column, row) in TEXT_CELLS else "#f4fbff"
            ax.add_patch(
                Rectangle((x + column * cell, y + (4 - row) * cell), cell, cell, fc=colour, ec="#7fb8d8", lw=0.5)
            )


def overview():
    """Return the figure: photographs' side above, queries' side below, the cosine at the right."""
    fig, ax = plt.subplots(figsize=(10.4, 5.0))
    ax.set(xlim=(0, 13.2), ylim=(0, 6.35), aspect="equal")
    ax.axis("off")
    ax.text(0.1, 6.12, "photographs, once and offline", fontsize=9.5, style="italic", color=INK, va="center")
    _photograph(ax, 0.1, 4.3)
    _arrow(ax, (1.65, 4.95), (2.2, 4.95))
    _box(ax, 2.2, 4.45, 1.7, 1.0, "CLIP ResNet\ntrunk", FROZEN)
    _arrow(ax, (3.9, 4.95), (5.95, 4.95), "F", 0.22)
    _box(ax, 5.95, 4.45, 1.9, 1.0, "attention pool", FROZEN)
    _arrow(ax, (7.85, 4.95), (8.75, 4.95), "g", 0.22)
    _box(ax, 8.75, 4.3, 1.75, 1.3, 'what CLIP knows of\n"scene text"', FOCUS, "probing")
    _arrow(ax, (10.5, 4.95), (11.3, 4.95), "v", 0.22)
    _box(ax, 3.3, 2.75, 2.95, 1.25, "", FOCUS)
    ax.text(3.45, 3.72, "Focus", fontsize=10, weight="bold", color=INK, va="center")
    ax.text(3.45, 3.2, "localiser:\nwhere is text?", fontsize=8.5, color=INK, va="center")
    _text_map(ax, 5.2, 2.98)
    _arrow(ax, (4.6, 4.95), (4.6, 4.0))
    _arrow(ax, (6.25, 3.4), (6.9, 4.45), bend=0.25)
    ax.text(7.0, 3.72, "shifts the attention", fontsize=8.5, color=INK, va="center")
    ax.text(0.1, 2.25, "query, one pass", fontsize=9.5, style="italic", color=INK, va="center")
    _box(ax, 0.1, 0.85, 1.5, 0.9, '"coffee"', "#ffffff")
    _arrow(ax, (1.6, 1.3), (2.2, 1.3))
    _box(ax, 2.2, 0.6, 2.3, 1.4, "content (coffee)\nor function (the)?", DISTINGUISH, "Distinguish")
    _arrow(ax, (4.5, 1.3), (5.15, 1.3))
    _box(ax, 5.15, 0.6, 2.7, 1.4, "4 or 2 learned vectors\n+ the word", PROMPT, "Prompt")
    _arrow(ax, (7.85, 1.3), (8.75, 1.3))
    _box(ax, 8.75, 0.8, 1.75, 1.0, "CLIP text\ntower", FROZEN)
    _arrow(ax, (10.5, 1.3), (11.3, 1.3), "t", 0.22)
    _box(ax, 11.3, 0.6, 1.75, 5.0, "cosine\n$t \\cdot v$\n\nranks the\ngallery", "#ffffff")
    for x, colour in ((0.1, FROZEN), (2.2, FOCUS), (2.6, DISTINGUISH), (3.0, PROMPT)):
        ax.add_patch(Rectangle((x, 0.08), 0.32, 0.22, fc=colour, ec=INK, lw=0.8))
    for x, label in ((0.52, "CLIP, frozen"), (3.42, "added by FDP")):
        ax.text(x, 0.19, label, fontsize=8.5, color=INK, va="center")
    fig.subplots_adjust(0, 0, 1, 1)
    return fig


def search():
    """The task in one picture: the query of the ``mini`` gallery whose average precision is nearest to the mean."""
    import numpy as np

    from fdp_core import checkpoint, datasets
    from fdp_core.evaluation import report as evaluation
    from fdp_core.regions import system as region_system
    from fdp_core.retrieval import index as retrieval
    from fdp_core.studies import figures

    gallery, queries = datasets.load("mini", "test")
    system = region_system.RegionSystem(checkpoint.load(checkpoint.SHIPPED))
    report = evaluation.evaluate(system, gallery, queries)
    row = int(np.argmin(np.abs(report.ap - report.mean_ap)))
    order = report.ranking(row, SHOWN)
    shown = [(rank, n, report.ids[n], gallery.photos[n].path, report.scores[row, n]) for rank, n in enumerate(order, 1)]
    hits = [retrieval.Hit(*each) for each in shown]
    return figures.ranked_photographs(hits, report.texts[row], report.relevant[row, order], columns=SHOWN)


def main() -> None:
    """Write the figures; the overview has the same bytes on every run of the same matplotlib."""
    search().savefig(SEARCH, dpi=110, facecolor="white", pil_kwargs={"quality": 82})
    plt.rcParams["svg.hashsalt"] = "fdp"
    figure = overview()
    figure.savefig(OUT, facecolor="white", metadata={"Date": None, "Creator": None})
    # matplotlib ends path lines with blanks, which git complains about
    lines = OUT.read_text(encoding="utf-8").splitlines()
    OUT.write_text("".join(line.rstrip() + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Draws the picture of the task: ``python book/figures.py`` writes it to ``book/_static``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fdp_core import checkpoint, datasets
from fdp_core.evaluation import report as evaluation
from fdp_core.regions.system import RegionSystem
from fdp_core.retrieval.index import Hit
from fdp_core.studies import figures

OUT = Path(__file__).parent / "_static" / "search.jpg"
SHOWN = 7  # two more than there are right photographs for most words


def search():
    """The task in one picture: the query of the ``mini`` gallery whose average precision is nearest to the mean."""
    gallery, queries = datasets.load("mini", "test")
    report = evaluation.evaluate(RegionSystem(checkpoint.load(checkpoint.SHIPPED)), gallery, queries)
    row = int(np.argmin(np.abs(report.ap - report.mean_ap)))
    order = report.ranking(row, SHOWN)
    facts = [(n, report.ids[n], gallery.photos[n].path, report.scores[row, n]) for n in order]
    hits = [Hit(rank, *each) for rank, each in enumerate(facts, 1)]
    return figures.ranked_photographs(hits, report.texts[row], report.relevant[row, order], columns=SHOWN)


if __name__ == "__main__":
    search().savefig(OUT, dpi=110, facecolor="white", pil_kwargs={"quality": 82})

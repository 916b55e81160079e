"""Draws the picture of the task: ``python book/figures.py`` writes it to ``book/_static``."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import numpy as np  # noqa: E402

from fdp_core import checkpoint, datasets  # noqa: E402
from fdp_core.evaluation import report as evaluation  # noqa: E402
from fdp_core.regions.system import RegionSystem  # noqa: E402
from fdp_core.retrieval.index import Hit  # noqa: E402
from fdp_core.studies import figures  # noqa: E402

OUT = Path(__file__).parent / "_static" / "search.jpg"
SHOWN = 7  # two more than there are right photographs for most words


def search():
    """The task in one picture: the query of the ``mini`` gallery whose average precision is nearest to the mean."""
    gallery, queries = datasets.load("mini", "test")
    report = evaluation.evaluate(RegionSystem(checkpoint.load(checkpoint.SHIPPED)), gallery, queries)
    row = int(np.argmin(np.abs(report.ap - report.mean_ap)))
    order = report.ranking(row, SHOWN)
    shown = [(rank, n, report.ids[n], gallery.photos[n].path, report.scores[row, n]) for rank, n in enumerate(order, 1)]
    hits = [Hit(*each) for each in shown]
    return figures.ranked_photographs(hits, report.texts[row], report.relevant[row, order], columns=SHOWN)


if __name__ == "__main__":
    search().savefig(OUT, dpi=110, facecolor="white", pil_kwargs={"quality": 82})

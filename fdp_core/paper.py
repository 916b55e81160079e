"""The published numbers, and ours beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fdp_core.datasets.manifest import manifests_folder

_SAME_SET = {"icdar2015": "ic15", "svttest": "svt", "iiit": "iiitstr", "ctw1500": "ctw", "mlt2019": "mlt"}


def set_key(name: str) -> str:
    """Return one key for all names of a set in papers and here (``IIIT-STR``, ``iiit`` -> ``iiitstr``)."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    return _SAME_SET.get(key, key)


def record_key(name: str, split: str = "test") -> str:
    """Return the key of a split as papers name it: ``svt``, ``test`` -> ``svt``; ``mqtr``, ``word`` -> ``mqtrword``.

    Papers measure on test splits and name subsets with the set; so photographs to learn from match nothing.
    """
    return set_key(name) if split in ("", "test") else set_key(f"{name} {split}")


def paper_results(path: str | Path | None = None) -> Any:
    """Read the published numbers: columns method, venue, year, set, metric, value, fps, source, notes.

    Args:
        path: None for ``paper_results.csv`` beside the manifests.

    Raises:
        FileNotFoundError: there is no such file.
    """
    import pandas as pd

    path = Path(path) if path else manifests_folder() / "paper_results.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; it holds the published numbers and comes with the repository.")
    return pd.read_csv(path, comment="#", dtype={"method": str, "venue": str, "source": str, "notes": str})


def compare_with_paper(table: Any, paper: Any = None, method: str | None = None) -> Any:
    """Put our numbers beside published ones on the same set by the same metric.

    Args:
        table: from :func:`load_all`.
        paper: from :func:`paper_results`; None reads it.
        method: only this published method, for example ``FDP-RN50x16``.

    Returns:
        A pandas DataFrame with set, metric, system, backbone, ours, images, queries, method, venue,
        published, difference (ours - published, points), source, notes, where the table has them split and file,
        and comparable: False where our backbone is the embedded ``mini``, which no paper has measured. Published
        numbers that nothing of ours stands against are left out.
    """
    import pandas as pd

    paper = paper_results() if paper is None else paper
    if method is not None:
        known = sorted(paper["method"].unique())
        if method not in known:
            raise ValueError(f"No published method {method!r}; the file has {', '.join(known)}.")
        paper = paper[paper["method"] == method]
    splits = table["split"] if "split" in table else ["test"] * len(table)
    keys = [record_key(name, split) for name, split in zip(table["set"], splits)]
    ours = table.assign(key=keys, metric_key=table["metric"].str.lower())
    theirs = paper.rename(columns={"value": "published", "set": "published set", "metric": "published metric"})
    theirs = theirs.assign(
        key=theirs["published set"].map(set_key),
        metric_key=theirs["published metric"].str.replace("%", "").str.strip().str.lower(),
    )
    both = ours.merge(theirs, on=["key", "metric_key"], how="inner").rename(columns={"value": "ours"})
    both["difference"] = pd.to_numeric(both["ours"]) - pd.to_numeric(both["published"])
    both["comparable"] = both["backbone"] != "mini"
    columns = [
        "set",
        "metric",
        "system",
        "backbone",
        "ours",
        "images",
        "queries",
        "method",
        "venue",
        "published",
    ]
    more = [name for name in ("split", "file") if name in both]
    both = both[[*columns, "difference", "comparable", "source", "notes", *more]]
    return both.sort_values(["set", "metric", "published", "system"], kind="stable", ignore_index=True)

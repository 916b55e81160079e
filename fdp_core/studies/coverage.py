"""Where in the book each part of the method and of its field has its place, and whether it really stands there.

``data_manifests/coverage.csv`` has a line for each: item, kind, chapter (names of notebooks or of pages of ``book/``,
separated by spaces), glossary (a term), words (the beginning of a word or phrase that each of the chapters must hold)
and methods (published methods, separated by ``;``, whose numbers it stands for).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fdp_core.datasets.manifest import manifests_folder


def read(path: str | Path | None = None) -> Any:
    """Read the table; empty cells are empty texts.

    Args:
        path: None for ``coverage.csv`` beside the manifests.
    """
    import pandas as pd

    return pd.read_csv(path or manifests_folder() / "coverage.csv", dtype=str).fillna("")


def terms(glossary: str) -> set[str]:
    """Return the terms of a MyST glossary: its lines that are neither indented nor fences."""
    inside = glossary.partition("```{glossary}")[2].rpartition("```")[0]
    return {line.strip() for line in inside.splitlines() if line.strip() and not line.startswith(" ")}


def chapter_text(path: Path) -> str:
    """Return all that a reader sees of a notebook or page, in small letters: prose, code and printed results."""
    import nbformat

    if path.suffix == ".md":
        return re.sub(r"\s+", " ", path.read_text(encoding="utf-8")).lower()
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        parts.append(cell.source)
        for output in cell.get("outputs", []):
            parts += [output.get("text", ""), str(output.get("data", {}).get("text/plain", ""))]
    return re.sub(r"\s+", " ", " ".join(parts)).lower()


def problems(table: Any, published: Any, root: Path) -> list[str]:
    """Hold the table against the book.

    Args:
        table: from :func:`read`.
        published: from :func:`fdp_core.studies.paper.paper_results`: each of its methods needs a line.
        root: the checkout, with ``notebooks/`` and ``book/glossary.md``.

    Returns:
        A sentence for each item without chapter, each chapter that is missing or does not hold the item's words,
        each term that the glossary lacks, each method without a line; empty when all is well.
    """
    known = terms((root / "book" / "glossary.md").read_text(encoding="utf-8"))
    pages = [*(root / "notebooks").glob("*.ipynb"), *(root / "book").glob("*.md")]
    chapters = {path.stem: chapter_text(path) for path in pages}
    found = []
    for line in table.to_dict("records"):
        named = line["chapter"].split()
        if not named:
            found.append(f"{line['item']}: no chapter")
        for name in named:
            if name not in chapters:
                found.append(f"{line['item']}: there is no chapter {name}")
            elif not re.search(r"\b" + re.escape(line["words"].lower()), chapters[name]):
                found.append(f"{line['item']}: chapter {name} does not say {line['words']!r}")
        if line["glossary"] not in known:
            found.append(f"{line['item']}: the glossary has no term {line['glossary']!r}")
    listed = {name for cell in table["methods"] for name in cell.split(";") if name}
    found += [f"{name}: published, but no line of the table" for name in sorted(set(published["method"]) - listed)]
    found += [f"{name}: no such published method" for name in sorted(listed - set(published["method"]))]
    return found

"""The book covers the field: each line of data_manifests/coverage.csv names chapters that say its words.

Its columns: item, kind, chapter (names of notebooks or of pages of ``book/``, separated by spaces), glossary (a term),
words (the beginning of a word or phrase that each of the chapters must hold) and methods (published methods, separated
by ``;``, whose numbers it stands for).
"""

import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from fdp_core.datasets.manifest import manifests_folder
from fdp_core.studies import paper

ROOT = Path(__file__).parents[2]


def terms(glossary: str) -> set[str]:
    """Return the terms of a MyST glossary: its lines that are neither indented nor fences."""
    inside = glossary.partition("```{glossary}")[2].rpartition("```")[0]
    return {line.strip() for line in inside.splitlines() if line.strip() and not line.startswith(" ")}


def chapter_text(path: Path) -> str:
    """Return all that a reader sees of a notebook or page, in small letters: prose, code and printed results."""
    if path.suffix == ".md":
        return re.sub(r"\s+", " ", path.read_text(encoding="utf-8")).lower()
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        parts.append(cell.source)
        for output in cell.get("outputs", []):
            parts += [output.get("text", ""), str(output.get("data", {}).get("text/plain", ""))]
    return re.sub(r"\s+", " ", " ".join(parts)).lower()


def problems(table: Any, published: Any, root: Path) -> list[str]:
    """Return a sentence for whatever of the table the book under ``root`` does not hold."""
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


def test_the_book_covers_the_field():
    table = pd.read_csv(manifests_folder() / "coverage.csv", dtype=str).fillna("")
    assert not problems(table, paper.paper_results(), ROOT)


def test_what_is_not_covered_is_named(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    glossary = "```{glossary}\ntrunk\n  The frozen part.\n\nTDSL\n  A method.\n```\n"
    (tmp_path / "book" / "glossary.md").write_text(glossary)
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text="The\n trunk of TDSL")])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / "04_steps.ipynb")
    columns = ["item", "kind", "chapter", "glossary", "words", "methods"]
    good = ["the trunk", "module", "04_steps", "trunk", "the trunk", "TDSL"]

    def found(line=good, methods=("TDSL",)):
        table = pd.DataFrame([line], columns=columns)
        return problems(table, pd.DataFrame({"method": list(methods)}), tmp_path)

    assert terms(glossary) == {"trunk", "TDSL"}
    assert not found()
    assert found(good[:2] + [""] + good[3:]) == ["the trunk: no chapter"]
    assert found(good[:2] + ["05_train"] + good[3:]) == ["the trunk: there is no chapter 05_train"]
    assert found(good[:4] + ["runk", "TDSL"]) == ["the trunk: chapter 04_steps does not say 'runk'"]
    assert found(good[:3] + ["trunks"] + good[4:]) == ["the trunk: the glossary has no term 'trunks'"]
    assert found(methods=("TDSL", "VSTR")) == ["VSTR: published, but no line of the table"]
    assert found(methods=()) == ["TDSL: no such published method"]

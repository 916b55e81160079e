"""The front page, chapters 07, 09 and 10 print the newest records; cells whose outputs are not compared are few."""

import collections
import re
from pathlib import Path

import nbformat
import pytest

from fdp_core.evaluation import results
from fdp_core.studies import paper

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def test_few_outputs_are_not_compared_and_each_says_why():
    reasons, without = [], collections.Counter()
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if "nbval-ignore-output" in cell.metadata.get("tags", []):
                reason = cell.metadata.get("nbval_reason", "").strip()
                if reason:
                    reasons.append(reason)
                else:
                    without[path.stem[:2]] += 1
    assert len(reasons) <= 10
    assert not without


def table_of(chapter, words):
    """Return the first HTML table of a chapter that holds all words: heads, and rows of cells as text."""
    for cell in nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4).cells:
        for output in cell.get("outputs", []):
            html = output.get("data", {}).get("text/html", "")
            if all(word in html for word in words):
                rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in html.split("</tr>")]
                return [[re.sub(r"<[^>]*>", "", cell).strip() for cell in row] for row in rows if row]
    raise AssertionError(f"Chapter {chapter} prints no table with {words}.")


def newest(name, backbone="mini"):
    """Return the mAP of each system on a test set in its newest record of a backbone, or of none: per cent."""
    table = results.load_all(ROOT / "book" / "results")
    kept = (table["set"] == name) & (table["split"] == "test") & (table["metric"] == "mAP")
    table = table[kept & (table["backbone"].fillna(backbone) == backbone)].sort_values("date", kind="stable")
    return table.groupby("system")["value"].last()


def test_chapter_07_prints_the_newest_records():
    heads, *rows = table_of("07_benchmarks", ["<th>mAP</th>", "chance"])
    printed = dict(zip(heads[1:], next(row for row in rows if row[0] == "mAP")[1:]))
    assert len(printed) >= 5
    known = newest("mini")
    names = {paper.display_name(system, "mini"): system for system in known.index}
    for shown, value in printed.items():
        assert float(value) == pytest.approx(known[names[shown]], abs=0.0501), shown


def test_chapter_10_prints_the_newest_records():
    heads, *rows = table_of("10_speed", ["mAP, %", "OCR pipeline"])
    column = heads.index("mAP, %")
    known = {paper.display_name(system): value for system, value in newest("svt").items()}
    assert len(rows) >= 4
    for row in rows:
        assert float(row[column]) == pytest.approx(known[row[0].removesuffix(", parallel")], abs=0.00501), row[0]


def test_chapter_09_prints_the_newest_records():
    heads, *rows = table_of("09_ours_vs_paper", ["<th>argued</th>", "zero-shot"])
    shown = [dict(zip(heads, row)) for row in rows]
    assert len(shown) >= 40 and {line["set"] for line in shown} >= {"mini", "svt"}
    for name, backbone in {(line["set"], line["backbone"]) for line in shown}:
        own = newest(name, backbone if backbone in ("mini", "mini_clip") else "mini")
        known = {paper.display_name(system, ""): value for system, value in own.items()}
        for line in shown:
            if (line["set"], line["backbone"]) == (name, backbone):
                assert float(line["value"]) == pytest.approx(known[line["system"]], abs=0.0501), line


def test_the_front_page_types_no_number_and_takes_each_from_a_record():
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|") and "{{" in line]
    tokens = re.findall(r"\{\{ result:svt/([^@:]*)(?:@mini)?:mAP \}\}", "\n".join(rows))
    assert len(rows) >= 7 and len(tokens) == len(rows) - 3, "three rows are ranges of the grid"
    assert not re.search(r"\d\.\d", re.sub(r"\{\{.*?\}\}", "", "\n".join(rows)))
    known = {re.sub(r"\W", "", system).lower() for system in newest("svt").index}
    assert {re.sub(r"\W", "", system).lower() for system in tokens} <= known

"""Fills the pages from files: no number of the book is typed by hand.

A page may hold, anywhere in its text,

* ``{{ result:SET/SYSTEM@BACKBONE:FIELD }}``: a metric (``mAP``, ``recall@10``, ``mAP/content``) in per cent, or another
  field (``queries``, ``images``, ``seconds``, ``date``, ``device``, ``commit``) of a record of ``book/results``;
  ``#1a2b3c4d`` after the backbone, the end of the record's file name, picks one of several runs;
* ``{{ ablation:SET@BACKBONE:ROW, ROW }}``: least and most test mAP of these rows of ``ablations.jsonl``, over seeds;
* ``{{ paper:METHOD:SET }}``: a published mAP of ``data_manifests/paper_results.csv``;
* ``{{ search:SET }}``: the name of the script with which a page searches this set, see :mod:`search_page`;
* ``{{ table:results }}``, ``{{ table:data }}``, ``{{ table:status }}``, ``{{ table:pretraining }}``,
  ``{{ table:scale }}``: whole tables.

Whatever cannot be filled stops the build and names page and line.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd
import search_page

from fdp_core.datasets.describe import render_readme
from fdp_core.datasets.manifest import all_manifests
from fdp_core.evaluation import results
from fdp_core.studies import ablation_grid, paper

_FIELD = re.compile(r"\{\{\s*(\w+):([^{}]*?)\s*\}\}")
_SHOWN = tuple("queries images unreadable seconds date device commit backbone split protocol".split())


class PageError(RuntimeError):
    """A page asks for something that is not there."""


def gather_records(root: Path, folder: Path) -> Path:
    """Put the committed records beside those of this build; of two of the same run the later one stays.

    A build must not change the checkout: its chapters write here, not to ``book/results``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for committed in sorted((root / "book" / "results").glob("*.json")):
        built = folder / committed.name
        if not built.is_file() or _date(built) < _date(committed):
            shutil.copy(committed, built)
    for log in (root / "book" / "results").glob("*.jsonl"):  # many runs a file; a build adds none
        shutil.copy(log, folder / log.name)
    return folder


def _date(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8")).get("date", ""))


def _same(text: Any) -> str:
    """Return a key for names however they are spelt; pandas gives NaN for a missing one."""
    return re.sub(r"[^a-z0-9@/]+", "", text.lower()) if isinstance(text, str) else ""


def result(table: pd.DataFrame, argument: str) -> str:
    """Return one number of one record as text, see the module's docstring.

    Raises:
        PageError: the argument is malformed, no record or more than one matches, or it has no such field.
    """
    match = re.fullmatch(r"([^/:]+)/([^:@#]+)(?:@([^:#]+))?(?:#(\w+))?:(.+)", argument)
    if match is None:
        raise PageError(f"expected result:SET/SYSTEM@BACKBONE:FIELD, found result:{argument}")
    name, system, backbone, run, field = match.groups()
    rows = [
        row
        for row in table.to_dict("records")
        if paper.set_key(row["set"]) == paper.set_key(name)
        and _same(row["system"]) == _same(system)
        and (backbone is None or _same(row["backbone"]) == _same(backbone))
        and (run is None or row["file"].endswith(f"_{run}.json"))
    ]
    if len(rows) != 1:
        found = ", ".join(row["file"] for row in rows) or "none; run the chapter or command that makes it"
        raise PageError(f"result:{argument} needs exactly one record of book/results, found: {found}")
    row = rows[0]
    numbers = {_same(key): value for key, value in {**row["values"], row["metric"]: row["value"]}.items()}
    if _same(field) in numbers:
        return f"{numbers[_same(field)]:.1f}"
    if field not in _SHOWN:
        raise PageError(
            f"result:{argument}: the record has no {field!r}; it has {', '.join([*row['values'], *_SHOWN])}"
        )
    value = row[field]
    if field == "commit":
        return f"{(value or 'none')[:10]}{' (with changes)' if row['dirty'] else ''}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) else str(value)


def ablation(rows: list[dict[str, Any]], argument: str) -> str:
    """Return the lowest and the highest mAP of some rows of the grid, over all seeds, with the learned text map.

    Raises:
        PageError: one of the rows was not run on the set.
    """
    where, _, listed = argument.partition(":")
    name, _, backbone = where.partition("@")
    values = []
    for row in map(str.strip, listed.split(",")):
        asked = {"set": name, "backbone": backbone, "split": "test", "row": row, "map": "learned"}
        found = [line["mAP"] for line in rows if asked.items() <= line.items()]
        if not found:
            raise PageError(f"ablation:{argument}: ablations.jsonl has no row {row!r} on {name}/test of {backbone!r}")
        values += found
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low}–{high}"


def published(argument: str, path: Path) -> str:
    """Return a published mAP as text.

    Raises:
        PageError: the file does not hold exactly one such number.
    """
    method, _, name = argument.rpartition(":")
    table = paper.paper_results(path)
    rows = table[
        (table["method"].map(_same) == _same(method)) & (table["set"].map(paper.set_key) == paper.set_key(name))
    ]
    rows = rows[rows["metric"].str.lower().str.contains("map")]
    if len(rows) != 1:
        raise PageError(f"paper:{argument}: {len(rows)} such numbers in {path.name}")
    return f"{rows['value'].iloc[0]:.2f}"


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _literal(text: Any) -> str:
    """Return foreign text, such as a query or a folder's name, so that Markdown shows it as it is written."""
    return re.sub(r"([\\`*_<>\[\]|$~{}#&])", r"\\\1", " ".join(str(text).split()))


def _template(name: str, **facts: Any) -> str:
    """Fill a template of ``book/_templates``; blank lines in a row become one."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "_templates")
    made = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    made.filters |= {
        "cell": _cell,
        "literal": _literal,
        "display_name": lambda system: paper.display_name(system, backbone=""),
    }
    return re.sub(r"\n{3,}", "\n\n", made.get_template(f"{name}.md.jinja").render(facts)).strip()


def results_table(table: pd.DataFrame, path: Path) -> str:
    """Return up to three tables a set: our runs, the published numbers with their sources, oracles."""
    if table.empty:
        raise PageError("book/results holds no records; run notebooks/07_benchmarks.ipynb")
    theirs = paper.paper_results(path)
    theirs = theirs[theirs["metric"].str.lower().str.contains("map")]
    theirs = theirs.sort_values("value", ascending=False, kind="stable")
    sets = []
    for name, runs in table[table["metric"] == "mAP"].groupby("set", sort=True):
        runs = runs.sort_values("value", ascending=False, kind="stable")
        oracle = runs["system"].map(paper.is_oracle)
        ours = runs[~oracle]
        # our difference is told only where a backbone like theirs was measured
        alike = ours[ours["backbone"].notna() & (ours["backbone"] != "mini")]["value"]
        published = theirs[theirs["set"].map(paper.set_key) == paper.set_key(name)]
        tables = {"ours": ours, "published": published, "oracles": runs[oracle]}
        tables = {part: rows.to_dict("records") for part, rows in tables.items()}
        sets.append({"title": title(name), "best": alike.max() if len(alike) else None, **tables})
    return _template("results", sets=sets)


def title(name: str) -> str:
    """Return a set's full title; the name itself where no manifest describes it."""
    for entry in all_manifests():
        known = (entry.name, entry.data.get("published", ""), *entry.data["aliases"])
        if paper.set_key(name) in map(paper.set_key, known):
            return entry.data["title"]
    return name


def status_table(stage: Path) -> str:
    """Return when, where and in how long each executed chapter of the stage ran."""
    runs, places = [], []
    for file in sorted((stage / "notebooks").glob("[!.]*.ipynb")):
        notes = nbformat.read(file, as_version=4).metadata
        run, where = notes.get("papermill"), notes.get("fdp")
        if not run or not where:
            raise PageError(f"{file.name} on the stage was not run by book/build.py")
        given = ", ".join(f"{k}={v}" for k, v in run["parameters"].items()) or "defaults"
        versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
        place = f"{where['device']}; {versions}"
        if place not in places:
            places.append(place)
        runs.append({**where, "stem": file.stem, "duration": run["duration"], "given": given, "place": place})
    return _template("status", runs=runs, places=places) if runs else "*No chapter has been run for this build.*"


def scale_table(table: pd.DataFrame) -> str:
    """Return what so many photographs cost, from the largest index and the speed that were measured."""
    runs = {}
    for system in ("index scale", "speed"):
        found = table[table["system"] == system].sort_values("images")
        if found.empty:
            raise PageError(f"table:scale needs a record of {system!r}; run fdp_core.studies.speed_runs")
        runs[system.replace(" ", "_")] = found.iloc[-1].to_dict()
    return _template("scale", **runs)


def pretraining_table(log: Path) -> str:
    """Return the log of mini's pre-training as a table of about 13 lines, first and last included.

    A line of the log lacks what its step does not learn; an en dash says so.

    Raises:
        PageError: the log is missing or empty.
    """
    if not log.is_file() or not (lines := [json.loads(line) for line in log.read_text("utf-8").splitlines()]):
        raise PageError(
            f"{log.name} is missing or empty: it is log.jsonl of the run that made fdp_core/assets/mini.safetensors"
        )
    rows, last = 13, len(lines) - 1
    chosen = [lines[round(i * last / (rows - 1))] for i in range(rows)] if last >= rows else lines
    return _template("pretraining", lines=chosen)


def fill(text: str, resolvers: dict[str, Callable[[str], str]], page: str) -> str:
    """Replace every ``{{ kind:argument }}`` of a page.

    Raises:
        PageError: unknown kind, or the resolver's error; names page and line.
    """

    def replace(match: re.Match[str]) -> str:
        line = text.count("\n", 0, match.start()) + 1
        kind, argument = match.groups()
        if kind not in resolvers:
            raise PageError(f"{page}, line {line}: unknown field {match.group(0)}; there are {', '.join(resolvers)}")
        try:
            return resolvers[kind](argument.strip())
        except (PageError, FileNotFoundError, results.BadRecord) as error:
            raise PageError(f"{page}, line {line}: {error}") from None

    return _FIELD.sub(replace, text)


def render(root: Path, stage: Path, records: Path) -> None:
    """Fill all staged pages in place.

    Args:
        root: the project.
        stage: folder with ``book/*.md`` and the executed ``notebooks/``.
        records: folder of JSON records, see :func:`gather_records`.

    Raises:
        PageError: a page asks for something that is not there.
    """
    table = results.load_all(records)
    numbers = root / "data_manifests" / "paper_results.csv"
    tables: dict[str, Callable[[], str]] = {
        "results": lambda: results_table(table, numbers),
        "status": lambda: status_table(stage),
        "scale": lambda: scale_table(table),
        "data": lambda: render_readme(whole=False),
        "pretraining": lambda: pretraining_table(root / "book" / "results" / "mini_pretraining.jsonl"),
    }

    def whole(name: str) -> str:
        if name not in tables:
            raise PageError(f"unknown table {name!r}; there are {', '.join(tables)}")
        return tables[name]()

    resolvers = {
        "result": lambda a: result(table, a),
        "ablation": lambda a: ablation(ablation_grid.load(root / "book" / "results" / "ablations.jsonl"), a),
        "paper": lambda a: published(a, numbers),
        "search": lambda name: search_page.write(search_page.open_index(name), stage / "book" / "_static", name),
        "table": whole,
    }
    for page in sorted((stage / "book").glob("*.md")):
        page.write_text(fill(page.read_text(encoding="utf-8"), resolvers, f"book/{page.name}"), encoding="utf-8")

"""The published numbers, and ours beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fdp_core import backbones, config
from fdp_core.datasets.folder import set_and_split
from fdp_core.datasets.manifest import Manifest, manifest, manifests_folder

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


def display_name(system: str, backbone: str = "CLIP") -> str:
    """Return how tables and figures call a system; records keep the name that they were written with.

    Regions take nothing from Focus: of FDP only the query with its learned context is in them. Zero-shot CLIP is named
    after the backbone, or not at all beside a column that names it (``backbone=""``).
    """
    return system.replace("FDP + regions", "regions, FDP query").replace(
        "zero-shot CLIP", f"zero-shot {backbone}".strip()
    )


def is_oracle(system: str) -> bool:
    """Tell whether a system was given the words' places by the annotators: it reads, but finds nothing."""
    return system.endswith(", word crops")


def _table(name: str, path: str | Path | None = None, **options: Any) -> pd.DataFrame:
    path = Path(path) if path else manifests_folder() / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; this table about published numbers comes with the repository.")
    return pd.read_csv(path, **options)


def paper_results(path: str | Path | None = None) -> pd.DataFrame:
    """Read the published numbers, ``paper_results.csv`` beside the manifests or another file.

    Columns: method, venue, year, set, metric, value, fps, source, notes.
    """
    texts = dict.fromkeys(("method", "venue", "source", "notes"), str)
    return _table("paper_results.csv", path, comment="#", dtype=texts)


def compare_with_paper(table: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Put our numbers, the records' table, beside published ones on the same set by the same metric, without oracles.

    Returns:
        Columns set, metric, system, backbone, ours, images, queries, method, venue, published, difference (ours -
        published, points), comparable (False where our backbone is a compact one, which no paper has measured), source,
        notes, where the table has them split and file. Published numbers without one of ours are left out.
    """
    paper = paper_results() if paper is None else paper
    table = table[~table["system"].map(is_oracle).astype(bool)]
    splits = table["split"] if "split" in table else ["test"] * len(table)
    keys = [record_key(name, split) for name, split in zip(table["set"], splits)]
    ours = table.assign(key=keys, metric_key=table["metric"].str.lower())
    theirs = paper.rename(columns={"value": "published", "set": "published set", "metric": "published metric"})
    metrics = theirs["published metric"].str.replace("%", "").str.strip().str.lower()
    theirs = theirs.assign(key=theirs["published set"].map(set_key), metric_key=metrics)
    both = ours.merge(theirs, on=["key", "metric_key"], how="inner").rename(columns={"value": "ours"})
    both["difference"] = pd.to_numeric(both["ours"]) - pd.to_numeric(both["published"])
    both["comparable"] = ~both["backbone"].isin(backbones.COMPACT_NAMES)
    columns = "set metric system backbone ours images queries method venue published difference comparable source notes"
    both = both[[*columns.split(), *(name for name in ("split", "file") if name in both)]]
    return both.sort_values(["set", "metric", "published", "system"], kind="stable", ignore_index=True)


# What reproduces: our records held against the published numbers, by rules that were fixed before any was made.

VERDICTS = ("reproduced", "close", "not reproduced", "not run", "not compared")
SEEDS = 3  # runs of one thing from which their spread is taken
_UNIFORM = 3  # a + b + 1 of the uniform distribution as a beta distribution: its variance is m (1 - m) / 3
_NORMAL = 1.96  # half of a 95 % interval, in standard deviations


def rules() -> pd.DataFrame:
    """Read what a difference is allowed for: columns part, points (NaN: calculated), counts for, argument."""
    return _table("tolerances.csv").set_index("part")


def recipes(published: pd.DataFrame | None = None) -> pd.DataFrame:
    """Read which published numbers this project can make, and how.

    Args:
        published: from :func:`paper_results`; None reads it.

    Returns:
        Columns method, metric, set as published; dataset, system, backbone, train_set, preset of ours; command; open
        (what is not known); and published (per cent, or photographs a second), decimals (of the source), queries (of
        the set), within and close_within (points, see :func:`tolerance`); NaN where a number is not known.
    """
    table = _table("reproduction.csv").fillna("")
    published = paper_results() if published is None else published
    # all numbers of a source are printed alike; pandas has dropped the zeros at their ends
    printed = published["value"].map(lambda value: len(repr(float(value)).partition(".")[2]))
    decimals = printed.groupby(published["source"]).transform("max")
    lines = []
    for line in table.to_dict("records"):
        found = (published["method"] == line["method"]) & (published["set"] == line["set"])
        column = "fps" if line["metric"] == "photographs/s" else "value"
        value = float(published.loc[found, column].iloc[0]) if found.any() else np.nan
        line |= {"published": value, "decimals": int(decimals[found].max()) if found.any() else 0}
        line |= {"queries": _facts(line["dataset"]).get("queries", np.nan)}
        within, close = tolerance(line) if line["metric"] == "mAP" else (np.nan, np.nan)
        lines.append({**line, "within": within, "close_within": close})
    return pd.DataFrame(lines)


def _source(dataset: str) -> tuple[Manifest, str]:
    name, split = set_and_split(dataset) or (dataset, None)
    return manifest(name), manifest(name).part(split)


def _facts(dataset: str) -> dict[str, Any]:
    """Return what the manifest pins of a set's split."""
    source, split = _source(dataset)
    return source.data["splits"][split]


def tolerance(recipe: dict[str, Any], runs: Sequence[float] = ()) -> tuple[float, float]:
    """Return how far our number may be from the published one, see ``tolerances.csv``.

    Args:
        recipe: a line of :func:`recipes`: published (per cent), decimals, queries, train_set are looked at.
        runs: our numbers of the same run under different seeds, per cent; three and more give their spread.

    Returns:
        (reproduced within, close within), points; the second is never the smaller one. NaN where the published
        number is not known.
    """
    given, mean = rules(), recipe["published"] / 100
    if np.isnan(mean):
        return np.nan, np.nan
    within = 0.5 * 10.0 ** -recipe["decimals"] + given.loc["hardware", "points"]
    if recipe["train_set"]:
        within += 2 * np.std(runs, ddof=1) if len(runs) >= SEEDS else given.loc["training", "points"]
    pinned = not np.isnan(recipe["queries"])  # else no interval: nothing is "close"
    spread = 100 * _NORMAL * np.sqrt(mean * (1 - mean) / (_UNIFORM * recipe["queries"])) if pinned else 0.0
    return float(within), float(max(within, spread))


def judge(difference: float, within: float, close_within: float) -> str:
    """Return the verdict on a difference of like things, all in points."""
    if abs(difference) <= within:
        return "reproduced"
    return "close" if abs(difference) <= close_within else "not reproduced"


def unlike(record: dict[str, Any], recipe: dict[str, Any]) -> str:
    """Say why a record (a line of the records' table) is no run of a recipe; an empty text where it is one."""
    if not isinstance(record["backbone"], str):  # pandas gives NaN where there is none
        return f"another system: {record['system']}, not {recipe['system']}"
    if record["backbone"] != recipe["backbone"]:
        return f"another model: {record['backbone']}, not {recipe['backbone']}"
    source, split = _source(recipe["dataset"])
    if set_key(record["set"]) != set_key(source.name) or record["split"] != split:
        return f"another set: {record['set']}/{record['split']}, not {source.name}/{split}"
    if record["system"] != recipe["system"] or record["metric"] != recipe["metric"]:
        return f"another system: {record['system']}, not {recipe['system']}"
    if recipe["train_set"] and record["parameters"].get("train_set") != recipe["train_set"]:
        return f"learnt from {record['parameters'].get('train_set', 'unknown')}, not {recipe['train_set']}"
    if recipe["preset"]:
        settings = record["parameters"].get("config", {})
        wanted = dataclasses.asdict(config.preset(recipe["preset"]))
        if odd := [name for name, value in wanted.items() if name != "seed" and settings.get(name) != value]:
            return f"not the preset {recipe['preset']}: {', '.join(odd)}"
    facts = _facts(recipe["dataset"])
    for here, pinned in (("images", "photographs"), ("queries", "queries")):
        if record[here] != facts.get(pinned, record[here]):
            return f"part of the set: {record[here]} of {facts[pinned]} {pinned}"
    return f"{record['unreadable']} photographs could not be read" if record["unreadable"] else ""


def made_up(recipe: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Return a record as a run of a recipe would leave it, with the published value, to try the rule out."""
    (source, split), facts = _source(recipe["dataset"]), _facts(recipe["dataset"])
    entry = {name: recipe[name] for name in ("system", "backbone", "metric")}
    entry |= {"set": source.name, "split": split, "value": recipe["published"], "unreadable": 0}
    entry |= {"images": facts.get("photographs", 0), "queries": facts.get("queries", 0), "file": f"{seed}.json"}
    settings = dataclasses.asdict(config.preset(recipe["preset"], seed=seed)) if recipe["preset"] else {}
    return entry | {"parameters": {"train_set": recipe["train_set"], "config": settings}}


def verdicts(table: pd.DataFrame, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """Judge every number that this project can make by the records' table.

    Returns:
        ``known`` (:func:`recipes`) and, a line a recipe, ours (mean over the seeds, per cent, or NaN), runs, difference
        (points), verdict (one of ``VERDICTS``) and why.
    """
    lines = []
    for recipe in (recipes() if known is None else known).to_dict("records"):
        alike = [record["value"] for record in table.to_dict("records") if not unlike(record, recipe)]
        ours = float(np.mean(alike)) if alike else np.nan
        found = {"ours": ours, "runs": len(alike), "difference": ours - recipe["published"]}
        if recipe["metric"] != "mAP":
            verdict, why = "not compared", "speed: measured on another machine"
        elif not alike:
            verdict, why = "not run", f"needs {', '.join(needs(recipe))}"
        elif np.isnan(recipe["published"]):
            verdict, why = "not compared", "the published number is not known"
        else:
            within, close = tolerance(recipe, alike)
            found |= {"within": within, "close_within": close}
            verdict, why = judge(found["difference"], within, close), f"{len(alike)} such runs recorded"
        lines.append({**recipe, **found, "verdict": verdict, "why": why})
    return pd.DataFrame(lines)


def _parts(recipe: dict[str, Any]) -> list[tuple[Manifest, str]]:
    """Return the weights and the sets, each with its split, that a recipe takes."""
    weights = [] if recipe["backbone"] in backbones.COMPACT_NAMES else [(manifest("openai_clip"), recipe["backbone"])]
    return [*weights, *(_source(name) for name in (recipe["train_set"], recipe["dataset"]) if name)]


def needs(recipe: dict[str, Any]) -> list[str]:
    """Return the weights and sets that a recipe takes, as papers call them."""
    return [
        f"OpenAI's {part}" if source.name == "openai_clip" else source.data.get("published", source.name.upper())
        for source, part in _parts(recipe)
    ]


def missing(recipe: dict[str, Any], root: Path | None = None) -> list[str]:
    """Return which of the weights and sets of a recipe are not on this machine, by the names of their manifests."""
    return [f"{source.name} {part}" for source, part in _parts(recipe) if source.lacking(part, root)]

"""The records of the ablation grid, and the differences that they hold, with intervals over seeds and over queries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from fdp_core import metrics, results
from fdp_core.ablations import GRID
from fdp_core.config import Config
from fdp_core.files import atomic_write_text
from fdp_core.history import read_log

_FILE = "ablations.jsonl"
_IDENTITY = ("config_hash", "weights_hash", "train_hash", "set", "split", "manifest_hash", "map")


def config_hash(settings: Config) -> str:
    """Return the first 16 hexadecimal digits of the sha256 of all switches, the seed included."""
    return hashlib.sha256(settings.to_json().encode()).hexdigest()[:16]


def identity_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what tells a run from all others: configuration, weights, lessons, set, text map."""
    return tuple(record[name] for name in _IDENTITY)


def records_file() -> Path:
    """Return where the grid's records are kept: one JSON object a line."""
    return results.results_folder() / _FILE


def load(path: Path | None = None) -> list[dict[str, Any]]:
    """Read the grid's records; an empty list where there are none yet."""
    path = path or records_file()
    return read_log(path) if path.is_file() else []


def keep(new: Sequence[dict[str, Any]], path: Path | None = None) -> Path:
    """Add records, each in place of an older one of the same run; the file is whole at any moment."""
    path = path or records_file()
    fresh = {identity_of(record) for record in new}
    lines = [record for record in load(path) if identity_of(record) not in fresh] + list(new)
    texts = (json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n" for record in lines)
    return atomic_write_text(path, "".join(texts))


Runs = dict[tuple[str, str], dict[int, dict[str, Any]]]  # (row, text map) -> seed -> record


def select(
    records: Sequence[Mapping[str, Any]], set_name: str, weights_hash: str, train_set: str, **recipe: Any
) -> Runs:
    """Choose the records of one set, one backbone, one training set and one recipe.

    Args:
        records: of any runs.
        set_name: name of the set that was measured on.
        weights_hash: of the backbone.
        train_set: as in the records, for example ``mini_train/train``.
        recipe: changes to :data:`fdp_core.ablations.RECIPE`.

    Returns:
        (row, text map) -> seed -> record. A row whose switches have changed since does not come back.
    """
    wanted = (set_name, weights_hash, train_set)
    rows = {row.name: row for row in GRID}
    found: Runs = {}
    for record in records:
        row = rows.get(record["row"])
        if row is None or (record["set"], record["weights_hash"], record["train_set"]) != wanted:
            continue
        if record["config_hash"] == config_hash(row.config(record["seed"], **recipe)):
            found.setdefault((row.name, record["map"]), {})[record["seed"]] = dict(record)
    return found


@dataclass(frozen=True)
class Difference:
    """How much better one row is than another on one set; all numbers in points, 0-100.

    Attributes:
        mean: over seeds and queries.
        by_seed: one difference a seed.
        over_seeds: Student's interval of the mean over the seeds; None with fewer than two.
        over_queries: paired bootstrap of the queries, each averaged over the seeds.
        untrained: neither row was trained, so that there are no seeds.
    """

    mean: float
    by_seed: tuple[float, ...]
    over_seeds: tuple[float, float] | None
    over_queries: tuple[float, float]
    untrained: bool = False

    @property
    def sure(self) -> bool:
        """Do both intervals leave zero out, on the same side? Of untrained rows there is only the one over queries."""
        seeds = self.over_queries if self.untrained else self.over_seeds or (-np.inf, np.inf)
        ends = (*self.over_queries, *seeds)
        return min(ends) > 0 or max(ends) < 0

    @property
    def verdict(self) -> str:
        """One of "better", "worse" and "not told apart"."""
        return ("better" if self.mean > 0 else "worse") if self.sure else "not told apart"


def compare(
    runs: Runs,
    row: tuple[str, str] | str,
    reference: tuple[str, str] | str,
    what: str = "ap",
    group: str | None = None,
    level: float = 0.95,
) -> Difference:
    """Compare two rows, seed by seed and query by query.

    Args:
        runs: from :func:`select`.
        row: its name, or (name, text map).
        reference: what is subtracted. An untrained one has a single run, which serves all seeds.
        what: "ap" or "told_apart"; queries without a value are left out.
        group: only the queries of this group; None for all.
        level: of both intervals.

    Raises:
        KeyError: there is no record of one of them.
        ValueError: they share no seed, or no query of the group has a value.
    """
    mine, theirs = (runs[(key, "learned") if isinstance(key, str) else key] for key in (row, reference))
    alone = theirs if len(theirs) == 1 else {}
    pairs = [(mine[seed], theirs.get(seed) or next(iter(alone.values()), None)) for seed in sorted(mine)]
    pairs = [(a, b) for a, b in pairs if b is not None]
    if not pairs:
        raise ValueError(f"{row} and {reference} were never run with the same seed.")
    table = np.array([_values(a, what) - _values(b, what) for a, b in pairs])  # [seeds, queries]
    if group is not None:
        table = table[:, np.array([on == "1" for on in pairs[0][0]["members"].get(group, "")], bool)]
    table = table[:, ~np.isnan(table).any(axis=0)] if table.size else table
    if not table.size:
        raise ValueError(f"No query of the group {group!r} has a value of {what!r}.")
    by_seed = table.mean(axis=1)
    over_seeds = None
    if len(by_seed) > 1:
        reach = stats.t.ppf((1 + level) / 2, len(by_seed) - 1) * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
        over_seeds = (float(by_seed.mean() - reach), float(by_seed.mean() + reach))
    over_queries = metrics.bootstrap_interval(table.mean(axis=0), level)
    untrained = all(record["steps"] == 0 for pair in pairs for record in pair)
    return Difference(float(by_seed.mean()), tuple(map(float, by_seed)), over_seeds, over_queries, untrained)


def _values(record: Mapping[str, Any], what: str) -> np.ndarray:
    return np.array([np.nan if value is None else value / 10 for value in record[what]])  # per mille -> points

"""Which part brings how much: the grid of one-switch changes, its records, and the differences that they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from fdp_core.config import SHIFTS, Config, preset
from fdp_core.evaluation import metrics, results
from fdp_core.files import atomic_write_text
from fdp_core.training.state import read_log

FULL, BARE, ZERO = "full", "bare", "zero-shot"  # the rows that others are compared with
REPLACED = "shift replace"
LEAVE_ONE_OUT, ADD_ONE_IN = "leave one out", "add one in"

# One recipe for all rows, shorter than chapter 05's, so that the grid with three seeds fits in an hour on one core.
# Fixed on held-out photographs of mini_train before any gallery was looked at.
RECIPE: dict[str, Any] = {"epochs": 1, "decay_epoch": 1, "lr_new": 1e-3}

# Only the position table is trained, by the alignment loss: what training brings without any part of FDP.
_NOTHING: dict[str, Any] = {"shift": "off", "probe": "off", "prompts": "none", "candidates": 1, "weight_loc": 0.0}


@dataclass(frozen=True)
class Row:
    """One configuration of the grid.

    Attributes:
        name: unique in the grid.
        part: which part of FDP the switch is about.
        side: :data:`LEAVE_ONE_OUT` of the full model, or :data:`ADD_ONE_IN` to bare training.
        changes: switches that differ from the row ``reference``.
        reference: name of the row that it is compared with; itself for the full model and for zero-shot.
        preset: the preset that everything else comes from.
        tier: 1 for the parts that the paper names, run first; 2 for what costs more; 3 for finer switches.
    """

    name: str
    part: str
    side: str = LEAVE_ONE_OUT
    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: str = FULL
    preset: str = "default"
    tier: int = 1

    def config(self, seed: int = 0, **recipe: Any) -> Config:
        """Return all switches of this row.

        Args:
            seed: of everything random.
            recipe: length and rates of the training, over :data:`RECIPE`.
        """
        start = _NOTHING if self.side == ADD_ONE_IN else {}
        # the row's own changes last: zero-shot has no epochs, whatever the recipe says
        return preset(self.preset, **{**start, **RECIPE, **recipe, **self.changes, "seed": seed})


def _out(name: str, part: str, tier: int = 1, **changes: Any) -> Row:
    return Row(name, part, LEAVE_ONE_OUT, changes, tier=tier)


def _in(name: str, part: str, reference: str = BARE, tier: int = 1, **changes: Any) -> Row:
    return Row(name, part, ADD_ONE_IN, changes, reference, tier=tier)


GRID: tuple[Row, ...] = (
    Row(FULL, "everything"),
    _out("input 320", "input", image_size=320),
    _out("input 480", "input", 2, image_size=480),
    *(_out(f"shift {form}", "attention shift", shift=form) for form in SHIFTS if form != Config.shift),
    _out("probe off", "probing", probe="off"),
    _out("probe official", "probing", probe="official"),
    _out("one context", "contexts", prompts="one"),
    _out("no context", "contexts", prompts="none"),
    _out("distracted off", "distracted queries", candidates=1),
    _out("distracted inverse", "distracted queries", distraction_target="inverse"),
    _out("localiser linear", "localiser", localiser="linear"),
    _out("positions flat", "positions", position_resize="flat_nearest"),
    Row("paper_compat", "preset", preset="paper_compat", tier=2),
    # finer switches
    _out("localiser untaught", "localiser", 2, weight_loc=0.0),
    _out("input 224", "input", 3, image_size=224),
    _out("centre crop", "input", 3, fit="centre_crop"),
    _out("squashed polygons", "supervision", 3, polygon_fit="squash"),
    # under `log` the mean token gets nothing either way
    replace(
        _out("additive, mean token too", "attention shift", 3, shift="additive", shift_mean_token=True),
        reference="shift additive",
    ),
    _out("shift scale fixed", "attention shift", 3, shift_scale_learnable=False),
    _out("shift, released order", "attention shift", 3, shift_heads="released_order"),
    _out("contexts random", "contexts", 3, prompt_start="random"),
    _out("contexts 4 and 4", "contexts", 3, context_function=4),
    _out("distracted T = 0.25", "distracted queries", 3, distraction_temperature=0.25),
    _out("distracted T = 1", "distracted queries", 3, distraction_temperature=1.0),
    _out("distractors as anchor", "distracted queries", 3, distractor_cluster="anchor"),
    _out("true words distract", "distracted queries", 3, drop_true_distractors=False),
    _out("padding counts", "distracted queries", 3, mask_padding=False),
    _out("targets nearest", "supervision", 3, target_pool="nearest"),
    _out("negatives by batch", "supervision", 3, loc_balance="batch"),
    _out("one positive", "supervision", 3, positives="single"),
    _out("no shuffling", "supervision", 3, shuffle=False),
    # from zero-shot up; epochs 0 with every part off is CLIP as it is
    _in(ZERO, "everything", ZERO, epochs=0),
    _in("zero-shot 224", "input", ZERO, 3, epochs=0, image_size=224),
    _in("zero-shot 320", "input", ZERO, epochs=0, image_size=320),
    _in("zero-shot 480", "input", ZERO, 2, epochs=0, image_size=480),
    _in(BARE, "training", ZERO),
    _in("+ positions flat", "positions", BARE, 3, position_resize="flat_nearest"),
    *(
        _in(f"+ shift {form}", "attention shift", BARE, 3 if form == "multiply" else 1, shift=form, weight_loc=1.0)
        for form in sorted(SHIFTS, key=lambda form: form != Config.shift)
        if form != "off"
    ),
    _in("+ probe spatial", "probing", probe="spatial"),
    _in("+ probe official", "probing", probe="official"),
    _in("+ one context", "contexts", prompts="one"),
    _in("+ two contexts", "contexts", prompts="two"),
    _in("+ distracted T = 0.5", "distracted queries", candidates=5),
    _in("+ distracted inverse", "distracted queries", BARE, 3, candidates=5, distraction_target="inverse"),
)

# Every other field of Config, and why it has no row.
NOT_VARIED: dict[str, str] = {
    "localiser_hidden": "a width, not a choice between methods",
    "shift_scale_init": "the start of a number that is learned",
    "probe_heads": "a width, not a choice between methods",
    "probe_dropout": "a rate of the recipe",
    "probe_text": "one phrase is known of the paper; a search over phrases would be tuning",
    "cluster_n_init": "chapter 03 varies the clustering",
    "function_anchor": "names a cluster; chapter 03 varies the clustering",
    "content_anchor": "names a cluster; chapter 03 varies the clustering",
    "context_content": "chapter 03 varies the lengths for each kind of word",
    "shrink_ratio": "a number of the supervision, as published",
    "negative_ratio": "a number of the supervision, as published",
    "weight_align": "without alignment nothing ties photographs to words",
    "weight_distract": "0 is what one candidate is: `distracted off`",
    "batch_size": "the recipe",
    "words_per_image": "the released value is part of `paper_compat`; it changes the cost more than the result",
    "lr_new": "the recipe",
    "lr_copied": "the recipe",
    "weight_decay": "the recipe",
    "decay_epoch": "the recipe",
    "validation_share": "chooses among epochs; the released value is part of `paper_compat`",
    "seed": "every row is run with several",
}


def named(names: Sequence[str]) -> list[Row]:
    """Return rows by name, in the order of the names.

    Raises:
        ValueError: there is no such row; the message lists all.
    """
    known = {row.name: row for row in GRID}
    for name in names:
        if name not in known:
            raise ValueError(f"There is no row {name!r} in the grid; it has: {', '.join(known)}.")
    return [known[name] for name in names]


# The records of the ablation grid, and the differences that they hold, with intervals over seeds and over queries.

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
        set_name: the set that was measured on.
        weights_hash: of the backbone.
        train_set: as in the records, for example ``mini_train/train``.
        recipe: changes to :data:`fdp_core.studies.ablation_grid.RECIPE`.

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


VERDICTS = ("better", "worse", "no clear difference")
Key = str | tuple[str, str]  # a row, or a row with another text map


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
    def clear(self) -> bool:
        """Whether both intervals leave zero out, on the same side; untrained rows have only the one over queries."""
        seeds = self.over_queries if self.untrained else self.over_seeds or (-np.inf, np.inf)
        ends = (*self.over_queries, *seeds)
        return min(ends) > 0 or max(ends) < 0

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`."""
        return ("better" if self.mean > 0 else "worse") if self.clear else "no clear difference"


def compare(
    runs: Runs,
    row: Key,
    reference: Key,
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


Lines = list[tuple[str, dict[str, Difference]]]  # (label, set -> difference)


def across(
    sets: Mapping[str, Runs], row: Key, reference: Key, what: str = "ap", group: str | None = None
) -> dict[str, Difference]:
    """Compare two rows as :func:`compare` does, on every set that has values of both: set -> difference."""
    found = {}
    for name, runs in sets.items():
        try:
            found[name] = compare(runs, row, reference, what, group)
        except (KeyError, ValueError):  # not run there, or no query of the group has a value
            continue
    return found


def lines_of(rows: Sequence[Row], sets: Mapping[str, Runs], what: str = "ap") -> Lines:
    """Compare rows with their references; rows that were run nowhere are left out."""
    pairs = [(row.name, across(sets, row.name, row.reference, what)) for row in rows if row.name != row.reference]
    return [(name, found) for name, found in pairs if found]

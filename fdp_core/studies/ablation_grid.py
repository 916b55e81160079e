"""Which part brings how much: the grid of one-switch changes, and its records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fdp_core.config import SHIFTS, Config, preset
from fdp_core.evaluation import results
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


# The records of the ablation grid.

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
    """Read the grid's records; an empty list where there are none yet, ``BadRecord`` where a line lacks a field."""
    path = path or records_file()
    records = read_log(path) if path.is_file() else []
    for number, record in enumerate(records, start=1):
        if lacking := [name for name in (*_IDENTITY, "row", "seed", "mAP", "ap") if name not in record]:
            raise results.BadRecord(f"{path}, line {number}: {', '.join(lacking)} missing. Remove the line.")
    return records


def keep(new: Sequence[dict[str, Any]], path: Path | None = None) -> Path:
    """Add records, each in place of an older one of the same run; the file is whole at any moment."""
    path = path or records_file()
    fresh = {identity_of(record) for record in new}
    lines = [record for record in load(path) if identity_of(record) not in fresh] + list(new)
    texts = (json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n" for record in lines)
    return atomic_write_text(path, "".join(texts))

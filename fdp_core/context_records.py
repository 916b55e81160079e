"""The record of a run over context lengths: one file for all lengths, seeds and both kinds of query."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fdp_core import results
from fdp_core.checkpoint import model_hash
from fdp_core.distinguish import KINDS

SYSTEM, METRIC = "FDP, context lengths", "mAP, most minus least over context lengths"
_KEY = "mAP/{view}/{kind}/{length} vectors/seed {seed}"
_PATTERN = re.compile(r"mAP/(?P<view>[^/]+)/(?P<kind>\w+)/(?P<length>\d+) vectors/seed (?P<seed>\d+)")
Row = dict[str, Any]  # view (str), kind (str), length (int), seed (int), mAP (float, per cent)


def rows(both: np.ndarray, kinds: np.ndarray, asked: np.ndarray, view: str, length: int, seed: int) -> list[Row]:
    """Sum one trained model up: for each kind of query its mAP behind its own context.

    Args:
        both: float [2, Q] average precisions (:func:`fdp_core.switched_split.under_each_context`), 0-1.
        kinds: int [Q], 0 function and 1 content.
        asked: bool [Q], the queries that count.
        view: which vectors the photographs had, for example "one vector".
        length: of the contexts.
        seed: of their training.

    Returns:
        One row a kind that occurs; its mAP in per cent.
    """
    found = []
    for number, kind in enumerate(KINDS):
        members = asked & (np.asarray(kinds) == number)
        if members.any():
            value = 100 * float(both[number, members].mean())
            found.append({"view": view, "kind": kind, "length": length, "seed": seed, "mAP": value})
    return found


def means(measured: Sequence[Row]) -> dict[tuple[str, str], dict[int, np.ndarray]]:
    """Group rows: (view, kind) -> length -> float [seeds], mAP in per cent, lengths rising."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in sorted(measured, key=lambda row: (row["length"], row["seed"])):
        found.setdefault((row["view"], row["kind"]), {}).setdefault(row["length"], []).append(row["mAP"])
    return {key: {length: np.array(values) for length, values in each.items()} for key, each in found.items()}


def spread(by_length: Mapping[int, np.ndarray]) -> float:
    """Return how far the lengths' means over the seeds lie apart, points."""
    centre = [values.mean() for values in by_length.values()]
    return float(max(centre) - min(centre))


def entry(
    measured: Sequence[Row], gallery: Any, queries: Any, model: Any, parameters: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Make the record, for :func:`fdp_core.results.save`.

    Args:
        measured: all rows.
        gallery: on which was measured.
        queries: with which.
        model: the trained model around which the contexts were trained.
        parameters: lengths, seeds, training set and the like: what tells this run from others.
        seconds: wall time.

    Returns:
        A record whose ``value`` is the largest spread over the lengths among views and kinds, points of mAP.

    Raises:
        ValueError: there are no rows.
    """
    if not measured:
        raise ValueError("Nothing was measured: give at least one length.")
    return results.check(
        {
            "set": gallery.name,
            "split": gallery.split,
            "protocol": queries.protocol,
            "system": SYSTEM,
            "metric": METRIC,
            "value": max(map(spread, means(measured).values())),
            "queries": len(queries.texts),
            "images": len(gallery.photos),
            "unreadable": 0,
            "values": {_KEY.format(**row): row["mAP"] for row in measured},
            "groups": {},
            "parameters": dict(parameters),
            "backbone": model.backbone.name,
            "weights_hash": model.backbone.weights_hash,
            "model_hash": model_hash(model),
            "manifest_hash": gallery.manifest_hash or None,
            **results.circumstances(model.backbone.device),
            "seconds": seconds,
            "speed": None,
        }
    )


def read(record: Mapping[str, Any]) -> list[Row]:
    """Take the rows out of a record again."""
    found = []
    for key, value in record["values"].items():
        if match := _PATTERN.fullmatch(key):
            row = match.groupdict()
            found.append({**row, "length": int(row["length"]), "seed": int(row["seed"]), "mAP": float(value)})
    return found


def latest(table: Any, set_name: str, split: str, backbone: str) -> dict[str, Any] | None:
    """Return the latest such record of one set and backbone from :func:`fdp_core.results.load_all`, or None."""
    fits = (table["system"] == SYSTEM) & (table["set"] == set_name)
    fits &= (table["split"] == split) & (table["backbone"] == backbone)
    found = table[fits].sort_values("date", kind="stable")
    return None if found.empty else found.iloc[-1].to_dict()

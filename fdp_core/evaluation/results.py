"""Every run leaves one JSON record; tables and comparisons are made from the records alone."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import unicodedata
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from fdp_core.config import parse
from fdp_core.evaluation import metrics, provenance
from fdp_core.files import atomic_write_text

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Record(TypedDict):  # it may have other fields, too
    set: str
    split: str
    protocol: str
    system: str
    metric: str
    value: Finite  # per cent for mAP and the like, as papers print them
    queries: int
    images: int
    unreadable: int
    values: dict[str, Finite]  # every other number of the run, per cent
    groups: dict[str, dict[str, Any]]
    parameters: dict[str, Any]
    backbone: str | None
    weights_hash: str | None
    manifest_hash: str | None
    commit: str | None
    dirty: bool | None
    device: str  # on a CPU with PyTorch's threads: two give other last digits than one
    libraries: dict[str, str]
    seconds: Finite
    speed: dict[str, Any] | None
    date: str
    interval: NotRequired[Annotated[list[Finite], Field(min_length=2, max_length=2)]]
    model_hash: NotRequired[str | None]


_IDENTITY = ("set", "split", "protocol", "system", "metric", "backbone", "parameters")


class BadRecord(ValueError):
    """A file among the results is no record; the message names it."""


def results_folder() -> Path:
    """Return where records go: ``FDP_RESULTS``, else ``book/results`` of the checkout or current folder."""
    named = os.environ.get("FDP_RESULTS")
    return Path(named) if named else (provenance.checkout() or Path.cwd()) / "book" / "results"


def _plain(value: Any) -> Any:
    """Turn a value into plain JSON; of an absolute path only the last part stays: records are published."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, Path) or (
        isinstance(value, str) and (value.startswith(("/", "~")) or re.match(r"[A-Za-z]:\\", value))
    ):
        text = str(value)
        away = text.startswith(("/", "~")) or PureWindowsPath(text).drive
        return PureWindowsPath(text).name if away else text
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not np.isfinite(value):
            raise ValueError(f"A record cannot hold the number {value}; leave it out, or give None.")
        return value
    return str(value)


def record(report: Any, parameters: dict[str, Any] | None = None, device: Any = None, **extra: Any) -> dict[str, Any]:
    """Make the record of one evaluation: a dict of plain JSON values; its value is the mAP, all metrics in per cent.

    Args:
        report: an :class:`fdp_core.evaluation.report.Report`.
        parameters: what the run was asked to do; the system's own settings are added.
        device: where it ran; None for what the report tells, else the CPU.
        extra: further fields, for example ``backbone`` of a system that does not tell it.
    """
    values = {name: 100 * value for name, value in report.values().items()}
    settings = dict(report.settings)
    # changes with every training: the model's hash is no part of the identity
    names = {name: settings.pop(name, None) for name in ("backbone", "weights_hash", "model_hash")}
    speed = None
    if report.speed is not None and report.speed.fps is not None:
        speed = {"fps": report.speed.fps, **vars(report.speed)}
    facts = {
        "set": report.set,
        "split": report.split,
        "protocol": report.protocol,
        "queries": len(report.texts),
        "images": len(report.ids),
        "unreadable": len(report.unreadable),
        # of the mean AP, per cent: 95 % of the means when the queries are drawn again
        "interval": [100 * end for end in metrics.bootstrap_interval(report.ap)],
        "groups": {
            name: {**group, "from": report.groups_from.get(name, "set")} for name, group in report.groups.items()
        },
        "parameters": {**settings, **(parameters or {})},
        "manifest_hash": report.manifest_hash or None,
        "device": device or getattr(report.speed, "device", "cpu"),
        "seconds": sum(report.seconds.values()),
        "speed": speed,
    }
    return measurement(report.system, "mAP", values, **names, **facts, **extra)


def measurement(system: str, metric: str, values: dict[str, float], model: Any = None, **facts: Any) -> dict[str, Any]:
    """Make the record of a measurement that has no report, such as a speed.

    Args:
        system: what was measured, for example ``trunk speed``.
        metric: of ``values``; the name of a number of its own where ``facts`` have ``value``.
        values: all numbers; their names tell the unit.
        model: an FDP, whose backbone the record names; None for none.
        facts: ``protocol``, ``parameters`` and whatever else differs from a measurement without a set.

    Raises:
        BadRecord: a field is missing or of another type.
    """
    entry = {"set": "none", "split": "none", "queries": 0, "images": 0, "manifest_hash": None, "seconds": 0.0}
    entry |= {"system": system, "metric": metric, "values": values, "value": values.get(metric), "groups": {}}
    entry |= {"unreadable": 0, "speed": None, "backbone": None, "weights_hash": None}
    if model is not None:
        entry |= {"backbone": model.backbone.name, "weights_hash": model.backbone.weights_hash}
    return check(_plain(entry | circumstances(facts.pop("device", "cpu")) | facts))


def circumstances(device: Any = "cpu") -> dict[str, Any]:
    """Return what every record tells of its run: commit, uncommitted changes, device, library versions, date."""
    sha, dirty = provenance.commit()
    facts = {"commit": sha, "dirty": dirty, "device": provenance.device(device), "libraries": provenance.versions()}
    return facts | {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def check(entry: dict[str, Any], where: str = "record") -> dict[str, Any]:
    """Return the record if it has all fields in their types.

    Raises:
        BadRecord: a field is missing or of another type; the message names ``where`` and the field.
    """
    try:
        parse(entry, _Record)
    except ValueError as error:
        raise BadRecord(f"{where}: {error}") from error
    return entry


def _slug(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", folded).strip("-") or "x"


def file_name(entry: dict[str, Any]) -> str:
    """Return a record's file name: the same run gives the same name, whatever and whenever it measured."""
    identity = json.dumps([entry[key] for key in _IDENTITY], sort_keys=True)
    parts = [entry["set"], entry["split"], entry["system"], entry["backbone"] or "none", entry["metric"]]
    return f"{'_'.join(_slug(part) for part in parts)}_{hashlib.sha256(identity.encode()).hexdigest()[:8]}.json"


def save(entry: dict[str, Any], folder: str | Path | None = None) -> Path:
    """Write a record to :func:`results_folder` or another, replacing that of an earlier run of the same thing."""
    entry = check(_plain(entry))
    folder = results_folder() if folder is None else Path(folder)
    path = folder / file_name(entry)
    atomic_write_text(path, json.dumps(entry, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def load_all(folder: str | Path | None = None) -> Any:
    """Read all records of :func:`results_folder` or another into a pandas DataFrame, by set, system and value.

    It is empty, with its columns, where there are no records.

    Raises:
        BadRecord: a file is no record.
    """
    import pandas as pd

    folder = results_folder() if folder is None else Path(folder)
    entries = []
    for path in sorted(folder.glob("*.json")):
        try:
            entry = parse(path.read_bytes(), dict[str, Any])
        except ValueError as error:
            raise BadRecord(f"{path}: no JSON object ({error}). Delete it and run its chapter again.") from error
        entries.append({**check(entry, str(path)), "file": path.name})
    table = pd.DataFrame(entries, columns=[*_Record.__annotations__, "file"] if not entries else None)
    return table.sort_values(["set", "system", "value"], kind="stable", ignore_index=True)

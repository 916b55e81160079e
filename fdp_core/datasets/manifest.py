"""Manifests: one hand-readable, schema-checked YAML file a set, in ``data_manifests/``."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from .types import DatasetMissing

DOWNLOADS = "downloads"  # in a set's folder: its archives, and the record of what was fetched
UNPACKING = ".unpacking"  # suffix of the mark beside an archive while it is being unpacked
PACKAGE = Path(__file__).resolve().parent.parent


class ManifestError(ValueError):
    """A manifest is not valid YAML or does not follow the schema; the message names file and place."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """One data set, as its YAML file describes it.

    Attributes:
        name: the canonical name, also the file's stem.
        path: the YAML file.
        hash: SHA-256 of its bytes; goes into every record of a run.
        data: the validated content.
    """

    name: str
    path: Path
    hash: str
    data: dict[str, Any] = field(repr=False)

    @property
    def shipped(self) -> bool:
        """Whether the set comes inside the package."""
        return "package" in self.data

    @property
    def may_show(self) -> bool:
        """Whether the set's photographs may be shown to others."""
        return bool(self.data["licence"]["may_show"])

    @property
    def attribution(self) -> str:
        """The line to show beside a photograph of the set."""
        return self.data["licence"].get("attribution", "")

    def folder(self, root: Path | None = None) -> Path:
        """Return the folder of the set: in the package if shipped, else under ``root`` or the data root."""
        return PACKAGE / self.data["package"] if self.shipped else data_root(root) / self.data["folder"]

    def split(self, name: str | None = None) -> tuple[str, dict[str, Any]]:
        """Return (name, description) of a split; the first one of the manifest where no name is given.

        Raises:
            ValueError: the set has no such split.
        """
        splits = self.data["splits"]
        if name is None:
            name = next(iter(splits))
        if name not in splits:
            raise ValueError(f"Data set {self.name!r} has no split {name!r}; it has: {', '.join(splits)}.")
        return name, splits[name]

    def lacking(self, split: str | None = None, root: Path | None = None) -> list[str]:
        """Return which parts of a split are not there, as paths in the set's folder; empty when whole.

        Each part of a layout lists alternatives (people unpack by hand into other folders); one is enough.
        """
        folder = self.folder(root)
        parts = self.split(split)[1]["layout"].values()
        lacking = [names[0] for names in parts if not any(_holds_something(folder / name) for name in names)]
        for entry in self.data.get("files", []):
            mark = folder / DOWNLOADS / (entry["file"] + UNPACKING)
            if self.split(split)[0] in entry.get("splits", self.data["splits"]) and mark.exists():
                lacking.append(f"part of {entry['file']} (its unpacking was broken off)")
        return lacking


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(not entry.name.startswith(".") for entry in path.iterdir())
    return path.is_file() and path.stat().st_size > 0


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return where data sets are looked for: ``root``, else the variable ``FDP_DATA``, else ``./data``.

    Where there is no ``./data``, that of the checkout is taken if it exists: JupyterLab runs a notebook in its
    own folder.
    """
    if named := root or os.environ.get("FDP_DATA"):
        return Path(named).expanduser().absolute()
    here, checkout = Path("data").absolute(), PACKAGE.parent / "data"
    return checkout if checkout.is_dir() and not here.is_dir() else here


def manifests_folder() -> Path:
    """Return the folder of the manifests.

    The environment variable ``FDP_MANIFESTS`` decides; else ``data_manifests/`` beside the package (a
    checkout, an editable install) or inside it (a wheel that carries them).

    Raises:
        ManifestError: there is none.
    """
    override = os.environ.get("FDP_MANIFESTS")
    candidates = [Path(override)] if override else [PACKAGE.parent / "data_manifests", PACKAGE / "data_manifests"]
    for folder in candidates:
        if (folder / "schema.json").is_file():
            return folder
    looked = ", ".join(str(folder) for folder in candidates)
    raise ManifestError(
        f"No data manifests at {looked}. Install the checkout with `pip install -e .`, "
        "or set FDP_MANIFESTS to its data_manifests folder."
    )


def read_manifest(path: Path) -> Manifest:
    """Read one YAML file and check it against ``schema.json``.

    Raises:
        ManifestError: not YAML, or not as the schema wants; names the file and the place.
    """
    raw = path.read_bytes()
    try:
        data = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ManifestError(f"{path}: not valid YAML: {error}") from None
    error = jsonschema.exceptions.best_match(_validator().iter_errors(data))
    if error is not None:
        raise ManifestError(f"{path}: {error.json_path}: {error.message}")
    if data["name"] != path.stem:
        raise ManifestError(f"{path}: the name {data['name']!r} is not that of the file")
    return Manifest(data["name"], path, hashlib.sha256(raw).hexdigest(), data)


def _validator() -> jsonschema.Draft202012Validator:
    return _validator_of(manifests_folder() / "schema.json")


@functools.lru_cache
def _validator_of(path: Path) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


def names() -> list[str]:
    """Return the canonical names of all sets, sorted."""
    return sorted(path.stem for path in manifests_folder().glob("*.yaml"))


def all_manifests() -> list[Manifest]:
    """Return the manifests of all sets, sorted by name."""
    return [read_manifest(manifests_folder() / f"{name}.yaml") for name in names()]


def manifest(name: str) -> Manifest:
    """Return the manifest of a set by its name or one of its aliases; case, ``-`` and ``_`` do not matter.

    Raises:
        ValueError: there is no such set; the message lists the names and guesses at a slip.
    """

    def key(text: str) -> str:
        return text.lower().replace("_", "").replace("-", "").replace(" ", "")

    table: dict[str, Manifest] = {}
    for entry in all_manifests():
        for alias in (entry.name, *entry.data["aliases"]):
            table[key(alias)] = entry
    if key(name) in table:
        return table[key(name)]
    near = difflib.get_close_matches(key(name), table, n=1)
    hint = f" Did you mean {table[near[0]].name!r}?" if near else ""
    raise ValueError(f"Unknown data set {name!r}; there are: {', '.join(names())}.{hint}")


def manifest_hash(name: str) -> str:
    """Return the SHA-256 of a set's manifest file, which also holds the hashes of its frozen query lists."""
    return manifest(name).hash


def missing(entry: Manifest, split: str, lacking: list[str], root: Path | None = None, why: str = "") -> DatasetMissing:
    """Make the one clear error for a set that is not there: which, where it was looked for, what to do."""
    folder = entry.folder(root)
    nothing = len(lacking) >= len(entry.split(split)[1]["layout"]) if split in entry.data["splits"] else True
    lines = [
        f"Data set {entry.name!r}, {entry.data['title']}, split {split!r}, is "
        f"{'missing' if nothing else 'incomplete'}: {', '.join(lacking)} not found in {folder}."
    ]
    if why:
        lines.append(why)
    if entry.shipped:
        lines.append("It comes with the package: install the package again from a complete checkout.")
        return DatasetMissing("\n".join(lines))
    if not entry.data.get("by_hand_only"):
        lines.append(f"To {'try again' if why else 'get it'}:  python -m fdp_core.datasets fetch {entry.name}")
    if steps := entry.data.get("by_hand"):
        lines.append("By hand:")
        lines += [f"  {number}. {step}" for number, step in enumerate(steps, start=1)]
    source = "given by the caller" if root else ("FDP_DATA" if os.environ.get("FDP_DATA") else "the default, ./data")
    lines.append(f"Looked for in {data_root(root)} ({source}); set FDP_DATA to look elsewhere.")
    return DatasetMissing("\n".join(lines))

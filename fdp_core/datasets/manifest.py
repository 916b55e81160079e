"""Manifests: one hand-readable, schema-checked YAML file a set, in ``data_manifests/``."""

from __future__ import annotations

import copy
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

from fdp_core.datasets.types import DatasetMissing

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
    def is_weights(self) -> bool:
        """Whether these are the weights of a model, not photographs."""
        return self.data.get("kind") == "weights"

    @property
    def parts(self) -> list[str]:
        """What can be fetched and checked by itself: the splits, or the single files of weights (``rn50``)."""
        if self.is_weights:
            return [_part_of(entry) for entry in self.data["files"]]
        return list(self.data["splits"])

    def part(self, name: str | None = None) -> str:
        """Return a part by its name, in any case of letters, or raise ValueError; without a name the first one."""
        parts = self.parts
        if name is None or name.lower() in parts:
            return parts[0] if name is None else name.lower()
        noun = "file" if self.is_weights else "split"
        raise ValueError(f"Data set {self.name!r} has no {noun} {name!r}; it has: {', '.join(parts)}.")

    def parts_of(self, entry: dict[str, Any]) -> list[str]:
        """Return which parts need a file of the manifest."""
        return [_part_of(entry)] if self.is_weights else entry.get("splits") or self.parts

    @property
    def big(self) -> bool:
        """Whether its files are so big (10 GB) that reading its annotations takes minutes."""
        return sum(entry.get("about_mb", 0) for entry in self.data.get("files", [])) >= 10_000

    @property
    def may_show(self) -> bool:
        """Whether the set's photographs may be shown to others."""
        return self.data["licence"]["may_show"] is True

    @property
    def attribution(self) -> str:
        """The line to show beside a photograph of the set."""
        return self.data["licence"].get("attribution", "")

    def folder(self, root: Path | None = None) -> Path:
        """Return the folder of the set: in the package if shipped, else under ``root`` or the data root.

        Weights lie in the user's home, where the library that reads them looks, whatever the root.
        """
        if self.is_weights:
            return Path.home() / self.data["home"]
        return PACKAGE / self.data["package"] if self.shipped else data_root(root) / self.data["folder"]

    def split(self, name: str | None = None) -> tuple[str, dict[str, Any]]:
        """Return (name, description) of a split, or raise ValueError; without a name the first one."""
        if self.is_weights:
            raise ValueError(f"{self.name!r} holds the weights of models, no photographs; `backbones.load` reads them.")
        name = self.part(name)
        return name, self.data["splits"][name]

    def lacking(self, split: str | None = None, root: Path | None = None) -> list[str]:
        """Return what of a part is not there, as paths in the set's folder; empty when whole.

        Each entry of a layout lists alternatives (people unpack by hand into other folders); one is enough. Where no
        part is named, it is the first split, and all weights.
        """
        folder = self.folder(root)
        if self.is_weights:
            wanted = self.parts if split is None else [self.part(split)]
            files = [entry["file"] for entry in self.data["files"] if _part_of(entry) in wanted]
            return [file for file in files if not _holds_something(folder / file)]
        split, facts = self.split(split)
        layout = [facts["layout"][key] for key in ("annotations", "images")]
        lacking = [names[0] for names in layout if not any(_holds_something(folder / name) for name in names)]
        for entry in self.data.get("files", []):
            mark = folder / DOWNLOADS / (entry["file"] + UNPACKING)
            if split in self.parts_of(entry) and mark.exists():
                lacking.append(f"part of {entry['file']} (its unpacking was broken off)")
        return lacking


def _part_of(entry: dict[str, Any]) -> str:
    return Path(entry["file"]).stem.lower()


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
    looked = ", ".join(map(str, candidates))
    advice = "Install the checkout with `pip install -e .`, or set FDP_MANIFESTS to its data_manifests folder."
    raise ManifestError(f"No data manifests at {looked}. {advice}")


def read_manifest(path: Path) -> Manifest:
    """Read one YAML file and check it against ``schema.json``.

    Raises:
        ManifestError: not YAML, or not as the schema wants; names the file and the place.
    """
    raw = path.read_bytes()
    data = copy.deepcopy(_checked(path, raw))  # the caller's own
    return Manifest(data["name"], path, hashlib.sha256(raw).hexdigest(), data)


@functools.lru_cache  # every look at one set reads the names of all
def _checked(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        data = yaml.safe_load(raw)
        error = jsonschema.exceptions.best_match(_validator(manifests_folder() / "schema.json").iter_errors(data))
    except (yaml.YAMLError, ValueError, RecursionError) as fault:  # no date is 2026-13-45, and lists may nest too deep
        raise ManifestError(f"{path}: not valid YAML: {str(fault) or type(fault).__name__}") from None
    if error is not None:
        raise ManifestError(f"{path}: {error.json_path}: {error.message}")
    if data["name"] != path.stem:
        raise ManifestError(f"{path}: the name {data['name']!r} is not that of the file")
    data.setdefault("splits", {})  # weights have none
    return data


@functools.lru_cache
def _validator(path: Path) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


def names() -> list[str]:
    """Return the canonical names of all sets, sorted."""
    return sorted(path.stem for path in manifests_folder().glob("*.yaml"))


def all_manifests() -> list[Manifest]:
    """Return the manifests of all sets, sorted by name."""
    return [read_manifest(manifests_folder() / f"{name}.yaml") for name in names()]


def known(name: str) -> Manifest | None:
    """Return the manifest of a set by its name or one of its aliases; None where there is no such set."""
    return _by_alias().get(_key(name))


def manifest(name: str) -> Manifest:
    """Return the manifest of a set by its name or one of its aliases; case, ``-`` and ``_`` do not matter.

    Raises:
        ValueError: there is no such set; the message lists the names and guesses at a slip.
    """
    table = _by_alias()
    if _key(name) in table:
        return table[_key(name)]
    near = difflib.get_close_matches(_key(name), table, n=1)
    hint = f" Did you mean {table[near[0]].name!r}?" if near else ""
    raise ValueError(f"Unknown data set {name!r}; there are: {', '.join(names())}.{hint}")


def _by_alias() -> dict[str, Manifest]:
    return {_key(alias): entry for entry in all_manifests() for alias in (entry.name, *entry.data["aliases"])}


def _key(text: str) -> str:
    return text.lower().replace("_", "").replace("-", "").replace(" ", "")


def manifest_hash(name: str) -> str:
    """Return the SHA-256 of a set's manifest file, which also holds the hashes of its frozen query lists."""
    return manifest(name).hash


def missing(entry: Manifest, split: str, lacking: list[str], root: Path | None = None, why: str = "") -> DatasetMissing:
    """Make the one clear error for a set that is not there: which, where it was looked for, what to do."""
    folder = entry.folder(root)
    whole = len(lacking) >= 2 or split not in entry.data["splits"]  # annotations and images
    lines = [
        f"Data set {entry.name!r}, {entry.data['title']}, {'file' if entry.is_weights else 'split'} {split!r}, is "
        f"{'missing' if whole else 'incomplete'}: {', '.join(lacking)} not found in {folder}."
    ]
    if why:
        lines.append(why)
    if entry.shipped:
        lines.append("It comes with the package: install the package again from a complete checkout.")
    elif not entry.data.get("by_hand_only"):
        lines.append(f"To {'try again' if why else 'get it'}:  python -m fdp_core.datasets fetch {entry.name}")
    if not entry.shipped and (steps := entry.data.get("by_hand")):
        lines.append("By hand:")
        lines += [f"  {number}. {step}" for number, step in enumerate(steps, start=1)]
    if not entry.shipped and not entry.is_weights:
        origin = "given by the caller" if root else "FDP_DATA" if os.environ.get("FDP_DATA") else "the default, ./data"
        lines.append(f"Looked for in {data_root(root)} ({origin}); set FDP_DATA to look elsewhere.")
    return DatasetMissing("\n".join(lines))

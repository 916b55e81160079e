"""Data sets in one form: manifest -> fetch -> verify -> parse -> :class:`Gallery` and :class:`Queries`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from fdp_core.datasets.download import FetchError
from fdp_core.datasets.fetch import fetch
from fdp_core.datasets.folder import as_folder, load_benchmark, load_folder, set_and_split
from fdp_core.datasets.formats.parse import parse_split
from fdp_core.datasets.manifest import Manifest, ManifestError, all_manifests, data_root, manifest_hash, missing, names
from fdp_core.datasets.manifest import manifest as find
from fdp_core.datasets.protocol import build_queries, queries_for, rank_words
from fdp_core.datasets.types import DatasetMissing, Gallery, Parsed, ParseError, Photo, Queries, Word
from fdp_core.datasets.verify import Check, verify

__all__ = [
    "Check", "DatasetMissing", "FetchError", "Gallery", "Manifest", "ManifestError", "ParseError", "Parsed",
    "Photo", "Queries", "Word", "all_manifests", "as_folder", "data_root", "fetch", "load", "load_benchmark",
    "load_folder", "manifest_hash", "names", "present", "queries_for", "rank_words", "verify", "where",
]  # fmt: skip


def where(name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder in which a set is, or would have to be; of a path, itself."""
    if (folder := as_folder(name)) is not None:
        return folder
    return find(name).folder(Path(root) if root else None)


def present(root: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of the sets of photographs of which the first split is there, sorted."""
    folder = Path(root) if root else None
    return [entry.name for entry in all_manifests() if entry.data["splits"] and not entry.lacking(root=folder)]


def load(
    name: str | os.PathLike[str],
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = False,
    progress: bool = True,
) -> tuple[Gallery, Queries]:
    """Load a split of a set as photographs and queries.

    Args:
        name: name or alias: ``"iiit"``, ``"svt"``, ``"ic15"``, ``"mlt"``, ``"mini"``, ``"mini_train"``; with a split
            behind it, ``"mqtr/word"``, ``"totaltext/tdsl"``, that one is taken, whatever ``split`` says; or the path of
            a folder of photographs (:func:`load_benchmark`).
        split: ``"test"`` or ``"train"``; by default the first of the manifest (test, where there is one).
        root: the data folder; ``FDP_DATA`` or ``./data`` by default.
        download: fetch what is missing where the net allows.
        progress: show bars while fetching.

    Returns:
        (gallery of N photographs sorted by id, Q queries with relevance ``[Q, N]``). The images are not
        opened: one that is absent or corrupt names itself where it is read.

    Raises:
        DatasetMissing: the set is not there and was not to be had; says what to do.
        ParseError: a file is not in the set's format; names file and line.
        ValueError: no such set or split.
    """
    if (folder := as_folder(name)) is not None:
        return load_benchmark(folder, split)
    name, split = set_and_split(name) or (name, split)
    source = find(name)
    split, facts = source.split(split)
    root = Path(root) if root else None
    lacking = source.lacking(split, root)
    if lacking and download and not source.shipped:
        try:
            fetch(source.name, split, root, progress=progress)
        except FetchError as error:
            raise missing(source, split, lacking, root, why=str(error)) from error
        lacking = source.lacking(split, root)
    if lacking:
        raise missing(source, split, lacking, root)
    parsed = parse_split(source, split, root)
    absent = [photo.id for photo in parsed.photos if not photo.path.is_file()]
    if absent:
        shown = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
        warnings.warn(f"{source.name}: {len(absent)} annotated images are not there: {shown}", stacklevel=2)
    queries = build_queries(parsed, facts["protocol"], source.path.parent, source.name)
    gallery = Gallery(source.name, split, parsed.photos, source.hash, source.may_show, source.attribution)
    return gallery, queries

"""Is a set there, whole and undamaged? Presence, counts against the manifest, hashes, every image read."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fdp_core.datasets.download import FetchError
from fdp_core.datasets.fetch import read_record, read_sums
from fdp_core.datasets.folder import as_folder, load_benchmark
from fdp_core.datasets.formats.parse import parse_split
from fdp_core.datasets.images import CorruptImage, open_image
from fdp_core.datasets.manifest import Manifest, manifest
from fdp_core.datasets.protocol import build_queries
from fdp_core.datasets.types import DatasetMissing, Gallery, Parsed, ParseError
from fdp_core.files import sha256_file


@dataclass(frozen=True)
class Check:
    """What was found about one split.

    Attributes:
        name: the set.
        split: the split.
        status: ``"present"``, ``"missing"`` or ``"damaged"``.
        folder: where it is or should be.
        problems: one line each; empty when present.
        counts: ``photographs``, ``words``, ``legible``, ``queries`` as found.
    """

    name: str
    split: str
    status: str
    folder: Path
    problems: tuple[str, ...]
    counts: dict[str, int]


def count(split: Parsed | Gallery) -> dict[str, int]:
    """Count photographs, words and legible words of a split."""
    words = [word for photo in split.photos for word in photo.words]
    legible = sum(not word.ignore for word in words)
    return {"photographs": len(split.photos), "words": len(words), "legible": legible}


def verify(
    name: str | os.PathLike[str],
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    quick: bool = False,
    progress: bool = False,
) -> list[Check]:
    """Check each split of a set, or one of them, as it lies on disk.

    Args:
        name: name or alias, or the path of a folder of photographs.
        root: the data folder; ``FDP_DATA`` or ``./data`` by default.
        quick: presence, annotations and counts only; no hashes, no decoding. Of a set of many GB presence only.
    """
    if (folder := as_folder(name)) is not None:
        return [_verify_folder(folder, split, quick, progress)]
    source = manifest(name)
    root = Path(root) if root else None
    parts = [source.part(split)] if split else source.parts
    return [_verify_part(source, part, root, quick, progress) for part in parts]


def _verify_folder(folder: Path, split: str | None, quick: bool, progress: bool) -> Check:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a folder without a table is in order; the counts show it
            gallery, queries = load_benchmark(folder, split)
    except (DatasetMissing, ParseError, OSError) as error:
        status = "missing" if isinstance(error, DatasetMissing) else "damaged"
        return Check(folder.name, split or "test", status, folder, (str(error),), {})
    paths = () if quick else tqdm(gallery.photos, desc=gallery.name, unit="image", disable=not progress)
    problems = tuple(fault for photo in paths if (fault := _fault(photo.path, None)))
    counts = {"photographs": len(gallery), "queries": len(queries)}
    return Check(gallery.name, gallery.split, "damaged" if problems else "present", folder, problems, counts)


def _verify_part(source: Manifest, part: str, root: Path | None, quick: bool, progress: bool) -> Check:
    folder, status, counts = source.folder(root), "damaged", {}
    if problems := [f"{lacking} is not there" for lacking in source.lacking(part, root)]:
        status = "missing"
    elif source.is_weights:
        files = [entry for entry in source.data["files"] if not quick and source.parts_of(entry) == [part]]
        wrong = [entry["file"] for entry in files if sha256_file(folder / entry["file"]) != entry["sha256"]]
        problems = [f"{file} is not the file that the manifest means (its SHA-256 differs)" for file in wrong]
    elif not (quick and source.big):
        try:
            problems, counts = _look_at_split(source, part, root, quick, progress)
        except (ParseError, OSError) as error:
            problems = [str(error)]
    return Check(source.name, part, status if problems else "present", folder, tuple(problems), counts)


def _look_at_split(
    source: Manifest, split: str, root: Path | None, quick: bool, progress: bool
) -> tuple[list[str], dict[str, int]]:
    """Return the problems and the counts of a split that is there."""
    folder, facts = source.folder(root), source.split(split)[1]
    parsed = parse_split(source, split, root)
    queries = build_queries(parsed, facts["protocol"], source.path.parent, source.name)
    counts = count(parsed) | {"queries": len(queries)}
    expected = {key: facts.get(key, found) for key, found in counts.items()}
    problems = [f"{counts[key]:,} {key}, {expected[key]:,} expected" for key in counts if counts[key] != expected[key]]
    problems += [f"image {photo.id} is not there" for photo in parsed.photos if not photo.path.is_file()]
    if not quick:
        known = _known_hashes(source, folder, problems)
        paths = [photo.path for photo in parsed.photos if photo.path.is_file()]
        for path in tqdm(paths, desc=f"{source.name}/{split}", unit="image", disable=not progress):
            if fault := _fault(path, known.get(path.relative_to(folder).as_posix())):
                problems.append(fault)
    return problems, counts


def _known_hashes(source: Manifest, folder: Path, problems: list[str]) -> dict[str, str]:
    """Return path -> SHA-256 as shipped or as noted when it was unpacked; checks all but images at once."""
    sums: dict[str, Any] = {}
    try:
        sums = read_record(folder)["files"]
    except FetchError as error:
        problems.append(str(error))
    sums |= read_sums(folder)
    if source.shipped and not (folder / "SHA256SUMS").is_file():
        problems.append("SHA256SUMS is not there")
    for name, digest in sums.items():
        path = folder / name
        annotation = path.suffix.lower() in (".json", ".xml", ".txt", ".mat", ".npy")
        if annotation and path.is_file() and sha256_file(path) != digest:
            problems.append(f"{name} has changed since it was {'shipped' if source.shipped else 'unpacked'}")
    return sums


def _fault(path: Path, digest: str | None) -> str:
    if digest:
        return "" if sha256_file(path) == digest else f"image {path.name} has changed (its SHA-256 differs)"
    try:
        open_image(path)
    except CorruptImage as error:
        return str(error)
    return ""

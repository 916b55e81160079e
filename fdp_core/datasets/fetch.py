"""Get a set's files: download or pick up, check, unpack into the expected tree, and note what was done."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import pooch

from fdp_core.config import parse
from fdp_core.datasets.archives import MAX_FILES, ArchiveError, is_archive, unpack
from fdp_core.datasets.download import DiskFault, FetchError, download, no_room, set_aside
from fdp_core.datasets.manifest import DOWNLOADS, UNPACKING, Manifest, manifest, missing
from fdp_core.files import atomic_write_text, sha256_file

RECORD = "record.json"
HASHES = ("sha256", "md5")  # of a file, where the manifest holds one


def read_record(folder: Path) -> dict[str, Any]:
    """Read what earlier fetches noted beside a set: hashes trusted on first use, what was unpacked.

    Returns:
        ``{"trusted": {file: {"sha256", "bytes", "source", "date"}}, "unpacked": {file: sha256},
        "files": {path: sha256}}``, with empty parts where nothing was noted.

    Raises:
        FetchError: the record is not readable; it names the file.
    """
    path = folder / DOWNLOADS / RECORD
    record: dict[str, Any] = {"trusted": {}, "unpacked": {}, "files": {}}
    if path.is_file():
        try:
            record |= parse(path.read_bytes(), dict[str, dict[str, Any]])
        except ValueError:
            raise FetchError(f"{path} is damaged; remove it to fetch and check the set anew.") from None
    return record


def read_sums(folder: Path) -> dict[str, str]:
    """Read path -> SHA-256 of the files of a set from its ``SHA256SUMS``; empty where there is none."""
    listing = folder / "SHA256SUMS"
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    return {name.removeprefix("./"): digest for digest, _, name in (line.partition("  ") for line in lines)}


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    atomic_write_text(folder / DOWNLOADS / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")


def _known_hash(entry: dict[str, Any], record: dict[str, Any]) -> str | None:
    """Return ``"sha256:..."`` or ``"md5:..."`` of a manifest's file, from the manifest or the first download."""
    for algorithm in HASHES:
        if algorithm in entry:
            return f"{algorithm}:{entry[algorithm]}"
    trusted = record["trusted"].get(entry["file"])
    return f"sha256:{trusted['sha256']}" if trusted else None


def _place(entry: dict[str, Any], folder: Path) -> Path:
    """Return where a file of the manifest comes to lie: archives in ``downloads/``, others where they are used."""
    return folder / (DOWNLOADS if entry.get("unpack", True) else entry.get("into", ".")) / entry["file"]


def _obtain(
    entry: dict[str, Any], folder: Path, record: dict[str, Any], progress: bool, network: dict[str, float]
) -> tuple[Path, bool]:
    """Return the checked file of a manifest's entry and whether it was downloaded just now."""
    target, packed = _place(entry, folder), entry.get("unpack", True)
    known = _known_hash(entry, record)
    limit = entry.get("bytes") or entry["max_mb"] * 10**6
    if target.is_file() and known and not pooch.hashes.hash_matches(str(target), known):
        told = "the manifest" if any(kind in entry for kind in HASHES) else "the record of the first download"
        aside = f"It is kept as {set_aside(target)}; run again for a new one."
        raise FetchError(f"{target} is not the file that {told} means: {known} expected. {aside}")
    origin = "placed by hand"
    if not target.is_file():
        faults = []
        for origin in entry["urls"]:
            try:
                download(origin, target, known, limit, copies=1 + packed, progress=progress, **network)
                break
            except DiskFault:
                raise
            except FetchError as error:
                faults.append(str(error))
        else:
            raise FetchError(" ".join(faults))
    if known is None:
        # Do not trust what is not even an archive, such as a login page that came in its place.
        if packed and not is_archive(target):
            fault = f"What came as {target.name} is not an archive (a web page in its place?)."
            raise FetchError(f"{fault} It is kept as {set_aside(target)}.")
        record["trusted"][entry["file"]] = {
            "sha256": sha256_file(target),
            "bytes": target.stat().st_size,
            "source": origin,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        }
        _write_record(folder, record)
    return target, origin != "placed by hand"


def fetch(
    name: str,
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    progress: bool = True,
    **network: float,
) -> Path:
    """Make a set complete and return its folder; whatever lies there already is left alone.

    Archives go to ``downloads/`` in the set's folder (put them there yourself where a site wants a form filled in) and
    are checked against the manifest's hash. Where none is known, the hash of the first download is noted in
    ``downloads/record.json`` and checked ever after. Weights come to lie where the library that reads them looks.

    Args:
        name: name or alias of the set.
        split: only what this split needs, or one file of weights (``"rn50"``); all by default.
        root: the data folder; ``FDP_DATA`` or ``./data`` by default.
        network: ``timeout``, ``tries``, ``pause`` of :func:`fdp_core.datasets.download.download`.

    Raises:
        FetchError: a file could not be obtained, checked, unpacked or written.
        DatasetMissing: the set must be got by hand; the message holds the steps.
    """
    source = manifest(name)
    root = Path(root) if root else None
    wanted = [source.part(split)] if split else source.parts
    folder = source.folder(root)
    try:
        if not source.shipped:
            _fetch_files(source, wanted, folder, root, progress, network)
    except ArchiveError as error:
        raise FetchError(str(error)) from error
    except OSError as error:
        raise no_room(error, folder) from error
    for part in wanted:
        if lacking := source.lacking(part, root):
            raise missing(source, part, lacking, root)
    return folder


def _fetch_files(
    source: Manifest, wanted: list[str], folder: Path, root: Path | None, progress: bool, network: dict[str, float]
) -> None:
    record = read_record(folder)
    entries = [entry for entry in source.data["files"] if set(source.parts_of(entry)) & set(wanted)]
    # A split that was fetched before needs all its archives; one that was put there by hand needs none.
    fetched = {part for entry in entries if entry["file"] in record["unpacked"] for part in source.parts_of(entry)}
    todo = []
    for entry in entries:
        parts = source.parts_of(entry)
        whole = not any(source.lacking(part, root) for part in parts)
        unpacked = entry["file"] in record["unpacked"] or not fetched & set(parts)
        if not entry.get("unpack", True) or not (whole and unpacked):  # what is not packed gets a look at its hash
            todo.append(entry)
    places = [_place(entry, folder) for entry in todo if not entry.get("urls")]
    absent = [place.relative_to(folder).as_posix() for place in places if not place.is_file()]
    if absent:
        raise missing(source, ", ".join(wanted), absent, root)
    obtained = [_obtain(entry, folder, record, progress, network) for entry in todo]
    for entry, (archive, downloaded) in zip(todo, obtained):
        if entry.get("unpack", True):
            _unpack(archive, entry, folder, record)
            if downloaded and entry.get("discard"):
                archive.unlink()


def _unpack(archive: Path, entry: dict[str, Any], folder: Path, record: dict[str, Any]) -> None:
    into = Path(entry.get("into", "."))
    # The mark tells a tree whose unpacking was broken off from a whole one; see Manifest.lacking.
    mark = archive.with_name(archive.name + UNPACKING)
    mark.touch()
    try:
        hashes = unpack(
            archive,
            folder / into,
            max_bytes=entry["max_mb"] * 10**6,
            max_files=entry.get("max_files", MAX_FILES),
            strip=entry.get("strip", 0),
            flatten=entry.get("flatten", False),
            keep_out=None if into.parts else DOWNLOADS,
        )
    except ArchiveError as error:
        mark.unlink()  # nothing was put in place
        if any(kind in entry for kind in HASHES) or entry["file"] in record["unpacked"]:
            raise
        # It was never any good: trust it no more, and let the next run get another.
        record["trusted"].pop(entry["file"], None)
        _write_record(folder, record)
        raise FetchError(f"{error}. It is kept as {set_aside(archive)}.") from error
    digest = sha256_file(archive)
    record["files"].update({(into / name).as_posix(): value for name, value in hashes.items()})
    record["unpacked"][entry["file"]] = digest
    _write_record(folder, record)
    mark.unlink()

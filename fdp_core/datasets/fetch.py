"""Get a set's files: download or pick up, check, unpack into the expected tree, and note what was done."""

from __future__ import annotations

import datetime
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pooch

from ..files import atomic_write_text, sha256_file
from .archives import ArchiveError, enough_space, unpack
from .download import FetchError, download, no_room
from .manifest import DOWNLOADS, UNPACKING, Manifest, manifest, missing

RECORD = "record.json"


def read_record(folder: Path) -> dict[str, Any]:
    """Read what earlier fetches noted beside a set: hashes trusted on first use, what was unpacked.

    Returns:
        ``{"trusted": {file: {"sha256", "bytes", "source", "date"}}, "unpacked": {file: sha256},
        "files": {path: sha256}}``; empty parts where nothing was noted or there is no record.

    Raises:
        FetchError: the record is not readable; it names the file.
    """
    path = folder / DOWNLOADS / RECORD
    record: dict[str, Any] = {"trusted": {}, "unpacked": {}, "files": {}}
    if path.is_file():
        try:
            record.update(json.loads(path.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, ValueError):
            raise FetchError(f"{path} is damaged; remove it to fetch and check the set anew.") from None
    return record


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    atomic_write_text(folder / DOWNLOADS / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")


def _known_hash(entry: dict[str, Any], record: dict[str, Any]) -> str | None:
    for algorithm in ("sha256", "md5"):
        if algorithm in entry:
            return f"{algorithm}:{entry[algorithm]}"
    trusted = record["trusted"].get(entry["file"])
    return f"sha256:{trusted['sha256']}" if trusted else None


def _obtain(
    entry: dict[str, Any], folder: Path, record: dict[str, Any], progress: bool, network: dict[str, float]
) -> Path:
    """Return the checked archive of a manifest's file entry; download it where it does not lie there yet."""
    target = folder / DOWNLOADS / entry["file"]
    known = _known_hash(entry, record)
    limit = entry.get("bytes") or entry["max_mb"] * 10**6
    if target.is_file() and known and not pooch.hashes.hash_matches(str(target), known):
        aside = target.with_name(f"{target.name}.wrong-{sha256_file(target)[:8]}")
        os.replace(target, aside)
        raise FetchError(
            f"{target} is not the file that {_who_knows(entry)} means: {known} expected. "
            f"It is kept as {aside}; run again for a new one."
        )
    origin = "placed by hand"
    if not target.is_file():
        faults = []
        for origin in entry["urls"]:
            try:
                download(origin, target, known, limit, progress=progress, **network)
                break
            except FetchError as error:
                faults.append(str(error))
        else:
            raise FetchError("\n".join(faults))
    if known is None:
        _check_archive(target)
        record["trusted"][entry["file"]] = {
            "sha256": sha256_file(target),
            "bytes": target.stat().st_size,
            "source": origin,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        }
        _write_record(folder, record)
    return target


def _who_knows(entry: dict[str, Any]) -> str:
    return "the manifest" if "sha256" in entry or "md5" in entry else "the record of the first download"


def _check_archive(path: Path) -> None:
    """Refuse to trust what is not even an archive, such as a login page that came in its place."""
    if not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        aside = path.with_name(f"{path.name}.wrong-{sha256_file(path)[:8]}")
        os.replace(path, aside)
        raise FetchError(
            f"What came as {path.name} is not an archive (a web page in its place?). It is kept as {aside}."
        )


def _splits(source: Manifest, entry: dict[str, Any]) -> list[str]:
    return entry.get("splits") or list(source.data["splits"])


def fetch(
    name: str,
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    progress: bool = True,
    **network: float,
) -> Path:
    """Make a set complete: whatever lies there already is left alone.

    Archives go to ``downloads/`` in the set's folder (put them there yourself where a site wants a form
    filled in) and are checked against the manifest's hash. Where none is known, the hash of the first
    download is noted in ``downloads/record.json`` and checked ever after.

    Args:
        name: name or alias of the set.
        split: only what this split needs; all by default.
        root: the data folder; ``FDP_DATA`` or ``./data`` by default.
        progress: show bars on stderr.
        network: ``timeout``, ``tries``, ``pause`` of :func:`fdp_core.datasets.download.download`.

    Returns:
        The set's folder.

    Raises:
        FetchError: a file could not be had, checked, unpacked or written.
        DatasetMissing: the set must be got by hand; the message holds the steps.
    """
    source = manifest(name)
    root = Path(root) if root else None
    wanted = [source.split(split)[0]] if split else list(source.data["splits"])
    folder = source.folder(root)
    try:
        if not source.shipped:
            _fetch_files(source, wanted, folder, root, progress, network)
    except ArchiveError as error:
        raise FetchError(str(error)) from error
    except OSError as error:
        raise no_room(error, folder) from error
    return _complete(source, wanted, root)


def _fetch_files(
    source: Manifest,
    wanted: list[str],
    folder: Path,
    root: Path | None,
    progress: bool,
    network: dict[str, float],
) -> None:
    record = read_record(folder)
    entries = [entry for entry in source.data["files"] if set(_splits(source, entry)) & set(wanted)]
    # A split that was fetched before needs all its archives; one that was put there by hand needs none.
    fetched = {part for entry in entries if entry["file"] in record["unpacked"] for part in _splits(source, entry)}
    todo = []
    for entry in entries:
        parts = _splits(source, entry)
        whole = not any(source.lacking(part, root) for part in parts)
        if not (whole and (entry["file"] in record["unpacked"] or not fetched & set(parts))):
            todo.append(entry)
    absent = [
        f"{DOWNLOADS}/{entry['file']}"
        for entry in todo
        if not entry.get("urls") and not (folder / DOWNLOADS / entry["file"]).is_file()
    ]
    if absent:
        raise missing(source, ", ".join(wanted), absent, root)
    archives = [(_obtain(entry, folder, record, progress, network), entry) for entry in todo]
    for archive, entry in archives:
        _unpack(archive, entry, folder, record)


def _unpack(archive: Path, entry: dict[str, Any], folder: Path, record: dict[str, Any]) -> None:
    into, limit = entry.get("into", "."), entry["max_mb"] * 10**6
    enough_space(folder, min(limit, archive.stat().st_size))
    # The mark tells a tree whose unpacking was broken off from a whole one; see Manifest.lacking.
    mark = archive.with_name(archive.name + UNPACKING)
    mark.touch()
    try:
        hashes = unpack(
            archive,
            folder / into,
            max_bytes=limit,
            strip=entry.get("strip", 0),
            flatten=entry.get("flatten", False),
        )
    except ArchiveError:
        mark.unlink()  # nothing was put in place
        raise
    record["files"].update({(Path(into) / name).as_posix(): value for name, value in hashes.items()})
    record["unpacked"][entry["file"]] = sha256_file(archive)
    _write_record(folder, record)
    mark.unlink()


def _complete(source: Manifest, wanted: list[str], root: Path | None) -> Path:
    for split in wanted:
        if lacking := source.lacking(split, root):
            raise missing(source, split, lacking, root)
    return source.folder(root)

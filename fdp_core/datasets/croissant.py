"""A manifest as Croissant 1.1, the JSON-LD in which search engines and loaders exchange data sets.

Only what the manifest holds is said: a date of publication or a version that nobody has looked up stays out.
"""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path
from typing import Any

from fdp_core.datasets.fetch import in_manifest, known_hash, read_record, read_sums
from fdp_core.datasets.manifest import Manifest, manifest

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_LICENCES = {"CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/"}
_COUNTS = ("photographs", "words", "legible", "queries")
_TERMS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
).split()
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _TERMS},
}


class NoHash(ValueError):
    """Croissant wants a hash of each file, and of one of this set none is known; the message says what to do."""


def export(name: str, root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Describe a set as Croissant 1.1.

    Args:
        name: name or alias.
        root: the data folder, for hashes that were noted at the first download; ``FDP_DATA`` or ``./data``
            by default.

    Returns:
        JSON-LD: the set, one FileObject an archive (or a file of a shipped set), and a record set ``splits`` with
        the sizes and the protocol of each split. The addresses of a shipped set are relative to its folder.

    Raises:
        NoHash: of a file no hash is known.
        ValueError: no such set.
    Source: Croissant Format Specification 1.1 (MLCommons, 2026-01-29).
    """
    source = manifest(name)
    data, licence = source.data, source.data["licence"]
    folder = source.folder(Path(root) if root else None)
    files = _shipped(source) if source.shipped else _archives(source, read_record(folder))
    splits = data["splits"]  # weights of models have none, nor photographs
    shown = f" Photographs {'may' if source.may_show else 'must not'} be shown." if splits else ""
    facts = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": source.name,
        "alternateName": [data["title"], *data["aliases"]],
        "description": f"{data['title']}. {' '.join(data['description'].split())}",
        "url": data.get("homepage"),
        "citeAs": " ".join(data["citation"].split()) if "citation" in data else None,
        "license": _LICENCES.get(licence["name"], licence["name"]),
        "conditionsOfAccess": " ".join(licence["source"].split()) + shown,
        "creditText": licence.get("attribution"),
        "keywords": ["scene text retrieval"],
        "distribution": files,
        "recordSet": [_splits(splits)] if splits else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _archives(source: Manifest, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Describe the files of a manifest; one without an address stands under its own name: it comes by hand."""
    described = []
    for entry in source.data["files"]:
        name, noted = entry["file"], record["trusted"].get(entry["file"], {})
        known = known_hash(entry, record)
        if known is None:
            raise NoHash(
                f"Data set {source.name!r}: Croissant needs a hash of each file, and of {name} none is known. "
                f"Fetch it first (python -m fdp_core.datasets fetch {source.name}): its hash is noted then."
            )
        parts = entry.get("splits") or source.data["splits"]
        told = [f"Needed for: {', '.join(parts)}."] if parts else []
        if not entry.get("urls"):
            told.append("No address: behind a form or to be asked for; see the page of the set.")
        if noted and not in_manifest(entry):
            told.append(f"The hash is that of the first download here ({noted.get('date', 'no date')}), not published.")
        size = entry.get("bytes") or noted.get("bytes")
        address, size = entry.get("urls", [name])[0], f"{size} B" if size else None
        described.append(_file(name, address, known, " ".join(told) or None, size))
    return described


def _shipped(source: Manifest) -> list[dict[str, Any]]:
    folder = source.folder()
    return [
        _file(name, name, f"sha256:{digest}", None, f"{(folder / name).stat().st_size} B")
        for name, digest in read_sums(folder).items()
    ]


def _file(name: str, address: str, known: str, description: str | None, size: str | None) -> dict[str, Any]:
    algorithm, _, digest = known.partition(":")
    facts = {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": address,
        "contentSize": size,
        "encodingFormat": mimetypes.guess_type(name)[0] or "application/octet-stream",
        algorithm: digest,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _splits(splits: dict[str, Any]) -> dict[str, Any]:
    """Describe the splits as a record set with its records inside; a count that is not pinned is null."""
    counts = [key for key in _COUNTS if any(key in facts for facts in splits.values())]
    kinds = {"split": "sc:Text", **dict.fromkeys(counts, "sc:Integer")}
    kinds |= dict.fromkeys(("protocol", "protocol_source"), "sc:Text")
    records = [
        {
            "split": name,
            **{key: facts.get(key) for key in counts},
            "protocol": facts["protocol"]["summary"],
            "protocol_source": " ".join(facts["protocol"]["source"].split()),
        }
        for name, facts in splits.items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The parts of the set: what is counted in each, how its queries are made, and who says so.",
        "key": {"@id": "splits/split"},
        "field": [
            {"@type": "cr:Field", "@id": f"splits/{key}", "name": key, "dataType": kind} for key, kind in kinds.items()
        ],
        "data": [{f"splits/{key}": value for key, value in record.items()} for record in records],
    }

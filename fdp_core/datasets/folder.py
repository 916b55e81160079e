"""Any folder of photographs: a gallery to search and, with a table of words in it, a benchmark of one's own."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from .manifest import ManifestError, manifest
from .protocol import WORD_PROTOCOL, build_queries, normalise
from .types import DatasetMissing, Gallery, Parsed, ParseError, Photo, Queries
from .word_table import TABLE, find_table, read_table

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


def image_files(folder: str | os.PathLike[str], recursive: bool = True) -> list[Path]:
    """List the image files of a folder by suffix, sorted by path, without hidden ones and linked folders.

    A suffix only selects: what a file really is gets decided from its content when it is opened (D4).
    """
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        found += [Path(base, name) for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
    return sorted(found)


def load_folder(folder: str | os.PathLike[str], recursive: bool = True, may_show: bool = False) -> Gallery:
    """Make a gallery of all image files of a folder.

    Args:
        folder: the folder.
        recursive: also take the folders in it.
        may_show: whether its photographs may be shown to others; the caller knows.

    Returns:
        A gallery named after the folder, of split ``"test"``, ids relative to the folder.

    Raises:
        DatasetMissing: there is no such folder, or no image in it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DatasetMissing(f"There is no folder {folder}. Give the path of a folder that holds photographs.")
    paths = image_files(folder, recursive)
    if not paths:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise DatasetMissing(f"The folder {folder} holds no photographs (looked for {kinds}).")
    photos = tuple(Photo(path.relative_to(folder).as_posix(), path) for path in paths)
    return Gallery(folder.resolve().name, "test", photos, manifest_hash="", may_show=may_show)


def as_folder(name: str | os.PathLike[str]) -> Path | None:
    """Tell the path of a folder from the name of a set.

    A path object, text with a path separator or ``~`` before it, and an existing folder are paths; the name or an
    alias of a set stays one, even where a folder is called the same (``./svt`` is that folder), and so does a set
    with one of its splits (``mqtr/word``) where there is no such folder.

    Returns:
        The path, or None for a name, known or not.
    """
    if isinstance(name, os.PathLike):
        return Path(name).expanduser()
    if set_and_split(name) is not None:
        return None
    path_like = any(mark in name for mark in "/\\") or name.startswith("~")
    if path_like or (name and Path(name).is_dir() and not _is_set(name)):
        return Path(name).expanduser()
    return None


def set_and_split(name: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Take ``mqtr/word`` apart: a set and one of its splits.

    Returns:
        (name of the set, name of the split); None for anything else, and where a folder of that path exists.
    """
    if isinstance(name, os.PathLike) or name.count("/") != 1 or Path(name).is_dir():
        return None
    known, split = name.split("/")
    if not _is_set(known) or split.lower() not in manifest(known).data["splits"]:
        return None
    return known, split.lower()


def load_benchmark(
    folder: str | os.PathLike[str], split: str | None = None, may_show: bool = False
) -> tuple[Gallery, Queries]:
    """Load a folder of photographs and, where it holds a ``words.csv``, the queries that are made of it.

    Every distinct word or phrase of the table is a query, case-folded. A photograph answers it when it is in its
    rows, or inside a phrase there: ``happy birthday`` answers ``birthday``. Photographs without words are
    distractors. Where the words stand is not known: such a folder can measure, not train.

    Args:
        folder: its path; see :mod:`fdp_core.datasets.word_table` for the table.
        split: ``"test"`` (default) or ``"train"``, only a label: a folder is one whole.
        may_show: whether its photographs may be shown to others; the caller knows.

    Returns:
        (gallery, queries with relevance ``[Q, N]``); Q = 0, with a warning, where there is no table.

    Raises:
        DatasetMissing: there is no such folder, or no photograph in it.
        ParseError: the table cannot be read; names file and line.
        ValueError: no such split.
    """
    split = split or "test"
    if split not in ("test", "train"):
        raise ValueError(f"A folder of photographs has no split {split!r}; it is taken as 'test' or 'train'.")
    gallery = load_folder(folder, may_show=may_show)
    # A folder called svt must not pass for the set of that name in records and beside published numbers.
    name = f"folder {gallery.name}" if _is_set(gallery.name) else gallery.name
    table = find_table(Path(folder).expanduser())
    if table is None:
        lacking = f"no {TABLE} in the folder (columns file and words), so there are no queries"
        warnings.warn(f"{name}: {lacking}: it can be searched, not measured", stacklevel=3)
        return replace(gallery, name=name, split=split), Queries((), np.zeros((0, len(gallery)), bool), lacking)
    ids = [photo.id for photo in gallery.photos]
    rows = {
        identity: {" ".join(normalise(word, WORD_PROTOCOL).split()) for word in words}
        for identity, words in read_table(table, ids).items()
    }
    texts = sorted(set().union(*rows.values()))
    if not texts:
        raise ParseError(table, None, "the table names no word: nothing to search for")
    lengths = {len(text.split()) for text in texts}
    holders: dict[str, list[str]] = {text: [] for text in texts}
    for identity, words in rows.items():
        for part in {part for word in words for part in _parts(word, lengths)} & holders.keys():
            holders[part].append(identity)
    distractors = len(ids) - sum(bool(words) for words in rows.values())
    protocol = {
        **WORD_PROTOCOL,
        "queries": {"rule": "listed"},
        "summary": f"every distinct word or phrase of {TABLE}, case-folded; "
        f"{distractors} of {len(ids)} photographs have none and are distractors",
    }
    parsed = Parsed(gallery.photos, {text: tuple(holders[text]) for text in texts})
    digest = hashlib.sha256(table.read_bytes() + "\n".join(ids).encode("utf-8", "surrogateescape")).hexdigest()
    queries = build_queries(parsed, protocol, table.parent, name)
    return replace(gallery, name=name, split=split, manifest_hash=digest), queries


def _parts(phrase: str, lengths: set[int]) -> Iterator[str]:
    """Yield every run of so many words of a phrase."""
    words = phrase.split()
    for length in lengths:
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def _is_set(name: str) -> bool:
    try:
        manifest(name)
    except ManifestError:
        raise
    except ValueError:
        return False
    return True

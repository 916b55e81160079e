"""Sets that list which files answer a query, ``{query: [file, ...]}``, and keep the images in one folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .file_names import LookUp
from .folder import image_files
from .types import Parsed, ParseError, Photo, inside


def parse_listed(path: Path, content: object, folder: Path) -> Parsed:
    """Make a gallery of a folder of images, and queries of a dict that was read from a file.

    A listed name is that of a file in the folder; where there is none, that of the only one which differs in case or
    in composed accents. Files that are listed but absent stay in the gallery, so that they are reported where they
    are opened. Files that no query lists are distractors.

    Args:
        path: the file that holds the dict, for messages.
        content: what was read from it: query -> list, tuple or array of file names.
        folder: the folder of images; ids are file names in it.

    Returns:
        Photographs without words, and the queries in the order of the file; their case is kept.

    Raises:
        ParseError: the content has another form; names file and query.
    """
    if not isinstance(content, dict) or not content:
        raise ParseError(path, None, f"expected a dict {{query: [file, ...]}}, found {_short(content)}")
    names = {found.name for found in image_files(folder, recursive=False)}
    look_up = LookUp(names)
    listed: dict[str, tuple[str, ...]] = {}
    for query, files in content.items():
        if not isinstance(query, str) or not query.strip():
            raise ParseError(path, None, f"expected text as a query, found {_short(query)}")
        text = unicodedata.normalize("NFC", query).strip()
        found = list(listed.get(text, ()))
        for name in _file_names(path, query, files, folder.name):
            found.append(look_up(name) or name)
        listed[text] = tuple(dict.fromkeys(found))
    names.update(name for files in listed.values() for name in files)
    return Parsed(tuple(Photo(name, folder / name) for name in sorted(names)), listed)


def _file_names(path: Path, query: str, files: object, folder: str) -> Iterator[str]:
    files = files.ravel().tolist() if isinstance(files, np.ndarray) else files
    if not isinstance(files, (list, tuple)):
        raise ParseError(path, None, f"query {query!r}: expected a list of file names, found {_short(files)}")
    for name in files:
        try:
            if not isinstance(name, str):
                raise ValueError(f"{_short(name)} is not text")
            name.encode("utf-8")  # half a surrogate pair is no text and names no file
            yield inside(name).removeprefix(f"{folder}/")
        except ValueError as error:
            raise ParseError(path, None, f"query {query!r}: expected file names; {error}") from None


def _short(value: object) -> str:
    shown = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    return shown[:80]

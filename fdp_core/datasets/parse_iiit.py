"""IIIT-STR's ``data.mat``: a MATLAB struct array, one entry a query: its text, and the files that show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .containers import read_mat
from .folder import image_files
from .types import Parsed, ParseError, Photo, inside


def strings(value: object) -> Iterator[str]:
    """Yield the text leaves of what scipy makes of nested MATLAB cells, in order, whatever their nesting."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, (np.ndarray, np.void, list, tuple)):
        for item in value.ravel() if isinstance(value, np.ndarray) else value:
            yield from strings(item)


def read_queries(path: Path) -> dict[str, tuple[str, ...]]:
    """Read query -> relevant file names, queries lower-cased as in the field's own scripts.

    The nesting is ``data[0, i][0][0][0][0]`` for the text and ``data[0, i][1][j][0][0]`` for file j.

    Raises:
        ParseError: not a MAT file of version 5 or lower, or of another structure; names the entry.
    """
    content = read_mat(path)
    if "data" not in content:
        raise ParseError(path, None, f"expected a variable 'data', found {list(content)}")
    queries: dict[str, tuple[str, ...]] = {}
    for number, entry in enumerate(np.ravel(content["data"]), start=1):
        try:
            (text,), files = strings(entry[0]), tuple(inside(name) for name in strings(entry[1]))
        except (ValueError, IndexError, TypeError) as error:
            problem = f"query {number}: expected one text and a list of file names ({error})"
            raise ParseError(path, None, problem) from None
        if not text or not files:
            raise ParseError(path, None, f"query {number}: the text or its list of files is empty")
        text = text.lower()
        queries[text] = tuple(dict.fromkeys((*queries.get(text, ()), *files)))
    if not queries:
        raise ParseError(path, None, "'data' holds no query")
    return queries


def parse(root: Path, layout: dict) -> Parsed:
    """Read IIIT-STR; ``layout`` holds ``annotations`` (data.mat) and ``images`` (a folder) under root.

    Files that are listed but absent stay in the gallery, so that they are reported where they are opened.
    """
    queries = read_queries(root / layout["annotations"][0])
    folder = root / layout["images"][0]
    names = {path.name for path in image_files(folder, recursive=False)}
    names.update(name for files in queries.values() for name in files)
    return Parsed(tuple(Photo(name, folder / name) for name in sorted(names)), listed=queries)

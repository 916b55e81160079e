"""MQTR's ``text_queries.json``, one a subset: query -> names of the images that answer it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .containers import read_json
from .file_names import first_there
from .query_lists import parse_listed
from .types import Parsed, ParseError


def read_queries(path: Path) -> Any:
    """Read a JSON file in which no key may stand twice (``json`` alone would keep the last).

    Raises:
        ParseError: not UTF-8 text, not JSON (names the line), or a key stands twice.
        OSError: the file cannot be read.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ParseError(path, None, f"query {key!r} stands there twice; which list of files is meant?")
            found[key] = value
        return found

    return read_json(path, unique)


def parse(root: Path, layout: dict) -> Parsed:
    """Read one subset of MQTR.

    Args:
        root: the folder of the set.
        layout: lists of alternatives: ``annotations`` (text_queries.json) and ``images`` (a folder).

    Returns:
        All images of the folder without words, and the queries as they are written in the file.

    Raises:
        ParseError: the file is not JSON of this form; names the file, and the line or the query.
        OSError: the file cannot be read.
    """
    path = first_there(root, layout["annotations"])
    return parse_listed(path, read_queries(path), first_there(root, layout["images"]))

"""Sets that say of each query which files answer it: CSVTR by folders, IIIT-STR in a .mat file, MQTR in JSON, PSTR in a
pickled dict.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdp_core.datasets.images import image_files
from fdp_core.datasets.readers import LookUp, first_there, read_json, read_mat, read_npy
from fdp_core.datasets.types import Layout, Parsed, ParseError, Photo, inside

# What Chinese in UTF-8 or GBK looks like where it is taken for code page 437: frames, blocks, Greek, signs of sums.
_SCRAMBLED = re.compile("[\u2500-\u259f\u0370-\u03ff\u00b5\u00b1\u2229\u2261\u2264\u2265\u221e]")


def folder_query(name: str) -> str:
    """Return the query that the name of a folder stands for, composed (NFC), without spaces at its ends.

    Chinese names suffer when they are unpacked: macOS takes characters apart (NFD); a zip file that does not say
    that its names are UTF-8, or was made on a Chinese Windows (GBK), comes out in code page 437; a tar file of that
    kind leaves bytes that are no text. Where signs of such an accident give Chinese, that Chinese is the query.
    """
    raw = b""
    if _holds_bytes(name):
        raw = os.fsencode(name)
    elif _SCRAMBLED.search(name):
        raw = name.encode("cp437", "ignore")
    for encoding in ("utf-8", "gbk"):
        text = raw.decode(encoding, "replace")
        if text and all(character.isascii() or _is_chinese(character) for character in text):
            name = text
            break
    return unicodedata.normalize("NFC", name).strip()


def _holds_bytes(name: str) -> bool:
    """Tell whether Python listed a name with bytes that are no UTF-8, as lone surrogates."""
    return any("\udc80" <= character <= "\udcff" for character in name)


def _is_chinese(character: str) -> bool:
    """Tell ideographs, and the punctuation and wide forms that go with them."""
    return unicodedata.name(character, "").startswith(("CJK", "IDEOGRAPHIC", "FULLWIDTH")) or character in "·—“”‘’…"


def parse_query_folders(base: Path) -> Parsed:
    """Read a folder, as of CSVTR, that holds one folder a query, or one inside it that does.

    The same file name may stand in several folders: ids are ``query/file``. A folder without images is a query
    without an answer.
    """
    images = image_files(base)
    homes = {path.parent for path in images}
    parents = {home.parent for home in homes}
    if base in homes:
        loose = next(path for path in images if path.parent == base)
        raise ParseError(loose, None, "expected one folder a query, found an image beside them; move it away")
    if len(parents) != 1:
        found = " and in ".join(str(parent) for parent in sorted(parents)[:2]) or "none"
        raise ParseError(base, None, f"expected one folder a query, side by side; folders with images: {found}")
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in parents.pop().iterdir() if path.is_dir() and not path.name.startswith(".")):
        query = folder_query(folder.name)
        if query == "__MACOSX":
            continue
        if _holds_bytes(query):
            raise ParseError(base, None, f"the name of the folder {query!r} is neither UTF-8 nor GBK; rename it")
        if query in folders:
            raise ParseError(folder, None, f"{folders[query]} stands for the same query {query!r}; remove one of them")
        folders[query] = folder
    photos = [Photo(f"{query}/{path.name}", path) for query, home in folders.items() for path in image_files(home)]
    listed = {query: tuple(photo.id for photo in photos if photo.id.startswith(f"{query}/")) for query in folders}
    return Parsed(tuple(sorted(photos, key=lambda photo: photo.id)), dict(sorted(listed.items())))


def parse_csvtr(root: Path, layout: Layout) -> Parsed:
    """Read CSVTR, or one split of DL-CSVTR; ``layout`` holds ``images``, the folder of the queries' folders."""
    return parse_query_folders(first_there(root, layout["images"]))


def strings(value: object) -> Iterator[str]:
    """Yield the text leaves of what scipy makes of nested MATLAB cells, in order, whatever their nesting."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, (np.ndarray, np.void, list, tuple)):
        for item in value.ravel() if isinstance(value, np.ndarray) else value:
            yield from strings(item)


def read_iiit_queries(path: Path) -> dict[str, tuple[str, ...]]:
    """Read query -> relevant file names from IIIT-STR's ``data.mat``, lower-cased as in the field's scripts.

    The nesting is ``data[0, i][0][0][0][0]`` for the text and ``data[0, i][1][j][0][0]`` for file j.
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
        raise ParseError(path, None, "expected queries in 'data'; found none")
    return queries


def parse_iiit(root: Path, layout: Layout) -> Parsed:
    """Read IIIT-STR; ``layout`` holds ``annotations`` (data.mat) and ``images`` (a folder) under root.

    Files that are listed but absent stay in the gallery, so that they are reported where they are opened.
    """
    return _gallery(root / layout["images"][0], read_iiit_queries(root / layout["annotations"][0]))


def _gallery(folder: Path, listed: dict[str, tuple[str, ...]]) -> Parsed:
    """Return the images of a folder, and those that are listed but absent, without words."""
    names = {path.name for path in image_files(folder, recursive=False)}.union(*listed.values())
    return Parsed(tuple(Photo(name, folder / name) for name in sorted(names)), listed)


def parse_listed(path: Path, content: object, folder: Path) -> Parsed:
    """Make a gallery of a folder of images, and queries of a dict that was read from a file.

    A listed name is that of a file in the folder; where there is none, that of the only one which differs in case or
    in composed accents. Files that are listed but absent stay in the gallery, so that they are reported where they
    are opened. Files that no query lists are distractors.

    ``content`` was read from the file: query -> list, tuple or array of file names, the photographs' ids.
    """
    if not isinstance(content, dict) or not content:
        raise ParseError(path, None, f"expected a dict {{query: [file, ...]}}, found {_short(content)}")
    look_up = LookUp(found.name for found in image_files(folder, recursive=False))
    listed: dict[str, tuple[str, ...]] = {}
    for query, files in content.items():
        if not isinstance(query, str) or not query.strip():
            raise ParseError(path, None, f"expected text as a query, found {_short(query)}")
        text = unicodedata.normalize("NFC", query).strip()
        found = (look_up(name) or name for name in _file_names(path, query, files, folder.name))
        listed[text] = tuple(dict.fromkeys([*listed.get(text, ()), *found]))
    return _gallery(folder, listed)


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


def parse_mqtr(root: Path, layout: Layout) -> Parsed:
    """Read one subset of MQTR; ``layout`` holds ``annotations`` (text_queries.json) and ``images`` (a folder)."""
    path = first_there(root, layout["annotations"])

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:  # json alone would keep the last
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise ParseError(path, None, f"query {key!r} stands there twice; which list of files is meant?")
            found[key] = value
        return found

    return parse_listed(path, read_json(path, unique), first_there(root, layout["images"]))


def parse_pstr(root: Path, layout: Layout) -> Parsed:
    """Read PSTR; ``layout`` holds ``annotations`` (a pickled dict, query_image_dict.npy) and ``images``."""
    path = first_there(root, layout["annotations"])
    array = read_npy(path)
    if array.size != 1:
        raise ParseError(path, None, f"expected one dict {{phrase: [file, ...]}}, found {array.size} objects")
    return parse_listed(path, array.item(), first_there(root, layout["images"]))

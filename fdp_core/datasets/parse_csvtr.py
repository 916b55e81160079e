"""CSVTR: one folder a query, named by it (Chinese); every image in it answers that query and no other."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from .file_names import first_there
from .folder import image_files
from .types import Parsed, ParseError, Photo

# What Chinese in UTF-8 or GBK looks like where it is taken for code page 437: frames, blocks, Greek, signs of sums.
_SCRAMBLED = re.compile("[\u2500-\u259f\u0370-\u03ff\u00b5\u00b1\u2229\u2261\u2264\u2265\u221e]")


def folder_query(name: str) -> str:
    """Return the query that the name of a folder stands for.

    Chinese names suffer when they are unpacked: macOS takes characters apart (NFD); a zip file that does not say
    that its names are UTF-8, or was made on a Chinese Windows (GBK), comes out in code page 437; a tar file of that
    kind leaves bytes that are no text.

    Args:
        name: the folder's name as Python lists it.

    Returns:
        Composed (NFC) text without spaces at its ends; where signs of such an accident give Chinese, that Chinese.
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


def parse_folders(base: Path) -> Parsed:
    """Read a folder that holds one folder a query, or one inside it that does.

    The same file name may stand in several folders: ids are ``query/file``. A folder without images is a query
    without an answer.

    Raises:
        ParseError: images that are in no folder of a query, or two folders of one query; names them.
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


def parse(root: Path, layout: dict) -> Parsed:
    """Read CSVTR, or one split of DL-CSVTR in its form.

    Args:
        root: the folder of the set.
        layout: ``images``, a list of alternatives: the folder in which the folders of the queries are.

    Returns:
        Photographs without words, and the queries in the order of their code points.

    Raises:
        ParseError: the folders are arranged in another way; names the place.
    """
    return parse_folders(first_there(root, layout["images"]))

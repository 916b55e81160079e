"""Any folder of photographs: a gallery to search and, with a table of words in it, a benchmark of one's own."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fdp_core.datasets.images import EXCLUDE, SUFFIXES, image_files, printable
from fdp_core.datasets.manifest import known
from fdp_core.datasets.protocol import WORD_PROTOCOL, build_queries, normalise
from fdp_core.datasets.readers import LookUp, decoded
from fdp_core.datasets.types import DatasetMissing, Gallery, Parsed, ParseError, Photo, Queries, inside

TABLE = "words.csv"  # which words stand on which photograph, as people write it in a spreadsheet
_MARKS = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFFEF)}  # full and half width
_MARKS |= str.maketrans("‘’‚‛ʼʻ´`｀′‹›“”„‟″«»\u2010\u2011", "'" * 12 + '"' * 7 + "--")
_MARKS |= dict.fromkeys([0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)])
_MARKS |= dict.fromkeys([*range(0xFE00, 0xFE10), 0xFEFF])  # these, too, have no width
_KEPT = "#%‰&@*-/\\_"  # punctuation that says something at the border of a word, as in 50% or #1
SEPARATORS = (",", ";", "\t")  # Excel writes ; where the comma is for decimals


def find_table(folder: Path) -> Path | None:
    """Return the ``words.csv`` of a folder, whatever the case of its name; None where there is none.

    Raises:
        ParseError: there are two that differ only in case.
    """
    found = sorted(path for path in folder.iterdir() if path.name.lower() == TABLE and path.is_file())
    if len(found) > 1:
        raise ParseError(found[0], None, f"the folder also holds {found[1].name}; keep one of them")
    return found[0] if found else None


def read_table(path: Path, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read a table of words.

    Args:
        path: UTF-8, with or without a byte order mark; separated by ``,``, ``;`` or a tab, as the header is.
        ids: the photographs of the folder, relative to it, with ``/``.

    Returns:
        Id -> its words and phrases as written, in the order of the rows; only photographs that have a row.

    Raises:
        ParseError: not such a table, or it names a photograph that is not in the folder; says the line.
        OSError: the file cannot be read.
    """
    text = _text(path)
    separator, file_column, words_column, width = _header(path, text)
    look_up = LookUp(ids)
    found: dict[str, list[str]] = {}
    unknown: list[tuple[int, str]] = []
    for line, row in _rows(path, text, separator):
        if len(row) != width:
            advice = f"words are separated by spaces or |, and a cell that holds {separator!r} stands in double quotes"
            raise ParseError(path, line, f"{len(row)} cells where the header names {width}: {advice}")
        name = row[file_column]
        if name not in look_up.names:  # a name that is there needs no mending, not even one with a colon
            try:
                name = inside(name)
            except ValueError as error:
                raise ParseError(path, line, f"column file: {error}") from None
        identity = look_up(name)
        if identity is None:
            unknown.append((line, name))
        else:
            found.setdefault(identity, []).extend(split_cell(row[words_column]))
    if unknown:
        raise ParseError(path, unknown[0][0], _not_there(unknown, ids))
    return {identity: tuple(words) for identity, words in found.items()}


def split_cell(cell: str) -> list[str]:
    """Return the words of a cell: its parts between ``|`` where it has one, else between spaces; none is empty."""
    parts = cell.split("|") if "|" in cell else cell.split()
    return [" ".join(part.split()) for part in parts if part.strip()]


def fold_words(text: str) -> str:
    """Return a word or phrase as it is asked for: in lower case and common quotes, without punctuation around words."""
    folded = normalise(text, WORD_PROTOCOL).translate(_MARKS)  # which may leave letters apart from their accents
    words = normalise(folded, WORD_PROTOCOL).split()
    return " ".join(word.strip("".join(filter(_around, word))) or word for word in words)


def _around(sign: str) -> bool:
    """Tell whether a sign around a word is no part of it, in any script."""
    return sign in "<>=^~|™®©℠" or (unicodedata.category(sign)[0] == "P" and sign not in _KEPT)


def _text(path: Path) -> str:
    data = path.read_bytes()
    advice = "; save the table as CSV UTF-8"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ParseError(path, 1, f"the file is UTF-16{advice}")
    if b"\0" in data:
        raise ParseError(path, data.count(b"\n", 0, data.index(b"\0")) + 1, f"the file is no text{advice}")
    return decoded(path, data, advice)


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line at which it begins, cells) of every row below the header that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    seen_header, begins = False, 1
    try:
        for row in reader:
            blank = not any(cell.strip() for cell in row)
            if seen_header and not blank:
                yield begins, row
            seen_header, begins = seen_header or not blank, reader.line_num + 1
    except csv.Error as error:
        raise ParseError(path, begins, f"not a table that can be read: {error}; is a quote left open?") from None


def _header(path: Path, text: str) -> tuple[str, int, int, int]:
    """Return (separator, column of file, column of words, number of columns): the header decides the separator."""
    lines = text.splitlines()
    number, line = next(((n, line) for n, line in enumerate(lines, start=1) if line.strip()), (1, ""))
    for separator in SEPARATORS:
        try:
            names = [cell.strip().lower() for cell in next(csv.reader([line], delimiter=separator), [])]
        except csv.Error:  # a line without end: the complaint below shows how it begins
            break
        if names.count("file") == 1 and names.count("words") == 1:
            return separator, names.index("file"), names.index("words"), len(names)
    wanted = "a header with one column file and one column words, separated by a comma, a semicolon or a tab"
    raise ParseError(path, number, f"expected {wanted}, found {line[:80]!r}")


def _not_there(unknown: list[tuple[int, str]], ids: Sequence[str]) -> str:
    """Say which names are not in the folder, each with its line and the name that comes nearest."""
    told = []
    for line, name in unknown[:10]:
        near = difflib.get_close_matches(name, ids, n=1)
        told.append(f"line {line}: {name}" + (f" (did you mean {near[0]}?)" if near else ""))
    if len(unknown) > 10:
        told.append(f"and {len(unknown) - 10} more")
    return f"the folder has no such photograph: {'; '.join(told)}. Mend the names or remove the rows."


def load_folder(
    folder: str | os.PathLike[str], may_show: bool = False, exclude: Sequence[str] = EXCLUDE, follow_links: bool = False
) -> Gallery:
    """Make a gallery of all image files of a folder and of the folders in it.

    Args:
        folder: the folder.
        may_show: whether its photographs may be shown to others; the caller knows.
        exclude: patterns of names that are left out: hidden files, recycle bins and thumbnails, if nothing is given.
        follow_links: linked folders, too, each once.

    Returns:
        A gallery named after the folder, of split ``"test"``, ids relative to the folder; bytes of a name that are not
        UTF-8 are written ``\\xe9``. A warning names the kinds of pictures that are not read.

    Raises:
        DatasetMissing: there is no such folder, or no image in it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DatasetMissing(f"There is no folder {folder}. Give the path of a folder that holds photographs.")
    paths = image_files(folder, exclude=exclude, follow_links=follow_links, tell=True)
    if not paths:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise DatasetMissing(f"The folder {folder} holds no photographs (looked for {kinds}).")
    photos = tuple(Photo(printable(path.relative_to(folder).as_posix()), path) for path in paths)
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
    if path_like or (name and Path(name).is_dir() and known(name) is None):
        return Path(name).expanduser()
    return None


def set_and_split(name: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Take ``mqtr/word`` apart: a set and one of its splits.

    Returns:
        (name of the set, name of the split); None for anything else, and where a folder of that path exists.
    """
    if isinstance(name, os.PathLike) or name.count("/") != 1 or Path(name).is_dir():
        return None
    name, split = name.split("/")
    source = known(name)
    return (name, split.lower()) if source and split.lower() in source.data["splits"] else None


def load_benchmark(
    folder: str | os.PathLike[str], split: str | None = None, may_show: bool = False
) -> tuple[Gallery, Queries]:
    """Load a folder of photographs and, where it holds a ``words.csv``, the queries that are made of it.

    Every distinct word or phrase of the table is a query, case-folded and without punctuation around words, so that
    ``exit,`` and ``Exit`` are one; a warning names what became one. A photograph answers it when it is in its
    rows, or inside a phrase there: ``happy birthday`` answers ``birthday``. Photographs without words are
    distractors. Where the words stand is not known: such a folder can measure, not train.

    Args:
        folder: its path; see :mod:`fdp_core.datasets.folder` for the table.
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
    name = f"folder {gallery.name}" if known(gallery.name) else gallery.name
    table = find_table(Path(folder).expanduser())
    if table is None:
        lacking = f"no {TABLE} in the folder (columns file and words), so there are no queries"
        warnings.warn(f"{name}: {lacking}: it can be searched, not measured", stacklevel=3)
        return replace(gallery, name=name, split=split), Queries((), np.zeros((0, len(gallery)), bool), lacking)
    ids = [photo.id for photo in gallery.photos]
    written, rows = read_table(table, ids), {}
    forms: dict[str, set[str]] = {}
    for identity, words in written.items():
        for word in filter(fold_words, words):
            forms.setdefault(fold_words(word), set()).add(normalise(word, WORD_PROTOCOL))
        rows[identity] = {*map(fold_words, words)} - {""}
    if alike := [" = ".join(map(repr, sorted(found))) for _, found in sorted(forms.items()) if len(found) > 1]:
        named = "; ".join(alike[:5]) + " ..." * (len(alike) > 5)
        warnings.warn(f"{name}: {TABLE}: {named} differ only in punctuation or quotes: one query each", stacklevel=3)
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
        "summary": f"every distinct word or phrase of {TABLE}, case-folded, without punctuation around words; "
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

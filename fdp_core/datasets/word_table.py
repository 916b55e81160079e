"""``words.csv``: which words stand on which photograph of one's own folder, as people write it in a spreadsheet.

A header line names the columns ``file`` and ``words``; others are not read. Words are separated by spaces. A cell
that holds ``|`` is cut there instead, so that its parts may be phrases: ``exit hotel`` are two words,
``happy birthday|exit`` is a phrase and a word, ``happy birthday|`` one phrase. A file may have several rows.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from .file_names import LookUp
from .types import ParseError, inside

TABLE = "words.csv"
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
            raise ParseError(
                path,
                line,
                f"{len(row)} cells where the header names {width}: words in a cell are separated by spaces or |, and "
                f"a cell that holds {separator!r} stands in double quotes",
            )
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


def _text(path: Path) -> str:
    data = path.read_bytes()
    advice = "save the table as CSV UTF-8"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ParseError(path, 1, f"the file is UTF-16; {advice}")
    if b"\0" in data:
        raise ParseError(path, data.count(b"\n", 0, data.index(b"\0")) + 1, f"the file is no text; {advice}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ParseError(path, line, f"byte {data[error.start]:#04x} is not UTF-8 text; {advice}") from None


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
    raise ParseError(
        path,
        number,
        f"expected a header with one column file and one column words, separated by a comma, a semicolon or a tab, "
        f"found {line[:80]!r}",
    )


def _not_there(unknown: list[tuple[int, str]], ids: Sequence[str]) -> str:
    """Say which names are not in the folder, each with its line and the name that comes nearest."""
    told = []
    for line, name in unknown[:10]:
        near = difflib.get_close_matches(name, ids, n=1)
        told.append(f"line {line}: {name}" + (f" (did you mean {near[0]}?)" if near else ""))
    if len(unknown) > 10:
        told.append(f"and {len(unknown) - 10} more")
    return f"the folder has no such photograph: {'; '.join(told)}. Mend the names or remove the rows."

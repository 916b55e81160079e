"""Total-Text: one file a photograph, ``x: [[...]], y: [[...]], ornt: [...], transcriptions: [...]`` or a .mat file."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .containers import read_mat
from .parse_icdar import annotation_files, parse_folders
from .text_lines import read_lines
from .types import Parsed, ParseError, Word

DONT_CARE = "#"  # as a transcription, or as an orientation beside c (curved), h (horizontal), m (multi-oriented)

_START = re.compile(r"\s*x\s*:")
_RECORD = re.compile(
    r"\s*x\s*:\s*\[(?P<x>[^:]*)\]\s*,\s*y\s*:\s*\[(?P<y>[^:]*)\]\s*,"
    r"\s*ornt\s*:\s*\[(?P<ornt>[^\]]*)\]\s*,\s*transcriptions?\s*:\s*\[(?P<text>.*)\]\s*"
)
_QUOTED = re.compile(r"[uU]?(['\"])(.*)\1")
_SHAPE = "x: [[1 2 3]], y: [[1 2 3]], ornt: [u'c'], transcriptions: [u'WORD']"


def unquote(text: str) -> str:
    """Return what a Python string literal stands for: ``u'it\\'s'``, ``u"it's"``, ``'caf\\xe9'``, or the bare text.

    The files were printed by Python 2, which writes letters beyond ASCII as escapes.
    """
    text = text.strip()
    quoted = _QUOTED.fullmatch(text)
    if not quoted:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a lone backslash is one
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = quoted[2]  # quotes inside that nobody escaped
    return value if isinstance(value, str) else " ".join(map(str, value))


def make_word(path: Path, number: int | None, place: str, x: object, y: object, kind: str, text: str) -> Word:
    """Make a word of the parts of a record.

    Some don't-care regions have one or two points: the last one is repeated, so that they stay, without area.

    Raises:
        ParseError: x and y are not as many finite numbers each, or there are none; names file and record.
    """
    try:
        points = np.stack([np.asarray(part, dtype=np.float32).ravel() for part in (x, y)], axis=1)
    except (ValueError, TypeError):
        points = np.empty((0, 2), dtype=np.float32)
    if len(points) == 0 or not np.isfinite(points).all():
        raise ParseError(path, number, f"{place}expected as many numbers in x as in y, found x {x} and y {y}"[:300])
    while len(points) < 3:
        points = np.concatenate([points, points[-1:]])
    return Word(text, points, ignore=DONT_CARE in (kind.strip(), text.strip()) or not text.strip())


def records(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number of its first line, record) of a text file; long arrays go on in the next lines.

    Raises:
        ParseError: the file is not UTF-8, or does not start with a record.
    """
    start, parts = 0, []
    for number, line in read_lines(path):
        if _START.match(line):
            if parts:
                yield start, " ".join(parts)
            start, parts = number, [line]
        elif parts:
            parts.append(line)
        else:
            raise ParseError(path, number, f"expected {_SHAPE}, found {line[:80]!r}")
    if parts:
        yield start, " ".join(parts)


def parse_text(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from a text file.

    Raises:
        ParseError: a record has another form; names file and line.
    """
    words = []
    for number, record in records(path):
        match = _RECORD.fullmatch(record)
        if not match:
            raise ParseError(path, number, f"expected {_SHAPE}, found {record[:120]!r}")
        x, y = (re.split(r"[\s,]+", match[axis].strip("[], \t")) for axis in "xy")
        words.append(make_word(path, number, "", x, y, unquote(match["ornt"]), unquote(match["text"])))
    return tuple(words)


def cell_text(cell: object) -> str:
    """Return the text of a MATLAB cell; of an empty one ``""``."""
    while isinstance(cell, np.ndarray) and cell.dtype == object and cell.size == 1:
        cell = cell.item()
    return "".join(str(part) for part in np.ravel(cell))


def parse_mat(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from ``polygt``, or ``gt`` of the later training files.

    Each row is ``'x:', [[...]], 'y:', [[...]], text, orientation``; text and orientation may be empty.

    Raises:
        ParseError: not a MAT file of version 5 or lower, or of another structure; names the row.
    """
    content = read_mat(path)
    name = next((name for name in ("polygt", "gt") if name in content), None)
    if name is None:
        raise ParseError(path, None, f"expected a variable 'polygt' or 'gt', found {list(content)}")
    table = content[name]
    if table.size and (table.dtype != object or table.ndim != 2 or table.shape[1] < 5):
        raise ParseError(path, None, f"expected rows of six cells in {name!r}, found {table.dtype} {table.shape}")
    return tuple(
        make_word(path, None, f"row {number}: ", row[1], row[3], "".join(map(cell_text, row[5:6])), cell_text(row[4]))
        for number, row in enumerate(table if table.size else (), start=1)
    )


def stem_of_image(stem: str) -> str:
    """Return the stem of the image that ``poly_gt_img1.txt``, ``poly_gt_img1.mat`` or ``gt_img1.mat`` annotates."""
    return stem.removeprefix("poly_").removeprefix("gt_")


def parse(root: Path, layout: dict) -> Parsed:
    """Read one split of Total-Text; ``layout`` holds lists of folders, ``images`` and ``annotations``.

    Of the folders of annotations the first that holds some is read; where text and .mat files lie side by side,
    the text files.

    Raises:
        ParseError: a file cannot be read, or an image has no annotation file.
    """
    images, folders = [root / name for name in layout["images"]], [root / name for name in layout["annotations"]]
    for folder in folders:
        for suffix, read in ((".txt", parse_text), (".mat", parse_mat)):
            if annotation_files(folder, (suffix,)):
                return parse_folders(images, [folder], read=read, suffixes=(suffix,), key=stem_of_image)
    places = ", ".join(layout["annotations"])
    raise ParseError(folders[0], None, f"no poly_gt_img*.txt or poly_gt_img*.mat; looked in {places}")

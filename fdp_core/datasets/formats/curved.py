"""Sets of curved text. SCUT-CTW1500: polygons of 14 points, ``x1,y1,...,x14,y14,####transcription`` for testing, XML
for training. Total-Text: records ``x: [[...]], y: [[...]], ornt: [...], transcriptions: [...]``, or a .mat file.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdp_core.datasets.formats.icdar import DONT_CARE, parse_first_folder
from fdp_core.datasets.formats.xml_boxes import read_xml
from fdp_core.datasets.readers import read_lines, read_mat
from fdp_core.datasets.types import Layout, Parsed, ParseError, Word

POINTS = 14  # of a polygon of CTW1500
MARK = "####"  # before its transcription
TOTALTEXT_DONT_CARE = "#"  # as transcription, or as orientation beside c (curved), h (horizontal), m (multi-oriented)
_START = re.compile(r"\s*x\s*:")
_RECORD = re.compile(
    r"\s*x\s*:\s*\[(?P<x>[^:]*)\]\s*,\s*y\s*:\s*\[(?P<y>[^:]*)\]\s*,"
    r"\s*ornt\s*:\s*\[(?P<ornt>[^\]]*)\]\s*,\s*transcriptions?\s*:\s*\[(?P<text>.*)\]\s*"
)
_QUOTED = re.compile(r"[uU]?(['\"])(.*)\1")
_SHAPE = "x: [[1 2 3]], y: [[1 2 3]], ornt: [u'c'], transcriptions: [u'WORD']"


def polygon(path: Path, number: int, text: str) -> np.ndarray:
    """Turn ``x1,y1,...,x14,y14`` into a polygon, float32 ``[14, 2]``, points in the order of the file.

    Raises:
        ParseError: not 28 finite numbers; names file and line.
    """
    try:
        values = np.array([float(field) for field in text.split(",")], dtype=np.float32)
    except ValueError:
        values = np.empty(0, dtype=np.float32)
    if len(values) != 2 * POINTS or not np.isfinite(values).all():
        raise ParseError(path, number, f"expected {2 * POINTS} numbers x1,y1,...,x14,y14, found {text.strip()[:120]!r}")
    return values.reshape(POINTS, 2)


def make_ctw1500_word(text: str, points: np.ndarray) -> Word:
    """Make a word; ``###`` and nothing are don't-cares."""
    return Word(text, points, ignore=text.strip() in ("", DONT_CARE))


def parse_line(path: Path, number: int, line: str) -> Word:
    """Read one line; the transcription is everything after the first ``####``, commas and ``#`` included.

    The release for detection has lines without transcriptions, ``xmin,ymin,xmax,ymax`` and 14 offsets from the
    upper left corner: they give don't-care regions.

    Raises:
        ParseError: the line has another form; names file and line.
    Source: data/README.md of github.com/Yuliang-Liu/Curve-Text-Detector for the offsets.
    """
    points, mark, text = line.partition(MARK)
    if mark:
        return make_ctw1500_word(text, polygon(path, number, points.strip().removesuffix(",")))
    fields = line.split(",")
    if len(fields) == 4 + 2 * POINTS:
        try:
            corner = [float(field) for field in fields[:2]]
        except ValueError:
            corner = [np.nan, np.nan]
        if np.isfinite(corner).all():
            return make_ctw1500_word("", polygon(path, number, ",".join(fields[4:])) + np.float32(corner))
    raise ParseError(path, number, f"expected x1,y1,...,x14,y14,####transcription, found {line[:120]!r}")


def parse_xml(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from ``Annotations/image/box/{label,segs}``.

    Raises:
        ParseError: not well-formed, or a box without 14 points; names file and line.
    """
    root, lines = read_xml(path)
    words = []
    for box in root.iter("box"):
        segments = box.find("segs")
        if segments is None:
            raise ParseError(path, lines[box], "<box> has no <segs> with x1,y1,...,x14,y14")
        points = polygon(path, lines[segments], (segments.text or "").strip().strip(","))
        words.append(make_ctw1500_word((box.findtext("label") or "").strip(), points))
    return tuple(words)


def parse_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from its annotation file, text or XML by its suffix."""
    if path.suffix.lower() == ".xml":
        return parse_xml(path)
    return tuple(parse_line(path, number, line) for number, line in read_lines(path))


def ctw1500_stem(stem: str) -> str:
    """Return the stem of the image that a file annotates: ``0001001.txt`` belongs to ``1001.jpg``."""
    return stem.lstrip("0").zfill(4) if stem.isdigit() else stem


def parse_ctw1500(root: Path, layout: Layout) -> Parsed:
    """Read one split of CTW1500; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    return parse_first_folder(root, layout, {(".txt", ".xml"): parse_words}, ctw1500_stem)


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


def make_totaltext_word(path: Path, number: int | None, place: str, x: object, y: object, kind: str, text: str) -> Word:
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
    return Word(text, points, ignore=TOTALTEXT_DONT_CARE in (kind.strip(), text.strip()) or not text.strip())


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
        words.append(make_totaltext_word(path, number, "", x, y, unquote(match["ornt"]), unquote(match["text"])))
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
        make_totaltext_word(
            path, None, f"row {number}: ", row[1], row[3], "".join(map(cell_text, row[5:6])), cell_text(row[4])
        )
        for number, row in enumerate(table if table.size else (), start=1)
    )


def totaltext_stem(stem: str) -> str:
    """Return the stem of the image that ``poly_gt_img1.txt``, ``poly_gt_img1.mat`` or ``gt_img1.mat`` annotates."""
    return stem.removeprefix("poly_").removeprefix("gt_")


def parse_totaltext(root: Path, layout: Layout) -> Parsed:
    """Read one split of Total-Text, text files rather than .mat files; ``layout`` holds lists of folders."""
    return parse_first_folder(root, layout, {(".txt",): parse_text, (".mat",): parse_mat}, totaltext_stem)

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
from fdp_core.datasets.readers import polygon, read_lines, read_mat
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


def _ctw1500_word(text: str, polygon: np.ndarray) -> Word:
    return Word(text, polygon, ignore=text.strip() in ("", DONT_CARE))


def _ctw1500_line(path: Path, number: int, line: str) -> Word:
    """Read one line; the transcription is everything after the first ``####``, commas and ``#`` included."""
    points, mark, text = line.partition(MARK)
    if mark:
        return _ctw1500_word(text, polygon(path, number, points.strip().removesuffix(",").split(","), POINTS))
    # the release for detection has xmin,ymin,xmax,ymax, 14 offsets from there, and no text: don't-care regions
    fields = line.split(",")
    if len(fields) != 4 + 2 * POINTS:
        raise ParseError(path, number, f"expected x1,y1,...,x14,y14,####transcription, found {line[:120]!r}")
    corners_and_offsets = polygon(path, number, fields, 2 + POINTS)
    return _ctw1500_word("", corners_and_offsets[2:] + corners_and_offsets[0])


def _ctw1500_xml(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from ``Annotations/image/box/{label,segs}``."""
    root, lines = read_xml(path)
    words = []
    for box in root.iter("box"):
        segments = box.find("segs")
        if segments is None:
            raise ParseError(path, lines[box], "<box> has no <segs> with x1,y1,...,x14,y14")
        fields = (segments.text or "").strip().strip(",").split(",")
        text = (box.findtext("label") or "").strip()
        words.append(_ctw1500_word(text, polygon(path, lines[segments], fields, POINTS)))
    return tuple(words)


def parse_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph of CTW1500 from its annotation file, text or XML by its suffix."""
    if path.suffix.lower() == ".xml":
        return _ctw1500_xml(path)
    return tuple(_ctw1500_line(path, number, line) for number, line in read_lines(path))


def _ctw1500_stem(stem: str) -> str:
    """Return the stem of the image that a file annotates: ``0001001.txt`` belongs to ``1001.jpg``."""
    return stem.lstrip("0").zfill(4) if stem.isdigit() else stem


def parse_ctw1500(root: Path, layout: Layout) -> Parsed:
    """Read one split of CTW1500; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    return parse_first_folder(root, layout, {(".txt", ".xml"): parse_words}, _ctw1500_stem)


def _unquote(text: str) -> str:
    r"""Return what a literal of Python 2 stands for: ``u'it\\'s'``, ``'caf\\xe9'``, or the bare text."""
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


def _totaltext_word(path: Path, number: int | None, place: str, x: object, y: object, kind: str, text: str) -> Word:
    """Make a word of a record; don't-care regions of one or two points stay, the last point repeated."""
    try:
        points = np.stack([np.asarray(part, dtype=np.float32).ravel() for part in (x, y)], axis=1)
    except (ValueError, TypeError):
        points = np.empty((0, 2), dtype=np.float32)
    if len(points) == 0 or not np.isfinite(points).all():
        raise ParseError(path, number, f"{place}expected as many numbers in x as in y, found x {x} and y {y}"[:300])
    while len(points) < 3:
        points = np.concatenate([points, points[-1:]])
    return Word(text, points, ignore=TOTALTEXT_DONT_CARE in (kind.strip(), text.strip()) or not text.strip())


def _records(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number of its first line, record) of a text file; long arrays go on in the next lines."""
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
    """Read the words of one photograph of Total-Text from a text file."""
    words = []
    for number, record in _records(path):
        match = _RECORD.fullmatch(record)
        if not match:
            raise ParseError(path, number, f"expected {_SHAPE}, found {record[:120]!r}")
        x, y = (re.split(r"[\s,]+", match[axis].strip("[], \t")) for axis in "xy")
        words.append(_totaltext_word(path, number, "", x, y, _unquote(match["ornt"]), _unquote(match["text"])))
    return tuple(words)


def _cell_text(cell: object) -> str:
    """Return the text of a MATLAB cell; of an empty one ``""``."""
    while isinstance(cell, np.ndarray) and cell.dtype == object and cell.size == 1:
        cell = cell.item()
    return "".join(str(part) for part in np.ravel(cell))


def parse_mat(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph of Total-Text from ``polygt``, or ``gt`` of the later training files.

    Each row is ``'x:', [[...]], 'y:', [[...]], text, orientation``; text and orientation may be empty.
    """
    content = read_mat(path)
    name = next((name for name in ("polygt", "gt") if name in content), None)
    if name is None:
        raise ParseError(path, None, f"expected a variable 'polygt' or 'gt', found {list(content)}")
    table = content[name]
    if table.size and (table.dtype != object or table.ndim != 2 or table.shape[1] < 5):
        raise ParseError(path, None, f"expected rows of six cells in {name!r}, found {table.dtype} {table.shape}")
    return tuple(
        _totaltext_word(
            path, None, f"row {number}: ", row[1], row[3], "".join(map(_cell_text, row[5:6])), _cell_text(row[4])
        )
        for number, row in enumerate(table if table.size else (), start=1)
    )


def _totaltext_stem(stem: str) -> str:
    """Return the stem of the image that ``poly_gt_img1.txt``, ``poly_gt_img1.mat`` or ``gt_img1.mat`` annotates."""
    return stem.removeprefix("poly_").removeprefix("gt_")


def parse_totaltext(root: Path, layout: Layout) -> Parsed:
    """Read one split of Total-Text, text files rather than .mat files; ``layout`` holds lists of folders."""
    return parse_first_folder(root, layout, {(".txt",): parse_text, (".mat",): parse_mat}, _totaltext_stem)

"""SCUT-CTW1500: polygons of 14 points, ``x1,y1,...,x14,y14,####transcription`` for testing, XML for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .parse_icdar import DONT_CARE, annotation_files, parse_folders
from .parse_svt import read_xml
from .text_lines import read_lines
from .types import Parsed, ParseError, Word

POINTS = 14
MARK = "####"


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


def make_word(text: str, points: np.ndarray) -> Word:
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
        return make_word(text, polygon(path, number, points.strip().removesuffix(",")))
    fields = line.split(",")
    if len(fields) == 4 + 2 * POINTS:
        try:
            corner = [float(field) for field in fields[:2]]
        except ValueError:
            corner = [np.nan, np.nan]
        if np.isfinite(corner).all():
            return make_word("", polygon(path, number, ",".join(fields[4:])) + np.float32(corner))
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
        words.append(make_word((box.findtext("label") or "").strip(), points))
    return tuple(words)


def parse_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from its annotation file, text or XML by its suffix."""
    if path.suffix.lower() == ".xml":
        return parse_xml(path)
    return tuple(parse_line(path, number, line) for number, line in read_lines(path))


def stem_of_image(stem: str) -> str:
    """Return the stem of the image that a file annotates: ``0001001.txt`` belongs to ``1001.jpg``."""
    return stem.lstrip("0").zfill(4) if stem.isdigit() else stem


def parse(root: Path, layout: dict) -> Parsed:
    """Read one split of CTW1500; ``layout`` holds lists of folders, ``images`` and ``annotations``.

    Of the folders of annotations the first that holds some is read.

    Raises:
        ParseError: a file cannot be read, or an image has no annotation file.
    """
    images, folders = [root / name for name in layout["images"]], [root / name for name in layout["annotations"]]
    suffixes = (".txt", ".xml")
    for folder in folders:
        if annotation_files(folder, suffixes):
            return parse_folders(images, [folder], read=parse_words, suffixes=suffixes, key=stem_of_image)
    raise ParseError(
        folders[0], None, f"no annotation files *.txt or *.xml; looked in {', '.join(layout['annotations'])}"
    )

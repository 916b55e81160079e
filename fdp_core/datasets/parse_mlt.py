"""ICDAR MLT 2017 and 2019 text files: ``x1,y1,...,x4,y4,script,transcription``, ``###`` = don't care."""

from __future__ import annotations

from pathlib import Path

from .parse_icdar import DONT_CARE, parse_folders
from .text_lines import quadrilateral, read_lines
from .types import Parsed, ParseError, Word

__all__ = ["SCRIPTS", "parse", "parse_line", "parse_words"]

SCRIPTS = ("Arabic", "Latin", "Chinese", "Japanese", "Korean", "Bangla", "Hindi", "Symbols", "Mixed", "None")


def parse_line(path: Path, number: int, line: str) -> Word:
    """Read one line; the transcription is everything after the ninth comma.

    Raises:
        ParseError: the line has another form or names a script that the set does not have.
    Source: D3.
    """
    fields = line.split(",", 9)
    if len(fields) != 10:
        raise ParseError(path, number, f"expected x1,y1,...,x4,y4,script,transcription, found {line[:80]!r}")
    script, text = fields[8].strip(), fields[9]
    known = {name.lower(): name for name in SCRIPTS}
    if script.lower() not in known:
        raise ParseError(path, number, f"unknown script {script!r}; expected one of {', '.join(SCRIPTS)}")
    polygon = quadrilateral(path, number, fields[:8])
    return Word(text, polygon, ignore=text.strip() in ("", DONT_CARE), script=known[script.lower()])


def parse_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from its annotation file."""
    return tuple(parse_line(path, number, line) for number, line in read_lines(path))


def parse(root: Path, layout: dict) -> Parsed:
    """Read one split of MLT; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    return parse_folders(
        [root / name for name in layout["images"]],
        [root / name for name in layout["annotations"]],
        parse_words,
    )

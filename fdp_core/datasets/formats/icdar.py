"""ICDAR 2015 text files: one file a photograph, ``x1,y1,...,x4,y4,transcription``, ``###`` = don't care."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fdp_core.datasets.images import image_files
from fdp_core.datasets.readers import quadrilateral, read_lines
from fdp_core.datasets.types import Parsed, ParseError, Photo, Word

DONT_CARE = "###"


def parse_line(path: Path, number: int, line: str) -> Word:
    """Read one line; the transcription is everything after the eighth comma, commas and quotes included.

    Raises:
        ParseError: the line has another form.
    Source: D3.
    """
    fields = line.split(",", 8)
    if len(fields) != 9:
        raise ParseError(path, number, f"expected x1,y1,...,x4,y4,transcription, found {line[:80]!r}")
    text = fields[8]
    return Word(text, quadrilateral(path, number, fields[:8]), ignore=text.strip() in ("", DONT_CARE))


def parse_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from its annotation file."""
    return tuple(parse_line(path, number, line) for number, line in read_lines(path))


def annotation_files(folder: Path, suffixes: tuple[str, ...] = (".txt",)) -> list[Path]:
    """List the files of a folder with one of some suffixes, whatever their case, sorted and without hidden ones."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in entries if path.suffix.lower() in suffixes and not path.name.startswith(".")]


def without_gt(stem: str) -> str:
    """Return the stem of the image that ``gt_NAME.txt`` or ``NAME.txt`` annotates."""
    return stem.removeprefix("gt_")


def parse_folders(
    images: list[Path],
    annotations: list[Path],
    read: Callable[[Path], tuple[Word, ...]] = parse_words,
    *,
    suffixes: tuple[str, ...] = (".txt",),
    key: Callable[[str], str] = without_gt,
) -> Parsed:
    """Read a split that keeps its images and its annotation files in folders of their own.

    An annotation belongs to the image of the same stem, with or without ``gt_`` before it. A photograph that
    is annotated but absent stays in the gallery, so that it is reported where it is opened.

    Args:
        images: the folders of images; those that do not exist are passed over.
        annotations: the folders of annotation files; those that do not exist are passed over.
        read: reads an annotation file.
        suffixes: the suffixes of annotation files, in lower case.
        key: stem of an annotation file -> stem of its image.

    Raises:
        ParseError: a line cannot be read, an image has no annotation file, or two files claim one image.
    """
    texts: dict[str, Path] = {}
    for folder in annotations:
        for path in annotation_files(folder, suffixes):
            stem = key(path.stem)
            if stem in texts:
                raise ParseError(path, None, f"{texts[stem]} annotates the same image; remove one of them")
            texts[stem] = path
    found: dict[str, Path] = {}
    for folder in images:
        for path in image_files(folder, recursive=False):
            if path.stem in found:
                raise ParseError(path, None, f"{found[path.stem]} has the same name; remove one of them")
            if path.stem not in texts:
                places = ", ".join(str(folder) for folder in annotations)
                raise ParseError(path, None, f"no annotation file names this image in {places}")
            found[path.stem] = path
    for stem in texts.keys() - found.keys():
        found[stem] = images[0] / f"{stem}.jpg"
    photos = [Photo(path.name, path, read(texts[stem])) for stem, path in found.items()]
    return Parsed(tuple(sorted(photos, key=lambda photo: photo.id)))


def parse_icdar(root: Path, layout: dict) -> Parsed:
    """Read one split of ICDAR 2015; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    return parse_folders([root / name for name in layout["images"]], [root / name for name in layout["annotations"]])


# ICDAR MLT 2017 and 2019 text files: ``x1,y1,...,x4,y4,script,transcription``, ``###`` = don't care.

SCRIPTS = ("Arabic", "Latin", "Chinese", "Japanese", "Korean", "Bangla", "Hindi", "Symbols", "Mixed", "None")


def parse_mlt_line(path: Path, number: int, line: str) -> Word:
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


def parse_mlt_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph from its annotation file."""
    return tuple(parse_mlt_line(path, number, line) for number, line in read_lines(path))


def parse_mlt(root: Path, layout: dict) -> Parsed:
    """Read one split of MLT; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    return parse_folders(
        [root / name for name in layout["images"]],
        [root / name for name in layout["annotations"]],
        parse_mlt_words,
    )

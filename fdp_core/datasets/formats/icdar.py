"""Text files of ICDAR 2015, ``x1,y1,...,x4,y4,transcription``, and of MLT, with a script before the transcription.

Also what all sets share that keep images and annotation files, one a photograph, in folders of their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from fdp_core.datasets.images import image_files
from fdp_core.datasets.readers import polygon, read_lines
from fdp_core.datasets.types import Layout, Parsed, ParseError, Photo, Word

DONT_CARE = "###"
SCRIPTS = ("Arabic", "Latin", "Chinese", "Japanese", "Korean", "Bangla", "Hindi", "Symbols", "Mixed", "None")

Reader = Callable[[Path], tuple[Word, ...]]


def parse_words(path: Path, columns: str = "x1,y1,...,x4,y4,transcription") -> tuple[Word, ...]:
    """Read the words of one photograph, a word a line; the transcription is everything after the last column's comma.

    Source: D3.
    """
    known = {name.lower(): name for name in SCRIPTS}
    before = 8 + (",script," in columns)  # columns before the transcription
    words = []
    for number, line in read_lines(path):
        fields = line.split(",", before)
        if len(fields) != before + 1:
            raise ParseError(path, number, f"expected {columns}, found {line[:80]!r}")
        script = fields[8].strip() if before == 9 else "Latin"
        if script.lower() not in known:
            raise ParseError(path, number, f"unknown script {script!r}; expected one of {', '.join(SCRIPTS)}")
        ignore = fields[-1].strip() in ("", DONT_CARE)
        words.append(Word(fields[-1], polygon(path, number, fields[:8], 4), ignore, known[script.lower()]))
    return tuple(words)


def parse_mlt_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph of MLT, as :func:`parse_words` does."""
    return parse_words(path, "x1,y1,...,x4,y4,script,transcription")


def _annotation_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files of a folder with one of some suffixes, whatever their case, sorted and without hidden ones."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in entries if path.suffix.lower() in suffixes and not path.name.startswith(".")]


def _without_gt(stem: str) -> str:
    return stem.removeprefix("gt_")


def parse_folders(
    images: list[Path],
    annotations: list[Path],
    read: Reader = parse_words,
    suffixes: tuple[str, ...] = (".txt",),
    key: Callable[[str], str] = _without_gt,
    complete: bool = True,
) -> Parsed:
    """Read a split that keeps its images and its annotation files in folders of their own; some may not exist.

    A photograph that is annotated but absent stays in the gallery, so that it is reported where it is opened.

    Args:
        images: the folders of images.
        annotations: the folders of annotation files.
        read: reads an annotation file.
        suffixes: the suffixes of annotation files, in lower case.
        key: stem of an annotation file -> stem of its image.
        complete: an image without annotation is an error; else it is left out with a warning.
    """
    texts: dict[str, Path] = {}
    for path in (path for folder in annotations for path in _annotation_files(folder, suffixes)):
        stem = key(path.stem)
        if stem in texts:
            raise ParseError(path, None, f"{texts[stem]} annotates the same image; remove one of them")
        texts[stem] = path
    looked = ", ".join(str(folder) for folder in annotations)
    found: dict[str, Path] = {}
    for path in (path for folder in images for path in image_files(folder, recursive=False)):
        if path.stem in found:
            raise ParseError(path, None, f"{found[path.stem]} has the same name; remove one of them")
        if complete and path.stem not in texts:
            raise ParseError(path, None, f"no annotation file names this image in {looked}")
        found[path.stem] = path
    if not complete and not texts:
        raise ParseError(annotations[0], None, f"holds no annotation *{suffixes[0]}")
    if bare := len(found.keys() - texts.keys()):
        warnings.warn(f"{looked}: {bare} images without annotation left out", stacklevel=3)
    pairs = ((found.get(stem, images[0] / f"{stem}.jpg"), text) for stem, text in texts.items())
    photos = [Photo(path.name, path, read(text)) for path, text in pairs]
    return Parsed(tuple(sorted(photos, key=lambda photo: photo.id)))


def parse_first_folder(
    root: Path, layout: Layout, readers: Mapping[tuple[str, ...], Reader], key: Callable[[str], str]
) -> Parsed:
    """Read a split whose annotations lie in the first of several folders that holds files of a known suffix.

    ``readers`` are suffixes -> what reads such files; where a folder holds several kinds, the first is read. ``key`` is
    that of :func:`parse_folders`.
    """
    for folder in (root / name for name in layout["annotations"]):
        for suffixes, read in readers.items():
            if _annotation_files(folder, suffixes):
                return parse_folders([root / name for name in layout["images"]], [folder], read, suffixes, key)
    kinds = " or ".join(f"*{suffix}" for suffixes in readers for suffix in suffixes)
    looked = layout["annotations"]
    raise ParseError(root / looked[0], None, f"no annotation files {kinds}; looked in {', '.join(looked)}")


def parse_icdar(root: Path, layout: Layout, read: Reader = parse_words) -> Parsed:
    """Read one split of ICDAR 2015; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    images, annotations = ([root / name for name in layout[part]] for part in ("images", "annotations"))
    return parse_folders(images, annotations, read)


def parse_mlt(root: Path, layout: Layout) -> Parsed:
    """Read one split of MLT; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    return parse_icdar(root, layout, parse_mlt_words)

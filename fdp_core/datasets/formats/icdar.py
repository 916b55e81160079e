"""Text files of ICDAR 2015, ``x1,y1,...,x4,y4,transcription``, and of MLT, with a script before the transcription.

Also what all sets share that keep images and annotation files, one a photograph, in folders of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fdp_core.datasets.images import image_files
from fdp_core.datasets.readers import quadrilateral, read_lines
from fdp_core.datasets.types import Layout, Parsed, ParseError, Photo, Word

DONT_CARE = "###"
SCRIPTS = ("Arabic", "Latin", "Chinese", "Japanese", "Korean", "Bangla", "Hindi", "Symbols", "Mixed", "None")

Reader = Callable[[Path], tuple[Word, ...]]


def parse_words(path: Path, columns: str = "x1,y1,...,x4,y4,transcription") -> tuple[Word, ...]:
    """Read the words of one photograph; the transcription is everything after the last column's comma.

    Args:
        path: the annotation file, a word a line.
        columns: what a line holds; with ``script`` before the transcription in MLT.

    Raises:
        ParseError: a line has another form, or names a script that MLT does not have; names file and line.
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
        words.append(Word(fields[-1], quadrilateral(path, number, fields[:8]), ignore, known[script.lower()]))
    return tuple(words)


def parse_mlt_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one photograph of MLT, as :func:`parse_words` does."""
    return parse_words(path, "x1,y1,...,x4,y4,script,transcription")


def annotation_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files of a folder with one of some suffixes, whatever their case, sorted and without hidden ones."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in entries if path.suffix.lower() in suffixes and not path.name.startswith(".")]


def without_gt(stem: str) -> str:
    """Return the stem of the image that ``gt_NAME.txt`` or ``NAME.txt`` annotates."""
    return stem.removeprefix("gt_")


def parse_folders(
    images: list[Path],
    annotations: list[Path],
    read: Reader = parse_words,
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
                looked = ", ".join(str(folder) for folder in annotations)
                raise ParseError(path, None, f"no annotation file names this image in {looked}")
            found[path.stem] = path
    for stem in texts.keys() - found.keys():
        found[stem] = images[0] / f"{stem}.jpg"
    photos = [Photo(path.name, path, read(texts[stem])) for stem, path in found.items()]
    return Parsed(tuple(sorted(photos, key=lambda photo: photo.id)))


def parse_first_folder(
    root: Path, layout: Layout, readers: Mapping[tuple[str, ...], Reader], key: Callable[[str], str]
) -> Parsed:
    """Read a split whose annotations lie in the first of several folders that holds files of a known suffix.

    Args:
        root: the folder of the set.
        layout: lists of folders, ``images`` and ``annotations``.
        readers: suffixes -> what reads such files; where a folder holds several kinds, the first is read.
        key: stem of an annotation file -> stem of its image.

    Raises:
        ParseError: no folder holds such files, or as :func:`parse_folders`.
    """
    folders = [root / name for name in layout["annotations"]]
    for folder in folders:
        for suffixes, read in readers.items():
            if annotation_files(folder, suffixes):
                images = [root / name for name in layout["images"]]
                return parse_folders(images, [folder], read, suffixes=suffixes, key=key)
    kinds = " or ".join(f"*{suffix}" for suffixes in readers for suffix in suffixes)
    raise ParseError(folders[0], None, f"no annotation files {kinds}; looked in {', '.join(layout['annotations'])}")


def parse_icdar(root: Path, layout: Layout, read: Reader = parse_words) -> Parsed:
    """Read one split of ICDAR 2015; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    images, annotations = ([root / name for name in layout[part]] for part in ("images", "annotations"))
    return parse_folders(images, annotations, read)


def parse_mlt(root: Path, layout: Layout) -> Parsed:
    """Read one split of MLT; ``layout`` holds lists of folders, ``images`` and ``annotations``."""
    return parse_icdar(root, layout, parse_mlt_words)

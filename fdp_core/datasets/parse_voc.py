"""Pascal VOC XML, one file an image: ``object/{name,bndbox/{xmin,ymin,xmax,ymax}}``, the name being the word."""

from __future__ import annotations

import warnings
from pathlib import Path
from xml.etree.ElementTree import Element

from .file_names import first_there
from .folder import image_files
from .parse_icdar import DONT_CARE
from .parse_svt import read_xml
from .types import Parsed, ParseError, Photo, Word, box_polygon

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def parse_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one image; a box becomes a polygon of four corners, clockwise from the top left.

    Raises:
        ParseError: not well-formed, or an object without a name or without four numbers; names file and line.
    Source: the released code of TDSL (lanfeng4659/STR-TDSL), which reads SynthText-90k.
    """
    root, lines = read_xml(path)
    if root.tag != "annotation":
        raise ParseError(path, lines[root], f"expected the root <annotation>, found <{root.tag}>")
    return tuple(_word(path, element, lines) for element in root.iter("object"))


def _word(path: Path, element: Element, lines: dict[Element, int]) -> Word:
    name = element.find("name")
    if name is None:
        raise ParseError(path, lines[element], "<object> has no <name>")
    text = (name.text or "").strip()
    found = {corner: element.findtext(f"bndbox/{corner}") for corner in CORNERS}
    try:
        left, top, right, bottom = (float(found[corner]) for corner in CORNERS)
        polygon = box_polygon(left, top, right - left, bottom - top)
        return Word(text, polygon, ignore=text in ("", DONT_CARE))
    except (TypeError, ValueError):
        problem = f"expected <bndbox> with numbers {', '.join(CORNERS)}, found {found}"
        raise ParseError(path, lines[element], problem) from None


def parse(root: Path, layout: dict) -> Parsed:
    """Read one split; ``layout`` holds lists of folders, ``images`` and ``annotations``; the first there is taken.

    An image belongs to the annotation of the same stem. One that is annotated but absent stays in the gallery, so
    that it is reported where it is opened; one without annotation is left out with a warning, since nothing is
    known of its words.

    Raises:
        ParseError: an annotation cannot be read, or two images have one stem.
    """
    images, annotations = (first_there(root, layout[part]) for part in ("images", "annotations"))
    found: dict[str, Path] = {}
    for path in image_files(images, recursive=False):
        if path.stem in found:
            raise ParseError(path, None, f"{found[path.stem]} has the same name; remove one of them")
        found[path.stem] = path
    photos = []
    for path in sorted(annotations.glob("*.xml")):
        image = found.pop(path.stem, images / f"{path.stem}.jpg")
        photos.append(Photo(image.name, image, parse_words(path)))
    if not photos:
        raise ParseError(annotations, None, "holds no annotation *.xml")
    if found:
        warnings.warn(f"{images}: {len(found)} images without annotation left out", stacklevel=2)
    return Parsed(tuple(sorted(photos, key=lambda photo: photo.id)))

"""XML. Street View Text: ``image/{imageName,taggedRectangles/taggedRectangle@x@y@width@height/tag}``, one file a split.
Pascal VOC, which SynthText-90k uses: ``object/{name,bndbox/{xmin,ymin,xmax,ymax}}``, one file an image.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.etree.ElementTree import ParseError as XMLError
from xml.parsers.expat import errors

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from fdp_core.datasets.formats.icdar import DONT_CARE, parse_folders
from fdp_core.datasets.readers import first_there
from fdp_core.datasets.types import Layout, Parsed, ParseError, Photo, Word, box_polygon, inside

SIDES = ("x", "y", "width", "height")  # of Street View Text's boxes
CORNERS = ("xmin", "ymin", "xmax", "ymax")  # of Pascal VOC's boxes


def read_xml(path: Path) -> tuple[Element, dict[Element, int]]:
    """Read an XML file without entities into a tree, with the line on which each element starts."""
    lines: dict[Element, int] = {}

    class Builder(TreeBuilder):
        def start(self, tag: str, attributes: dict[str, str]) -> Element:
            element = super().start(tag, attributes)
            lines[element] = parser.parser.CurrentLineNumber
            return element

    parser = DefusedXMLParser(target=Builder())
    try:
        parser.feed(path.read_bytes())
        return parser.close(), lines
    except DefusedXmlException:
        problem = "entity declarations are not part of this format"
        raise ParseError(path, parser.parser.CurrentLineNumber, problem) from None
    except XMLError as error:
        raise ParseError(path, error.position[0], f"not well-formed XML: {errors.messages[error.code]}") from None


def parse_file(path: Path, images: Path) -> Parsed:
    """Read ``train.xml`` or ``test.xml`` of SVT; ids are relative to the folder of the images."""
    root, lines = read_xml(path)

    def child(element: Element, tag: str) -> Element:
        found = element.find(tag)
        if found is None:
            raise ParseError(path, lines[element], f"<{element.tag}> has no <{tag}>")
        return found

    photos: dict[str, Photo] = {}
    for image in root.iter("image"):
        name = child(image, "imageName")
        try:
            identity = inside((name.text or "").strip()).removeprefix(f"{images.name}/")
        except ValueError as error:
            raise ParseError(path, lines[name], str(error)) from None
        if identity in photos:
            raise ParseError(path, lines[name], f"{identity} occurs twice")
        words = []
        for rectangle in child(image, "taggedRectangles").iter("taggedRectangle"):
            text, found = (child(rectangle, "tag").text or "").strip(), rectangle.attrib
            try:
                words.append(Word(text, box_polygon(*(float(found[side]) for side in SIDES)), ignore=not text))
            except (KeyError, ValueError):
                problem = f"expected numbers {', '.join(SIDES)}, found {found}"
                raise ParseError(path, lines[rectangle], problem) from None
        photos[identity] = Photo(identity, images / identity, tuple(words))
    if not photos:
        raise ParseError(path, 1, "expected <image> elements, as in SVT's train.xml; found none")
    return Parsed(tuple(photos[key] for key in sorted(photos)))


def parse_svt(root: Path, layout: Layout) -> Parsed:
    """Read one split of SVT; ``layout`` holds ``annotations`` (the XML) and ``images`` (a folder)."""
    return parse_file(root / layout["annotations"][0], root / layout["images"][0])


def parse_words(path: Path) -> tuple[Word, ...]:
    """Read the words of one image of Pascal VOC; a box becomes a polygon of four corners, clockwise from the top left.

    Source: the released code of TDSL (lanfeng4659/STR-TDSL), which reads SynthText-90k.
    """
    root, lines = read_xml(path)
    if root.tag != "annotation":
        raise ParseError(path, lines[root], f"expected the root <annotation>, found <{root.tag}>")
    words = []
    for element in root.iter("object"):
        if element.find("name") is None:
            raise ParseError(path, lines[element], "<object> has no <name>")
        text = (element.findtext("name") or "").strip()
        found = {corner: element.findtext(f"bndbox/{corner}") for corner in CORNERS}
        try:
            left, top, right, bottom = (float(value) for value in found.values())
            polygon = box_polygon(left, top, right - left, bottom - top)
            words.append(Word(text, polygon, ignore=text in ("", DONT_CARE)))
        except (TypeError, ValueError):
            problem = f"expected <bndbox> with numbers {', '.join(CORNERS)}, found {found}"
            raise ParseError(path, lines[element], problem) from None
    return tuple(words)


def parse_voc(root: Path, layout: Layout) -> Parsed:
    """Read one split; ``layout`` holds lists of folders, ``images`` and ``annotations``; the first there is taken.

    An image without annotation is left out with a warning, since nothing is known of its words.
    """
    images, annotations = (first_there(root, layout[part]) for part in ("images", "annotations"))
    return parse_folders([images], [annotations], parse_words, (".xml",), str, complete=False)

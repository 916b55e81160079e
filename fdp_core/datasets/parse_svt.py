"""Street View Text XML: ``image/{imageName,taggedRectangles/taggedRectangle@x@y@width@height/tag}``."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element
from xml.parsers import expat

from .types import Parsed, ParseError, Photo, Word, box_polygon, inside


def read_xml(path: Path) -> tuple[Element, dict[Element, int]]:
    """Read an XML file into a tree, with the line on which each element starts (ElementTree drops it).

    Raises:
        ParseError: not well-formed, or it declares entities (which can blow up without bound).
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    root: list[Element] = []
    stack: list[Element] = []
    lines: dict[Element, int] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes)
        lines[element] = parser.CurrentLineNumber
        (stack[-1] if stack else root).append(element)
        stack.append(element)

    def text(data: str) -> None:
        # Text after a child is only layout in this format and is left out.
        if stack and len(stack[-1]) == 0:
            stack[-1].text = (stack[-1].text or "") + data

    def entity(*_: object) -> None:
        raise ParseError(path, parser.CurrentLineNumber, "entity declarations are not part of this format")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise ParseError(path, error.lineno, f"not well-formed XML: {expat.errors.messages[error.code]}") from None
    return root[0], lines


def parse_file(path: Path, images: Path) -> Parsed:
    """Read ``train.xml`` or ``test.xml``.

    Args:
        path: the XML file.
        images: the folder of the images; ids are relative to it.

    Raises:
        ParseError: an element or attribute is missing or not a number; names file and line.
    """
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
            try:
                box = [float(rectangle.attrib[key]) for key in ("x", "y", "width", "height")]
                polygon = box_polygon(*box)
            except (KeyError, ValueError):
                found = dict(rectangle.attrib)
                problem = f"expected numbers x, y, width, height, found {found}"
                raise ParseError(path, lines[rectangle], problem) from None
            text = (child(rectangle, "tag").text or "").strip()
            words.append(Word(text, polygon, ignore=not text))
        photos[identity] = Photo(identity, images / identity, tuple(words))
    if not photos:
        raise ParseError(path, 1, "no <image> element")
    return Parsed(tuple(photos[key] for key in sorted(photos)))


def parse(root: Path, layout: dict) -> Parsed:
    """Read one split of SVT; ``layout`` holds ``annotations`` (the XML) and ``images`` (a folder)."""
    return parse_file(root / layout["annotations"][0], root / layout["images"][0])

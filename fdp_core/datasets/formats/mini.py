"""``gallery.json`` of the rendered sets: images with words, polygons and pictures, and listed queries."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from fdp_core.config import parse
from fdp_core.datasets.readers import read_json
from fdp_core.datasets.types import Layout, Parsed, ParseError, Photo, Word, inside


class _Word(TypedDict):
    text: str
    polygon: list[list[float]]
    ignore: NotRequired[bool]
    script: NotRequired[str]
    colour: NotRequired[str | None]


class _Image(TypedDict):
    file: str
    words: NotRequired[list[_Word]]
    pictures: NotRequired[list[str]]


class _Query(TypedDict):
    text: str
    relevant: list[str]
    group: NotRequired[str | None]


class _Gallery(TypedDict):
    images: list[_Image]
    queries: NotRequired[list[_Query] | None]


def parse_file(path: Path) -> Parsed:
    """Read a ``gallery.json``; ids are the ``file`` entries, relative to its folder; ``ParseError`` names a place."""
    content, place = read_json(path), "the file"
    try:
        content = parse(content, _Gallery)
        photos: dict[str, Photo] = {}
        for i, image in enumerate(content["images"]):
            place = f"images[{i}]"
            name = inside(image["file"])
            if name in photos:
                raise ValueError(f"{name} occurs twice")
            words = []
            for j, word in enumerate(image.get("words", [])):
                place = f"images[{i}].words[{j}]"
                ignore = word.get("ignore", False) or not word["text"].strip()
                words.append(
                    Word(word["text"], word["polygon"], ignore, word.get("script", "Latin"), word.get("colour") or "")
                )
            photos[name] = Photo(name, path.parent / name, tuple(words), tuple(image.get("pictures", [])))
        listed: dict[str, tuple[str, ...]] = {}
        groups: dict[str, list[str]] = {}
        for i, query in enumerate(content.get("queries") or []):
            place = f"queries[{i}]"
            text, relevant = query["text"], tuple(query["relevant"])
            unknown = [name for name in relevant if name not in photos]
            if not text.strip() or text in listed or unknown:
                raise ValueError(f"text {text!r} is empty or repeated, or files are unknown: {unknown[:3]}")
            listed[text] = relevant
            groups.setdefault(query.get("group") or "", []).append(text)
    except ValueError as error:
        raise ParseError(path, None, f"{place}: {error}") from None
    groups.pop("", None)
    ordered = tuple(photos[key] for key in sorted(photos))
    return Parsed(ordered, listed or None, {name: tuple(texts) for name, texts in groups.items()})


def parse_mini(root: Path, layout: Layout) -> Parsed:
    """Read a rendered set; ``layout`` holds ``annotations`` (gallery.json) under root."""
    return parse_file(root / layout["annotations"][0])

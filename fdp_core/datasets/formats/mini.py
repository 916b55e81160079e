"""``gallery.json`` of the rendered sets: images with words, polygons and pictures, and listed queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fdp_core.datasets.readers import read_json
from fdp_core.datasets.types import Layout, Parsed, ParseError, Photo, Word, inside


def parse_file(path: Path) -> Parsed:
    """Read a ``gallery.json``; ids are the ``file`` entries, relative to its folder."""
    content = read_json(path)
    place = "the whole file"
    try:
        photos: dict[str, Photo] = {}
        for i, image in enumerate(content["images"]):
            place = f"images[{i}]"
            name = inside(image["file"])
            if name in photos:
                raise ValueError(f"{name} occurs twice")
            words = []
            for j, word in enumerate(image.get("words", [])):
                place = f"images[{i}].words[{j}]"
                words.append(_word(word))
            place = f"images[{i}].pictures"
            pictures = tuple(str(picture) for picture in image.get("pictures", []))
            photos[name] = Photo(name, path.parent / name, tuple(words), pictures)
        listed: dict[str, tuple[str, ...]] = {}
        groups: dict[str, list[str]] = {}
        for i, query in enumerate(content.get("queries") or []):
            place = f"queries[{i}]"
            text, relevant = query["text"], tuple(query["relevant"])
            unknown = [name for name in relevant if name not in photos]
            if not isinstance(text, str) or not text.strip() or text in listed or unknown:
                raise ValueError(f"text {text!r} is empty, not text or repeated, or files are unknown: {unknown[:3]}")
            listed[text] = relevant
            groups.setdefault(str(query.get("group", "")), []).append(text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise ParseError(path, None, f"{place}: {problem}") from None
    groups.pop("", None)
    ordered = tuple(photos[key] for key in sorted(photos))
    return Parsed(ordered, listed or None, {name: tuple(texts) for name, texts in groups.items()})


def _word(word: dict) -> Word:
    text, polygon = word["text"], np.array(word["polygon"], dtype=np.float32)
    if not isinstance(text, str):
        raise ValueError(f"text is {text!r}, not text")
    ignore = bool(word.get("ignore", False)) or not text.strip()
    return Word(text, polygon, ignore, str(word.get("script", "Latin")), str(word.get("colour", "") or ""))


def parse_mini(root: Path, layout: Layout) -> Parsed:
    """Read a rendered set; ``layout`` holds ``annotations`` (gallery.json) under root."""
    return parse_file(root / layout["annotations"][0])

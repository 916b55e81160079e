"""COCO-Text version 2: one JSON file, ``imgs``, ``anns`` and ``imgToAnns``, on photographs of COCO's train2014."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fdp_core.datasets.readers import first_there, read_json
from fdp_core.datasets.types import Layout, Parsed, ParseError, Photo, Word, box_polygon, inside

TABLES = ("imgs", "anns", "imgToAnns")
SETS = ("train", "val")  # the test set has no public annotations


def _outline(annotation: dict[str, Any]) -> np.ndarray:
    """Return the polygon of an annotation, float32 ``[P, 2]``: its mask ``x1,y1,...``, or its box without one."""
    mask = annotation.get("mask") or []
    if len(mask) >= 6 and len(mask) % 2 == 0:
        return np.array(mask, dtype=np.float32).reshape(-1, 2)
    return box_polygon(*(float(value) for value in annotation["bbox"]))


def make_word(annotation: dict[str, Any]) -> Word:
    """Make a word of an annotation: illegible and blank ones are don't-cares, English is Latin script."""
    text = annotation.get("utf8_string") or ""
    if not isinstance(text, str):
        raise TypeError(f"utf8_string is {text!r}, not text")
    language = str(annotation["language"])
    ignore = annotation["legibility"] != "legible" or not text.strip()
    return Word(text, _outline(annotation), ignore, "Latin" if language == "english" else language)


def _tables(path: Path) -> dict[str, Any]:
    """Read the file; its three tables must be there."""
    content = read_json(path)
    tables = content if isinstance(content, dict) else {}
    lacking = [key for key in TABLES if not isinstance(tables.get(key), dict)]
    if lacking:
        raise ParseError(path, None, f"expected the tables {', '.join(TABLES)}; no {', '.join(lacking)}")
    return content


def parse_file(path: Path, images: Path) -> Parsed:
    """Read ``cocotext.v2.json``, sets ``train`` and ``val`` together; ids are file names in the folder of images."""
    content = _tables(path)
    photos: dict[str, Photo] = {}
    place = ""
    try:
        for key, image in content["imgs"].items():
            place = f"imgs[{key!r}]"
            if image["set"] not in SETS:
                continue
            name = inside(image["file_name"])
            if name in photos:
                raise ValueError(f"{name} occurs twice")
            words = []
            place = f"imgToAnns[{key!r}]"
            for number in content["imgToAnns"].get(key) or []:
                place = f"anns['{number}']"
                words.append(make_word(content["anns"][str(number)]))
            photos[name] = Photo(name, images / name, tuple(words))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise ParseError(path, None, f"{place}: {problem}") from None
    if not photos:
        raise ParseError(path, None, f"no image of the sets {' and '.join(SETS)}")
    return Parsed(tuple(photos[name] for name in sorted(photos)))


def parse_coco_text(root: Path, layout: Layout) -> Parsed:
    """Read COCO-Text; ``layout`` holds ``annotations`` (the JSON file) and ``images`` (a folder), or several to try."""
    return parse_file(first_there(root, layout["annotations"]), first_there(root, layout["images"]))

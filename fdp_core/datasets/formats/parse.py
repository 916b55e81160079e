"""Reads a split with the parser that its manifest names.

A new format needs one line in :data:`MODULES` and one function ``parse_FORMAT(root: Path, layout: Layout) -> Parsed``
in the module that the line names; a new set in a known format needs only its manifest.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from fdp_core.datasets.manifest import Manifest
from fdp_core.datasets.protocol import restrict_gallery
from fdp_core.datasets.types import Parsed

# parser of a manifest -> the module that holds `parse_PARSER`; imported when asked for: SciPy, for one, is slow to load
MODULES = {
    "coco_text": "coco_text",
    "csvtr": "listed",
    "ctw1500": "curved",
    "icdar": "icdar",
    "iiit": "listed",
    "mini": "mini",
    "mlt": "icdar",
    "mqtr": "listed",
    "pstr": "listed",
    "svt": "xml_boxes",
    "synthtext": "synthtext",
    "totaltext": "curved",
    "voc": "xml_boxes",
}


def parse_split(source: Manifest, split: str, root: Path | None = None) -> Parsed:
    """Read the gallery of a split with the parser that its manifest names."""
    name = source.data["parser"]
    parse = getattr(importlib.import_module(f"{__package__}.{MODULES[name]}"), f"parse_{name}")
    facts = source.split(split)[1]
    parsed = parse(source.folder(root), facts["layout"])
    return restrict_gallery(parsed, facts["protocol"], source.path.parent, source.name)

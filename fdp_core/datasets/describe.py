"""The readable table of all data sets, written from the manifests (``data_manifests/README.md``)."""

from __future__ import annotations

from typing import Any

import jinja2

from fdp_core.datasets.manifest import PACKAGE, all_manifests


def _counts(facts: dict[str, Any]) -> str:
    kinds = (key for key in ("photographs", "words", "legible", "queries") if key in facts)
    return ", ".join(f"{facts[key]:,} {key}" for key in kinds)


_FILTERS = {
    "anchor": lambda name: name.replace("_", "-"),
    "number": lambda value: f"{value:,}" if isinstance(value, int) else "–",
    "counts": _counts,
    "sums": lambda entry: ", ".join(f"{kind} `{entry[kind]}`" for kind in ("md5", "sha256") if kind in entry),
}


def render_readme(whole: bool = True) -> str:
    """Return the page in Markdown: how to use it (where ``whole``), the table of all splits, one section a set."""
    loader = jinja2.FileSystemLoader(PACKAGE / "assets", "utf-8")
    made = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    made.filters |= _FILTERS
    return made.get_template("data_sets.md.jinja").render(sources=all_manifests(), whole=whole)

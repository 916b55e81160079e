"""Looks at the built pages: all there, nothing loaded from another machine, no folder of this one."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

# what makes a browser load something, as (element, attribute); links that a reader clicks are free to lead anywhere
_LOADS = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src")
_LOADS |= {"object": "data", "link": "href"}
_PASSIVE = set("canonical author license search index next prev alternate".split())  # rel= that loads nothing
_ELSEWHERE = re.compile(r"^(?:https?:)?//", re.IGNORECASE)


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inline = ""

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        address = values.get(_LOADS.get(tag, ""), "")
        passive = tag == "link" and set(values.get("rel", "").split()) <= _PASSIVE
        if _ELSEWHERE.match(address) and not passive:
            self.found.append(f"<{tag}> {address}")
        self._inline = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self._inline = ""

    def handle_data(self, data):
        if self._inline == "style":
            self.found += external_in_css(data)
        elif self._inline == "script":  # an address in a script is there to be loaded
            self.found += [f"script: {url}" for url in re.findall(r"https?://[^\s\"'<>]+", data) if "w3.org" not in url]


def external_in_css(text: str) -> list[str]:
    """Return what a style sheet loads from another machine."""
    return re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", text, re.IGNORECASE)


def external_in_html(text: str) -> list[str]:
    """Return what a page loads from another machine."""
    parser = _Loads()
    parser.feed(text)
    return parser.found


def problems(html: Path, pages: list[str], folders: list[str]) -> list[str]:
    """Return one line for each thing that is wrong with a built book; empty when it is good.

    Args:
        html: the folder of the built book.
        pages: the pages of the table of contents, without suffix.
        folders: folders of this machine that no page may name.
    """
    wrong = [f"page missing: {page}.html" for page in ["index", *pages] if not (html / f"{page}.html").is_file()]
    for file in sorted(html.rglob("*")):
        name = file.relative_to(html)
        if file.suffix not in (".html", ".css", ".ipynb", ".js"):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if file.suffix == ".html":
            wrong += [f"{name} loads from elsewhere: {what}" for what in external_in_html(text)]
        elif file.suffix == ".css":
            wrong += [f"{name} loads from elsewhere: {what}" for what in external_in_css(text)]
        wrong += [f"{name} names a folder of this machine: {folder}" for folder in folders if folder in text]
    return wrong

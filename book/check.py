"""Looks at the built pages: all there, nothing loaded from another machine, no folder of this one."""

from __future__ import annotations

import re
from pathlib import Path

from bs4 import BeautifulSoup

# what makes a browser load something, as (element, attribute); links that a reader clicks are free to lead anywhere
_LOADS = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src")
_LOADS |= {"object": "data", "link": "href"}
_PASSIVE = set("canonical author license search index next prev alternate".split())  # rel= that loads nothing
_ELSEWHERE = re.compile(r"^(?:https?:)?//", re.IGNORECASE)


def external_in_css(text: str) -> list[str]:
    """Return what a style sheet loads from another machine."""
    return re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", text, re.IGNORECASE)


def external_in_html(text: str) -> list[str]:
    """Return what a page loads from another machine."""
    page, found = BeautifulSoup(text, "html.parser"), []
    for tag in page.find_all([*_LOADS]):
        address = tag.get(_LOADS[tag.name], "")
        if _ELSEWHERE.match(address) and not (tag.name == "link" and set(tag.get("rel", ())) <= _PASSIVE):
            found.append(f"<{tag.name}> {address}")
    for tag in page.find_all("style"):
        found += external_in_css(tag.string or "")
    for tag in page.find_all("script"):  # an address in a script is there to be loaded
        found += [
            f"script: {url}" for url in re.findall(r"https?://[^\s\"'<>]+", tag.string or "") if "w3.org" not in url
        ]
    return found


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

"""The retrieval protocol as data: how queries are chosen from annotated words, and what is relevant to them.

A protocol is the ``protocol`` mapping of a split in a manifest; only this module interprets it.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from fdp_core.datasets.readers import read_lines
from fdp_core.datasets.types import Parsed, ParseError, Photo, Queries, Word
from fdp_core.files import sha256_file

WORD_PROTOCOL: dict[str, Any] = {
    "relevance": "word",
    "normalise": {"fold": "casefold"},
    "queries": {"rule": "every"},
    "summary": "every distinct word, case-folded",
}
"""The field's common ground: a photograph is relevant when it contains the query word, case-folded."""


def normalise(text: str, protocol: dict[str, Any]) -> str:
    """Return ``text`` as the protocol compares it: composed (NFC), unquoted, marks removed, folded."""
    rules = protocol.get("normalise", {})
    text = unicodedata.normalize("NFC", text).strip()
    if rules.get("unquote") and len(text) >= 2 and text[0] == text[-1] == "'":
        text = text[1:-1]
    if keep := rules.get("keep"):
        # Before folding: some foreign letters fold to ASCII ones.
        text = "".join(character for character in text if character in keep)
    if fold := rules.get("fold"):
        text = text.lower() if fold == "lower" else text.casefold()
    return text.translate({ord(character): None for character in rules.get("remove", "")}).strip()


def tokens(word: Word, protocol: dict[str, Any]) -> list[str]:
    """Return the query words that an annotated word stands for: none for don't-cares and other scripts."""
    scripts = protocol.get("scripts")
    if word.ignore or (scripts and word.script not in scripts):
        return []
    text = normalise(word.text, protocol)
    parts = text.split() if protocol.get("normalise", {}).get("split") else [text]
    low, high = protocol.get("min_length", 1), protocol.get("max_length", 10**6)
    return [part for part in parts if low <= len(part) <= high]


def photo_tokens(photo: Photo, protocol: dict[str, Any]) -> list[str]:
    """Return the query words of a photograph, repeated where the word stands more than once."""
    return [token for word in photo.words for token in tokens(word, protocol)]


def rank_words(photos: Iterable[Photo], protocol: dict[str, Any]) -> list[tuple[str, int]]:
    """Rank the words of a split by number of photographs or instances; ties alphabetically, by code point.

    Returns:
        ``(word, count)``, most frequent first; ``protocol["queries"]["rank"]`` says what is counted.
    """
    by_instance = protocol["queries"].get("rank") == "instances"
    counts: Counter[str] = Counter()
    for photo in photos:
        found = photo_tokens(photo, protocol)
        counts.update(found if by_instance else set(found))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def queries_for(texts: Sequence[str], photos: Sequence[Photo], protocol: dict[str, Any] | None = None) -> Queries:
    """Make queries of Q texts over N photographs with words, relevant by comparing words by a manifest's protocol.

    The texts stay unchanged; one without a relevant photograph stays, with an all-False row.
    """
    protocol = protocol or WORD_PROTOCOL
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        rows.setdefault(normalise(text, protocol), []).append(row)
    relevant = np.zeros((len(texts), len(photos)), dtype=bool)
    for column, photo in enumerate(photos):
        for token in set(photo_tokens(photo, protocol)):
            for row in rows.get(token, ()):
                relevant[row, column] = True
    return Queries(tuple(texts), relevant, protocol.get("summary", "by word"))


def read_frozen(path: Path, sha256: str | None = None) -> list[str]:
    """Read a frozen query list: one query a line, ``#`` starts a comment line.

    Raises:
        ParseError: the file differs from the one whose hash the manifest holds, or repeats a query.
    """
    if sha256 and sha256_file(path) != sha256:
        raise ParseError(path, None, "the frozen query list is not the one of the manifest (its SHA-256 differs)")
    texts: dict[str, None] = {}
    for number, line in read_lines(path):
        if line in texts:
            raise ParseError(path, number, f"{line!r} occurs twice")
        if not line.startswith("# ") and line != "#":
            texts[line] = None
    return list(texts)


def build_queries(parsed: Parsed, protocol: dict[str, Any], folder: Path, name: str = "") -> Queries:
    """Make the queries of a split by its manifest's protocol.

    A query without any relevant photograph has no average precision: it is left out, with a warning, which
    happens where a frozen list meets a part of its set.

    The protocol is the manifest's for the split; ``folder`` holds the manifests and the frozen lists, ``name`` is the
    set's for messages.
    """
    rule, photos = protocol["queries"]["rule"], parsed.photos
    groups: dict[str, tuple[str, ...]] = {}
    if rule == "listed" and parsed.listed is not None:  # rendered training sets may list none: then every word is one
        texts, groups = list(parsed.listed), parsed.groups
        column = {photo.id: index for index, photo in enumerate(photos)}
        relevant = np.zeros((len(texts), len(photos)), dtype=bool)
        for row, text in enumerate(texts):
            relevant[row, [column[identity] for identity in parsed.listed[text]]] = True
    else:
        if rule == "frozen":
            texts = read_frozen(folder / protocol["queries"]["file"], protocol["queries"].get("sha256"))
        elif rule == "top":
            texts = [word for word, _ in rank_words(photos, protocol)[: protocol["queries"]["count"]]]
        elif rule == "frequent":
            least = protocol["queries"]["min_count"]
            texts = [word for word, count in rank_words(photos, protocol) if count >= least]
        else:
            texts = sorted(word for word, _ in rank_words(photos, protocol))
        relevant = queries_for(texts, photos, protocol).relevant
    answered = relevant.any(axis=1)
    if lost := list(compress(texts, ~answered)):
        shown = ", ".join(lost[:5]) + (" ..." if len(lost) > 5 else "")
        warnings.warn(f"{name}: {len(lost)} queries without a relevant photograph left out: {shown}", stacklevel=3)
        texts, relevant = list(compress(texts, answered)), relevant[answered]
    members = {key: np.array([text in set(group) for text in texts], dtype=bool) for key, group in groups.items()}
    return Queries(tuple(texts), relevant, protocol["summary"], members)


def restrict_gallery(parsed: Parsed, protocol: dict[str, Any], folder: Path, name: str = "") -> Parsed:
    """Leave out the photographs that a protocol has no place for.

    With ``gallery: relevant_only`` those stay that answer a query. The queries of what is left are the same: no
    count of a query word changes, and no other word gains. Arguments as of :func:`build_queries`.
    """
    if protocol.get("gallery") != "relevant_only":
        return parsed
    answers = build_queries(parsed, protocol, folder, name).relevant.any(axis=0)
    return replace(parsed, photos=tuple(compress(parsed.photos, answers)))

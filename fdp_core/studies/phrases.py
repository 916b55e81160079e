"""Queries of several parts, with what answers each and what only shares a part of it: phrases, words with an attribute.

All is read off a gallery's annotations: its listed queries, its words' polygons, and the colours of their boards.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fdp_core.datasets.images import CorruptImage, open_image
from fdp_core.datasets.protocol import WORD_PROTOCOL, photo_tokens, tokens
from fdp_core.datasets.types import Gallery, Photo, Queries, Word

# In heights of the letters: the widest gap between two words of one line, how far out of line, how unequal in height.
GAP, OUT_OF_LINE, UNEQUAL = 1.2, 0.5, 1.8
WALL = "on the wall"
SIDES = {"on the left": (0, 0), "on the right": (0, 1), "at the top": (1, 0), "at the bottom": (1, 1)}  # axis, half


@dataclass(frozen=True, eq=False)
class Composed:
    """Q queries of several parts over the N photographs of a gallery.

    Attributes:
        texts: what a user would type.
        parts: of each query: the words of a phrase; the word, then its attribute as a text of its own.
        kinds: of each query: "phrase", "colour", "position" or "surface".
        relevant: bool [Q, N], True where the photograph answers the query.
        decoys: bool [Q, N], True where it does not but shares a word of the query.
    """

    texts: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    kinds: np.ndarray
    relevant: np.ndarray
    decoys: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Composed:
        """Return the queries of some rows: [Q] bool, or row numbers."""
        rows = np.arange(len(self))[rows]
        texts, parts = (tuple(each[row] for row in rows) for each in (self.texts, self.parts))
        return Composed(texts, parts, self.kinds[rows], self.relevant[rows], self.decoys[rows])

    def __add__(self, other: Composed) -> Composed:
        arrays = (np.concatenate([getattr(s, name) for s in (self, other)]) for name in ("kinds", "relevant", "decoys"))
        return Composed(self.texts + other.texts, self.parts + other.parts, *arrays)


def phrases(gallery: Gallery, queries: Queries) -> Composed:
    """Take a set's phrases: those that it names so, else its queries of two words and more, else pairs of neighbours.

    Returns:
        Phrases in their order. Decoys are photographs with at least one of the words; none where the set annotates
        no words (PSTR).

    Raises:
        ValueError: no query has two words, and no two words of the gallery stand side by side.

    Source: the PSTR protocol (FDP section 4) where the set lists phrases; pairs of neighbours are this project's own.
    """
    rows = np.array([len(text.split()) > 1 for text in queries.texts], bool)
    rows &= np.asarray(queries.groups.get("phrase", rows), bool)
    if rows.any():
        texts = [text for text, taken in zip(queries.texts, rows) if taken]
        relevant = np.asarray(queries.relevant)[rows]
    else:
        answers = defaultdict(set)
        for column, photo in enumerate(gallery.photos):
            for pair in neighbours(photo):
                said = [_said(photo, n) for n in pair]
                if all(word.isalpha() for word in said):  # prices and house numbers are no phrases
                    answers[" ".join(said)].add(column)
        texts = sorted(answers)
        relevant = np.array([[n in answers[text] for n in range(len(gallery))] for text in texts], bool)
    if not texts:
        raise ValueError(
            f"{gallery.name}/{gallery.split} has no phrase: no query of two words or more, and no two annotated words "
            "side by side. Take a set such as mini, pstr, mqtr (split phrase) or svt."
        )
    parts = tuple(tuple(text.casefold().split()) for text in texts)
    held = [set(photo_tokens(photo, WORD_PROTOCOL)) for photo in gallery.photos]
    shares = np.array([[bool(words & set(some)) for words in held] for some in parts], bool)
    return Composed(tuple(texts), parts, np.full(len(texts), "phrase"), relevant, shares & ~relevant)


def neighbours(photo: Photo) -> Iterator[tuple[int, int]]:
    """Give pairs of word numbers (a, b) where the legible word b is the next one on a's line, straight or bent."""
    edges = {n: _edges(word.polygon) for n, word in _legible(photo)}
    for a, (_, (end, side)) in edges.items():
        nearest = None
        for b, ((start, other), _) in edges.items():
            high, low = max(np.linalg.norm(side), np.linalg.norm(other)), min(map(np.linalg.norm, (side, other)))
            down = (side + other) / max(np.linalg.norm(side + other), 1e-6)
            along, across = np.array([[down[1], -down[0]], down]) @ (start - end) / max((high + low) / 2, 1e-6)
            if a != b and high <= UNEQUAL * low and -OUT_OF_LINE <= along <= GAP and abs(across) <= OUT_OF_LINE:
                nearest = min(nearest or (along, b), (along, b))
        if nearest is not None:
            yield a, nearest[1]


def _edges(polygon: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return middle and downward side, float [2] each, of a word's left and right edge."""
    half = len(polygon) // 2  # clockwise from the upper left: half of the points along the top, half back
    corners = ((polygon[0], polygon[-1]), (polygon[half - 1], polygon[half]))
    return [((top + bottom) / 2, bottom - top) for top, bottom in corners]


def find_phrase(photo: Photo, parts: Sequence[str]) -> list[tuple[int, ...]]:
    """Find where a phrase stands on one line: the numbers of its words, in order, once for each occurrence."""
    after, runs = dict(neighbours(photo)), []
    for start, _ in _legible(photo):
        run = [start]
        while len(run) < len(parts) and run[-1] in after and after[run[-1]] not in run:
            run.append(after[run[-1]])
        if [_said(photo, n) for n in run] == list(parts):
            runs.append(tuple(run))
    return runs


def attributes(gallery: Gallery, least: int = 3) -> Composed:
    """Make queries of a word and its attribute: the colour of its board, its half of the photograph, its surface.

    Args:
        gallery: N photographs with words; colours and surfaces only where the set tells the colours of boards.
        least: a query needs at least so many answers, and as many photographs with the word but another attribute.

    Returns:
        Q queries, none where nothing occurs often enough. A word is at a half where its middle is, in the upright
        photograph; its surface is a board, or none: letters straight on what is behind.

    Source: this project's own, after the paper's attribute-aware queries.
    """
    with_word, with_both = defaultdict(set), defaultdict(set)
    for column, photo in enumerate(gallery.photos):
        legible = list(_legible(photo))
        size = _size(photo) if legible else None
        for n, word in legible:
            said = _said(photo, n)
            with_word[said].add(column)
            for kind, attribute in _attributes(word, size):
                with_both[kind, said, attribute].add(column)
    chosen = [
        (kind, said, attribute, answers, with_word[said] - answers)
        for (kind, said, attribute), answers in sorted(with_both.items())
        if min(len(answers), len(with_word[said] - answers)) >= least
    ]
    columns = range(len(gallery))
    relevant, decoys = (
        np.array([[n in row[i] for n in columns] for row in chosen], bool).reshape(len(chosen), len(columns))
        for i in (3, 4)
    )
    return Composed(
        tuple(_sentence(kind, said, attribute) for kind, said, attribute, *_ in chosen),
        tuple((said, attribute) for _, said, attribute, *_ in chosen),
        np.array([row[0] for row in chosen], str),
        relevant,
        decoys,
    )


def _sentence(kind: str, said: str, attribute: str) -> str:
    after = kind == "position" or attribute == WALL
    return f"{said} {attribute}" if after else f"{attribute} that says {said}"


def _attributes(word: Word, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """Give (kind, attribute as a text) of a word in a photograph of ``size`` (width, height; None: it is unknown)."""
    if word.colour:  # "none" are letters without a board
        yield "surface", WALL if word.colour == "none" else "a sign"
        if word.colour != "none":
            yield "colour", f"a {word.colour} sign"
    if size is not None:
        middle = (word.polygon.min(0) + word.polygon.max(0)) / 2 / size
        for text, (axis, half) in SIDES.items():
            if (middle[axis] >= 0.5) == bool(half):
                yield "position", text


def _legible(photo: Photo) -> Iterator[tuple[int, Word]]:
    return ((n, word) for n, word in enumerate(photo.words) if len(tokens(word, WORD_PROTOCOL)) == 1)


def _said(photo: Photo, number: int) -> str:
    return tokens(photo.words[number], WORD_PROTOCOL)[0]


def _size(photo: Photo) -> tuple[int, int] | None:
    try:
        return open_image(photo.path).size
    except CorruptImage as error:
        warnings.warn(f"{error} Its words have no position here.", stacklevel=3)
        return None

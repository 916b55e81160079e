"""Queries of several parts, with what answers each and what only shares a part of it: phrases, words with an attribute.

All is read off a gallery's annotations: its listed queries, its words' polygons, and the colours of their boards.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fdp_core.datasets.images import CorruptImage, open_image
from fdp_core.datasets.protocol import WORD_PROTOCOL, photo_tokens, tokens
from fdp_core.datasets.types import Gallery, Photo, Queries, Word
from fdp_core.evaluation import metrics
from fdp_core.retrieval.vectors import VectorSets

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

    Args:
        gallery: N photographs.
        queries: the set's own.

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


# Phrase pairs: two photographs with the same words, as a phrase in one and separated in the other.

MARGIN = 0.15  # heights of a word: what is cut out around its letters; words of one line stand at a greater distance
LINES = 2.0  # heights: so much higher or lower than the others a word is put, so that no line holds two
_HOSTS, _TRIES = 12, 60  # photographs and positions tried before a phrase is given up


@dataclass(frozen=True, eq=False)
class Pair:
    """Two photographs, uint8 [h, w, 3] each, that hold the words of ``phrase``: ``together`` and ``separated``."""

    phrase: str
    together: np.ndarray
    separated: np.ndarray


def phrase_pairs(gallery: Gallery, composed: Composed, count: int, seed: int = 0) -> list[Pair]:
    """Cut phrases out of photographs and paste their words into others: once as they stood, once on different lines.

    Words are pasted only where the other photograph has none. Where its pictures are is not known.

    Args:
        gallery: N photographs with words and polygons.
        composed: phrases over it (:func:`fdp_core.studies.phrases.phrases`).
        count: pairs in all, dealt evenly to the phrases; fewer than phrases leave some out, evenly.
        seed: of sources, hosts and positions.

    Returns:
        Pairs in the order of the phrases; fewer where a phrase stands on no line or finds no room.

    Raises:
        CorruptImage: a photograph cannot be read.
    """
    held = [set(photo_tokens(photo, WORD_PROTOCOL)) for photo in gallery.photos]
    pairs = []
    rows = np.linspace(0, len(composed), count, endpoint=False).astype(int)
    for number, row in enumerate(rows):
        rng, parts = np.random.default_rng([seed, number]), composed.parts[row]
        columns = np.flatnonzero(composed.relevant[row])
        sources = [(gallery.photos[n], run) for n in columns for run in find_phrase(gallery.photos[n], parts)]
        hosts = [photo for photo, words in zip(gallery.photos, held) if not words & set(parts)]
        if not (sources and hosts):
            continue
        photo, run = sources[rng.integers(len(sources))]
        pieces = _cut_out(np.asarray(open_image(photo.path)), [photo.words[n].polygon for n in run])
        for host in rng.permutation(len(hosts))[:_HOSTS]:
            if (found := _paste(rng, hosts[host], pieces)) is not None:
                pairs.append(Pair(composed.texts[row], *found))
                break
    return pairs


def _cut_out(image: np.ndarray, polygons: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut words out along their outlines, grown by MARGIN: (corner [2], pixels [h, w, 3], mask bool [h, w]) each."""
    pieces = []
    for polygon in polygons:
        margin = max(1, round(MARGIN * float(np.linalg.norm(polygon[-1] - polygon[0]))))
        mask = cv2.fillPoly(np.zeros(image.shape[:2], np.uint8), [np.round(polygon).astype(np.int32)], 1)
        mask = cv2.dilate(mask, np.ones((2 * margin + 1,) * 2, np.uint8)).astype(bool)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        pieces.append((np.array([columns[0], rows[0]]), image[box], mask[box]))
    return pieces


def _paste(rng: np.random.Generator, host: Photo, pieces: list) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (together, separated), or None where the host has no room for the words."""
    image = np.asarray(open_image(host.path))
    taken = np.zeros(image.shape[:2], bool)
    for word in host.words:
        left, top = np.floor(word.polygon.min(0)).astype(int)
        right, bottom = np.ceil(word.polygon.max(0)).astype(int)
        taken[max(top, 0) : bottom, max(left, 0) : right] = True
    corners = np.array([corner for corner, _, _ in pieces])
    sizes = np.array([mask.shape[::-1] for _, _, mask in pieces])
    low, high = corners.min(0), (corners + sizes).max(0)
    room = np.array(image.shape[1::-1]) - (high - low)
    if (room < 0).any():
        return None
    for _ in range(_TRIES):
        positions = corners - low + rng.integers(0, room + 1)
        if not any(_covered(taken, at, size) for at, size in zip(positions, sizes)):
            break
    else:
        return None
    spread = positions.copy()
    for n in rng.permutation(len(pieces))[1:]:  # one word stays where it is
        others = np.delete(np.arange(len(pieces)), n)
        for _ in range(_TRIES):
            spread[n] = rng.integers(0, np.array(image.shape[1::-1]) - sizes[n] + 1)
            middles = (spread + sizes / 2)[:, 1]
            far = np.abs(middles[others] - middles[n]) >= LINES * np.maximum(sizes[others], sizes[n])[:, 1]
            if far.all() and not _covered(taken, spread[n], sizes[n]):
                break
        else:
            return None
    return _with(image, pieces, positions), _with(image, pieces, spread)


def _covered(taken: np.ndarray, at: np.ndarray, size: np.ndarray) -> bool:
    return bool(taken[at[1] : at[1] + size[1], at[0] : at[0] + size[0]].any())


def _with(image: np.ndarray, pieces: list, positions: np.ndarray) -> np.ndarray:
    image = image.copy()
    for (_, pixels, mask), (x, y) in zip(pieces, positions):
        image[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = pixels[mask]
    return image


def pair_gallery(pairs: Sequence[Pair], folder: str | Path, source: Gallery) -> tuple[Gallery, Composed]:
    """Write pairs as PNG files.

    Args:
        pairs: P pairs.
        folder: where to.
        source: the gallery that they were made of: the same terms hold.

    Returns:
        (gallery of 2 P photographs, P queries: each pair's phrase, answered by its first photograph; the decoy is its
        second).

    Raises:
        ValueError: there are no pairs.
    """
    if not pairs:
        raise ValueError("There are no pairs: no phrase stands on one line, or no photograph has room for one.")
    photos = []
    for number, pair in enumerate(pairs):
        for name, image in (("0-together", pair.together), ("1-separated", pair.separated)):
            path = Path(folder) / f"{number:04d}-{name}.png"
            Image.fromarray(image).save(path)
            photos.append(Photo(path.name, path))
    texts = tuple(pair.phrase for pair in pairs)
    right = np.kron(np.eye(len(pairs), dtype=bool), [[True, False]])
    gallery = Gallery(f"{source.name} pairs", source.split, tuple(photos), "", source.may_show, source.attribution)
    parts = tuple(tuple(text.casefold().split()) for text in texts)
    return gallery, Composed(texts, parts, np.full(len(texts), "phrase"), right, np.roll(right, 1, axis=1))


# Ways to score photographs by a query of several parts: asked as a whole, part by part, or by its first word alone.

WAYS = {
    "whole": "the query as it is typed",
    "mean": "mean of the parts' scores",
    "min": "lowest of the parts' scores",
    "product": "product of the parts' scores, each (1 + cosine) / 2",
    "whole + mean": "mean of the first two",
    "one region": "mean of the parts' cosines within one vector, the best vector",
    "word alone": "the first part only",
}
_LAST = -2.0  # of a photograph without a vector: below every score


def composed_scores(
    sets: VectorSets, encode: Callable[[list[str]], np.ndarray], composed: Composed
) -> dict[str, np.ndarray]:
    """Score every photograph for every query in every way.

    A part's score is its largest cosine among the photograph's vectors: with one vector for each region, every part
    finds its own region. A single vector cannot tell "mean" from "one region".

    Args:
        sets: the vectors of N photographs.
        encode: texts -> [T, D] float, unit norm.
        composed: Q queries.

    Returns:
        Way (of :data:`WAYS`) -> float64 [Q, N], larger is better.
    """
    texts = sorted({*composed.texts, *(part for parts in composed.parts for part in parts)})
    vectors = dict(zip(texts, np.asarray(encode(texts)))) if texts else {}
    whole = _filled(sets, [vectors[text] for text in composed.texts])
    out = {way: np.empty(whole.shape) for way in WAYS}
    for row, names in enumerate(composed.parts):
        parts = np.stack([vectors[name] for name in names])
        each = _filled(sets, parts)
        missing = each[0] == _LAST
        out["mean"][row] = each.mean(0)
        out["min"][row] = each.min(0)
        out["product"][row] = np.where(missing, _LAST, np.prod((1 + each) / 2, axis=0))
        out["one region"][row] = _filled(sets, parts.mean(0, keepdims=True))[0]
        out["word alone"][row] = each[0]
    out["whole"][:] = whole
    out["whole + mean"] = (whole + out["mean"]) / 2
    return out


def _filled(sets: VectorSets, queries: list[np.ndarray] | np.ndarray) -> np.ndarray:
    queries = np.asarray(queries, float).reshape(len(queries), sets.vectors.shape[1])
    scores = sets.scores(queries).astype(float)
    return np.where(np.isnan(scores), _LAST, scores)


def interval(values: np.ndarray, seed: int = 0, level: float = 0.95) -> dict[str, float]:
    """Return mean and bootstrap interval over queries of values [Q], in %, and their number.

    Args:
        values: in 0..1, or differences of such; NaN (a query that has no such value) is left out.
        seed: of the bootstrap.
        level: share of the drawn means inside the interval, 0..1; for k comparisons at once 1 - 0.05 / k (Bonferroni).

    Returns:
        {"mean", "from", "to", "queries"}; NaN for the first three where nothing is left.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return {"mean": np.nan, "from": np.nan, "to": np.nan, "queries": 0}
    rounds = max(2000, round(50 / (1 - level)))  # some 25 draws lie beyond each end
    low, high = metrics.bootstrap_interval(values, level, rounds, seed)
    return {"mean": 100 * float(values.mean()), "from": 100 * low, "to": 100 * high, "queries": len(values)}

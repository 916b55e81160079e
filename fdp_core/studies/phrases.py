"""Queries of several parts, with what answers each and what only shares a part of it: phrases, words with an attribute.

All is read off a gallery's annotations: its listed queries, its words' polygons, and the colours of their boards.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fdp_core.datasets.images import CorruptImage, open_image
from fdp_core.datasets.protocol import WORD_PROTOCOL, photo_tokens, tokens
from fdp_core.datasets.types import Gallery, Photo
from fdp_core.evaluation import metrics
from fdp_core.retrieval.vectors import VectorSets

# In heights of the letters: how far apart two words of one line may stand, how far out of line, how unequal in height.
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


def phrases(gallery: Any, queries: Any) -> Composed:
    """Take a set's phrases: those that it names so, else its queries of two words and more, else pairs of neighbours.

    Args:
        gallery: N photographs (:class:`fdp_core.datasets.Gallery`).
        queries: the set's own (:class:`fdp_core.datasets.Queries`).

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


def neighbours(photo: Any) -> Iterator[tuple[int, int]]:
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


def find(photo: Any, parts: Sequence[str]) -> list[tuple[int, ...]]:
    """Find where a phrase stands on one line: for each place the numbers of its words, in order."""
    after, runs = dict(neighbours(photo)), []
    for start, _ in _legible(photo):
        run = [start]
        while len(run) < len(parts) and run[-1] in after and after[run[-1]] not in run:
            run.append(after[run[-1]])
        if [_said(photo, n) for n in run] == list(parts):
            runs.append(tuple(run))
    return runs


def attributes(gallery: Any, least: int = 3) -> Composed:
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


def _attributes(word: Any, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
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


def _legible(photo: Any) -> Iterator[tuple[int, Any]]:
    return ((n, word) for n, word in enumerate(photo.words) if len(tokens(word, WORD_PROTOCOL)) == 1)


def _said(photo: Any, number: int) -> str:
    return tokens(photo.words[number], WORD_PROTOCOL)[0]


def _size(photo: Any) -> tuple[int, int] | None:
    try:
        return open_image(photo.path).size
    except CorruptImage as error:
        warnings.warn(f"{error} Its words have no position here.", stacklevel=3)
        return None


# Pairs of photographs with the same words: as a phrase in one, apart in the other. All else is equal to the pixel.

MARGIN = 0.15  # heights of a word: what is cut out around its letters; words of one line stand further apart
LINES = 2.0  # heights: so much higher or lower than the others a word is put, so that no line holds two
_HOSTS, _TRIES = 12, 60  # photographs and places tried before a phrase is given up


@dataclass(frozen=True, eq=False)
class Pair:
    """Two photographs, uint8 [h, w, 3] each, that hold the words of ``phrase``: ``together`` and ``apart``."""

    phrase: str
    together: np.ndarray
    apart: np.ndarray


def make(gallery: Any, composed: Composed, count: int, seed: int = 0) -> list[Pair]:
    """Cut phrases out of photographs and paste their words into others, on free places: once as they stood, once apart.

    Free is a place without words; where pictures are, nobody tells.

    Args:
        gallery: N photographs with words and polygons.
        composed: phrases over it (:func:`fdp_core.studies.phrases.phrases`).
        count: pairs in all, dealt evenly to the phrases; fewer than phrases leave some out, evenly.
        seed: of sources, hosts and places.

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
        sources = [(gallery.photos[n], run) for n in columns for run in find(gallery.photos[n], parts)]
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
    """Return (together, apart), or None where the host has no room for the words."""
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
        places = corners - low + rng.integers(0, room + 1)
        if not any(_covered(taken, place, size) for place, size in zip(places, sizes)):
            break
    else:
        return None
    spread = places.copy()
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
    return _with(image, pieces, places), _with(image, pieces, spread)


def _covered(taken: np.ndarray, place: np.ndarray, size: np.ndarray) -> bool:
    return bool(taken[place[1] : place[1] + size[1], place[0] : place[0] + size[0]].any())


def _with(image: np.ndarray, pieces: list, places: np.ndarray) -> np.ndarray:
    image = image.copy()
    for (_, pixels, mask), (x, y) in zip(pieces, places):
        image[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = pixels[mask]
    return image


def as_gallery(pairs: Sequence[Pair], folder: str | Path, source: Any) -> tuple[Gallery, Composed]:
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
        for name, image in (("0-together", pair.together), ("1-apart", pair.apart)):
            path = Path(folder) / f"{number:04d}-{name}.png"
            Image.fromarray(image).save(path)
            photos.append(Photo(path.name, path))
    texts = tuple(pair.phrase for pair in pairs)
    right = np.kron(np.eye(len(pairs), dtype=bool), [[True, False]])
    gallery = Gallery(f"{source.name} pairs", source.split, tuple(photos), "", source.may_show, source.attribution)
    parts = tuple(tuple(text.casefold().split()) for text in texts)
    return gallery, Composed(texts, parts, np.full(len(texts), "phrase"), right, np.roll(right, 1, axis=1))


def by_phrase(values: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Average a value of each pair, [P], over the pairs of each phrase: one mean a phrase, in order of appearance."""
    texts = np.asarray(texts)
    return np.array([np.mean(np.asarray(values)[texts == text]) for text in dict.fromkeys(texts.tolist())])


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


def score(sets: VectorSets, encode: Callable[[list[str]], np.ndarray], composed: Composed) -> dict[str, np.ndarray]:
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


def above_decoys(scores: np.ndarray, relevant: np.ndarray, decoys: np.ndarray) -> np.ndarray:
    """Tell how often an answer scores higher than a decoy: the area under the ROC curve over these photographs alone.

    Args:
        scores: float [Q, N].
        relevant: bool [Q, N], the answers.
        decoys: bool [Q, N].

    Returns:
        float64 [Q] in 0..1, equal scores count half; 0.5 is chance, NaN where a query has no answer or no decoy.

    Raises:
        ValueError: the shapes differ.
    """
    if not np.shape(scores) == np.shape(relevant) == np.shape(decoys):
        shapes = ", ".join(str(np.shape(each)) for each in (scores, relevant, decoys))
        raise ValueError(f"scores, answers and decoys must be matrices of one shape; they are {shapes}.")
    return metrics.above_rate(scores, relevant, decoys)


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


def measured(
    system: str,
    scores: dict[str, np.ndarray],
    composed: Composed,
    measure: Callable[[np.ndarray, Composed], np.ndarray],
    seed: int = 0,
) -> list[dict[str, object]]:
    """Summarise a value of each query by kind of query and way of asking.

    Args:
        system: what the table calls it.
        scores: of :func:`score`.
        composed: its Q queries.
        measure: (scores [q, N], q queries) -> [q] in 0..1, such as :func:`average_precisions`.
        seed: of the bootstrap.

    Returns:
        One dict for each kind and way: "system", "kind", "way" and those of :func:`interval`.
    """
    lines = []
    for kind in dict.fromkeys(composed.kinds.tolist()):
        rows = composed.kinds == kind
        for way, values in scores.items():
            found = interval(measure(values[rows], composed.take(rows)), seed)
            lines.append({"system": system, "kind": kind, "way": way, **found})
    return lines


def average_precisions(scores: np.ndarray, composed: Composed) -> np.ndarray:
    """Return the average precision of every query, [Q] in 0..1."""
    return metrics.average_precisions(composed.relevant, scores)


def decoy_shares(scores: np.ndarray, composed: Composed) -> np.ndarray:
    """Return :func:`above_decoys` of every query, [Q] in 0..1 or NaN."""
    return above_decoys(scores, composed.relevant, composed.decoys)

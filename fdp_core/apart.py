"""Pairs of photographs with the same words: as a phrase in one, apart in the other. All else is equal to the pixel.

A system that takes a phrase for a bag of words cannot tell them from each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fdp_core import phrases
from fdp_core.datasets.protocol import WORD_PROTOCOL, photo_tokens
from fdp_core.datasets.types import Gallery, Photo
from fdp_core.images import open_image

MARGIN = 0.15  # heights of a word: what is cut out around its letters; words of one line stand further apart
LINES = 2.0  # heights: so much higher or lower than the others a word is put, so that no line holds two
_HOSTS, _TRIES = 12, 60  # photographs and places tried before a phrase is given up


@dataclass(frozen=True, eq=False)
class Pair:
    """Two photographs, uint8 [h, w, 3] each, that hold the words of ``phrase``: ``together`` and ``apart``."""

    phrase: str
    together: np.ndarray
    apart: np.ndarray


def make(gallery: Any, composed: phrases.Composed, count: int, seed: int = 0) -> list[Pair]:
    """Cut phrases out of photographs and paste their words into others, on free places: once as they stood, once apart.

    Free is a place without words; where pictures are, nobody tells.

    Args:
        gallery: N photographs with words and polygons.
        composed: phrases over it (:func:`fdp_core.phrases.phrases`).
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
        sources = [(gallery.photos[n], run) for n in columns for run in phrases.find(gallery.photos[n], parts)]
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


def as_gallery(pairs: Sequence[Pair], folder: str | Path, source: Any) -> tuple[Gallery, phrases.Composed]:
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
    return gallery, phrases.Composed(texts, parts, np.full(len(texts), "phrase"), right, np.roll(right, 1, axis=1))


def by_phrase(values: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Average a value of each pair, [P], over the pairs of each phrase: one mean a phrase, in order of appearance."""
    texts = np.asarray(texts)
    return np.array([np.mean(np.asarray(values)[texts == text]) for text in dict.fromkeys(texts.tolist())])

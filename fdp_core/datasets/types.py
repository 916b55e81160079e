"""The one form that every data set takes: photographs with words, queries with what is relevant to them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

Layout = dict[str, list[str]]
"""Where a split lies in the folder of its set: ``annotations`` and ``images``, each a list of paths to try."""


@dataclass(frozen=True, eq=False)
class Word:
    """One annotated word of a photograph.

    Attributes:
        text: the transcription as annotated; case is kept, only the protocol folds it.
        polygon: float32 ``[P, 2]``, x and y in pixels of the image as stored; P = 4 for boxes.
        ignore: a don't-care region (``###``, unreadable or empty): no query, no negative for localisation.
        script: the script as annotated; ``"Latin"`` where the set names none.
        colour: the colour of the board that it stands on where the set tells (rendered sets), ``"none"`` for letters
            without a board; else ``""``.
    """

    text: str
    polygon: np.ndarray
    ignore: bool = False
    script: str = "Latin"
    colour: str = ""

    def __post_init__(self) -> None:
        polygon = np.asarray(self.polygon, dtype=np.float32)
        if polygon.ndim != 2 or polygon.shape[0] < 3 or polygon.shape[1] != 2 or not np.isfinite(polygon).all():
            raise ValueError(f"Word {self.text!r}: the polygon has shape {polygon.shape}; expected finite [P >= 3, 2].")
        object.__setattr__(self, "polygon", polygon)


@dataclass(frozen=True, eq=False)
class Photo:
    """One photograph of a gallery.

    Attributes:
        id: path relative to the set's image root, with ``/``; unique in its gallery.
        path: where the image file lies.
        words: the annotated words; empty where a set annotates none (IIIT-STR tells only what is relevant).
        pictures: the picture concepts that were rendered into it (rendered sets), else empty.
        data: the file's bytes where they are in memory; ``path`` is then only a name.
    """

    id: str
    path: Path
    words: tuple[Word, ...] = ()
    pictures: tuple[str, ...] = ()
    data: bytes | None = field(default=None, repr=False)

    @property
    def source(self) -> Path | bytes:
        """Return what to read the photograph from."""
        return self.path if self.data is None else self.data


@dataclass(frozen=True, eq=False)
class Gallery:
    """All photographs of one split, in the order of their ids.

    Attributes:
        name: the manifest's name.
        split: ``"test"`` or ``"train"``.
        photos: N photographs.
        manifest_hash: SHA-256 of the manifest file, ``""`` for a folder without one.
        may_show: whether the photographs may be shown to others (book, paper, talk).
        attribution: the line to show beside a photograph.
    """

    name: str
    split: str
    photos: tuple[Photo, ...]
    manifest_hash: str
    may_show: bool
    attribution: str = ""

    def __len__(self) -> int:
        return len(self.photos)


@dataclass(frozen=True, eq=False)
class Queries:
    """Q queries over the N photographs of a gallery.

    Attributes:
        texts: what a user would type, as the protocol normalises it.
        relevant: bool ``[Q, N]``, True where the photograph answers the query.
        protocol: one line that says how queries and relevance were made.
        groups: group name -> bool ``[Q]``; a query may be in several groups or none.
    """

    texts: tuple[str, ...]
    relevant: np.ndarray
    protocol: str
    groups: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        relevant = np.asarray(self.relevant)
        if relevant.dtype != bool or relevant.ndim != 2 or relevant.shape[0] != len(self.texts):
            raise ValueError(
                f"Queries: relevant is {relevant.dtype} {relevant.shape}, not bool [{len(self.texts)}, N]."
            )
        for name, members in self.groups.items():
            if np.asarray(members).dtype != bool or np.shape(members) != (len(self.texts),):
                raise ValueError(f"Queries: group {name!r} is not bool [{len(self.texts)}].")
        object.__setattr__(self, "relevant", relevant)

    def __len__(self) -> int:
        return len(self.texts)


class DatasetMissing(Exception):  # noqa: N818 - the name is part of the interface
    """A data set is not where it is looked for; the message says which, where, and what to do."""


class ParseError(ValueError):
    """A file of a data set cannot be read as its format; the message names the file, the line and the fault.

    Args:
        path: the file.
        line: line number from 1, or None where the format has no lines.
        problem: what was found, and what was expected.
    """

    def __init__(self, path: str | os.PathLike[str], line: int | None, problem: str) -> None:
        self.path, self.line, self.problem = Path(path), line, problem
        super().__init__(f"{path}{'' if line is None else f', line {line}'}: {problem}")


@dataclass(frozen=True)
class Parsed:
    """What a parser returns.

    Attributes:
        photos: the photographs of one split.
        listed: query -> ids of relevant photographs, where the files themselves list them; else None.
        groups: group name -> queries in it, for listed queries.
    """

    photos: tuple[Photo, ...]
    listed: dict[str, tuple[str, ...]] | None = None
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)


def box_polygon(x: float, y: float, width: float, height: float) -> np.ndarray:
    """Return a box as a polygon, float32 ``[4, 2]``, clockwise from the top left corner."""
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], dtype=np.float32)


def inside(name: str) -> str:
    """Return a file name from an annotation as a relative path with ``/`` that stays in its folder.

    Raises:
        ValueError: the name is empty, absolute, or leads out of the folder.
    """
    path = PurePosixPath(name.strip().replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file in the set's own folder")
    return str(path)

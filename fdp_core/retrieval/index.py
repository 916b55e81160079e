"""Search photographs by text: vectors on disk with their ids and their model's hash (defect E5)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from fdp_core.datasets import images
from fdp_core.datasets.folder import load_folder
from fdp_core.datasets.types import Gallery
from fdp_core.files import atomic_path, sha256_file
from fdp_core.model import FDP
from fdp_core.retrieval import systems
from fdp_core.retrieval.vectors import Embedder, VectorSets, top_rows

_FORMAT = "fdp-index-2"
_ONE_VECTOR_FORMAT = "fdp-index-1"  # without starts: one vector a photograph
_HASHED = 65_536  # vectors hashed at once: an index may be larger than the memory
SLICE = 256  # photographs whose vectors are in memory at once while an index file is written


class CorruptIndex(ValueError):
    """An index file cannot be read; the message names it."""


class StaleIndex(ValueError):
    """An index was made by another model or from other photographs."""


@dataclass(frozen=True)
class Hit:
    """One found photograph: ``rank`` from 1, ``score`` the (best) cosine, ``row`` its place in the index."""

    rank: int
    row: int
    id: str
    path: Path
    score: float


def _as_system(model: FDP | Embedder, **options: Any) -> Embedder:
    """Return a system for a model: itself, or what :func:`fdp_core.retrieval.systems.fdp` makes of it."""
    return model if hasattr(model, "encode_gallery") else systems.fdp(model, **options)


def _as_gallery(photographs: Gallery | str | Path) -> Gallery:
    return load_folder(photographs) if isinstance(photographs, (str, Path)) else photographs


def contents_hash(paths: list[Path] | tuple[Path, ...], ids: list[str] | tuple[str, ...]) -> str:
    """Return the sha256 of the photographs' ids and contents; a missing file counts as such."""
    digest = hashlib.sha256()
    for name, path in zip(ids, paths, strict=True):
        try:
            content = sha256_file(path)
        except OSError:
            content = "missing"
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def _vectors_hash(features: np.ndarray, starts: np.ndarray | None) -> str:
    """Return the sha256 of the vectors and, where they are given, of the places where photographs start."""
    digest = hashlib.sha256()
    for i in range(0, len(features), _HASHED):
        digest.update(np.ascontiguousarray(features[i : i + _HASHED], "<f4").tobytes())
    if starts is not None:
        digest.update(np.ascontiguousarray(starts, "<i8").tobytes())
    return digest.hexdigest()


def _map(path: Path) -> np.ndarray:
    """Map the vectors of an index file: [R, D] float32, read-only."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))["features"]
    if entry["dtype"] != "F32" or not all(entry["shape"]):
        raise CorruptIndex(f"{path} holds vectors {entry['dtype']} {entry['shape']}; expected F32 [R, D].")
    return np.memmap(path, "<f4", "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))


def _encode(system: Embedder, gallery: Gallery) -> VectorSets:
    sets = system.encode_gallery(gallery)
    sets = sets if isinstance(sets, VectorSets) else VectorSets.of(np.asarray(sets))
    if len(sets) != len(gallery.photos):
        raise ValueError(f"The model encoded {len(sets)} photographs of {len(gallery.photos)}.")
    return sets


def _encode_slices(system: Embedder, gallery: Gallery, size: int) -> Iterator[VectorSets]:
    """Encode ``size`` photographs at a time; one in which nothing can be read (the system warns) has no vectors."""
    for start in range(0, len(gallery.photos), size):
        part = dataclasses.replace(gallery, photos=gallery.photos[start : start + size])
        try:
            yield _encode(system, part)
        except ValueError:
            if any(_opens(photo.path) for photo in part.photos):
                raise
            yield VectorSets(np.zeros((0, 1), np.float32), np.zeros(len(part.photos) + 1, np.int64))


def _opens(path: Path) -> bool:
    try:
        images.open_image(path)
    except images.CorruptImage:
        return False
    return True


def _save(
    path: str | Path,
    slices: Iterable[VectorSets],
    ids: Sequence[str],
    paths: Sequence[Path],
    unreadable: Sequence[str] = (),
    **facts: Any,
) -> Path:
    """Write an index file, whole or not at all, as its vectors come; a photograph without vectors is unreadable.

    Args:
        path: the file.
        slices: vectors of the N photographs, in their order.
        ids: N ids; ``paths``: N files.
        unreadable: ids of photographs that were left out before.
        facts: ``model_hash``, ``contents`` and ``may_show`` of :class:`Index`.

    Raises:
        ValueError: no photograph has a vector.
    """

    def header(good: np.ndarray, shape: tuple[int, int], starts: int, sha256: str) -> bytes:
        size, missing = 4 * shape[0] * shape[1], [name for name, fine in zip(ids, good) if not fine]
        described = {
            "format": _FORMAT,
            "model_hash": facts["model_hash"],
            "contents": facts["contents"],
            "ids": json.dumps([name for name, fine in zip(ids, good) if fine]),
            "paths": json.dumps([str(file) for file, fine in zip(paths, good) if fine]),
            "unreadable": json.dumps([*unreadable, *missing]),
            "may_show": json.dumps(facts["may_show"]),
            "sha256": sha256,
        }
        tensors = {
            "features": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]},
            "starts": {"dtype": "I64", "shape": [starts], "data_offsets": [size, size + 8 * starts]},
        }
        return json.dumps({"__metadata__": described, **tensors}).encode()

    # The header comes first and is known last: room for the longest one, filled up with blanks.
    longest = header(np.ones(len(ids), bool), (2**40, 2**20), 2**40, "0" * 64)
    room = (len(longest) + 64) // 8 * 8  # vectors begin at a multiple of eight, so that a map of them is aligned
    digest, counts, width = hashlib.sha256(), [np.zeros(0, np.int64)], 0
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.seek(8 + room)
        for sets in slices:
            counts.append(np.diff(sets.starts))
            if len(sets.vectors):
                width = sets.vectors.shape[1]
                block = np.ascontiguousarray(sets.vectors, "<f4").data.cast("B")
                digest.update(block)
                file.write(block)
        good = np.concatenate(counts) > 0
        if not good.any():
            raise ValueError(f"None of the {len(ids)} photographs could be read.")
        starts = np.append(0, np.cumsum(np.concatenate(counts)[good])).astype("<i8")
        digest.update(starts.tobytes())
        file.write(starts.tobytes())
        file.seek(0)
        text = header(good, (int(starts[-1]), width), len(starts), digest.hexdigest())
        file.write(room.to_bytes(8, "little") + text.ljust(room))
    return Path(path)


def write(
    model: FDP | Embedder, photographs: Gallery | str | Path, path: str | Path, size: int = SLICE, **options: Any
) -> Path:
    """Encode photographs slice by slice and write their index; :meth:`Index.load` reads it.

    What grows with the gallery are the names of the photographs alone: pixels, features and vectors stay those of one
    slice.

    Args:
        model: an FDP model or any embedding system.
        photographs: a gallery or a folder.
        path: the index file; it is written whole or not at all.
        size: photographs a slice, at least 1.
        options: as in :meth:`Index.build`.

    Returns:
        The file; it holds what ``Index.build(...).save(path)`` writes.

    Raises:
        ValueError: none of the photographs can be read, or the model encodes another number of them.
    """
    if size < 1:
        raise ValueError(f"size is {size}; expected 1 or more photographs a slice.")
    system, gallery = _as_system(model, **options), _as_gallery(photographs)
    ids, paths = [photo.id for photo in gallery.photos], [Path(photo.path) for photo in gallery.photos]
    facts = {"model_hash": system.model_hash, "contents": contents_hash(paths, ids), "may_show": gallery.may_show}
    return _save(path, _encode_slices(system, gallery, size), ids, paths, **facts)


@dataclass
class Index:
    """Photographs as vectors, one or several each.

    Attributes:
        features: [R, D] float32, unit norm; R is N where every photograph has one vector.
        ids: N ids, unique.
        paths: N files.
        model_hash: names everything that the vectors depend on.
        contents: hash of ids and contents of all photographs that the index was asked to hold.
        unreadable: ids of photographs that could not be read and are not in the index.
        may_show: may the photographs be shown in public?
        system: encodes the queries; it is not saved.
        starts: [N + 1] int64; photograph i owns the rows ``starts[i]:starts[i + 1]``, at least one. Left out: one
            vector each.
    """

    features: np.ndarray
    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    model_hash: str
    contents: str = ""
    unreadable: tuple[str, ...] = ()
    may_show: bool = False
    system: Embedder | None = field(default=None, repr=False)
    starts: np.ndarray | None = None
    _sets: VectorSets | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.starts is None:
            self.starts = np.arange(len(self.features) + 1, dtype=np.int64)
        sets = self.sets
        if len(self.ids) != len(sets) or len(self.paths) != len(sets):
            raise ValueError(
                f"features {self.features.shape} of {len(sets)} photographs, {len(self.ids)} ids and "
                f"{len(self.paths)} paths do not fit."
            )
        if not sets.readable.all():
            raise ValueError(f"Photograph {self.ids[np.argmin(sets.readable)]} has no vector.")

    @property
    def sets(self) -> VectorSets:
        """Return the vectors with their photographs."""
        kept = self._sets  # checked once, not at every query
        if kept is None or kept.vectors is not self.features or kept.starts is not self.starts:
            kept = self._sets = VectorSets(self.features, self.starts)
        return kept

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def build(cls, model: FDP | Embedder, photographs: Gallery | str | Path, **options: Any) -> Index:
        """Encode photographs.

        Args:
            model: an FDP model or any embedding system.
            photographs: a :class:`fdp_core.datasets.Gallery` or a folder; in a folder every image file is
                taken.
            options: ``cache_dir``, ``batch_size``, ``progress`` where the model is no system yet.

        Returns:
            The index. Photographs that cannot be read are left out and stand in ``unreadable``; a warning
            names them.

        Raises:
            DatasetMissing: the folder is not there or holds no photograph.
            ValueError: none of the photographs can be read, or the model encodes another number of them.
        """
        system, gallery = _as_system(model, **options), _as_gallery(photographs)
        ids, paths = [p.id for p in gallery.photos], [Path(p.path) for p in gallery.photos]
        contents = contents_hash(paths, ids)
        sets = _encode(system, gallery)
        good = sets.readable
        sets = sets.take(good)
        return cls(
            features=sets.vectors,
            ids=tuple(name for name, fine in zip(ids, good) if fine),
            paths=tuple(path for path, fine in zip(paths, good) if fine),
            model_hash=system.model_hash,
            contents=contents,
            unreadable=tuple(name for name, fine in zip(ids, good) if not fine),
            may_show=gallery.may_show,
            starts=sets.starts,
            system=system,
        )

    def save(self, path: str | Path) -> Path:
        """Write the index as one safetensors file, whole or not at all; paths are kept as they are."""
        facts = {"model_hash": self.model_hash, "contents": self.contents, "may_show": self.may_show}
        return _save(path, [self.sets], self.ids, self.paths, self.unreadable, **facts)

    @classmethod
    def load(cls, path: str | Path, model: FDP | Embedder | None = None, mapped: bool = False) -> Index:
        """Read an index.

        Args:
            path: the file.
            model: an FDP model or system to encode queries with; it must be the one that made the index.
            mapped: leave the vectors in the file and map it, read-only: an index larger than the memory.

        Returns:
            The index.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptIndex: the file is damaged or no index.
            StaleIndex: the model is another one.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no index {path}. Make it with Index.build(model, folder).save({path.name!r})."
            )
        again = "Delete it and build it again."
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                described = file.metadata() or {}
                if described.get("format") not in (_FORMAT, _ONE_VECTOR_FORMAT):
                    raise CorruptIndex(f"{path} is no index of this version ({_FORMAT}). {again}")
                features = _map(path) if mapped else file.get_tensor("features")
                starts = file.get_tensor("starts") if described["format"] == _FORMAT else None
            fields = {key: json.loads(described[key]) for key in ("ids", "paths", "unreadable", "may_show")}
            if _vectors_hash(features, starts) != described["sha256"]:
                raise CorruptIndex(f"{path} is damaged: the vectors do not have their hash. {again}")
            index = cls(
                features=features,
                ids=tuple(fields["ids"]),
                paths=tuple(Path(p) for p in fields["paths"]),
                model_hash=described["model_hash"],
                contents=described["contents"],
                unreadable=tuple(fields["unreadable"]),
                may_show=bool(fields["may_show"]),
                starts=starts,
            )
        except CorruptIndex:
            raise
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            raise CorruptIndex(f"{path} is damaged or no index: {error}. {again}") from error
        if model is not None:
            index.system = _as_system(model)
            if index.system.model_hash != index.model_hash:
                raise StaleIndex(
                    f"{path} was made by another model ({index.model_hash[:8]}, not {index.system.model_hash[:8]}): "
                    "its scores would mean nothing. Build it again with this model."
                )
        return index

    def check(self, photographs: Gallery | str | Path) -> None:
        """Compare the index with photographs as they are now.

        Raises:
            StaleIndex: a photograph was added, removed or changed since.
        """
        gallery = _as_gallery(photographs)
        ids = [p.id for p in gallery.photos]
        if contents_hash([Path(p.path) for p in gallery.photos], ids) == self.contents:
            return
        known = {*self.ids, *self.unreadable}
        added, gone = sorted(set(ids) - known), sorted(known - set(ids))
        parts = [f"{len(added)} new ({added[0]}, ...)"] if added else []
        parts += [f"{len(gone)} gone ({gone[0]}, ...)"] if gone else []
        raise StaleIndex(f"The photographs changed since the index was built: {', '.join(parts) or 'other contents'}.")

    def scores(self, text: str) -> np.ndarray:
        """Return the cosine of every photograph with a query, the largest of its vectors': [N] float32.

        Raises:
            ValueError: the query is empty, has letters that the backbone cannot spell, or the index has no model.
        """
        return self.sets.scores(self._encode(text))[0]

    def _encode(self, text: str) -> np.ndarray:
        """Encode a query: [1, D] float32."""
        if not text.strip():
            raise ValueError("The query is empty; type a word or a phrase.")
        if self.system is None:
            raise ValueError("This index has no model to encode queries with: load it with Index.load(path, model).")
        backbone = getattr(self.system, "backbone", None)
        if letters := backbone.unknown_letters(text) if backbone else "":
            raise ValueError(f"{backbone.name} cannot spell {letters!r}: the query {text!r} would find anything.")
        return np.asarray(self.system.encode_queries([text]), np.float32)

    def search(self, text: str, k: int = 10, min_score: float = -np.inf) -> list[Hit]:
        """Find the k photographs with the highest cosine, exactly; equal scores in the order of ids.

        Args:
            text: a word or a phrase.
            k: how many, at least 1; at most all come back.
            min_score: leave out photographs whose cosine is lower; which value tells a hit from chance depends on the
                model, so try words that are surely absent.

        Returns:
            Hits, best first.

        Raises:
            ValueError: as :meth:`scores`.
        """
        rows, scores = self.sets.nearest(self._encode(text)[0], k)
        return [
            Hit(rank, int(rows[at]), self.ids[rows[at]], self.paths[rows[at]], float(scores[at]))
            for rank, at in enumerate(top_rows(scores, [self.ids[row] for row in rows], k), start=1)
            if scores[at] >= min_score
        ]


def open_index(
    model: FDP | Embedder, photographs: Gallery | str | Path, path: str | Path | None = None, **options: Any
) -> Index:
    """Load the index at a path if it fits the model and the photographs as they are now; else build and save
    it.

    Args:
        model: an FDP model or any embedding system.
        photographs: a gallery or a folder.
        path: the index file; None keeps the index in memory. Of many photographs the vectors then stay in it.
        options: as in :meth:`Index.build`.

    Returns:
        An index that fits both.
    """
    system, gallery = _as_system(model, **options), _as_gallery(photographs)
    if path is not None and Path(path).is_file():
        try:
            index = Index.load(path, system)
            index.check(gallery)
        except (CorruptIndex, StaleIndex) as reason:
            warnings.warn(f"The index is built again. {reason}", stacklevel=2)
        else:
            folder = {photo.id: Path(photo.path) for photo in gallery.photos}
            index.paths = tuple(folder[name] for name in index.ids)  # the photographs may have moved as a whole
            return index
    if path is None:
        return Index.build(system, gallery)
    return Index.load(write(system, gallery, path, SLICE), system, mapped=len(gallery.photos) > SLICE)

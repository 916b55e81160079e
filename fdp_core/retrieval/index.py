"""Search photographs by text: vectors on disk with their ids and their model's hash (defect E5)."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from fdp_core.datasets.folder import load_folder
from fdp_core.files import atomic_write_bytes, sha256_file
from fdp_core.retrieval import systems
from fdp_core.retrieval.vectors import VectorSets, top_rows

_FORMAT = "fdp-index-2"
_ONE_VECTOR_FORMAT = "fdp-index-1"  # without starts: one vector a photograph
_HASHED = 65_536  # vectors hashed at once: an index may be larger than the memory


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


def _as_system(model: Any, **options: Any) -> Any:
    """Return a system for a model: itself, or what :func:`fdp_core.retrieval.systems.fdp` makes of it."""
    return model if hasattr(model, "encode_gallery") else systems.fdp(model, **options)


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


def describe(
    model_hash: str,
    contents: str,
    ids: Sequence[str],
    paths: Sequence[Path],
    unreadable: Sequence[str],
    may_show: bool,
    sha256: str,
) -> dict[str, str]:
    """Return what an index file tells beside its vectors; fields as in :class:`Index`, and the vectors' hash."""
    return {
        "format": _FORMAT,
        "model_hash": model_hash,
        "contents": contents,
        "ids": json.dumps(list(ids)),
        "paths": json.dumps([str(path) for path in paths]),
        "unreadable": json.dumps(list(unreadable)),
        "may_show": json.dumps(may_show),
        "sha256": sha256,
    }


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
    system: Any = field(default=None, repr=False)
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
    def build(cls, model: Any, photographs: Any, **options: Any) -> Index:
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
        gallery = load_folder(photographs) if isinstance(photographs, (str, Path)) else photographs
        system = _as_system(model, **options)
        ids, paths = [p.id for p in gallery.photos], [Path(p.path) for p in gallery.photos]
        contents = contents_hash(paths, ids)
        sets = system.encode_gallery(gallery)
        if not isinstance(sets, VectorSets):
            sets = VectorSets.of(np.asarray(sets))
        good = sets.readable
        if len(good) != len(ids):
            raise ValueError(f"The model encoded {len(good)} photographs of {len(ids)}.")
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
        facts = self.model_hash, self.contents, self.ids, self.paths, self.unreadable, self.may_show
        described = describe(*facts, _vectors_hash(self.features, self.starts))
        tensors = {
            "features": np.ascontiguousarray(self.features, np.float32),
            "starts": np.ascontiguousarray(self.starts, np.int64),
        }
        return atomic_write_bytes(path, safetensors.numpy.save(tensors, metadata=described))

    @classmethod
    def load(cls, path: str | Path, model: Any = None, mapped: bool = False) -> Index:
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

    def check(self, photographs: Any) -> None:
        """Compare the index with photographs as they are now.

        Raises:
            StaleIndex: a photograph was added, removed or changed since.
        """
        gallery = load_folder(photographs) if isinstance(photographs, (str, Path)) else photographs
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
            ValueError: the query is empty or the index has no model.
        """
        return self.sets.scores(self._encode(text))[0]

    def _encode(self, text: str) -> np.ndarray:
        """Encode a query: [1, D] float32."""
        if not text.strip():
            raise ValueError("The query is empty; type a word or a phrase.")
        if self.system is None:
            raise ValueError("This index has no model to encode queries with: load it with Index.load(path, model).")
        return np.asarray(self.system.encode_queries([text]), np.float32)

    def search(self, text: str, k: int = 10) -> list[Hit]:
        """Find the k photographs with the highest cosine, exactly; equal scores in the order of ids.

        Args:
            text: a word or a phrase.
            k: how many, at least 1; at most all come back.

        Returns:
            Hits, best first.
        """
        rows, scores = self.sets.nearest(self._encode(text)[0], k)
        return [
            Hit(rank, int(rows[at]), self.ids[rows[at]], self.paths[rows[at]], float(scores[at]))
            for rank, at in enumerate(top_rows(scores, [self.ids[row] for row in rows], k), start=1)
        ]


def open_index(model: Any, photographs: Any, path: str | Path | None = None, **options: Any) -> Index:
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
    from fdp_core.retrieval import stream_index  # it writes what this module reads

    system = _as_system(model, **options)
    gallery = load_folder(photographs) if isinstance(photographs, (str, Path)) else photographs
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
    if path is not None and len(gallery.photos) > stream_index.SLICE:
        return Index.load(stream_index.write(system, gallery, path), system, mapped=True)
    index = Index.build(system, gallery)
    if path is not None:
        index.save(path)
    return index

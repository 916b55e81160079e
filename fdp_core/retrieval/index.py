"""Search photographs by text: a LanceDB table that follows a library as it grows, one row a photograph (defect E5)."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import sys
import time
import unicodedata
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple
from urllib.request import url2pathname

import numpy as np
import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from fdp_core.backbones import Backbone
from fdp_core.config import Count, check
from fdp_core.datasets import images
from fdp_core.datasets.folder import load_folder
from fdp_core.datasets.types import Gallery, Photo
from fdp_core.files import sha256_of, writing_to
from fdp_core.model import FDP
from fdp_core.retrieval import systems
from fdp_core.retrieval.features import CorruptPhotographs, error_report
from fdp_core.retrieval.vectors import Embedder, VectorSets, query_vectors, score_texts, top_rows
from fdp_core.retrieval.workers import only_owner

MEMORY = "memory://"  # the address of an index that is not kept
EXACT = 200_000  # vectors that are all read for a query, in some 20 ms; beyond, LanceDB's IVF_RQ finds candidates
SLICE = 64  # photographs encoded between two commits: what a killed process loses
FRAGMENTS = 64  # files of a table from which on they are made one
GROUP = 4000  # vectors a group of IVF_RQ; a quarter of the groups is read
BITS = 6  # a number in IVF_RQ: with four, recall@10 of thirty candidates was 0.97 where this has 0.998
GROUPS = f"regions-{BITS}-bits"  # the name of the IVF_RQ, so that one of other bits is made anew
CANDIDATES = 3  # photographs that are scored exactly for each that is asked for, and for ten at least
FILTERS = "id, folder, size (bytes) and taken (when the photograph was, where it says so)"


class CorruptIndex(ValueError):
    """The table of an index cannot be read, or its contents are not what was written; the message names it."""


class OtherModel(UserWarning):
    """A folder holds the index of another model, too."""


@dataclass(frozen=True)
class Hit:
    """One found photograph.

    Attributes:
        rank: from 1.
        row: its place in the index.
        id: of the photograph.
        path: its file.
        score: the (best) inner product of its vectors with the query's.
        corners: [4, 2] float32, the region that answered, in pixels of the upright photograph; None where that is
            the whole photograph.
    """

    rank: int
    row: int
    id: str
    path: Path
    score: float
    corners: np.ndarray | None = field(default=None, compare=False)


class Update(NamedTuple):
    """What an update did: the numbers of photographs that were encoded, that were there already (be it under another
    name), of names that are gone, and the ids of photographs that could not be read."""

    encoded: int
    kept: int
    removed: int
    unreadable: tuple[str, ...]


class _Row(NamedTuple):
    """What a row says beside its vectors."""

    id: str
    folder: str
    path: bytes  # file names need not be text
    content: str
    size: int
    mtime: int
    taken: datetime.datetime | None
    model: str
    count: int
    crc_vectors: int

    def crc(self) -> int:
        """Return a checksum of all that."""
        return zlib.crc32(repr(tuple(self)).encode("utf-8", "backslashreplace"))


class Encoded(NamedTuple):
    """A photograph on its way into the index: facts of its row, then its vectors where they were made."""

    id: str
    path: bytes
    content: str = ""
    size: int = 0
    mtime: int = -1
    taken: datetime.datetime | None = None
    fault: str = ""  # why it cannot be read
    width: int = 0  # numbers of a vector
    vectors: np.ndarray | None = None  # [K, W] float16, padded
    corners: np.ndarray | None = None  # [K, 4, 2] float32


_VECTORS = ("regions", "corners")
_Score = Annotated[float, Field(ge=-np.inf, description="a number")]


def _schema(model_hash: str, width: int) -> pa.Schema:
    """Return the columns of a table of vectors with ``width`` numbers, and as many more as the index asks for."""
    kinds = [pa.string(), pa.string(), pa.binary(), pa.string(), pa.int64(), pa.int64(), pa.timestamp("s"), pa.string()]
    fields = dict(zip(_Row._fields, [*kinds, pa.int32(), pa.uint32()])) | {"crc_row": pa.uint32()}
    fields["regions"] = pa.list_(pa.list_(pa.float16(), _padded(width)))
    fields["corners"] = pa.list_(pa.list_(pa.float32(), 8))
    return pa.schema(list(fields.items()), metadata={"model_hash": model_hash, "width": str(width)})


def _padded(width: int) -> int:
    return (width + 8) // 8 * 8  # one number more, and a multiple of eight


def _pad(vectors: np.ndarray) -> np.ndarray:
    """Bring vectors [R, D] to one length by a number at which queries have 0: LanceDB's index compares directions."""
    out = np.zeros((len(vectors), _padded(vectors.shape[1])), np.float16)
    with np.errstate(over="ignore"):  # encode tells of it
        out[:, : vectors.shape[1]] = vectors
    out[:, vectors.shape[1]] = np.sqrt(np.maximum(0, 2 - (vectors.astype(np.float32) ** 2).sum(axis=1)))
    return out


def _lists(rows: np.ndarray, counts: Sequence[int]) -> pa.ListArray:
    """Make rows [R, ...] a column of lists, ``counts`` rows each."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows[0].size)
    return pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(counts)), pa.int32()), values)


def _arrays(batch: pa.RecordBatch, names: Sequence[str], crcs: Sequence[int]) -> Iterator[Sequence[np.ndarray]]:
    """Yield (padded vectors [K, W] float16, corners [K, 4, 2]) of the rows of a batch that have these checksums.

    Raises:
        ValueError: another checksum; it tells the row by its name.
    """
    ends = np.cumsum(batch["regions"].value_lengths().to_numpy())
    flat = [batch[name].flatten().flatten().to_numpy() for name in _VECTORS]
    vectors, corners = flat[0].reshape(ends[-1] if len(ends) else 0, -1), flat[1].reshape(-1, 4, 2)
    for name, crc, start, end in zip(names, crcs, np.append(0, ends), ends):
        found = vectors[start:end], corners[start:end]
        if _crc(*found) != crc:
            raise ValueError(f"the vectors of {name} do not have their checksum")
        yield found


def _crc(vectors: np.ndarray, corners: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(corners), zlib.crc32(np.ascontiguousarray(vectors)))


def _one_of(column: str, values: Sequence[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def look_at(photo: Photo, data: bytes | None = None) -> Encoded:
    """Read what a row says of a photograph beside its vectors, from its bytes where they are at hand."""
    seen, young = Encoded(photo.id, os.fsencode(os.path.abspath(photo.path))), time.time_ns() - 2 * 10**9
    source = photo.source if data is None else data
    try:
        (size, mtime), content = _stamp(photo), sha256_of(source)
    except OSError as error:
        return seen._replace(fault=error.strerror or type(error).__name__)
    if not size:
        return seen._replace(fault="it is empty")
    # a file may change again within the clock's step: one that is new is hashed the next time, too
    mtime = mtime if mtime < young else -1
    return seen._replace(content=content, size=size, mtime=mtime, taken=images.date_taken(source))


def encode(system: Embedder, gallery: Gallery, seen: Sequence[Encoded]) -> list[Encoded]:
    """Add the vectors to what was seen of a gallery's photographs, or why one has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CorruptPhotographs)  # update tells of all, once
            sets = VectorSets.of(system.encode_gallery(gallery))
    except ValueError:
        if not all(images.fault(photo.source) for photo in gallery.photos):
            raise
        sets = VectorSets(np.zeros((0, 1), np.float32), np.zeros(len(gallery) + 1, np.int64))
    if len(sets) != len(gallery):
        raise ValueError(f"The model encoded {len(sets)} photographs of {len(gallery)}.")
    quads = np.full((len(sets.vectors), 4, 2), np.nan, np.float32) if sets.corners is None else sets.corners
    padded, width, out = _pad(sets.vectors), sets.vectors.shape[1], []
    for photo, each, start, end in zip(gallery.photos, seen, sets.starts, sets.starts[1:]):
        if end == start:
            out.append(each._replace(fault=images.fault(photo.source) or "the model gave no vector"))
        elif not np.isfinite(padded[start:end]).all():
            out.append(each._replace(fault="the model gave a vector that is infinite in half precision"))
        else:
            out.append(each._replace(width=width, vectors=padded[start:end], corners=quads[start:end]))
    return out


class Index:
    """Photographs as vectors in a LanceDB table; make one with :meth:`open`.

    A folder holds a table for each model. A row holds what names a photograph, its vectors in float16, the corners of
    their regions, and checksums of both, as Lance itself keeps none. What other processes commit is seen at once.

    Attributes:
        uri: where the tables lie.
        vectors: how many there are.
        name: of this model's table.
        system: encodes photographs and queries.
        unreadable: ids of photographs that the latest :meth:`update` could not read.
    """

    def __init__(self, uri: str, system: Embedder) -> None:
        self.uri, self.system, self.unreadable, self.vectors = uri, system, (), 0
        self.name = f"photographs-{system.model_hash[:16]}"
        self._shared = "://" in uri and uri != MEMORY  # others may write: a lock needs a folder
        self._table, self._version, self._width, self._sets = None, -1, 1, None
        self._rows, self._places, self._keys, self._contents = [], {}, {}, set()
        os.environ.setdefault("LANCEDB_LOG", "error")  # its k-means warns of small clusters on the terminal
        import lancedb  # here, as it warns of every process that is forked later

        with self._reading():
            self._db = lancedb.connect(uri)
            names = [name for name in self._db.list_tables().tables if name.startswith("photographs")]
            others = [name for name in names if name != self.name]
        if others:
            told = f"{uri} holds the index of another model too ({', '.join(others)}, not {self.name})"
            warnings.warn(f"{told}. It is kept; this model has a table of its own.", OtherModel, stacklevel=3)
        self._refresh()

    @classmethod
    def open(cls, uri: str | Path, model: FDP | Embedder, **options: systems.Option) -> Index:
        """Open the index of a model, or begin one; :meth:`update` fills it.

        Args:
            uri: a folder, also as ``file://...``; ``memory://`` to keep nothing; or another address that LanceDB knows,
                such as ``s3://...``, with LanceDB's variables (``AWS_...``).
            model: an FDP model or any embedding system.
            options: ``cache_dir``, ``batch_size``, ``progress`` where the model is no system yet.

        Returns:
            The index. Another model's in the same folder is left as it is, and a warning names it.

        Raises:
            CorruptIndex: the table is damaged, or the folder is a file.
            ValueError: ``uri`` or ``model`` is something else.
        """
        if not isinstance(uri, str | os.PathLike) or not str(uri).strip():
            raise ValueError(f"The index is {uri!r}; expected a folder or an address such as s3://...")
        if not any(hasattr(model, each) for each in ("encode_gallery", "backbone")):
            raise ValueError(f"The model is {model!r}; expected an FDP model or a system that encodes photographs.")
        if (uri := str(uri)).startswith("file://"):
            uri = url2pathname(uri.removeprefix("file://"))
        uri = uri if "://" in uri else os.path.abspath(Path(uri).expanduser())
        if os.path.isfile(uri):
            raise CorruptIndex(f"{uri} is a file; an index is a folder. Give another name, or move the file away.")
        if "://" not in uri:
            with writing_to(uri):
                os.makedirs(uri, exist_ok=True)
        return cls(uri, model if hasattr(model, "encode_gallery") else systems.fdp(model, **options))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn whatever Lance says of a damaged table, its panics too, into one error that names it."""
        try:
            yield
        except (CorruptIndex, KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit):
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            told = f"The index {self.uri}, table {self.name}, cannot be read: {str(error).splitlines()[0][:300]}"
            advice = "Nothing was changed. Move that folder away and update again, or bring it back from a copy."
            raise CorruptIndex(f"{told}. {advice}") from error

    def _scan(self, columns: Sequence[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        query = self._table.search().select(list(columns)).with_row_id(True)
        yield from (query.where(where) if where else query).to_batches(1024)

    def _unborn(self) -> bool:
        """Return whether a process was killed after it made the table's folder and before its first version."""
        folder = Path(self.uri, f"{self.name}.lance")
        return folder.is_dir() and not any(any(folder.glob(each)) for each in ("data/*", "_versions/*.manifest"))

    def _refresh(self) -> None:
        """Take over what is new in the table, by whomever it was written."""
        with self._reading():
            if self._table is None and self.name in self._db.list_tables().tables and not self._unborn():
                self._table = self._db.open_table(self.name)
            if self._table is None:
                return
            self._table.checkout_latest()
            if (version := self._table.version) == self._version:
                return
            facts = self._table.schema.metadata
            if facts[b"model_hash"].decode() != self.system.model_hash:
                raise ValueError(f"it was made by the model {facts[b'model_hash'].decode()}")
            # first the old rows go; a failure is met again by the next call
            self._rows, self._places, self._keys, self._contents, self._version = [], {}, {}, set(), -1
            found, self._width = [], int(facts[b"width"])
            for batch in self._scan((*_Row._fields, "crc_row")):
                *columns, crcs = (batch[name].to_pylist() for name in (*_Row._fields, "crc_row"))
                for at in (_Row._fields.index("folder"), _Row._fields.index("model")):
                    columns[at] = [sys.intern(each) for each in columns[at]]  # one string for all rows
                new = [_Row(*values) for values in zip(*columns)]
                if wrong := [row.id for row, crc in zip(new, crcs) if row.crc() != crc]:
                    raise ValueError(f"the row of {wrong[0]} does not have its checksum")
                found += zip(new, batch["_rowid"].to_pylist())
            found.sort(key=lambda pair: pair[0].id)
            rows = [row for row, _ in found]
            self._places = {row.id: place for place, row in enumerate(rows)}
            self._keys = {key: place for place, (_, key) in enumerate(found)}
            if len(self._places) < len(rows):
                raise ValueError("a photograph stands in it twice")
            self.vectors = sum(row.count for row in rows)
            self._contents = {row.content for row in rows}
            self._rows, self._sets, self._version = rows, None, version

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids of the N photographs, sorted."""
        self._refresh()
        return tuple(row.id for row in self._rows)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the N files."""
        self._refresh()
        return tuple(Path(os.fsdecode(row.path)) for row in self._rows)

    @property
    def sets(self) -> VectorSets:
        """Return all vectors and corners, in the order of ``ids``; they are then in memory."""
        self._refresh()
        if self._sets is None:
            self._sets = self._gather(self._scan(_VECTORS) if self._rows else (), np.arange(len(self._rows)))
        return self._sets

    def update(
        self,
        photographs: Gallery | str | Path,
        progress: bool = True,
        stream: Callable[[list[Photo], frozenset[str | tuple[str, str]]], Iterator[list[Encoded]]] | None = None,
    ) -> Update:
        """Make the index hold these photographs: encode what is new, follow what moved, drop what is gone.

        A file of the same id, size and time is taken as unchanged; any other is hashed, and encoded only where no
        photograph of the index has its content. Every ``SLICE`` photographs are committed, so that a killed process
        loses no more than these, and the next call goes on.

        Args:
            photographs: a :class:`fdp_core.datasets.Gallery` or a folder, of which every image file is taken.
            progress: show a bar with the time that is left.
            stream: encodes photographs elsewhere (:func:`fdp_core.retrieval.cluster.stream`), but for known contents.

        Returns:
            What was done. A warning names photographs that cannot be read, and so does the table of errors beside this
            one; they are tried again by the next call.

        Raises:
            DatasetMissing: the folder is not there or holds no photograph.
            FolderInUse: another process is updating the index.
            CorruptIndex: the table is damaged.
            DiskFault: the disk is full or cannot be written.
            ValueError: none of the photographs can be read, two have one id, or the model does not fit.
        """
        gallery = load_folder(photographs) if isinstance(photographs, (str, Path)) else photographs
        if not isinstance(gallery, Gallery):
            raise ValueError(f"photographs are {gallery!r:.80}; expected a folder or a Gallery.")
        twice = [name for name, count in Counter(photo.id for photo in gallery.photos).items() if count > 1]
        if twice:
            raise ValueError(f"{gallery.name} has several photographs of one id, {twice[0]!r}; give each its own.")
        with writing_to(self.uri), only_owner(None if "://" in self.uri else self.uri):
            self._refresh()
            known, moved, todo = {row.id: row for row in self._rows}, [], []
            for photo in gallery.photos:
                old, path = known.get(photo.id), os.fsencode(os.path.abspath(photo.path))
                unchanged = False
                with contextlib.suppress(OSError):  # one that cannot be read is told of below
                    unchanged = old is not None and (old.size, old.mtime) == _stamp(photo)
                if not unchanged:
                    todo.append(photo)
                elif old.path != path:
                    moved.append(old._replace(path=path))
            if moved:  # only the columns that changed: the vectors are not written anew
                columns = {name: [getattr(row, name) for row in moved] for name in ("id", "path")}
                crcs = pa.array([row.crc() for row in moved], pa.uint32())
                self._table.merge_insert("id").when_matched_update_all().execute(pa.table({**columns, "crc_row": crcs}))
            changed = {photo.id for photo in todo}
            # a row that may be replaced holds its content for its own photograph only
            kept = frozenset((row.id, row.content) if row.id in changed else row.content for row in self._rows)
            encoded, faults = 0, {}
            with tqdm(total=len(todo), desc="index", unit=" photographs", disable=not progress or not todo) as bar:
                for part in stream(todo, kept) if stream else self._stream(gallery, todo):
                    self._commit([each for each in part if not each.fault])
                    encoded += sum(each.vectors is not None for each in part)
                    faults |= {each.id: each for each in part if each.fault}
                    bar.update(len(part))
            self._note(list(faults.values()))
            unreadable = sorted(faults)
            gone = sorted(known.keys() - ({photo.id for photo in gallery.photos} - set(unreadable)))
            if len(unreadable) == len(gallery):
                told = f"None of the {len(gallery)} photographs of {gallery.name} could be read"
                raise ValueError(f"{told}; the warning before this names the fault of each.")
            for start in range(0, len(gone), 1000):
                self._table.delete(_one_of("id", gone[start : start + 1000]))
            self._optimize()
        self.unreadable = tuple(unreadable)
        return Update(encoded, len(gallery) - encoded - len(unreadable), len(gone), self.unreadable)

    def _stream(self, gallery: Gallery, todo: list[Photo]) -> Iterator[list[Encoded]]:
        """Encode photographs here, a slice after the other, each content once."""
        for start in range(0, len(todo), SLICE):
            photos = {photo.id: photo for photo in todo[start : start + SLICE]}
            seen = {name: look_at(photo) for name, photo in photos.items()}
            first = {each.content: each for each in seen.values() if not each.fault}
            held = self._held(first)
            first = [each for content, each in first.items() if content not in held]
            if first:
                fresh = dataclasses.replace(gallery, photos=tuple(photos[each.id] for each in first))
                made = {each.content: each for each in encode(self.system, fresh, first)}
                lost = {content: each.fault for content, each in made.items() if each.fault}
                seen = {
                    name: each._replace(fault=each.fault or lost.get(each.content, "")) for name, each in seen.items()
                }
                seen |= {each.id: each for each in made.values()}
            yield list(seen.values())

    def _held(self, contents: Collection[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return the vectors and corners of those contents that are in the table."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if there := self._contents.intersection(contents):
            with self._reading():
                for batch in self._scan(("id", "content", "crc_vectors", *_VECTORS), _one_of("content", sorted(there))):
                    names, contents, crcs = (batch[name].to_pylist() for name in ("id", "content", "crc_vectors"))
                    found |= zip(contents, _arrays(batch, names, crcs))
        return found

    def _commit(self, part: list[Encoded]) -> None:
        """Bring a slice into the table, in one commit."""
        if not part:
            return
        found = {each.content: (each.vectors, each.corners) for each in part if each.vectors is not None}
        if self._table is None:
            schema = _schema(self.system.model_hash, max(each.width for each in part))
            self._table = self._db.create_table(self.name, schema=schema)
        found |= self._held({each.content for each in part} - found.keys())
        rows = []
        for each in part:
            folder, vectors = str(PurePosixPath(each.id).parent).removeprefix("."), found[each.content]
            facts = each.id, folder, each.path, each.content, each.size, each.mtime, each.taken
            rows.append(_Row(*facts, self.system.model_hash, len(vectors[0]), _crc(*vectors)))
        columns = dict(zip(_Row._fields, map(list, zip(*rows)))) | {"crc_row": [row.crc() for row in rows]}
        for name, flat in zip(("regions", "corners"), zip(*(found[row.content] for row in rows))):
            columns[name] = _lists(np.concatenate(flat), [row.count for row in rows])
        table = pa.table(columns, schema=self._table.schema)
        if self._shared or any(row.id in self._places for row in rows):
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(table)
        else:  # a merge reads all ids, so that a build would take the square of its photographs
            self._table.add(table)
        self._contents |= found.keys()

    def _note(self, faults: list[Encoded]) -> None:
        """Tell which photographs could not be read, in a warning and in the table of errors."""
        name = self.name.replace("photographs", "errors")
        if faults:
            warnings.warn(error_report([(each.id, each.fault) for each in faults]), CorruptPhotographs, stacklevel=3)
            columns = {field: [getattr(each, field) for each in faults] for field in ("id", "path", "fault")}
            self._db.create_table(name, pa.table(columns), mode="overwrite")
        elif name in self._db.list_tables().tables:
            self._db.drop_table(name)

    def _optimize(self) -> None:
        """Make few files of many, take them over, and let the index learn what is new, when there is enough of it."""
        if self._table is None:
            return
        names = {index.name for index in self._table.list_indices()}
        for name in names - {GROUPS}:  # of an earlier version: fewer bits, which thirty candidates are too few for
            self._table.drop_index(name)
        learnt = self._table.index_stats(GROUPS) if GROUPS in names else None
        many = self._table.stats()["fragment_stats"]["num_fragments"] > FRAGMENTS
        if many or (learnt and learnt.num_unindexed_rows > learnt.num_indexed_rows / 10):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of readers of older versions: ours take the newest at each query
                self._table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)
        self._refresh()
        if self.vectors > EXACT and learnt is None:  # last: made earlier, it would be made anew for the new files
            from lancedb.index import IvfRq

            config = IvfRq(distance_type="cosine", num_partitions=max(2, self.vectors // GROUP), num_bits=BITS)
            self._table.create_index("regions", config=config, name=GROUPS)

    def _encode_query(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Encode a query: see :func:`fdp_core.retrieval.vectors.query_vectors`."""
        check_query(text, getattr(self.system, "backbone", None))
        return query_vectors(self.system, text)

    def scores(self, text: str) -> np.ndarray:
        """Return the score of every photograph for a query: [N] float32; all vectors are then in memory.

        Raises:
            ValueError: the query is empty or has letters that the backbone cannot spell.
            CorruptIndex: the table is damaged.
        """
        queries, _ = self._encode_query(text)
        return score_texts(self.system, self.sets, [text], queries[:1])[0] if self._rows else np.zeros(0, np.float32)

    def search(self, text: str, k: int = 10, min_score: float = -np.inf, where: str | None = None) -> list[Hit]:
        """Find the k photographs with the highest scores; equal scores in the order of ids.

        Up to ``EXACT`` vectors the search is exact. Beyond, LanceDB's index finds ``CANDIDATES`` times as many, which
        are then scored exactly.

        Args:
            text: a word or a phrase.
            k: how many, at least 1; at most all come back.
            min_score: leave out photographs whose score is lower; which value tells a hit from chance depends on the
                model, so try words that are surely absent.
            where: leave out photographs that do not meet a condition in SQL, for example
                ``folder = 'trips/rome' AND taken >= date '2024-05-01' AND size < 1000000``; its columns are ``id``,
                ``folder``, ``taken`` and ``size``.

        Returns:
            Hits, best first, each with the region that answered.

        Raises:
            ValueError: as :meth:`scores`; k is not positive; ``where`` is no condition on these columns.
            CorruptIndex: the table is damaged.
        """
        check("k", k, Count)
        check("min_score", min_score, _Score)
        queries, weights = self._encode_query(text)
        try:
            return self._search(queries, weights, k, min_score, where)
        except CorruptIndex:  # or another process has put its files together meanwhile
            return self._search(queries, weights, k, min_score, where)

    def _search(
        self, queries: np.ndarray, weights: np.ndarray, k: int, min_score: float, where: str | None
    ) -> list[Hit]:
        self._refresh()
        if not self._rows:
            return []
        allowed = self._allowed(where)
        if self.vectors > EXACT and self._sets is None:
            places = np.flatnonzero(allowed) if where else np.zeros(0, np.int64)
            if where and sum(self._rows[place].count for place in places) <= EXACT:
                batches = self._scan(_VECTORS, where)
            else:
                with self._reading():
                    batches = list(self._candidates(queries, k, where))
                    places = np.unique([self._keys[key] for batch in batches for key in batch["_rowid"].to_pylist()])
            sets = self._gather(batches, places)
        else:
            places, sets = np.arange(len(self._rows)), self.sets
        near, scores = sets.nearest(queries, k, weights, None if allowed is None else allowed[places])
        hits = []
        for rank, at in enumerate(top_rows(scores, [self._rows[places[own]].id for own in near], k), start=1):
            if scores[at] < min_score:
                break
            first, last = sets.starts[near[at] :][:2]
            corners = sets.corners[first + np.argmax(sets.vectors[first:last] @ queries[0])]
            row, corners = self._rows[places[near[at]]], None if np.isnan(corners).any() else corners
            path = Path(os.fsdecode(row.path))
            hits.append(Hit(rank, int(places[near[at]]), row.id, path, float(scores[at]), corners))
        return hits

    def _allowed(self, where: str | None) -> np.ndarray | None:
        """Tell which photographs meet a condition: [N] bool; None for all."""
        if where is None:
            return None
        allowed = np.zeros(len(self._rows), bool)
        try:
            for batch in self._scan(["id"], where):
                allowed[[self._places[name] for name in batch["id"].to_pylist()]] = True
        except Exception as error:
            why = str(error).splitlines()[0][:200]
            raise ValueError(f"where is {where!r}, no condition on {FILTERS}: {why}") from error
        return allowed

    def _candidates(self, queries: np.ndarray, k: int, where: str | None) -> Iterator[pa.RecordBatch]:
        """Find photographs near the vectors of a query, [Q, D], by LanceDB's index."""
        for query in np.pad(queries, ((0, 0), (0, _padded(self._width) - self._width))):
            search = self._table.search(query, vector_column_name="regions").distance_type("cosine")
            search = search.nprobes(max(1, self.vectors // GROUP // 4)).limit(CANDIDATES * max(10, k))
            search = search.where(where, prefilter=True) if where else search
            yield from search.select([*_VECTORS, "_distance"]).with_row_id(True).to_batches()

    def _gather(self, batches: Iterable[pa.RecordBatch], places: np.ndarray) -> VectorSets:
        """Put the vectors of photographs, at ``places`` [K], ascending, together; a row may come twice."""
        starts = np.append(0, np.cumsum([self._rows[place].count for place in places], dtype=np.int64))
        vectors, corners = np.empty((starts[-1], self._width), np.float32), np.empty((starts[-1], 4, 2), np.float32)
        filled = np.zeros(len(places), bool)
        with self._reading():
            for batch in batches:
                own = [self._keys[key] for key in batch["_rowid"].to_pylist()]
                rows = [self._rows[place] for place in own]
                each = _arrays(batch, [row.id for row in rows], [row.crc_vectors for row in rows])
                for at, found in zip(np.searchsorted(places, own), each):
                    vectors[starts[at] : starts[at + 1]] = found[0][:, : self._width]
                    corners[starts[at] : starts[at + 1]], filled[at] = found[1], True
            if not filled.all():
                raise ValueError(f"it lacks the row of {self._rows[places[np.argmin(filled)]].id}")
        return VectorSets(vectors, starts, corners)


def check_query(text: str, backbone: Backbone | None = None) -> None:
    """Raise ``ValueError`` where a query shows no letter or sign, or has some that the backbone cannot spell."""
    if not isinstance(text, str):
        raise ValueError(f"The query is {text!r}; expected a text.")
    if all(unicodedata.category(letter)[0] in "CZM" for letter in text):  # spaces, zero-width and combining marks
        told = f"The query {text!r} shows no letter" if text.strip() else "The query is empty"
        raise ValueError(f"{told}; type a word or a phrase.")
    if letters := backbone.unknown_letters(text) if backbone else "":
        raise ValueError(f"{backbone.name} cannot spell {letters!r}: the query {text!r} would find anything.")


def _stamp(photo: Photo) -> tuple[int, int]:
    """Return a photograph's size in bytes and when it was written, in nanoseconds; -1 where nobody knows."""
    if photo.data is not None:
        return len(photo.data), -1
    status = os.stat(photo.path)
    return status.st_size, status.st_mtime_ns

"""The pipeline that FDP competes with: detect text, read it, rank by edit distance to the query."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import sqlite3
import time
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import Levenshtein
import numpy as np

from fdp_core.config import parse
from fdp_core.datasets import images
from fdp_core.datasets.types import Gallery, Photo
from fdp_core.files import atomic_write_text, sha256_of
from fdp_core.retrieval.features import CorruptPhotographs, error_report
from fdp_core.retrieval.vectors import Speed
from fdp_core.retrieval.workers import Spare, in_order

ENGINES = ("openvino", "onnxruntime")  # fastest first
_ONE_CORE = {"inference_num_threads": 1, "enable_cpu_pinning": False}


class OcrMissing(ImportError):
    """The optional OCR packages are not installed."""


def normalise(text: str) -> str:
    """Keep letters and digits, lower case, forms folded (NFKC); a text without any keeps its other signs."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if c.isalnum()) or "".join(folded.split())


def split_words(lines: list[str]) -> list[str]:
    """Split read lines into distinct normalised words, sorted."""
    return sorted({normalise(word) for line in lines for word in line.split()} - {""})


def similarity(query: str, words: list[str]) -> float:
    """Score the normalised words read on one photograph against a query, a word or a phrase, in 0-1.

    It is 1 - edit distance / longer length to the nearest word, for a phrase the mean over its words; 0 where nothing
    was read.

    Source: TDSL's protocol for spotters (normalised edit distance, letters and digits, lower case).
    """
    parts = split_words([query])
    if not words or not parts:
        return 0.0

    def alike(part: str, word: str) -> float:
        return 1 - Levenshtein.distance(part, word) / max(len(part), len(word))

    return float(np.mean([max(alike(part, word) for word in words) for part in parts]))


class RapidReader:
    """RapidOCR on one photograph; its wheel carries the models, so it runs offline.

    Args:
        engine: "openvino", "onnxruntime", or None for the fastest that is installed.
        alone: use all cores for one photograph; else one core, for a reader among others.

    Raises:
        OcrMissing: RapidOCR or every engine is missing.
    """

    def __init__(self, engine: str | None = None, alone: bool = True):
        found = [name for name in ENGINES if importlib.util.find_spec(name)]
        if importlib.util.find_spec("rapidocr") is None or not found or (engine and engine not in found):
            needs = f"rapidocr and an engine ({engine or ' or '.join(ENGINES)})"
            advice = "Install the optional extra, in the checkout: pip install -e '.[ocr]'."
            raise OcrMissing(f"The OCR baseline needs {needs}. {advice}")
        import rapidocr

        self.engine = engine or found[0]
        kind = rapidocr.EngineType(self.engine)
        params = {f"{part}.engine_type": kind for part in ("Det", "Cls", "Rec")} | {"Global.log_level": "error"}
        if not alone and self.engine == "openvino":  # pinned, all readers would sit on the same core
            params |= {f"EngineConfig.openvino.{k}": v for k, v in _ONE_CORE.items()}
        elif not alone:
            params |= {f"EngineConfig.onnxruntime.{k}_op_num_threads": 1 for k in ("intra", "inter")}
        self._model = rapidocr.RapidOCR(params=params)
        self.version = f"rapidocr {importlib.metadata.version('rapidocr')} ({self.engine})"

    def __call__(self, pixels: np.ndarray) -> list[str]:
        """Read RGB uint8 [H, W, 3]; return the lines of text."""
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        # Its flags are sticky between calls: give all of them every time.
        result = self._model(bgr, use_det=True, use_cls=True, use_rec=True)
        return [str(line) for line in getattr(result, "txts", None) or ()]


class OcrSystem:
    """Detected and read words, ranked by normalised edit distance.

    Args:
        reader: RGB uint8 [H, W, 3] -> lines of text, with a ``version``; None for :class:`RapidReader`.
        long_side: larger photographs are shrunk to this long side, pixels.
        engine: of the reader, as in :class:`RapidReader`.
        cache_dir: folder that keeps what was read, by content of the file; None keeps it in this object only.
        progress: show a progress bar.
        workers: photographs at once, each on one core by a RapidReader of its own; a ``reader`` given is shared.
    """

    def __init__(
        self,
        reader: Callable[[np.ndarray], list[str]] | None = None,
        long_side: int = 960,
        engine: str | None = None,
        cache_dir: str | Path | None = None,
        progress: bool = True,
        workers: int = 1,
    ):
        self.reader = reader or RapidReader(engine, alone=workers == 1)
        another = (lambda: reader) if reader else (lambda: RapidReader(self.reader.engine, alone=False))
        self.workers, self._spare = workers, Spare(another, [self.reader])
        self.version = getattr(self.reader, "version", type(self.reader).__name__)
        self.name, self.long_side, self.progress = "OCR pipeline", long_side, progress
        self.cache_dir = None if cache_dir is None else Path(cache_dir).expanduser()
        self.settings = {"reader": self.version, "long_side": long_side}
        self.speed: Speed | None = None
        self._read: dict[str, list[str]] = {}

    def words(self, gallery: Gallery) -> list[list[str] | None]:
        """Return N lists of normalised words, None where a photograph cannot be opened (a warning tells)."""
        start, computed, errors, result = time.perf_counter(), 0, [], []
        found = in_order(self._lines, gallery.photos, self.workers, self.progress, "reading")
        for photo, (lines, fresh) in zip(gallery.photos, found):
            computed += lines is not None and fresh
            if lines is None:
                errors.append((photo.id, fresh))
            result.append(None if lines is None else split_words(lines))
        seconds, known = time.perf_counter() - start, len(result) - len(errors)
        if errors:
            warnings.warn(error_report(errors), CorruptPhotographs, stacklevel=2)
        fresh = computed == known
        cached = "" if fresh else "; part of it came from the cache"
        timed = f"read, decode, resize, detection and recognition{cached}"
        self.speed = Speed(computed if fresh else 0, seconds, 1, "float32", "cpu", timed)
        return result

    def _lines(self, photo: Photo) -> tuple[list[str] | None, bool | str]:
        """Return the lines of a photograph and whether they were read now; or None and why it cannot be opened."""
        try:
            image = images.open_image(photo.source)
        except images.CorruptImage as error:
            return None, error.reason
        key = self._key(photo)
        lines = self._read[key] if key in self._read else self._load(key)
        if fresh := lines is None:
            image.thumbnail((self.long_side, self.long_side))
            with self._spare.lend() as reader:
                lines = list(reader(np.asarray(image)))
            self._save(key, lines)
        self._read[key] = lines
        return lines, fresh

    def forget(self) -> None:
        """Drop what this object has read; the folder ``cache_dir`` stays."""
        self._read.clear()

    def scores(self, gallery: Gallery, texts: list[str]) -> np.ndarray:
        """Return [Q, N] float in 0-1; NaN columns for photographs that cannot be opened."""
        read = self.words(gallery)
        return np.array([[np.nan if w is None else similarity(text, w) for w in read] for text in texts])

    def _key(self, photo: Photo) -> str:
        return hashlib.sha256(f"{self.version} {self.long_side} {sha256_of(photo.source)}".encode()).hexdigest()[:32]

    def _load(self, key: str) -> list[str] | None:
        if self.cache_dir is None:
            return None
        try:
            return parse((self.cache_dir / f"{key}.json").read_bytes(), list[str])
        except (OSError, ValueError):
            return None  # nothing kept, or torn: read the photograph again

    def _save(self, key: str, lines: list[str]) -> None:
        if self.cache_dir is not None:
            atomic_write_text(self.cache_dir / f"{key}.json", json.dumps(lines, ensure_ascii=False))


class TrigramSystem(OcrSystem):
    """What OCR read, in a full-text index of letter trigrams: how photo libraries search text today.

    A photograph is ranked by BM25 over the trigrams that it shares with the query, so that parts of words and slips of
    the reader are found too. Its arguments are those of :class:`OcrSystem`.

    Source: SQLite's FTS5 with the tokenizer ``trigram``; Immich searches its OCR text by trigrams in the same way.
    """

    def __init__(self, **options: str | Path | int | bool | None):
        super().__init__(**options)
        self.name = "OCR text, trigram index"

    def scores(self, gallery: Gallery, texts: list[str]) -> np.ndarray:
        """Return [Q, N] float, 0 where nothing is shared; NaN columns for photographs that cannot be opened."""
        read = self.words(gallery)
        found = np.zeros((len(texts), len(read)))
        with contextlib.closing(sqlite3.connect(":memory:")) as index:
            index.execute("CREATE VIRTUAL TABLE photographs USING fts5(words, tokenize='trigram')")
            rows = [(number, " ".join(words or ())) for number, words in enumerate(read)]
            index.executemany("INSERT INTO photographs(rowid, words) VALUES (?, ?)", rows)
            for scores, text in zip(found, texts):
                parts = split_words([text])
                grams = sorted({part[i : i + 3] for part in parts for i in range(len(part) - 2)})
                if grams:
                    asked = " OR ".join(f'"{gram}"' for gram in grams)
                    ranked = "SELECT rowid, -bm25(photographs) FROM photographs WHERE photographs MATCH ?"
                else:  # too short for a trigram
                    asked, ranked = "".join(parts), "SELECT rowid, 1.0 FROM photographs WHERE instr(words, ?)"
                for number, score in index.execute(ranked, (asked,)):
                    scores[number] = score
        found[:, [words is None for words in read]] = np.nan
        return found

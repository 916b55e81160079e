"""A fast embedder that needs no picture, and an update in a process of its own (run by test_index)."""

import hashlib
import sys
import time

import numpy as np

from fdp_core.retrieval import index
from fdp_core.retrieval.vectors import VectorSets

WIDTH = 12


class Fast:
    """One to three vectors from the bytes of a file, each with a region; an empty file cannot be read."""

    name = "fast"

    def __init__(self, model_hash="fast" * 16, pause=0.0):
        self.model_hash, self.pause, self.seen = model_hash, pause, []

    def encode_gallery(self, shown):
        counts, parts, corners = [], [], []
        for photo in shown.photos:
            data = photo.source if isinstance(photo.source, bytes) else photo.path.read_bytes()
            rng = np.random.default_rng(list(hashlib.sha256(data).digest()))
            vectors = rng.normal(size=(int(rng.integers(1, 4)) if data else 0, WIDTH))
            parts.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
            corners.append(rng.random((len(vectors), 4, 2)) * 100)
            counts.append(len(vectors))
            self.seen.append(photo.id)
            time.sleep(self.pause)
        vectors, corners = (np.concatenate(part).astype(np.float32) for part in (parts, corners))
        return VectorSets(vectors, np.append(0, np.cumsum(counts, dtype=np.int64)), corners)

    def encode_queries(self, texts):
        rng = [np.random.default_rng(list(text.encode())) for text in texts]
        vectors = np.array([each.normal(size=WIDTH) for each in rng], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    folder, uri, pause, size = sys.argv[1:]
    index.SLICE = int(size)
    opened = index.Index.open(uri, Fast(pause=float(pause)))
    print("begins", flush=True)
    print(opened.update(folder, progress=False), flush=True)

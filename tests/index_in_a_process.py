"""Run by test_index: index one photograph many times and print by how many bytes the peak memory grew."""

import sys
from pathlib import Path

import numpy as np

from fdp_core.datasets import Gallery, Photo
from fdp_core.retrieval import index
from fdp_core.retrieval.vectors import VectorSets
from fdp_core.studies.speed import peak_memory

WIDTH = 4096  # of two vectors a photograph: large, so that keeping them would show


class Fast:
    model_hash = "fast"

    def encode_gallery(self, shown):
        starts = np.arange(0, 2 * len(shown.photos) + 1, 2)
        return VectorSets(np.ones((starts[-1], WIDTH), np.float32), starts)


if __name__ == "__main__":
    photo, file, count, streamed = sys.argv[1:]
    photos = tuple(Photo(f"{number:06d}", Path(photo), ()) for number in range(int(count)))
    shown = Gallery("many", "test", photos, "", True)
    before = peak_memory()
    if int(streamed):
        index.write(Fast(), shown, file, 64)
    else:
        index.Index.build(Fast(), shown).save(file)
    print(peak_memory() - before)

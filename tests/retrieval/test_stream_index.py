"""An index written slice by slice: the same as one built at once, and no larger in memory with more photographs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from eval_fakes import FakeBackbone, draw, gallery

from fdp_core.datasets import Gallery, Photo
from fdp_core.retrieval import stream_index, systems
from fdp_core.retrieval.features import CorruptPhotographs
from fdp_core.retrieval.index import CorruptIndex, Index, open_index
from fdp_core.retrieval.vectors import VectorSets


def system():
    return systems.zero_shot(FakeBackbone(), 64, progress=False)


class Several:
    """One vector for an odd photograph, two for an even one, by the number in its name."""

    model_hash = "several"

    def encode_gallery(self, shown):
        numbers = [int(photo.id[:2]) for photo in shown.photos]
        rows = [np.eye(9, dtype=np.float32)[n + (0 if first else 1)] for n in numbers for first in (1, 0)[: 2 - n % 2]]
        return VectorSets(np.array(rows), np.append(0, np.cumsum([2 - n % 2 for n in numbers])))

    def encode_queries(self, texts):
        return np.eye(9, dtype=np.float32)[[int(text) for text in texts]]


@pytest.mark.parametrize("make", [system, Several])
@pytest.mark.parametrize("size", [1, 2, 3, 99])
def test_slices_make_the_same_index(tmp_path, size, make):
    shown = gallery(tmp_path / "g", 7)
    whole = Index.build(make(), shown)
    path = stream_index.write(make(), shown, tmp_path / "deep" / "i.safetensors", size)
    for mapped in (False, True):
        index = Index.load(path, make(), mapped=mapped)
        np.testing.assert_allclose(index.features, whole.features, atol=1e-6)
        np.testing.assert_array_equal(index.starts, whole.starts)
        assert (index.ids, index.paths, index.contents) == (whole.ids, whole.paths, whole.contents)
        assert [hit.id for hit in index.search("3", 4)] == [hit.id for hit in whole.search("3", 4)]
    assert isinstance(index.features, np.memmap) and not index.features.flags.writeable
    assert os.listdir(tmp_path / "deep") == ["i.safetensors"]


def test_a_slice_without_a_readable_photograph_is_named_and_left_out(tmp_path):
    shown = gallery(tmp_path / "g", 5, corrupt=(0, 1, 4))
    with pytest.warns(CorruptPhotographs) as told:
        path = stream_index.write(system(), shown, tmp_path / "i", 2)
    assert all(any(name in str(each.message) for each in told) for name in ("00.png", "01.png", "04.png"))
    assert not any(str(tmp_path) in str(each.message) for each in told)
    index = Index.load(path)
    assert index.ids == ("02.png", "03.png") and index.unreadable == ("00.png", "01.png", "04.png")


def test_nothing_readable_leaves_no_file(tmp_path):
    shown = gallery(tmp_path / "g", 2, corrupt=(0, 1))
    with pytest.warns(CorruptPhotographs), pytest.raises(ValueError, match="None of the 2 photographs of toy"):
        stream_index.write(system(), shown, tmp_path / "out" / "i")
    assert os.listdir(tmp_path / "out") == []


def test_an_error_of_the_model_is_no_unreadable_slice(tmp_path):
    class Broken(Several):
        def encode_gallery(self, shown):
            raise ValueError("the model is broken")

    with pytest.raises(ValueError, match="the model is broken"):
        stream_index.write(Broken(), gallery(tmp_path / "g", 3), tmp_path / "i", 2)


def test_an_interrupted_write_keeps_the_older_index(tmp_path):
    shown, path = gallery(tmp_path / "g", 4), tmp_path / "out" / "i"
    stream_index.write(Several(), shown, path)
    before = path.read_bytes()

    class Dies(Several):
        seen = 0

        def encode_gallery(self, part):
            self.seen += 1
            if self.seen == 2:
                raise KeyboardInterrupt
            return super().encode_gallery(part)

    with pytest.raises(KeyboardInterrupt):
        stream_index.write(Dies(), shown, path, 2)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["i"]


def test_an_index_of_many_photographs_is_streamed_and_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_index, "SLICE", 2)
    shown = gallery(tmp_path / "g", 3)
    index = open_index(system(), shown, tmp_path / "i")
    assert isinstance(index.features, np.memmap)
    again = open_index(system(), shown, tmp_path / "i")
    assert [hit.id for hit in index.search("hotel")] == [hit.id for hit in again.search("hotel")]
    monkeypatch.setattr(stream_index, "SLICE", 3)
    assert not isinstance(open_index(system(), shown, tmp_path / "j").features, np.memmap)


def test_a_map_of_a_damaged_file_is_refused(tmp_path):
    path = stream_index.write(Several(), gallery(tmp_path / "g", 4), tmp_path / "i")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptIndex, match="damaged"):
        Index.load(path, mapped=True)


def peak_growth(folder: Path, count: int, streamed: bool) -> int:
    """Index one photograph ``count`` times in a process of its own; return by how many bytes its peak memory grew."""
    program = Path(__file__).parents[1] / "index_in_a_process.py"
    done = subprocess.run(
        [sys.executable, program, folder / "one.png", folder / "i", str(count), str(int(streamed))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return int(done.stdout)


def test_memory_does_not_grow_with_the_photographs(tmp_path):
    draw(tmp_path / "one.png", 0, (32, 32))
    few, many = (peak_growth(tmp_path, count, True) for count in (256, 4096))
    vectors = 4096 * 2 * 4096 * 4  # what the vectors take: 134 MB
    assert many - few < vectors / 8
    assert peak_growth(tmp_path, 4096, False) > vectors  # the measure sees what it should see


def test_the_slice_must_hold_something(tmp_path):
    with pytest.raises(ValueError, match="size is 0"):
        stream_index.write(Several(), Gallery("g", "test", (Photo("a", tmp_path, ()),), "", True), tmp_path / "i", 0)

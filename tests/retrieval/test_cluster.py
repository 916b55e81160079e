"""Embedding by Ray: the same as one process, though a worker is killed; the command without it."""

import functools
import os
from pathlib import Path

import lancedb
import numpy as np
import pytest
from embed_in_a_cluster import Fails, Mortal, make
from PIL import Image

from fdp_core.datasets import load
from fdp_core.retrieval import __main__ as command
from fdp_core.retrieval import cluster
from fdp_core.retrieval.features import CorruptPhotographs
from fdp_core.retrieval.index import MEMORY, Index

TESTS = Path(__file__).parents[1]


def photographs(folder, count=30):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (48, 70, 3), np.uint8)).save(folder / f"{number:02d}.jpg")
    (folder / "same.jpg").write_bytes((folder / "00.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes((folder / "00.jpg").read_bytes()[:200])
    return folder


@pytest.fixture
def ray(monkeypatch):
    """Ray on this machine alone, with two cores."""
    ray = pytest.importorskip("ray")
    for name, value in (("RAY_AUTH_MODE", "disabled"), ("RAY_USAGE_STATS_ENABLED", "0"), ("OMP_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_the_same_vectors_though_a_worker_is_killed(tmp_path, ray):
    folder = photographs(tmp_path / "photographs")
    alone, together = Index.open(MEMORY, make()), Index.open(tmp_path / "index", make())
    with pytest.warns(CorruptPhotographs, match=r"broken\.jpg"):
        alone.update(folder, progress=False)
    stream = functools.partial(cluster.stream, functools.partial(Mortal, tmp_path / "grave"), 2)
    with pytest.warns(CorruptPhotographs, match=r"1 photograph\(s\).*\n  broken\.jpg: "):
        done = together.update(folder, progress=False, stream=stream)
    assert (tmp_path / "grave").exists(), "a worker was killed"
    assert done.unreadable == ("broken.jpg",) and done.removed == 0
    assert together.ids == alone.ids and len(together) == 31, "nothing lost, nothing twice"
    # batches of other sizes differ in last digits: a step of half precision
    np.testing.assert_allclose(together.sets.vectors, alone.sets.vectors, atol=1e-3)
    assert together.sets.vectors.shape == alone.sets.vectors.shape
    (name,) = [name for name in lancedb.connect(tmp_path / "index").list_tables().tables if "errors" in name]
    (row,) = lancedb.connect(tmp_path / "index").open_table(name).to_arrow().to_pylist()
    assert row["id"] == "broken.jpg" and row["fault"]

    (folder / "00.jpg").rename(folder / "moved.jpg")
    (folder / "broken.jpg").unlink()
    done = together.update(folder, progress=False, stream=functools.partial(cluster.stream, Fails, 2))
    assert (done.encoded, done.removed, done.unreadable) == (0, 1, ()), "the content was known"
    assert not [name for name in lancedb.connect(tmp_path / "index").list_tables().tables if "errors" in name]


def test_the_command_in_one_process(tmp_path, capsys):
    photos = load("mini")[0].photos[:2]
    (tmp_path / "list.txt").write_text(f"{photos[0].path}\n\n{photos[1].path}\n{photos[0].path}\n")
    arguments = ["embed", str(tmp_path / "list.txt"), "--index", str(tmp_path / "index"), "--workers", "0"]
    assert command.main(arguments) == 0 and "encoded=2" in capsys.readouterr().out
    assert command.main(arguments) == 0 and "encoded=0, kept=2" in capsys.readouterr().out
    assert command.main(["embed", str(tmp_path / "none"), "--index", str(tmp_path / "index"), "--workers", "0"]) == 1
    assert command.main(["embed", str(tmp_path), "--index", str(tmp_path / "index"), "--workers", "-1"]) == 1
    assert "error: There is no folder" in capsys.readouterr().err


def test_two_that_changed_places(tmp_path, monkeypatch):
    monkeypatch.setattr("fdp_core.retrieval.index.SLICE", 1)
    folder, index = photographs(tmp_path / "photographs", 3), Index.open(MEMORY, make())
    (folder / "broken.jpg").unlink()
    (folder / "same.jpg").unlink()
    index.update(folder, progress=False)
    before = index.sets.vectors
    for old, new in (("00", "x"), ("01", "00"), ("02", "01"), ("x", "02")):
        (folder / f"{old}.jpg").rename(folder / f"{new}.jpg")
    index.update(folder, progress=False)
    np.testing.assert_allclose(index.sets.vectors, before[[1, 2, 0]], atol=1e-3)

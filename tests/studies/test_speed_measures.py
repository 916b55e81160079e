"""The measures of the chapter on speed: what is timed does what it says, and records come back as they were written."""

import multiprocessing
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from fdp_core import config
from fdp_core.evaluation import results
from fdp_core.model import FDP
from fdp_core.studies import speed, speed_runs
from fdp_core.studies.speed import Ratio


@pytest.fixture(scope="module")
def model():
    settings = config.preset("default", image_size=64, probe_heads=2, localiser_hidden=8)
    return FDP(tiny.backbone(), settings).eval()


def test_trunk_and_head_are_timed_on_the_same_images(model, monkeypatch):
    monkeypatch.setattr(speed, "PRODUCT", 128)
    ways = speed.trunk_ways(model, 64, 2, ["float32"])
    features = ways["trunk, float32"]()
    np.testing.assert_allclose(features, ways["trunk as it is"](), atol=1e-4, rtol=1e-3)
    expected = model.encode_features(features.clone())["image"]
    np.testing.assert_allclose(ways["FDP, float32"](), expected.detach(), atol=1e-4)
    timings = speed.take_turns(ways, 3)
    count = speed.operations(model, 64, 2)
    assert count == 2 * speed.operations(model, 64, 1) > 0
    share, best = speed.trunk_share(timings, count, "float32"), {}
    for name in ways:
        if name.startswith("product"):
            best[name] = timings.ratio(name, "trunk, float32", "cpu").median * count / (2 * 128**3)
    assert min(best.values()) <= share.median <= max(best.values())


def test_the_first_epoch_adds_what_filling_the_cache_takes():
    found = speed.first_epoch(Ratio(0.1, 0.08, 0.2), fill=0.5, images=4, baseline=10)
    assert (found.median, found.low, found.high) == pytest.approx((0.3, 0.28, 0.4))


def test_records_come_back(tmp_path, model, monkeypatch):
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path))
    values = {"a, %": 5.0, **speed.spread("b, %", Ratio(0.5, 0.4, 0.7))}
    facts = {"protocol": "as asked", "parameters": {"backbone": "mini", "n": 3}}
    results.save(results.measurement("trunk speed", "a, %", values, model, **facts))
    table = results.load_all()
    found = speed.recorded(table, "trunk speed", backbone="mini")
    assert found["values"] == values and found["value"] == 5.0 and found["weights_hash"] == model.backbone.weights_hash
    assert speed.recorded(table, "trunk speed", backbone="RN50") is None
    assert speed.read_spread(found["values"], "b, %") == Ratio(0.5, 0.4, 0.7)


SMALL = {
    "trunk_speed": ["--image-size", "64", "--rounds", "1"],
    "query_latency": ["--dataset", "mini", "--count", "40", "--queries", "2", "--rounds", "1", "--photographs", "2"],
    "training_step": ["--dataset", "mini_train", "--backbone", "mini", "--image-size", "64", "--batch", "3"]
    + ["--rounds", "1", "--rungs", "ends"],
    "index_scale": ["--photographs", "2", "--count", "12", "--per", "2", "--queries", "2", "--rounds", "1"],
}


@pytest.mark.parametrize("name", SMALL)
def test_every_long_measurement_writes_its_record(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path))
    monkeypatch.setattr(speed, "PRODUCT", 64)
    speed_runs.main([name, *SMALL[name]])
    found = speed.recorded(results.load_all(), name.replace("_", " ") if name != "query_latency" else "query")
    assert found is not None and found["value"] > 0
    assert set(found["parameters"]) == speed_runs.RUNS[name][1].keys()


@pytest.fixture
def threads_for_processes(monkeypatch):
    """Let the systems of photograph_speed run in threads: a process takes seconds to start."""

    def pipe():
        ours, theirs = multiprocessing.Pipe()
        theirs.close = lambda: None  # the thread's own end
        return ours, theirs

    context = SimpleNamespace(Pipe=pipe, Process=threading.Thread)
    monkeypatch.setattr(speed_runs.multiprocessing, "get_context", lambda way: context)


def test_photographs_are_timed_beside_the_ocr_pipeline(threads_for_processes, tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path))
    monkeypatch.setattr(speed_runs, "REGIONS", {"FDP + regions": speed_runs.RegionOptions(sizes=(320,))})
    reader = SimpleNamespace(words=lambda gallery: None, forget=lambda: None, version="a reader")
    monkeypatch.setattr(speed_runs.systems, "ocr", lambda **options: reader)
    speed_runs.main(["photograph_speed", "--dataset", "mini", "--count", "1", "--rounds", "1", "--threads", "1"])
    (found,) = results.load_all().to_dict("records")
    assert found["system"] == "speed" and found["value"] > 0 and found["parameters"]["ocr"] == "a reader"
    assert {f"{name}, ms" for name in ("FDP", "FDP + regions", *speed_runs.RIVALS)} <= found["values"].keys()


def test_a_missing_ocr_pipeline_is_named(threads_for_processes, monkeypatch):
    def missing(**options):
        raise speed_runs.OcrMissing("install it")

    monkeypatch.setattr(speed_runs.systems, "ocr", missing)
    with pytest.raises(speed_runs.OcrMissing, match="install it"):
        speed_runs.main(["photograph_speed", "--dataset", "mini", "--count", "1"])


@pytest.mark.parametrize("width, kind", [(300, "clustered"), (0, "gaussian"), (300, "gaussian")])
def test_wider_and_random_vectors(width, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path))
    speed_runs.main(["query_latency", *SMALL["query_latency"], "--width", str(width), "--kind", kind])
    (found,) = results.load_all().to_dict("records")
    assert found["values"]["dimensions"] == (width or 257) and found["parameters"]["kind"] == kind


def test_the_records_of_the_book_have_the_parameters_of_the_commands():
    table = results.load_all()
    systems = {"photograph_speed": "speed", "query_latency": "query"}
    for name, (_, options) in speed_runs.RUNS.items():
        found = speed.recorded(table, systems.get(name, name.replace("_", " ")))
        assert found is not None and options.keys() <= found["parameters"].keys()

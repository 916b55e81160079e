"""The measures of the chapter on speed: what is timed does what it says, and records come back as they were written."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tiny

from fdp_core import config
from fdp_core.evaluation import results
from fdp_core.model import FDP
from fdp_core.studies import speed, speed_charts
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
    found = speed.first_epoch(Ratio(0.1, 0.08, 0.2), fill=0.5, images=4, direct=10)
    assert (found.median, found.low, found.high) == pytest.approx((0.3, 0.28, 0.4))


def test_frequent_words_leave_out_what_is_asked():
    words = speed.frequent(["The", "and"], 50)
    assert len(words) == 50 and not {"the", "and"} & set(words) and "of" in words


def test_records_come_back(tmp_path, model, monkeypatch):
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path))
    values = {"a, %": 5.0, **speed.spread("b, %", Ratio(0.5, 0.4, 0.7))}
    path = speed.record("trunk speed", "a, %", values, "as asked", {"backbone": "mini", "n": 3}, model=model)
    assert path.parent == tmp_path
    table = results.load_all()
    found = speed.recorded(table, "trunk speed", backbone="mini")
    assert found["values"] == values and found["value"] == 5.0 and found["weights_hash"] == model.backbone.weights_hash
    assert speed.recorded(table, "trunk speed", backbone="RN50") is None
    assert speed.read_spread(found["values"], "b, %") == Ratio(0.5, 0.4, 0.7)


def rows(**speeds):
    values = {f"{name}, % of OCR": value for name, value in speeds.items()}
    accuracy = {"FDP": 20.0, "OCR pipeline": 70.0, "zero-shot CLIP": 3.0}
    lines = [{"set": "svt", "system": "speed", "metric": "x", "values": values, "value": 1.0, "date": "2026"}]
    same = {"set": "svt", "metric": "mAP", "values": {}, "date": ""}
    lines += [{**same, "system": name, "value": value} for name, value in accuracy.items()]
    return pd.DataFrame(lines)


def test_speed_and_accuracy_meet_by_name_and_the_faster_rival_stays():
    table = rows(**{"FDP": 25.0, "FDP + regions": 60.0, "OCR pipeline": 100.0, "OCR pipeline, parallel": 80.0})
    assert speed.accuracy_and_speed(table, "svt") == {"FDP": (4.0, 20.0), "OCR pipeline, parallel": (1.25, 70.0)}
    assert speed.accuracy_and_speed(table, "mini") == {}


def test_figures_show_everything():
    published = pd.DataFrame({"method": ["FDP-RN50x16", "TDSL"], "fps": [11.8, 12.0], "value": [89.6, 89.4]})
    fig = speed_charts.accuracy_speed({"FDP": (2.0, 10.0), "OCR pipeline": (1.0, 76.0)}, published, "here")
    left, right = fig.axes
    assert [text.get_text() for text in left.texts] == ["FDP", "OCR pipeline"]
    assert [text.get_text() for text in right.texts] == ["1", "2", "1 FDP-RN50x16\n2 TDSL"]
    assert left.get_ylabel() and left.get_xlabel() != right.get_xlabel() and "other hardware" in right.get_title()
    left = speed_charts.accuracy_speed({}, published, "here").axes[0]
    assert "photograph_speed" in left.texts[0].get_text()
    fig = speed_charts.ladder({"now": {"direct": Ratio(1, 1, 1), "+ cut texts": Ratio(0.5, 0.4, 0.7)}}, (0.1,))
    assert [bar.get_width() for bar in fig.axes[0].patches] == [100, 50]
    plt.close("all")

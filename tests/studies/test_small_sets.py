"""Chapters 07 to 10 with the special values of their parameters, on the shipped gallery and on folders of any size."""

import chapters
import matplotlib.pyplot as plt
import pytest
from PIL import Image

from fdp_core import checkpoint
from fdp_core.studies.parameters import BadParameter


def run(chapter, capsys, **values):
    """Run a chapter; return its names and what it printed."""
    names = chapters.run(chapter, **values)
    plt.close("all")
    return names, capsys.readouterr().out


def photographs(folder, count, table=None):
    for number in range(count):
        Image.new("RGB", (96, 64), (80 * number, 60, 200)).save(folder / f"{number}.png")
    if table:
        (folder / "words.csv").write_text(table)
    return str(folder)


def phrases(capsys, **values):
    quick = {"systems": "zero-shot", "image_size": 64, "keep_features": False}
    return run("08", capsys, **{**quick, **values})


def test_phrases_of_one_photograph(tmp_path, capsys):
    folder = photographs(tmp_path, 1, "file,words\n0.png,no parking|\n")
    names, printed = phrases(capsys, dataset=folder, systems="fdp, regions", limit=1)
    assert names["composed"].texts == ("no parking",) and "decoys are not known" in printed


@pytest.mark.parametrize("table", [None, "file,words\n0.png,open\n"])
@pytest.mark.filterwarnings("ignore:.*there are no queries")
def test_a_folder_without_phrases_is_told_and_mini_shown(table, tmp_path, capsys):
    names, printed = phrases(capsys, dataset=photographs(tmp_path, 2, table), pairs=0)
    assert "has no phrase" in printed and "goes on with mini" in printed
    assert names["gallery"].name == "mini" and not names["made"] and "0 pairs" in printed


def test_another_seed_and_few_pairs_of_mini(capsys):
    names, _ = phrases(capsys, pairs=1, seed=3, least=99)
    assert len(names["made"]) == 1 and names["kinds"] == ["phrase"]


def speeds(capsys, **values):
    quick = {"image_size": 64, "rounds": 1, "vectors": 30, "batch": 2}
    return run("10", capsys, **{**quick, **values})


@pytest.mark.parametrize("table", [None, "file,words\n0.png,open\n"])
@pytest.mark.filterwarnings("ignore:.*there are no queries")
def test_speed_of_one_photograph(table, tmp_path, capsys):
    names, printed = speeds(capsys, dataset=photographs(tmp_path, 1, table))
    assert len(names["gallery"]) == 1 and "30 vectors" in printed and len(names["right"][0]) == 10


@pytest.mark.parametrize(
    "values",
    [{"threads": 2}, {"pretrained": False}, {"backbone": "RN50", "pretrained": False}, {"vectors": 1, "batch": 1}],
    ids=str,
)
def test_special_values_of_speed(values, capsys):
    names, _ = speeds(capsys, **values)
    assert names["clock"] == ("wall" if values.get("threads") == 2 else "cpu")


def benchmark(capsys, monkeypatch, folder, **values):
    monkeypatch.setenv("FDP_RESULTS", str(folder / "results"))
    quick = {"systems": "chance, zero-shot, fdp", "image_size": 64, "keep_features": False}
    return run("07", capsys, **{**quick, **values})


SMALL = {
    "one photograph, one query": (1, "file,words\n0.png,open\n"),
    "two photographs, three queries": (2, "file,words\n0.png,open shut\n1.png,shut the\n"),
}


@pytest.mark.parametrize("count, table", SMALL.values(), ids=SMALL)
def test_a_small_benchmark_of_ones_own(count, table, tmp_path, monkeypatch, capsys):
    folder = photographs(tmp_path, count, table)
    systems = "chance, zero-shot-native, pooled, regions-bare, regions"
    values = {"systems": systems, "template": "a photo of {}", "sizes": "320", "limit": 2}
    names, printed = benchmark(capsys, monkeypatch, tmp_path, dataset=folder, **values)
    assert len(names["named"]) == 5 and "zero-shot mini, native size" in printed and not names["oracles"]
    assert all(0 < report.mean_ap <= 1 for report in names["reports"]) and len(names["mine"]) == 0


NOTHING = {None: "has no queries", "file,words\n0.png,\n": "the table names no word"}


@pytest.mark.parametrize("table, message", NOTHING.items())
@pytest.mark.filterwarnings("ignore:.*there are no queries")
def test_a_benchmark_needs_queries(table, message, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match=message):
        benchmark(capsys, monkeypatch, tmp_path, dataset=photographs(tmp_path, 1, table))


def test_special_values_of_a_benchmark(tmp_path, monkeypatch, capsys):
    folder = photographs(tmp_path, 1, "file,words\n0.png,open\n")
    given = {"dataset": folder, "model": str(checkpoint.SHIPPED), "systems": "fdp"}
    names, _ = benchmark(capsys, monkeypatch, tmp_path, **given)
    assert [report.system for report in names["named"]] == ["FDP"] and names["kinds"] is not None
    with pytest.raises(BadParameter, match="Unknown system 'sift'; there are: chance"):
        benchmark(capsys, monkeypatch, tmp_path, dataset=folder, systems="sift")


def ours(capsys, **values):
    return run("09", capsys, **values)


def test_one_set_beside_all_methods(capsys):
    names, _ = ours(capsys, dataset="svt", method="")
    assert set(names["mine"]["set"]) == {"svt"} and names["mine"]["method"].nunique() > 1


def test_ours_without_records_and_of_an_unknown_method(tmp_path, capsys):
    names, printed = ours(capsys, records=str(tmp_path))
    assert len(names["both"]) == 0 and "0 of 0 records hold their interval" in printed
    with pytest.raises(BadParameter, match="No published method 'nobody'; there are"):
        ours(capsys, method="nobody")

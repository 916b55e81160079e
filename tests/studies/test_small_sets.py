"""Chapters 08 and 10 with the special values of their parameters, on the shipped gallery and on folders of any size."""

import chapters
import matplotlib.pyplot as plt
import pytest
from PIL import Image


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

"""Chapters 01 to 04 and 12 with every special value of their parameters, on small sets and on a folder of one's own."""

import pytest
from chapters import elsewhere, first_photographs, run  # noqa: F401  (elsewhere: a fixture for all tests here)
from PIL import Image

from fdp_core import checkpoint, datasets
from fdp_core.studies.parameters import BadParameter
from fdp_core.weights import MINI_WEIGHTS
from fdp_core.words import ASSETS


@pytest.fixture
def few(monkeypatch):
    """The mini gallery cut to its first three photographs, with the queries that they answer."""
    gallery, cut = first_photographs(*datasets.load("mini", "test"), 3)
    monkeypatch.setattr(datasets, "load", lambda *_, **__: (gallery, cut))
    return gallery


@pytest.fixture
def folder(tmp_path):
    """Three photographs and a table: words on two of them."""
    base = tmp_path / "own"
    base.mkdir()
    for number, photo in enumerate(datasets.load("mini")[0].photos[:3]):
        Image.open(photo.path).save(base / f"{number}.png")
    (base / "words.csv").write_text("file,words\n0.png,pay $5\n1.png,exit\n")
    return base


SMALL = {"sizes": "224", "image_size": 224}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keep_features", [True, False])
def test_bottlenecks_on_a_folder(folder, keep_features, capsys):
    names = run("01", dataset=str(folder), examples="none, such", keep_features=keep_features, **SMALL)
    told = capsys.readouterr().out
    assert "own/test: 3 photographs, 3 queries" in told and "the height of text is left out" in told
    assert "tells of no pictures" in told and len(names["rankings"]) == 2 and names["sides"] == [224]


@pytest.mark.filterwarnings("ignore")
def test_bottlenecks_of_one_photograph_and_one_query(folder):
    for number in (1, 2):
        (folder / f"{number}.png").unlink()
    (folder / "words.csv").write_text("file,words\n0.png,exit\n")
    names = run("01", dataset=str(folder), examples="exit", **SMALL)
    assert names["by_size"]["mAP"].tolist() == [100] and len(names["rankings"]) == 1


@pytest.mark.filterwarnings("ignore")
def test_bottlenecks_without_queries_say_so(folder):
    (folder / "words.csv").unlink()
    with pytest.raises(BadParameter, match="words.csv"):
        run("01", dataset=str(folder), **SMALL)


@pytest.mark.filterwarnings("ignore")
def test_bottlenecks_of_few_photographs_with_outlines(few):
    names = run("01", sizes="224, 320", image_size=320, template="a sign that says {}")
    assert names["spelt"] > 0 and names["tall"]["pairs"].sum() == names["pairs"].sum()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("photographs, map_from", [(0, "localiser"), (1, "shuffled"), (2, "another")])
def test_attention_maps_of_few_photographs(few, photographs, map_from):
    names = run("02", photographs=photographs, map_from=map_from, shown=1)
    assert len(names["study"]) == (photographs or len(few))
    assert ("another" in names["maps"]) == (len(names["study"]) > 1)


@pytest.mark.filterwarnings("ignore")
def test_attention_maps_say_what_they_need(few, folder, monkeypatch):
    for bad in ({"map_from": "annotators"}, {"map_from": "another", "photographs": 1}):
        with pytest.raises(BadParameter, match="map_from is"):
            run("02", **bad)
    with pytest.raises(BadParameter, match="'photographs' is -1"):
        run("02", photographs=-1)
    monkeypatch.undo()
    monkeypatch.setenv("FDP_CACHE", str(folder.parent / "cache"))
    with pytest.raises(ValueError, match="needs words that are outlined"):
        run("02", dataset=str(folder), model=str(checkpoint.shipped("mini_clip")))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source, model", [("grammar", ""), ("stop words", str(checkpoint.shipped("mini_clip")))])
def test_word_clusters_on_a_folder_of_one_photograph_and_one_word(folder, source, model, capsys):
    for number in (1, 2):
        (folder / f"{number}.png").unlink()
    (folder / "words.csv").write_text("file,words\n0.png,exit\n")
    values = {"regions": 0, "seeds": 1, "query_sets": "svt"}
    if not model:
        values = {"backbone": "mini", "regions": 4, "seeds": 2}
    names = run("03", dataset=str(folder), function_words=source, model=model, keep_features=False, **values)
    assert names["both"]["one vector"].shape == (2, 1) and ("regions" in names["both"]) == (not model)
    assert "No record for own" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("split, photographs", [("list", 2), ("clusters", 0)])
def test_word_clusters_with_contexts_of_other_lengths(few, split, photographs):
    short = {"regions": 0, "seeds": 1, "query_sets": "", "length_seeds": 1, "epochs": 1}
    names = run("03", lengths="0, 1", length_split=split, function_words="library", photographs=photographs, **short)
    assert sorted(names["learnt"]["length"].unique()) == [0, 1] and len(names["lessons"][0]) == (photographs or 3)


def test_word_clusters_say_which_splits_there_are():
    with pytest.raises(BadParameter, match="list, clusters"):
        run("03", length_split="grammar")


@pytest.mark.filterwarnings("ignore")
def test_each_step_on_a_photograph_of_ones_own(folder):
    names = run("04", photograph=str(folder / "2.png"), model=str(checkpoint.SHIPPED), word="no parking")
    assert names["known"] == () and names["names"][0] == "no parking"


@pytest.mark.parametrize("count", [4, 40])  # one ends before the first image
def test_how_mini_was_made_from_a_log_and_weights_of_ones_own(count, tmp_path):
    lines = (ASSETS.parents[1] / "book" / "results" / "mini_pretraining.jsonl").read_text().splitlines()
    (tmp_path / "log.jsonl").write_text("\n".join(lines[:count]) + "\n")
    names = run("12", looks=1, mistakes=1, seed=3, log=str(tmp_path / "log.jsonl"), weights=str(MINI_WEIGHTS))
    assert names["log"] == str(tmp_path / "log.jsonl")

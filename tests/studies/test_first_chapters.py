"""Chapters 01 and 02 with every special value of their parameters, on small sets and on a folder of one's own."""

import dataclasses
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from fdp_core import checkpoint, datasets
from fdp_core.studies.parameters import BadParameter

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("FDP_CACHE", str(tmp_path / "cache"))
    yield
    torch.set_grad_enabled(True)
    plt.close("all")


def run(name, **values):
    """Run the chapter's cells as papermill would; returns its names."""
    chapter = NOTEBOOKS / name
    defaults, *cells = (cell.source for cell in nbformat.read(chapter, 4).cells if cell.cell_type == "code")
    injected = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in values.items())
    names = {"In": ["", defaults, injected]}
    with matplotlib.rc_context():
        for source in (defaults, injected, *cells):
            exec(compile(source, str(chapter), "exec"), names)
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
    return names


@pytest.fixture
def few(monkeypatch):
    """The mini gallery cut to its first three photographs, with the queries that they answer."""
    gallery, queries = datasets.load("mini", "test")
    gallery = dataclasses.replace(gallery, photos=gallery.photos[:3])
    kept = queries.relevant[:, :3].any(axis=1)
    texts = tuple(text for text, keep in zip(queries.texts, kept) if keep)
    groups = {name: np.asarray(member)[kept] for name, member in queries.groups.items()}
    cut = dataclasses.replace(queries, texts=texts, relevant=queries.relevant[kept, :3], groups=groups)
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
    names = run(
        "01_clip_bottlenecks.ipynb", dataset=str(folder), examples="none, such", keep_features=keep_features, **SMALL
    )
    told = capsys.readouterr().out
    assert "own/test: 3 photographs, 3 queries" in told and "the height of text is left out" in told
    assert "tells of no pictures" in told and len(names["rankings"]) == 2 and names["sides"] == [224]


@pytest.mark.filterwarnings("ignore")
def test_bottlenecks_of_one_photograph_and_one_query(folder):
    for number in (1, 2):
        (folder / f"{number}.png").unlink()
    (folder / "words.csv").write_text("file,words\n0.png,exit\n")
    names = run("01_clip_bottlenecks.ipynb", dataset=str(folder), examples="exit", **SMALL)
    assert names["by_size"]["mAP"].tolist() == [100] and len(names["rankings"]) == 1


@pytest.mark.filterwarnings("ignore")
def test_bottlenecks_without_queries_say_so(folder):
    (folder / "words.csv").unlink()
    with pytest.raises(BadParameter, match="words.csv"):
        run("01_clip_bottlenecks.ipynb", dataset=str(folder), **SMALL)


@pytest.mark.filterwarnings("ignore")
def test_bottlenecks_of_few_photographs_with_outlines(few):
    names = run("01_clip_bottlenecks.ipynb", sizes="224, 320", image_size=320, template="a sign that says {}")
    assert names["spelt"] > 0 and names["tall"]["pairs"].sum() == names["pairs"].sum()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("photographs, map_from", [(0, "localiser"), (1, "shuffled"), (2, "another")])
def test_attention_maps_of_few_photographs(few, photographs, map_from):
    names = run("02_attention_maps.ipynb", photographs=photographs, map_from=map_from, shown=1)
    assert len(names["study"]) == (photographs or len(few))
    assert ("another" in names["maps"]) == (len(names["study"]) > 1)


@pytest.mark.filterwarnings("ignore")
def test_attention_maps_say_what_they_need(few, folder, monkeypatch):
    for bad in ({"map_from": "annotators"}, {"map_from": "another", "photographs": 1}):
        with pytest.raises(BadParameter, match="map_from is"):
            run("02_attention_maps.ipynb", **bad)
    with pytest.raises(BadParameter, match="photographs is -1"):
        run("02_attention_maps.ipynb", photographs=-1)
    monkeypatch.undo()
    monkeypatch.setenv("FDP_CACHE", str(folder.parent / "cache"))
    with pytest.raises(ValueError, match="needs words that are outlined"):
        run("02_attention_maps.ipynb", dataset=str(folder), model=str(checkpoint.SHIPPED))

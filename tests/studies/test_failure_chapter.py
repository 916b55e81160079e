"""Chapter 16 with the special values of its parameters, on small sets and on a folder of one's own."""

from types import SimpleNamespace

import numpy as np
import pytest
from chapters import elsewhere, first_photographs, run  # noqa: F401  (elsewhere: a fixture for all tests here)
from PIL import Image

from fdp_core import datasets
from fdp_core.studies import ablation_runs
from fdp_core.studies.parameters import BadParameter

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = {"keep_features": False, "temperatures": "0.5"}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Cut the sets that are shipped to their first photographs, and leave out the trainings."""
    load, history = datasets.load, SimpleNamespace(steps=[], epochs=[])

    def cut(name, *given, **options):
        gallery, queries = load(name, *given, **options)
        return first_photographs(gallery, queries, {"mini": 5, "mini_train": 4}.get(name, len(gallery)))

    monkeypatch.setattr(datasets, "load", cut)
    monkeypatch.setattr(ablation_runs, "train", lambda lab, settings: (lab.model(settings).eval(), history, 0.0))


@pytest.mark.parametrize("shift", ["log", "additive"])
def test_other_forms_of_the_shift_and_another_seed(shift):
    names = run("16", shift=shift, seed=1, **QUICK)
    assert set(names["table"]["way"]) == {*names["ways"], "distractors", "similar words"}
    for way in names["ways"]:
        assert np.array_equal(names["broken"][way, 0], names["sound"])
    assert names["model"].clusters is names["own_clusters"], "the sound model is left as it was"


def test_features_are_kept_and_the_usual_temperature_need_not_be_asked_for(tmp_path):
    names = run("16", backbone="mini_clip", keep_features=True, temperatures="2, 50")
    assert set(names["prefer"]) == {2, 50} and list((tmp_path / "cache").rglob("*"))
    assert set(names["resized"]) == {"2d", "flat_nearest"}


def test_a_folder_without_outlined_words(tmp_path, capsys):
    folder = tmp_path / "own"
    folder.mkdir()
    Image.new("RGB", (96, 64), (80, 60, 200)).save(folder / "0.png")
    Image.new("RGB", (96, 64), (180, 60, 20)).save(folder / "1.png")
    (folder / "words.csv").write_text("file,words\n0.png,exit\n1.png,the\n")
    names = run("16", dataset=str(folder), **QUICK)
    assert names["areas"] == {}, "no map can be drawn from it"
    assert "the page's claims are about this run: False" in capsys.readouterr().out


def test_bad_parameters_are_named():
    with pytest.raises(BadParameter, match="temperatures.*expected numbers"):
        run("16", temperatures="0.5, warm")

"""Chapter 06 with the special values of its parameters, on small sets and on a folder of one's own."""

from types import SimpleNamespace

import pytest
from chapters import elsewhere, first_photographs, run  # noqa: F401  (elsewhere: a fixture for all tests here)
from PIL import Image

from fdp_core import datasets
from fdp_core.studies import ablation_grid, ablation_runs
from fdp_core.studies.parameters import BadParameter

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = {"rows": "zero-shot, full", "beside": "", "keep_features": False}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Cut the sets that are shipped to their first photographs, with the queries that these answer."""
    load = datasets.load

    def cut(name, *given, **options):
        gallery, queries = load(name, *given, **options)
        return first_photographs(gallery, queries, {"mini": 3, "mini_train": 6}.get(name, len(gallery)))

    monkeypatch.setattr(datasets, "load", cut)


@pytest.fixture
def untrained(monkeypatch):
    """Leave out the trainings: they take seconds each."""
    history = SimpleNamespace(steps=[], epochs=[])
    monkeypatch.setattr(ablation_runs, "train", lambda lab, settings: (lab.model(settings).eval(), history, 0.0))


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / "own"
    base.mkdir()
    Image.new("RGB", (96, 64), (80, 60, 200)).save(base / "0.png")
    (base / "words.csv").write_text("file,words\n0.png,exit\n")
    return base


def test_one_photograph_and_one_query_of_a_folder(folder, capsys):
    names = run("06", dataset=str(folder), **QUICK)
    assert [record["mAP"] for record in names["own"]] == [100, 100]
    told = capsys.readouterr().out
    assert "no record of this on" in told and "learned map makes a shift" in told
    assert not (folder.parent / "results").exists(), "nothing is kept unless it is asked for"


def test_a_few_photographs_with_several_seeds_and_other_epochs_are_kept(tmp_path, capsys):
    names = run("06", **QUICK | {"seeds": 2, "epochs": 2, "beside": "svt", "keep_records": True})
    assert [(r["row"], r["seed"]) for r in names["own"]] == [("zero-shot", 0), ("full", 0), ("full", 1)]
    kept = ablation_grid.load(tmp_path / "results" / "ablations.jsonl")
    assert len(kept) == len(names["live"])
    assert {r["row"]: r["changes"] for r in kept} == {"zero-shot": {"epochs": 0}, "full": {"epochs": 2}}
    assert "live runs have a record" in capsys.readouterr().out


@pytest.mark.parametrize(
    "values", [{"beside": "mini"}, {"train_set": "mini_train+mini_train", "progress": True}], ids=str
)
def test_special_values(values, untrained):
    names = run("06", **QUICK | {"rows": "zero-shot"} | values)
    assert set(names["sets"]) == {"mini"} and len(names["lessons"]) == names["train_set"].count("+") + 1


def test_all_rows(untrained):
    names = run("06", **QUICK | {"rows": "all", "epochs": 1})
    assert [record["row"] for record in names["own"]] == [row.name for row in ablation_grid.GRID]


def test_what_cannot_be_run_is_said(folder):
    with pytest.raises(ValueError, match="no row 'sift' in the grid; it has: full"):
        run("06", **QUICK | {"rows": "full, sift"})
    (folder / "words.csv").unlink()
    with pytest.raises(BadParameter, match="has no queries"):
        run("06", dataset=str(folder), **QUICK)

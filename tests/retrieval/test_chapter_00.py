"""Chapter 00 on small folders, with the special values of its parameters: cell by cell, in this process."""

import shutil

import matplotlib.pyplot as plt
import pytest
from chapters import run

from fdp_core import datasets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: None)
    (tmp_path / "2024").mkdir()
    yield tmp_path / "2024"
    plt.close("all")


@pytest.mark.parametrize("regions", [0, 4])
@pytest.mark.parametrize("count", [1, 3])
def test_a_small_folder(folder, regions, count):
    for photo in datasets.load("mini")[0].photos[:count]:
        shutil.copy(photo.path, folder)
    found = run("00", folder=str(folder), regions=regions, model="")
    assert len(found["index"]) == count and len(found["hits"]) == count
    assert found["truth"] is None and (regions > 0 or len(found["index"].sets.vectors) == count)


def test_a_folder_whose_name_is_a_number(folder, monkeypatch):
    shutil.copy(datasets.load("mini")[0].photos[0].path, folder)
    monkeypatch.chdir(folder.parent)
    assert run("00", folder=2024, regions=0)["folder"] == "2024"

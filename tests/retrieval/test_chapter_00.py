"""Chapter 00 on small folders, with the special values of its parameters: cell by cell, in this process."""

import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from fdp_core import datasets

CHAPTER = Path(__file__).parents[2] / "notebooks" / "00_search_your_photos.ipynb"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: None)
    (tmp_path / "2024").mkdir()
    yield tmp_path / "2024"
    plt.close("all")


def run(parameters):
    """Run the chapter with parameters as papermill injects them; return its variables."""
    cells = [c for c in json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    injected = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in parameters.items())
    sources = ["".join(cells[0]["source"]), injected, *("".join(cell["source"]) for cell in cells[1:])]
    variables = {"In": ["", *sources]}
    with plt.rc_context({"backend": "agg"}):
        for source in sources:
            exec(compile(source, "chapter 00", "exec"), variables)
    return variables


@pytest.mark.parametrize("regions", [0, 4])
@pytest.mark.parametrize("count", [1, 3])
def test_a_small_folder(folder, regions, count):
    for photo in datasets.load("mini")[0].photos[:count]:
        shutil.copy(photo.path, folder)
    found = run({"folder": str(folder), "regions": regions, "model": ""})
    assert len(found["index"]) == count and len(found["hits"]) == count
    assert found["truth"] is None and (regions > 0 or len(found["index"].features) == count)


def test_a_folder_whose_name_is_a_number(folder, monkeypatch):
    shutil.copy(datasets.load("mini")[0].photos[0].path, folder)
    monkeypatch.chdir(folder.parent)
    assert run({"folder": 2024, "regions": 0})["folder"] == "2024"

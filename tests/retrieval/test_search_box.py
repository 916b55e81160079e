"""The search box of chapter 00: in JupyterLab a headless browser types into it; where nobody types it stands still."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import CHROMIUM, Page, until

from fdp_core import datasets
from fdp_core.retrieval.index import Hit
from fdp_core.studies import figures, parameters

CHAPTER = Path(__file__).parents[2] / "notebooks" / "00_search_your_photos.ipynb"


def test_names_and_words_are_foreign_text():
    photo = datasets.load("mini")[0].photos[0]
    corners = np.array([[5, 5], [50, 5], [50, 30], [5, 30]], np.float32)
    row = figures.thumbnails([Hit(1, 0, '"><script>1</script>', photo.path, 0.5, corners)])
    assert "<script" not in row and row.count("data:image/jpeg;base64,") == 1 and "0.50" in row
    assert "<b>" not in figures.thumbnails([], "cannot spell '<b>'")
    assert "nothing found" in figures.thumbnails([])
    assert "is gone" in figures.thumbnails([Hit(1, 0, "a.jpg", Path("nowhere.jpg"), 0.5)])


def test_the_frame_is_where_the_region_is():
    photo = datasets.load("mini")[0].photos[0]
    small, scale = figures._small(photo.path)
    before = np.asarray(small).copy()
    figures.thumbnails([Hit(1, 0, "a", photo.path, 0.5, np.array([[9, 9], [90, 9], [90, 60], [9, 60]]) / scale)])
    assert max(small.size) <= 480 and np.array_equal(before, small), "the kept one stays without frame"


def test_nobody_types_here():
    assert not parameters.typed()


def test_the_stored_answer_holds_no_widget():
    book = nbformat.read(CHAPTER, 4)
    (cell,) = [cell for cell in book.cells if "ipywidgets" in cell.source]
    (output,) = cell.outputs
    assert set(output.data) == {"text/html", "text/plain"} and "widgets" not in book.metadata
    assert output.data["text/html"].count("<img") >= 3


@pytest.fixture
def lab(tmp_path):
    """Serve the chapter's cells up to the search box, on a few photographs, in JupyterLab; give its address."""
    gallery, _ = datasets.load("mini")
    (tmp_path / "photographs").mkdir()
    chosen = [photo for photo in gallery.photos if any(word.text.lower() == "home" for word in photo.words)][:3]
    for photo in [*chosen, *gallery.photos[:3]]:
        shutil.copy(photo.path, tmp_path / "photographs")
    book = nbformat.read(CHAPTER, 4)
    last = next(place for place, cell in enumerate(book.cells) if "ipywidgets" in cell.source)
    book.cells = book.cells[: last + 1]
    first = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    first.source = first.source.replace('folder: str = ""', 'folder: str = "photographs"')
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(book, tmp_path / "box.ipynb")
    where = {"FDP_CACHE": "cache", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime"}
    where |= {"JUPYTER_DATA_DIR": "data", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in where.items()}
    options = ["--no-browser", "--allow-root", "--ServerApp.port=0", "--IdentityProvider.token=", "--ip=127.0.0.1"]
    options += ["--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={tmp_path}"]
    with open(tmp_path / "log", "w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        (facts,) = until(lambda: [*(tmp_path / "runtime").glob("jpserver-*.json")])
        until(lambda: facts.read_text().endswith("}"))
        yield json.loads(facts.read_text())["url"] + "lab/tree/box.ipynb"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_row_follows_what_is_typed(lab, tmp_path):
    page = Page(tmp_path / "browser")
    row = "document.querySelector('.widget-html .fdp-row')"
    try:
        page.call("Page.enable")
        page.call("Page.navigate", url=lab)
        until(lambda: page.js("!!document.querySelector('.jp-Notebook .jp-CodeCell')"))
        until(lambda: page.js("!!window.jupyterapp"))
        asked = "document.querySelector('.jp-Dialog .jp-mod-accept')"  # which kernel
        begun = "[...document.querySelectorAll('.jp-InputPrompt')].some(prompt => /[*0-9]/.test(prompt.innerText))"
        run = "void window.jupyterapp.commands.execute('notebook:run-all-cells')"
        until(lambda: page.js(f"{begun} || ({asked} ? {asked}.click() : {run})"), step=2)
        until(lambda: page.js(f"!!{row}"))
        assert page.js(f"{row}.querySelectorAll('img').length") >= 3, "the answer to the first query"

        def type_in(text):
            page.js(
                "(f => { f.scrollIntoView(); f.focus(); f.select() })(document.querySelector('.widget-text input'))"
            )
            for letter in text:
                page.call("Input.insertText", text=letter)

        type_in("zzyzxq")
        until(lambda: page.js(f"{row}.innerText").strip() == "nothing found")
        type_in("<img src=x onerror='window.hurt=1'>{")
        time.sleep(1)
        assert page.js("window.hurt") is None and page.js(f"{row}.querySelectorAll('img[src=x]').length") == 0
        type_in("home")
        until(lambda: page.js(f"{row}.querySelectorAll('img').length") == 3)
        page.js(f"{row}.querySelector('summary').click()")
        until(lambda: page.js(f"{row}.querySelector('img').clientWidth") > 300)
    finally:
        if shown := os.environ.get("FDP_SCREENSHOT"):  # for the eyes
            Path(shown).write_bytes(base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"]))
        page.close()

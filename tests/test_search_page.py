"""The search on the front page: a headless browser opens it from a file; it must find what ``Index.search`` finds."""

import base64
import importlib
import json
import os
import re
import shutil
import sys
import urllib.parse
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import CHROMIUM, Page, until
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core import datasets
from fdp_core.studies import parameters

ROOT = Path(__file__).parent.parent
CLOSE = 0.006  # of a score: weights and vectors have eight bits in the page
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def index():
    sys.path.insert(0, str(ROOT / "book"))
    yield importlib.import_module("search_page").open_index()
    sys.path.remove(str(ROOT / "book"))


@pytest.fixture(scope="module")
def page(index, tmp_path_factory):
    """Open the front page's own block, with a style sheet and the scripts beside it, in a folder with an odd name."""
    site = tmp_path_factory.mktemp("a site & more")
    (site / "book").mkdir()
    shutil.copytree(ROOT / "book" / "_static", site / "_static", ignore=shutil.ignore_patterns("mathjax"))
    name = importlib.import_module("search_page").write(index, site / "_static")
    (block,) = re.findall(r"```\{raw\} html\n(.*?)```", (ROOT / "book" / "index.md").read_text("utf-8"), re.DOTALL)
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    style = '<link rel="stylesheet" href="../_static/fdp.css">'
    block = block.replace("{{ search:mini }}", name)
    (site / "book" / "index.html").write_text(f"{head}{style}<body>{block}", encoding="utf-8")
    opened = Page(tmp_path_factory.mktemp("browser"))
    opened.call("Page.enable")
    opened.call("Network.enable")
    opened.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    opened.call("Page.navigate", url="file://" + urllib.parse.quote(str(site / "book" / "index.html")))
    until(lambda: opened.js("document.querySelectorAll('.fdp-search li').length > 0"))
    yield opened
    opened.close()


def ask(page, text, count=150, least=-9):
    return page.js(f"FDP_SEARCH.search({json.dumps(text)}, {count}, {least})")


def borderline(model, text):
    """Tell whether the text or one of its words is so near to the border of the kinds that rounding may decide."""
    vectors = model.backbone.encode_text([text, *text.split()])
    function, content = model.clusters._distances(vectors).T
    return bool(((function - content).abs() < 0.002 * function).any())


def compare(page, index, text):
    """Hold scores, order and the regions that answer against PyTorch's; return the largest difference of a score."""
    told = ask(page, text)
    try:
        right = index.scores(text)
    except ValueError:
        assert told["message"] and not told["hits"], text
        return 0
    assert not told["message"] and sorted(hit["row"] for hit in told["hits"]) == list(range(150)), text
    if borderline(index.system.model, text):
        return None
    found, rows = np.array([hit["score"] for hit in told["hits"]]), [hit["row"] for hit in told["hits"]]
    apart = np.abs(found - right[rows]).max()
    assert (np.diff(found) <= 0).all() and apart < CLOSE, (text, apart)
    assert (np.diff(right[rows]) < 2 * CLOSE).all(), "the same order, but where scores are equal up to rounding"
    query, sets = index.system.encode_queries([text])[0], index.sets
    for hit in told["hits"][:6]:
        own = slice(*sets.starts[hit["row"] : hit["row"] + 2])
        same = np.abs(sets.corners[own].reshape(-1, 8) - hit["corners"]).max(axis=1) == 0
        products = sets.vectors[own] @ query
        assert products[same].max() > products.max() - 2 * CLOSE, (text, "another region answers")
    return apart


def test_the_gallerys_queries_are_answered_as_the_index_answers_them(page, index):
    _, queries = datasets.load("mini")
    found = [compare(page, index, text) for text in queries.texts]
    apart = [each for each in found if each is not None]
    print(f"{len(apart)} queries, scores apart by {max(apart):.4f} at most, {np.mean(apart):.4f} on average")
    assert len(found) == 80 and len(apart) == 80 and np.mean(apart) < 0.003


WORD = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=1, max_size=12)
LETTERS = "aZ9 .!'-&<>\"\\é ßİΩяﬁ你😀\u200d\u0301\u0345\u0903\u00a0\u3000\ufeff\t\x00"
ODD = st.text(st.sampled_from(LETTERS), max_size=9)


@settings(max_examples=60, deadline=None)
@given(text=st.one_of(WORD, st.tuples(WORD, WORD).map(" ".join), ODD))
def test_whatever_is_typed_is_answered_as_the_index_answers_it(page, index, text):
    compare(page, index, text)


@pytest.mark.parametrize("text", [
    "", "  ", "😀", "coffee ☕", "\u0301", "\u200b", "<b>", "<img src=x onerror='window.hurt=1'>", "</script>",
    "COFFEE", "café", "Straße", "ﬁsh", "İstanbul", "не", "ｏｐｅｎ", "a\u0903", "a\x00b", "x" * 3000, "no  parking ",
    "ice-cream & more!", "two\u3000words", "__proto__",
])  # fmt: skip
def test_odd_texts(page, index, text):
    compare(page, index, text)
    assert page.js("window.hurt") is None


def enter(page, text):
    page.js("(f => { f.focus(); f.select() })(document.querySelector('.fdp-search input'))")
    page.call("Input.insertText", text=text)


def said(page):
    return page.js("document.querySelector('.fdp-search output').textContent")


@pytest.mark.parametrize("width", [1200, 360])
def test_the_row_follows_what_is_typed(page, index, width):
    """FDP_SCREENSHOT names a folder for pictures to look at."""
    pictures, shown = "document.querySelectorAll('.fdp-search li img')", len(index.search("hotel", 6, 0.32))
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=2, mobile=width < 500)
    absent = next(word for word in ("zzyzxq", "qqqqq", "vvvv", "jxkz", "xxxxxxxxxx") if not index.search(word, 6, 0.31))
    enter(page, absent)
    until(lambda: said(page) == "nothing found" and page.js(f"{pictures}.length") == 0)
    enter(page, "<b>")
    until(lambda: said(page) != "nothing found" and page.js("document.querySelector('.fdp-search b')") is None)
    enter(page, "école 学")
    until(lambda: "cannot spell 学" in said(page))
    enter(page, "hotel")
    until(lambda: page.js(f"{pictures}.length") == shown and "best first" in said(page))
    until(lambda: page.js(f"[...{pictures}].every(image => image.complete && image.naturalWidth > 0 && image.alt)"))
    assert page.js("document.documentElement.scrollWidth") <= width, "nothing runs out of the page"
    frames = page.js("document.querySelectorAll('.fdp-search li svg .line').length")
    assert frames == shown and "HOTEL" in page.js(f"{pictures}[0].alt.toUpperCase()")
    assert page.js("document.querySelector('.fdp-search label').control.type") == "search"
    if folder := os.environ.get("FDP_SCREENSHOT"):
        picture = page.call("Page.captureScreenshot", format="png")["data"]
        Path(folder, f"search_{width}.png").write_bytes(base64.b64decode(picture))


def test_the_threshold_is_that_of_chapter_00():
    book = nbformat.read(ROOT / "notebooks" / "00_search_your_photos.ipynb", 4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    assert "min_score" in parameters.declared(cell.source)
    (value,) = re.findall(r"min_score: float = ([\d.]+)", cell.source)
    assert f"MIN_SCORE = {value};" in (ROOT / "book" / "_static" / "search.js").read_text("utf-8")
    assert f"less than {value} is not shown" in (ROOT / "book" / "index.md").read_text("utf-8")

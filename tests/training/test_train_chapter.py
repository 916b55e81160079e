"""Chapter 05 measured on folders of own photographs that hold fewer than twenty queries."""

import shutil

import chapters
import matplotlib.pyplot as plt
import pytest

from fdp_core.words import ASSETS

SETS = {"one photograph, one query": ["coffee"], "three photographs, five queries": ["a1 b2", "b2 c3 d4", "e5"]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("told", SETS.values(), ids=SETS)
def test_the_chapter_runs_on_a_small_benchmark_of_ones_own(told, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    for row, _ in enumerate(told):
        shutil.copy(ASSETS / "mini_gallery" / "images" / f"{row:04}.jpg", own / f"{row}.jpg")
    (own / "words.csv").write_text("file,words\n" + "".join(f"{row}.jpg,{text}\n" for row, text in enumerate(told)))
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path / "results"))
    given = dict(dataset=str(own), epochs=1, photographs=6, image_size=224, out_dir=str(tmp_path), keep_features=False)
    names = chapters.run("05", **given)
    plt.close("all")
    wanted = sorted({word for text in told for word in text.split()})
    assert sorted(names["after"].texts) == wanted and names["few"] == max(1, len(wanted) // 2)
    assert set(names["shown"]) <= set(range(len(wanted))) and 0 < names["after"].mean_ap <= 1

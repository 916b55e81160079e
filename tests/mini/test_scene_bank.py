"""The bank of scenes: broken off and taken up again, it holds the same bytes."""

import io
import json
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd import spoilt_text

from fdp_core.mini import bank as bank_module
from fdp_core.mini.bank import Bank, BankRecipe, draw_shard, render
from fdp_core.mini.renderer import Renderer

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
RECIPE = BankRecipe(scenes=3, size=96, signs=(2, 4), heights=(9.0, 20.0))


@pytest.fixture(autouse=True)
def one_font(monkeypatch):
    """Draw with one font, two scenes a shard, in this process (others would not see what is patched)."""
    renderer = Renderer([FONT])
    here = SimpleNamespace(Pool=ThreadPool)
    monkeypatch.setattr(bank_module, "_renderer", lambda backgrounds: renderer)
    monkeypatch.setattr(bank_module, "SHARD", 2)
    monkeypatch.setattr(bank_module, "multiprocessing", SimpleNamespace(get_context=lambda method: here))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_bank_gives_back_what_was_drawn(tmp_path):
    render(tmp_path, RECIPE, None, workers=1)
    assert list(content(tmp_path)) == ["00000.npz", "00001.npz", "recipe.json"]
    bank = Bank(tmp_path)
    assert len(bank) == len(bank.scenes) == 3
    for i, scene in enumerate(bank.scenes):
        drawn = Renderer([FONT]).scene(
            np.random.default_rng([0, i]), 96, (2, 4), (9.0, 20.0), picture_share=0.12, hard=0
        )
        image = scene.image()
        assert image.dtype == np.uint8 and image.shape == (96, 96, 3)
        assert np.abs(image.astype(int) - drawn.image).mean() < 6, "but for JPEG"
        for thing, word in zip(scene.things, drawn.words, strict=True):
            assert (thing.text, thing.board, thing.visible) == (word.text, word.board, word.visible)
            assert thing.is_word, "no picture without an icon font"
            assert thing.polygon.dtype == np.float32
            assert thing.polygon == pytest.approx(word.polygon, abs=0.051), "kept to a tenth of a pixel"
    assert sum(len(scene.things) for scene in bank.scenes) > 3


def test_an_interrupted_command_goes_on_to_the_same_bytes(tmp_path):
    render(tmp_path, RECIPE, None, workers=1)
    whole = content(tmp_path)
    (tmp_path / "00001.npz").unlink()
    kept = (tmp_path / "00000.npz").stat()
    render(tmp_path, RECIPE, None, workers=1)
    assert content(tmp_path) == whole
    assert (tmp_path / "00000.npz").stat().st_mtime_ns == kept.st_mtime_ns, "what is there is not drawn again"


def test_a_shard_depends_on_recipe_and_number_alone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    words = [draw_shard((one, RECIPE, number, None)) for number in (0, 1)]
    assert [draw_shard((two, RECIPE, number, None)) for number in (1, 0)] == words[::-1]
    assert content(one) == content(two)
    assert sum(words) == sum(len(scene.things) for scene in Bank(one).scenes)
    draw_shard((two, replace(RECIPE, seed=1), 0, None))
    assert content(one)["00000.npz"] != content(two)["00000.npz"]


def test_another_recipe_is_refused(tmp_path):
    render(tmp_path, RECIPE, None, workers=1)
    whole = content(tmp_path)
    with pytest.raises(ValueError, match="another recipe.*Use another --out or the same options"):
        render(tmp_path, replace(RECIPE, seed=1), None, workers=1)
    assert content(tmp_path) == whole


def test_a_bank_may_grow(tmp_path):
    render(tmp_path, replace(RECIPE, scenes=2), None, workers=1)
    render(tmp_path, replace(RECIPE, scenes=4), None, workers=1)
    assert len(Bank(tmp_path)) == 4
    assert json.loads((tmp_path / "recipe.json").read_text(encoding="utf-8"))["scenes"] == 4


@pytest.mark.parametrize("name", ["", "absent"])
def test_an_empty_folder_says_how_to_draw_a_bank(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="python -m fdp_core.mini.bank --out"):
        Bank(tmp_path / name)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """The arrays of a small shard, and a folder to spoil them in."""
    folder = tmp_path_factory.mktemp("bank")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank_module, "_renderer", lambda backgrounds: Renderer([FONT]))
        draw_shard((folder, replace(RECIPE, scenes=2), 0, None))
    with np.load(folder / "00000.npz") as file:
        return folder, dict(file)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_shard_or_recipe_is_one_error_that_names_the_file(shard, data):
    folder, arrays = shard
    path, things = folder / "00000.npz", json.loads(arrays["things"].tobytes())
    text = data.draw(spoilt_text(things)).encode()
    ways = [arrays | {"things": np.frombuffer(text, np.uint8)}, arrays | {"ends": arrays["ends"] + 1}]
    ways += [{name: arrays[name] for name in arrays if name != lost} for lost in arrays]
    np.savez(buffer := io.BytesIO(), **data.draw(st.sampled_from(ways)))
    path.write_bytes(buffer.getvalue()[: data.draw(st.sampled_from([0, 30, 3000, None, None, None]))])
    try:
        assert len(Bank(folder)) == 2
    except ValueError as error:
        assert str(path) in str(error)
    (folder / "recipe.json").write_text(data.draw(spoilt_text(RECIPE.__dict__)))
    try:
        render(folder, replace(RECIPE, scenes=2), None, workers=1)
    except ValueError as error:
        assert "recipe.json" in str(error)

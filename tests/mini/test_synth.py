"""The renderer: what it says about a scene must be what it drew."""

import json
from pathlib import Path

import cv2
import Levenshtein
import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core import words
from fdp_core.mini import batches, gallery, lexicon
from fdp_core.mini.renderer import Renderer, Sign

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer([FONT])


def test_a_renderer_needs_fonts():
    with pytest.raises(ValueError, match="at least one font"):
        Renderer([])


def test_the_same_seed_gives_the_same_scene(renderer):
    one, two = (renderer.scene(np.random.default_rng(5), 160) for _ in range(2))
    assert (one.image == two.image).all()
    assert [w.text for w in one.words] == [w.text for w in two.words]


def test_drawn_pixels_lie_inside_the_polygons(renderer, monkeypatch):
    """On a plain board of the background's own colour, only ink may differ from the background."""
    grey = np.full((200, 200, 3), 128, np.uint8)

    def ink_only(rng, ink, draw, board=None):
        return np.zeros((*ink.shape, 3), np.float32), ink, "none"

    monkeypatch.setattr("fdp_core.mini.renderer.paint", ink_only)
    monkeypatch.setattr(Renderer, "_background", lambda self, rng, size: grey.copy())
    drawn = 0
    for seed in range(40):
        scene = renderer.scene(np.random.default_rng(seed), 200, heights=(12, 40), hard=0)
        mask = np.zeros((200, 200), np.uint8)
        for word in scene.words:
            cv2.fillPoly(mask, [np.round(word.polygon).astype(np.int32)], 1)
        mask = cv2.dilate(mask, np.ones((5, 5), np.uint8))  # two pixels for anti-aliasing and chords of bent words
        ink = scene.image[..., 0] < 100
        drawn += int(ink.sum())
        assert not (ink & (mask == 0)).any(), f"seed {seed}: ink outside every polygon"
    assert drawn > 10_000


def test_compose_writes_what_it_was_told(renderer):
    signs = [Sign((("no", "parking"),), 30.0, board="red"), Sign((("open",),), 20.0)]
    scene = renderer.compose(np.random.default_rng(0), 320, signs)
    assert [w.text.lower() for w in scene.words] == ["no", "parking", "open"]
    assert scene.words[0].board == scene.words[1].board == "red"


def test_a_picture_without_an_icon_font_is_a_clear_error(renderer):
    with pytest.raises(ValueError, match="Font Awesome"):
        renderer.compose(np.random.default_rng(0), 320, [Sign(picture="coffee")])


@given(st.integers(0, 2**32 - 1), st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12))
def test_a_misspelling_is_at_most_a_swap_away(seed, word):
    changed = lexicon.mutate(np.random.default_rng(seed), word)
    swaps = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    assert changed in swaps or Levenshtein.distance(word, changed) <= 1


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_sampled_words_are_printable_and_lower_case(seed):
    word = lexicon.sample_word(np.random.default_rng(seed))
    assert word and word == word.lower() and word.isascii() and " " not in word


def test_spelling_pyramid_by_hand():
    bits = batches.pyramid("Beyond").reshape(sum(batches.LEVELS), 36)
    letters = lambda row: {batches.ALPHABET[i] for i in np.flatnonzero(bits[row])}  # noqa: E731
    assert letters(0) == set("beyond")
    assert letters(1) == set("bey") and letters(2) == set("ond")
    assert letters(3) == set("be") and letters(4) == set("yo") and letters(5) == set("nd")


def test_the_shipped_relevance_is_what_the_shipped_words_say():
    table = json.loads((words.ASSETS / "mini_gallery" / "gallery.json").read_text(encoding="utf-8"))
    for query in table["queries"]:
        if query["group"] in ("content", "function"):
            holders = [
                image["file"] for image in table["images"]
                if any(w["text"].lower() == query["text"] and not w["ignore"] for w in image["words"])
            ]  # fmt: skip
            assert holders == query["relevant"], query["text"]
    for name in gallery.DRAWABLE:  # the picture alone never makes an image relevant
        query = next(q for q in table["queries"] if q["text"] == name)
        assert any(name in i["pictures"] and i["file"] not in query["relevant"] for i in table["images"]), name

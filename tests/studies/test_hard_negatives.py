"""Chapter 15: distances by shape, homophones and samplers by hand, and every special value of its parameters."""

import chapters
import pytest

from fdp_core.studies.parameters import BadParameter
from fdp_core.words import ASSETS

elsewhere = chapters.elsewhere


def test_the_shipped_homophones_are_words_with_the_licence():
    text = (ASSETS / "homophones.csv").read_text("utf-8")
    assert "Carnegie Mellon University" in text and "\nknight,night\n" in text


@pytest.mark.filterwarnings("ignore")
def test_live_trainings_and_pronunciations_of_ones_own(tmp_path):
    dictionary = tmp_path / "cmudict.dict"
    dictionary.write_text("night N AY1 T\nknight N AY1 T # a rider\nread(2) R EH1 D\nred R EH1 D\n\n")
    small = {"pairs": 8, "dictionary": 60, "anchors": 4, "twins": 3, "photographs": 4, "epochs": 1, "image_size": 64}
    live = {"seeds": 1, "samplers": "edit, visual", "keep_records": True, "keep_features": False}
    names = chapters.run("15", pronunciations=str(dictionary), **small, **live)
    assert names["sounds"] == {("knight", "night"), ("read", "red")}
    assert names["word_forms"](["park", "parking", "shop"]) == [("park", "parking")]
    assert len(names["recorded"]()) == 2 and set(names["gains"]["sampler"]) == {"visual"}
    merged, far = names["visual_distances"]([("corner", "comer"), ("corner", "coxer")])
    assert merged < far / 2 and names["visual_distances"]([("cat", "cat")])[0] == 0
    draws = names["sampler"]("random", ["cat", "dog", "hen", "cow", "pig"], ["cat"], names["recipe_of"](0))
    found = draws.sample(["cat"], [{"dog"}]).texts[0]
    assert found[0] == "cat" and "dog" not in found and found == draws.sample(["cat"], [{"dog"}]).texts[0]


def test_samplers_are_named():
    with pytest.raises(BadParameter, match="none, random, edit, visual"):
        chapters.run("15", samplers="edits")

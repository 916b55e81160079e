"""Chapter 13 with every special value of its parameters, on two words and few heights; its functions by hand."""

import numpy as np
import pytest
from chapters import elsewhere, functions, run  # noqa: F401  (elsewhere: a fixture for all tests here)

from fdp_core import checkpoint
from fdp_core.studies.parameters import BadParameter

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = {"words": 2, "heights": "10, 48", "sizes": "64", "large_sizes": "", "regions": False}


def test_letters_are_as_high_as_asked_and_stand_where_the_box_says():
    chapter = functions("13", seed=0)
    for height in (3, 40, 200):
        ink = chapter.letters("hotel", height, chapter.FACES[0])
        assert ink.shape[0] == height and 0 <= ink.min() < ink.max() <= 1
    image, (x, y, width, tall) = chapter.picture(2, 48)
    cut = image[y : y + tall, x : x + width].reshape(-1, 3)
    assert tall == 48 and image.shape == (1280, 1280, 3) and len(np.unique(cut, axis=0)) > 2
    assert len(np.unique(image[y - 9 : y - 1, x : x + width].reshape(-1, 3), axis=0)) == 1, "a plate around it"
    assert all(chapter.picture(row, 200)[0].shape[0] == 1280 for row in range(20)), "the tallest fit"


def test_the_true_map_is_sure_of_the_cells_that_the_word_touches():
    logits = functions("13").true_map([(0, 32, 33, 32), (1279, 1279, 1, 1)], 40)
    assert logits.gt(0).sum((1, 2)).tolist() == [2, 1] and logits[0, 1, :2].gt(0).all() and logits[1, -1, -1] > 0


def test_crossings_by_hand():
    crossing = functions("13").crossing
    heights = np.array([10, 40, 160])
    assert crossing(heights, np.array([0.0, 1.0, 0.0]), 0.5) == pytest.approx(20)
    assert crossing(heights, np.array([0.5, 0.0, 1.0]), 0.5) == pytest.approx(80)
    assert crossing(heights, np.array([0.6, 1.0, 0.0]), 0.5) == 10
    assert crossing(heights, np.array([0.1, 0.2, 0.3]), 0.5) == np.inf


@pytest.mark.parametrize(
    "values",
    [
        {"regions": True, "draws": 2, "large_sizes": "96", "large_heights": "48"},
        {"model": str(checkpoint.SHIPPED), "heights": "20", "large_heights": "", "seed": 1},
        {"backbone": "mini_clip", "sizes": "64, 96"},
    ],
    ids=str,
)
def test_special_values(values):
    names = run("13", **QUICK | values)
    systems = set(names["by_word"].index.get_level_values("system"))
    assert ("regions" in systems) == bool(values.get("regions")) and len(systems) == 4 + bool(values.get("regions"))
    assert names["by_word"].shape[1] == 2


@pytest.mark.parametrize(
    "values, told",
    [
        ({"words": 21}, "2 to 20 words"),
        ({"heights": "10, 201"}, "up to 200"),
        ({"sizes": "100"}, "multiples of 32"),
        ({"sizes": ""}, "rising numbers"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_said(values, told):
    with pytest.raises(BadParameter, match=told):
        run("13", **QUICK | values)

"""Chapter 17: its ways to combine two scores by hand, its scenes, and every special value on few drawn things."""

import numpy as np
import pytest
from chapters import elsewhere, functions, run  # noqa: F401  (elsewhere: a fixture for all tests here)

from fdp_core.studies.parameters import BadParameter

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = {"things": 6, "size": 96, "window": 2}


def test_combinations_by_hand():
    word, look = np.array([[0.0, 1.0, 2.0, 1.0]]), np.array([[3.0, 1.0, 2.0, 0.0]])
    ways = {way: values[0].tolist() for way, values in functions("17").combined(word, look).items()}
    z_word, z_look = np.array([-1, 0, 1, 0]) * 2**0.5, np.array([1.5, -0.5, 0.5, -1.5]) / 1.25**0.5
    assert ways["word alone"] == word[0].tolist() and ways["look alone"] == look[0].tolist()
    assert ways["sum, not calibrated"] == [3, 2, 4, 1]
    assert ways["product, not calibrated"] == [4, 4, 9, 2]
    assert ways["sum of z-scores"] == pytest.approx(z_word + z_look)
    assert ways["minimum of z-scores"] == pytest.approx(np.minimum(z_word, z_look))
    assert ways["product of ranks"] == pytest.approx([1 / 8 * 7 / 8, 1 / 2 * 3 / 8, 7 / 8 * 5 / 8, 1 / 2 * 1 / 8])
    assert ways["minimum of ranks"] == pytest.approx([1 / 8, 3 / 8, 5 / 8, 1 / 8])


def test_calibration_forgets_the_scale_and_survives_equal_scores():
    cells = functions("17")
    word, look = np.random.default_rng(0).random((2, 3, 8))
    one, other = cells.combined(word, look), cells.combined(7 * word - 2, look)
    for way in set(one) - {"word alone", "sum, not calibrated", "product, not calibrated"}:
        assert np.allclose(one[way], other[way])
    assert all(np.isfinite(values).all() for values in cells.combined(np.ones((1, 4)), look[:1, :4]).values())


def test_words_are_erased_and_nothing_else():
    image = np.full((448, 448, 3), 100, np.uint8)
    image[100:140, 100:200] = 255
    image[300:320, 300:320] = 7
    quad = np.array([[[100, 100], [200, 100], [200, 140], [100, 140]]], np.float32)
    erased = functions("17").erased
    clean = erased(image, quad)
    assert (clean[100:140, 100:200] < 130).all() and np.array_equal(clean[200:], image[200:])
    assert np.array_equal(erased(image, np.full((1, 4, 2), np.nan)), image), "no region was found"


def test_colours_of_cuts():
    cells = functions("17")
    cut = np.zeros((1, 32, 128, 3), np.uint8)
    cut[:, :, :32], cut[:, :, 32:] = (190, 40, 40), (240, 240, 235)
    (shares,) = cells.colour_shares(cut)
    told = dict(zip(cells.signs.COLOURS, shares))
    assert told["red"] == 0.25 and told["white"] == 0.75


@pytest.mark.parametrize(
    "values", [{"backbone": "mini", "seed": 1}, {"window": 0, "things": 8}, {"window": 3}], ids=str
)
def test_special_values(values):
    names = run("17", **QUICK | values)
    count = values.get("things", 6)
    rows, partner = names["rows"], names["partner"]
    assert len(rows) == 5 * count and np.array_equal(partner[partner], np.arange(count))
    assert (rows[:, 0] != rows[:, 1]).all(), "no word stands beside its own picture"
    known = names["has_look"] & names["has_word"]
    assert np.array_equal(known, names["relevant"]) and not any((known & n).any() for n in names["negatives"].values())
    windows = {0: 1, 2: 4, 3: 1}[values.get("window", 2)]
    assert names["vectors"][""].shape[:2] == (5 * count, windows)
    assert {form for form, _ in names["by_way"]} == set(names["look_scores"])


def test_bad_parameters_are_named():
    for values, told in (({"things": 7}, "even number"), ({"things": 48}, "6-46"), ({"window": 6}, "5 cells a side")):
        with pytest.raises(BadParameter, match=told):
            run("17", **values)

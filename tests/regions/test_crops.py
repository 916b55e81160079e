"""Boxes around words, and cutting them out of photographs."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fdp_core.regions import crops

coordinates = st.floats(-500, 500, width=32, allow_subnormal=False)
clouds = st.lists(st.tuples(coordinates, coordinates), min_size=2, max_size=12).map(
    lambda points: np.array(points, np.float32)
)
angles = st.floats(-math.pi, math.pi)
BOX = np.array([[10, 20], [50, 20], [50, 40], [10, 40]], np.float32)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def area(quad: np.ndarray) -> float:
    """Return the shoelace sum: positive where the corners run clockwise, with y down."""
    x, y = quad.astype(float).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def rotated(quad: np.ndarray, degrees: float, centre: tuple[float, float]) -> np.ndarray:
    """Turn corners clockwise, as seen with y down."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ((quad - centre) @ np.array([[c, s], [-s, c]]) + centre).astype(np.float32)


def assert_box(quad: np.ndarray, points: np.ndarray, along: np.ndarray) -> None:
    """The corners are a rectangle that runs clockwise, lies along a direction and holds all points."""
    assert quad.shape == (4, 2) and quad.dtype == np.float32
    quad, points, tolerance = quad.astype(float), points.astype(float), 0.02
    x = along / np.linalg.norm(along)
    y = np.array([-x[1], x[0]])
    top, down = quad[1] - quad[0], quad[3] - quad[0]
    np.testing.assert_allclose(quad[0] + quad[2], quad[1] + quad[3], atol=tolerance)
    for side, axis, other in ((top, x, y), (down, y, x)):
        assert abs(side @ other) < tolerance, "a side is not along its axis"
        assert side @ axis > -tolerance, "a side points backwards"
    assert area(quad) > -tolerance * 2000, "the corners run anti-clockwise"
    for axis, side in ((x, top), (y, down)):
        along_axis = (points - quad[0]) @ axis
        assert along_axis.min() > -tolerance and along_axis.max() < side @ axis + tolerance, "a point is outside"


# --- boxes


def test_upright_box_by_hand():
    quad = crops.upright_box(np.array([[3, 9], [7, 1], [5, 4]]))
    assert quad.dtype == np.float32
    assert quad.tolist() == [[3, 1], [7, 1], [7, 9], [3, 9]]


@given(clouds)
def test_an_upright_box_holds_its_points_and_touches_the_outermost(points):
    quad = crops.upright_box(points)
    assert (points >= quad[0]).all() and (points <= quad[2]).all()
    assert (quad[0] == points.min(0)).all() and (quad[2] == points.max(0)).all()
    assert_box(quad, points, np.array([1.0, 0.0]))


@given(clouds, angles)
def test_a_tilted_box_along_a_direction_holds_its_points(points, angle):
    along = np.array([math.cos(angle), math.sin(angle)])
    assert_box(crops.tilted_box(points, 7 * along), points, along)


@settings(deadline=None)
@given(clouds)
def test_a_tilted_box_without_a_direction_holds_its_points_and_reads_to_the_right(points):
    assume(np.ptp(points, axis=0).max() > 1)
    quad = crops.tilted_box(points).astype(float)
    top, down = quad[1] - quad[0], quad[3] - quad[0]
    assert top[0] > -0.02 - crops.LEVEL * np.linalg.norm(top), "the reading direction points left"
    assume(np.linalg.norm(top) > 0.5)
    assert_box(quad.astype(np.float32), points, top)
    upright = abs(top[1]) < 0.02 * np.linalg.norm(top)
    assert upright or np.linalg.norm(top) > 2 * np.linalg.norm(down) - 0.1, "only a long piece has a direction"


@pytest.mark.parametrize("shape", [(10, 24), (10, 10), (12, 10)])
def test_a_compact_or_standing_piece_stays_upright(shape):
    """ "I", "a" and "as" must not be laid on their side."""
    box = np.array([[0, 0], [shape[0], 0], [shape[0], shape[1]], [0, shape[1]]], np.float32)
    np.testing.assert_allclose(crops.tilted_box(box), box, atol=1e-4)


def test_a_point_has_an_upright_box():
    np.testing.assert_allclose(crops.tilted_box(np.full((1, 2), 5.0)), np.full((4, 2), 5.0), atol=1e-5)


@pytest.mark.parametrize("degrees", [-80, -45, -20, 0, 20, 45, 80])
def test_a_tilted_box_of_a_long_rectangle_is_that_rectangle(degrees):
    long = np.array([[10, 24], [50, 24], [50, 36], [10, 36]], np.float32)
    quad = rotated(long, degrees, (30, 30))
    for along in (None, quad[1] - quad[0]):
        np.testing.assert_allclose(crops.tilted_box(quad, along), quad, atol=1e-3)
    np.testing.assert_allclose(crops.tilted_box(quad[[2, 0, 3, 1]]), quad, atol=1e-3, err_msg="order of the points")


def test_a_word_that_runs_downwards_keeps_its_upper_left_corner_by_its_direction():
    """Turned by a quarter, the word's own upper left is the picture's upper right."""
    quad = crops.tilted_box(BOX, np.array([0.0, 1.0]))
    np.testing.assert_allclose(quad, BOX[[1, 2, 3, 0]], atol=1e-4)


def test_reading_direction_of_four_corners():
    assert crops.reading_direction(BOX).tolist() == [40, 0]
    assert crops.reading_direction(BOX[[2, 3, 0, 1]]).tolist() == [-40, 0], "upside down"
    slanted = np.array([[0, 0], [10, 2], [12, 12], [2, 10]], np.float32)
    assert crops.reading_direction(slanted).tolist() == [10, 2]


def test_reading_direction_of_a_bent_polygon_goes_from_its_left_edge_to_its_right_one():
    x = np.array([0, 10, 20, 30, 40], np.float32)
    top = np.stack([x, np.array([10, 4, 2, 4, 16])], 1)
    bottom = (top + [0, 8])[::-1]
    direction = crops.reading_direction(np.concatenate([top, bottom]).astype(np.float32))
    assert direction.dtype == np.float32 and direction.tolist() == [40, 6]


# --- growing


def test_grow_by_hand():
    """Everything is told in heights: the box is 20 high."""
    assert crops.grow(BOX, (0, 0), (0, 0)).tolist() == BOX.tolist()
    grown = crops.grow(BOX, (0.5, 0.1), (1.0, 0.25))
    assert grown.dtype == np.float32
    np.testing.assert_allclose(grown, [[0, 18], [70, 18], [70, 45], [0, 45]], atol=1e-5)
    shrunk = crops.grow(BOX, (-0.5, -0.1), (0, 0))
    np.testing.assert_allclose(shrunk, [[20, 22], [50, 22], [50, 40], [20, 40]], atol=1e-5)
    assert BOX[0].tolist() == [10, 20], "the input stays"


def test_grow_follows_the_words_own_axes():
    turned = crops.grow(rotated(BOX, 30, (30, 30)), (0.5, 0.1), (1.0, 0.25))
    np.testing.assert_allclose(turned, rotated(crops.grow(BOX, (0.5, 0.1), (1.0, 0.25)), 30, (30, 30)), atol=1e-4)


# --- cutting


def test_cutting_an_upright_box_at_its_own_size_is_slicing():
    image = noise(60, 80)
    out = crops.cut(image, BOX, 20, 40)
    assert out.dtype == np.uint8 and out.flags.c_contiguous
    np.testing.assert_array_equal(out, image[20:40, 10:50])
    whole = np.array([[0, 0], [80, 0], [80, 60], [0, 60]], np.float32)
    np.testing.assert_array_equal(crops.cut(image, whole, 60, 80), image)


def test_other_corner_orders_turn_and_flip_the_cut():
    image = noise(60, 80)
    plain = image[20:40, 10:50]
    np.testing.assert_array_equal(crops.cut(image, BOX[[2, 3, 0, 1]], 20, 40), plain[::-1, ::-1])
    np.testing.assert_array_equal(crops.cut(image, BOX[[1, 2, 3, 0]], 40, 20), np.rot90(plain))


def test_a_tilted_bar_comes_out_upright():
    """A white bar with its left third red, turned by 25 degrees: the cut shows it level, red on the left."""
    bar = rotated(BOX + [20, 20], 25, (50, 50))
    image = np.zeros((100, 100, 3), np.uint8)
    shift = 6  # fractional bits: corners between pixels, centres at whole numbers
    cv2.fillPoly(image, [np.round((bar - 0.5) * 2**shift).astype(np.int32)], (255, 255, 255), cv2.LINE_AA, shift)
    red = bar.copy()
    red[1], red[2] = bar[0] + (bar[1] - bar[0]) / 3, bar[3] + (bar[2] - bar[3]) / 3
    cv2.fillPoly(image, [np.round((red - 0.5) * 2**shift).astype(np.int32)], (255, 0, 0), cv2.LINE_AA, shift)
    out = crops.cut(image, crops.grow(bar, (0.5, 0.5), (0.5, 0.5)), 40, 60).astype(int)
    assert (out[12:28, 12:22] == [255, 0, 0]).all()
    assert (out[12:28, 26:48] == 255).all()
    for outside in (out[:7], out[-7:], out[:, :7], out[:, -7:]):  # three pixels of soft edge
        assert (outside == 0).all()


def test_shrinking_averages():
    """A chessboard of single pixels turns grey, and is not sampled to black or white."""
    board = (np.indices((64, 128)).sum(0) % 2 * 255).astype(np.uint8)
    out = crops.cut(np.repeat(board[..., None], 3, 2), np.array([[0, 0], [128, 0], [128, 64], [0, 64]]), 16, 32)
    assert out.shape == (16, 32, 3)
    assert np.abs(out.astype(int) - 127.5).max() <= 1


def test_enlarging_keeps_the_middle_of_what_was_cut():
    image = np.zeros((30, 30, 3), np.uint8)
    image[10:20, 10:20] = 200
    out = crops.cut(image, np.array([[5, 5], [25, 5], [25, 25], [5, 25]]), 80, 80)
    assert (out[24:56, 24:56] == 200).all() and (out[:16] == 0).all() and (out[:, -16:] == 0).all()
    np.testing.assert_array_equal(out, out[::-1, ::-1])


@pytest.mark.parametrize("move", [(500, 0), (-500, 0), (0, 500), (0, -500), (500, -500)])
def test_a_box_outside_the_image_is_black(move):
    out = crops.cut(noise(60, 80), BOX + move, 32, 64)
    assert out.shape == (32, 64, 3) and out.dtype == np.uint8 and not out.any()


def test_what_reaches_over_the_edge_repeats_it():
    image = noise(60, 80)
    box = np.array([[-10, 20], [30, 20], [30, 40], [-10, 40]], np.float32)
    out = crops.cut(image, box, 20, 40)
    np.testing.assert_array_equal(out[:, 10:], image[20:40, :30])
    np.testing.assert_array_equal(out[:, :10], np.repeat(image[20:40, :1], 10, axis=1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-100, 200, width=32)] * 2), min_size=4, max_size=4), st.sampled_from([1, 7, 32]))
def test_any_quadrilateral_gives_a_picture_of_the_wanted_size(corners, height):
    """Crossed, collapsed and far ones too: nothing crashes."""
    assert crops.cut(noise(50, 70), np.array(corners), height, 2 * height).shape == (height, 2 * height, 3)

"""From a text map to word regions: drawn kernels must come back as the words that they were made of."""

import math

import cv2
import numpy as np
import pytest
import shapely

from fdp_core.regions import boxes, crops
from fdp_core.retrieval import geometry

STRIDE, SIDE = 4, 256  # pixels a cell, and of the whole map


@pytest.fixture(autouse=True)
def two_thresholds(request, monkeypatch):
    """Few thresholds make what is expected easy to say; the marked tests take the module's own."""
    if request.node.get_closest_marker("own_thresholds") is None:
        monkeypatch.setattr(boxes, "THRESHOLDS", (0.3, 0.6))
        monkeypatch.setattr(boxes, "CLOSED", ())
        monkeypatch.setattr(boxes, "SAME", 0.75)


def rectangle(x: float, y: float, width: float, height: float, degrees: float = 0.0) -> np.ndarray:
    """Return a word's corners [4, 2] around its middle, clockwise from its upper left, turned clockwise."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return (half @ np.array([[c, s], [-s, c]]) + [x, y]).astype(np.float32)


def drawn(*words: np.ndarray) -> np.ndarray:
    """Draw the words' kernels as the perfect map would show them: the share that they cover of each cell."""
    kernels = shapely.union_all([geometry.shrink_polygon(word, boxes.SHRINK) for word in words])
    edges = np.arange(SIDE // STRIDE) * STRIDE
    x, y = np.meshgrid(edges, edges)
    cells = shapely.box(x, y, x + STRIDE, y + STRIDE)
    return (shapely.area(shapely.intersection(cells, kernels)) / STRIDE**2).astype(np.float32)


def overlap(one: np.ndarray, two: np.ndarray) -> float:
    one, two = shapely.Polygon(one), shapely.Polygon(two)
    return one.intersection(two).area / one.union(two).area


def blob(probability: np.ndarray, left: int, top: int, value: float) -> None:
    """Put a piece of 8 x 3 cells into a map."""
    probability[top : top + 3, left : left + 8] = value


# --- finding


@pytest.mark.parametrize("degrees", [0, 20, -20])
def test_drawn_words_come_back(degrees):
    words = [rectangle(70, 60, 90, 32, degrees), rectangle(160, 190, 150, 48, degrees)]
    quads, scores = boxes.find(drawn(*words))
    assert quads.shape == (2, 4, 2) and quads.dtype == np.float32 and scores.dtype == np.float32
    assert (scores > 0.5).all() and (scores <= 1).all()
    for word in words:
        best = max(quads, key=lambda quad: overlap(quad, word))
        assert overlap(best, word) > 0.75
        np.testing.assert_allclose(best, word, atol=12, err_msg="its corners begin at the word's upper left")
        direction = best[1] - best[0]
        turned = math.degrees(math.atan2(direction[1], direction[0]))
        assert turned == pytest.approx(degrees, abs=4), "the text's direction"


def test_the_words_middle_is_found_to_a_pixel():
    """No half cell is lost between cells, their centres and pixels."""
    for x, y in ((120, 120), (122, 121), (119, 123)):
        quads, _ = boxes.find(drawn(rectangle(x, y, 96, 40)))
        assert len(quads) == 1
        assert quads[0].mean(0) == pytest.approx((x, y), abs=2.0)


def test_words_that_nearly_touch_are_two_regions():
    """Their kernels keep apart, whatever the gap."""
    left, right = rectangle(70, 128, 90, 40), rectangle(163, 128, 90, 40)
    quads, _ = boxes.find(drawn(left, right))
    assert sorted(quad.mean(0)[0] for quad in quads) == pytest.approx([70, 163], abs=3)


def test_an_empty_map_has_no_regions():
    for value in (0.0, 0.2):
        quads, scores = boxes.find(np.full((16, 24), value, np.float32))
        assert quads.shape == (0, 4, 2) and scores.shape == (0,)
        assert quads.dtype == scores.dtype == np.float32


def test_one_piece_above_both_thresholds_is_one_region():
    probability = np.zeros((32, 32), np.float32)
    blob(probability, 10, 10, 0.9)
    quads, scores = boxes.find(probability)
    assert len(quads) == 1
    assert scores == pytest.approx([0.9])
    np.testing.assert_allclose(quads[0].mean(0), [14 * 4, 11.5 * 4], atol=0.01)


def test_each_threshold_gives_the_pieces_that_the_other_one_does_not():
    """A faint bridge joins two words below the higher threshold; a faint word is seen by the lower one alone."""
    probability = np.zeros((32, 48), np.float32)
    blob(probability, 4, 4, 0.9)
    blob(probability, 16, 4, 0.8)
    probability[5, 12:16] = 0.4
    blob(probability, 4, 20, 0.5)
    quads, scores = boxes.find(probability, stride=1)
    assert len(quads) == 4
    joined = (24 * 0.9 + 24 * 0.8 + 4 * 0.4) / 52
    assert scores == pytest.approx([0.9, joined, 0.8, 0.5])
    joined = quads[1]
    assert joined[:, 0].min() < 4 and joined[:, 0].max() > 24
    assert quads[0].mean(0) == pytest.approx([8, 5.5], abs=0.01)


def test_scores_are_means_and_fall_and_the_limit_keeps_the_surest():
    probability = np.zeros((64, 64), np.float32)
    values = [0.71, 0.95, 0.65, 0.8, 0.75]  # none but the first is broken by a higher threshold
    for i, value in enumerate(values):
        blob(probability, 20, 4 + 12 * i, value)
    probability[4, 20:24] = 0.84  # four of the first one's 24 cells
    values[0] = (20 * 0.71 + 4 * 0.84) / 24
    quads, scores = boxes.find(probability)
    assert scores == pytest.approx(sorted(values, reverse=True), abs=1e-6)
    assert (np.diff(scores) <= 0).all()
    for limit in (1, 2, 5, 9):
        some, rated = boxes.find(probability, limit=limit)
        np.testing.assert_array_equal(some, quads[:limit])
        np.testing.assert_array_equal(rated, scores[:limit])


def test_regions_scale_with_the_stride():
    probability = np.zeros((32, 32), np.float32)
    blob(probability, 10, 10, 0.9)
    np.testing.assert_allclose(boxes.find(probability, stride=8)[0], 2 * boxes.find(probability, stride=4)[0])


@pytest.mark.parametrize("size", [(10, 10), (40, 10), (10, 40), (300, 20)])
@pytest.mark.parametrize("ratio", [0.4, boxes.SHRINK, 0.9])
def test_unshrink_undoes_the_vatti_offset(size, ratio):
    width, height = size
    offset = width * height * (1 - ratio**2) / (2 * (width + height))
    assert boxes.unshrink(width - 2 * offset, height - 2 * offset, ratio) == pytest.approx(offset)
    kernel = geometry.shrink_polygon(rectangle(0, 0, width, height), ratio)
    left, top, right, bottom = kernel.bounds
    assert (right - left, bottom - top) == pytest.approx((width - 2 * offset, height - 2 * offset))


# --- leaving out


def distinct(spans: list[tuple[float, float]], scores: list[float], limit: int) -> list[int]:
    """Choose among boxes 10 high from one x to another."""
    low, high = (np.array([[span[i], 10.0 * i] for span in spans], np.float32) for i in (0, 1))
    return boxes.distinct(low, high, np.array(scores, np.float32), limit, boxes.SAME)


def test_distinct_by_hand():
    """Box 1 covers 80 % of box 0, box 2 70 %, box 3 nothing; box 1 scores best and removes box 0 alone."""
    spans, scores = [(0, 100), (0, 80), (0, 56), (200, 300)], [0.5, 0.9, 0.6, 0.7]
    assert distinct(spans, scores, 9) == [1, 3, 2]
    assert distinct(spans, scores, 2) == [1, 3]
    assert distinct(spans, scores, 0) == []


def test_what_was_left_out_removes_nothing():
    """0 removes 1; 1 equals 2 too, but 2 does not equal 0 and stays."""
    spans = [(0, 100), (10, 110), (20, 120)]
    assert distinct(spans, [0.9, 0.8, 0.7], 9) == [0, 2]
    assert distinct(spans, [0.8, 0.9, 0.7], 9) == [1]


def test_equal_scores_keep_their_order():
    assert distinct([(0, 100), (0, 100), (200, 300)], [0.5, 0.5, 0.5], 9) == [0, 2]


def slow_find(probability: np.ndarray, stride: float, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Find regions one by one: each piece's outline, its tilted box, and a comparison with all kept before."""
    closed = [(cv2.morphologyEx(probability, cv2.MORPH_CLOSE, np.ones((1, g))), t) for g, t in boxes.CLOSED]
    found = []
    for plane, threshold in [(probability, t) for t in boxes.THRESHOLDS] + closed:
        count, labels = cv2.connectedComponents((plane > threshold).astype(np.uint8))
        for piece in range(1, count):
            part = labels == piece
            if part.sum() >= boxes.SMALLEST:
                outline, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
                quad = crops.tilted_box(outline[0].reshape(-1, 2))
                width, height = (np.linalg.norm(quad[i] - quad[0]) + 1 for i in (1, 3))
                quad = crops.grow_by(quad, 0.5 + boxes.unshrink(width, height)) + 0.5
                (y,), (x,) = ((np.flatnonzero(part.any(axis))[[0, -1]] + [0, 1],) for axis in (1, 0))
                out = boxes.unshrink(x[1] - x[0], y[1] - y[0])
                box = shapely.box(x[0] - out, y[0] - out, x[1] + out, y[1] + out)
                found.append((float(plane[part].mean()), box, quad * stride))
    kept = []
    for score, box, quad in sorted(found, key=lambda piece: -np.float32(piece[0])):
        if all(box.intersection(b).area <= boxes.SAME * box.union(b).area for _, b, _ in kept) and len(kept) < limit:
            kept.append((score, box, quad))
    return np.array([quad for *_, quad in kept]).reshape(-1, 4, 2), np.array([score for score, *_ in kept])


def test_thresholds_and_sameness_can_be_given():
    """A high threshold finds the sure one of two words; a word in a word is one region or two."""
    probability = drawn(rectangle(60, 60, 60, 24))
    faint = probability + 0.5 * drawn(rectangle(180, 180, 60, 24))
    assert len(boxes.find(faint, thresholds=(0.7,))[0]) == 1
    assert len(boxes.find(faint, thresholds=(0.3,))[0]) == 2
    inner = 0.5 * probability + 0.5 * drawn(rectangle(60, 60, 44, 24))
    assert [len(boxes.find(inner, thresholds=(0.3, 0.8), same=same)[0]) for same in (0.3, 0.95)] == [1, 2]


@pytest.mark.own_thresholds
@pytest.mark.parametrize("seed", range(6))
def test_the_fast_way_is_the_slow_one(seed, monkeypatch):
    for module in (crops, boxes):  # no piece of whole cells is as long as this: rounding must not decide
        monkeypatch.setattr(module, "LONG", 2.0123)
        monkeypatch.setattr(module, "STANDING", 3.0123)
    rng = np.random.default_rng(seed)
    places = rng.uniform([30, 30, 30, 14, -40], [226, 226, 120, 50, 40], (8, 5))
    probability = np.clip(drawn(*(rectangle(*place) for place in places)) * rng.uniform(0.3, 1, (64, 64)), 0, 1)
    probability = probability.astype(np.float32)
    for limit in (5, 200):
        quads, scores = boxes.find(probability, 4, limit)
        expected, rated = slow_find(probability, 4, limit)
        np.testing.assert_allclose(scores, rated, atol=1e-5)
        np.testing.assert_allclose(quads, expected, atol=0.02)


@pytest.mark.own_thresholds
def test_with_all_thresholds_every_drawn_word_is_among_the_regions():
    words = [rectangle(70, 60, 90, 40), rectangle(180, 60, 90, 30), rectangle(128, 180, 160, 24, 10)]
    quads, scores = boxes.find(drawn(*words))
    assert (np.diff(scores) <= 0).all()
    for word in words:
        assert max(overlap(word, quad) for quad in quads) > 0.7


@pytest.mark.own_thresholds
def test_letters_set_wide_apart_are_also_one_region():
    probability = np.zeros((32, 64), np.float32)
    for left in range(8, 50, 8):
        probability[10:14, left : left + 4] = 0.9  # gaps of four cells
    quads, _ = boxes.find(probability, stride=1)
    widths = np.ptp(quads[..., 0], axis=1)
    assert (widths > 44).any() and (widths < 12).any(), "the whole word, and the letters"

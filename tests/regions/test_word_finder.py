"""The word finder: what cells say, overlaps, merging, by hand and against slow obvious ways."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import shapely
import torch

from fdp_core import backbones, datasets
from fdp_core.datasets.images import open_image
from fdp_core.regions import word_finder
from fdp_core.regions.settings import RegionOptions


def box(x: float, y: float, length: float, height: float, turn: float = 0.0) -> np.ndarray:
    """Return a turned rectangle [6]; ``turn`` in degrees."""
    return np.array([x, y, length, height, np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))], np.float32)


def test_a_cell_says_where_its_word_is() -> None:
    cells = np.array([[np.log(1.0), np.log(0.5), np.log(2.0), np.log(0.5), 3.0, 0.0]], np.float32)
    found = word_finder.boxes_of(cells, np.array([[20.0, 12.0]], np.float32), np.array([8.0], np.float32))
    # one unit is two cells of 8 pixels: left 16, top 8, right 32, bottom 8
    assert found[0] == pytest.approx([20 + 8, 12, 48, 16, 1, 0])
    corners = [[4, 4], [52, 4], [52, 20], [4, 20]]
    assert word_finder.quads_of(found)[0] == pytest.approx(np.array(corners))


def test_corners_turn_with_the_text() -> None:
    corners = word_finder.quads_of(box(10, 10, 8, 4, 90)[None])[0]  # reads downwards: its upper left is at the right
    assert corners == pytest.approx(np.array([[12, 6], [12, 14], [8, 14], [8, 6]]), abs=1e-5)


def test_overlaps_of_boxes_turned_alike_equal_shapely() -> None:
    rng = np.random.default_rng(0)
    for turn in (0, 12, -40, 90):
        boxes = np.array([box(*rng.uniform(0, 20, 2), *rng.uniform(5, 30, 2), turn) for _ in range(20)])
        shapes = shapely.polygons(word_finder.quads_of(boxes))
        shared = shapely.area(shapely.intersection(shapes[0], shapes))
        expected = shared / (shapely.area(shapes[0]) + shapely.area(shapes) - shared)
        assert word_finder.overlaps(boxes[0], boxes) == pytest.approx(expected, abs=1e-4)


def test_overlaps_of_boxes_turned_a_little_apart_are_near_shapelys() -> None:
    one, other = box(0, 0, 60, 20, 0), box(5, 2, 50, 18, 8)
    shapes = shapely.polygons(word_finder.quads_of(np.stack([one, other])))
    exact = shapely.area(shapely.intersection(*shapes)) / shapely.area(shapely.union(*shapes))
    assert word_finder.overlaps(one, other[None])[0] == pytest.approx(exact, abs=0.06)


def test_merging_keeps_touching_words_apart_and_means_those_that_are_alike() -> None:
    boxes = np.stack([box(20, 10, 40, 20), box(22, 10, 40, 20), box(60, 10, 40, 20)])
    kept, scores = word_finder.merge(
        boxes, np.array([0.75, 0.25, 0.5], np.float32), limit=10, same=0.4, average_from=0.7
    )
    assert scores.tolist() == [0.75, 0.5]
    assert kept[0] == pytest.approx(box(20.5, 10, 40, 20)) and kept[1] == pytest.approx(box(60, 10, 40, 20))
    assert len(word_finder.merge(boxes, np.ones(3, np.float32), limit=1)[0]) == 1
    assert word_finder.merge(boxes[:0], np.zeros(0, np.float32), limit=5)[0].shape == (0, 6)


def test_merging_equals_the_slow_obvious_way() -> None:
    rng = np.random.default_rng(1)
    boxes = np.array([box(*rng.uniform(0, 60, 2), *rng.uniform(10, 30, 2)) for _ in range(40)])
    scores = (1 + rng.permutation(40).astype(np.float32)) / 41
    shapes = shapely.polygons(word_finder.quads_of(boxes))
    slow: list[int] = []
    for i in np.argsort(-scores):
        pairs = [shapely.area(shapes[i] & shapes[j]) / shapely.area(shapes[i] | shapes[j]) for j in slow]
        if not pairs or max(pairs) < 0.4:
            slow.append(int(i))
    kept, _ = word_finder.merge(
        boxes, scores, limit=40, same=0.4, average_from=1.1
    )  # nothing is average_from: no means
    assert kept == pytest.approx(boxes[slow], abs=1e-4)


def test_rescaling_moves_corners_as_points() -> None:
    boxes = np.stack([box(10, 20, 30, 8), box(30, 30, 20, 10, 90)])
    scale = np.array([2.0, 1.5], np.float32)
    corners = word_finder.quads_of(word_finder.rescale(boxes, scale))
    assert corners == pytest.approx(word_finder.quads_of(boxes) * scale, abs=1e-4)


def test_a_region_that_resembles_any_word_has_a_handicap() -> None:
    common = np.eye(4, dtype=np.float32)
    rows = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]], np.float32)
    clear, vague, empty = word_finder.handicap(rows, np.ones(3, np.float32), common)
    assert vague == pytest.approx(word_finder.USUAL * 0.5, abs=1e-5) and empty == pytest.approx(0, abs=1e-5)
    assert clear == pytest.approx(word_finder.USUAL * (1 + np.log(0.25) / word_finder.SHARP), abs=1e-4)
    unsure = word_finder.handicap(rows, np.full(3, 0.5, np.float32), common)
    assert unsure - [clear, vague, empty] == pytest.approx(word_finder.SURE * np.log(2), abs=1e-5)


def test_growing_moves_each_side_by_shares_of_the_height() -> None:
    assert word_finder.grow(box(10, 10, 40, 20)[None], (0.1, 0.2))[0] == pytest.approx([10, 10, 44, 28, 1, 0])


@pytest.mark.parametrize("turned", [False, True])
def test_long_photographs_are_looked_at_in_parts_that_overlap(turned) -> None:
    image = np.arange(100 * 1234 * 3).reshape(100, 1234, 3)
    image = image.transpose(1, 0, 2) if turned else image
    parts = word_finder.parts_of(image)
    starts = [float(corner.max()) for _, corner in parts]
    assert starts[0] == 0 and starts[-1] == 1234 - 300 and (np.diff(starts) <= 200).all()
    for part, (x, y) in parts:
        np.testing.assert_array_equal(part, image[int(y) : int(y) + part.shape[0], int(x) : int(x) + part.shape[1]])
        assert max(part.shape[:2]) == 300
    assert len(word_finder.parts_of(image[:300, :300])) == 1


def test_a_word_in_a_long_photograph_is_found_where_it_stands() -> None:
    look, (gallery, _) = functools.partial(word_finder.predict, word_finder.load()), datasets.load("mini")
    image = np.asarray(open_image(gallery.photos[0].path))
    plain, _ = word_finder.find(look, image)
    long = np.full((image.shape[0], 4 * image.shape[1], 3), 127, np.uint8)
    long[:, -image.shape[1] :] = image
    found, _ = word_finder.find(look, long, RegionOptions(sizes=(3 * max(image.shape[:2]) // 32 * 32,)))
    assert len(plain) > 2 and found[:, :, 0].min() > 2.8 * image.shape[1]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rectangles_turn_back_with_their_photograph(turns) -> None:
    """The same pixels, seen in the photograph as it is: corners of a turned picture's rectangle, one by one."""
    height, width = 40, 70
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    places = np.rot90(np.stack([x, y], -1), turns)  # where each pixel of the turned photograph comes from
    at = np.array([[10, 5], [20, 5], [20, 9], [10, 9]])  # corners of the rectangle, at pixels' middles
    rectangle = box(15.5, 7.5, 10, 4)[None]
    corners = word_finder.quads_of(word_finder.turn_back(rectangle, turns, (height, width, 3)))[0]
    assert corners == pytest.approx(places[at[:, 1], at[:, 0]], abs=1e-4)


def test_turned_photographs_are_found_with_turns() -> None:
    look = functools.partial(word_finder.predict, word_finder.load())
    gallery, _ = datasets.load("mini")
    image = np.asarray(open_image(gallery.photos[0].path))
    upright, sure = word_finder.find(look, image)
    turned, surely = word_finder.find(look, np.rot90(image), RegionOptions(turns=True))
    best = [
        max(s for q, s in zip(turned, surely) if np.abs(q - back).max() < 8) for back in _turned(upright[:3], image)
    ]
    assert best == pytest.approx(sure[:3], abs=0.1)


def _turned(quads: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return corners in the photograph turned by 90 degrees, counter-clockwise."""
    return np.stack([quads[..., 1], image.shape[1] - quads[..., 0]], -1)


def test_suppressing_by_hand() -> None:
    """Boxes on a line, each overlapping its neighbours by a third."""
    boxes = np.stack([box(10 * i, 0, 20, 10) for i in range(4)])
    scores = np.array([0.5, 0.9, 0.8, 0.9], np.float32)
    kept, shared = word_finder.suppress(boxes, scores, 9, 0.3)
    assert kept == [1, 3]
    assert shared == pytest.approx(np.array([[1 / 3, 1, 1 / 3, 0], [0, 0, 1 / 3, 1]]), abs=1e-6)
    assert word_finder.suppress(boxes, scores, 9, 0.4)[0] == [1, 3, 2, 0], "equal scores keep their order"
    assert word_finder.suppress(boxes, scores, 1, 0.4)[0] == [1]


def test_first_layers_are_minis_own() -> None:
    clip = backbones.load("mini").clip
    finder = word_finder.WordFinder(pooled=True)
    finder.start_from(clip.visual)
    images = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    x = finder.lower(images)
    theirs = backbones.run_levels(clip, (images.permute(0, 3, 1, 2).float() - finder.mean) / finder.std, 3)
    for mine, level in zip((x, *finder.levels(images)), theirs):  # the last one has other layers
        assert torch.allclose(mine, level, atol=1e-3)


def test_a_stride_of_the_convolution_takes_every_other_cell_of_what_a_mean_would_see() -> None:
    torch.manual_seed(0)
    pooled, strided = (word_finder.Block(8, 4, 8, 2, pooled) for pooled in (True, False))
    strided.load_state_dict(pooled.state_dict())
    x = torch.rand(1, 8, 6, 10)
    seen = []
    for block in (pooled, strided):
        block.conv2.register_forward_hook(lambda module, given, out: seen.append(out))
        assert block(x).shape == (1, 8, 3, 5)
    assert torch.allclose(seen[0][..., ::2, ::2], seen[1], atol=1e-6)


@pytest.mark.parametrize("pooled", [True, False])
def test_files_come_back_and_damage_is_named(tmp_path, pooled) -> None:
    finder = word_finder.WordFinder(width=8, hidden=8, pooled=pooled)
    path = word_finder.save(tmp_path / "f.safetensors", finder, {"step": 3})
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    loaded = word_finder.load(path)
    grids = word_finder.predict(loaded, image)
    assert loaded.pooled == pooled and [grid.shape for grid in grids] == [(7, 8, 12), (7, 4, 6), (7, 2, 3)]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="no word finder"):
        word_finder.load(path)


def test_the_shipped_finder_frames_words_of_rendered_photographs() -> None:
    look = functools.partial(word_finder.predict, word_finder.load())
    gallery, _ = datasets.load("mini")
    best = []
    for photo in gallery.photos[:4]:
        quads, scores = word_finder.find(look, np.asarray(open_image(photo.path)))
        assert len(quads) == len(scores) <= RegionOptions().limit and (np.diff(scores) <= 0).all()
        shapes = shapely.polygons(quads)
        for word in photo.words:
            mine = shapely.make_valid(shapely.polygons(word.polygon))
            shared = shapely.area(shapely.intersection(shapes, mine))
            best.append(float((shared / (shapely.area(shapes) + shapely.area(mine) - shared)).max(initial=0)))
    assert np.mean(np.array(best) >= 0.5) > 0.7, best

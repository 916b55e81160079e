"""Tests of the one transform for image and polygons and of the target maps."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fdp_core.datasets import images
from fdp_core.retrieval import geometry


@dataclass(frozen=True)
class FakeWord:
    text: str
    polygon: np.ndarray
    ignore: bool = False
    script: str = "Latin"


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float32)


sides = st.integers(min_value=1, max_value=3000)
coordinates = st.floats(min_value=0, max_value=1, allow_nan=False)
modes = st.sampled_from(geometry.MODES)


@given(width=sides, height=sides, mode=modes, x=coordinates, y=coordinates)
def test_points_come_back(width, height, mode, x, y):
    plan = geometry.plan_fit(width, height, 640, mode)
    points = np.array([[x * width, y * height]])
    np.testing.assert_allclose(plan.invert(plan.apply(points)), points, atol=1e-6)


@given(width=sides, height=sides, x=coordinates, y=coordinates)
def test_letterbox_and_squash_keep_everything_and_crop_fills_the_canvas(width, height, x, y):
    corners = np.array([[0, 0], [width, height], [x * width, y * height]])
    for mode in ("letterbox", "squash"):
        placed = geometry.plan_fit(width, height, 640, mode).apply(corners)
        assert placed.min() >= -1e-6 and placed.max() <= 640 + 1e-6
    placed = geometry.plan_fit(width, height, 640, "centre_crop").apply(corners[:2])
    assert placed[0].max() <= 1e-6 and placed[1].min() >= 640 - 1e-6


@given(width=st.integers(20, 3000), height=st.integers(20, 3000))
def test_letterbox_keeps_the_aspect_up_to_whole_pixels(width, height):
    plan = geometry.plan_fit(width, height, 640, "letterbox")
    ideal = 640 / max(width, height)
    assert abs(plan.scale * width - ideal * width) <= 0.5 + 1e-6 or round(ideal * width) == 0
    assert math.isclose(
        plan.apply(np.array([[0, 0]])).sum() + plan.apply(np.array([[width, height]])).sum(), 1280, abs_tol=2
    )


@pytest.mark.parametrize("mode", geometry.MODES)
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (97, 250), (256, 256), (40, 30)])
def test_polygon_and_image_agree_on_a_drawn_mark(mode, size):
    """Test 5 of the list of defects: the drawn mark lands where the polygon says."""
    width, height = size
    x0, y0, x1, y1 = (
        round(share * side) for share, side in zip((0.4, 0.35, 0.7, 0.6), (width, height) * 2, strict=True)
    )
    image = Image.new("RGB", size, "black")
    ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill="white")
    canvas, plan = geometry.fit_image(image, 256, mode, fill=(0, 0, 0))
    rows, columns = np.nonzero(canvas[..., 0] > 127)
    placed = plan.apply(np.array([[x0, y0], [x1, y1]]))
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], placed.ravel(), atol=1.01
    )


def test_released_polygon_transform_disagrees_with_the_crop():
    plan = geometry.plan_fit(1280, 720, 640, "centre_crop")
    point = np.array([[1270.0, 360.0]])
    assert plan.apply(point)[0, 0] > 640  # the crop cuts it off ...
    assert plan.squashed().apply(point)[0, 0] == pytest.approx(635)  # ... the released code draws it all the same
    with pytest.raises(ValueError, match="plan_fit"):
        geometry.Geometry(1.0, 0, 0, 64).squashed()


def test_centre_crop_is_torchvisions():
    transforms = pytest.importorskip("torchvision.transforms")
    rng = np.random.default_rng(0)
    for size in [(301, 200), (200, 301), (97, 251), (64, 64), (333, 100)]:
        image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        bicubic = transforms.InterpolationMode.BICUBIC
        expected = transforms.CenterCrop(96)(transforms.Resize(96, interpolation=bicubic)(image))
        np.testing.assert_array_equal(geometry.fit_image(image, 96, "centre_crop")[0], np.asarray(expected))


def test_unknown_modes_and_empty_sides_are_errors():
    with pytest.raises(ValueError, match="letterbox"):
        geometry.plan_fit(10, 10, 10, "stretch")
    with pytest.raises(ValueError, match="positive"):
        geometry.plan_fit(0, 10, 10)
    with pytest.raises(ValueError, match="'area' or 'nearest'"):
        geometry.target_maps([], geometry.plan_fit(10, 10, 640), 20, mode="max")


def test_a_cut_word_is_dropped_or_ignored():
    plan = geometry.plan_fit(200, 100, 100, "centre_crop")  # keeps x in 50..150
    inside, part, nearly, gone, flat = (
        FakeWord("w", box(*corners))
        for corners in [
            (60, 10, 90, 20),
            (30, 10, 60, 20),
            (140, 10, 151, 20),
            (0, 10, 49, 20),
            (60, 10, 90, 10),
        ]
    )
    kept = geometry.visible_words([inside, part, nearly, gone, flat], plan)
    assert [word.ignore for word in kept] == [False, True, False, False]
    assert kept[0] is inside and kept[2] is nearly and kept[3] is flat


def test_shrink_by_hand():
    shrunk = geometry.shrink_polygon(box(0, 0, 60, 20), 0.4)
    offset = 1200 * (1 - 0.16) / 160  # 6.3 px
    assert shrunk.bounds == pytest.approx((offset, offset, 60 - offset, 20 - offset))
    assert shrunk.area == pytest.approx((60 - 2 * offset) * (20 - 2 * offset))
    assert geometry.shrink_polygon(box(0, 0, 60, 20), 1.0).area == pytest.approx(1200)
    whole = geometry.shrink_polygon(box(0.9, 0.9, 60.9, 20.9), 0.4, whole_pixels=True)
    assert whole.bounds == (6, 6, 54, 14)


def test_shrink_agrees_with_pyclipper():
    pyclipper = pytest.importorskip("pyclipper")
    points = np.array([[10, 20], [210, 40], [200, 110], [20, 90]])
    polygon = shapely.Polygon(points)
    offset = polygon.area * (1 - 0.4**2) / polygon.length
    clipper = pyclipper.PyclipperOffset()
    clipper.AddPath((points * 1000).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    expected = shapely.Polygon(np.array(clipper.Execute(-offset * 1000)[0]) / 1000)
    assert geometry.shrink_polygon(points, 0.4).symmetric_difference(expected).area < 1e-2 * expected.area


def test_small_word_survives_by_area_and_mostly_dies_by_nearest():
    plan = geometry.plan_fit(640, 640, 640)
    rng = np.random.default_rng(0)
    area, nearest = [], []
    for x, y in rng.uniform(0, 580, (200, 2)):
        word = FakeWord("word", box(x, y, x + 60, y + 20))
        area.append(geometry.target_maps([word], plan, 20)[0].sum())
        nearest.append(geometry.target_maps([word], plan, 20, mode="nearest")[0].sum())
    kernel = geometry.shrink_polygon(box(0, 0, 60, 20)).area
    np.testing.assert_allclose(area, kernel / 32**2, rtol=1e-5)
    assert 0.15 < np.mean(np.array(nearest) > 0) < 0.45  # the defect: about 0.28


polygons = st.tuples(coordinates, coordinates, st.floats(0.02, 0.5), st.floats(0.02, 0.5), st.floats(-0.7, 0.7))


def quadrilateral(spec, size):
    x, y, w, h, angle = spec
    corners = box(-w / 2, -h / 2, w / 2, h / 2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return ((corners @ turn.T + [x, y]) * size).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(specs=st.lists(polygons, min_size=1, max_size=4))
def test_area_targets_match_the_slow_raster_and_keep_the_area(specs):
    size, grid = 160, 5
    plan = geometry.plan_fit(size, size, size)
    words = [FakeWord("word", quadrilateral(spec, size)) for spec in specs]
    target, ignore = geometry.target_maps(words, plan, grid)
    assert target.dtype == np.float32 and target.shape == (grid, grid) and 0 <= target.min() and target.max() <= 1
    union = shapely.union_all([geometry.shrink_polygon(word.polygon) for word in words])
    visible = union.intersection(shapely.box(0, 0, size, size)).area
    assert target.sum() * (size / grid) ** 2 == pytest.approx(visible, rel=1e-4, abs=1e-2)
    fine = 4  # slow way: ask fine sub-pixels
    xs, ys = np.meshgrid(*[(np.arange(size * fine) + 0.5) / fine] * 2)
    raster = shapely.contains_xy(union, xs.ravel(), ys.ravel()).reshape(xs.shape)
    step = size * fine // grid
    slow = raster.reshape(grid, step, grid, step).mean(axis=(1, 3))
    np.testing.assert_allclose(target, slow, atol=0.02)
    assert not ignore.any()


def test_ignored_words_mask_cells_but_not_those_that_legible_text_fills():
    plan = geometry.plan_fit(64, 64, 64)
    legible, dim = FakeWord("word", box(0, 0, 32, 32)), FakeWord("###", box(0, 0, 64, 4))
    foreign, marked = (
        FakeWord("word", box(0, 40, 10, 50), script="Arabic"),
        FakeWord("word", box(40, 40, 50, 50), ignore=True),
    )
    target, ignore = geometry.target_maps([legible, dim, foreign, marked], plan, 2, shrink=0.9)
    assert target[0, 0] > 0.5 and target[0, 1] == target[1, 0] == target[1, 1] == 0
    assert ignore.tolist() == [[False, True], [True, True]]
    released = geometry.target_maps([legible, dim], plan, 2, mode="nearest")[1]
    assert released.tolist() == [
        [True, True],
        [False, False],
    ]  # the upper left pixel of both cells is under ###


def test_degenerate_and_crossed_polygons_do_no_harm():
    plan = geometry.plan_fit(64, 64, 64)
    line = FakeWord("line", np.array([[0, 0], [10, 10], [20, 20], [5, 5]], dtype=np.float32))
    crossed = FakeWord("bow", np.array([[0, 0], [60, 60], [60, 0], [0, 60]], dtype=np.float32))
    nan = FakeWord("nan", np.array([[np.nan, 0], [1, 1], [2, 0]], dtype=np.float32))
    for mode in ("area", "nearest"):
        assert geometry.target_maps([line, nan], plan, 2, mode=mode)[0].sum() == 0
    assert geometry.target_maps([crossed], plan, 2)[0].sum() > 0


def test_open_image_reads_by_content_turns_upright_and_converts(tmp_path):
    image = Image.new("RGB", (40, 20), "red")
    image.convert("P").save(tmp_path / "gif.jpg", format="GIF")  # D4: a GIF named .jpg
    opened = images.open_image(tmp_path / "gif.jpg")
    assert opened.mode == "RGB" and opened.getpixel((3, 3)) == (255, 0, 0)
    exif = image.getexif()
    exif[0x0112] = 6  # lying on its side
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert images.open_image(tmp_path / "turned.jpg").size == (20, 40)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert images.open_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    Image.fromarray(np.full((4, 4), 32896, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert images.open_image(tmp_path / "deep.png").getpixel((0, 0)) == (128, 128, 128)
    Image.new("CMYK", (4, 4)).save(tmp_path / "print.jpg")
    assert images.open_image(tmp_path / "print.jpg").mode == "RGB"


@pytest.mark.parametrize(("name", "times"), [("large.jpg", 2), ("large.png", 2), ("small.png", 1)])
def test_a_very_large_photograph_is_read_smaller(tmp_path, monkeypatch, name, times):
    monkeypatch.setattr(images, "LARGEST", 30 * 40 if times > 1 else 10**6)
    Image.fromarray(np.full((80, 60, 3), 90, np.uint8)).save(tmp_path / name)
    opened = images.open_image(tmp_path / name)
    assert opened.size == (60 // times, 80 // times) and abs(opened.getpixel((3, 3))[0] - 90) < 3


def test_corrupt_images_name_the_file(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    Image.new("RGB", (200, 200)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:400])
    for name in ("text.jpg", "cut.jpg", "none.jpg"):
        with pytest.raises(images.CorruptImage, match=name) as caught:
            images.open_image(tmp_path / name)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

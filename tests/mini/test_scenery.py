"""What surrounds the writing: pieces of photographs, light and the camera, at any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core.mini import scenery

seeds, sides = st.integers(0, 2**32 - 1), st.integers(8, 80)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=200, deadline=None)
@given(seeds, sides, sides)
def test_light_keeps_shape_and_type(seed, height, width):
    image = noise(height, width)
    before = image.copy()
    out = scenery.light(np.random.default_rng(seed), image)
    assert out.shape == image.shape and out.dtype == np.uint8
    assert (image == before).all(), "the input stays"


@settings(max_examples=200, deadline=None)
@given(seeds, sides, sides, st.sampled_from([0.3, 1.0]))
def test_the_camera_keeps_shape_and_type(seed, height, width, hard):
    image = noise(height, width)
    before = image.copy()
    out = scenery.camera(np.random.default_rng(seed), image, hard)
    assert out.shape == image.shape and out.dtype == np.uint8
    assert (image == before).all(), "the input stays"


@given(seeds, sides, sides)
def test_an_easy_camera_is_the_identity(seed, height, width):
    image = noise(height, width)
    assert (scenery.camera(np.random.default_rng(seed), image, 0) == image).all()


@pytest.mark.parametrize("damage", [scenery.light, lambda rng, image: scenery.camera(rng, image, 1.0)])
def test_damage_depends_on_the_seed_alone(damage):
    image = noise(24, 40)
    one, two = ([damage(np.random.default_rng(seed), image) for seed in range(30)] for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two))
    assert sum((out != image).any() for out in one) >= 5, "some pictures are damaged"


def test_light_makes_dark_and_bright_and_leaves_two_thirds_alone():
    grey = np.full((48, 48, 3), 120, np.uint8)
    outs = [scenery.light(np.random.default_rng(seed), grey) for seed in range(400)]
    means = np.array([out.mean() for out in outs])
    plain = sum((out == grey).all() for out in outs) / len(outs)
    assert 0.6 < plain < 0.76
    assert means.min() < 60 and means.max() > 150


@settings(max_examples=100, deadline=None)
@given(seeds, sides, sides, sides, sides, st.floats(0.05, 1.0))
def test_a_piece_has_the_asked_size(seed, height, width, photo_height, photo_width, share):
    photos = [noise(photo_height, photo_width, 1), noise(photo_width, photo_height, 2)]
    out = scenery.piece(np.random.default_rng(seed), photos, height, width, share)
    assert out.shape == (height, width, 3) and out.dtype == np.uint8 and out.flags.c_contiguous


def test_a_whole_piece_is_the_photograph_or_its_mirror_image():
    photo = noise(30, 50)
    outs = [scenery.piece(np.random.default_rng(seed), [photo], 30, 50, 1.0) for seed in range(12)]
    mirrored = [bool((out == photo[:, ::-1]).all()) for out in outs]
    assert all(m or (out == photo).all() for m, out in zip(mirrored, outs)) and 0 < sum(mirrored) < 12


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(4, 80))
def test_a_collage_fills_its_frame_with_the_photographs(seed, size):
    photos = [np.full((40, 60, 3), value, np.uint8) for value in (10, 200)]
    out = scenery.collage(np.random.default_rng(seed), photos, size)
    assert out.shape == (size, size, 3) and out.dtype == np.uint8
    assert np.isin(out, [10, 200]).all(), "no pixel is left empty"


@settings(max_examples=50, deadline=None)
@given(seeds, sides)
def test_a_procedural_background_has_its_size(seed, size):
    out = scenery.procedural_background(np.random.default_rng(seed), size)
    assert out.shape == (size, size, 3) and out.dtype == np.uint8


def test_backgrounds_are_found_below_their_folder_in_the_order_of_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    assert scenery.folder() is None
    deep = tmp_path / "bsds500" / "train"
    deep.mkdir(parents=True)
    for i, name in enumerate(("c.png", "a.PNG", "b.png")):
        Image.fromarray(np.full((4, 6), 50 * i, np.uint8)).save(deep / name)
    (deep / "readme.txt").write_text("no picture")
    assert scenery.folder() == str(tmp_path / "bsds500") and scenery.folder("elsewhere") == "elsewhere"
    photos = scenery.load_backgrounds(scenery.folder())
    assert [photo.shape for photo in photos] == [(4, 6, 3)] * 3 and [int(p[0, 0, 0]) for p in photos] == [50, 100, 0]
    assert len(scenery.load_backgrounds(tmp_path, limit=2)) == 2

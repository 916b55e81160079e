"""The feature cache: right numbers, right key, safe under interruption, honest about what it cannot read."""

import numpy as np
import pytest
import torch
from eval_fakes import FakeBackbone, draw, gallery

from fdp_core.datasets import Gallery, Photo
from fdp_core.datasets.images import open_image
from fdp_core.files import atomic_write_bytes
from fdp_core.retrieval import features, geometry
from fdp_core.retrieval.compiled import compiled_trunk


def run(backbone, shown, cache=None, **options):
    options = {"image_size": 64, "progress": False, "batch_size": 2, **options}
    return features.trunk_features(backbone, shown, cache_dir=cache, **options)


def test_rows_equal_the_slow_way(tmp_path):
    shown, backbone = gallery(tmp_path / "g"), FakeBackbone()
    store = run(backbone, shown, tmp_path / "cache")
    assert store.array.dtype == np.float16 and store.array.shape == (5, 3, 2, 2) and store.ok.all()
    for row, photo in enumerate(shown.photos):
        pixels, placed = geometry.fit_image(open_image(photo.path), 64, mode="letterbox")
        expected = backbone.trunk(backbone.normalise(torch.from_numpy(pixels[None]))).half().numpy()[0]
        np.testing.assert_array_equal(store.array[row], expected)
        assert store.geometries[row] == placed
    assert store.batch(np.array([1, 3])).dtype == torch.float32


def test_the_fast_trunk_gives_the_same_features(tmp_path):
    import tiny

    shown, backbone = gallery(tmp_path / "g", 3), tiny.backbone()
    ways = (None, "float32", "bfloat16")
    plain, folded, half = (run(backbone, shown, precision=way).array.astype(np.float32) for way in ways)
    np.testing.assert_allclose(folded, plain, rtol=1e-2, atol=2e-3 * np.abs(plain).max())
    assert 1e-4 < np.linalg.norm(half - plain) / np.linalg.norm(plain) < 0.05
    cached = run(backbone, shown, tmp_path / "cache", precision="float32")
    np.testing.assert_array_equal(cached.array, folded.astype(np.float16))
    for way in ("bfloat16", "openvino"):
        with pytest.raises(ValueError, match=f"no rows in {way}"):
            run(backbone, shown, tmp_path / "cache", precision=way)


def test_the_compiled_trunk_gives_nearly_the_same_features(tmp_path):
    import tiny

    pytest.importorskip("openvino")
    shown, backbone = gallery(tmp_path / "g", 3), tiny.backbone()
    plain, fast = (run(backbone, shown, precision=way).array.astype(np.float32) for way in (None, "openvino"))
    assert np.linalg.norm(fast - plain) < 0.01 * np.linalg.norm(plain), "float32 on every processor"
    assert compiled_trunk(backbone) is compiled_trunk(backbone)


def test_memory_and_cache_agree_and_the_second_call_computes_nothing(tmp_path):
    shown = gallery(tmp_path / "g")
    first, again, backbone = FakeBackbone(), FakeBackbone(), FakeBackbone()
    in_memory, cached = run(backbone, shown), run(first, shown, tmp_path / "cache")
    stored = run(again, shown, tmp_path / "cache")
    np.testing.assert_array_equal(in_memory.array, cached.array)
    np.testing.assert_array_equal(in_memory.array, stored.array)
    assert (first.seen, again.seen) == (5, 0)
    assert (cached.computed, stored.computed) == (5, 0)
    assert stored.geometries == in_memory.geometries
    with pytest.raises((ValueError, TypeError)):
        stored.array[0][:] = 0  # read-only: nobody may scribble into the cache


@pytest.mark.parametrize("change", ["weights", "size", "fit", "content"])
def test_every_part_of_the_key_counts(tmp_path, change):
    shown, cache = gallery(tmp_path / "g"), tmp_path / "cache"
    run(FakeBackbone(), shown, cache)
    backbone, options, fresh = FakeBackbone(), {}, 5
    if change == "weights":
        backbone.weights_hash = "1" * 64
    elif change == "size":
        options["image_size"] = 96
    elif change == "fit":
        options["fit"] = "centre_crop"
    else:
        draw(shown.photos[2].path, 99)
        fresh = 1  # the other four are those of before
    store = run(backbone, shown, cache, **options)
    assert backbone.seen == fresh
    np.testing.assert_array_equal(store.array, run(FakeBackbone(), shown, **options).array)


def test_an_interrupted_run_goes_on(tmp_path):
    shown, cache = gallery(tmp_path / "g"), tmp_path / "cache"

    class Dies(FakeBackbone):
        def trunk(self, images):
            if self.seen >= 4:
                raise KeyboardInterrupt
            return super().trunk(images)

    with pytest.raises(KeyboardInterrupt):
        run(Dies(), shown, cache)
    assert len(list(cache.rglob("*.f16"))) == 4  # what was finished is there
    backbone = FakeBackbone()
    store = run(backbone, shown, cache)
    assert backbone.seen == 1
    np.testing.assert_array_equal(store.array, run(FakeBackbone(), shown).array)
    assert run(Dies(), shown, cache).ok.all()


def test_a_disk_that_fills_up_is_said_and_loses_nothing(tmp_path, monkeypatch):
    shown, cache = gallery(tmp_path / "g"), tmp_path / "cache"
    writes = []

    def full_at_the_fourth(path, data):
        writes.append(path)
        if len(writes) == 4:
            raise OSError(28, "No space left on device")
        return atomic_write_bytes(path, data)

    monkeypatch.setattr(features, "atomic_write_bytes", full_at_the_fourth)
    with pytest.raises(features.NoSpace, match="No space left.*What it holds stays"):
        run(FakeBackbone(), shown, cache)
    monkeypatch.undo()
    backbone = FakeBackbone()
    run(backbone, shown, cache)
    assert backbone.seen == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "no JSON", "no object"])
def test_a_damaged_row_is_made_again(tmp_path, damage):
    shown, cache = gallery(tmp_path / "g"), tmp_path / "cache"
    run(FakeBackbone(), shown, cache)
    file = sorted(cache.rglob("*.f16"))[2]
    data = file.read_bytes()
    line, row = data.split(b"\n", 1)
    file.write_bytes({"cut": data[:-7], "empty": b"", "no JSON": b"{\n" + row, "no object": b"5\n" + row}[damage])
    backbone = FakeBackbone()
    np.testing.assert_array_equal(run(backbone, shown, cache).array, run(FakeBackbone(), shown).array)
    assert backbone.seen == 1


def flip(file, place):
    data = bytearray(file.read_bytes())
    data[place if place < 0 else data.index(b"\n") + 1 + place] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize("place", [0, 17, -1])
def test_a_flipped_bit_is_found_and_its_row_alone_is_made_again(tmp_path, place):
    shown, cache = gallery(tmp_path / "g"), tmp_path / "cache"
    expected = np.array(run(FakeBackbone(), shown, cache).array)
    flip(sorted(cache.rglob("*.f16"))[1], place)
    backbone = FakeBackbone()
    np.testing.assert_array_equal(run(backbone, shown, cache).array, expected)
    assert backbone.seen == 1
    backbone = FakeBackbone()
    np.testing.assert_array_equal(run(backbone, shown, cache).array, expected)
    assert backbone.seen == 0


def test_rows_are_read_by_number_slice_integers_and_mask(tmp_path):
    shown = gallery(tmp_path / "g")
    array, expected = run(FakeBackbone(), shown, tmp_path / "cache").array, run(FakeBackbone(), shown).array
    assert array.shape == expected.shape and array.dtype == expected.dtype and len(array) == 5
    for rows in (2, np.int64(-1), slice(1, 4), np.array([3, 0]), [4, 4], np.array([True, False, True, False, True])):
        np.testing.assert_array_equal(array[rows], expected[rows])


@pytest.mark.parametrize("cached", [False, True])
def test_corrupt_photographs_are_named_and_the_rest_goes_on(tmp_path, cached):
    shown = gallery(tmp_path / "g", corrupt=(1, 3))
    shown.photos[3].path.unlink()
    cache = tmp_path / "cache" if cached else None
    with pytest.warns(features.CorruptPhotographs, match=r"(?s)2 photograph.*01\.png.*03\.png"):
        store = run(FakeBackbone(), shown, cache)
    assert store.ok.tolist() == [True, False, True, False, True]
    assert [name for name, _ in store.errors] == ["01.png", "03.png"]
    assert str(tmp_path) not in features.error_report(store.errors)
    assert not store.array[1].any() and store.geometries[1] is None
    draw(shown.photos[1].path, 1)
    draw(shown.photos[3].path, 3)
    backbone = FakeBackbone()
    mended = run(backbone, shown, cache)
    assert mended.ok.all() and backbone.seen == (2 if cached else 5)


def test_features_beyond_half_precision_are_an_error_of_their_photograph(tmp_path):
    class Loud(FakeBackbone):
        def trunk(self, images):
            return super().trunk(images) + torch.tensor([0.0, 1e6]).repeat(len(images))[: len(images), None, None, None]

    with pytest.warns(features.CorruptPhotographs, match="half precision"):
        store = run(Loud(), gallery(tmp_path / "g", 2))
    assert store.ok.tolist() == [True, False]


def test_a_full_disk_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: type("U", (), {"free": 3})())
    backbone = FakeBackbone()
    with pytest.raises(features.NoSpace, match="cache_dir"):
        run(backbone, gallery(tmp_path / "g"), tmp_path / "cache")
    assert backbone.seen == 0 and not [p for p in (tmp_path / "cache").iterdir()]


def test_too_much_for_the_memory_is_said_before_the_work(tmp_path):
    backbone = FakeBackbone()
    backbone.width = 10**12
    with pytest.raises(MemoryError, match="cache_dir"):
        run(backbone, gallery(tmp_path / "g"))


def test_empty_gallery(tmp_path):
    store = run(FakeBackbone(), Gallery("none", "test", (), "", True), tmp_path)
    assert len(store) == 0 and store.array.shape == (0, 3, 2, 2)


def test_the_same_photograph_twice_is_taken_for_another_gallery(tmp_path):
    shown, cache = gallery(tmp_path / "g", 3), tmp_path / "cache"
    whole = run(FakeBackbone(), shown, cache)
    twice = Gallery("sub", "train", (shown.photos[2], Photo("copy", shown.photos[2].path, ())), "", True)
    backbone = FakeBackbone()
    store = run(backbone, twice, cache)
    assert backbone.seen == 0
    np.testing.assert_array_equal(store.array, whole.array[[2, 2]])

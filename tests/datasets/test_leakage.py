"""Copies of photographs are found whatever was done to their files; other photographs are not."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import Gallery, Photo, images
from fdp_core.datasets.__main__ import main
from fdp_core.datasets.leakage import DISTANCE, Fingerprints, compare, fingerprints, near_duplicates, nearest


def gallery(folder: Path, name: str = "made") -> Gallery:
    paths = sorted(path for path in folder.iterdir() if path.suffix != ".csv")
    return Gallery(name, "test", tuple(Photo(path.name, path) for path in paths), "", True)


@pytest.fixture(scope="module")
def scenes():
    """Eight photographs that come with the package."""
    return datasets.load("mini")[0].photos[::19][:8]


def codes(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, dtype=np.uint64).reshape(-1, 4)


# -------------------------------------------------------------------------------------------------- comparing bits


def test_bits_are_counted_by_hand():
    a = Fingerprints(("a0", "a1"), codes([[0, 0, 0, 0], [2**64 - 1, 0, 0, 0]]), {})
    b = Fingerprints(("b0", "b1", "b2"), codes([[0b111, 0, 0, 0], [0, 0, 0, 1 << 63], [2**64 - 1] * 4]), {})
    assert compare(a, b, 3) == [("a0", "b1", 1), ("a0", "b0", 3)]  # b2 differs from a0 in all 256, from a1 in 192
    assert compare(a, b, 1) == [("a0", "b1", 1)] and compare(a, b, 0) == []
    # the nearest first; a0 b2 is 256 apart, which does not fit into one byte
    assert [pair.bits for pair in compare(a, b, 256)] == [1, 3, 61, 65, 192, 256]
    assert nearest(a, b).tolist() == [3, 1, 192]
    for distance in (-1, 257):
        with pytest.raises(ValueError, match="0 to 256"):
            compare(a, b, distance)


def test_an_empty_gallery():
    none = Fingerprints((), codes([]), {})
    one = Fingerprints(("x",), codes([[0, 0, 0, 0]]), {})
    assert compare(none, one) == compare(one, none) == compare(none, none) == []
    assert nearest(none, one).tolist() == [256] and nearest(one, none).tolist() == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(90, 160))
def test_packed_bits_agree_with_plain_ones(seed, rows, columns, distance):
    rng = np.random.default_rng(seed)
    first, second = (rng.random((count, 256)) < 0.5 for count in (rows, columns))
    made = [
        Fingerprints(tuple(f"{i:02}" for i in range(len(bits))), np.packbits(bits, axis=1).view(np.uint64), {})
        for bits in (first, second)
    ]
    plain = (first[:, None] != second[None]).sum(axis=2)
    expected = {(f"{i:02}", f"{j:02}", int(plain[i, j])) for i, j in np.argwhere(plain <= distance)}
    found = compare(*made, distance)
    assert set(found) == expected and len(found) == len(expected)
    assert found == sorted(found, key=lambda pair: (pair.bits, pair.a, pair.b))


def test_blocks_join_without_seam():
    rng = np.random.default_rng(0)
    many = rng.integers(0, 2**63, (1300, 4), dtype=np.uint64)
    ids = tuple(f"{i:04}" for i in range(1300))
    a = Fingerprints(ids, many, {})
    b = Fingerprints(ids, many[::-1].copy(), {})  # 1300 columns: blocks of 384 rows
    assert {(pair.a, pair.b) for pair in compare(a, b, 0)} == {(ids[i], ids[1299 - i]) for i in range(1300)}


# -------------------------------------------------------------------------------------------------- photographs


def copy_of(image: Image.Image, how: str, path: Path) -> None:
    width, height = image.size
    if how == "encoded anew":
        image.save(path.with_suffix(".jpg"), quality=25)
    elif how == "resized":
        image.resize((width // 3, height // 3)).save(path.with_suffix(".png"))
    elif how == "squeezed":
        image.resize((width, height // 2)).save(path.with_suffix(".webp"), quality=60)
    elif how == "cut":
        image.crop((width // 80, height // 80, width - width // 80, height - height // 80)).save(
            path.with_suffix(".bmp")
        )
    elif how == "grey":
        image.convert("L").save(path.with_suffix(".jpg"), quality=80)
    elif how == "turned by EXIF":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.rotate(90, expand=True).save(path.with_suffix(".jpg"), quality=90, exif=exif)
    else:
        half = image.crop((width // 100, 0, width, height - height // 100)).resize((width // 2, height // 2))
        half.save(path.with_suffix(".jpg"), quality=50)


@pytest.mark.parametrize(
    "how", ["encoded anew", "resized", "squeezed", "cut", "grey", "turned by EXIF", "cut, resized, encoded anew"]
)
def test_copies_are_found_and_nothing_else(tmp_path, scenes, how):
    for photo in scenes:
        copy_of(images.open_image(photo.path), how, tmp_path / Path(photo.id).stem)
    shown = Gallery("scenes", "train", tuple(scenes), "", True)
    pairs = near_duplicates(shown, gallery(tmp_path))
    assert [(Path(pair.a).stem, Path(pair.b).stem) for pair in sorted(pairs)] == [
        (Path(photo.id).stem,) * 2 for photo in scenes
    ]
    assert all(0 <= pair.bits <= DISTANCE for pair in pairs)


def test_shipped_training_scenes_are_none_of_the_gallery():
    assert near_duplicates(datasets.load("mini_train")[0], datasets.load("mini")[0]) == []


def test_the_same_file_differs_in_no_bit(scenes):
    shown = Gallery("scenes", "test", tuple(scenes), "", True)
    pairs = near_duplicates(shown, shown, distance=0)
    assert [(pair.a, pair.b, pair.bits) for pair in pairs] == [(photo.id, photo.id, 0) for photo in scenes]


def test_what_cannot_be_read_is_named_and_left_out(tmp_path, scenes):
    (tmp_path / "cut.jpg").write_bytes(scenes[0].path.read_bytes()[:200])
    (tmp_path / "text.png").write_text("no photograph")
    (tmp_path / "whole.jpg").write_bytes(scenes[0].path.read_bytes())
    broken = gallery(tmp_path)
    made = fingerprints(broken.photos)
    assert made.ids == ("whole.jpg",) and set(made.unreadable) == {"cut.jpg", "text.png"}
    assert made.codes.shape == (1, 4) and made.codes.dtype == np.uint64
    shown = Gallery("scenes", "test", tuple(scenes), "", True)
    with pytest.warns(UserWarning, match="made/test: 2 photographs could not be read.*cut.jpg"):
        pairs = near_duplicates(shown, broken)
    assert [(pair.a, pair.b, pair.bits) for pair in pairs] == [(scenes[0].id, "whole.jpg", 0)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert near_duplicates(shown, shown, distance=0)


# ------------------------------------------------------------------------------------------------------ command


def test_the_command_says_what_it_found(tmp_path, scenes, capsys):
    for name, photos in (("train", scenes[:3]), ("test", scenes[2:4]), ("clean", scenes[4:])):
        (tmp_path / name).mkdir()
        for photo in photos:
            copy_of(images.open_image(photo.path), "resized", tmp_path / name / Path(photo.id).stem)
    (tmp_path / "test" / "broken.png").write_text("no photograph")
    train, test, clean = (str(tmp_path / name) for name in ("train", "test", "clean"))
    assert main(["leakage", train, test]) == 1
    told = capsys.readouterr().out
    stem = Path(scenes[2].id).stem
    assert f"{stem}.png\t{stem}.png\t0 of 256 bits differ" in told and "1 pairs look alike" in told
    assert "train/train: 3 photographs" in told and "test/test: 2 photographs" in told and "broken.png" in told
    assert main(["leakage", train, clean]) == 0
    assert "no photograph of one looks like one of the other" in capsys.readouterr().out
    assert main(["leakage", train, clean, "--distance", "256"]) == 1
    assert main(["leakage", train, str(tmp_path / "nowhere")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert main(["leakage", train, clean, "--distance", "999"]) == 1
    assert "0 to 256" in capsys.readouterr().err


def test_a_set_of_one_split_is_taken_as_it_is(capsys):
    assert main(["leakage", "mini_train", "mini"]) == 0
    assert "mini_train/train: 200 photographs" in capsys.readouterr().out
    assert main(["leakage", "mini", "mini_train"]) == 0


@pytest.mark.needs_data
def test_svt_train_against_svt_test(real_data):
    real_data("svt")
    train, test = (fingerprints(datasets.load("svt", split)[0].photos) for split in ("train", "test"))
    assert (len(train.ids), len(test.ids), train.unreadable, test.unreadable) == (100, 249, {}, {})
    assert compare(train, test) == []
    nearest = compare(train, test, 128)[0].bits
    assert DISTANCE < nearest < 128  # far from a false alarm, and the comparison does compare

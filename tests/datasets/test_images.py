"""What people's folders really hold: each kind of file is read rightly, or left out in plain words."""

import os
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from fdp_core.datasets import images, load_folder
from fdp_core.files import sha256_file, sha256_of


def picture(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10), "red").save(path, **options)
    return path


def ids(folder, **options):
    return [photo.id for photo in load_folder(folder, **options).photos]


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_a_name_that_is_not_utf_8_stands_beside_good_ones(tmp_path):
    picture(tmp_path / "good.png")
    os.rename(picture(tmp_path / "bad.png"), os.fsencode(tmp_path) + b"/caf\xe9.png")
    shown = load_folder(tmp_path)
    assert [photo.id for photo in shown.photos] == ["caf\\xe9.png", "good.png"]
    for photo in shown.photos:
        photo.id.encode()  # it can be printed
        assert images.open_image(photo.path).size == (20, 10)
        photo.path.write_bytes(b"none")
        with pytest.raises(images.CorruptImage) as caught:
            images.open_image(photo.path)
        str(caught.value).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_names_that_would_look_the_same_are_told_apart_and_none_commands_a_terminal(tmp_path):
    for name in (
        b"a\xe9.png",
        b"a\\xe9.png",
        b"a\\\\xe9.png",
        b"b\n.png",
        b"b\\x0a.png",
        b"c\x1b[31m.png",
        b"d\\e.png",
    ):
        os.rename(picture(tmp_path / "new.png"), os.fsencode(tmp_path) + b"/" + name)
    found = [photo.id for photo in load_folder(tmp_path).photos]
    assert len(set(found)) == 7 and "\n" not in "".join(found) and "\x1b" not in "".join(found)
    assert {r"a\xe9.png", r"a\\xe9.png", r"b\x0a.png", r"c\x1b[31m.png", r"d\e.png"} <= set(found)


@pytest.mark.parametrize("name", ["a.AVIF", "a.jfif", "a.jpe", "a.mpo", "a.tiff", "a.gif", "a.bmp", "a.webp"])
def test_every_kind_that_is_meant_is_read(tmp_path, name):
    kind = {"jfif": "JPEG", "jpe": "JPEG", "mpo": "MPO", "AVIF": "AVIF"}.get(name[2:])
    picture(tmp_path / name, format=kind)
    assert ids(tmp_path) == [name]
    red, *_ = images.open_image(tmp_path / name).getpixel((5, 5))
    assert red > 240


def test_other_pictures_are_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "SUFFIXES", (".jpg",))
    picture(tmp_path / "a.jpg")
    for name in ("1.heic", "2.HEIC", "3.dng", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(images.LeftOut, match=r"^3 files left out: \.dng, \.heic\..*fdp-core\[heic\]") as told:
        assert ids(tmp_path) == ["a.jpg"]
    assert len(told) == 1


@pytest.mark.skipif("HEIF" not in Image.ID, reason="the extra [heic] is not installed")
def test_heic_is_read_where_the_extra_is_installed(tmp_path):
    picture(tmp_path / "a.heic", format="HEIF")
    assert ids(tmp_path) == ["a.heic"] and images.open_image(tmp_path / "a.heic").size == (20, 10)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize(("ink", "ground"), [(255, 0), (0, 255), (230, 0), (40, 255)])
def test_letters_on_a_transparent_ground_can_be_seen(tmp_path, mode, kind, ink, ground):
    image = Image.new("RGBA", (20, 10), (255, 255, 255, 0))
    image.paste((ink, ink, ink, 255), (5, 2, 9, 8))
    image.convert(mode).save(tmp_path / f"a.{kind}", lossless=True)
    opened = np.asarray(images.open_image(tmp_path / f"a.{kind}"))
    assert abs(int(opened[5, 6, 0]) - ink) < 4 and abs(int(opened[0, 0, 0]) - ground) < 4


@pytest.mark.parametrize(
    ("dtype", "top"), [(np.float32, 1), (np.float32, 255), (np.int32, 255), (np.uint16, 4095), (np.uint16, 65535)]
)
def test_numbers_of_more_than_eight_bits_are_scaled_by_their_range(tmp_path, dtype, top):
    values = (np.linspace(0, 1, 64).reshape(8, 8) * top).astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    opened = np.asarray(images.open_image(tmp_path / "a.tif"))[..., 0]
    np.testing.assert_allclose(opened.ravel(), np.linspace(0, 255, 64), atol=1.5)


def test_odd_numbers_are_shown_by_their_own_range(tmp_path):
    values = np.array([[-3.0, np.nan], [0.0, 7.0]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.asarray(images.open_image(tmp_path / "a.tif"))[..., 0].tolist() == [[0, 76], [76, 255]]


@pytest.mark.parametrize("top", [255, 4095, 30000, 65535])
def test_colours_of_sixteen_bits_are_scaled_by_their_range(tmp_path, top):
    values = (np.linspace(0, 1, 64)[:, None] * np.array([top, top / 2, top / 4])).astype(np.uint16).reshape(8, 8, 3)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    parts = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    opened = np.asarray(images.open_image(tmp_path / "a.png"))
    largest = 255 * top / next(each for each in (255, 4095, 65535) if each >= top)
    np.testing.assert_allclose(opened, values / top * largest, atol=1.5)


def test_numbers_of_32_bits_have_a_sign_only_where_the_file_says_so(tmp_path):
    Image.fromarray(np.uint32([[0, 2**31], [2**31, 2**32 - 1]]).view(np.int32)).save(tmp_path / "a.tif")
    signed = [struct.pack("<HHII", 339, 3, 1, kind) for kind in (2, 1)]
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes().replace(*signed))
    assert np.asarray(images.open_image(tmp_path / "a.tif"))[..., 0].tolist() == [[0, 128], [128, 255]]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_tiff_is_turned_upright_whatever_its_mode_and_wherever_it_lies(tmp_path, mode, orientation):
    values = np.zeros((20, 40), np.uint8)
    values[:8, :30] = 200
    shown = Image.fromarray(values.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(values).convert(mode)
    shown.save(tmp_path / "a.tif", tiffinfo={274: orientation})
    upright = np.rot90(values, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    for source in (tmp_path / "a.tif", (tmp_path / "a.tif").read_bytes()):
        np.testing.assert_allclose(np.asarray(images.open_image(source))[..., 0], upright, atol=1)


@pytest.mark.parametrize("top", [1e-4, 0.01])
def test_small_fractions_are_no_black_picture(tmp_path, top):
    Image.fromarray(np.float32([[0, top / 2], [top / 2, top]])).save(tmp_path / "a.tif")
    assert np.asarray(images.open_image(tmp_path / "a.tif"))[..., 0].tolist() == [[0, 128], [128, 255]]


def test_fractions_that_rise_above_one_are_no_black_picture(tmp_path):
    values = np.float32([[0, 0.25], [0.5, 1.04]])  # as a sharper or larger copy has them
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.asarray(images.open_image(tmp_path / "a.tif"))[..., 0].tolist() == [[0, 64], [128, 255]]


def test_a_folder_that_cannot_be_read_is_told_of(tmp_path, monkeypatch):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "shut" / "b.jpg")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(images.LeftOut, match=r"shut left out: Permission denied"):
        assert ids(tmp_path) == ["a.jpg"]


def test_recycle_bins_and_small_copies_are_left_out(tmp_path):
    for name in (
        "@eaDir/a.jpg",
        "#recycle/a.jpg",
        "__MACOSX/a.jpg",
        ".trash/a.jpg",
        "album/.hidden.jpg",
        "@Recycle/a.jpg",
        "RECYCLED/a.jpg",
        "Photos.photoslibrary/resources/derivatives/a.jpg",
        "LOST.DIR/a.jpg",
    ):
        picture(tmp_path / name)
    for name in ("album/a.jpg", "Eadir/a.jpg"):
        picture(tmp_path / name)
    assert ids(tmp_path) == ["Eadir/a.jpg", "album/a.jpg"]
    assert ids(tmp_path, exclude=["alb*", ".*", "[#@_]*", "recycled", "Photos*", "lost*"]) == ["Eadir/a.jpg"]
    assert len(ids(tmp_path, exclude=[])) == 11


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_linked_albums_are_followed_on_request_and_loops_do_no_harm(tmp_path):
    picture(tmp_path / "elsewhere" / "b.jpg")
    picture(tmp_path / "library" / "a.jpg")
    (tmp_path / "library" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "library" / "loop").symlink_to(tmp_path / "library")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path)
    assert ids(tmp_path / "library") == ["a.jpg"]
    assert ids(tmp_path / "library", follow_links=True) == ["a.jpg", "linked/b.jpg"]
    (tmp_path / "library" / "album").mkdir()
    (tmp_path / "library" / "album" / "link").symlink_to("../own")
    picture(tmp_path / "library" / "own" / "c.jpg")
    assert ids(tmp_path / "library", follow_links=True) == ["a.jpg", "linked/b.jpg", "own/c.jpg"]


def test_postscript_is_not_handed_to_another_program(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(images.CorruptImage, match=r"a\.jpg"):
        images.open_image(tmp_path / "a.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_what_is_no_regular_file_is_never_read(tmp_path):
    picture(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    assert ids(tmp_path) == ["a.jpg"]
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(images.CorruptImage, match="no regular file"):
            images.open_image(tmp_path / name)
        with pytest.raises(OSError, match="no regular file"):
            sha256_file(tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="files of the kernel")
def test_a_file_that_says_it_is_empty_is_not_read(tmp_path):
    (tmp_path / "kernel.jpg").symlink_to("/proc/self/status")  # others there, such as /proc/kmsg, never end
    assert sha256_file(tmp_path / "kernel.jpg") == sha256_of(b"")
    for source in (tmp_path / "kernel.jpg", b""):
        with pytest.raises(images.CorruptImage, match="it is empty"):
            images.open_image(source)


def test_too_large_is_said_in_plain_words(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    for largest, limit in ((100, 10**9), (10**9, 60)):
        monkeypatch.setattr(images, "TOO_LARGE", largest)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(images.CorruptImage, match="more than the 1?0* megapixels that are read"):
            images.open_image(tmp_path / "a.png")


def test_when_a_photograph_was_taken(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 10:20:30"
    assert images.date_taken(picture(tmp_path / "a.jpg", exif=exif)).isoformat() == "2024-05-01T10:20:30"
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    for name, options in (("b.jpg", {"exif": exif}), ("c.jpg", {}), ("d.png", {})):
        assert images.date_taken(picture(tmp_path / name, **options)) is None


def test_a_photograph_in_memory(tmp_path):
    data = picture(tmp_path / "a.png").read_bytes()
    assert images.open_image(data).size == (20, 10) and not images.fault(data) and images.fault(b"no picture")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.fault(data[:40])

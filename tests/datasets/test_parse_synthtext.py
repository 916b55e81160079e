"""SynthText's gt.mat and the XML of SynthText-90k, written here as the real files are, with their traps."""

import hashlib
import json
import shutil
import tarfile
import warnings
from xml.sax.saxutils import escape

import numpy as np
import pytest
import scipy.io
import yaml
from hostile_server import Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import ParseError
from fdp_core.datasets.formats import synthtext, xml_boxes
from fdp_core.datasets.manifest import manifest, manifests_folder

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CORRUPT = manifest("synthtext").split()[1]["layout"]["skip"]
LAYOUT = {"annotations": ["SynthText/gt.mat"], "images": ["SynthText"], "skip": CORRUPT}
QUAD = np.array([[10.5, 2], [90, 4], [88, 30], [9, 28]], dtype=np.float32)  # clockwise from the top left


def boxes(count, shift=100):
    """Return wordBB [2, 4, n] of n words beside each other; [2, 4] where n = 1, as MATLAB drops a last 1."""
    stacked = np.stack([QUAD.T + np.array([[shift * n], [0]], dtype=np.float32) for n in range(count)], axis=2)
    return stacked[:, :, 0] if count == 1 else stacked


def cell_row(values):
    """Make a MATLAB cell array 1 x N."""
    row = np.empty((1, len(values)), dtype=object)
    for index, value in enumerate(values):
        row[0, index] = value
    return row


def write_mat(path, images, compressed=False, **change):
    """Write gt.mat: images are (name, wordBB, rows of text); a row is padded to the longest, as in a char matrix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "imnames": cell_row([name for name, _, _ in images]),
        "wordBB": cell_row([box for _, box, _ in images]),
        "charBB": cell_row([np.zeros((2, 4, 7), dtype=np.float32) for _ in images]),
        "txt": cell_row([np.array(rows) for _, _, rows in images]),
    } | change
    scipy.io.savemat(
        path, {key: value for key, value in content.items() if value is not None}, do_compression=compressed
    )


# What the readme calls a word: no white space in it. A row holds words of one region, cut at spaces and line ends.
WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)
ROW = st.lists(st.tuples(WORD, st.sampled_from([" ", "\n", "  ", "\n ", " \n"])), min_size=1, max_size=4)
IMAGE = st.lists(ROW, min_size=1, max_size=4)


@QUICK
@given(images=st.lists(IMAGE, min_size=1, max_size=4), compressed=st.booleans())
def test_round_trip(tmp_path, images, compressed):
    path = tmp_path / "SynthText" / "gt.mat"
    expected, written = {}, []
    for number, rows in enumerate(images):
        words = [word for row in rows for word, _ in row]
        text = ["".join(word + gap for word, gap in row) for row in rows]
        name = f"{number + 1}/ant+hill_{number}_0.jpg"
        expected[name] = words
        written.append((name, boxes(len(words)), text))
    write_mat(path, written, compressed)
    parsed = synthtext.parse_synthtext(tmp_path, LAYOUT)
    assert {photo.id: [word.text for word in photo.words] for photo in parsed.photos} == expected
    for photo in parsed.photos:
        assert photo.path == tmp_path / "SynthText" / photo.id
        for number, word in enumerate(photo.words):
            assert word.polygon.dtype == np.float32 and not word.ignore
            np.testing.assert_array_equal(word.polygon, QUAD + [100 * number, 0])


def test_the_written_file_is_as_the_real_one(tmp_path):
    """What scipy makes of the real file: rows padded to one length, a box without its third dimension."""
    path = tmp_path / "gt.mat"
    write_mat(
        path, [("8/ballet_106_0.jpg", boxes(5), ["Lines:\nI lost", "Kevin", "will "]), ("1/b.jpg", boxes(1), ["x"])]
    )
    raw = scipy.io.loadmat(path)
    assert raw["imnames"].shape == raw["wordBB"].shape == raw["txt"].shape == (1, 2)
    assert raw["imnames"][0, 0].tolist() == ["8/ballet_106_0.jpg"]
    assert raw["txt"][0, 0].tolist() == ["Lines:\nI lost", "Kevin        ", "will         "]
    assert raw["wordBB"][0, 0].shape == (2, 4, 5) and raw["wordBB"][0, 1].shape == (2, 4)
    first, second = synthtext.read_photos(path, tmp_path)
    assert (first.id, second.id) == ("1/b.jpg", "8/ballet_106_0.jpg"), "in the order of their names"
    assert [word.text for word in second.words] == ["Lines:", "I", "lost", "Kevin", "will"]
    np.testing.assert_array_equal(first.words[0].polygon, QUAD)


def test_images_without_words_and_boxes_beyond_the_image_stay(tmp_path):
    write_mat(tmp_path / "gt.mat", [("1/a.jpg", np.zeros((0, 0)), [" "]), ("1/b.jpg", boxes(1) - 500, ["x"]),
                                    ("1/c.jpg", np.zeros((2, 4, 0)), ["\n"])])  # fmt: skip
    photos = synthtext.read_photos(tmp_path / "gt.mat", tmp_path)
    assert [len(photo.words) for photo in photos] == [0, 1, 0]
    assert photos[1].words[0].polygon.max() < 0


def test_whole_numbers_and_doubles_are_read(tmp_path):
    write_mat(tmp_path / "gt.mat", [("1/a.jpg", boxes(2).astype(np.float64), ["a b"]),
                                    ("1/b.jpg", np.round(boxes(1)).astype(np.int32), ["x"])])  # fmt: skip
    photos = synthtext.read_photos(tmp_path / "gt.mat", tmp_path)
    assert all(word.polygon.dtype == np.float32 for photo in photos for word in photo.words)


def test_the_characters_boxes_are_not_read(tmp_path, monkeypatch):
    write_mat(tmp_path / "gt.mat", [("1/a.jpg", boxes(1), ["x"])])
    read, found = scipy.io.loadmat, []

    def loading(*args, **kwargs):
        found.append(read(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr(scipy.io, "loadmat", loading)
    synthtext.read_photos(tmp_path / "gt.mat", tmp_path)
    assert {name for name in found[0] if not name.startswith("__")} == {"imnames", "wordBB", "txt"}
    write_mat(tmp_path / "gt.mat", [("1/a.jpg", boxes(1), ["x"])], charBB=None)
    assert len(synthtext.read_photos(tmp_path / "gt.mat", tmp_path)) == 1, "nor missed"


def test_the_corrupt_images_are_left_out_with_a_warning(tmp_path):
    names = [
        "67/fruits_129_18.jpg",
        "67/fruits_12_9.jpg",
        "194/window_19_96.jpg",
        "94/window_19_96.jpg",
        "67/fruits_1290_1.jpg",
    ]
    # the corrupt ones are not even looked at: their boxes and words do not agree
    write_mat(tmp_path / "SynthText" / "gt.mat", [(name, boxes(1), ["a b" if name in (names[0], names[2]) else "a"])
                                                  for name in names])  # fmt: skip
    with pytest.warns(UserWarning, match=r"2 images known to be wrong left out .67/fruits_129_\*, 194/window_19_\*"):
        parsed = synthtext.parse_synthtext(tmp_path, LAYOUT)
    assert [photo.id for photo in parsed.photos] == [
        "67/fruits_1290_1.jpg",
        "67/fruits_12_9.jpg",
        "94/window_19_96.jpg",
    ]
    with pytest.raises(ParseError, match="67/fruits_129_18.jpg: 1 boxes in wordBB, but 2 words in txt"):
        synthtext.parse_synthtext(tmp_path, LAYOUT | {"skip": []})
    write_mat(tmp_path / "SynthText" / "gt.mat", [("1/a.jpg", boxes(1), ["x"])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        synthtext.parse_synthtext(tmp_path, LAYOUT)


GOOD = ("1/good.jpg", boxes(1), ["x"])


@pytest.mark.parametrize(
    ("images", "change", "message"),
    [
        ([GOOD, ("1/a.jpg", boxes(3), ["two words"])], {}, "image 1/a.jpg: 3 boxes in wordBB, but 2 words in txt"),
        ([GOOD, ("1/a.jpg", boxes(1), [" \n "])], {}, "image 1/a.jpg: 1 boxes in wordBB, but 0 words"),
        ([GOOD, ("1/a.jpg", np.zeros((4, 2)), ["x"])], {}, r"1/a.jpg: expected wordBB of shape \[2, 4, n\], found"),
        ([GOOD, ("1/a.jpg", np.zeros((2, 4, 1, 2)), ["x y"])], {}, r"found \[2, 4, 1, 2\]"),
        ([GOOD, ("1/a.jpg", "text", ["x"])], {}, "image 1/a.jpg: expected wordBB"),
        ([GOOD, ("1/a.jpg", boxes(1) * np.nan, ["x"])], {}, "image 1/a.jpg: .*expected finite"),
        ([GOOD, GOOD], {}, "image 1/good.jpg occurs twice"),
        ([GOOD, ("../../etc/passwd", boxes(1), ["x"])], {}, "entry 2: .*'../../etc/passwd' is not the name of a file"),
        ([GOOD, (["1/a.jpg", "1/b.jpg"], boxes(1), ["x"])], {}, "entry 2: expected one image name"),
        ([GOOD], {"txt": None}, "not found: txt"),
        ([GOOD], {"imnames": None, "wordBB": None}, "not found: imnames, wordBB"),
        ([GOOD], {"txt": cell_row(["x", "y"])}, "found 1 in imnames, 1 in wordBB, 2 in txt"),
        ([], {}, "holds no image"),
    ],
)  # fmt: skip
def test_other_contents_are_named(tmp_path, images, change, message):
    path = tmp_path / "gt.mat"
    write_mat(path, images, **change)
    with pytest.raises(ParseError, match=f"gt.mat: .*{message}|gt.mat: {message}"):
        synthtext.read_photos(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>" * 50, b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_other_files_are_named(tmp_path, content):
    (tmp_path / "gt.mat").write_bytes(content)
    with pytest.raises(ParseError, match="gt.mat: not a MATLAB file that scipy can read"):
        synthtext.read_photos(tmp_path / "gt.mat", tmp_path)


def test_a_broken_off_file_is_named(tmp_path):
    write_mat(tmp_path / "gt.mat", [(f"1/{number}.jpg", boxes(2), ["a b"]) for number in range(50)])
    content = (tmp_path / "gt.mat").read_bytes()
    (tmp_path / "gt.mat").write_bytes(content[: len(content) // 3])
    with pytest.raises(ParseError, match="gt.mat: "):
        synthtext.read_photos(tmp_path / "gt.mat", tmp_path)
    with pytest.raises(FileNotFoundError):
        synthtext.read_photos(tmp_path / "nothing.mat", tmp_path)


# ---- SynthText-90k


def voc(objects, head='<?xml version="1.0" encoding="utf-8"?>\n', root="annotation"):
    """Write one annotation as Pascal VOC tools do: one element a line, tabs before it."""
    body = "".join(
        f"\t<object>\n\t\t<name>{escape(text)}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<difficult>0</difficult>\n"
        f"\t\t<bndbox>\n\t\t\t<xmin>{box[0]}</xmin>\n\t\t\t<ymin>{box[1]}</ymin>\n\t\t\t<xmax>{box[2]}</xmax>\n"
        f"\t\t\t<ymax>{box[3]}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for text, box in objects
    )
    size = "\t<size>\n\t\t<width>600</width>\n\t\t<height>400</height>\n\t\t<depth>3</depth>\n\t</size>\n"
    return f"{head}<{root}>\n\t<folder>images</folder>\n\t<filename>a.jpg</filename>\n{size}{body}</{root}>\n"


TEXT = st.text(st.characters(min_codepoint=33, exclude_categories=["Cs", "Cc", "Cn", "Zs", "Zl", "Zp"]), max_size=9)
BOX = st.tuples(*[st.integers(-20, 2000)] * 4)


@QUICK
@given(objects=st.lists(st.tuples(TEXT, BOX), max_size=5), mark=st.booleans(),
       head=st.sampled_from(["", '<?xml version="1.0"?>']))  # fmt: skip
def test_voc_round_trip(tmp_path, objects, mark, head):
    path = tmp_path / "a.xml"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + voc(objects, head).encode("utf-8"))
    words = xml_boxes.parse_words(path)
    assert [word.text for word in words] == [text.strip() for text, _ in objects]
    assert [word.ignore for word in words] == [text.strip() in ("", "###") for text, _ in objects]
    for word, (_, (left, top, right, bottom)) in zip(words, objects, strict=True):
        np.testing.assert_array_equal(word.polygon, [[left, top], [right, top], [right, bottom], [left, bottom]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<name>word</name>", "", "line 10: <object> has no <name>"),
        ("<xmin>1</xmin>", "", "line 10: expected <bndbox> with numbers xmin, ymin, xmax, ymax, found {'xmin': None"),
        ("<ymax>4</ymax>", "<ymax>low</ymax>", "line 10: expected <bndbox> with numbers"),
        ("<ymax>4</ymax>", "<ymax>nan</ymax>", "line 10: expected <bndbox> with numbers"),
        ("<bndbox>", "<box>", "mismatched tag"),
        ("annotation>", "html>", "line 2: expected the root <annotation>, found <html>"),
        ("<annotation>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>", "entity declarations"),
    ],
)
def test_voc_names_file_and_line(tmp_path, old, new, message):
    path = tmp_path / "a.xml"
    text = voc([("word", (1, 2, 3, 4))])
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ParseError, match="a.xml, line") as caught:
        xml_boxes.parse_words(path)
    assert message in str(caught.value)


def picture(path, kind="JPEG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), (9, 99, 199)).save(path, kind)


@pytest.mark.parametrize("top", ["SynthText_90KDict/", ""])
def test_voc_folders(tmp_path, top):
    layout = manifest("synthtext_90k").split()[1]["layout"]
    with pytest.raises(ParseError, match="holds no annotation"):
        xml_boxes.parse_voc(tmp_path, layout)
    for stem, suffix in (("b", ".png"), ("a", ".jpg"), ("alone", ".jpg")):
        picture(tmp_path / top / "images" / f"{stem}{suffix}", suffix.strip(".").replace("jpg", "jpeg"))
    (tmp_path / top / "annotations").mkdir()
    for stem in ("b", "a", "absent"):
        (tmp_path / top / "annotations" / f"{stem}.xml").write_text(voc([(stem, (0, 0, 5, 4))]))
    with pytest.warns(UserWarning, match="1 images without annotation left out"):
        parsed = xml_boxes.parse_voc(tmp_path, layout)
    assert [(photo.id, photo.path.is_file(), photo.words[0].text) for photo in parsed.photos] == [
        ("a.jpg", True, "a"), ("absent.jpg", False, "absent"), ("b.png", True, "b")]  # fmt: skip
    picture(tmp_path / top / "images" / "a.png", "PNG")
    with pytest.raises(ParseError, match="has the same name"):
        xml_boxes.parse_voc(tmp_path, layout)


# ---- both, from an archive to pairs of words and images


def test_from_archives_placed_by_hand_to_a_gallery(tmp_path, monkeypatch):
    root = tmp_path / "data"
    monkeypatch.setenv("FDP_DATA", str(root))
    made = tmp_path / "made"
    for name in ("1/ant+hill_1_0.jpg", "2/bay_2_1.jpg"):
        picture(made / "SynthText" / name)
    write_mat(
        made / "SynthText" / "gt.mat",
        [("1/ant+hill_1_0.jpg", boxes(2), ["The\nants"]), ("2/bay_2_1.jpg", boxes(2), ["bay of"])],
    )
    for stem in ("0a", "0b"):
        picture(made / "SynthText_90KDict" / "images" / f"{stem}.jpg")
        path = made / "SynthText_90KDict" / "annotations" / f"{stem}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(voc([("Cat", (0, 0, 5, 4))]))
    downloads = root / "synthtext_90k" / "downloads"
    downloads.mkdir(parents=True)
    with tarfile.open(downloads / "SynthText_90KDict.tar", "w") as archive:
        archive.add(made / "SynthText_90KDict", "SynthText_90KDict")
    datasets.fetch("synthtext_90k", progress=False)
    gallery, queries = datasets.load("synthtext-90k")
    assert gallery.split == "train" and queries.texts == ("cat",) and queries.relevant.tolist() == [[True, True]]
    assert (downloads / "SynthText_90KDict.tar").is_file(), "what people put there themselves is theirs"
    trusted = json.loads((downloads / "record.json").read_text())["trusted"]["SynthText_90KDict.tar"]
    assert trusted["sha256"] == hashlib.sha256((downloads / "SynthText_90KDict.tar").read_bytes()).hexdigest()
    assert [check.status for check in datasets.verify("synthtext_90k")] == ["present"]

    target = root / "synthtext" / "downloads" / "SynthText.zip"
    target.parent.mkdir(parents=True)
    shutil.make_archive(str(target.with_suffix("")), "zip", made, "SynthText")
    with pytest.raises(datasets.FetchError, match="28ab030485ec8df3ed.* expected"):
        datasets.fetch("synthtext", progress=False)
    shutil.copytree(made / "SynthText", root / "synthtext" / "SynthText")
    datasets.fetch("synthtext", progress=False)  # unpacked by hand: left alone
    gallery, queries = datasets.load("synthtext")
    assert queries.texts == ("ants", "bay", "the") and len(gallery) == 2
    check = datasets.verify("synthtext", quick=True)[0]
    assert (check.status, check.counts) == ("present", {}), "the table does not read gigabytes"


def test_a_big_archive_that_was_downloaded_goes_once_it_is_unpacked(tmp_path, monkeypatch):
    manifests = tmp_path / "manifests"
    shutil.copytree(manifests_folder(), manifests)
    monkeypatch.setenv("FDP_MANIFESTS", str(manifests))
    monkeypatch.setenv("FDP_DATA", str(tmp_path / "data"))
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text(voc([("Cat", (0, 0, 5, 4))]))
    with tarfile.open(tmp_path / "made.tar", "w") as archive:
        for name in ("images", "annotations"):
            archive.add(tmp_path / name, f"SynthText_90KDict/{name}")
    path = manifests / "synthtext_90k.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    with Server() as server:
        server.files["/x.tar"] = (tmp_path / "made.tar").read_bytes()
        data["files"][0]["urls"] = [server.address("/x.tar")]
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        folder = datasets.fetch("synthtext_90k", progress=False)
        assert list((folder / "downloads").iterdir()) == [folder / "downloads" / "record.json"]
        datasets.fetch("synthtext_90k", progress=False)
        assert len(server.log) == 1, "the record tells that it was there"
    assert datasets.verify("synthtext_90k")[0].status == "present"

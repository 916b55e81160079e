"""Each parser on files of its format, written here, with the traps that real files hold."""

import json
import warnings
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core.datasets import DatasetMissing, ParseError, load_folder
from fdp_core.datasets.formats import icdar, listed, xml_boxes
from fdp_core.datasets.formats.mini import parse_file
from fdp_core.datasets.images import image_files
from fdp_core.datasets.types import Photo, Queries, Word, box_polygon, inside

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Anything a line can hold: commas, quotes, "###", tabs, U+2028, other scripts; not the line end itself.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\ufeff"), max_size=12)
TEXT = st.one_of(
    TEXT, st.sampled_from(['a,b,"c",', "###", "", "$5,50", "'quoted'", "北京 école", "a\u2028b\x0cc", ",,"])
)
POINTS = st.lists(st.integers(-20, 4000), min_size=8, max_size=8)
END = st.sampled_from(["\n", "\r\n"])


def write(path, lines, end="\n", mark=False, blank=False, last=True):
    """Write annotation lines as some system would."""
    if blank:
        lines = [part for line in lines for part in ("", line, "   ")]
    text = end.join(lines) + (end if last else "")
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode("utf-8"))


@QUICK
@given(words=st.lists(st.tuples(POINTS, TEXT), max_size=6), end=END, mark=st.booleans(), blank=st.booleans(),
       last=st.booleans())  # fmt: skip
def test_icdar_round_trip(tmp_path, words, end, mark, blank, last):
    path = tmp_path / "gt_img_1.txt"
    write(path, [",".join(map(str, points)) + f",{text}" for points, text in words], end, mark, blank, last)
    parsed = icdar.parse_words(path)
    assert [word.text for word in parsed] == [text for _, text in words]
    assert [word.ignore for word in parsed] == [text.strip() in ("", "###") for _, text in words]
    for word, (points, _) in zip(parsed, words, strict=True):
        assert word.polygon.dtype == np.float32
        np.testing.assert_array_equal(word.polygon.ravel(), points)


@QUICK
@given(words=st.lists(st.tuples(POINTS, st.sampled_from(icdar.SCRIPTS), TEXT), max_size=6), end=END,
       mark=st.booleans(), blank=st.booleans())  # fmt: skip
def test_mlt_round_trip(tmp_path, words, end, mark, blank):
    path = tmp_path / "tr_img_00001.txt"
    write(path, [",".join(map(str, p)) + f",{script},{text}" for p, script, text in words], end, mark, blank)
    parsed = icdar.parse_mlt_words(path)
    assert [(word.script, word.text) for word in parsed] == [(script, text) for _, script, text in words]
    assert [word.ignore for word in parsed] == [text.strip() in ("", "###") for *_, text in words]


@pytest.mark.parametrize(
    ("lines", "number", "what"),
    [
        (["1,2,3,4,5,6,7,8,ok", "1,2,3"], 2, "expected x1,y1"),
        (["", "1,2,3,4,5,6,7,8"], 2, "expected x1,y1"),
        (["1,2,3,4,5,6,7,eight,word"], 1, "8 numbers"),
        (["1,2,3,4,5,6,7,nan,word"], 1, "8 numbers"),
    ],
)
def test_icdar_names_file_and_line(tmp_path, lines, number, what):
    path = tmp_path / "gt_img_7.txt"
    write(path, lines)
    with pytest.raises(ParseError, match=what) as caught:
        icdar.parse_words(path)
    assert caught.value.line == number
    assert f"gt_img_7.txt, line {number}:" in str(caught.value)


def test_other_encodings_are_named(tmp_path):
    path = tmp_path / "gt_img_1.txt"
    path.write_bytes("1,2,3,4,5,6,7,8,ok\n1,2,3,4,5,6,7,8,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ParseError, match="line 2: byte 0xe9 is not UTF-8"):
        icdar.parse_words(path)


@pytest.mark.parametrize("line", ["1,2,3,4,5,6,7,8,Latin", "1,2,3,4,5,6,7,8,Klingon,Qapla'", "1,2,3,4"])
def test_mlt_names_file_and_line(tmp_path, line):
    path = tmp_path / "tr_img_00001.txt"
    write(path, ["1,2,3,4,5,6,7,8,Latin,ok", line])
    with pytest.raises(ParseError, match="tr_img_00001.txt, line 2"):
        icdar.parse_mlt_words(path)


def picture(path, kind="JPEG", size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path, kind)


@pytest.mark.parametrize("prefix", ["", "gt_"])
def test_text_files_find_their_images(tmp_path, prefix):
    line = "0,0,4,0,4,4,0,4,Latin,Word"
    for stem, suffix, kind in (("tr_img_00002", ".png", "PNG"), ("tr_img_00001", ".jpg", "GIF")):
        picture(tmp_path / "train_images" / f"{stem}{suffix}", kind)
        (tmp_path / "train_gts").mkdir(exist_ok=True)
        write(tmp_path / "train_gts" / f"{prefix}{stem}.txt", [line])
    layout = {"images": ["train_images", "elsewhere"], "annotations": ["train_gts"]}
    parsed = icdar.parse_mlt(tmp_path, layout)
    assert [photo.id for photo in parsed.photos] == ["tr_img_00001.jpg", "tr_img_00002.png"]
    assert all(photo.path.is_file() and photo.words[0].text == "Word" for photo in parsed.photos)


def test_an_image_without_annotation_is_an_error_and_the_reverse_stays(tmp_path):
    picture(tmp_path / "i" / "img_1.jpg")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "gt_img_2.txt", ["0,0,4,0,4,4,0,4,Word"])
    layout = {"images": ["i"], "annotations": ["a"]}
    with pytest.raises(ParseError, match="img_1.jpg: no annotation"):
        icdar.parse_icdar(tmp_path, layout)
    write(tmp_path / "a" / "gt_img_1.txt", [])
    parsed = icdar.parse_icdar(tmp_path, layout)
    assert [(photo.id, photo.path.is_file()) for photo in parsed.photos] == [("img_1.jpg", True), ("img_2.jpg", False)]
    write(tmp_path / "a" / "img_2.txt", [])
    with pytest.raises(ParseError, match="annotates the same image"):
        icdar.parse_icdar(tmp_path, layout)


def svt_xml(images):
    """Write SVT's XML for (name, [(x, y, width, height, tag)])."""
    body = "".join(
        f"<image>\n<imageName>{escape(name)}</imageName><address>? 1 &amp; 2</address><lex>A,B</lex>"
        '<Resolution x="1280" y="800"/>\n<taggedRectangles>'
        + "".join(
            f'\n<taggedRectangle height="{h}" width="{w}" x={quoteattr(str(x))} y="{y}"><tag>{escape(tag)}</tag>'
            "</taggedRectangle>"
            for x, y, w, h, tag in words
        )  # fmt: skip
        + "</taggedRectangles></image>\n"
        for name, words in images
    )
    return f'<?xml version="1.0" encoding="utf-8"?>\n<tagset>{body}</tagset>\n'


TAG = st.text(
    st.characters(min_codepoint=33, exclude_categories=["Cs", "Cc", "Cn", "Zs", "Zl", "Zp"]), min_size=1, max_size=9
)
BOX = st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(1, 90), st.integers(1, 90), TAG)


@QUICK
@given(images=st.lists(st.lists(BOX, max_size=4), min_size=1, max_size=4), mark=st.booleans())
def test_svt_round_trip(tmp_path, images, mark):
    named = [(f"img/{number:02d}_00.jpg", words) for number, words in enumerate(images)]
    path = tmp_path / "test.xml"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + svt_xml(named).encode("utf-8"))
    parsed = xml_boxes.parse_file(path, tmp_path / "img")
    assert [photo.id for photo in parsed.photos] == [name.removeprefix("img/") for name, _ in named]
    for photo, (_, words) in zip(parsed.photos, named, strict=True):
        assert photo.path == tmp_path / "img" / photo.id
        assert [word.text for word in photo.words] == [word[4] for word in words]
        for word, (x, y, w, h, _) in zip(photo.words, words, strict=True):
            np.testing.assert_array_equal(word.polygon, box_polygon(x, y, w, h))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('height="4"', 'height="tall"', "line 6: expected numbers x, y, width, height"),
        ('width="3"', "", "line 6: expected numbers"),
        ("<tag>W</tag>", "", "line 6: <taggedRectangle> has no <tag>"),
        ("img/a.jpg", "../../etc/passwd", "line 4: '../../etc/passwd' is not the name of a file"),
        ("</tagset>", "", "not well-formed XML"),
        ("<tagset>", "<!DOCTYPE t [<!ENTITY a 'x'>]><tagset>", "entity declarations"),
    ],
)
def test_svt_names_file_and_line(tmp_path, old, new, message):
    path = tmp_path / "test.xml"
    text = svt_xml([("img/a.jpg", [(1, 2, 3, 4, "W")])]).replace("<tagset>", "<tagset>\n", 1)
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ParseError, match="test.xml, line") as caught:
        xml_boxes.parse_file(path, tmp_path / "img")
    assert message in str(caught.value)


def cell(values):
    """Make a MATLAB cell column of strings."""
    out = np.empty((len(values), 1), dtype=object)
    out[:, 0] = values
    return out


def write_mat(path, queries):
    """Write data.mat with the nesting of the real file: data[0, i][0][0][0][0] and data[0, i][1][j][0][0]."""
    data = np.empty((1, len(queries)), dtype=[("query", object), ("images", object)])
    for i, (text, files) in enumerate(queries):
        data[0, i] = (cell([text]), cell(list(files)))
    scipy.io.savemat(path, {"data": data})


WORD = st.text(st.characters(categories=["Ll", "Lu", "Nd"], max_codepoint=0x24F), min_size=1, max_size=9)
FILES = st.lists(st.integers(0, 99).map("img_{:06d}.jpg".format), min_size=1, max_size=5, unique=True)


@settings(parent=QUICK, max_examples=15)
@given(queries=st.lists(st.tuples(WORD, FILES), min_size=1, max_size=4, unique_by=lambda item: item[0].lower()))
def test_iiit_round_trip(tmp_path, queries):
    path = tmp_path / "data.mat"
    write_mat(path, queries)
    m = scipy.io.loadmat(path)["data"]
    assert str(m[0, 0][0][0][0][0]) == queries[0][0], "the written file has the real one's nesting"
    assert [str(m[0, 0][1][j][0][0]) for j in range(len(queries[0][1]))] == queries[0][1]
    assert listed.read_iiit_queries(path) == {text.lower(): tuple(files) for text, files in queries}


def test_iiit_gallery_is_the_folder_and_the_list(tmp_path):
    for name, kind in (("img_000001.jpg", "GIF"), ("img_000002.jpg", "PNG"), ("img_000003.jpg", "JPEG")):
        picture(tmp_path / "imgDatabase" / name, kind)
    write_mat(tmp_path / "data.mat", [("Coffee", ["img_000002.jpg"]), ("motel", ["img_000002.jpg", "img_000009.jpg"])])
    parsed = listed.parse_iiit(tmp_path, {"annotations": ["data.mat"], "images": ["imgDatabase"]})
    assert [photo.id for photo in parsed.photos] == [f"img_00000{n}.jpg" for n in (1, 2, 3, 9)]
    assert parsed.listed == {"coffee": ("img_000002.jpg",), "motel": ("img_000002.jpg", "img_000009.jpg")}


def test_iiit_rejects_other_files(tmp_path):
    path = tmp_path / "data.mat"
    path.write_bytes(b"<html>please log in</html>" * 20)
    with pytest.raises(ParseError, match="data.mat: not a MATLAB file"):
        listed.read_iiit_queries(path)
    scipy.io.savemat(path, {"dates": [1]})
    with pytest.raises(ParseError, match="expected a variable 'data', found .'dates'"):
        listed.read_iiit_queries(path)
    scipy.io.savemat(path, {"data": np.eye(2)})
    with pytest.raises(ParseError, match="query 1"):
        listed.read_iiit_queries(path)
    write_mat(path, [("ok", ["a.jpg"]), ("no", ["../a.jpg"])])
    with pytest.raises(ParseError, match="query 2"):
        listed.read_iiit_queries(path)


def mini(**change):
    content = {
        "name": "mini",
        "images": [
            {"file": "images/0002.jpg", "words": [], "pictures": ["cup"]},
            {"file": "images/0001.jpg", "words": [
                {"text": "Open", "polygon": [[0, 0], [9, 0], [9, 4.5], [0, 4]], "ignore": False, "colour": "red"}]},
        ],
        "queries": [{"text": "open", "group": "content", "relevant": ["images/0001.jpg"]}],
    }  # fmt: skip
    return content | change


def test_mini_gallery(tmp_path):
    path = tmp_path / "gallery.json"
    path.write_text(json.dumps(mini()), encoding="utf-8")
    parsed = parse_file(path)
    first, second = parsed.photos
    assert (first.id, first.words[0].text, first.words[0].colour) == ("images/0001.jpg", "Open", "red")
    assert second.pictures == ("cup",)
    assert parsed.listed == {"open": ("images/0001.jpg",)} and parsed.groups == {"content": ("open",)}
    path.write_text(json.dumps(mini(queries=[])), encoding="utf-8")
    assert parse_file(path).listed is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{\n oops", "line 2: not JSON"),
        (json.dumps({"queries": []}), "images: Field required"),
        (json.dumps(mini(images=[{"file": "/etc/passwd"}])), r"images\[0\]: '/etc/passwd' is not the name"),
        (json.dumps(mini(images=[{"file": "a", "words": [{"text": "x", "polygon": [[0, 0], [1, 1]]}]}])),
         r"images\[0\].words\[0\]"),
        (json.dumps(mini(queries=[{"text": "open", "relevant": ["gone.jpg"]}])), r"queries\[0\]: .*gone.jpg"),
    ],
)  # fmt: skip
def test_mini_names_the_place(tmp_path, content, message):
    path = tmp_path / "gallery.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ParseError, match=message):
        parse_file(path)


def test_a_folder_of_photographs(tmp_path):
    for name in ("b/Two.JPG", "a.png", ".hidden.jpg", ".git/x.jpg"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    gallery = load_folder(tmp_path, may_show=True)
    assert [photo.id for photo in gallery.photos] == ["a.png", "b/Two.JPG"]
    assert gallery.may_show and len(gallery) == 2 and gallery.photos[0].words == ()
    assert [path.name for path in image_files(tmp_path, recursive=False)] == ["a.png"]
    with pytest.raises(DatasetMissing, match="no folder"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetMissing, match="holds no photographs"):
        load_folder(tmp_path / "empty")


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", "C:/x", "..\\a", "a\0b"])
def test_names_that_lead_elsewhere(name):
    with pytest.raises(ValueError, match="own folder"):
        inside(name)


def test_types_check_their_shapes():
    with pytest.raises(ValueError, match="P >= 3"):
        Word("x", np.zeros((2, 2)))
    with pytest.raises(ValueError, match="bool"):
        Queries(("a",), np.zeros((2, 3), dtype=bool), "p")
    with pytest.raises(ValueError, match="group"):
        Queries(("a",), np.zeros((1, 3), dtype=bool), "p", {"g": np.zeros(2, dtype=bool)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Photo("a", "a").words == ()

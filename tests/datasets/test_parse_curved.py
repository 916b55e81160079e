"""Total-Text and CTW1500: files in the shape of the real ones, their traps, and the recipes for their queries."""

import numpy as np
import pytest
import scipy.io
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import ParseError, protocol
from fdp_core.datasets.formats import curved
from fdp_core.datasets.manifest import manifest, read_manifest
from fdp_core.datasets.types import Parsed, Word, box_polygon

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TRAPS = st.sampled_from(
    ["PAUL", "MEN'S", 'it"s', "'both\" kinds'", "#", "", "]", "a, b", "caf\u00e9", "\u2019n", "\\d", "x: [[1]]", "\n"]
)  # fmt: skip
POINTS = st.lists(st.tuples(st.integers(-20, 6000), st.integers(-20, 6000)), min_size=3, max_size=24)
KIND = st.sampled_from("chm#")
THREE = [[1, 4], [2, 5], [3, 6]]


def record(points, text, kind="c"):
    """Write a record as NumPy and Python 2 print it: long arrays go on in the next line, odd letters are escaped."""
    x, y = (np.array2string(np.array([axis]), max_line_width=75) for axis in zip(*points, strict=True))
    return f"x: {x}, y: {y}, ornt: [u{kind!r}], transcriptions: [u{text!a}]"


def write_text(path, records, end="\n", mark=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(line + "\n" for line in records).replace("\n", end)
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode("utf-8"))


def rows(words):
    """Make ``polygt``: rows of six cells, as MATLAB holds them."""
    table = np.empty((len(words), 6), dtype=object)
    for i, (points, text, kind) in enumerate(words):
        x, y = np.array(points, dtype=np.int16).T
        for j, cell in enumerate(("x:", x[None], "y:", y[None], text, kind)):
            table[i, j] = cell
    return table


def write_mat(path, words, variable="polygt"):
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {variable: rows(words)})


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (200, 30, 30)).save(path, "JPEG")


@QUICK
@given(words=st.lists(st.tuples(POINTS, st.one_of(ANY, TRAPS), KIND), max_size=5), mark=st.booleans(),
       end=st.sampled_from(["\n", "\r\n"]))  # fmt: skip
def test_totaltext_text_round_trip(tmp_path, words, mark, end):
    path = tmp_path / "poly_gt_img1.txt"
    write_text(path, [record(*word) for word in words], end, mark)
    parsed = curved.parse_text(path)
    assert [word.text for word in parsed] == [text for _, text, _ in words]
    assert [word.ignore for word in parsed] == [
        "#" in (text.strip(), kind) or not text.strip() for _, text, kind in words
    ]
    for word, (points, _, _) in zip(parsed, words, strict=True):
        assert word.polygon.dtype == np.float32
        np.testing.assert_array_equal(word.polygon, points)


MATLAB_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0xFFFF), max_size=9).map(str.strip)


@settings(parent=QUICK, max_examples=20)
@given(words=st.lists(st.tuples(POINTS, MATLAB_TEXT, KIND), max_size=4), variable=st.sampled_from(["polygt", "gt"]))
def test_totaltext_mat_round_trip(tmp_path, words, variable):
    path = tmp_path / "poly_gt_img1.mat"
    write_mat(path, words, variable)
    parsed = curved.parse_mat(path)
    assert [word.text for word in parsed] == [text for _, text, _ in words]
    assert [word.ignore for word in parsed] == [text in ("", "#") or kind == "#" for _, text, kind in words]
    for word, (points, _, _) in zip(parsed, words, strict=True):
        np.testing.assert_array_equal(word.polygon, points)


def test_totaltext_as_published(tmp_path):
    path = tmp_path / "poly_gt_img1.txt"
    path.write_text(
        "x: [[259 313 389 427 354 302]], y: [[542 462 417 459 507 582]], ornt: [u'c'], transcriptions: [u'PAUL']\n"
        "x: [[400 478 494 436]], y: [[398 380 448 465]], ornt: [u'#'], transcriptions: [u'#']\n"
        "x: [[ 451  772\n   805]], y: [[181\n 183\n\n  255]], ornt: [u'c'],\n transcriptions: [u\"MEN'S\"]\n"
    )
    paul, unread, mens = curved.parse_text(path)
    assert (paul.text, paul.ignore, paul.polygon[1].tolist()) == ("PAUL", False, [313, 462])
    assert unread.ignore and unread.polygon.shape == (4, 2)
    assert mens.text == "MEN'S" and mens.polygon.tolist() == [[451, 181], [772, 183], [805, 255]]


@pytest.mark.parametrize(
    ("line", "text", "ignore", "points"),
    [
        ("x: [[1 2 3]], y: [[4 5 6]], ornt: ['h'], transcriptions: ['Plain']", "Plain", False, THREE),
        ("x:[[1, 2, 3]],y:[[4, 5, 6]],ornt:[],transcriptions:[ u'close' ]", "close", False, THREE),
        ("x: [[1 2 3]], y: [[4 5 6]], ornt: ['h'], transcription: ['one']", "one", False, THREE),
        (" x : [1. 2.5 -3.], y : [4 5 6], ornt : [c], transcriptions : [a]", "a", False, [[1, 4], [2.5, 5], [-3, 6]]),
        ("x: [[1 2 3]], y: [[4 5 6]], ornt: [u'm'], transcriptions: [u'it's']", "it's", False, THREE),
        ("x: [[1 2 3]], y: [[4 5 6]], ornt: [u'c'], transcriptions: []", "", True, THREE),
        ("x: [[1 2 3]], y: [[4 5 6]], ornt: [u'c'], transcriptions: [u'']", "", True, THREE),
        ("x: [[7]], y: [[8]], ornt: [u'#'], transcriptions: [u'#']", "#", True, [[7, 8], [7, 8], [7, 8]]),
        ("x: [[7 9]], y: [[8 8]], ornt: [u'h'], transcriptions: [u',']", ",", False, [[7, 8], [9, 8], [9, 8]]),
    ],
)  # fmt: skip
def test_totaltext_variants(tmp_path, line, text, ignore, points):
    path = tmp_path / "poly_gt_img1.txt"
    write_text(path, [line])
    (word,) = curved.parse_text(path)
    assert (word.text, word.ignore, word.polygon.tolist()) == (text, ignore, points)


def test_totaltext_has_no_call_in_its_literals(tmp_path):
    path = tmp_path / "poly_gt_img1.txt"
    write_text(path, ["x: [[1 2 3]], y: [[4 5 6]], ornt: [u'c'], transcriptions: [u'a' + str(1) + u'b']"])
    assert curved.parse_text(path)[0].text == "a' + str(1) + u'b"


@pytest.mark.parametrize(
    ("lines", "number", "what"),
    [
        (["x: [[1 2 3]], y: [[4 5]], ornt: [u'c'], transcriptions: [u'A']"], 1, "as many numbers in x as in y"),
        (["", record([(1, 2)] * 3, "A"), "x: [[1 2 3]], ornt: [u'c'], transcriptions: [u'A']"], 3, "expected x: "),
        ([record([(1, 2)] * 40, "long"), "x: [[1 b 3]], y: [[4 5 6]], ornt: [u'c'], transcriptions: [u'A']"],
         record([(1, 2)] * 40, "long").count("\n") + 2, "as many numbers"),
        (["x: [[]], y: [[]], ornt: [u'#'], transcriptions: [u'#']"], 1, "as many numbers"),
        (["x: [[1 2 nan]], y: [[4 5 6]], ornt: [u'c'], transcriptions: [u'A']"], 1, "as many numbers"),
        (["0,0,1,1,WORD"], 1, "expected x: "),
        (["x: [[1 2 3]], y: [[4 5 6]], ornt: [u'c'], transcr"], 1, "expected x: "),
    ],
)  # fmt: skip
def test_totaltext_names_file_and_line(tmp_path, lines, number, what):
    path = tmp_path / "poly_gt_img7.txt"
    write_text(path, lines)
    with pytest.raises(ParseError, match=what) as caught:
        curved.parse_text(path)
    assert caught.value.line == number and f"poly_gt_img7.txt, line {number}:" in str(caught.value)


def test_totaltext_mat_with_empty_cells_and_numbers(tmp_path):
    path = tmp_path / "poly_gt_img958.mat"
    triangle = [(125, 627), (162, 631), (119, 636)]
    table = rows([(triangle, "DIENST", ""), (triangle, "", "c"), (triangle, "#", "#"), (triangle, "WORD", "#")])
    nested = rows([(triangle, "x", "c"), (triangle[:1], "#", "#")])
    nested[0, 4] = np.empty((1, 1), dtype=object)
    nested[0, 4][0, 0] = "Nested"
    number = rows([(triangle, np.array([[2012]]), "h")])
    scipy.io.savemat(path, {"polygt": np.concatenate([table, nested, number])})
    parsed = curved.parse_mat(path)
    assert [(word.text, word.ignore) for word in parsed] == [
        ("DIENST", False), ("", True), ("#", True), ("WORD", True), ("Nested", False), ("#", True), ("2012", False),
    ]  # fmt: skip
    assert parsed[5].polygon.tolist() == [[125, 627]] * 3
    scipy.io.savemat(path, {"polygt": np.empty((0, 0))})
    assert curved.parse_mat(path) == ()


def test_totaltext_mat_of_another_kind(tmp_path):
    path = tmp_path / "poly_gt_img3.mat"
    path.write_bytes(b"<html>please log in</html>" * 20)
    with pytest.raises(ParseError, match="poly_gt_img3.mat: not a MATLAB file"):
        curved.parse_mat(path)
    scipy.io.savemat(path, {"rectgt": [1]})
    with pytest.raises(ParseError, match="expected a variable 'polygt' or 'gt', found .'rectgt'"):
        curved.parse_mat(path)
    scipy.io.savemat(path, {"polygt": np.eye(3)})
    with pytest.raises(ParseError, match="rows of six cells"):
        curved.parse_mat(path)
    table = rows([([(1, 2)] * 3, "A", "c"), ([(1, 2)] * 3, "B", "c")])
    table[1, 3] = np.array([[1, 2]])
    scipy.io.savemat(path, {"polygt": table})
    with pytest.raises(ParseError, match="row 2: expected as many numbers"):
        curved.parse_mat(path)


LAYOUT = {"annotations": ["txt_format/Test", "Groundtruth/Polygon/Test"], "images": ["Images/Test", "elsewhere"]}


def test_totaltext_takes_the_form_that_lies_there(tmp_path):
    triangle = [(0, 0), (4, 0), (4, 4)]
    picture(tmp_path / "Images/Test/img1.jpg")
    picture(tmp_path / "Images/Test/img2.JPG")
    for number in (1, 2):
        write_mat(tmp_path / f"Groundtruth/Polygon/Test/poly_gt_img{number}.mat", [(triangle, "mat", "c")])
    parsed = curved.parse_totaltext(tmp_path, LAYOUT)
    assert [(photo.id, photo.words[0].text) for photo in parsed.photos] == [("img1.jpg", "mat"), ("img2.JPG", "mat")]
    write_text(tmp_path / "txt_format/Test/poly_gt_img1.txt", [record(triangle, "text")])
    write_text(tmp_path / "txt_format/Test/._poly_gt_img2.txt", ["\0clutter of macOS"])
    with pytest.raises(ParseError, match="img2.JPG: no annotation"):
        curved.parse_totaltext(tmp_path, LAYOUT)
    write_text(tmp_path / "txt_format/Test/poly_gt_img2.TXT", [])
    write_text(tmp_path / "txt_format/Test/poly_gt_img3.txt", [record(triangle, "absent")])
    parsed = curved.parse_totaltext(tmp_path, LAYOUT)
    assert [(photo.id, [word.text for word in photo.words]) for photo in parsed.photos] == [
        ("img1.jpg", ["text"]), ("img2.JPG", []), ("img3.jpg", ["absent"])]  # fmt: skip
    with pytest.raises(ParseError, match=r"no annotation files \*.txt or \*.mat; looked in txt_format"):
        curved.parse_totaltext(tmp_path / "nowhere", LAYOUT)


CTW_POINTS = st.lists(st.integers(-20, 4000), min_size=28, max_size=28)
CTW_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\ufeff"), max_size=12),
    st.sampled_from(["###", "", "OLD FLORIDA, 1900", "####", "No.#1", "\u5317\u4eac"]),
)


@QUICK
@given(
    words=st.lists(st.tuples(CTW_POINTS, CTW_TEXT), max_size=5), end=st.sampled_from(["\n", "\r\n"]), mark=st.booleans()
)
def test_ctw1500_round_trip(tmp_path, words, end, mark):
    path = tmp_path / "0001001.txt"
    write_text(path, [",".join(map(str, points)) + f",####{text}" for points, text in words], end, mark)
    parsed = curved.parse_words(path)
    assert [word.text for word in parsed] == [text for _, text in words]
    assert [word.ignore for word in parsed] == [text.strip() in ("", "###") for _, text in words]
    for word, (points, _) in zip(parsed, words, strict=True):
        assert word.polygon.shape == (14, 2) and word.polygon.dtype == np.float32
        np.testing.assert_array_equal(word.polygon.ravel(), points)


SEGS = "131,58,208,49,279,56,346,76,412,101,473,141,530,192,510,246,458,210,405,175,350,151,291,137,228,133,165,134"
XML = (
    '<Annotations>\n\t<image file="0200.jpg">\n\t\t<box height="197" left="131" top="49" width="399">\n'
    f"\t\t\t<label>OLATHE &amp; CO</label>\n\t\t\t<segs>{SEGS}</segs>\n"
    '\t\t\t<pts x="183" y="95" />\n\t\t</box>\n\t</image>\n</Annotations>\n'
)


def test_ctw1500_xml_as_published(tmp_path):
    path = tmp_path / "0200.xml"
    path.write_text(XML)
    (word,) = curved.parse_words(path)
    assert (word.text, word.ignore) == ("OLATHE & CO", False)
    assert ",".join(str(int(value)) for value in word.polygon.ravel()) == SEGS
    for label in ("###", ""):
        path.write_text(XML.replace("OLATHE &amp; CO", label))
        assert curved.parse_words(path)[0].ignore


def test_ctw1500_offsets_of_the_first_release(tmp_path):
    path = tmp_path / "0001.txt"
    write_text(path, [",".join(map(str, [100, 50, 113, 90, *range(28)]))])
    (word,) = curved.parse_words(path)
    assert word.ignore and word.text == ""
    assert word.polygon[0].tolist() == [100, 51] and word.polygon[13].tolist() == [126, 77]


@pytest.mark.parametrize(
    ("name", "content", "number", "what"),
    [
        ("0001001.txt", f"{SEGS},####ok\n{SEGS},7,8,####more", 2, "expected 28 numbers"),
        ("0001001.txt", f"\n{SEGS.replace('131', 'x')},####word", 2, "expected 28 numbers"),
        ("0001001.txt", f"{SEGS},word", 1, "expected x1,y1"),
        ("0001001.txt", "1,2,3,4,nan," + SEGS[:-4] + ",####x", 1, "expected 28 numbers"),
        ("0001001.txt", "a,b,1,1," + SEGS, 1, "expected 32 numbers x1,y1"),
        ("0200.xml", XML.replace("131,", ""), 5, "expected 28 numbers"),
        ("0200.xml", XML.replace("segs", "points"), 3, "no <segs>"),
        ("0200.xml", XML.replace("</box>", ""), 8, "not well-formed XML"),
        ("0200.xml", "<!DOCTYPE a [<!ENTITY a 'x'>]>" + XML, 1, "entity declarations"),
    ],
)
def test_ctw1500_names_file_and_line(tmp_path, name, content, number, what):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ParseError, match=what) as caught:
        curved.parse_words(path)
    assert caught.value.line == number and f"{name}, line {number}:" in str(caught.value)


def test_ctw1500_files_belong_to_images_by_number(tmp_path):
    layout = {"annotations": ["test_gts", "gt_ctw1500"], "images": ["test_images"]}
    with pytest.raises(ParseError, match="looked in test_gts, gt_ctw1500"):
        curved.parse_ctw1500(tmp_path, layout)
    for number in (1001, 1500):
        picture(tmp_path / f"test_images/{number}.jpg")
        write_text(tmp_path / f"gt_ctw1500/000{number}.txt", [f"{SEGS},####word {number}"])
    parsed = curved.parse_ctw1500(tmp_path, layout)
    assert [(photo.id, photo.words[0].text) for photo in parsed.photos] == [
        ("1001.jpg", "word 1001"), ("1500.jpg", "word 1500")]  # fmt: skip
    picture(tmp_path / "train_images/0007.jpg")
    write_text(tmp_path / "train_gts/0007.xml", [XML])
    parsed = curved.parse_ctw1500(tmp_path, {"annotations": ["train_gts"], "images": ["train_images"]})
    assert [(photo.id, len(photo.words)) for photo in parsed.photos] == [("0007.jpg", 1)]
    write_text(tmp_path / "gt_ctw1500/1001.txt", [])
    with pytest.raises(ParseError, match="annotates the same image"):
        curved.parse_ctw1500(tmp_path, layout)


def rule(name, split):
    return manifest(name).split(split)[1]["protocol"]


@pytest.mark.parametrize(
    ("text", "mstar", "tdsl"),
    [
        ("MEN'S", ["men's"], ["mens"]),
        ("'Quoted'", ["quoted"], ["quoted"]),
        ("#1 CAFE & BAR!", ["cafe", "bar"], ["1cafebar"]),
        ("A.B.C.", ["abc"], ["abc"]),
        ("caf\u00e9", ["caf\u00e9"], ["caf"]),
        ("\u212aELVIN", ["kelvin"], ["kelvin"]),  # NFC makes the Kelvin sign a plain K
        ("\u0130ST", ["i\u0307st"], []),  # folds to an i and a dot: kept characters are chosen before
        ("no", [], []),
        ("6-8", ["6-8"], []),
        ("1,000", ["1,000"], ["1000"]),
    ],
)
def test_the_two_recipes_on_words(text, mstar, tdsl):
    word = Word(text, box_polygon(0, 0, 1, 1))
    assert protocol.tokens(word, rule("totaltext", "test")) == protocol.tokens(word, rule("ctw1500", "test")) == mstar
    assert protocol.tokens(word, rule("totaltext", "tdsl")) == tdsl


@pytest.mark.parametrize(
    ("split", "change"),
    [("tdsl", {"queries": {"rule": "frequent", "rank": "instances", "ties": "alphabetical"}}),
     ("tdsl", {"queries": {"rule": "frequent", "min_count": 0, "rank": "instances", "ties": "alphabetical"}}),
     ("test", {"gallery": "some"}), ("test", {"normalise": {"keep": ""}})],
)  # fmt: skip
def test_the_schema_knows_the_rules(tmp_path, split, change):
    source = manifest("totaltext")
    source.data["splits"][split]["protocol"] |= change
    path = tmp_path / "totaltext.yaml"
    path.write_text(yaml.safe_dump(source.data))
    with pytest.raises(datasets.ManifestError, match=f"splits.{split}.protocol"):
        read_manifest(path)


def test_the_two_recipes_on_a_miniature(tmp_path):
    triangle = [(0, 0), (4, 0), (4, 4)]
    texts = {
        1: ["Cafe", "CAFE", "cafe", "the", "B-52"],
        2: ["CAFE!", "The", "B52", "b.52"],
        3: ["the", "Bar", "#", "b52"],
        4: ["bar", "it", "Zoo"],
    }
    for number, words in texts.items():
        picture(tmp_path / f"totaltext/Images/Test/img{number}.jpg")
        write_text(
            tmp_path / f"totaltext/txt_format/Test/poly_gt_img{number}.txt", [record(triangle, t) for t in words]
        )
    # MSTAR: photographs of a word. the 3; b52 ("B52", "b.52" in 2, "b52" in 3), bar and cafe 2; b-52 and zoo 1.
    gallery, queries = datasets.load("totaltext", root=tmp_path)
    assert [photo.id for photo in gallery.photos] == [f"img{number}.jpg" for number in (1, 2, 3, 4)]
    assert queries.texts == ("the", "b52", "bar", "cafe", "b-52", "zoo")
    assert queries.relevant.astype(int).tolist() == [
        [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]  # fmt: skip
    # TDSL: instances. b52 4 ("B-52" too), cafe 4, the 3, bar 2: the first two have at least 4.
    _, queries = datasets.load("total-text", "tdsl", root=tmp_path)
    assert queries.texts == ("b52", "cafe")
    assert queries.relevant.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]


def test_top_words_of_lines(tmp_path):
    for number, text in ((1001, "OLD FLORIDA"), (1002, "Florida, USA"), (1003, "###"), (1004, "USA old usa")):
        picture(tmp_path / f"ctw1500/test_images/{number}.jpg")
        write_text(tmp_path / f"ctw1500/test_gts/000{number}.txt", [f"{SEGS},####{text}"])
    gallery, queries = datasets.load("ctw1500", root=tmp_path)
    assert len(gallery) == 4
    # The comma stays, as in the released recipe.
    assert queries.texts == ("old", "usa", "florida", "florida,")
    short = rule("ctw1500", "test") | {"queries": {"rule": "top", "count": 3, "rank": "photographs"}}
    assert protocol.build_queries(Parsed(gallery.photos), short, tmp_path).texts == ("old", "usa", "florida")


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "split", "queries"), [("totaltext", "test", 60), ("totaltext", "tdsl", None), ("ctw1500", "test", 100)]
)
def test_real_sets(name, split, queries):
    source = manifest(name)
    if lacking := source.lacking(split):
        pytest.skip(f"real data missing: {source.name}/{split}: no {', '.join(lacking)} in {source.folder()}")
    gallery, found = datasets.load(name, split)
    assert len(gallery) == source.split(split)[1]["photographs"] and found.relevant.any(axis=1).all()
    assert queries is None or len(found) == queries

"""Sets that list which photographs answer a query: PSTR, CSVTR, DL-CSVTR, MQTR, on files of their form."""

import json
import os
import pickle
import unicodedata
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import DatasetMissing, ParseError
from fdp_core.datasets.formats.listed import (
    folder_query,
    parse_csvtr,
    parse_listed,
    parse_mqtr,
    parse_pstr,
    parse_query_folders,
)
from fdp_core.datasets.manifest import manifest

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PSTR = {"annotations": ["pstr/query_image_dict.npy", "query_image_dict.npy"], "images": ["pstr/images", "images"]}
MQTR = {"annotations": ["MQTR/word/text_queries.json"], "images": ["MQTR/word/images"]}
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)
QUERY = TEXT.map(lambda text: unicodedata.normalize("NFC", text).strip()).filter(bool)
LISTED = st.dictionaries(QUERY, st.lists(st.integers(0, 9), max_size=5, unique=True), min_size=1, max_size=5)
LISTED = LISTED.map(lambda lists: {query: [f"img_{n}.jpg" for n in files] for query, files in lists.items()})


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The data folder, where the sets are looked for."""
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    return tmp_path


def pictures(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 6), (200, 30, 30)).save(folder / name, "PNG" if name.endswith(".png") else "JPEG")


def write_pstr(folder, content):
    pictures(folder / "images", "1.jpg", "2.png", "3.jpg")
    np.save(folder / "query_image_dict.npy", content, allow_pickle=True)


def write_mqtr(folder, content, names=("1.jpg", "2.png"), encoding="utf-8", **options):
    pictures(folder / "images", *names)
    (folder / "text_queries.json").write_bytes(json.dumps(content, **options).encode(encoding))


@QUICK
@given(listed=LISTED)
def test_pstr_round_trip(tmp_path, listed):
    np.save(tmp_path / "query_image_dict.npy", listed)
    assert np.load(tmp_path / "query_image_dict.npy", allow_pickle=True).item() == listed, "as it is read elsewhere"
    parsed = parse_pstr(tmp_path, PSTR)
    assert list(parsed.listed.items()) == [(query, tuple(files)) for query, files in listed.items()]
    assert [photo.id for photo in parsed.photos] == sorted({name for files in listed.values() for name in files})


@QUICK
@given(listed=LISTED, ascii_only=st.booleans(), mark=st.booleans(), indent=st.sampled_from([None, 2]))
def test_mqtr_round_trip(tmp_path, listed, ascii_only, mark, indent):
    write_mqtr(
        tmp_path / "MQTR/word", listed, (), "utf-8-sig" if mark else "utf-8", ensure_ascii=ascii_only, indent=indent
    )
    parsed = parse_mqtr(tmp_path, MQTR)
    assert list(parsed.listed.items()) == [(query, tuple(files)) for query, files in listed.items()]


@pytest.mark.parametrize("inner", ["pstr", ".", "PSTR"])
def test_pstr(root, inner):
    write_pstr(root / "pstr" / inner, {"Happy Birthday": ["3.jpg", "1.jpg"], "no smoking": ("2.png",)})
    gallery, queries = datasets.load("pstr")
    assert [photo.id for photo in gallery.photos] == ["1.jpg", "2.png", "3.jpg"] and not gallery.may_show
    assert all(photo.path.is_file() and photo.words == () for photo in gallery.photos)
    assert queries.texts == ("Happy Birthday", "no smoking"), "case is kept"
    assert queries.relevant.tolist() == [[True, False, True], [False, True, False]]
    check = datasets.verify("pstr")[0]
    assert check.problems == ("3 photographs, 1,080 expected", "2 queries, 36 expected")


def test_pstr_from_an_archive_and_changed(root):
    write_pstr(root / "new/pstr", {"a b": ["1.jpg"]})
    (root / "pstr/downloads").mkdir(parents=True)
    with zipfile.ZipFile(root / "pstr/downloads/pstr.zip", "w") as archive:
        for path in sorted((root / "new").rglob("*.*")):
            archive.write(path, path.relative_to(root / "new"))
    datasets.fetch("pstr", progress=False)
    assert datasets.load("pstr")[1].texts == ("a b",)
    counts = datasets.verify("pstr")[0].problems
    np.save(root / "pstr/pstr/query_image_dict.npy", {"a b": ["2.png"]})
    changed = "pstr/query_image_dict.npy has changed since it was unpacked"
    assert set(datasets.verify("pstr")[0].problems) - set(counts) == {changed}


def test_pstr_of_other_writers(tmp_path):
    pictures(tmp_path / "images", "1.jpg", "2.png", "3.jpg")
    files = np.array(["1.jpg", "3.jpg"])
    for content in (
        {"a b": files, np.str_("c d"): [np.str_("2.png")]},
        {"a b": files.astype(object), "c d": ("./2.png",)},
        {"a b": ["1.jpg", "images/3.jpg"], "c d": ["images\\2.png"]},
        {"a b": ["1.jpg", "3.jpg", "1.jpg"], "c d": [" 2.png "]},
        {" a b ": ["1.jpg"], "a b": ["3.jpg"], "c d": ["2.png"]},
    ):
        for protocol in (3, 4):
            array = np.array(content, dtype=object)
            with (tmp_path / "query_image_dict.npy").open("wb") as stream:
                np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
                stream.write(pickle.dumps(array, protocol))
            assert parse_pstr(tmp_path, PSTR).listed == {"a b": ("1.jpg", "3.jpg"), "c d": ("2.png",)}


class Calls:
    def __reduce__(self):
        return os.system, ("touch MARK",)


def test_pstr_runs_nothing(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    write_pstr(root / "pstr/pstr", {"a b": [Calls()]})
    with pytest.raises(ParseError, match=r"query_image_dict.npy: .*the pickle wants (posix|nt).system"):
        datasets.load("pstr")
    check = datasets.verify("pstr")[0]
    assert check.status == "damaged" and "the pickle wants" in check.problems[0]
    assert not (root / "MARK").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"expected a dict \{query: \[file, ...\]\}, found a dict"),
        (["a"], "expected a dict"),
        ({3: ["a.jpg"]}, "expected text as a query, found 3"),
        ({" ": ["a.jpg"]}, "expected text as a query, found ' '"),
        ({"open": "a.jpg"}, "query 'open': expected a list of file names, found 'a.jpg'"),
        ({"open": None}, "query 'open': expected a list of file names, found a NoneType"),
        ({"open": {"a.jpg": 1}}, "query 'open': expected a list of file names, found a dict"),
        ({"open": ["a.jpg", 7]}, "query 'open': expected file names; 7 is not text"),
        ({"open": [["a.jpg"]]}, "query 'open': expected file names; a list is not text"),
        ({"open": [""]}, "query 'open': expected file names; '' is not the name"),
        ({"open": ["../a.jpg"]}, "query 'open': .*not the name of a file in the set's own folder"),
        ({"open": ["/etc/passwd"]}, "query 'open': .*not the name"),
        ({"open": ["\ud800.jpg"]}, "query 'open': expected file names; .*surrogates not allowed"),
    ],
)
def test_other_lists_are_named(tmp_path, content, message):
    with pytest.raises(ParseError, match=f"^{tmp_path}/list: {message}"):
        parse_listed(tmp_path / "list", content, tmp_path / "images")


def test_pstr_of_several_objects(tmp_path):
    np.save(tmp_path / "query_image_dict.npy", np.array([{"a b": []}, {"c d": []}], dtype=object))
    with pytest.raises(ParseError, match="expected one dict .*, found 2 objects"):
        parse_pstr(tmp_path, PSTR)
    np.save(tmp_path / "query_image_dict.npy", np.array([{"a b": ["1.jpg"]}], dtype=object))
    assert parse_pstr(tmp_path, PSTR).listed == {"a b": ("1.jpg",)}


def test_names_on_other_systems(tmp_path):
    composed, apart = "caf\u00e9.jpg", "cafe\u0301.JPG"
    pictures(tmp_path / "images", apart, "IMG_1.JPG", "b.jpg", "B.jpg")
    listed = {"open": [composed, "img_1.jpg"], "two": ["b.jpg", "B.jpg"], "none": ["B.JPG", "gone.jpg"]}
    parsed = parse_listed(tmp_path / "list", listed, tmp_path / "images")
    assert parsed.listed["open"] == (apart, "IMG_1.JPG"), "the only file that is meant"
    assert parsed.listed["two"] == ("b.jpg", "B.jpg"), "two files are two"
    assert parsed.listed["none"] == ("B.JPG", "gone.jpg"), "no guess between two, and absent ones stay"
    assert [photo.id for photo in parsed.photos if not photo.path.is_file()] == ["B.JPG", "gone.jpg"]


def test_mqtr_has_four_galleries(root):
    for number, subset in enumerate(("word", "phrase", "combined", "semantic"), start=1):
        names = [f"{n}.jpg" for n in range(number)]
        write_mqtr(root / "mqtr/MQTR" / subset, {f"Query of {subset}": names[:1], "and, more": names[-1:]}, names)
    for number, subset in enumerate(("word", "phrase", "combined", "semantic"), start=1):
        gallery, queries = datasets.load("mqtr", subset)
        assert (gallery.split, len(gallery)) == (subset, number)
        assert queries.texts == (f"Query of {subset}", "and, more")
        assert queries.relevant.tolist() == [[n == 0 for n in range(number)], [n == number - 1 for n in range(number)]]
    assert datasets.load("mqtr")[0].split == "word"
    assert [check.counts["queries"] for check in datasets.verify("mqtr")] == [2, 2, 2, 2]
    assert "leakage" in manifest("mqtr").data["notes"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": ["1.jpg"],\n "b": ["1.jpg",]}', "text_queries.json, line 2: not JSON"),
        (b'{"a": ["1.jpg"], "a": ["2.jpg"]}', "query 'a' stands there twice"),
        (b"[]", "expected a dict .*, found a list"),
        (b"", "line 1: not JSON"),
        ('{"caf\u00e9": []}'.encode("latin-1"), r"not UTF-8 text \(byte 5"),
        (b'{"a": [1]}', "query 'a': expected file names; 1 is not text"),
        (b"[" * 200_000, "(nested too deep|not JSON)"),
    ],
)
def test_mqtr_names_the_place(tmp_path, data, message):
    (tmp_path / "MQTR/word").mkdir(parents=True)
    (tmp_path / "MQTR/word/text_queries.json").write_bytes(data)
    with pytest.raises(ParseError, match=message):
        parse_mqtr(tmp_path, MQTR)


HOTEL, BANK, CAFE = "7天连锁酒店", "中国银行", "北京Café"


@pytest.mark.parametrize(
    "inner", ["CSVTR/ChineseRetrievalCollection", "CSVTR", "ChineseRetrievalCollection", "CSVTR/a/b"]
)
def test_csvtr(root, inner):
    base = root / "csvtr" / inner
    pictures(base / HOTEL, "Google_0001.jpeg", "Google_0004.jpeg")
    pictures(base / BANK, "Google_0001.jpeg")
    (base / HOTEL / ".DS_Store").write_bytes(b"x")
    (base / HOTEL / "Thumbs.db").write_bytes(b"x")
    (base / "__MACOSX" / HOTEL).mkdir(parents=True)
    (base / "__MACOSX" / HOTEL / "._Google_0001.jpeg").write_bytes(b"x")
    (base / ".hidden").mkdir()
    gallery, queries = datasets.load("csvtr")
    assert queries.texts == (HOTEL, BANK)
    assert [photo.id for photo in gallery.photos] == [
        f"{HOTEL}/Google_0001.jpeg", f"{HOTEL}/Google_0004.jpeg", f"{BANK}/Google_0001.jpeg"]  # fmt: skip
    assert queries.relevant.tolist() == [[True, True, False], [False, False, True]]
    assert all(photo.path.is_file() for photo in gallery.photos)
    assert datasets.verify("csvtr")[0].problems == ("3 photographs, 1,667 expected", "2 queries, 23 expected")


class OldName(zipfile.ZipInfo):
    """An entry whose name is written in some encoding, without the mark that it is UTF-8."""

    encoding = "gbk"

    def _encodeFilenameFlags(self):  # noqa: N802 - of the library
        return self.filename.encode(self.encoding), self.flag_bits & ~0x800


@pytest.mark.parametrize("encoding", ["gbk", "utf-8", None])
def test_csvtr_archives_of_other_systems(root, encoding, monkeypatch):
    monkeypatch.setattr(OldName, "encoding", encoding)
    pictures(root, "one.jpg")
    target = root / "csvtr/downloads/CSVTR.zip"
    target.parent.mkdir(parents=True)
    with zipfile.ZipFile(target, "w") as archive:
        for query in (HOTEL, BANK, "國際（北京）"):
            name = f"ChineseRetrievalCollection/{query}/Google_0001.jpeg"
            archive.writestr(OldName(name) if encoding else name, (root / "one.jpg").read_bytes())
    assert datasets.fetch("csvtr", progress=False) == root / "csvtr"
    gallery, queries = datasets.load("csvtr")
    assert (
        queries.texts == tuple(sorted((HOTEL, BANK, "國際（北京）")))
        and queries.relevant.tolist() == np.eye(3).tolist()
    )
    assert [photo.id for photo in gallery.photos] == [f"{query}/Google_0001.jpeg" for query in queries.texts]


@QUICK
@given(query=st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=2, max_size=8),
       digits=st.sampled_from(["", "7", "KFC "]))  # fmt: skip
def test_names_of_folders(query, digits):
    query = unicodedata.normalize("NFC", digits + query)
    assert folder_query(query) == query
    assert folder_query(f" {unicodedata.normalize('NFD', query)} ") == query
    listed = os.fsdecode(query.encode("gbk"))
    if not listed.isprintable():  # a few words in GBK are also words in UTF-8, of another script
        assert folder_query(listed) == query


@pytest.mark.parametrize("query", [HOTEL, BANK, "肯德基", "店", "國際（北京）"])
@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
def test_names_in_an_old_code_page(query, encoding):
    assert folder_query(query.encode(encoding).decode("cp437")) == query


@pytest.mark.parametrize("name", ["KFC", CAFE, "Caf\u00e9", "Stra\u00dfe", "\u00c9a", "カフェが", "가게"])
def test_other_names_are_only_composed(name):
    assert folder_query(unicodedata.normalize("NFD", name)) == unicodedata.normalize("NFC", name)


def test_csvtr_arranged_otherwise(tmp_path):
    layout = {"annotations": ["CSVTR"], "images": ["CSVTR"]}
    base = tmp_path / "CSVTR"
    pictures(base / HOTEL, "a.jpeg")
    (base / "空").mkdir()
    assert parse_csvtr(tmp_path, layout).listed == {HOTEL: (f"{HOTEL}/a.jpeg",), "空": ()}
    pictures(base, "sample.jpg")
    with pytest.raises(ParseError, match="CSVTR/sample.jpg: expected one folder a query, found an image beside them"):
        parse_csvtr(tmp_path, layout)
    (base / "sample.jpg").unlink()
    pictures(base / BANK / "more", "a.jpeg")
    with pytest.raises(ParseError, match=f"side by side; folders with images: {base} and in {base / BANK}"):
        parse_csvtr(tmp_path, layout)
    (base / BANK / "more" / "a.jpeg").unlink()
    (base / HOTEL / "a.jpeg").unlink()
    with pytest.raises(ParseError, match="folders with images: none"):
        parse_csvtr(tmp_path, layout)


def test_csvtr_with_a_query_twice_or_unreadable(tmp_path):
    pictures(tmp_path / unicodedata.normalize("NFC", CAFE), "a.jpeg")
    pictures(tmp_path / unicodedata.normalize("NFD", CAFE), "a.jpeg")
    with pytest.raises(ParseError, match=f"stands for the same query '{CAFE}'; remove one of them"):
        parse_query_folders(tmp_path)
    other = tmp_path / "other" / os.fsdecode(b"caf\xe9")
    pictures(other, "a.jpeg")
    with pytest.raises(ParseError, match=r"folder 'caf\\udce9' is neither UTF-8 nor GBK"):
        parse_query_folders(tmp_path / "other")


def test_dl_csvtr_is_declared_and_not_published(root):
    for split in (None, "vertical", "crossline", "partial"):
        with pytest.raises(DatasetMissing, match="This set is not published") as caught:
            datasets.load("DL-CSVTR", split)
        assert "'dl_csvtr'" in str(caught.value) and "2506.04999" in str(caught.value)
    with pytest.raises(DatasetMissing, match="This set is not published"):
        datasets.fetch("dl_csvtr", progress=False)
    assert [check.status for check in datasets.verify("dl_csvtr")] == ["missing"] * 3
    counts = [(split["photographs"], split["queries"]) for split in manifest("dl_csvtr").data["splits"].values()]
    assert counts == [(370, 31), (450, 33), (1250, 25)]
    for split, inner in (("vertical", "vertical"), ("crossline", "DL-CSVTR/crossline"), ("partial", "partial/all")):
        pictures(root / "dl_csvtr" / inner / HOTEL, "1.jpg")
        pictures(root / "dl_csvtr" / inner / BANK, "1.jpg", "2.jpg")
        gallery, queries = datasets.load("dl_csvtr", split)
        assert queries.texts == (HOTEL, BANK) and len(gallery) == 3 and queries.relevant.sum(axis=1).tolist() == [1, 2]


@pytest.mark.parametrize("name", ["pstr", "csvtr", "mqtr"])
def test_what_is_missing_says_where_it_comes_from(root, name):
    with pytest.raises(DatasetMissing, match="By hand:\n  1. .*https://"):
        datasets.load(name)


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "split", "photographs", "queries"),
    [("pstr", "test", 1080, 36), ("csvtr", "test", 1667, 23), ("mqtr", "word", None, 200),
     ("mqtr", "phrase", None, 200), ("mqtr", "combined", None, 200), ("mqtr", "semantic", None, 25)],
)  # fmt: skip
def test_real_counts(name, split, photographs, queries):
    source = manifest(name)
    if lacking := source.lacking(split):
        pytest.skip(f"real data missing: {name}/{split}: no {', '.join(lacking)} in {source.folder()}")
    gallery, found = datasets.load(name, split)
    assert len(found) == queries and photographs in (None, len(gallery))
    if name == "csvtr":
        assert found.relevant.sum(axis=0).tolist() == [1] * 1667, "every photograph answers one query"

"""One's own folder of photographs, with and without ``words.csv``: what is read, what is asked, what is refused."""

import codecs
import csv
import io
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import DatasetMissing, ParseError
from fdp_core.datasets.__main__ import main
from fdp_core.datasets.folder import as_folder, fold_words, read_table, split_cell
from fdp_core.evaluation import results
from fdp_core.evaluation.report import evaluate
from fdp_core.mini import concepts
from fdp_core.retrieval import systems

IDS = ("a.jpg", "b.jpg", "more/c d.png", "straße.jpg")


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), "white").save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Four photographs and no table."""
    for name in IDS:
        picture(tmp_path / "shots" / name)
    return tmp_path / "shots"


def table(folder: Path, content: str | bytes, name: str = "words.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def answers(folder, **options) -> dict[str, set[str]]:
    """Load a folder and return query -> ids of the photographs that answer it."""
    gallery, queries = datasets.load(folder, **options)
    ids = np.array([photo.id for photo in gallery.photos])
    return {text: set(ids[row].tolist()) for text, row in zip(queries.texts, queries.relevant, strict=True)}


# ------------------------------------------------------------------------------------------------ what is asked


def test_words_phrases_and_distractors(folder):
    table(folder, "file,words\na.jpg,Hotel BAR\nb.jpg,happy Birthday|bar\na.jpg,exit\nmore/c d.png,birthday\n")
    assert answers(str(folder)) == {
        "bar": {"a.jpg", "b.jpg"},
        "birthday": {"b.jpg", "more/c d.png"},  # the phrase holds the word
        "exit": {"a.jpg"},
        "happy birthday": {"b.jpg"},
        "hotel": {"a.jpg"},
    }
    gallery, queries = datasets.load(str(folder))
    assert [photo.id for photo in gallery.photos] == sorted(IDS)
    assert queries.protocol == (
        "every distinct word or phrase of words.csv, case-folded, without punctuation around words; "
        "1 of 4 photographs have none and are distractors"
    )
    assert (gallery.name, gallery.split, gallery.may_show) == ("shots", "test", False)


def test_a_part_of_a_word_and_words_apart_do_not_answer(folder):
    table(
        folder, "file,words\na.jpg,birthdays\nb.jpg,birthday\nmore/c d.png,happy birthday\nstraße.jpg,happy birthday|"
    )
    found = answers(folder)
    assert found["birthday"] == {"b.jpg", "more/c d.png", "straße.jpg"}
    assert found["happy birthday"] == {"straße.jpg"}  # in c d.png the two words stand apart


def test_case_and_composition_are_folded(folder):
    table(folder, f"file,words\na.jpg,CAFÉ Straße\nb.jpg,{unicodedata.normalize('NFD', 'café')} STRASSE\n")
    assert answers(folder) == {"café": {"a.jpg", "b.jpg"}, "strasse": {"a.jpg", "b.jpg"}}


def test_punctuation_quotes_and_width_make_no_other_query(folder):
    rows = (
        'a.jpg;"exit, hotel"\nb.jpg;Exit (hotel) Joe’s\nmore/c d.png;ＥＸＩＴ! joe\'s\nstraße.jpg;“Happy, birthday”|\n'
    )
    table(folder, "file;words\n" + rows)
    with pytest.warns(UserWarning, match="'exit' = 'exit,' = .* differ only in punctuation") as caught:
        found = answers(folder)
    assert len(caught) == 1 and "happy" not in str(caught[0].message)
    assert found == {
        "exit": {"a.jpg", "b.jpg", "more/c d.png"},
        "happy birthday": {"straße.jpg"},
        "hotel": {"a.jpg", "b.jpg"},
        "joe's": {"b.jpg", "more/c d.png"},
    }


@pytest.mark.parametrize("word", ["$5", "50%", "#1", "c++", "@home", "&", "...", "o'clock", "1,000", "24/7", "é"])
def test_signs_that_mean_something_stay(word):
    assert fold_words(word) == word


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("exit®", "exit"),
        ("~exit~", "exit"),
        ("\u200eexit\u2069", "exit"),
        ("❤\ufe0f", "❤"),
        ("Oʻahu", "o'ahu"),
        ("co\u2011op", "co-op"),
        ("ﾎﾞｽ", "ボス"),
        ("１００％", "100%"),
    ],
)
def test_what_looks_alike_is_one_query(one, other):
    assert fold_words(one) == fold_words(other) == other


AROUND = st.text(st.sampled_from(".,;:!?…()[]“”’'\"«»‹›—–「」『』【】؟।"), max_size=3)


@settings(max_examples=500, deadline=None)
@example(word="\u0149", before="", after="")
@example(word="e\u200b\u0301", before="(", after="!")
@given(word=st.text(st.characters(categories=("L", "N")), min_size=1, max_size=6), before=AROUND, after=AROUND)
def test_whatever_stands_around_a_word_it_is_one_query(word, before, after):
    folded = fold_words(before + word + after)
    assert folded == fold_words(word) == fold_words(folded)


def test_what_has_no_width_is_no_letter(folder):
    table(folder, "file,words\na.jpg,ex\u00adit\u200b \u200b\nb.jpg,exit \ufeff\u2060\n")
    with pytest.warns(UserWarning, match="one query each"):
        assert answers(folder) == {"exit": {"a.jpg", "b.jpg"}}


def test_case_alone_needs_no_warning(folder):
    table(folder, "file,words\na.jpg,EXIT\nb.jpg,exit\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answers(folder) == {"exit": {"a.jpg", "b.jpg"}}


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("", []),
        ("  exit   hotel ", ["exit", "hotel"]),
        ("happy birthday|", ["happy birthday"]),
        (" happy \n birthday | exit ||", ["happy birthday", "exit"]),
        ("|", []),
        ('say "hi"', ["say", '"hi"']),
    ],
)
def test_the_rule_of_a_cell(cell, words):
    assert split_cell(cell) == words


def test_what_was_measured_has_a_hash(folder):
    path = table(folder, "file,words\na.jpg,exit\n")
    first = datasets.load(folder)[0].manifest_hash
    assert len(first) == 64 and datasets.load(folder)[0].manifest_hash == first
    path.write_text("file,words\na.jpg,exits\n")
    second = datasets.load(folder)[0].manifest_hash
    picture(folder / "another.jpg")
    assert len({first, second, datasets.load(folder)[0].manifest_hash}) == 3


# ----------------------------------------------------------------------------------------------- what is written

LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="|")
WORDS = st.text(LETTERS, min_size=1, max_size=8).filter(lambda text: text.split() == [text])
ROWS = st.lists(st.tuples(st.sampled_from(IDS), st.lists(WORDS, max_size=4)), min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    rows=ROWS,
    separator=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    columns=st.permutations(["file", "words", "note"]),
    joint=st.sampled_from([" ", "|", " | ", "\n"]),
)
def test_written_tables_come_back(tmp_path, rows, separator, end, mark, quoting, columns, joint):
    if joint == "\n":
        quoting = csv.QUOTE_ALL  # Python 3.11 forgets the quotes around it where rows end in \r
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow([name.capitalize() for name in columns])
    for name, words in rows:
        cell = joint.join(words) + ("|" if "|" in joint and len(words) == 1 else "")
        entry = {"file": name.replace("/", "\\"), "words": cell, "note": f"a{separator}note"}
        writer.writerow([entry[column] for column in columns])
    path = tmp_path / "words.csv"
    path.write_bytes((codecs.BOM_UTF8 if mark else b"") + text.getvalue().encode("utf-8"))
    expected: dict[str, tuple[str, ...]] = {}
    for name, words in rows:
        expected[name] = expected.get(name, ()) + tuple(words)
    assert read_table(path, IDS) == expected


def test_names_as_other_systems_write_them(folder):
    wide = unicodedata.normalize("NFD", "STRASSE").lower()
    rows = f"file;words\r\n.\\A.JPG;one\r\nmore\\c d.png;two\r\n./b.jpg;three\r\n{wide}.jpg;four\r\n"
    table(folder, codecs.BOM_UTF8 + rows.encode())
    assert answers(folder) == {"one": {"a.jpg"}, "two": {"more/c d.png"}, "three": {"b.jpg"}, "four": {"straße.jpg"}}


def test_names_that_differ_only_in_case_are_told_apart(tmp_path):
    ids = ("A.jpg", "a.jpg")
    assert read_table(table(tmp_path, "file,words\na.jpg,low\nA.jpg,high\n"), ids) == {
        "a.jpg": ("low",),
        "A.jpg": ("high",),
    }
    with pytest.raises(ParseError, match="line 2: a.JPG"):
        read_table(table(tmp_path, "file,words\na.JPG,either\n"), ids)


def test_a_name_with_a_colon_that_is_there(tmp_path):
    assert read_table(table(tmp_path, "file,words\n10:30.jpg,open\n"), ("10:30.jpg",)) == {"10:30.jpg": ("open",)}


def test_blank_rows_and_a_table_called_otherwise(folder):
    table(folder, "\n\nfile,words\n\n,\na.jpg,exit\n\n", name="Words.CSV")
    assert answers(folder) == {"exit": {"a.jpg"}}


# ----------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("a.jpg,exit\n", 1, "expected a header with one column file and one column words.*'a.jpg,exit'"),
        ("", 1, "expected a header"),
        ("\nfile|words\n", 2, "expected a header"),
        ("file,file,words\n", 1, "expected a header with one column file"),
        ("file,words\nfi\0le,x\n", 2, "no text"),
        ("x" * 200_000, 1, "expected a header.*'xxx"),
        ("file,words\na.jpg,exit,hotel\n", 2, "3 cells where the header names 2"),
        ("file,words\n\na.jpg\n", 3, "1 cells where the header names 2"),
        ('file,words\na.jpg,exit\nb.jpg,"open\n\n', 3, "is a quote left open"),
        ('file,words\na.jpg,"ex"it\n', 2, "not a table that can be read"),
        ("file,words\n../a.jpg,exit\n", 2, "own folder"),
        ("file,words\nC:\\shots\\a.jpg,exit\n", 2, "own folder"),
        ("file,words\na.jpg,caf\xe9\n".encode("latin-1"), 2, "0xe9 is not UTF-8 text; save the table as CSV UTF-8"),
        ("file\twords\na.jpg\texit\n".encode("utf-16"), 1, "UTF-16; save the table as CSV UTF-8"),
        ("file,words\na.jpg,\n", None, "names no word"),
    ],
)
def test_what_is_no_table_names_its_line(folder, content, line, message):
    path = table(folder, content)
    with pytest.raises(ParseError, match=message) as caught:
        datasets.load(str(folder))
    assert (caught.value.path, caught.value.line) == (path, line)


def test_names_that_are_not_there_come_with_line_and_guess(folder):
    table(folder, 'file,words\na.jpg,"exit\n\nhotel"\nb.jgp,bar\nzzz,bar\n')
    with pytest.raises(ParseError) as caught:
        datasets.load(folder)
    told = str(caught.value)
    assert "words.csv, line 5: " in told
    assert "line 5: b.jgp (did you mean b.jpg?); line 6: zzz. " in told


def test_many_unknown_names_are_counted(folder):
    table(folder, "file,words\n" + "".join(f"{n}.none,x\n" for n in range(13)))
    with pytest.raises(ParseError, match="line 11: 9.none.*and 3 more"):
        datasets.load(folder)


def test_two_tables(folder):
    table(folder, "file,words\na.jpg,exit\n")
    table(folder, "file,words\na.jpg,exit\n", name="WORDS.csv")
    with pytest.raises(ParseError, match="keep one of them"):
        datasets.load(folder)


# ------------------------------------------------------------------------------------------------ name or folder


def test_without_a_table_there_is_nothing_to_measure_and_that_is_said(folder):
    with pytest.warns(UserWarning, match="no words.csv in the folder.*searched, not measured"):
        gallery, queries = datasets.load(str(folder))
    assert len(gallery) == 4 and queries.relevant.shape == (0, 4) and "no words.csv" in queries.protocol


def test_a_path_is_told_from_a_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "svt").mkdir()
    picture(folder.parent / "svt" / "x.jpg")
    assert as_folder("shots") == Path("shots") and as_folder("./shots") == Path("shots")
    assert as_folder(Path("svt")) == Path("svt") and as_folder("./svt") == Path("svt")
    assert as_folder("~/shots") == Path.home() / "shots" and as_folder("C:\\shots") is not None
    for name in ("svt", "SVT", "street-view-text", "svtt", ""):
        assert as_folder(name) is None, name
    assert datasets.where("./svt") == Path("svt") and datasets.where("svt").is_absolute()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert datasets.load("./svt")[0].name == "folder svt"  # no record of it passes for the set's


def test_slips_get_the_error_that_fits(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'icdar2015'"):
        datasets.load("icdar2051")
    with pytest.raises(DatasetMissing, match="There is no folder .*nowhere"):
        datasets.load(str(tmp_path / "nowhere"))
    with pytest.raises(DatasetMissing, match="There is no folder svt/x"):
        datasets.load("svt/x")
    with pytest.raises(DatasetMissing, match="no photographs"):
        datasets.load(tmp_path)


def test_a_split_is_a_label(folder):
    table(folder, "file,words\na.jpg,exit\n")
    assert datasets.load(folder, "train")[0].split == "train"
    with pytest.raises(ValueError, match="no split 'val'"):
        datasets.load(folder, "val")


def test_downloading_and_query_texts_take_folders_too(folder):
    table(folder, "file,words\na.jpg,exit\n")
    assert answers(str(folder), split="test", download=True) == {"exit": {"a.jpg"}}  # as the chapters call it
    assert concepts.query_texts(str(folder)) == ("exit",)


def test_a_folder_is_measured_and_recorded_like_a_set(folder):
    table(folder, "file,words\na.jpg,exit bar\nb.jpg,bar\n")
    gallery, queries = datasets.load(str(folder), "test", download=True)
    report = evaluate(systems.chance(0), gallery, queries)
    entry = results.record(report, {"dataset": str(folder)})
    assert (entry["set"], entry["split"], entry["queries"], entry["images"]) == ("shots", "test", 2, 4)
    assert entry["manifest_hash"] == gallery.manifest_hash and entry["protocol"] == queries.protocol
    assert str(folder.parent) not in str(entry), "a record names no folder of the machine"


def test_a_folder_can_be_verified(folder, capsys):
    table(folder, "file,words\na.jpg,exit\n")
    (check,) = datasets.verify(str(folder))
    assert (check.status, check.counts, check.problems) == ("present", {"photographs": 4, "queries": 1}, ())
    (folder / "b.jpg").write_text("no photograph")
    assert datasets.verify(folder, quick=True)[0].status == "present"
    (check,) = datasets.verify(folder)
    assert check.status == "damaged" and len(check.problems) == 1 and "b.jpg" in check.problems[0]
    table(folder, "file,words\nz.jpg,exit\n")
    assert main(["verify", str(folder)]) == 1 and "words.csv, line 2" in capsys.readouterr().out
    assert datasets.verify(folder / "nowhere")[0].status == "missing"
    assert main(["where", str(folder)]) == 0 and capsys.readouterr().out == f"{folder}\n"


def test_loading_a_set_by_its_name_is_as_before():
    gallery, queries = datasets.load("mini-gallery")
    assert gallery.name == "mini" and len(queries) > 0

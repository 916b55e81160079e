"""Manifests follow their schema, name their sets, and their protocols make the right queries."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from fdp_core import datasets
from fdp_core.datasets import protocol
from fdp_core.datasets.__main__ import main
from fdp_core.datasets.describe import render_readme
from fdp_core.datasets.manifest import PACKAGE, manifest
from fdp_core.datasets.types import Parsed, ParseError, Photo, Word, box_polygon

FOLDER = Path(__file__).parents[2] / "data_manifests"
SETS = ["icdar2015", "iiit_str", "mini", "mini_train", "mlt2019", "svt"]


def photo(name, *texts, script="Latin", ignore=False):
    words = tuple(Word(text, box_polygon(0, 0, 9, 4), ignore, script) for text in texts)
    return Photo(name, Path(name), words)


def test_every_set_of_the_main_job_has_a_manifest():
    assert set(SETS) <= set(datasets.names())
    for source in datasets.all_manifests():
        assert (
            source.hash == hashlib.sha256(source.path.read_bytes()).hexdigest() == datasets.manifest_hash(source.name)
        )
        assert source.path.parent == FOLDER
        for split in source.data["splits"].values():
            if frozen := split["protocol"]["queries"].get("file"):
                texts = protocol.read_frozen(FOLDER / frozen, split["protocol"]["queries"]["sha256"])
                assert len(texts) == split["queries"] == split["protocol"]["queries"]["count"]
                assert all(protocol.normalise(text, split["protocol"]) == text for text in texts)


@pytest.mark.parametrize(
    ("alias", "name"),
    [("iiit", "iiit_str"), ("IIIT-STR", "iiit_str"), ("svt", "svt"), ("ic15", "icdar2015"), ("ICDAR2015", "icdar2015"),
     ("mlt", "mlt2019"), ("mlt2019", "mlt2019"), ("mini", "mini"), ("mini-train", "mini_train")],
)  # fmt: skip
def test_aliases(alias, name):
    assert manifest(alias).name == name


def test_aliases_are_unique():
    used = [alias.lower() for source in datasets.all_manifests() for alias in (source.name, *source.data["aliases"])]
    assert len(used) == len(set(used))


def test_a_slip_gets_a_hint():
    with pytest.raises(ValueError, match="Unknown data set 'svvt'.*Did you mean 'svt'"):
        datasets.load("svvt")
    with pytest.raises(ValueError, match="no split 'train'; it has: test"):
        datasets.load("iiit", "train")


def test_the_page_is_the_manifests(capsys):
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == render_readme()
    assert main(["readme", "--check"]) == 0


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of manifests to change."""
    for path in (*FOLDER.glob("*.yaml"), FOLDER / "schema.json"):
        shutil.copy(path, tmp_path)
    shutil.copytree(FOLDER / "queries", tmp_path / "queries")
    monkeypatch.setenv("FDP_MANIFESTS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": None}, r"svt.yaml: \$"),
        ({"colour": "red"}, "colour"),
        ({"folder": "../elsewhere"}, "folder"),
        ({"folder": "/tmp"}, "folder"),
        ({"parser": "guess"}, "parser"),
        ({"name": "other"}, "not that of the file"),
        ({"package": "assets"}, "svt.yaml"),
        ({"splits": {}}, "splits"),
        ({"files": [{"file": "../x.zip", "max_mb": 1, "about_mb": 1}]}, "files"),
        ({"files": [{"file": "x.zip", "max_mb": 1, "about_mb": 1, "urls": ["file:///etc/passwd"]}]}, "urls"),
    ],
)
def test_the_schema_refuses(own, change, message):
    data = yaml.safe_load((own / "svt.yaml").read_text())
    (own / "svt.yaml").write_text(yaml.safe_dump(data | change))
    with pytest.raises(datasets.ManifestError, match=message):
        manifest("svt")


def test_bad_yaml_and_no_manifests(own, monkeypatch):
    (own / "svt.yaml").write_text("name: [")
    with pytest.raises(datasets.ManifestError, match="svt.yaml: not valid YAML"):
        manifest("svt")
    monkeypatch.setenv("FDP_MANIFESTS", str(own / "nothing"))
    with pytest.raises(datasets.ManifestError, match="FDP_MANIFESTS"):
        datasets.names()


def test_where_data_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("FDP_DATA", raising=False)
    assert datasets.data_root() == Path.cwd() / "data"
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    assert datasets.where("ic15") == tmp_path / "icdar2015"
    assert datasets.where("ic15", root=tmp_path / "x") == tmp_path / "x" / "icdar2015"
    assert datasets.where("mini") == PACKAGE / "assets" / "mini_gallery"


@pytest.mark.parametrize("name", ["iiit", "svt", "ic15", "mlt"])
def test_a_missing_set_says_what_to_do(name, monkeypatch, tmp_path):
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    with pytest.raises(datasets.DatasetMissing) as caught:
        datasets.load(name)
    message, source = str(caught.value), manifest(name)
    assert f"'{source.name}'" in message and source.data["title"] in message
    assert f"python -m fdp_core.datasets fetch {source.name}" in message
    assert str(tmp_path) in message and "FDP_DATA" in message and "By hand" in message


def test_a_broken_shipped_set_says_to_install_again(own, monkeypatch):
    data = yaml.safe_load((own / "mini.yaml").read_text())
    (own / "mini.yaml").write_text(yaml.safe_dump(data | {"package": "assets/nowhere"}))
    with pytest.raises(datasets.DatasetMissing, match="install the package again"):
        datasets.load("mini")


RECIPE = manifest("ic15").split("test")[1]["protocol"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("SALE!", ["sale"]), ("'Open'", ["open"]), ("#01-15", ["01-15"]), ("Ad  Space", ["space"]),
     ("A.B.C", ["abc"]), ("AT HIGH", ["high"]), ("$5,50", ["5,50"]), ("Cafe\u0301", ["caf\u00e9"]), ("Hi", [])],
)  # fmt: skip
def test_the_ic15_recipe(text, expected):
    assert protocol.tokens(Word(text, box_polygon(0, 0, 1, 1)), RECIPE) == expected


def test_ignored_words_and_other_scripts_are_no_queries():
    mlt = manifest("mlt").split()[1]["protocol"]
    assert protocol.photo_tokens(photo("a", "Haus", "haus"), mlt) == ["haus", "haus"]
    assert protocol.photo_tokens(photo("a", "Haus", ignore=True), mlt) == []
    assert protocol.photo_tokens(photo("a", "Haus", script="Mixed"), mlt) == []
    assert protocol.photo_tokens(photo("a", "ab", "x" * 14, "x" * 13), mlt) == ["x" * 13]


def test_ranking_counts_photographs_and_breaks_ties_by_alphabet():
    photos = [photo("a", "zoo", "zoo", "bar"), photo("b", "Bar", "ant"), photo("c", "the", "the", "the")]
    ranked = protocol.rank_words(photos, RECIPE)
    assert ranked == [("bar", 2), ("ant", 1), ("the", 1), ("zoo", 1)]
    instances = RECIPE | {"queries": {"rule": "top", "rank": "instances"}}
    assert protocol.rank_words(photos, instances) == [("the", 3), ("bar", 2), ("zoo", 2), ("ant", 1)]


def test_relevance_is_the_case_folded_word():
    photos = [photo("a", "Coffee", "SHOP"), photo("b", "coffeeshop"), photo("c", "COFFEE")]
    queries = datasets.queries_for(["coffee", "Shop", "tea"], photos)
    np.testing.assert_array_equal(queries.relevant, [[1, 0, 1], [1, 0, 0], [0, 0, 0]])
    assert queries.texts == ("coffee", "Shop", "tea")


def test_every_word_and_top_words(tmp_path):
    photos = (photo("a", "Zoo", "Bar"), photo("b", "bar"))
    svt = manifest("svt").split()[1]["protocol"]
    queries = protocol.build_queries(Parsed(photos), svt, tmp_path)
    assert queries.texts == ("bar", "zoo") and queries.relevant.tolist() == [[True, True], [True, False]]
    top = svt | {"queries": {"rule": "top", "count": 1, "rank": "photographs", "ties": "alphabetical"}}
    assert protocol.build_queries(Parsed(photos), top, tmp_path).texts == ("bar",)


def test_listed_queries_keep_groups_and_unanswerable_ones_go_with_a_warning(tmp_path):
    rule = manifest("mini").split()[1]["protocol"]
    photos = (photo("a", "x"), photo("b", "y"))
    parsed = Parsed(
        photos, {"cup": ("b",), "nothing": (), "and": ("a", "b")}, {"content": ("cup",), "function": ("and",)}
    )
    with pytest.warns(UserWarning, match="1 queries without a relevant photograph left out: nothing"):
        queries = protocol.build_queries(parsed, rule, tmp_path, "mini")
    assert queries.texts == ("cup", "and") and queries.relevant.tolist() == [[False, True], [True, True]]
    assert {name: members.tolist() for name, members in queries.groups.items()} == {
        "content": [True, False], "function": [False, True]}  # fmt: skip
    assert protocol.build_queries(Parsed(photos), rule, tmp_path).texts == ("x", "y"), "no list: every word"


def test_a_changed_frozen_list_is_noticed(own):
    frozen = own / "queries" / "icdar2015_top100.txt"
    frozen.write_text(frozen.read_text() + "extra\n")
    with pytest.raises(ParseError, match="SHA-256 differs"):
        protocol.build_queries(Parsed((photo("a", "sale"),)), RECIPE, own)


def test_published_numbers():
    with (FOLDER / "paper_results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == "method,venue,year,set,metric,value,fps,source,notes".split(",")
    assert all(row["method"] and row["set"] and row["source"] and None not in row for row in rows)
    assert all(0 < float(row["value"]) <= 100 and 2010 < int(row["year"]) < 2030 for row in rows)
    assert all(row["metric"] == "mAP" for row in rows)
    assert len({(row["method"], row["set"]) for row in rows}) == len(rows)
    numbers = {(row["method"], row["set"]): row["value"] for row in rows}
    assert numbers["FDP-RN50x16", "SVT"] == "89.63" and numbers["FDP-RN50x16", "IIIT-STR"] == "89.46"
    assert numbers["CAYN", "TotalText"] == "85.98" and numbers["TG-Bridge", "IC15"] == "83.55"
    keys = {row["set"] for row in rows}
    real = [source for source in datasets.all_manifests() if not source.shipped and "published" in source.data]
    assert {source.data["published"] for source in real} <= keys


def test_commands(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in SETS)
    assert main(["where", "iiit"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "iiit_str")
    assert main(["show", "svt"]) == 0
    assert datasets.manifest_hash("svt") in capsys.readouterr().out
    assert main(["verify", "svt"]) == 1
    assert "svt/test: missing" in capsys.readouterr().out
    assert main(["where", "svvt"]) == 1
    assert "Did you mean" in capsys.readouterr().err
    assert json.loads((FOLDER / "schema.json").read_text())["additionalProperties"] is False

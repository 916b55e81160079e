"""Manifests as Croissant 1.1: what is said is what the manifest holds, and mlcroissant finds it valid."""

import json
import math
from pathlib import Path

import pytest

from fdp_core.datasets import croissant
from fdp_core.datasets.__main__ import main
from fdp_core.datasets.croissant import NoHash, export
from fdp_core.datasets.manifest import all_manifests, manifest
from fdp_core.files import sha256_file

MANIFESTS = Path(__file__).parents[2] / "data_manifests"
RECOMMENDED = ("datePublished", "version", "citeAs")  # what no manifest, or not every one, holds


@pytest.fixture(autouse=True)
def empty_data_folder(tmp_path, monkeypatch):
    """No hash of a download on this machine slips in."""
    monkeypatch.setenv("FDP_DATA", str(tmp_path / "data"))


def hashed(source) -> bool:
    return source.shipped or all({"sha256", "md5"} & entry.keys() for entry in source.data["files"])


def validated(tmp_path, described):
    """Return mlcroissant's data set of a description; fails where it finds an error or a warning that is not known."""
    import mlcroissant

    path = tmp_path / "croissant.json"
    path.write_text(json.dumps(described), encoding="utf-8")
    dataset = mlcroissant.Dataset(jsonld=str(path))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    odd = [text for text in issues.warnings if not any(name in text for name in RECOMMENDED)]
    assert not odd, odd
    assert dataset.metadata.ctx.is_v1_1()
    return dataset


@pytest.mark.parametrize("name", [source.name for source in all_manifests() if hashed(source)])
def test_every_set_with_hashes_is_valid(tmp_path, name):
    described = export(name)
    dataset = validated(tmp_path, described)
    source = manifest(name)
    assert dataset.metadata.name == name and len(dataset.metadata.distribution) == len(described["distribution"])
    if not source.data.get("splits"):
        assert "recordSet" not in described  # weights of models
        return
    records = list(dataset.records("splits"))
    assert [record["splits/split"] for record in records] == list(source.data["splits"])
    for record, facts in zip(records, source.data["splits"].values(), strict=True):
        for key in ("photographs", "words", "legible", "queries"):
            if key in facts:
                assert record[f"splits/{key}"] == facts[key]


def test_what_a_set_says_by_hand():
    described = export("street-view-text")
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert described["name"] == "svt" and "Street View Text (SVT)" in described["alternateName"]
    assert described["license"] == "not stated, research use"
    assert described["conditionsOfAccess"].endswith("Photographs must not be shown.")
    assert described["distribution"] == [
        {
            "@type": "cr:FileObject",
            "@id": "svt.zip",
            "name": "svt.zip",
            "description": "Needed for: test, train.",
            "contentUrl": "http://www.iapr-tc11.org/dataset/SVT/svt.zip",
            "encodingFormat": "application/zip",
            "sha256": "63b3d55e6b6d1e036e2a844a20c034fe3af3c32e4d914d6e0c4a3cd43df3bebf",
        }
    ]
    (splits,) = described["recordSet"]
    assert splits["data"][0]["splits/queries"] == 427 and splits["data"][1]["splits/photographs"] == 100
    assert "datePublished" not in described and "version" not in described  # nobody has looked them up


def test_a_known_licence_is_an_address():
    described = export("ic15")
    assert described["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert "CC BY 4.0" in described["creditText"]
    assert [sorted({"md5", "sha256"} & entry.keys()) for entry in described["distribution"]] == [["md5"]] * 4


def test_files_of_a_shipped_set_carry_their_own_hashes():
    described = export("mini")
    folder = manifest("mini").folder()
    files = {entry["contentUrl"]: entry for entry in described["distribution"]}
    assert files["gallery.json"]["sha256"] == sha256_file(folder / "gallery.json")
    assert files["gallery.json"]["encodingFormat"] == "application/json"
    assert files["gallery.json"]["contentSize"] == f"{(folder / 'gallery.json').stat().st_size} B"
    assert len(files) == len((folder / "SHA256SUMS").read_text().splitlines())


# ------------------------------------------------------------------------------------------ hashes not published

UNKNOWN = """\
name: toy
title: A toy set
aliases: []
description: Two archives whose hashes nobody has published.
homepage: https://example.org/
licence: {name: unknown, may_show: false, source: No licence is stated.}
parser: icdar
folder: toy
tree: toy/
files:
  - {file: a.zip, urls: ["https://example.org/a.zip"], about_mb: 1, max_mb: 9}
  - {file: b.tar, sha256: "%s", about_mb: 1, max_mb: 9, splits: [test]}
by_hand: [Ask for it.]
splits:
  test:
    photographs: 3
    layout: {annotations: [a], images: [b]}
    protocol: &p {summary: every word, source: made up, relevance: word, queries: {rule: every}}
  train:
    layout: {annotations: [a], images: [b]}
    protocol: *p
""" % ("0" * 64)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A set of which one hash is not published; gives the path of the record of its downloads."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "schema.json").write_bytes((MANIFESTS / "schema.json").read_bytes())
    (folder / "toy.yaml").write_text(UNKNOWN, encoding="utf-8")
    monkeypatch.setenv("FDP_MANIFESTS", str(folder))
    record = tmp_path / "data" / "toy" / "downloads" / "record.json"
    record.parent.mkdir(parents=True)
    return record


def test_without_a_hash_there_is_no_description(toy, capsys):
    with pytest.raises(NoHash, match="a.zip none is known. Fetch it first .*fetch toy"):
        export("toy")
    assert main(["croissant", "toy"]) == 1 and "a.zip none is known" in capsys.readouterr().err


def test_the_hash_of_the_first_download_serves_and_is_called_so(toy, tmp_path):
    noted = {"sha256": "ab" * 32, "bytes": 1234, "source": "https://example.org/a.zip", "date": "2026-11-01"}
    toy.write_text(json.dumps({"trusted": {"a.zip": noted}}))
    described = export("toy")
    first, second = described["distribution"]
    assert (first["sha256"], first["contentSize"]) == ("ab" * 32, "1234 B")
    assert "first download here (2026-11-01), not published" in first["description"]
    assert first["description"].startswith("Needed for: test, train.")
    assert second["contentUrl"] == "b.tar" and second["description"].startswith("Needed for: test. No address")
    assert second["encodingFormat"] == "application/x-tar" and "citeAs" not in described
    dataset = validated(tmp_path, described)
    test, train = (record["splits/photographs"] for record in dataset.records("splits"))
    assert test == 3 and math.isnan(train)  # not pinned


# ------------------------------------------------------------------------------------------------------ command


def test_the_command_prints_or_writes(tmp_path, capsys):
    assert main(["croissant", "svt"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == export("svt")
    path = tmp_path / "new" / "svt.json"
    assert main(["croissant", "svt", "--out", str(path)]) == 0
    assert path.read_text(encoding="utf-8") == printed and "wrote" in capsys.readouterr().out
    assert main(["croissant", "svtt"]) == 1 and "Did you mean 'svt'" in capsys.readouterr().err


def test_the_context_is_that_of_mlcroissant():
    from mlcroissant import Metadata

    assert croissant._CONTEXT.keys() >= set(Metadata(name="x").to_json()["@context"])

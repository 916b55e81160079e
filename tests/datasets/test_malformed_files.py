"""Manifests, galleries, annotations, records and caches of another shape: one kind of error, which names the file."""

from __future__ import annotations

import json

import numpy as np
import odd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fdp_core.datasets import ParseError
from fdp_core.datasets.download import FetchError
from fdp_core.datasets.fetch import read_record
from fdp_core.datasets.formats import coco_text, listed, mini
from fdp_core.datasets.manifest import ManifestError, data_root, manifest, read_manifest
from fdp_core.evaluation import results
from fdp_core.retrieval.features import FileRows
from fdp_core.retrieval.geometry import Geometry
from fdp_core.studies import ablation_grid

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
GALLERY = {
    "images": [
        {
            "file": "images/0.jpg",
            "words": [{"text": "Open", "polygon": [[0, 0], [9, 0], [9, 5]], "ignore": False, "colour": "red"}],
            "pictures": ["cup"],
        },
        {"file": "images/1.jpg"},
    ],
    "queries": [{"text": "open", "group": "content", "relevant": ["images/0.jpg"]}],
}
COCO = {
    "imgs": {"1": {"set": "train", "file_name": "a.jpg"}, "2": {"set": "val", "file_name": "b.jpg"}},
    "anns": {
        "7": {"bbox": [1, 2, 3, 4], "mask": [], "language": "english", "legibility": "legible", "utf8_string": "a"}
    },
    "imgToAnns": {"1": [7], "2": []},
}
LISTED = {"open": ["a.jpg", "b.jpg"], "the cup": ["b.jpg"]}


def refused(path, text, read, error):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        return read(path)
    except error as fault:
        assert path.name in str(fault)


@QUICK
@given(odd.spoilt_text(GALLERY))
def test_gallery(tmp_path, text):
    found = refused(tmp_path / "gallery.json", text, mini.parse_file, ParseError)
    assert found is None or all(type(word.ignore) is bool for photo in found.photos for word in photo.words)


def test_the_text_false_is_no_flag(tmp_path):
    wrong = odd.put(GALLERY, ("images", 0, "words", 0, "ignore"), "false")
    (tmp_path / "gallery.json").write_text(json.dumps(wrong))
    with pytest.raises(ParseError, match="images/0/words/0/ignore: .*boolean; found 'false'"):
        mini.parse_file(tmp_path / "gallery.json")
    data = yaml.safe_load(manifest("svt").path.read_text(encoding="utf-8"))
    for wrong in ("false", "no", 1, None):
        (tmp_path / "svt.yaml").write_text(yaml.safe_dump(odd.put(data, ("licence", "may_show"), wrong)))
        with pytest.raises(ManifestError, match=r"svt.yaml: \$.licence.may_show: .* is not of type 'boolean'"):
            read_manifest(tmp_path / "svt.yaml")


@QUICK
@given(odd.spoilt_text(COCO))
def test_coco_text(tmp_path, text):
    refused(tmp_path / "cocotext.json", text, lambda path: coco_text.parse_file(path, tmp_path), ParseError)


@QUICK
@given(odd.spoilt_text(LISTED))
def test_listed(tmp_path, text):
    layout = {"annotations": ["text_queries.json"], "images": ["images"]}
    (tmp_path / "images").mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).touch()
    refused(tmp_path / "text_queries.json", text, lambda path: listed.parse_mqtr(tmp_path, layout), ParseError)


WHOLE = yaml.safe_load(manifest("icdar2015").path.read_text(encoding="utf-8"))


@QUICK
@given(odd.spoilt(WHOLE).map(lambda value: yaml.safe_dump(value, allow_unicode=True)) | st.text(max_size=30))
@example("[" * 5000)
@example("&a [*a]")
@example("when: 2026-13-45")
@example("? [1]\n: 2")
def test_manifest(tmp_path, text):
    found = refused(tmp_path / "icdar2015.yaml", text, read_manifest, ManifestError)
    if found is not None:
        assert type(found.may_show) is bool and found.parts and found.folder(data_root(tmp_path))


RECORD = results.measurement("s", "mAP", {"mAP": 1.0}, protocol="p", parameters={"n": 1}, groups={"a": {"mean": 0.5}})


@QUICK
@given(odd.spoilt_text(RECORD))
def test_record(tmp_path, text):
    refused(tmp_path / "r" / "x.json", text, lambda path: results.load_all(path.parent), results.BadRecord)


LINE = dict.fromkeys((*ablation_grid._IDENTITY, "row"), "x") | {"seed": 0, "mAP": 1.0, "ap": [1.0]}


@QUICK
@given(odd.spoilt_text(LINE))
def test_ablation_records(tmp_path, text):
    found = refused(tmp_path / "ablations.jsonl", text, ablation_grid.load, ValueError)
    assert not found or ablation_grid.identity_of(found[0])


FETCHED = {"trusted": {"a.zip": {"sha256": "0" * 64}}, "unpacked": {"a.zip": "0"}, "files": {}}


@QUICK
@given(odd.spoilt_text(FETCHED))
def test_record_of_a_fetch(tmp_path, text):
    refused(tmp_path / "downloads" / "record.json", text, lambda path: read_record(tmp_path), FetchError)


@QUICK
@given(odd.spoilt_text({"geometry": {"scale": 1.0, "dx": 0, "dy": 0, "size": 64}, "crc": 0}))
def test_a_row_of_the_cache_is_as_it_was_or_not_there(tmp_path, text):
    """A damaged cache is computed anew."""
    rows = FileRows(tmp_path, {"trunk": "t"}, (1, 2, 2), ["a"])
    rows.save(0, np.zeros((1, 2, 2)), Geometry(1.0, 0.0, 0.0, 64))
    block = rows._files[0].read_bytes().split(b"\n", 1)[1]
    rows._files[0].write_bytes(text.encode() + b"\n" + block)
    assert isinstance(rows.load(0), Geometry | None)

"""Records: complete, replaced by a re-run, loud when damaged, joined with published numbers."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from eval_fakes import HandSystem, gallery, queries

from fdp_core.evaluation import provenance, results
from fdp_core.evaluation.report import evaluate
from fdp_core.studies.paper import compare_with_paper, paper_results, set_key


@pytest.fixture
def report(tmp_path):
    return evaluate(HandSystem(unreadable=(2,)), gallery(tmp_path / "g"), queries(), kinds=np.array([0, 0, 1, 1, 1]))


def test_a_record_holds_everything_that_the_number_depends_on(report):
    entry = results.record(report, {"seed": 3, "folder": Path("/home/me/data/svt"), "cache": "/tmp/x/y"})
    assert entry["value"] == pytest.approx(84.0) and entry["values"]["mAP"] == entry["value"]
    assert (entry["set"], entry["split"], entry["metric"]) == ("toy", "test", "mAP")
    assert (entry["queries"], entry["images"], entry["unreadable"]) == (5, 5, 1)
    assert entry["backbone"] == "mini" and entry["weights_hash"] == "f" * 64
    assert entry["manifest_hash"] == "manifest" and entry["device"].startswith("cpu (")
    assert entry["parameters"] == {"image_size": 64, "seed": 3, "folder": "svt", "cache": "y"}
    assert {"python", "torch", "numpy", "fdp_core"} <= set(entry["libraries"])
    assert entry["groups"]["content"]["from"] == "clusters"
    assert 0 <= entry["interval"][0] < entry["value"] < entry["interval"][1] <= 100
    assert entry["date"].endswith("+00:00") and entry["seconds"] >= 0
    assert json.loads(json.dumps(entry)) == entry


def test_a_rerun_replaces_its_file_and_another_run_does_not(report, tmp_path):
    folder = tmp_path / "results"
    first = results.save(results.record(report, {"seed": 1}), folder)
    changed = results.record(report, {"seed": 1}) | {
        "value": 1.5,
        "commit": "0" * 40,
        "date": "later",
        "weights_hash": "e",
    }
    assert results.save(changed, folder) == first
    assert json.loads(first.read_text())["value"] == 1.5
    other = results.save(results.record(report, {"seed": 2}), folder)
    assert other != first and len(list(folder.iterdir())) == 2
    assert first.name.startswith("toy_test_by-hand_mini_map_")


def test_load_all_gives_a_table_also_of_nothing(report, tmp_path):
    assert results.load_all(tmp_path / "none").empty
    assert "value" in results.load_all(tmp_path / "none").columns
    for seed in range(3):
        results.save(results.record(report, {"seed": seed}), tmp_path)
    table = results.load_all(tmp_path)
    assert len(table) == 3 and table["file"].is_unique and table["parameters"].map(type).eq(dict).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda e: "{", "no JSON object"),
        (lambda e: "[]", "no JSON object"),
        (lambda e: "[" * 100_000, "no JSON object .*recursion"),
        (lambda e: json.dumps({k: v for k, v in e.items() if k != "device"}), "device: Field required"),
        (lambda e: json.dumps(e | {"value": "high"}), "value: .*found 'high'"),
        (lambda e: json.dumps(e | {"queries": True}), "queries: .*found True"),
    ],
)
def test_a_damaged_record_is_named(report, tmp_path, damage, message):
    path = results.save(results.record(report), tmp_path)
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(results.BadRecord, match=message) as caught:
        results.load_all(tmp_path)
    assert path.name in str(caught.value)


def test_values_that_are_not_finite_are_refused(report):
    with pytest.raises(ValueError, match="nan"):
        results.record(report, {"loss": float("nan")})


def test_the_folder_comes_from_the_environment(report, tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path / "elsewhere"))
    assert results.save(results.record(report)).parent == tmp_path / "elsewhere"
    assert len(results.load_all()) == 1


def published(**changes):
    line = {
        "method": "FDP-RN50x16",
        "venue": "MM'24",
        "year": 2024,
        "set": "SVT",
        "metric": "mAP",
        "value": 89.63,
    }
    return {**line, "fps": 11.8, "source": "a table", "notes": "", **changes}


def test_comparison_joins_by_set_and_metric(report):
    ours = results.record(report)
    table = pd.DataFrame([
        ours | {"set": "svt", "value": 90.0, "backbone": "RN50"},
        ours | {"set": "iiit", "value": 10.0},
        ours | {"set": "unpublished"},
        ours | {"set": "svt", "metric": "recall@1"},
    ])  # fmt: skip
    paper = pd.DataFrame([published(), published(set="IIIT-STR", value=89.46), published(method="TDSL", value=89.38)])
    both = compare_with_paper(table, paper)
    assert len(both) == 3
    svt = both[both["method"].eq("FDP-RN50x16") & both["set"].eq("svt")].iloc[0]
    assert svt["difference"] == pytest.approx(0.37) and svt["comparable"] and svt["source"] == "a table"
    assert not both[both["set"] == "iiit"]["comparable"].any()  # measured on mini
    assert compare_with_paper(results.load_all("/nowhere"), paper).empty


def test_the_published_numbers_that_come_along_can_be_joined():
    paper = paper_results()
    wanted = ["method", "venue", "year", "set", "metric", "value", "fps", "source", "notes"]
    assert list(paper.columns) == wanted
    assert paper["value"].between(0, 100).all() and paper["source"].notna().all()
    assert {"svt", "iiitstr", "ic15"} <= set(paper["set"].map(set_key))
    assert paper["method"].str.contains("FDP").any()


def test_names_of_a_set():
    assert set_key("IIIT-STR") == set_key("iiit") == set_key("iiit_str")
    assert set_key("icdar2015") == set_key("IC15") != set_key("SVT")


def test_missing_paper_results_say_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="published numbers"):
        paper_results(tmp_path / "none.csv")


def test_commit_and_dirty_flag(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    package = tmp_path / "fdp_core"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    assert provenance.commit() == (None, None)
    git("init")
    assert provenance.commit() == (None, True)
    git("add", ".")
    git("commit", "-m", "x")
    sha, dirty = provenance.commit()
    assert len(sha) == 40 and dirty is False
    (tmp_path / "book" / "results").mkdir(parents=True)
    (tmp_path / "book" / "results" / "r.json").write_text("{}")
    assert provenance.commit() == (sha, False)  # a run's own record does not make the code dirty
    (package / "new.py").write_text("")
    assert provenance.commit() == (sha, True)
    (tmp_path / ".gitignore").write_text("fdp_core\n")
    git("rm", "-r", "--cached", "fdp_core")
    assert provenance.commit() == (None, None)  # installed into an environment inside somebody's checkout


def test_a_measurement_without_a_report_is_a_record():
    made = results.measurement("trunk speed", "a, %", {"a, %": 3.0, "b": 4.0}, protocol="p", parameters={"n": 1})
    assert (made["value"], made["set"], made["backbone"], made["speed"], made["groups"]) == (
        3.0,
        "none",
        None,
        None,
        {},
    )
    assert results.measurement("s", "own", {}, value=2.0, protocol="p", parameters={})["value"] == 2.0
    with pytest.raises(results.BadRecord, match="value"):
        results.measurement("s", "own", {"a": 1.0}, protocol="p", parameters={})

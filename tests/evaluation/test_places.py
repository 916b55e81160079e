"""Caches and runs: found again by equal facts, kept apart by different ones."""

from fdp_core.evaluation import provenance


def test_runs_are_found_by_their_facts(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "home", lambda: tmp_path)
    first = provenance.run_folder("05 train", seed=0, config={"a": 1, "b": 2})
    assert first == provenance.run_folder("05 train", config={"b": 2, "a": 1}, seed=0)
    assert first != provenance.run_folder("05 train", seed=1, config={"a": 1, "b": 2})
    assert first.parent == tmp_path / "runs" and first.name.startswith("05-train_")


def test_indexes_belong_to_a_folder_and_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("FDP_CACHE", str(tmp_path / "cache"))
    here, there = tmp_path / "a" / "photos", tmp_path / "b" / "photos"
    files = {provenance.index_folder(folder, model) for folder in (here, there) for model in ("m1", "m2")}
    assert len(files) == 4 and all(file.parent == tmp_path / "cache" / "indexes" for file in files)
    assert provenance.index_folder(here, "m1") == provenance.index_folder(tmp_path / "b" / ".." / "a" / "photos", "m1")


def test_caches_lie_in_the_checkout_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("FDP_CACHE", raising=False)
    monkeypatch.setattr(provenance, "home", lambda: tmp_path)
    assert provenance.cache_folder("features") == tmp_path / ".cache" / "features"

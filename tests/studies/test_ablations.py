"""Tests of the ablation grid: every switch has its row or its reason, runs are resumable, differences are paired."""

from __future__ import annotations

import dataclasses
import json
import typing

import chapters
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from fdp_core import config
from fdp_core.datasets import Gallery, Photo, Queries, Word
from fdp_core.studies import ablation_grid, ablation_runs, attention_study
from fdp_core.studies.ablation_grid import BARE, FULL, ZERO
from fdp_core.training import loop

TEXTS = ("the", "office", "coffee", "hotel", "hostel", "bakery")
CELLS = chapters.functions("06")
SMALL = {"image_size": 64, "epochs": 1, "batch_size": 4, "probe_heads": 2, "localiser_hidden": 8}


def photographs(folder, split, count=8):
    """Noise with two words a photograph; enough for a loop that must run, not for one that must learn."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for number in range(count):
        path = folder / f"{split}{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
        box = np.array([[4, 4], [40, 4], [40, 20], [4, 20]], np.float32)
        words = tuple(Word(TEXTS[(number + step) % 6], box + 20 * step) for step in range(2))
        photos.append(Photo(path.name, path, words))
    return Gallery("toy", split, tuple(photos), f"manifest of {split}", True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    gallery = photographs(folder, "test")
    relevant = np.array([[word in {w.text for w in photo.words} for photo in gallery.photos] for word in TEXTS])
    groups = {"function": np.array([word == "the" for word in TEXTS])}
    queries = Queries(TEXTS, relevant, "contains the word", groups)
    return ablation_runs.Lab(tiny.backbone(), [photographs(folder, "train")], {"toy": (gallery, queries)})


def row(name):
    return ablation_grid.named([name])[0]


# the grid


def test_every_switch_has_a_row_or_a_reason():
    switches = {entry.name for entry in dataclasses.fields(config.Config)}
    varied = {name for entry in ablation_grid.GRID for name in entry.changes}
    assert varied | ablation_grid.NOT_VARIED.keys() == switches and not varied & ablation_grid.NOT_VARIED.keys()


def test_rows_are_distinct_and_differ_from_their_reference_as_they_say():
    settings = [entry.config().to_json() for entry in ablation_grid.GRID]
    assert len(set(settings)) == len(settings) == len({entry.name for entry in ablation_grid.GRID})
    for entry in ablation_grid.GRID:
        if entry.preset != "default" or entry.name in (FULL, ZERO, BARE):
            continue
        mine, theirs = (dataclasses.asdict(r.config()) for r in (entry, row(entry.reference)))
        changed = {name: value for name, value in mine.items() if value != theirs[name]}
        assert changed == {name: value for name, value in entry.changes.items() if value != theirs[name]}, entry.name
        assert changed, entry.name


def test_every_form_that_the_configuration_knows_is_run_from_the_full_model():
    full = row(FULL).config()
    for switch in ("shift", "probe", "prompts", "localiser", "position_resize", "distraction_target"):
        forms = {
            getattr(entry.config(), switch) for entry in ablation_grid.GRID if entry.side == ablation_grid.LEAVE_ONE_OUT
        }
        assert (
            forms == set(typing.get_args(typing.get_type_hints(config.Config)[switch]))
            and getattr(full, switch) in forms
        )


def test_unknown_row_is_named():
    with pytest.raises(ValueError, match="no row 'shift of'.*shift off"):
        ablation_grid.named(["shift of"])


def test_recipe_never_trains_zero_shot():
    assert row(ZERO).config(epochs=5).epochs == 0
    assert row(BARE).config(epochs=5).epochs == 5


# running


def test_zero_shot_row_is_clip_as_it_is(lab):
    settings = row(ZERO).config(**SMALL)
    model, history, _ = ablation_runs.train(lab, settings)
    store = lab.store(lab.sets["toy"][0], settings)
    with torch.inference_mode():
        theirs = torch.nn.functional.normalize(lab.backbone.zero_shot(store.batch(slice(None))), dim=-1)
    assert history is None
    np.testing.assert_allclose(attention_study.encode(model, store), theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["full", "one context", "no context", "contexts random"])
def test_shared_neutral_contexts_change_nothing(lab, name):
    settings = row(name).config(1, **SMALL)
    for _ in range(2):  # the second time the contexts come from the first
        lab._trained.clear()
        model, _, _ = ablation_runs.train(lab, settings)
        plain = lab.model(settings)
        stores = [lab.store(lesson, settings, settings.fit) for lesson in lab.lessons]
        loop.train(plain, lab.lessons, settings, progress=False, stores=stores)
        for key, value in plain.trained_state().items():
            assert torch.equal(value, model.trained_state()[key]), key


def test_a_run_is_recorded_once_and_kept_whole(lab, tmp_path):
    path = tmp_path / "ablations.jsonl"
    assert ablation_grid.load(path) == []
    first = ablation_runs.run(lab, row(FULL), 0, **SMALL)
    assert [record["map"] for record in first] == ["learned", *ablation_runs.MAPS]
    ablation_grid.keep(first, path)
    assert ablation_runs.run(lab, row(FULL), 0, ablation_grid.load(path), **SMALL) == []
    assert len(ablation_runs.run(lab, row(FULL), 1, ablation_grid.load(path), **SMALL)) == 4
    ablation_grid.keep([{**first[0], "mAP": 1.0}], path)  # the same run again takes the old one's place
    again = ablation_grid.load(path)
    assert len(again) == 4 and [r["mAP"] for r in again if r["map"] == "learned"] == [1.0]
    assert not [line for line in path.read_text().splitlines() if "/tmp" in line]
    json.dumps(first, allow_nan=False)


def test_one_photograph_without_polygons_and_one_query_go_through(lab, tmp_path):
    photo = dataclasses.replace(photographs(tmp_path, "lone", 1).photos[0], words=())
    gallery = Gallery("lone", "test", (photo,), "manifest of one", True)
    queries = Queries(("zqxzqxzqx",), np.array([[True]]), "by hand")
    small = ablation_runs.Lab(lab.backbone, lab.lessons, {"lone": (gallery, queries)})
    records = [r for name in (FULL, "distracted off") for r in ablation_runs.run(small, row(name), 0, **SMALL)]
    assert [r["map"] for r in records] == ["learned", "shuffled", "even", "learned"], "no annotated map without words"
    assert all(r["mAP"] == 100 and r["map_auc"] is None for r in records)
    facts = lab.facts()
    found = {"lone": CELLS.select(records, "lone", facts["weights_hash"], facts["train_set"], **SMALL)}
    assert CELLS.across(found, "distracted off", FULL)["lone"].verdict == "no clear difference"
    assert CELLS.across(found, "distracted off", FULL, "told_apart") == {}, "no word is like zqxzqxzqx"
    assert CELLS.across(found, "probe off", FULL) == {}, "not run"
    lines = CELLS.lines_of([row(FULL), row("distracted off"), row("probe off")], found)
    assert [label for label, _ in lines] == ["distracted off"]
    assert lines[0][1]["lone"].over_seeds is None, "one seed"


def test_a_run_is_the_same_twice(lab):
    one = ablation_runs.run(lab, row("shift off"), 2, **SMALL)[0]
    lab._trained.clear()
    other = ablation_runs.run(lab, row("shift off"), 2, **SMALL)[0]
    assert one["ap"] == other["ap"] and one["mAP"] == other["mAP"]
    assert one["ap"] != ablation_runs.run(lab, row("shift off"), 3, **SMALL)[0]["ap"]


def test_mean_of_the_kept_precisions_is_the_map(lab):
    for record in ablation_runs.run(lab, row(FULL), 0, **SMALL):
        assert np.mean(record["ap"]) / 10 == pytest.approx(record["mAP"], abs=0.06)
        assert record["members"]["function"] == "100000"
        assert record["groups"]["function"] == pytest.approx(record["ap"][0] / 10, abs=0.06)


# measures


def test_text_maps_are_what_they_say(lab):
    settings = row(FULL).config(**SMALL)
    model, gallery = lab.model(settings).eval(), lab.sets["toy"][0]
    store = lab.store(gallery, settings)
    names = ("learned", *ablation_runs.MAPS)
    maps = {how: ablation_runs.text_maps(how, model, gallery, store) for how in names}
    flat = {how: np.sort(value.reshape(len(value), -1), axis=1) for how, value in maps.items()}
    np.testing.assert_array_equal(flat["learned"], flat["shuffled"])
    assert not np.array_equal(maps["learned"], maps["shuffled"])
    assert np.ptp(maps["even"]) == 0 and maps["annotated"][0, 0, 0] > maps["annotated"][0, -1, 0]
    own = attention_study.encode(model, store)
    np.testing.assert_allclose(attention_study.encode(model, store, maps["learned"]), own, atol=1e-6)
    off = ablation_runs.train(lab, row("shift off").config(**{**SMALL, "epochs": 0}))[0]
    np.testing.assert_allclose(
        attention_study.encode(model, store, maps["even"]), attention_study.encode(off, store), atol=1e-5
    )
    with pytest.raises(ValueError, match="expected 'learned' or one of annotated"):
        ablation_runs.text_maps("random", model, gallery, store)


def test_annotated_map_needs_polygons(lab):
    settings = row(FULL).config(**SMALL)
    gallery = lab.sets["toy"][0]
    bare = dataclasses.replace(gallery, photos=tuple(dataclasses.replace(p, words=()) for p in gallery.photos))
    with pytest.raises(ValueError, match="annotates no words"):
        ablation_runs.text_maps("annotated", lab.model(settings), bare, lab.store(gallery, settings))


def test_released_order_is_tested_one_by_one(lab):
    mixed = ablation_runs.train(lab, row("shift, released order").config(**{**SMALL, "epochs": 0}))[0]
    model = ablation_runs.train(lab, row(FULL).config(**{**SMALL, "epochs": 0}))[0]
    store = lab.store(lab.sets["toy"][0], model.config)
    np.testing.assert_allclose(attention_study.encode(mixed, store), attention_study.encode(model, store), atol=1e-5)


def test_paper_compat_trains_on_crops_and_ranks_padded_photographs(lab):
    gallery, settings = lab.sets["toy"][0], row("paper_compat").config(**SMALL)
    assert lab.store(gallery, settings).fit == "letterbox" != settings.fit
    assert lab.store(gallery, row("centre crop").config(**SMALL)).fit == "centre_crop", "our own switch holds for both"


def test_area_under_the_curve_by_hand():
    annotated = np.full((2, 2, 2), -4.0)
    annotated[0, 0] = 4.0  # the first photograph has text in its upper row, the second none
    maps = np.array([[[3.0, 1.0], [2.0, 0.0]], np.zeros((2, 2))])
    assert ablation_runs.map_auc(maps, annotated)["mean"] == 0.75
    assert ablation_runs.map_auc(maps, annotated[1:].repeat(2, axis=0)) is None


class Oracle:
    """Encodes a word as its own direction, so that a photograph's vector can point at one of them."""

    def __init__(self, texts):
        self.place = {text: n for n, text in enumerate(texts)}

    def encode_queries(self, texts):
        return torch.nn.functional.one_hot(
            torch.tensor([self.place.setdefault(text, len(self.place)) for text in texts]), 4000
        ).float()


def test_preferred_words_by_hand():
    photos = tuple(Photo(f"{n}", None, ()) for n in range(3))
    gallery = Gallery("toy", "test", photos, "", True)
    relevant = np.array([[True, True, False], [False, False, True], [True, False, False]])
    queries = Queries(("coffee", "hotel", "zqxzqxzqx"), relevant, "by hand")
    model = Oracle(queries.texts)
    encoded = np.zeros((3, 4000), np.float32)
    encoded[0, 0] = encoded[2, 1] = 1  # photograph 0 says coffee, 2 hotel; 1 says nothing
    share = ablation_runs.preferred_word(model, encoded, gallery, queries)
    assert share[0] == 0.5 and share[1] == 1.0 and np.isnan(share[2]), "no word is like zqxzqxzqx"
    encoded[2] = np.nan
    assert ablation_runs.preferred_word(model, encoded, gallery, queries)[1] == 0


# differences


def made(name, seed, ap, map_="learned", steps=10, **facts):
    base = {
        "row": name, "seed": seed, "config_hash": ablation_grid.config_hash(row(name).config(seed)),
        "weights_hash": "w", "train_set": "t", "train_hash": "h", "set": "s", "split": "test", "manifest_hash": "m",
        "map": map_, "ap": ap, "told_apart": [None] * len(ap), "steps": steps, "members": {"function": "1100"},
    }  # fmt: skip
    return {**base, **facts}


def runs(*records):
    return CELLS.select(records, "s", "w", "t")


def test_difference_is_paired_by_seed_and_query():
    found = runs(
        *(made(FULL, seed, [400 + seed, 500 + seed, 600, 700]) for seed in range(3)),
        *(made("shift off", seed, [300 + seed, 400 + seed, 500, 600]) for seed in range(3)),
    )
    change = CELLS.compare(found, "shift off", FULL)
    assert change.mean == pytest.approx(-10) and change.by_seed == pytest.approx((-10, -10, -10))
    assert change.over_seeds == pytest.approx((-10, -10)) and change.over_queries == pytest.approx((-10, -10))
    assert change.verdict == "worse"
    assert CELLS.compare(found, "shift off", FULL, group="function").mean == pytest.approx(-10)


def test_nothing_is_sure_when_one_interval_holds_zero():
    full = [made(FULL, seed, [100, 100, 100, 100]) for seed in range(3)]
    by_seed = ([400] * 4, [50] * 4, [300] * 4)  # all queries gain together, but not with every seed
    found = runs(*full, *(made("shift off", seed, by_seed[seed]) for seed in range(3)))
    change = CELLS.compare(found, "shift off", FULL)
    assert change.over_queries[0] > 0 > change.over_seeds[0] and change.verdict == "no clear difference"
    found = runs(*full, *(made("shift off", seed, [900, 0, 0, 0]) for seed in range(3)))
    change = CELLS.compare(found, "shift off", FULL)  # every seed gains, but by one query alone
    assert change.over_seeds[0] > 0 > change.over_queries[0] and change.verdict == "no clear difference"
    single = runs(made(FULL, 0, [1, 1, 1, 1]), made("shift off", 0, [500] * 4))
    change = CELLS.compare(single, "shift off", FULL)
    assert change.over_seeds is None and change.verdict == "no clear difference", "one seed shows nothing"


def test_untrained_rows_have_no_seeds():
    zero, small = made(ZERO, 0, [100] * 4, steps=0), made("zero-shot 224", 0, [50] * 4, steps=0)
    found = runs(zero, small, made(BARE, 1, [200] * 4))
    assert CELLS.compare(found, "zero-shot 224", ZERO).verdict == "worse"
    assert CELLS.compare(found, BARE, ZERO).by_seed == pytest.approx((10,)), "one run serves all seeds"


def test_only_records_of_the_same_weights_switches_and_recipe_count():
    good = made(FULL, 0, [1, 2, 3, 4])
    old = {**good, "config_hash": "of other switches", "seed": 1}
    others = [{**good, "weights_hash": "x"}, {**good, "set": "y"}, {**good, "train_set": "z"}, {**good, "row": "gone"}]
    assert runs(good, old, *others) == {(FULL, "learned"): {0: good}}
    assert CELLS.select([good], "s", "w", "t", epochs=9) == {}


def test_what_was_not_run_or_has_no_value_is_not_compared():
    found = runs(made(FULL, 0, [1, 2, 3, 4]), made("shift off", 1, [1, 2, 3, 4]), made(FULL, 1, [1, 2, 3, 4]))
    assert CELLS.compare(found, "probe off", FULL) is None
    assert CELLS.compare(found, "shift off", FULL, "told_apart") is None
    assert CELLS.compare(found, "shift off", FULL, group="colour") is None

"""Tests of the training loop on a tiny CLIP and synthetic trunk features: resume, selection, supervision."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdp_core import backbones, checkpoint, config, datasets, prompt, weights
from fdp_core.distract import Distractors
from fdp_core.files import DiskFault
from fdp_core.model import FDP
from fdp_core.retrieval import geometry, workers
from fdp_core.training import loop, samples, state
from fdp_core.words import fold, is_legible, keep_for_training

PROGRAM = Path(__file__).with_name("in_processes.py")
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32},
    "text_cfg": {"context_length": 24, "vocab_size": 128, "width": 32, "heads": 2, "layers": 1},
}
VOCABULARY = ["the", "office", "coffee", "hotel", "hostel", "and", "bar", "bank"]
SETTINGS = {
    "image_size": 64,
    "localiser_hidden": 8,
    "probe_heads": 2,
    "batch_size": 5,
    "epochs": 3,
    "decay_epoch": 2,
    "validation_share": 0.25,
}


@dataclass(frozen=True)
class FakeWord:
    text: str
    polygon: np.ndarray
    ignore: bool = False
    script: str = "Latin"


@dataclass
class FakeStore:
    array: np.ndarray
    ok: np.ndarray
    geometries: list


def word(text, column=0, row=0, **facts):
    x, y = 32 * column, 32 * row
    return FakeWord(text, np.array([[x, y], [x + 30, y], [x + 30, y + 30], [x, y + 30]], dtype=np.float32), **facts)


@pytest.fixture(scope="module", name="backbone")
def made_backbone():
    return make_backbone()


def make_backbone():
    torch.manual_seed(0)
    clip = weights.build_mini(TINY)
    mean = std = (0.5, 0.5, 0.5)
    return backbones.Backbone(clip, "mini", weights.CharTokenizer(24), "tiny-hash", mean, std)


@pytest.fixture(scope="module", name="world")
def made_world(backbone):
    return make_world(backbone)


def make_world(backbone):
    """Twelve photographs of 64 x 64 px with one or two words; a cell shows its word's pattern + noise."""
    rng = np.random.default_rng(0)
    patterns = {text: rng.normal(size=backbone.width) for text in VOCABULARY}
    array = rng.normal(scale=0.2, size=(12, backbone.width, 2, 2))
    photos = []
    for number in range(12):
        texts = [VOCABULARY[number % 8], VOCABULARY[(3 * number + 1) % 8]][: 1 + number % 2]
        for column, text in enumerate(texts):
            array[number, :, 0, column] += patterns[text]
        words = tuple(word(text, column) for column, text in enumerate(texts))
        photos.append(SimpleNamespace(id=f"{number}.jpg", words=words))
    plan = geometry.plan_fit(64, 64, 64)
    store = FakeStore(array.astype(np.float16), np.ones(12, dtype=bool), [plan] * 12)
    return SimpleNamespace(photos=tuple(photos)), store


def fresh(backbone, **changes):
    return FDP(backbone, config.preset("default", **{**SETTINGS, **changes}), words=VOCABULARY)


def run(model, world, out_dir=None, **options):
    gallery, store = world
    options.setdefault("dictionary", VOCABULARY)
    return loop.train(model, gallery, out_dir=out_dir, stores=store, progress=False, **options)


def same_weights(first, second):
    a, b = first.trained_state(), second.trained_state()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def same_values(first, second):
    """Compare nested dicts and lists of tensors and plain values, to the bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_values(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same_values, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def without_times(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def test_training_learns_logs_and_leaves_files(backbone, world, tmp_path):
    model = fresh(backbone, epochs=6, decay_epoch=5)
    frozen = {name: value.clone() for name, value in backbone.state_dict().items()}
    seen = []
    history = run(model, world, tmp_path, callback=seen.append)
    assert history.epochs[-1]["total"] < 0.8 * history.epochs[0]["total"]
    assert not model.training and all(torch.equal(value, frozen[name]) for name, value in backbone.state_dict().items())
    assert seen == list(history) == [json.loads(line) for line in (tmp_path / state.LOG).read_text().splitlines()]
    first = history.steps[0]
    assert first["total"] == pytest.approx(first["align"] + first["distract"] + first["loc"], rel=1e-6)
    best = max(history.epochs, key=lambda record: record["validation_map"])
    assert [record["epoch"] for record in history.epochs if record["best"]][-1] == best["epoch"]
    assert [record["lr_new"] for record in history.epochs] == pytest.approx([2e-3] * 5 + [2e-4])
    assert [record["lr_copied"] for record in history.epochs] == pytest.approx([1e-4] * 5 + [1e-5])
    assert same_weights(model, checkpoint.load(tmp_path / state.BEST, backbone))


class Stop(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_resume_is_an_unbroken_run_to_the_bit(backbone, world, tmp_path, stop_at):
    whole = fresh(backbone)
    expected = run(whole, world, tmp_path / "whole")

    def interrupt(record):
        if record["step"] == stop_at:
            raise Stop

    with pytest.raises(KeyboardInterrupt):
        run(fresh(backbone), world, tmp_path / "broken", callback=interrupt)
    assert torch.load(tmp_path / "broken" / state.LAST, weights_only=True)["counters"]["step"] == stop_at
    with open(tmp_path / "broken" / state.LOG, "a") as log:
        log.write('{"kind": "step", "torn')
    torch.manual_seed(99)  # whatever the new process's generator says
    resumed = fresh(backbone, seed=0)
    got = run(resumed, world, tmp_path / "broken")
    assert same_weights(whole, resumed) and without_times(got) == without_times(expected)
    first, second = ((tmp_path / run / state.BEST).read_bytes() for run in ("whole", "broken"))
    assert first == second
    last, again = (torch.load(tmp_path / run / state.LAST, weights_only=True) for run in ("whole", "broken"))
    assert same_values(last, again)


def test_two_processes_learn_what_one_does_on_the_whole_batch(backbone, world, tmp_path):
    run(fresh(backbone, probe_dropout=0.0), world, tmp_path / "one")  # dropout would differ from share to share
    for epochs in ("2", "3"):  # the second goes on where the first ended
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", PROGRAM]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [*command, tmp_path / "two", epochs], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / state.LAST, weights_only=True) for name in ("one", "two"))
    assert one["counters"] == two["counters"] and one["model"].keys() == two["model"].keys()
    for name, value in one["model"].items():  # sums are made in another order: some units of the seventh digit
        torch.testing.assert_close(two["model"][name], value, atol=1e-5, rtol=1e-4, msg=name)
    logs = [state.read_log(tmp_path / name / state.LOG) for name in ("one", "two")]
    assert len(logs[0]) == len(logs[1])
    np.testing.assert_allclose(*([record["total"] for record in log] for log in logs), rtol=1e-4)


def test_a_damaged_training_state_is_named_and_runs_no_code(backbone, world, tmp_path):
    run(fresh(backbone, epochs=1), world, tmp_path)
    whole = (tmp_path / state.LAST).read_bytes()
    for spoilt in (b"", whole[:1000], pickle.dumps(tmp_path)):
        (tmp_path / state.LAST).write_bytes(spoilt)
        with pytest.raises(ValueError, match="last.pt is no training state or is damaged"):
            run(fresh(backbone, epochs=1), world, tmp_path)
    (tmp_path / state.LAST).write_bytes(whole)
    torch.manual_seed(5)
    other = backbones.wrap(weights.build_mini(TINY), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match="another backbone"):
        run(fresh(other, epochs=1), world, tmp_path)


def test_interrupt_inside_the_optimiser_keeps_the_last_whole_checkpoint(backbone, world, tmp_path, monkeypatch):
    whole = fresh(backbone)
    run(whole, world, tmp_path / "whole")
    original, calls = torch.optim.Adam.step, []

    def torn(self, closure=None):
        calls.append(0)
        if len(calls) == 6:
            self.param_groups[0]["params"][0].data.add_(1.0)  # half an update
            raise KeyboardInterrupt
        return original(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", torn)
    with pytest.raises(KeyboardInterrupt):
        run(fresh(backbone), world, tmp_path / "broken")
    monkeypatch.undo()
    resumed = fresh(backbone)
    run(resumed, world, tmp_path / "broken")
    assert same_weights(whole, resumed)


def test_another_number_of_threads_is_told(backbone, world, tmp_path):
    before = torch.get_num_threads()
    model = fresh(backbone, epochs=1)
    run(model, world, tmp_path)
    assert model.threads == checkpoint.load(tmp_path / state.BEST, backbone).threads == before
    try:
        torch.set_num_threads(before + 1)
        told = f"last.pt was written with {before} threads .* this run has {before + 1}"
        with pytest.warns(UserWarning, match=told):
            run(model, world, tmp_path, config=model.config.replace(epochs=2))
        assert model.threads == before + 1
    finally:
        torch.set_num_threads(before)


STATE = st.sampled_from(
    "config data backbone counters sums best generators optimiser model clusters words threads counters/epoch "
    "counters/log best/weights best/score generators/cpu optimiser/state optimiser/param_groups sums/total".split()
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=STATE, odd=st.sampled_from([None, "x", "[" * 5000, -1, 0, [], {}, {"a": 1}, torch.zeros(1), float("nan")]))
def test_a_training_state_of_another_shape_is_one_error(backbone, world, tmp_path, place, odd):
    folder = tmp_path / "run"
    if not (tmp_path / "whole").exists():
        run(fresh(backbone, epochs=1), world, folder)
        (tmp_path / "whole").write_bytes((folder / state.LAST).read_bytes())
    spoilt = torch.load(tmp_path / "whole", weights_only=True)
    part, *inner = place.split("/")
    (spoilt[part] if inner else spoilt)[inner[0] if inner else part] = odd
    torch.save(spoilt, folder / state.LAST)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(fresh(backbone, epochs=1), world, folder)
    except ValueError as error:
        assert "last.pt" in str(error)


def test_a_pickle_of_something_else_is_one_error(backbone, world, tmp_path):
    tmp_path.joinpath(state.LAST).write_bytes(b"\x80\x02]q\x00(K\x01e.")
    with pytest.raises(ValueError, match="last.pt is no training state or is damaged"):
        run(fresh(backbone, epochs=1), world, tmp_path)
    torch.save([1, 2], tmp_path / state.LAST)
    with pytest.raises(ValueError, match="last.pt is no training state or is damaged"):
        run(fresh(backbone, epochs=1), world, tmp_path)


def test_more_epochs_go_on_from_a_finished_run(backbone, world, tmp_path):
    whole, parts = fresh(backbone, epochs=3), fresh(backbone, epochs=1)
    run(whole, world, tmp_path / "whole")
    run(parts, world, tmp_path / "parts")
    history = run(parts, world, tmp_path / "parts", config=parts.config.replace(epochs=3))
    assert same_weights(whole, parts) and len(history.epochs) == 3
    assert len(run(parts, world, tmp_path / "parts", config=parts.config.replace(epochs=3))) == len(history)


def test_another_run_in_the_folder_is_an_error(backbone, world, tmp_path):
    run(fresh(backbone, epochs=1), world, tmp_path)
    with pytest.raises(ValueError, match="other values of batch_size, lr_new"):
        run(fresh(backbone, epochs=1, lr_new=1e-3, batch_size=4), world, tmp_path)
    with pytest.raises(ValueError, match="other training data"):
        run(fresh(backbone, epochs=1), world, tmp_path, dictionary=VOCABULARY[:5])
    again = run(fresh(backbone, epochs=1, lr_new=1e-3), world, tmp_path, resume=False)
    assert len(again.epochs) == 1


def test_same_seed_same_result_and_the_callers_generator_is_untouched(backbone, world):
    first, second, other = fresh(backbone), fresh(backbone), fresh(backbone, seed=1)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run(first, world)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    run(second, world)
    run(other, world)
    assert same_weights(first, second) and not same_weights(first, other)


def test_full_disk_names_the_file_and_keeps_the_old_checkpoint(backbone, world, tmp_path, monkeypatch):
    run(fresh(backbone, epochs=1), world, tmp_path)

    original = Path.write_bytes

    def full(path, data):
        if path.name.startswith(".last"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFault, match=r"last.pt cannot be written: No space left.*out_dir"):
        run(fresh(backbone, epochs=2), world, tmp_path)
    monkeypatch.undo()
    assert torch.load(tmp_path / state.LAST, weights_only=True)["counters"]["epoch"] == 2


def test_losses_that_are_not_finite_stop_the_run(backbone, world):
    gallery, store = world
    spoilt = FakeStore(np.full_like(store.array, np.nan), store.ok, store.geometries)
    with pytest.raises(FloatingPointError, match="Epoch 1, step 1"):
        run(fresh(backbone), (gallery, spoilt))


@pytest.mark.parametrize("changes", [{}, {"shift_heads": "released_order"}])
def test_paper_compat_trains(backbone, world, changes):
    model = FDP(
        backbone,
        config.preset("paper_compat", **{**SETTINGS, "validation_share": 0.0, **changes}),
        words=VOCABULARY,
    )
    history = run(model, world)
    assert [record["best"] for record in history.epochs] == [True] * 3
    assert all(record["validation_map"] is None for record in history.epochs)
    assert history.epochs[-1]["total"] < history.epochs[0]["total"]


@pytest.mark.parametrize("changes", [{"prompts": "one"}, {"prompts": "none"}, {"probe": "off", "shift": "off"}])
def test_ablations_train(backbone, world, changes):
    assert len(run(fresh(backbone, epochs=1, **changes), world).epochs) == 1


def test_split_is_by_image_seeded_and_disjoint(world):
    gallery, store = world
    data = samples.build([gallery], [store], config.Config())
    train, held = data.split(0.25, seed=3)
    assert len(held) == 3 and sorted(train + held) == list(range(12)) and data.split(0.25, 3) == (train, held)
    assert data.split(0.0, 3) == (list(range(12)), []) and data.split(0.25, 4)[1] != held
    assert len(data.split(0.01, 3)[1]) == 1
    with pytest.raises(ValueError, match="0 to below 1"):
        data.split(1.0, 0)
    with pytest.raises(ValueError, match="none are left"):
        data.split(0.99, 0)


def test_batches_cover_every_sample_once_in_a_seeded_order():
    owners = [number // 3 for number in range(10)]
    settings = config.Config(batch_size=4, seed=5, words_per_image=1)
    first = samples.batches_of(owners, settings, 1)
    assert [len(batch) for batch in first] == [4, 4, 2] and sorted(sum(first, [])) == list(range(10))
    assert first == samples.batches_of(owners, settings, 1) != samples.batches_of(owners, settings, 2)
    once = settings.replace(shuffle=False)
    assert samples.batches_of(owners, once, 1) == samples.batches_of(owners, once, 2)
    assert sum(samples.batches_of(owners, once, 1), []) != list(range(10))
    assert samples.batches_of(owners, once, 1) != samples.batches_of(owners, once.replace(seed=6), 1)


def test_words_of_a_photograph_do_not_lie_side_by_side_in_the_released_order():
    """Two words of one photograph in a batch are false negatives of each other where positives are single (D5, D6)."""
    gallery = datasets.load("mini_train", "train")[0]
    shown = [{fold(word.text) for word in photo.words if is_legible(word)} for photo in gallery.photos]
    drawn = [(i, fold(w.text)) for i, photo in enumerate(gallery.photos) for w in photo.words if keep_for_training(w)]

    def false_negatives(batches):
        pairs = [(drawn[a], drawn[b]) for batch in batches for a in batch for b in batch if a != b]
        return sum(text in shown[image] for (image, _), (_, text) in pairs) / len(pairs)

    compat = config.preset("paper_compat")
    listed = [list(range(start, min(start + compat.batch_size, len(drawn)))) for start in range(0, len(drawn), 48)]
    assert compat.positives == "single" and compat.batch_size == 48
    assert false_negatives(listed) > 0.1
    assert false_negatives(samples.batches_of([image for image, _ in drawn], compat, 3)) < 0.03


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_keep_words_of_an_image_together(shuffle):
    owners = [0] * 5 + [1] * 2 + [2] + [3] * 9
    settings = config.Config(batch_size=100, seed=1, words_per_image=4, shuffle=shuffle)
    (order,) = samples.batches_of(owners, settings, 1)
    assert sorted(order) == list(range(17))
    assert order != list(range(17)) and (samples.batches_of(owners, settings, 2) != [order]) == shuffle
    runs = [len(list(run)) for _, run in itertools.groupby(owners[number] for number in order)]
    assert len(runs) <= 2 + 1 + 1 + 3  # ceil(5/4) + ceil(2/4) + ceil(1/4) + ceil(9/4); neighbours may join
    batches = samples.batches_of(owners, settings.replace(batch_size=6), 1)
    assert [len(batch) for batch in batches] == [6, 6, 5] and sum(batches, []) == order


@pytest.mark.parametrize("changes", [{}, {"positives": "single", "loc_balance": "batch"}])
def test_one_pass_an_image_gives_the_losses_and_gradients_of_one_pass_a_sample(backbone, world, changes):
    gallery, store = world
    model = fresh(backbone, probe_dropout=0.0, **changes)
    torch.nn.init.normal_(model.probe.fc.weight, std=0.1)  # it starts at zero: let the probe take part
    data = samples.build([gallery], [store], model.config)
    finder = Distractors(VOCABULARY, candidates=model.config.candidates)
    batch = list(data.samples)
    assert len({image for image, _ in batch}) < len(batch)
    found = []
    for words_per_image in (1, 4):
        model.zero_grad()
        losses = loop.loss_terms(model, data, batch, finder, model.config.replace(words_per_image=words_per_image), 1)
        losses["total"].backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((losses, gradients))
    for name in (*state.TERMS, "total"):
        torch.testing.assert_close(found[0][0][name], found[1][0][name])
    assert found[0][1].keys() == found[1][1].keys() and len(found[0][1]) > 10
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-4, atol=1e-5)


def test_the_released_way_passes_every_sample(backbone, world, monkeypatch):
    gallery, store = world
    model = fresh(backbone)
    data = samples.build([gallery], [store], model.config)
    passes = []
    original = model.encode_features
    monkeypatch.setattr(model, "encode_features", lambda f: (passes.append(len(f)), original(f))[1])
    for words_per_image in (config.preset("paper_compat").words_per_image, 4):
        settings = model.config.replace(words_per_image=words_per_image)
        loop.loss_terms(model, data, list(data.samples), Distractors(VOCABULARY), settings, 1)
    assert passes == [len(data.samples), len({image for image, _ in data.samples})]


def test_samples_follow_the_filter():
    words = (
        word("Coffee"),
        word("in"),
        word("###"),
        word("bistro"),
        word("und", script="Arabic"),
        word("HOTEL", 1),
    )
    broken = SimpleNamespace(id="broken.jpg", words=(word("coffee"),))
    photos = (broken, SimpleNamespace(id="a.jpg", words=words))
    plan = geometry.plan_fit(64, 64, 64)
    store = FakeStore(np.zeros((2, 4, 2, 2), np.float16), np.array([False, True]), [None, plan])
    data = samples.build([SimpleNamespace(photos=photos)], [store], config.Config(), ["coffee", "hotel", "in", "###"])
    assert data.samples == ((0, "coffee"), (0, "hotel")) and data.ids == ("0/a.jpg",) and data.rows == ((0, 1),)
    assert data.contents == (frozenset({"coffee", "in", "bistro", "hotel"}),)
    assert data.contains([0], ["bistro", "bar"]).tolist() == [[True, False]]
    assert data.features([0]).shape == (1, 4, 2, 2) and data.features([0]).dtype == torch.float32
    with pytest.raises(ValueError, match="passes the training filter"):
        samples.build([SimpleNamespace(photos=photos)], [store], config.Config(), ["zoo"])
    with pytest.raises(ValueError, match="compute them anew"):
        samples.build([SimpleNamespace(photos=photos[:1])], [store], config.Config())
    with pytest.raises(ValueError, match="feature stores"):
        samples.build([SimpleNamespace(photos=photos)], [], config.Config())


def test_words_that_the_crop_cuts_off_are_no_samples_unless_compat():
    wide = FakeWord("coffee", np.array([[0, 0], [20, 0], [20, 30], [0, 30]], dtype=np.float32))
    photos = (SimpleNamespace(id="a.jpg", words=(wide, word("hotel", 2))),)
    plan = geometry.plan_fit(160, 64, 64, "centre_crop")  # keeps x in 48..112
    store = FakeStore(np.zeros((1, 4, 2, 2), np.float16), np.array([True]), [plan])
    data = samples.build([SimpleNamespace(photos=photos)], [store], config.Config())
    assert [text for _, text in data.samples] == ["hotel"] and data.targets[0, 0, 0] > 0
    compat = samples.build([SimpleNamespace(photos=photos)], [store], config.preset("paper_compat"))
    assert [text for _, text in compat.samples] == ["coffee", "hotel"]


def test_distractors_follow_the_switches(backbone, world, monkeypatch):
    gallery, store = world
    model = fresh(backbone)
    data = samples.build([gallery], [store], model.config)
    asked = []
    original = model.encode_queries
    monkeypatch.setattr(
        model,
        "encode_queries",
        lambda texts, kinds=None: (asked.append((texts, kinds)), original(texts, kinds))[1],
    )
    finder = Distractors(["hostel", "hotel", "motel"], candidates=3)
    pair = next(sample for sample in data.samples if sample[1] == "hotel")
    loop.loss_terms(model, data, [pair], finder, model.config, 1)
    assert asked[-1] == (["hotel", *finder.sample(["hotel"], step=1).texts[0]], None)
    loop.loss_terms(model, data, [pair], finder, model.config.replace(distractor_cluster="anchor"), 1)
    assert asked[-1][1] == [int(model.kinds_of(["hotel"]))] * 4  # C8
    crowded = dataclasses.replace(data, contents=(frozenset({"hotel", "hostel"}),) * 12)
    loop.loss_terms(model, crowded, [pair], finder, model.config, 1)
    assert asked[-1][0] == ["hotel", "hotel", "motel", "###"]  # C6: the hostel stands in the same image
    loop.loss_terms(model, crowded, [pair], finder, model.config.replace(drop_true_distractors=False), 1)
    assert "hostel" in asked[-1][0]


def test_training_starts_from_neutral_prompts_and_the_released_way_from_random_ones(backbone, world, monkeypatch):
    started = []
    monkeypatch.setattr(prompt, "start_neutral", lambda *given, **options: started.append(options["seed"]))
    run(fresh(backbone, epochs=1, seed=3), world)
    assert started == [3] and config.preset("paper_compat").prompt_start == "random"
    run(fresh(backbone, epochs=1, prompt_start="random"), world)
    run(fresh(backbone, epochs=1, prompts="none"), world)
    assert started == [3]


def test_a_run_folder_has_one_training(backbone, world, tmp_path):
    with workers.only_owner(tmp_path), pytest.raises(workers.FolderInUse, match="Another process is working in"):
        run(fresh(backbone, epochs=1), world, tmp_path)

"""What the trainings share: the schedule, the weight average, what the log shows, and where a run stops."""

import json
import math

import numpy as np
import pytest
import torch
from odd import places, put

from fdp_core.mini import training


class Numbers(training.Steps):
    """Batches of one number each, drawn with the step's own generator."""

    steps, seed = 30, 3

    def make(self, rng: np.random.Generator, step: int) -> float:
        return float(rng.random())


def start(folder, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1, bias=False)
    groups = [{"params": [model.weight], "share": 0.5}]
    optimiser = torch.optim.SGD(groups, lr=1.0)
    return model, training.Run(folder / "state.pt", {"model": model}, optimiser, **options)


def go(folder, saved, **options):
    """Run to the end of ``options``; returns the steps made and the model."""
    model, run = start(folder, recipe={"lr": 1}, log=folder / "log.jsonl")
    steps = []
    for step, number in run.batches(Numbers(), saved.append, workers=0, **options):
        steps.append(step)
        run.update(
            model.weight.sum() * number, 0.1, {"loss": torch.tensor(float(step)), "seen": 12_345_678 + step}, 1.0
        )
    return steps, model


def test_the_cosine_by_hand():
    assert training.cosine(0, 100, 10) == pytest.approx(0.1)
    assert training.cosine(50, 100, 10) == pytest.approx(0.5)
    assert training.cosine(25, 100, 10) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert training.cosine(150, 100, 10) == pytest.approx(0, abs=1e-12), "it does not rise again"


def test_the_average_moves_floats_and_copies_counts():
    kept, model = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    model.weight.data.fill_(3.0)
    model.num_batches_tracked.fill_(7)
    training.average(kept, model, 0.75)
    assert kept.weight.tolist() == [1.5, 1.5] and int(kept.num_batches_tracked) == 7


def test_a_run_stops_and_goes_on_to_the_same_weights(tmp_path):
    whole, parts, saved = tmp_path / "whole", tmp_path / "parts", []
    steps, one = go(whole, [])
    assert steps == list(range(30))
    first, _ = go(parts, saved, every=8, last=20)
    assert first == list(range(20)) and saved == [8, 16, 20]
    second, two = go(parts, saved)
    assert first + second == steps and saved[-1] == 30 and torch.equal(one.weight, two.weight)
    assert go(parts, saved)[0] == [] and saved[-1] == 30, "nothing is left to do"


def test_a_run_out_of_time_saves_and_stops(tmp_path):
    saved = []
    assert go(tmp_path, saved, minutes=1e-9)[0] == [0] and saved == [1]


def test_counts_are_shown_as_they_are_and_lost_steps_leave_the_log(tmp_path):
    go(tmp_path, [])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 20] and [line["seen"] for line in lines] == [12345678, 12345698]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(state | {"step": 20}, tmp_path / "state.pt")
    assert [record["step"] for record in start(tmp_path, recipe={"lr": 1}, log=tmp_path / "log.jsonl")[1].log] == [0]


def test_values_are_smoothed_and_a_share_scales_the_rate(tmp_path):
    model, run = start(tmp_path)
    before = model.weight.item()
    run.update(model.weight.sum(), 0.2, {"loss": torch.tensor(4.0)}, 9.0, smooth=0.75)
    run.update(model.weight.sum(), 0.2, {"loss": torch.tensor(8.0)}, 9.0, smooth=0.75)
    assert run.values["loss"] == pytest.approx(5.0)
    assert model.weight.item() == pytest.approx(before - 2 * 0.2 * 0.5)


def test_another_recipe_is_refused(tmp_path):
    go(tmp_path, [])
    with pytest.raises(ValueError, match="another recipe.*Use another --out or the same options"):
        start(tmp_path, recipe={"lr": 2})


def test_a_state_of_another_shape_is_one_error_that_names_the_file(tmp_path):
    go(tmp_path, [])
    path = tmp_path / "state.pt"
    whole, bytes_, refused = torch.load(path, weights_only=True), path.read_bytes(), 0
    changed = [{}, [], "x"] + [put(whole, at, None, drop) for at in places(whole) for drop in (False, True) if at]
    for number, state in enumerate([*changed, *[bytes_[:end] for end in range(0, len(bytes_), 97)]]):
        path.write_bytes(state) if isinstance(state, bytes) else torch.save(state, path)
        try:
            start(tmp_path, recipe={"lr": 1})
        except ValueError as error:
            refused += 1
            assert str(path) in str(error), number
    assert refused > len(changed) / 2
    path.write_bytes(bytes_)
    for line in ("null", "[]", "{}", '{"step": "1", "seconds": 2}', '{"step": 1}', "[" * 100_000):
        (tmp_path / "log.jsonl").write_text(line + "\n")
        model, run = start(tmp_path, recipe={"lr": 1}, log=tmp_path / "log.jsonl")
        assert list(run.batches(Numbers(), print, workers=0)) == [], "it is taken for a torn line"

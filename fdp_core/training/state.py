"""The state of a training run: optimiser, generators, counters, best weights; saved and taken up again."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any, Literal, NotRequired

import torch
from pydantic import ConfigDict, InstanceOf
from torch import Tensor
from typing_extensions import TypedDict

from fdp_core import checkpoint
from fdp_core.config import Config, Whole, parse
from fdp_core.distinguish import Clusters
from fdp_core.files import atomic_write_bytes, atomic_write_text, reading, writing_to
from fdp_core.model import FDP

# The log of a training run: one JSON object a line, readable while the run goes on.


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a log of one JSON object a line, such as that of :mod:`fdp_core.mini.pretrain`, also while the run goes on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no record.
    """
    path = Path(path)
    records = _whole(path.read_text(encoding="utf-8").splitlines())
    if not records:
        raise ValueError(f"{path} holds no record; expected one JSON object a line, as a training writes it.")
    return records


def _whole(lines: list[str], kind: Any = dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records up to a line torn by a power cut, or of another kind: what follows it cannot be trusted."""
    records = []
    for line in lines:
        try:
            parse(line, kind)  # checked only: what it returns has the fields of the type first
            records.append(parse(line, dict[str, Any]))
        except ValueError:
            break
    return records


class Record(TypedDict):
    """What a record of a training's log has, beside any other numbers."""

    __pydantic_config__ = ConfigDict(extra="allow")
    kind: Literal["step", "epoch"]


class History(list[dict[str, Any]]):
    """Records of steps and epochs, kept in memory and, with a path, in a JSON lines file.

    A step's record holds ``kind`` "step", ``epoch`` and ``step`` (from 1), the loss terms and their ``total``. An
    epoch's holds ``kind`` "epoch", the means of the terms, the learning rates, ``validation_map`` (0-1, or None without
    a validation split), ``best`` (is it the best so far?) and ``seconds``.

    Args:
        path: the file; ``None`` keeps the log in memory only.
        keep: how many records of an existing file belong to the run that goes on; the rest, such as steps
            after the last checkpoint, is cut off.
        record: the type of a record; one of another type is taken for a torn line.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, keep: int = 0, record: Any = Record) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None:
            lines = self.path.read_text(encoding="utf-8").splitlines()[:keep] if keep and self.path.exists() else []
            self.extend(_whole(lines, record))
            atomic_write_text(self.path, "".join(json.dumps(record) + "\n" for record in self))

    def append(self, record: dict[str, Any]) -> None:
        """Add a record and write it out at once."""
        super().append(record)
        if self.path is not None:
            with writing_to(self.path), self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The records of the steps."""
        return [record for record in self if record["kind"] == "step"]

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The records of the epochs."""
        return [record for record in self if record["kind"] == "epoch"]


LAST, BEST, LOG = "last.pt", "best.safetensors", "history.jsonl"
STATE = ("training state", "remove it to start anew")  # see files.reading
TERMS = ("align", "distract", "loc")
BETAS, EPS = (0.9, 0.98), 1e-6
_MAY_CHANGE = {"epochs"}  # an optimiser's path does not depend on where it will end


Tensors = dict[str, InstanceOf[Tensor]]


class _State(TypedDict):
    config: str
    data: str
    backbone: str
    counters: dict[str, Whole]
    sums: dict[str, float]
    best: dict[str, float | Tensors | None]
    generators: Tensors
    optimiser: dict[str, Any]
    model: Tensors
    clusters: dict[str, InstanceOf[Tensor] | dict[str, int]] | None
    words: list[str]
    threads: NotRequired[Whole]


def make_optimiser(model: FDP, config: Config) -> torch.optim.Adam:
    """Make the released optimiser: Adam(0.9, 0.98), one rate for new layers and one for copied ones."""
    rates = {"new": config.lr_new, "copied": config.lr_copied}
    groups = [{"params": g["params"], "name": g["name"], "lr": rates[g["name"]]} for g in model.trainable_parameters()]
    return torch.optim.Adam(groups, betas=BETAS, eps=EPS, weight_decay=config.weight_decay)


class Run:
    """Everything that a resumed run needs to go on as if it had never stopped.

    Args:
        model: the FDP model.
        config: switches of the training.
        data_hash: a name of the training data; a run is resumed only on the same.
        out_dir: folder of the run's files; ``None`` keeps nothing.
    """

    def __init__(self, model: FDP, config: Config, data_hash: str, out_dir: Path | None) -> None:
        self.model, self.config, self.data_hash, self.out_dir = model, config, data_hash, out_dir
        self.optimiser = make_optimiser(model, config)
        self.weights = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        self.device, model.threads = next(model.parameters()).device, torch.get_num_threads()
        self.epoch, self.position, self.step = 1, 0, 0  # epochs from 1; position: batches done in this epoch
        self.sums = dict.fromkeys((*TERMS, "total"), 0.0)
        self.best_score, self.best_weights = -1.0, None
        self.whole = True  # false while weights, optimiser and counters are out of step: nothing may be saved then
        self.history = History()
        self.remember_generators()

    def remember_generators(self) -> None:
        """Take down the state of the random generators: that in which the next step begins."""
        self.generators = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            self.generators["cuda"] = torch.cuda.get_rng_state(self.device)

    def keep_best(self, score: float | None) -> bool:
        """Keep a copy of the weights if they are the best so far; without a score the latest are."""
        better = score is None or score > self.best_score
        if better:
            self.best_score = self.best_score if score is None else score
            self.best_weights = {name: value.detach().clone() for name, value in self.model.trained_state().items()}
        return better

    def save(self) -> None:
        """Write the model and the state of the training to ``last.pt``."""
        if self.out_dir is None:
            return
        clusters = self.model.clusters
        state = {
            "config": self.config.to_json(),
            "data": self.data_hash,
            "backbone": self.model.backbone.weights_hash,
            "counters": {"epoch": self.epoch, "position": self.position, "step": self.step, "log": len(self.history)},
            "sums": self.sums,
            "best": {"score": self.best_score, "weights": self.best_weights},
            "generators": self.generators,
            "optimiser": self.optimiser.state_dict(),
            "model": self.model.trained_state(),
            "clusters": clusters and {"centres": clusters.centres, "overrides": dict(clusters.overrides)},
            "words": list(self.model.words),
            "threads": self.model.threads,
        }
        write_state(self.out_dir / LAST, state)

    def export_best(self) -> None:
        """Write the model to ``best.safetensors``; called only while it holds the best weights."""
        if self.out_dir is not None:
            checkpoint.save(self.out_dir / BEST, self.model)

    def resume(self) -> bool:
        """Take up ``last.pt``; say whether there was one.

        A warning tells of another number of threads: sums are then rounded in another order.

        Raises:
            ValueError: it is damaged, or belongs to a run with another configuration or other data.
        """
        path = None if self.out_dir is None else self.out_dir / LAST
        state = None if path is None else read_state(path)
        if state is None:
            return False
        with reading(path, *STATE):
            state = parse(state, _State)
            before, now = parse(state["config"], dict[str, Any]), dataclasses.asdict(self.config)
        if state["backbone"] != self.model.backbone.weights_hash:
            raise ValueError(f"{path} comes from a run on another backbone. Train into another folder.")
        changed = sorted(name for name in now if now[name] != before.get(name) and name not in _MAY_CHANGE)
        if changed or state["data"] != self.data_hash:
            what = f"other values of {', '.join(changed)}" if changed else "other training data"
            raise ValueError(f"{path} comes from a run with {what}. Train into another folder, or pass resume=False.")
        threads = state.get("threads", self.model.threads)
        if threads != self.model.threads:
            warnings.warn(
                f"{path} was written with {threads} threads of PyTorch, this run has {self.model.threads}: its weights "
                f"will not be those of an unbroken run. torch.set_num_threads({threads}) before it makes them so.",
                stacklevel=3,
            )
        with reading(path, *STATE):
            self._take_up(state)
        return True

    def _take_up(self, state: _State) -> None:
        for kept in (state["best"]["weights"], state["model"]):  # both have to fit
            if kept is not None:
                self.model.load_trained_state(kept)
        clusters = state["clusters"]
        self.model.clusters = None if clusters is None else Clusters(clusters["centres"], clusters["overrides"])
        self.model.words = tuple(state["words"])
        load_optimiser(self.optimiser, state["optimiser"])
        counters = state["counters"]
        self.epoch, self.position, self.step = counters["epoch"], counters["position"], counters["step"]
        self.sums, self.generators = {name: state["sums"][name] for name in self.sums}, state["generators"]
        self.best_score, self.best_weights = float(state["best"]["score"]), state["best"]["weights"]
        torch.set_rng_state(self.generators["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.generators["cuda"], self.device)
        self.history = History(self.out_dir / LOG, keep=counters["log"])


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training (tensors and plain values) in one piece or not at all.

    Raises:
        fdp_core.files.DiskFault: the disk does not take it; the message names the file.
    """
    buffer = io.BytesIO()  # on a full disk, torch.save itself would not tell why it failed
    torch.save(state, buffer)
    atomic_write_bytes(path, buffer.getvalue())


def read_state(path: Path) -> dict[str, Any] | None:
    """Read the state of a training on the CPU; None where there is none.

    Raises:
        ValueError: the file is damaged, or something else.
    """
    if not path.exists():
        return None
    with reading(path, *STATE):
        return parse(torch.load(path, map_location="cpu", weights_only=True), dict[str, Any])  # no code runs


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take an optimiser's state up, its moments laid out in memory as their weights are: the fused one relies on it."""
    optimiser.load_state_dict(state)
    for weight, moments in optimiser.state.items():
        for name, value in moments.items():
            if value.shape == weight.shape:
                moments[name] = torch.empty_like(weight).copy_(value)

"""The state of a training run: optimiser, generators, counters, best weights; saved and taken up again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fdp_core import checkpoint
from fdp_core.config import Config
from fdp_core.history import History

LAST, BEST, LOG = "last.safetensors", "best.safetensors", "history.jsonl"
TERMS = ("align", "distract", "loc")
BETAS, EPS = (0.9, 0.98), 1e-6
_MAY_CHANGE = {"epochs"}  # an optimiser's path does not depend on where it will end


def make_optimiser(model: Any, config: Config) -> torch.optim.Adam:
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

    def __init__(self, model: Any, config: Config, data_hash: str, out_dir: Path | None) -> None:
        self.model, self.config, self.data_hash, self.out_dir = model, config, data_hash, out_dir
        self.optimiser = make_optimiser(model, config)
        self.device = next(model.parameters()).device
        self.epoch, self.position, self.step = (
            1,
            0,
            0,
        )  # epochs count from 1; position: batches done in this epoch
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
        """Write the model and the state of the training to ``last.safetensors``."""
        if self.out_dir is None:
            return
        state = {
            "config": self.config.to_json(),
            "data": self.data_hash,
            "counters": {
                "epoch": self.epoch,
                "position": self.position,
                "step": self.step,
                "log": len(self.history),
            },
            "sums": self.sums,
            "best": {"score": self.best_score, "weights": self.best_weights},
            "generators": self.generators,
            "optimiser": self.optimiser.state_dict(),
        }
        _write(self.out_dir / LAST, self.model, state)

    def export_best(self) -> None:
        """Write the model to ``best.safetensors``; called only while it holds the best weights."""
        if self.out_dir is not None:
            _write(self.out_dir / BEST, self.model, None)

    def resume(self) -> bool:
        """Take up ``last.safetensors``; say whether there was one.

        Raises:
            ValueError: it belongs to a run with another configuration or other data.
        """
        path = None if self.out_dir is None else self.out_dir / LAST
        if path is None or not path.exists():
            return False
        state = checkpoint.load_training_state(path)
        if state is None:
            raise ValueError(f"{path} holds no training state; remove it or train into another folder.")
        before, now = json.loads(state["config"]), dataclasses.asdict(self.config)
        changed = sorted(name for name in now if now[name] != before.get(name) and name not in _MAY_CHANGE)
        if changed or state["data"] != self.data_hash:
            what = f"other values of {', '.join(changed)}" if changed else "other training data"
            raise ValueError(f"{path} comes from a run with {what}. Train into another folder, or pass resume=False.")
        saved = checkpoint.load(path, self.model.backbone)
        self.model.load_trained_state(saved.trained_state())
        self.model.clusters, self.model.words = saved.clusters, saved.words
        self.optimiser.load_state_dict(state["optimiser"])
        counters = state["counters"]
        self.epoch, self.position, self.step = counters["epoch"], counters["position"], counters["step"]
        self.sums, self.generators = dict(state["sums"]), state["generators"]
        self.best_score, self.best_weights = state["best"]["score"], state["best"]["weights"]
        self.history = History(self.out_dir / LOG, keep=counters["log"])
        torch.set_rng_state(self.generators["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.generators["cuda"], self.device)
        return True


def _write(path: Path, model: Any, state: Mapping[str, Any] | None) -> None:
    try:
        checkpoint.save(path, model, training_state=state)
    except OSError as error:
        raise OSError(
            error.errno, f"Cannot write the checkpoint {path} ({error}); the one before it, if any, is whole"
        ) from error

"""What the trainings of this folder share: options, batches by number, the loop, and files to go on from."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired

import cv2
import numpy as np
import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from typing_extensions import TypedDict

from fdp_core import config
from fdp_core.config import Number, Whole
from fdp_core.files import reading
from fdp_core.training.state import STATE, History, Tensors, load_optimiser, read_state, write_state

LOG_EVERY = 20  # steps


class Shown(TypedDict):
    """What a record of these trainings' logs has, beside any other numbers."""

    __pydantic_config__ = ConfigDict(extra="allow")
    step: Whole
    seconds: Number
    words_seen: NotRequired[Whole]


def options(doc: str, out: str, bank_required: bool, **defaults: float) -> argparse.ArgumentParser:
    """Return a parser with the options of every training, and one for each of the named defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help=out)
    parser.add_argument(
        "--bank", type=Path, required=bank_required, help="folder of rendered scenes, from fdp_core.mini.bank"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that cut and damage")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's default")
    told = "float32 in place of bfloat16: faster on a CPU that does not compute in bfloat16"
    parser.add_argument("--full-precision", action="store_true", help=told)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line and set the threads."""
    args = parser.parse_args()
    cv2.setNumThreads(1)  # a pool of threads does not survive the fork of the workers
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let an interrupt end a training, which goes on from its last save."""
    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted: the last saved step is kept; run the same command to go on.")


def cosine(step: int, steps: int, warmup: int) -> float:
    """Return the share of a learning rate: up in ``warmup`` steps, and half a cosine down to zero at ``steps``."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))


def groups(learning: Iterable[nn.Parameter], decay: float, share: float = 1.0) -> list[dict[str, Any]]:
    """Return an optimiser's groups: matrices decay, vectors do not; both get a ``share`` of the learning rate."""
    learning = list(learning)
    matrices, rest = [p for p in learning if p.ndim >= 2], [p for p in learning if p.ndim < 2]
    return [{"params": p, "weight_decay": w, "share": share} for p, w in ((matrices, decay), (rest, 0.0))]


@torch.no_grad()
def average(into: nn.Module, model: nn.Module, decay: float) -> None:
    """Move a running average of a model's weights towards them; what is no float32 is copied."""
    kept, state = into.state_dict(), model.state_dict()
    names = [name for name, value in state.items() if value.dtype == torch.float32]
    torch._foreach_lerp_([kept[name] for name in names], [state[name] for name in names], 1 - decay)
    for name in state.keys() - set(names):
        kept[name].copy_(state[name])


class Steps(torch.utils.data.Dataset):
    """Batch number i, made from (seed, i) alone: a resumed run sees what an unbroken one sees."""

    steps: int
    seed: int

    def make(self, rng: np.random.Generator, step: int) -> Any:
        """Make the batch of a step; each training has its own."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Any:
        cv2.setNumThreads(1)
        return self.make(np.random.default_rng([self.seed, step]), step)


class Run:
    """A training that may stop at any step and goes on from its last save to the same result.

    Args:
        state: file of its state; where it is there the run is resumed.
        modules: by name, all modules whose weights belong to the state.
        optimiser: of the weights that learn.
        recipe: plain values by name, which a resumed run must share; None where more steps may be asked for.
        log: file of the records that are printed, one JSON object a line; what it holds of lost steps is dropped.

    Raises:
        ValueError: the state is damaged, or was made with other values.
    """

    def __init__(
        self,
        state: Path,
        modules: Mapping[str, nn.Module],
        optimiser: torch.optim.Optimizer,
        recipe: dict[str, Any] | None = None,
        log: Path | None = None,
    ) -> None:
        self.state, self.modules, self.optimiser, self.recipe = state, modules, optimiser, recipe
        self.first, self.values = 0, {}
        if (kept := read_state(state)) is not None:
            facts = {"recipe": NotRequired[dict[str, Any] | None], "optimiser": dict[str, Any], "step": Whole}
            with reading(state, *STATE):
                kept = config.parse(kept, TypedDict("Kept", facts | dict.fromkeys(modules, Tensors)))
            if kept.get("recipe") != recipe:
                told = f"{state} was made with another recipe: {kept.get('recipe')}."
                raise ValueError(f"{told} Use another --out or the same options.")
            with reading(state, *STATE):
                for name, module in modules.items():
                    module.load_state_dict(kept[name])
                load_optimiser(optimiser, kept["optimiser"])
            self.first = kept["step"]
        self.log = History(log, keep=math.ceil(self.first / LOG_EVERY), record=Shown)

    def batches(
        self,
        data: Steps,
        save: Callable[[int], None],
        workers: int = 1,
        every: int = 100,
        last: int | None = None,
        minutes: float | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Give number and batch of each step that is left; the loop's body calls :meth:`update`.

        ``save`` writes the weights that ship, after so many steps; it is called whenever the state is saved: ``every``
        so many steps and at the end, which comes after step ``last`` or after ``minutes``.
        """
        last = min(len(data), last or len(data))
        began, spent = time.time(), self.log[-1]["seconds"] if len(self.log) else 0.0
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(data, range(self.first, last)),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=6 if workers else None,
        )
        for step, batch in enumerate(loader, start=self.first):
            torch.manual_seed(data.seed + step)
            yield step, batch
            seconds = time.time() - began
            late = bool(minutes) and seconds > 60 * minutes
            if step % LOG_EVERY == 0:
                shown = {k: v if isinstance(v, int) else float(f"{float(v):.5g}") for k, v in self.values.items()}
                self.log.append({"step": step, "seconds": round(spent + seconds, 1), **shown})
                print(json.dumps(self.log[-1]), flush=True)
            if (step + 1) % every == 0 or step + 1 == last or late:
                save(step + 1)
                state = {
                    name: part.state_dict() for name, part in [*self.modules.items(), ("optimiser", self.optimiser)]
                }
                write_state(self.state, state | {"recipe": self.recipe, "step": step + 1})
            if late:
                return

    def update(self, loss: Tensor, lr: float, values: dict[str, Any], largest: float, smooth: float = 0.0) -> None:
        """Take one step of the optimiser; a group with a ``share`` gets so much of the learning rate.

        The gradient is cut to the norm ``largest``. The ``values`` (scalars by name; integers are counts) are shown,
        and of those that were shown before ``smooth`` stays in them, counts aside.
        """
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group.get("share", 1.0)
        nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], largest)
        self.optimiser.step()
        fresh = {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}
        self.values = {
            name: value if isinstance(value, int) else smooth * self.values.get(name, value) + (1 - smooth) * value
            for name, value in fresh.items()
        }

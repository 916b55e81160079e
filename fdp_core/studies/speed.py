"""Timing side by side: several ways of doing one thing take turns, and only their ratios are told.

An absolute time belongs to one machine at one moment. Ways that take turns meet the same disturbances, so the ratio of
two neighbours in time is worth more than that of two means; its median and its spread over the rounds are reported.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from fdp_core.datasets import Gallery
from fdp_core.datasets.images import open_image
from fdp_core.distract import Distractors
from fdp_core.model import FDP
from fdp_core.retrieval import features, geometry
from fdp_core.retrieval.fast_trunk import PRECISIONS, FastTrunk
from fdp_core.studies import baseline_step
from fdp_core.studies.baseline_step import Means
from fdp_core.training import samples

UNSTABLE = 0.1  # pyperf's warning: the standard deviation exceeds a tenth of the mean


class Ratio(NamedTuple):
    """How many times as long one way took as another: the median, the least and the most over the rounds."""

    median: float
    low: float
    high: float

    def times(self, factor: float) -> Ratio:
        """Return the ratio in other units."""
        return Ratio(*(factor * value for value in self))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Timings:
    """Seconds that each way took in each round.

    Attributes:
        wall: name -> seconds on the clock, one a round.
        cpu: name -> seconds of the process on all its cores: what other processes take does not count.
    """

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]

    def ratio(self, one: str, other: str, clock: str = "wall") -> Ratio:
        """Return how many times as long ``one`` took as ``other``, paired by round.

        Raises:
            ValueError: a name was not timed, or the clock is neither "wall" nor "cpu".
        """
        if clock not in ("wall", "cpu"):
            raise ValueError(f"clock is {clock!r}; expected 'wall' or 'cpu'.")
        times = getattr(self, clock)
        for name in (one, other):
            if name not in times:
                raise ValueError(f"{name!r} was not timed; there are: {', '.join(times)}.")
        ratios = [mine / max(theirs, 1e-9) for mine, theirs in zip(times[one], times[other])]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def median(self, name: str, clock: str = "wall") -> float:
        """Return the median seconds of one way; for records, not for claims."""
        return statistics.median(getattr(self, clock)[name])

    def seconds(self, clock: str = "wall") -> float:
        """Return what all ways took together."""
        return sum(map(sum, getattr(self, clock).values()))

    def busy(self) -> float:
        """Return the process's seconds over those on the clock: below the number of threads where it had to wait."""
        return self.seconds("cpu") / max(1e-9, self.seconds())

    def unstable(self, clock: str = "wall") -> list[str]:
        """Return the ways whose standard deviation exceeds a tenth of their mean."""
        times = {name: each for name, each in getattr(self, clock).items() if len(each) > 1}
        return [name for name, each in times.items() if statistics.stdev(each) > UNSTABLE * statistics.mean(each)]


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int = 5, warm_up: int = 1) -> Timings:
    """Time several ways of doing one thing by name, each once a round; every second round in the opposite order.

    The calls of the warm-up do not count.

    Raises:
        ValueError: there is nothing to time, or no round.
    """
    if not ways or rounds < 1:
        raise ValueError(f"{len(ways)} ways in {rounds} rounds; expected one or more of both.")
    for _ in range(warm_up):
        for way in ways.values():
            way()
    wall, cpu = ({name: [] for name in ways} for _ in range(2))
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            start, used = time.perf_counter(), time.process_time()
            ways[name]()
            cpu[name].append(time.process_time() - used)
            wall[name].append(time.perf_counter() - start)
    return Timings(wall, cpu)


def peak_memory() -> int:
    """Return the peak of this process's own resident memory, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss of Linux starts at what the parent process had
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def flops(way: Callable[[], object]) -> int:
    """Count the floating-point operations of the matrix products and convolutions that a call makes in torch.

    Source: PyTorch's ``FlopCounterMode``; a multiplication and its addition are two.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        way()
    return counter.get_total_flops()


def products(size: int, dtype: torch.dtype = torch.float32) -> dict[str, Callable[[], object]]:
    """Return ways to multiply two matrices [size, size], 2 size³ operations each; the fastest library differs.

    They are ``"matmul"`` and ``"1x1 convolution"`` of PyTorch, and for float32 ``"NumPy"``.
    """
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
    rows, cells = 64, size // 64
    if size % 64:
        raise ValueError(f"size is {size}; expected a multiple of 64.")
    image = one.view(1, rows, cells, size).permute(0, 3, 1, 2)  # channels last: the product's columns are its channels
    kernel = other.T.contiguous().view(size, size, 1, 1)
    ways = {"matmul": lambda: one @ other, "1x1 convolution": lambda: torch.nn.functional.conv2d(image, kernel)}
    if dtype == torch.float32:
        ways["NumPy"] = lambda: one.numpy() @ other.numpy()
    return ways


# What chapter 10 measures, as functions: short in the chapter, long in the commands of speed_runs.

PRODUCT = 2048  # side of the matrices whose product sets the machine's rate


def trunk_ways(
    model: FDP, image_size: int, batch: int, precisions: Sequence[str] = tuple(PRECISIONS)
) -> dict[str, Callable[[], object]]:
    """Return ways to time: the trunk, FDP (trunk and head) and products of matrices, in each precision.

    The images, [batch, 3, image_size, image_size], are noise: a network takes as long for it as for photographs. FDP's
    head is float32 always.

    Returns:
        ``"trunk as it is"`` (PyTorch, nothing folded), and for each precision P ``"trunk, P"``, ``"FDP, P"`` and
        ``"product, P, L"`` by each library L.
    """
    shape = (batch, 3, image_size, image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(model.backbone.device)
    ways: dict[str, Callable[[], object]] = {"trunk as it is": lambda: model.backbone.trunk(images)}
    for name in precisions:
        trunk = FastTrunk(model.backbone.clip, name)

        @torch.inference_mode()
        def whole(trunk: FastTrunk = trunk) -> torch.Tensor:
            return model.encode_features(trunk(images)[-1].float())["image"]

        ways |= {f"trunk, {name}": lambda trunk=trunk: trunk(images)[-1], f"FDP, {name}": whole}
        ways |= {f"product, {name}, {way}": call for way, call in products(PRODUCT, PRECISIONS[name]).items()}
    return ways


def operations(model: FDP, image_size: int, batch: int) -> int:
    """Count the trunk's floating-point operations for a batch."""
    images = torch.zeros(batch, 3, image_size, image_size, device=model.backbone.device)
    return flops(lambda: model.backbone.trunk(images))


def trunk_share(timings: Timings, count: int, precision: str, clock: str = "cpu") -> Ratio:
    """Return the trunk's operations a second over those of the fastest product in the same precision.

    ``timings`` are those of :func:`trunk_ways`, ``count`` is that of :func:`operations`.
    """
    rivals = [name for name in timings.cpu if name.startswith(f"product, {precision}, ")]
    best = min(rivals, key=lambda name: timings.median(name, clock))
    return timings.ratio(best, f"trunk, {precision}", clock).times(count / (2 * PRODUCT**3))


def lesson(model: FDP, gallery: Gallery, count: int) -> tuple[samples.TrainingSet, np.ndarray, float]:
    """Prepare the first ``count`` images of a training gallery for a training step of the model.

    Returns:
        (the training set; its images, uint8 [M, S, S, 3]; CPU seconds an image takes to be read, decoded, run through
        the trunk and written to a cache that is then thrown away).
    """
    few, settings = dataclasses.replace(gallery, photos=gallery.photos[:count]), model.config
    for _ in range(2):  # the first time warms up: planning of layers, files read from the disk
        with tempfile.TemporaryDirectory() as folder:
            used = time.process_time()
            store = features.trunk_features(
                model.backbone, few, settings.image_size, settings.fit, folder, progress=False, precision="float32"
            )
            used = (time.process_time() - used) / max(1, store.computed)
            store = dataclasses.replace(store, array=np.array(store.array))
    data = samples.build([few], [store], settings)
    squares = [
        geometry.fit_image(open_image(photo.path), settings.image_size, mode=settings.fit)[0]
        for photo, fine in zip(few.photos, store.ok)
        if fine
    ]
    return data, np.stack(squares), used


def step_ways(
    model: FDP,
    data: samples.TrainingSet,
    squares: np.ndarray,
    batch: Sequence[tuple[int, str]],
    distractors: Distractors,
    ladder: dict[str, Means] | None = None,
) -> dict[str, Callable[[], float]]:
    """Return a training step, losses and gradients, by each rung of the ladder; each call returns its total loss."""

    def step(means: Means) -> float:
        terms = baseline_step.loss_terms(model, data, squares, batch, distractors, model.config, 1, means)
        terms["total"].backward()
        model.zero_grad()
        return float(terms["total"].detach())

    ladder = baseline_step.ladder() if ladder is None else ladder
    return {name: lambda means=means: step(means) for name, means in ladder.items()}


def first_epoch(ours: Ratio, fill: float, images: int, baseline: float) -> Ratio:
    """Return how long our step takes as a multiple of the baseline step while the cache is being filled.

    ``ours``: the warm step, a multiple too; ``fill``: seconds an image takes to enter the cache; ``images``: distinct
    ones of a step that are not in it yet; ``baseline``: seconds of the baseline step.
    """
    return Ratio(*(value + fill * images / baseline for value in ours))


_ENDS = ("", ", least", ", most")  # of a ratio's names in a record


def spread(name: str, ratio: Ratio) -> dict[str, float]:
    """Return a ratio as three named values of a record, per cent."""
    return {name + end: 100 * value for end, value in zip(_ENDS, ratio)}


def read_spread(values: dict[str, float], name: str) -> Ratio:
    """Return a ratio that :func:`spread` has put into a record."""
    return Ratio(*(values[name + end] / 100 for end in _ENDS))


def recorded(table: pd.DataFrame, system: str, **parameters: object) -> dict[str, Any] | None:
    """Return the newest record of a system among :func:`fdp_core.evaluation.results.load_all` with such parameters."""
    rows = [
        row
        for row in table.to_dict("records")
        if row["system"] == system and parameters.items() <= row["parameters"].items()
    ]
    return max(rows, key=lambda row: row["date"], default=None)

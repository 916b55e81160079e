"""Timing side by side: several ways of doing one thing take turns, and only their ratios are told.

An absolute time belongs to one machine at one moment. Ways that take turns meet the same disturbances, so the ratio of
two neighbours in time is worth more than that of two means; its median and its spread over the rounds are reported.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

UNSTABLE = 0.1  # pyperf's warning: the standard deviation exceeds a tenth of the mean


@dataclass(frozen=True)
class Ratio:
    """How many times as long one way took as another: ``median``, ``low`` and ``high`` (least and most) over rounds."""

    median: float
    low: float
    high: float

    def times(self, factor: float) -> Ratio:
        """Return the ratio in other units."""
        return Ratio(factor * self.median, factor * self.low, factor * self.high)

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

    def busy(self) -> float:
        """Return the process's seconds over those on the clock, of all ways together: below the number of threads where
        it had to wait, for other processes for example."""
        return sum(map(sum, self.cpu.values())) / max(1e-9, sum(map(sum, self.wall.values())))

    def unstable(self, clock: str = "wall") -> list[str]:
        """Return the ways whose standard deviation exceeds a tenth of their mean."""
        times = {name: each for name, each in getattr(self, clock).items() if len(each) > 1}
        return [name for name, each in times.items() if statistics.stdev(each) > UNSTABLE * statistics.mean(each)]


def take_turns(ways: Mapping[str, Callable[[], Any]], rounds: int = 5, warm_up: int = 1) -> Timings:
    """Time several ways of doing one thing, each once a round; every second round in the opposite order.

    Args:
        ways: name -> what to call.
        rounds: how often, at least 1.
        warm_up: calls of each beforehand that do not count.

    Raises:
        ValueError: there is nothing to time, or no round.
    """
    if not ways or rounds < 1:
        raise ValueError(f"{len(ways)} ways in {rounds} rounds; expected one or more of both.")
    for _ in range(warm_up):
        for way in ways.values():
            way()
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
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


def flops(way: Callable[[], Any]) -> int:
    """Count the floating-point operations of the matrix products and convolutions that a call makes in torch.

    Source: PyTorch's ``FlopCounterMode``; a multiplication and its addition are two.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        way()
    return counter.get_total_flops()


def products(size: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Callable[[], Any]]:
    """Return ways to multiply two square matrices, 2 size³ operations each: which library is the fastest, differs.

    Args:
        size: side of the matrices.
        dtype: of the numbers; NumPy joins in for float32.
        seed: of the matrices.

    Returns:
        ``"matmul"`` and ``"1x1 convolution"`` of PyTorch, and ``"NumPy"``.
    """
    generator = torch.Generator().manual_seed(seed)
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

"""Timing: turns are fair, ratios are paired, and operations are counted as by hand."""

import pytest
import torch

from fdp_core import speed
from fdp_core.speed import Timings, take_turns


def test_turns_alternate_and_the_warm_up_does_not_count():
    calls = []
    timings = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, 1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert len(timings.wall["a"]) == len(timings.cpu["b"]) == 3


def test_ratios_are_paired_by_round():
    timings = Timings({"a": [1.0, 10.0, 3.0], "b": [2.0, 40.0, 3.0]}, {"a": [1.0] * 3, "b": [4.0] * 3})
    found = timings.ratio("a", "b")
    assert (found.median, found.low, found.high) == (0.5, 0.25, 1.0)
    assert timings.ratio("b", "a", "cpu").median == 4.0 and str(found) == "0.5 (0.25 to 1)"
    assert timings.median("a") == 3.0 and timings.unstable() == ["a", "b"] and timings.unstable("cpu") == []
    assert timings.busy() == pytest.approx(15 / 59)
    with pytest.raises(ValueError, match="'c' was not timed; there are: a, b"):
        timings.ratio("a", "c")
    with pytest.raises(ValueError, match="expected 'wall' or 'cpu'"):
        timings.ratio("a", "b", "sun")


def test_longer_work_takes_longer():
    short, long = (lambda n=n: sum(range(n)) for n in (1_000, 200_000))
    assert take_turns({"short": short, "long": long}, 5).ratio("long", "short", "cpu").median > 2


@pytest.mark.parametrize(("ways", "rounds"), [({}, 3), ({"a": int}, 0)])
def test_nothing_to_time_is_said(ways, rounds):
    with pytest.raises(ValueError, match="one or more of both"):
        take_turns(ways, rounds)


def test_operations_of_a_product_and_a_convolution():
    way, count = speed.product(16)
    assert speed.flops(way) == count == 2 * 16**3
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert speed.flops(lambda: conv(torch.zeros(2, 3, 8, 8))) == 2 * 2 * 64 * 5 * 3 * 9

"""Timing: turns are fair, ratios are paired, and operations are counted as by hand."""

import pytest
import torch

from fdp_core.studies import speed
from fdp_core.studies.speed import Timings, take_turns


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
    for name in ("matmul", "1x1 convolution"):
        assert speed.flops(speed.products(64)[name]) == 2 * 64**3
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert speed.flops(lambda: conv(torch.zeros(2, 3, 8, 8))) == 2 * 2 * 64 * 5 * 3 * 9


def test_all_products_are_the_same_product():
    found = {name: torch.as_tensor(way()) for name, way in speed.products(128).items()}
    found["1x1 convolution"] = found["1x1 convolution"][0].permute(1, 2, 0).reshape(128, 128)
    assert set(found) == {"matmul", "1x1 convolution", "NumPy"}
    for other in found.values():
        torch.testing.assert_close(other, found["matmul"], atol=1e-3, rtol=1e-3)
    assert set(speed.products(128, torch.bfloat16)) == {"matmul", "1x1 convolution"}
    with pytest.raises(ValueError, match="multiple of 64"):
        speed.products(100)

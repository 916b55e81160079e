"""Packing weights: by hand, against the slow obvious way, and damage."""

import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core import weights

SHAPES = st.sampled_from([(64, 64), (128, 8, 2, 3), (5000, 1)])


def test_by_hand():
    value = torch.zeros(64, 64)
    value[0, :3] = torch.tensor([7.0, -3.4, 1.6])
    packed = weights.pack({"w": value, "b": torch.tensor([1.5])}, 4)
    assert set(packed) == {"w/codes", "w/scale", "w/shape", "b"} and packed["b"].tolist() == [1.5]
    assert packed["w/scale"][0] == 1 and packed["w/shape"].tolist() == [64, 64]
    assert list(np.frombuffer(zlib.decompress(packed["w/codes"].numpy().tobytes()), np.int8)[:4]) == [7, -3, 2, 0]
    back = weights.unpack(packed)
    assert back["w"][0, :4].tolist() == [7, -3, 2, 0] and back["b"].tolist() == [1.5] and not back["w"][1:].any()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), SHAPES, st.sampled_from([2, 4, 8]), st.floats(1e-6, 1e6), st.floats(0, 1))
def test_each_number_moves_by_half_a_step_at_most(seed, shape, bits, size, share):
    generator = torch.Generator().manual_seed(seed)
    value = size * torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < share)
    back = weights.unpack(weights.pack({"x.y/z": value}, bits))["x.y/z"]
    step = value.flatten(1).abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert back.shape == value.shape and back.dtype == torch.float32
    assert ((back - value).flatten(1).abs() <= step * 0.5001 + 1e-12).all()


@pytest.mark.parametrize("damage", ["short", "long", "garbage", "no scale"])
def test_damage_is_an_error(damage):
    packed = weights.pack({"w": torch.randn(64, 64)}, 8)
    codes = zlib.decompress(packed["w/codes"].numpy().tobytes())
    changed = {"short": zlib.compress(codes[:-1]), "long": zlib.compress(codes + bytes(10**6)), "garbage": b"no"}
    if damage == "no scale":
        del packed["w/scale"]
    else:
        packed["w/codes"] = torch.frombuffer(bytearray(changed[damage]), dtype=torch.uint8)
    with pytest.raises((KeyError, ValueError, RuntimeError, zlib.error)):
        weights.unpack(packed)

"""NumPy's part of a pickle, played by harmless stand-ins: they check what NumPy itself takes on trust.

A pickled array is a reference to a function of NumPy, a call of it, and a state. The real functions believe the state:
they would make objects out of raw bytes, or an array larger than its data.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

_KINDS = re.compile(r"O[48]?|b1|[iu][1248]|f[248]|[US][0-9]{1,6}")
# What a pickle of an array refers to; NumPy 2 calls numpy.core numpy._core. Bytes in old protocols need encode.
_ADMITTED = {
    f"numpy.{core}.{name}": name.rpartition(".")[2].lstrip("_")
    for core in ("core", "_core")
    for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
} | {"numpy.ndarray": "ndarray", "numpy.dtype": "dtype", "_codecs.encode": "encode"}


class Refused(ValueError):  # noqa: N818 - the message completes "the pickle wants ..."
    """A pickle wants something that is not admitted; the message says what."""


@dataclass(frozen=True)
class Reference:
    """A function or class of NumPy that a pickle may name; nothing but its name."""

    part: str


@dataclass
class Dtype:
    """The type of an array's elements: NumPy's short name of it, and the order of its bytes."""

    text: str
    order: str = "="

    def array(self, raw: bytes, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
        """Make an array of numbers or text from exactly the bytes that its shape takes; bytes become text."""
        if self.text.startswith("O"):
            raise Refused("objects made of raw bytes")
        dtype = np.dtype(self.order + self.text)
        if len(raw) != size(shape) * dtype.itemsize:
            raise Refused(f"an array of shape {shape} and {len(raw)} bytes of data")
        if dtype.kind == "U" and (np.frombuffer(raw, f"{self.order}u4") > sys.maxunicode).any():
            raise Refused("text of numbers that are no characters")
        array = np.ndarray(shape, dtype, bytes(raw), order="F" if fortran else "C").copy()
        return np.char.decode(array, "utf-8") if dtype.kind == "S" else array


class Array:
    """An array on its way: its state comes after the reference to it."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.content: np.ndarray | list | None = None  # a list of objects, in C order whatever the array's own


def size(shape: object) -> int:
    """Return the number of elements of a shape; raises :class:`Refused` for what is no shape."""
    if not isinstance(shape, tuple) or len(shape) > 8 or any(type(n) is not int or n < 0 for n in shape):
        raise Refused("an array without a proper shape")
    return math.prod(shape)


def refer(module: object, name: object) -> Reference:
    """Return the stand-in of a global name; raises :class:`Refused` for all but NumPy's."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise Refused("a name that is no text")
    if f"{module}.{name}" not in _ADMITTED:
        raise Refused(f"{module}.{name}, which may do anything")
    return Reference(_ADMITTED[f"{module}.{name}"])


def call(function: object, arguments: object) -> Any:
    """Return what the call of a reference stands for; raises :class:`Refused` for calls that NumPy does not write."""
    match getattr(function, "part", None), arguments:
        case "reconstruct", (Reference(part="ndarray"), (0,), b"b"):
            return Array()
        case "dtype", (text, *_) if isinstance(_text(text), str) and _KINDS.fullmatch(_text(text)):
            return Dtype(_text(text))
        case "scalar", (Dtype() as dtype, bytes() as raw):
            return dtype.array(raw, (), False).item() if raw else ""  # empty text has no bytes
        case "frombuffer", (bytes() | bytearray() as raw, Dtype() as dtype, shape, "C" | "F" as order):
            return dtype.array(raw, shape, order == "F")
        case "encode", (str() as text, "latin1"):
            return text.encode("latin-1")
    raise Refused(f"a call of {getattr(function, 'part', type(function).__name__)} that NumPy does not make")


def build(target: object, state: object) -> None:
    """Give a dtype or an array its state; raises :class:`Refused` for any other object or state."""
    match target, state:
        case Dtype(), (int(), order, None, None, None, *_) if _text(order) in ("<", ">", "|", "="):
            target.order = _text(order)
        case Array(), (1, shape, Dtype(text="O" | "O4" | "O8"), _, list() as items) if len(items) == size(shape):
            target.shape, target.content = shape, items
        case Array(), (1, shape, Dtype() as dtype, fortran, bytes() as raw):
            target.shape, target.content = shape, dtype.array(raw, shape, bool(fortran))
        case _:
            raise Refused("an object with a state that is not an array's")


def _text(value: object) -> object:
    """Return as text what Python 2 wrote as bytes."""
    return value.decode("ascii") if isinstance(value, bytes) else value

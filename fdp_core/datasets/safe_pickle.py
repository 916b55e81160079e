"""Pickles from the net, read without running anything in them: plain values and NumPy arrays come out, or an error.

``pickle.Unpickler`` stays open to attack even where its ``find_class`` admits little: an opcode may claim gigabytes,
and tuples of tuples as keys of a dict hash without end. So the opcodes, as ``pickletools`` takes them apart, are
followed here one by one, and none of them calls anything.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fdp_core.datasets.pickled_arrays import Array, Refused, build, call, refer
from fdp_core.datasets.types import ParseError

MAX_BYTES = 16 * 2**20
MAX_STEPS = 1_000_000  # opcodes; and values that come out, where shared parts count as often as they are met
MAX_DEPTH = 32

_ADMITTED = "only dict, list, tuple, text, numbers and NumPy arrays are admitted"
_PLAIN = (str, int, float, bool, bytes)
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = set(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8".split()
)


class _Machine:
    """The stack of values on which the opcodes of one pickle work."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise Refused(f"to fill a {type(self.stack[-1]).__name__} like a {kind.__name__}")
        return self.stack[-1]

    def fill(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in _PLAIN:
                raise Refused(f"a key of type {type(key).__name__}")
            target[key] = value

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case _ if name in _VALUES:
                stack.append(argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case _ if name in _EMPTY:
                stack.append(_EMPTY[name]())
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":  # of Python 2, where text was bytes
                stack.append(argument.encode("latin-1"))
            case "LIST" | "TUPLE":
                stack.append((list if name == "LIST" else tuple)(self.since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if name == "APPEND" else self.since_mark()
                self.top(list).extend(items)
            case "DICT" | "SETITEM" | "SETITEMS":
                pairs = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self.since_mark()
                if name == "DICT":
                    stack.append({})
                self.fill(pairs)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL" | "INST":
                stack.append(refer(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack[-2:] = [refer(*stack[-2:])]
            case "REDUCE":
                stack[-2:] = [call(*stack[-2:])]
            case "BUILD":
                state = stack.pop()
                build(stack[-1], state)
            case _:
                raise Refused(f"opcode {name}")


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """Turn what a pickle leaves into plain values and arrays; bytes, Python 2's text, become text."""
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        raise Refused(f"values nested deeper than {MAX_DEPTH}, or more than {MAX_STEPS:,} of them")
    if isinstance(value, Array) and isinstance(value.content, list):
        flat = np.empty(len(value.content), dtype=object)
        for i, item in enumerate(value.content):
            flat[i] = _plain(item, depth + 1, left)
        return flat.reshape(value.shape)
    if isinstance(value, Array) and value.content is not None:
        return value.content
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if value is None or isinstance(value, np.ndarray) or type(value) in _PLAIN:
        return value
    if type(value) in (list, tuple):
        return type(value)(_plain(item, depth + 1, left) for item in value)
    if type(value) is dict:
        return {_plain(key, depth + 1, left): _plain(item, depth + 1, left) for key, item in value.items()}
    raise Refused(f"a {type(value).__name__} as a value")


def loads(data: bytes, path: Path) -> Any:
    """Read a pickle of any protocol.

    Args:
        data: its bytes; what follows the end of the pickle is not looked at.
        path: the file they come from, for messages.

    Returns:
        A value made of dict, list, tuple, str, int, float, bool, None and NumPy arrays, and of nothing else.

    Raises:
        ParseError: it wants anything else (the message says what), is broken off, too big or nested too deep.
    """
    machine, place = _Machine(), 0
    try:
        if len(data) > MAX_BYTES:
            raise Refused(f"{len(data):,} bytes, more than {MAX_BYTES:,}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of backslashes in names, which are refused below
            for step, (opcode, argument, position) in enumerate(pickletools.genops(data)):
                place = position or 0
                if step >= MAX_STEPS:
                    raise Refused(f"more than {MAX_STEPS:,} steps")
                if opcode.name != "STOP":  # the last one; genops raises where it is missing
                    machine.step(opcode.name, argument)
        return _plain(machine.stack.pop(), 0, [MAX_STEPS])
    except Refused as error:
        problem = (
            f"the pickle wants {error}; {_ADMITTED}. Nothing of it was run (byte {place}). Get the file from the "
            "set's own address again; do not open this one with other programs."
        )
        raise ParseError(path, None, problem) from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        problem = f"not a whole pickle (byte {place}: {str(error)[:200]}); get the file again"
        raise ParseError(path, None, problem) from None


def read_npy(path: Path) -> np.ndarray:
    """Read a ``.npy`` file of objects, as ``numpy.save`` writes for a dict or a list.

    Args:
        path: the file; NumPy reads its header, :func:`loads` its pickle.

    Returns:
        The array, dtype object; of shape ``()`` for a dict, which is ``array.item()``.

    Raises:
        ParseError: not a ``.npy`` file, one of numbers, or one whose pickle is not admitted.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ParseError(path, None, f"{path.stat().st_size:,} bytes; a list of names is below {MAX_BYTES:,}")
    stream = io.BytesIO(path.read_bytes())
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = readers[version](stream)
    except (ValueError, KeyError) as error:
        raise ParseError(path, None, f"not a .npy file that NumPy can read ({error}); get it again") from None
    if dtype.kind != "O":
        raise ParseError(path, None, f"expected a pickled dict (dtype object), found an array of {dtype}")
    array = loads(stream.read(), path)
    if not isinstance(array, np.ndarray) or array.dtype.kind != "O" or array.shape != shape:
        raise ParseError(path, None, f"the header promises objects of shape {shape}, the pickle holds something else")
    return array

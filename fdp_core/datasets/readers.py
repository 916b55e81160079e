"""Files of data sets, JSON, MATLAB, NumPy, lines of text: what is inside, or an error that names file and fault."""

from __future__ import annotations

import io
import json
import pickle
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdp_core.datasets.types import ParseError

MAX_PICKLE = 16 * 2**20  # bytes
# All that a pickle of NumPy's arrays of objects has to name: nothing else can be called from one.
_ADMITTED = {"numpy.ndarray", "numpy.dtype"} | {
    f"numpy.{core}.multiarray.{name}"  # of NumPy 1 and of NumPy 2
    for core in ("core", "_core")
    for name in ("_reconstruct", "scalar")
}


def read_json(path: Path, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    ``pairs`` makes something of the keys and values of each object; None makes a dict, the last of equal keys counts.

    Raises:
        ParseError: not UTF-8 text, not JSON (names the line), or nested too deep to be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise ParseError(path, error.lineno, f"not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ParseError(path, None, f"not UTF-8 text (byte {error.start}: {error.reason})") from None
    except RecursionError:
        raise ParseError(path, None, "nested too deep to be read") from None


def read_mat(path: Path, variables: Sequence[str] | None = None) -> dict[str, Any]:
    """Read a MATLAB file of version 5 or lower, all variables or only these where they are there: variable -> array.

    Raises:
        ParseError: not such a file.
    """
    from scipy.io import loadmat  # slow to import, and only few sets need it

    with path.open("rb") as stream:
        try:
            content = loadmat(stream, variable_names=variables)
        except Exception as error:  # scipy raises many kinds on damaged files
            raise ParseError(path, None, f"not a MATLAB file that scipy can read ({error})") from None
    return {name: value for name, value in content.items() if not name.startswith("__")}


class _Unpickler(pickle.Unpickler):
    """Reads dicts, lists, text, numbers and NumPy arrays of objects; any other class or function is refused."""

    def find_class(self, module: str, name: str) -> object:
        if f"{module}.{name}" not in _ADMITTED:
            raise pickle.UnpicklingError(f"the pickle wants {module}.{name}, which may do anything; nothing of it ran")
        return super().find_class(module, name)


def read_npy(path: Path) -> np.ndarray:
    """Read a ``.npy`` file of objects, as ``numpy.save`` writes for a dict or a list, without running code from it.

    The array, dtype object, has the shape ``()`` for a dict, which is ``array.item()``.

    Raises:
        ParseError: larger than 16 MiB, not a ``.npy`` file, one of numbers, broken off, or with a pickle that names any
            other class or function than NumPy's arrays.
    """
    if (size := path.stat().st_size) > MAX_PICKLE:
        raise ParseError(path, None, f"{size:,} bytes; a list of names is below {MAX_PICKLE:,}")
    stream = io.BytesIO(path.read_bytes())
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = readers[version](stream)
    except (ValueError, KeyError) as error:
        raise ParseError(path, None, f"not a .npy file that NumPy can read ({error}); get it again") from None
    if dtype.kind != "O":
        raise ParseError(path, None, f"expected a pickled dict (dtype object), found an array of {dtype}")
    try:
        array = _Unpickler(stream, encoding="utf-8").load()  # the text of Python 2 is bytes
    except Exception as error:  # a damaged pickle raises any kind
        problem = f"not a pickle that can be trusted: {str(error)[:200]}; get the file again"
        raise ParseError(path, None, problem) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "O" or array.shape != shape:
        raise ParseError(path, None, f"the header promises objects of shape {shape}, the pickle holds something else")
    return array


def first_there(root: Path, names: list[str]) -> Path:
    """Return the first of some alternative paths under ``root`` that exists, or the first of all."""
    return next((root / name for name in names if (root / name).exists()), root / names[0])


def same_name(name: str) -> str:
    """Return a file name as systems compare it that do not tell upper from lower case, or é from e and an accent."""
    return unicodedata.normalize("NFC", name).casefold()


class LookUp:
    """Finds a file by a written name: exactly, else the only one that Windows or a Mac would take for it.

    Args:
        names: of the files that are there.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self._alike: dict[str, list[str]] = {}
        for name in self.names:
            self._alike.setdefault(same_name(name), []).append(name)

    def __call__(self, name: str) -> str | None:
        """Return the file's own name, or None where there is none or more than one."""
        if name in self.names:
            return name
        alike = self._alike.get(same_name(name), [])
        return alike[0] if len(alike) == 1 else None


def decoded(path: Path, data: bytes, advice: str = "") -> str:
    """Return the text of a file's bytes, UTF-8 with or without a byte order mark, or name the line that is not."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ParseError(path, line, f"byte {data[error.start]:#04x} is not UTF-8 text{advice}") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of a UTF-8 text file: no byte order mark, no line end, no blank lines (D3).

    ``str.splitlines`` would also cut at U+2028, U+0085 or form feeds, which do occur inside transcriptions.
    """
    for number, line in enumerate(decoded(path, path.read_bytes()).split("\n"), start=1):
        line = line.removesuffix("\r").removeprefix("\ufeff")  # some files were joined from parts, mark and all
        if line.strip():
            yield number, line


def polygon(path: Path, number: int, fields: Sequence[str], points: int) -> np.ndarray:
    """Turn fields x1, y1, x2, ... of a line into a polygon of finite numbers, float32 ``[points, 2]``."""
    try:
        values = np.array([float(field) for field in fields], dtype=np.float32)
    except ValueError:
        values = np.empty(0, dtype=np.float32)
    if len(values) != 2 * points or not np.isfinite(values).all():
        form = f"{2 * points} numbers x1,y1,...,x{points},y{points}"
        raise ParseError(path, number, f"expected {form}, found {','.join(fields).strip()[:120]!r}")
    return values.reshape(points, 2)

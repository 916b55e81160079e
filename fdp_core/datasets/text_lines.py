"""Lines of annotation files, with the traps of files that were made on many systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .types import ParseError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of a UTF-8 text file: no byte order mark, no line end, no blank lines.

    ``str.splitlines`` would also cut at U+2028, U+0085 or form feeds, which do occur inside transcriptions.

    Raises:
        ParseError: the file is not UTF-8; names the line.
        OSError: the file cannot be read.
    Source: D3.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ParseError(path, line, f"byte {data[error.start]:#04x} is not UTF-8 text") from None
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r").removeprefix("\ufeff")  # some files were joined from parts, mark and all
        if line.strip():
            yield number, line


def quadrilateral(path: Path, number: int, fields: list[str]) -> np.ndarray:
    """Turn eight coordinate fields into a polygon, float32 ``[4, 2]``.

    Raises:
        ParseError: a field is not a finite number; names file and line.
    """
    try:
        values = np.array([float(field) for field in fields], dtype=np.float32)
    except ValueError:
        values = np.array([np.nan], dtype=np.float32)
    if not np.isfinite(values).all():
        raise ParseError(path, number, f"expected eight numbers x1,y1,...,x4,y4, found {','.join(fields)[:80]!r}")
    return values.reshape(4, 2)

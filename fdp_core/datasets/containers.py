"""Files of JSON and of MATLAB: what is inside, or a clear error."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .types import ParseError


def read_json(path: Path, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        pairs: makes something of the keys and values of each object; None makes a dict, the last of equal keys counts.

    Raises:
        ParseError: not UTF-8 text, not JSON (names the line), or nested too deep to be read.
        OSError: the file cannot be read.
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
    """Read a MATLAB file of version 5 or lower.

    Args:
        path: the file.
        variables: only these, where they are there; None reads all.

    Returns:
        Variable -> array.

    Raises:
        ParseError: not such a file.
        OSError: the file cannot be read.
    """
    from scipy.io import loadmat  # slow to import, and only few sets need it

    with path.open("rb") as stream:
        try:
            content = loadmat(stream, variable_names=variables)
        except Exception as error:  # scipy raises many kinds on damaged files
            raise ParseError(path, None, f"not a MATLAB file that scipy can read ({error})") from None
    return {name: value for name, value in content.items() if not name.startswith("__")}

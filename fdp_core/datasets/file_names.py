"""Names of files as they were written on other systems, and the files that they mean."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path


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

"""The log of a training run: one JSON object a line, readable while the run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fdp_core.files import atomic_write_text


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a log of one JSON object a line, such as that of :mod:`fdp_core.pretrain`, also while the run goes on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no record.
    """
    path = Path(path)
    records = _whole(path.read_text(encoding="utf-8").splitlines())
    if not records:
        raise ValueError(f"{path.name} holds no record; expected one JSON object a line.")
    return records


def _whole(lines: list[str]) -> list[dict[str, Any]]:
    """Return the records up to a line torn by a power cut: what follows it cannot be trusted."""
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class History:
    """Records of steps and epochs, kept in memory and, with a path, in a JSON lines file.

    A step's record holds ``kind`` "step", ``epoch`` and ``step`` (from 1), the loss terms and their
    ``total``. An epoch's holds ``kind`` "epoch", the means of the terms, the learning rates,
    ``validation_map`` (0-1, or None without a validation split), ``best`` (is it the best so far?) and
    ``seconds``.

    Args:
        path: the file; ``None`` keeps the log in memory only.
        keep: how many records of an existing file belong to the run that goes on; the rest, such as steps
            after the last checkpoint, is cut off.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, keep: int = 0) -> None:
        self.path = None if path is None else Path(path)
        self.records: list[dict[str, Any]] = []
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text(encoding="utf-8").splitlines()[:keep] if keep and self.path.exists() else []
        self.records = _whole(lines)
        atomic_write_text(self.path, "".join(json.dumps(record) + "\n" for record in self.records))

    def append(self, record: dict[str, Any]) -> None:
        """Add a record and write it out at once."""
        self.records.append(record)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The records of the steps."""
        return [record for record in self.records if record["kind"] == "step"]

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The records of the epochs."""
        return [record for record in self.records if record["kind"] == "epoch"]

    @property
    def best_epoch(self) -> int | None:
        """The epoch (from 1) whose weights the model holds after training."""
        return next((record["epoch"] for record in reversed(self.epochs) if record["best"]), None)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.records[index]

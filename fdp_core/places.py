"""Where runs keep what can be computed again: feature caches, search indexes, checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from fdp_core import provenance


def home() -> Path:
    """Return the checkout that this package is part of, else the current folder."""
    return provenance.checkout() or Path.cwd()


def cache_folder(kind: str) -> Path:
    """Return the folder of one kind of cache: under ``FDP_CACHE``, else under ``.cache`` of :func:`home`.

    Args:
        kind: for example "features" or "indexes".
    """
    return Path(os.environ.get("FDP_CACHE") or home() / ".cache").expanduser() / kind


def index_file(photographs: str | Path, model_hash: str) -> Path:
    """Return where the search index of a folder of photographs by one model is kept."""
    folder = Path(photographs).expanduser().resolve()
    return cache_folder("indexes") / f"{_slug(folder.name)}_{_digest([str(folder), model_hash])}.safetensors"


def run_folder(name: str, **facts: Any) -> Path:
    """Return the folder of a training run: ``runs/<name>_<digest>`` under :func:`home`.

    Args:
        name: what runs, for example "05_train".
        facts: everything that tells this run from others; equal facts give the same folder, so that an
            interrupted run is found again.
    """
    return home() / "runs" / f"{_slug(name)}_{_digest(facts)}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-") or "x"


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]

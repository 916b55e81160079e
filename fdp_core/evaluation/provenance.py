"""Where a number comes from: commit, dirty flag, device, library versions."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent
LIBRARIES = ("torch", "open_clip_torch", "numpy", "scikit-learn", "pillow", "safetensors")
_NOT_CODE = ("book/results", "_build", "data")  # what a run itself writes does not make its code dirty


def checkout() -> Path | None:
    """Return the root of the git checkout that this package is part of; None where there is none."""
    root = _git(PACKAGE, "rev-parse", "--show-toplevel")
    # A virtual environment may lie inside somebody else's checkout: the file must be tracked, or at least not
    # ignored.
    if root is None or _git(PACKAGE, "check-ignore", "--quiet", str(PACKAGE / "__init__.py")) is not None:
        return None
    return Path(root)


def commit() -> tuple[str | None, bool | None]:
    """Return the checkout's commit and whether its files differ from it.

    Returns:
        (40 hexadecimal digits, dirty); (None, None) outside a checkout, (None, True) before the first commit.
    """
    root = checkout()
    if root is None:
        return None, None
    changes = _git(root, "status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in _NOT_CODE))
    return _git(root, "rev-parse", "--verify", "--quiet", "HEAD"), changes != ""


def _git(folder: Path, *arguments: str) -> str | None:
    """Run git and return its output; None where git is missing or says no."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # only looking: take no lock from the user's git
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device(name: Any = "cpu") -> str:
    """Describe a torch device, or one by its name, in words, for example ``cpu (AMD EPYC 7763, 2 threads)``."""
    import torch

    chosen = torch.device(name)
    if chosen.type == "cuda" and torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name(chosen)})"
    if chosen.type != "cpu":
        return str(chosen)
    return f"cpu ({_processor()}, {torch.get_num_threads()} threads)"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that numbers depend on."""
    import fdp_core

    found = {"python": platform.python_version(), "fdp_core": fdp_core.__version__}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# Where runs keep what can be computed again: feature caches, search indexes, checkpoints.


def home() -> Path:
    """Return the checkout that this package is part of, else the current folder."""
    return checkout() or Path.cwd()


def cache_folder(kind: str) -> Path:
    """Return the folder of a kind of cache such as "features": under ``FDP_CACHE``, else ``.cache`` of :func:`home`."""
    return Path(os.environ.get("FDP_CACHE") or home() / ".cache").expanduser() / kind


def index_folder(photographs: str | Path, model_hash: str) -> Path:
    """Return where the search index of a folder of photographs by one model is kept."""
    folder = Path(photographs).expanduser().resolve()
    return cache_folder("indexes") / f"{_slug(folder.name)}_{_digest([str(folder), model_hash])}"


def run_folder(name: str, **facts: Any) -> Path:
    """Return the folder of a training run: ``runs/<name>_<digest>`` under :func:`home`.

    ``facts`` are everything that tells this run from others; equal facts give the same folder, so that an interrupted
    run is found again.
    """
    return home() / "runs" / f"{_slug(name)}_{_digest(facts)}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-") or "x"


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]

"""Lets torchvision be imported beside a PyTorch build that its compiled extension does not fit.

A CPU build of PyTorch next to the registry's torchvision (built for CUDA) dies at ``import torchvision``,
and with it ``import open_clip``: "operator torchvision::nms does not exist". Nothing here needs that
operator, only its schema.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None  # kept alive: the operators vanish with the object


def extension_loads() -> bool:
    """Say whether torchvision's compiled extension works here, or torchvision is not installed at all."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return True
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = [folder / f"_C{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    try:
        torch.ops.load_library(str(next(file for file in files if file.is_file())))
    except (StopIteration, OSError, ImportError, RuntimeError):
        return False
    return True


def repair() -> bool:
    """Define torchvision's two missing operators if its extension cannot be loaded; say whether they are defined."""
    global _library
    if _library is not None:
        return True
    if "torchvision" in sys.modules or extension_loads():
        return False
    library = torch.library.Library("torchvision", "DEF")
    library.define(f"nms{_SCHEMA}")
    library.define(f"qnms{_SCHEMA}")
    _library = library
    return True

"""FDP: scene text retrieval with CLIP (Focus, Distinguish, Prompt), a readable reference implementation.

``from fdp_core import FDP, Config, Index, load, preset`` is all that a search in ten lines needs.
"""

import importlib
import warnings
from typing import TYPE_CHECKING

from fdp_core import _torchvision

if TYPE_CHECKING:  # for editors and type checkers; at run time __getattr__ below finds the same names
    from fdp_core.checkpoint import load
    from fdp_core.config import Config, preset
    from fdp_core.model import FDP
    from fdp_core.regions.index import Index

_torchvision.repair()  # before anything imports torchvision, and so before open_clip

with warnings.catch_warnings():  # open_clip's libraries import tqdm.auto, which warns in notebooks without ipywidgets
    warnings.simplefilter("ignore")
    import tqdm.auto  # noqa: F401

__version__ = "0.1.0"

__all__ = ["FDP", "Config", "Index", "load", "preset"]

# Found when first asked for: `import fdp_core` then costs no more than PyTorch. Index lives in a wing, which the core
# must not import; this table is the one exception, made by name, so that a user needs one line of imports.
_HOMES = {"FDP": "model", "Config": "config", "Index": "regions.index", "load": "checkpoint", "preset": "config"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""FDP: scene text retrieval with CLIP (Focus, Distinguish, Prompt), a readable reference implementation."""

import warnings

from fdp_core import _torchvision

_torchvision.repair()  # before anything imports torchvision, and so before open_clip

with warnings.catch_warnings():  # open_clip's libraries import tqdm.auto, which warns in notebooks without ipywidgets
    warnings.simplefilter("ignore")
    import tqdm.auto  # noqa: F401

__version__ = "0.1.0"

__all__ = ["__version__"]

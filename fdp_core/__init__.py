"""FDP: scene text retrieval with CLIP (Focus, Distinguish, Prompt), a readable reference implementation."""

from fdp_core import _torchvision

_torchvision.repair()  # before anything imports torchvision, and so before open_clip

__version__ = "0.1.0"

__all__ = ["__version__"]

"""The index that a user gets without asking: with a vector for each word region."""

from __future__ import annotations

from pathlib import Path

from fdp_core.model import FDP
from fdp_core.regions.system import RegionSystem
from fdp_core.retrieval import index
from fdp_core.retrieval.vectors import Embedder


class Index(index.Index):
    """As :class:`fdp_core.retrieval.index.Index`, but an FDP model searches by word regions, not by one vector."""

    @classmethod
    def open(cls, uri: str | Path, model: FDP | Embedder) -> Index:
        """Open the index of a model, or begin one; :meth:`update` fills it.

        Args:
            uri: as :meth:`fdp_core.retrieval.index.Index.open`, which tells what is raised, too.
            model: an FDP model, which becomes a :class:`fdp_core.regions.system.RegionSystem`, or any system.
        """
        return super().open(uri, model if hasattr(model, "encode_gallery") else RegionSystem(model, progress=False))

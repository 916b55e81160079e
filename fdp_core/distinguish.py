"""Distinguish: is a query a content or a function word? Two clusters of CLIP's text features, fitted once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from fdp_core.words import fold

FUNCTION, CONTENT = 0, 1
KINDS: tuple[str, str] = ("function", "content")


@dataclass(frozen=True)
class Clusters:
    """Two cluster centres in the space of CLIP's text features.

    Args:
        centres: ``[2, D]`` float32; row 0 is *function*, row 1 is *content*.
        overrides: words whose kind is decided by hand (defect C9): folded word -> 0 function, 1 content.

    Source: FDP section 3.3.
    """

    centres: Tensor
    overrides: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.centres.ndim != 2 or self.centres.shape[0] != 2 or not torch.isfinite(self.centres).all():
            raise ValueError(f"Cluster centres must be finite and [2, D], not {list(self.centres.shape)}.")
        folded = {fold(word): kind_id(kind) for word, kind in self.overrides.items()}
        object.__setattr__(self, "overrides", folded)
        object.__setattr__(self, "centres", self.centres.detach().to(torch.float32))

    @classmethod
    def fit(
        cls,
        features: Tensor,
        words: Sequence[str],
        seed: int = 0,
        n_init: int = 10,
        function_anchor: str = "the",
        content_anchor: str = "office",
    ) -> Clusters:
        """Fit 2-means to the features of frequent words and name the clusters by two anchor words.

        Args:
            features: ``[N, D]`` un-normalised text features of the bare words, any float type.
            words: the N words.
            seed: seed of the initial centres.
            n_init: restarts; the tightest clustering wins.
            function_anchor: the cluster that holds this word is *function*.
            content_anchor: the cluster that holds this word is *content*.

        Raises:
            ValueError: shapes disagree, a feature is not finite, or an anchor is not among the words.

        Source: FDP section 3.3; defects C1 (seeded, saved) and C2 (float32 throughout).
        """
        if features.ndim != 2 or len(features) != len(words):
            raise ValueError(f"{len(words)} words need features [{len(words)}, D], not {list(features.shape)}.")
        rows = [fold(word) for word in words]
        for anchor in (function_anchor, content_anchor):
            if fold(anchor) not in rows:
                raise ValueError(f"The anchor word {anchor!r} is not in the word list; add it before fitting.")
        points = features.detach().to("cpu", torch.float32)
        if not torch.isfinite(points).all():
            raise ValueError("A text feature is not finite; the clusters cannot be fitted.")
        means = KMeans(n_clusters=2, n_init=n_init, random_state=seed).fit(points.numpy().astype(np.float64))
        centres = torch.from_numpy(means.cluster_centers_).to(torch.float32)
        anchors = points[[rows.index(fold(function_anchor)), rows.index(fold(content_anchor))]]
        lean = torch.cdist(anchors.double(), centres.double())
        lean = lean[:, 0] - lean[:, 1]  # below zero: nearer to the first centre
        if (lean[0] <= 0) == (lean[1] <= 0):
            warnings.warn(
                f"{function_anchor!r} and {content_anchor!r} fall into one cluster; the larger difference decides.",
                stacklevel=2,
            )
        if lean[0] > lean[1]:  # the function anchor leans to the second centre
            centres = centres.flip(0)
        return cls(centres)

    def assign(self, features: Tensor, words: Sequence[str] | None = None) -> Tensor:
        """Assign each feature to the nearer centre.

        Args:
            features: ``[N, D]`` un-normalised text features of the bare words.
            words: the N words; only needed for :attr:`overrides` to apply.

        Returns:
            LongTensor ``[N]``: 0 function, 1 content.

        Source: FDP section 3.3; defect C2 (nearest centre in torch).
        """
        kinds = self._distances(features).argmin(dim=1)
        for row, word in enumerate(words or ()):
            kind = self.overrides.get(fold(word))
            if kind is not None:
                kinds[row] = kind
        return kinds

    def weights(self, features: Tensor, temperature: float = 0.1, words: Sequence[str] | None = None) -> Tensor:
        """Mix the kinds softly instead of deciding (defect C9).

        Args:
            features: ``[N, D]`` un-normalised text features of the bare words.
            temperature: softness, in squared distances between the two centres; towards 0 it becomes :meth:`assign`.
            words: the N words; an overridden word gets the weights 0 and 1.

        Returns:
            float32 ``[N, 2]``, each row sums to one: the weight of *function* and of *content*.

        Raises:
            ValueError: the temperature is not positive.
        """
        if temperature <= 0:
            raise ValueError(f"The temperature must be positive, not {temperature}.")
        gap = (self.centres[0] - self.centres[1]).square().sum().clamp_min(1e-12).to(features.device)
        soft = torch.softmax(-self._distances(features).square() / (temperature * gap), dim=1)
        for row, word in enumerate(words or ()):
            kind = self.overrides.get(fold(word))
            if kind is not None:
                soft[row] = torch.eye(2, device=soft.device)[kind]
        return soft

    def with_overrides(self, overrides: Mapping[str, int | str]) -> Clusters:
        """Return the same clusters with further words decided by hand ("function"/"content" or 0/1)."""
        added = {fold(word): kind_id(kind) for word, kind in overrides.items()}
        return Clusters(self.centres, {**self.overrides, **added})

    def _distances(self, features: Tensor) -> Tensor:
        if features.ndim != 2 or features.shape[1] != self.centres.shape[1]:
            raise ValueError(f"Features must be [N, {self.centres.shape[1]}], not {list(features.shape)}.")
        points = features.detach().to(torch.float32)
        # Differences, not cdist's matrix product: a row must not depend on its neighbours.
        return (points[:, None] - self.centres.to(points.device)).square().sum(dim=-1).sqrt()


def kind_id(kind: int | str) -> int:
    """Return 0 for "function" (or 0) and 1 for "content" (or 1); anything else raises ``ValueError``."""
    if kind in KINDS:
        return KINDS.index(str(kind))
    if kind in (FUNCTION, CONTENT):
        return int(kind)
    raise ValueError(f"Unknown kind of word {kind!r}; expected 'function' (0) or 'content' (1).")

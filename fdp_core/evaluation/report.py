"""The one evaluation: any system, any gallery, the benchmarks' protocol, raw scores (defects E3, E7)."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fdp_core.evaluation import metrics
from fdp_core.retrieval.vectors import Speed, VectorSets, score_texts, top_rows

_BELOW = 1.0  # an unreadable photograph stands this far below the lowest score


@dataclass(frozen=True)
class Report:
    """What one system does on one gallery.

    Attributes:
        system: its name.
        set: the gallery's name; ``split`` its part; ``protocol`` how queries and relevance are defined.
        texts: Q queries.
        ap: [Q] float64, average precision of each.
        mean_ap: their unweighted mean, 0-1.
        recall_at: k -> recall@k, 0-1.
        precision_at: k -> P@k, 0-1.
        groups: name -> {"mean": mAP of the group, "queries": int}.
        scores: [Q, N] float, as ranked (an unreadable photograph below all others).
        relevant: [Q, N] bool.
        unreadable: ids of the photographs that could not be read; they stay in the gallery, ranked last.
        seconds: wall time of the parts "gallery", "queries", "ranking".
        speed: of the photographs' side, where the system tells it.
        groups_from: "set" where the groups come with the queries, "clusters" where a model assigned them.
        settings: the system's own settings (image size, fit, backbone, weights hash ...).
    """

    system: str
    set: str
    split: str
    protocol: str
    manifest_hash: str
    texts: tuple[str, ...]
    ids: tuple[str, ...]
    ap: np.ndarray
    mean_ap: float
    recall_at: dict[int, float]
    precision_at: dict[int, float]
    groups: dict[str, dict[str, float]]
    scores: np.ndarray
    relevant: np.ndarray
    unreadable: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    speed: Speed | None = None
    groups_from: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """Return every number by name: ``mAP``, ``recall@k``, ``P@k``, ``mAP/<group>``; all 0-1."""
        named = {"mAP": self.mean_ap}
        named |= {f"recall@{k}": value for k, value in self.recall_at.items()}
        named |= {f"P@{k}": value for k, value in self.precision_at.items()}
        named |= {f"mAP/{name}": group["mean"] for name, group in self.groups.items()}
        return named

    def ranking(self, query: int | str, k: int | None = None) -> list[int]:
        """Return photograph numbers for one query, best first; equal scores in the order of ids.

        Args:
            query: its number or its text.
            k: how many; None for all.
        """
        row = self.texts.index(query) if isinstance(query, str) else query
        return top_rows(self.scores[row], self.ids, len(self.ids) if k is None else k)

    def best(self, count: int = 10) -> list[int]:
        """Return the numbers of the queries with the highest average precision, best first."""
        return list(np.lexsort((np.array(self.texts), -self.ap))[:count])

    def worst(self, count: int = 10) -> list[int]:
        """Return the numbers of the queries with the lowest average precision, worst first."""
        return list(np.lexsort((np.array(self.texts), self.ap))[:count])

    def table(self) -> Any:
        """Return one line a query: text, AP in %, relevant photographs, rank of the first of them."""
        import pandas as pd

        best = np.where(self.relevant, self.scores, -np.inf).max(axis=1, keepdims=True)
        return pd.DataFrame(
            {
                "query": self.texts,
                "AP %": 100 * self.ap,
                "relevant": self.relevant.sum(axis=1),
                "first rank": (self.scores > best).sum(axis=1) + 1,
            }
        )


def unscored_last(scores: np.ndarray) -> np.ndarray:
    """Put photographs without a score (NaN columns of [Q, N]) below all others, so that the gallery keeps its size."""
    missing = np.isnan(scores)
    if not missing.any():
        return scores
    known = scores[~missing]
    return np.where(missing, (known.min() if known.size else 0.0) - _BELOW, scores)


def kind_groups(kinds: np.ndarray) -> dict[str, np.ndarray]:
    """Turn cluster numbers [Q], 0 function and 1 content, into groups of queries, [Q] bool each (FDP section 3.3)."""
    kinds = np.asarray(kinds)
    return {"function": kinds == 0, "content": kinds == 1}


def evaluate(
    system: Any, gallery: Any, queries: Any, ks: tuple[int, ...] = (1, 5, 10), kinds: np.ndarray | None = None
) -> Report:
    """Rank the whole gallery for every query and measure it.

    Args:
        system: an :class:`Embedder` or a :class:`Scorer`.
        gallery: N photographs (:class:`fdp_core.datasets.Gallery`).
        queries: Q texts with their [Q, N] relevance (:class:`fdp_core.datasets.Queries`).
        ks: the k of recall@k and P@k.
        kinds: [Q] int, 0 function and 1 content, to split all systems in the same way; None asks the system's
            ``assign_kinds`` where it has one. Groups that come with the queries win over both.

    Raises:
        TypeError: the system is neither an embedder nor a scorer.
        ValueError: queries and gallery do not fit each other, a query has no relevant photograph, or the
            system gives another shape than it should.

    Source: FDP section 4; raw cosine, no softmax over the gallery (E3).
    """
    if not (hasattr(system, "encode_gallery") or hasattr(system, "scores")):
        raise TypeError(
            f"{type(system).__name__} is no system: it has neither encode_gallery nor scores. "
            "For a model or a backbone use fdp_core.retrieval.systems.fdp(model) or zero_shot(backbone)."
        )
    texts, relevant = list(queries.texts), np.asarray(queries.relevant, bool)
    shape = (len(texts), len(gallery.photos))
    if relevant.shape != shape:
        raise ValueError(
            f"The relevance matrix is {relevant.shape}; {gallery.name} has {shape} (queries, photographs)."
        )
    if 0 in shape:
        raise ValueError(
            f"{gallery.name}/{gallery.split} has {shape[0]} queries and {shape[1]} photographs; expected some."
        )
    if backbone := getattr(system, "backbone", None):
        unknown = [text for text in texts if backbone.unknown_letters(text)]
        if unknown:
            letters = "".join(sorted(set("".join(map(backbone.unknown_letters, unknown)))))
            warnings.warn(
                f"{backbone.name} cannot spell {letters!r}: {len(unknown)} of {len(texts)} queries, {unknown[0]!r} "
                "among them, are ranked by chance.",
                stacklevel=2,
            )
    seconds, clock = {}, time.perf_counter
    start = clock()
    if hasattr(system, "scores"):
        scores = np.asarray(system.scores(gallery, texts), float)
        seconds["gallery"], seconds["queries"] = clock() - start, 0.0
        missing = np.isnan(scores).any(axis=0)
        partly = missing & ~np.isnan(scores).all(axis=0)
        if scores.shape == shape and partly.any():
            named = ", ".join(photo.id for photo, bad in zip(gallery.photos, partly) if bad)
            told = f"{system.name} gave no number (NaN) for some queries on {named}"
            warnings.warn(f"{told}; these count as unreadable for all queries.", stacklevel=2)
    else:
        sets = VectorSets.of(system.encode_gallery(gallery))
        seconds["gallery"], start = clock() - start, clock()
        encoded = np.asarray(system.encode_queries(texts))
        seconds["queries"] = clock() - start
        if encoded.ndim != 2 or (len(encoded), len(sets)) != shape or np.isnan(encoded).any():
            told = f"{len(sets)} photographs with {sets.vectors.shape} and queries {encoded.shape}"
            expected = f"[{shape[1]}, D] and [{shape[0]}, D], no query with NaN"
            raise ValueError(f"System {system.name!r} gave {told}; expected {expected}.")
        missing, scores = ~sets.readable, score_texts(system, sets, texts, encoded).astype(float)
    if scores.shape != shape:
        raise ValueError(f"System {system.name!r} gave scores of shape {scores.shape}; expected {shape}.")
    start = clock()
    scores = unscored_last(np.where(missing[None], np.nan, scores))
    ap = metrics.average_precisions(relevant, scores)
    groups, groups_from = dict(queries.groups or {}), dict.fromkeys(queries.groups or {}, "set")
    if kinds is None and hasattr(system, "assign_kinds"):
        kinds = system.assign_kinds(texts)
    if kinds is not None and not {"function", "content"} & set(groups):
        groups |= kind_groups(kinds)
        groups_from |= dict.fromkeys(("function", "content"), "clusters")
    recall = {k: metrics.recall_at(relevant, scores, k) for k in ks}
    precision = {k: metrics.precision_at(relevant, scores, k) for k in ks}
    seconds["ranking"] = clock() - start
    return Report(
        system=system.name,
        set=gallery.name,
        split=gallery.split,
        protocol=queries.protocol,
        manifest_hash=gallery.manifest_hash,
        texts=tuple(texts),
        ids=tuple(photo.id for photo in gallery.photos),
        ap=ap,
        mean_ap=float(ap.mean()),
        recall_at=recall,
        precision_at=precision,
        groups=metrics.group_means(ap, groups),
        scores=scores,
        relevant=relevant,
        unreadable=tuple(photo.id for photo, bad in zip(gallery.photos, missing) if bad),
        seconds=seconds,
        speed=getattr(system, "speed", None),
        groups_from=groups_from,
        settings=dict(getattr(system, "settings", {})),
    )

"""What the split into function and content words does to retrieval: one trained model, each query under each context.

A query's ranking depends on its own context alone. So two rankings a query tell the result of every possible split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fdp_core.checkpoint import model_hash
from fdp_core.distinguish import CONTENT, FUNCTION, KINDS
from fdp_core.evaluation import metrics, results
from fdp_core.evaluation.report import unscored_last
from fdp_core.model import FDP
from fdp_core.retrieval.vectors import VectorSets
from fdp_core.training import loop

# How long should a context be? Contexts alone are trained, for several lengths, on photographs' fixed vectors.

_CONTEXTS = "prompt."


@dataclass(frozen=True)
class FixedVectors:
    """Vectors in the form in which training reads trunk features.

    Attributes:
        array: float32 [N, D, 1, 1], unit norm.
        ok: bool [N], False where a photograph could not be read.
        geometries: N transforms, None where not ok.
    """

    array: np.ndarray
    ok: np.ndarray
    geometries: Sequence[Any]


@torch.inference_mode()
def fixed_vectors(model: FDP, store: Any, batch_size: int = 8) -> FixedVectors:
    """Encode the photographs of a :class:`fdp_core.retrieval.features.FeatureStore` once by a trained model."""
    model.eval()
    vectors = store.encode(lambda features, _: model.encode_features(features)["image"], batch_size)
    return FixedVectors(vectors[:, :, None, None], np.asarray(store.ok), store.geometries)


class PromptOnly(FDP):
    """A trained model whose contexts begin anew at other lengths, and are all of it that learns.

    Args:
        trained: the model; nothing of it is changed.
        length: vectors before a function word and before a content word alike; 0 leaves the word and its full stop.
        seed: of the new contexts, the order of the samples, and the held-out photographs.
        decide: texts -> int [N], 0 function and 1 content; None decides by the model's own clusters.

    Raises:
        ValueError: the model does not have two prompts, or the length leaves no room for a word.
    """

    def __init__(
        self, trained: FDP, length: int, seed: int = 0, decide: Callable[[list[str]], Any] | None = None
    ) -> None:
        if trained.config.prompts != "two":
            raise ValueError(f"The model was made with prompts={trained.config.prompts!r}; expected 'two'.")
        lengths = {"context_function": length, "context_content": length}
        super().__init__(trained.backbone, trained.config.replace(seed=seed, **lengths))
        state = {name: value for name, value in trained.trained_state().items() if not name.startswith(_CONTEXTS)}
        self.load_trained_state(self.trained_state() | state)
        self.clusters, self.words, self._decide = trained.clusters, trained.words, decide

    def encode_features(self, features: Tensor, local_logits: Tensor | None = None) -> dict[str, Tensor]:
        """Hand fixed vectors [B, D, 1, 1] on as ``image`` [B, D]; the localiser has nothing to say."""
        return {"image": features[:, :, 0, 0], "local_logits": features.new_zeros(len(features), 1, 1)}

    def kinds_of(self, texts: Sequence[str], override: Sequence[str | int | None] | None = None) -> Tensor:
        """Say which texts are function words (0) and which content words (1): int64 [N]."""
        if self._decide is not None and override is None:
            override = np.asarray(self._decide(list(texts)), int).tolist()
        return super().kinds_of(texts, override)

    def trainable_parameters(self) -> list[dict]:
        """Return the contexts, as the only group."""
        return [{"name": "new", "params": list(self.prompt.parameters()), "lr": self.config.lr_new}]


def learn(
    trained: FDP,
    length: int,
    galleries: Sequence[Any],
    stores: Sequence[FixedVectors],
    epochs: int = 2,
    seed: int = 0,
    decide: Callable[[list[str]], Any] | None = None,
    progress: bool = False,
) -> PromptOnly:
    """Train contexts of one length by FDP's losses, everything else fixed.

    Args:
        trained: the model around which they are trained.
        length: vectors of both contexts, 0 or more; with 0 there is nothing to learn.
        galleries: training galleries.
        stores: their photographs' vectors by ``trained`` (:func:`fixed_vectors`), in the same order.
        epochs: passes over the training words; the epoch that does best on held-out training photographs is kept.
        seed: as in :class:`PromptOnly`.
        decide: as in :class:`PromptOnly`.
        progress: show a progress bar.

    Returns:
        The model, in eval mode.
    """
    model = PromptOnly(trained, length, seed, decide).eval()
    if length:
        settings = model.config.replace(epochs=epochs, decay_epoch=max(1, epochs - 1), weight_loc=0.0)
        loop.train(model, list(galleries), settings, None, progress=progress, stores=list(stores))
    return model


# The record of a run over context lengths: one file for all lengths, seeds and both kinds of query.

SYSTEM, METRIC = "FDP, context lengths", "mAP, most minus least over context lengths"
_KEY = "mAP/{view}/{kind}/{length} vectors/seed {seed}"
_PATTERN = re.compile(r"mAP/(?P<view>[^/]+)/(?P<kind>\w+)/(?P<length>\d+) vectors/seed (?P<seed>\d+)")
Row = dict[str, Any]  # view (str), kind (str), length (int), seed (int), mAP (float, per cent)


def rows(both: np.ndarray, kinds: np.ndarray, asked: np.ndarray, view: str, length: int, seed: int) -> list[Row]:
    """Sum one trained model up: for each kind of query its mAP behind its own context.

    Args:
        both: float [2, Q] average precisions (:func:`fdp_core.studies.contexts.under_each_context`), 0-1.
        kinds: int [Q], 0 function and 1 content.
        asked: bool [Q], the queries that count.
        view: which vectors the photographs had, for example "one vector".
        length: of the contexts.
        seed: of their training.

    Returns:
        One row a kind that occurs; its mAP in per cent.
    """
    found = []
    for number, kind in enumerate(KINDS):
        members = asked & (np.asarray(kinds) == number)
        if members.any():
            value = 100 * float(both[number, members].mean())
            found.append({"view": view, "kind": kind, "length": length, "seed": seed, "mAP": value})
    return found


def _spread(measured: Sequence[Row]) -> float:
    """Return by how much the lengths' means over the seeds differ at most, among views and kinds: points."""
    means = pd.DataFrame(measured).groupby(["view", "kind", "length"])["mAP"].mean().unstack("length")
    return float((means.max(axis=1) - means.min(axis=1)).max())


def entry(
    measured: Sequence[Row], gallery: Any, queries: Any, model: Any, parameters: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Make the record, for :func:`fdp_core.evaluation.results.save`.

    Args:
        measured: all rows.
        gallery: on which was measured.
        queries: with which.
        model: the trained model around which the contexts were trained.
        parameters: lengths, seeds, training set and the like: what tells this run from others.
        seconds: wall time.

    Returns:
        A record whose ``value`` is the largest spread over the lengths among views and kinds, points of mAP.

    Raises:
        ValueError: there are no rows.
    """
    if not measured:
        raise ValueError("Nothing was measured: give at least one length.")
    return results.measurement(
        SYSTEM,
        METRIC,
        {_KEY.format(**row): row["mAP"] for row in measured},
        model,
        value=_spread(measured),
        set=gallery.name,
        split=gallery.split,
        protocol=queries.protocol,
        queries=len(queries.texts),
        images=len(gallery.photos),
        parameters=dict(parameters),
        model_hash=model_hash(model),
        manifest_hash=gallery.manifest_hash or None,
        device=model.backbone.device,
        seconds=seconds,
    )


def read(record: Mapping[str, Any]) -> list[Row]:
    """Take the rows out of a record again."""
    found = []
    for key, value in record["values"].items():
        if match := _PATTERN.fullmatch(key):
            row = match.groupdict()
            found.append({**row, "length": int(row["length"]), "seed": int(row["seed"]), "mAP": float(value)})
    return found


def ranked(sets: VectorSets, encoded: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Compute the average precision of Q query vectors [Q, D] over N photographs: [Q] float64.

    Args:
        sets: N photographs.
        encoded: float [Q, D], unit norm; against region vectors, which end in their handicap, a one is put after it.
        relevant: bool [Q, N].
    """
    handicap = sets.vectors.shape[1] - encoded.shape[1]
    encoded = np.pad(encoded, ((0, 0), (0, handicap)), constant_values=1)
    return metrics.average_precisions(relevant, unscored_last(sets.scores(encoded).astype(float)))


@torch.inference_mode()
def under_each_context(model: Any, sets: VectorSets, texts: Sequence[str], relevant: np.ndarray) -> np.ndarray:
    """Compute each query's average precision behind the function and behind the content context.

    Args:
        model: a trained :class:`fdp_core.model.FDP` with two prompts.
        sets: vectors of N photographs by this model.
        texts: Q queries.
        relevant: bool [Q, N].

    Returns:
        float64 [2, Q]; row 0 behind the function context, row 1 behind the content context.

    Raises:
        ValueError: the model does not have two prompts.
    """
    if model.config.prompts != "two":
        raise ValueError(f"The model was made with prompts={model.config.prompts!r}; only 'two' has a split to switch.")
    texts = list(texts)
    encoded = [model.encode_queries(texts, [kind] * len(texts)).float().cpu().numpy() for kind in (FUNCTION, CONTENT)]
    return np.stack([ranked(sets, each, relevant) for each in encoded])


def of_gallery(index: Any, gallery: Any) -> VectorSets:
    """Put an index's vectors into a gallery's order, without vectors where a photograph could not be read.

    Args:
        index: a :class:`fdp_core.retrieval.index.Index` of this gallery.
        gallery: N photographs.
    """
    at = {name: row for row, name in enumerate(index.ids)}
    rows = [at.get(photo.id) for photo in gallery.photos]
    found = [[] if row is None else index.features[index.starts[row] : index.starts[row + 1]] for row in rows]
    starts = np.append(0, np.cumsum([len(rows) for rows in found])).astype(np.int64)
    return VectorSets(np.concatenate([rows for rows in found if len(rows)]).astype(np.float32), starts)


def choose(both: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Take each query's average precision behind the context that a split gives it.

    Args:
        both: float [2, Q], from :func:`under_each_context`.
        kinds: int [Q], 0 function and 1 content.

    Returns:
        float [Q].

    Raises:
        ValueError: shapes disagree, or a kind is neither 0 nor 1.
    """
    kinds = np.asarray(kinds)
    if both.ndim != 2 or len(both) != 2 or kinds.shape != both.shape[1:] or not np.isin(kinds, (0, 1)).all():
        raise ValueError(f"{kinds.shape} kinds for average precisions {both.shape}; expected 0 or 1 for [2, Q].")
    return both[kinds, np.arange(both.shape[1])]


def random_splits(both: np.ndarray, kinds: np.ndarray, rounds: int = 2000, seed: int = 0) -> np.ndarray:
    """Compute the mAP of splits of the same sizes that are dealt at random: float64 [rounds], 0-1."""
    rng = np.random.default_rng(seed)
    return np.array([choose(both, rng.permutation(kinds)).mean() for _ in range(rounds)])

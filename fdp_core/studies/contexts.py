"""How long should a context be? Contexts alone are trained, for several lengths, on photographs' fixed vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fdp_core.datasets import Gallery
from fdp_core.model import FDP
from fdp_core.retrieval.features import FeatureStore
from fdp_core.retrieval.index import Index
from fdp_core.retrieval.vectors import VectorSets
from fdp_core.training import loop

_CONTEXTS = "prompt."


@torch.inference_mode()
def fixed_vectors(model: FDP, store: FeatureStore) -> FeatureStore:
    """Encode photographs once by a trained model: [N, D, 1, 1], unit norm, in the place of their features."""
    vectors = store.encode(lambda features, _: model.eval().encode_features(features)["image"])
    return dataclasses.replace(store, array=vectors[:, :, None, None])


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
        self, trained: FDP, length: int, seed: int = 0, decide: Callable[[list[str]], np.ndarray] | None = None
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
    galleries: Sequence[Gallery],
    stores: Sequence[FeatureStore],
    epochs: int = 2,
    seed: int = 0,
    decide: Callable[[list[str]], np.ndarray] | None = None,
    progress: bool = False,
) -> PromptOnly:
    """Train contexts of one length by FDP's losses, everything else of ``trained`` fixed; the model is in eval mode.

    Args:
        length: vectors of both contexts, 0 or more; with 0 there is nothing to learn.
        galleries: training galleries.
        stores: their photographs' vectors by ``trained`` (:func:`fixed_vectors`), in the same order.
        epochs: passes over the training words; the epoch that does best on held-out training photographs is kept.
        seed, decide: as in :class:`PromptOnly`.
    """
    model = PromptOnly(trained, length, seed, decide).eval()
    if length:
        settings = model.config.replace(epochs=epochs, decay_epoch=max(1, epochs - 1), weight_loc=0.0)
        loop.train(model, list(galleries), settings, None, progress=progress, stores=list(stores))
    return model


def of_gallery(index: Index, gallery: Gallery) -> VectorSets:
    """Put an index's vectors into a gallery's order, without vectors where a photograph could not be read."""
    sets, at = index.sets, {name: row for row, name in enumerate(index.ids)}
    found = [slice(*sets.starts[at[photo.id] :][:2]) if photo.id in at else slice(0) for photo in gallery.photos]
    parts = [sets.vectors[rows] for rows in found]
    return VectorSets(np.concatenate(parts), np.append(0, np.cumsum([len(part) for part in parts], dtype=np.int64)))

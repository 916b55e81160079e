"""What the training loop draws from: (word, image) pairs over cached trunk features, split by image."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fdp_core.config import Config
from fdp_core.retrieval import geometry
from fdp_core.words import fold, is_legible, keep_for_training


class TrunkFeatures(Protocol):
    """What training asks of cached features; :class:`fdp_core.retrieval.features.FeatureStore` fits."""

    array: np.ndarray  # [N, C, G, G]
    ok: np.ndarray  # bool [N]
    geometries: Sequence[Any]  # N of Geometry, None where not ok


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Samples and supervision of one or several galleries; M is the number of readable images.

    Attributes:
        stores: the trunk features of each gallery.
        rows: M pairs (store, row) that say where an image's features are.
        ids: M photograph ids.
        contents: M sets of all legible words of an image, folded: what it contains, sample or not.
        samples: pairs (image, word), one for each annotated word that passes the filter.
        targets: float32 ``[M, G, G]``, what the localiser should say.
        ignored: bool ``[M, G, G]``, where it is not judged.
    """

    stores: tuple[TrunkFeatures, ...]
    rows: tuple[tuple[int, int], ...]
    ids: tuple[str, ...]
    contents: tuple[frozenset[str], ...]
    samples: tuple[tuple[int, str], ...]
    targets: np.ndarray
    ignored: np.ndarray

    def features(self, images: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Read the trunk features of B images: float32 ``[B, C, G, G]``."""
        blocks = [np.asarray(self.stores[store].array[row]) for store, row in (self.rows[i] for i in images)]
        return torch.from_numpy(np.stack(blocks)).to(device).float()

    def contains(self, images: Sequence[int], words: Sequence[str]) -> Tensor:
        """Say which of B images contain which of W words: bool ``[B, W]`` (defect D6)."""
        table = [[word in self.contents[image] for word in words] for image in images]
        return torch.tensor(table, dtype=torch.bool).reshape(len(images), len(words))

    def split(self, share: float, seed: int) -> tuple[list[int], list[int]]:
        """Hold out a share of the images with samples for model selection (E1), at least one where it is above 0.

        Returns:
            Images to train on and images to validate on, both sorted; an image is never in both.

        Raises:
            ValueError: the share is not 0 to below 1, or leaves nothing to train on.
        """
        images = sorted({image for image, _ in self.samples})
        if not 0 <= share < 1:
            raise ValueError(f"validation_share is {share}; expected 0 to below 1.")
        held = max(1, round(share * len(images))) if share > 0 else 0
        if held >= len(images):
            raise ValueError(
                f"validation_share {share} holds out {held} of {len(images)} images; none are left "
                "to train on; give more images or set validation_share to 0."
            )
        order = np.random.default_rng([seed, 1]).permutation(len(images))
        return sorted(images[i] for i in order[held:]), sorted(images[i] for i in order[:held])

    def fingerprint(self) -> str:
        """Return a sha256 of samples and supervision: training resumes only on the same."""
        digest = hashlib.sha256(repr(self.ids).encode() + repr(self.samples).encode())
        digest.update(repr([sorted(words) for words in self.contents]).encode())
        digest.update(self.targets.tobytes() + self.ignored.tobytes())
        return digest.hexdigest()


def build(
    galleries: Sequence[Any], stores: Sequence[TrunkFeatures], config: Config, dictionary: Collection[str] | None = None
) -> TrainingSet:
    """Collect the samples and draw the target maps.

    Args:
        galleries: training galleries (``photos``, each with ``id`` and ``words``).
        stores: their cached features, in the same order.
        config: decides the polygons' transform, the shrinking and the pooling of the targets.
        dictionary: folded words that may become samples; ``None`` admits all of three and more characters.

    Raises:
        ValueError: galleries and features do not fit each other, or no word passes the filter.

    Source: FDP section 4.1 and the released code (script Latin, length > 2, no ``###``, in the dictionary);
    defect D1.
    """
    if len(galleries) != len(stores):
        raise ValueError(f"{len(galleries)} galleries need {len(galleries)} feature stores, not {len(stores)}.")
    allowed = None if dictionary is None else {fold(word) for word in dictionary}
    rows, ids, contents, samples, targets, ignored = [], [], [], [], [], []
    for number, (gallery, store) in enumerate(zip(galleries, stores)):
        if len(gallery.photos) != len(store.ok):
            raise ValueError(f"{len(gallery.photos)} photographs but features of {len(store.ok)}; compute them anew.")
        for row, photo in enumerate(gallery.photos):
            if not store.ok[row]:
                continue
            plan, words = store.geometries[row], photo.words
            if config.polygon_fit == "squash":
                plan = plan.squashed()
            else:
                words = geometry.visible_words(words, plan)
            grid = store.array.shape[-1]
            target, unknown = geometry.target_maps(words, plan, grid, config.shrink_ratio, config.target_pool)
            samples += [(len(rows), fold(word.text)) for word in words if keep_for_training(word, allowed)]
            contents.append(frozenset(fold(word.text) for word in words if is_legible(word)))
            rows.append((number, row))
            ids.append(f"{number}/{photo.id}")
            targets.append(target)
            ignored.append(unknown)
    if not samples:
        raise ValueError(
            f"None of the words of {len(rows)} readable images passes the training filter (Latin, three "
            "and more characters, legible, in the dictionary). Does the set annotate its words?"
        )
    return TrainingSet(
        tuple(stores), tuple(rows), tuple(ids), tuple(contents), tuple(samples), np.stack(targets), np.stack(ignored)
    )


def batches_of(images: Sequence[int], config: Config, epoch: int) -> list[list[int]]:
    """Return the sample numbers of each batch of an epoch (from 1), ordered by seed and epoch only (D5).

    Without ``config.shuffle`` all epochs go through one order that is shuffled once, as the released list is (there
    without a seed). A photograph's words lie apart in it: side by side they would be each other's false negatives.

    ``images`` are those of the samples; up to ``words_per_image`` samples of one stay together.
    """
    rng = np.random.default_rng([config.seed, 2, epoch if config.shuffle else 0])
    order = rng.permutation(len(images))
    if config.words_per_image > 1:
        of_image: dict[int, list[int]] = {}
        for number in order.tolist():
            of_image.setdefault(images[number], []).append(number)
        groups = [
            part  # of nearly equal sizes: 5 words become 3 + 2, not 4 + 1
            for numbers in of_image.values()
            for part in np.array_split(numbers, -(-len(numbers) // config.words_per_image))
        ]
        order = np.concatenate([groups[i] for i in rng.permutation(len(groups))])
    return [order[start : start + config.batch_size].tolist() for start in range(0, len(order), config.batch_size)]

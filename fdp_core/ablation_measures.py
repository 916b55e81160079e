"""What the ablations measure: photographs behind another text map, and words told apart from words that look alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from fdp_core import distract, geometry, lexicon, metrics, training, words
from fdp_core.features import FeatureStore
from fdp_core.model import FDP

MAPS = ("annotated", "shuffled", "even")  # text maps that take the place of the localiser's, at test time only
_SURE = 20.0  # a text logit with σ = 1 in float32: no cell is held back


@torch.inference_mode()
def vectors(model: FDP, store: FeatureStore, maps: np.ndarray | None = None, batch: int = 8) -> np.ndarray:
    """Encode a gallery from its features.

    Args:
        model: in eval mode.
        store: features of N photographs.
        maps: [N, G, G] float, text logits in place of the localiser's, or None.
        batch: photographs at once.

    Returns:
        [N, D] float32, unit norm; NaN where a photograph could not be read.
    """
    if model.config.shift_heads == "released_order":
        batch = 1  # as the released code tests: in larger batches it would mix photographs up (B1)
    encoded = np.full((len(store), model.backbone.embed_dim), np.nan, np.float32)
    good = np.flatnonzero(store.ok)
    for rows in (good[i : i + batch] for i in range(0, len(good), batch)):
        given = None if maps is None else torch.from_numpy(maps[rows])
        encoded[rows] = model.encode_features(store.batch(rows), given)["image"].cpu().numpy()
    return encoded


@torch.inference_mode()
def text_maps(how: str, model: FDP, gallery: Any, store: FeatureStore, seed: int = 0) -> np.ndarray:
    """Make text maps for the experiment "an accurate localiser against a random one".

    Args:
        how: "learned", the localiser's own; "annotated", what it was taught to say, drawn from the photograph's
            own polygons; "shuffled", its own values at random cells; "even", the same everywhere, so no shift.
        model: in eval mode.
        gallery: N photographs, with words for "annotated".
        store: their features.
        seed: of the shuffling.

    Returns:
        [N, G, G] float32, logits; zeros for photographs that could not be read.

    Raises:
        ValueError: ``how`` is unknown, or "annotated" is asked of photographs without polygons.

    Source: method.md, section 8, first experiment (1).
    """
    grid, settings = store.array.shape[-1], model.config
    maps = np.zeros((len(store), grid, grid), np.float32)
    good = np.flatnonzero(store.ok)
    if how == "annotated":
        if not any(photo.words for photo in gallery.photos):
            raise ValueError(f"{gallery.name} annotates no words: there is no map to draw from it.")
        for row in good:
            drawn = (gallery.photos[row].words, store.geometries[row], grid)
            share, _ = geometry.target_maps(*drawn, settings.shrink_ratio, settings.target_pool)
            share = share.clip(0.01, 0.99)
            maps[row] = np.log(share / (1 - share))
    elif how == "even":
        maps[good] = _SURE
    elif how in ("learned", "shuffled"):
        for rows in (good[i : i + 8] for i in range(0, len(good), 8)):
            maps[rows] = model.localise(store.batch(rows)).cpu().numpy()
        if how == "shuffled":
            flat = maps.reshape(len(maps), -1)
            maps = np.random.default_rng(seed).permuted(flat, axis=1).reshape(maps.shape)
    else:
        raise ValueError(f"Text map is {how!r}; expected 'learned' or one of {', '.join(MAPS)}.")
    return maps


@torch.inference_mode()
def pool_room(model: FDP, store: FeatureStore, maps: np.ndarray, count: int = 40) -> dict[str, float]:
    """Measure how much room the attention pool leaves to a shift: one as small as the pool's own gaps changes nothing.

    Args:
        model: in eval mode, with a shift.
        store: features; the first ``count`` readable photographs serve.
        maps: [N, G, G] float, text logits that the shift is made of.
        count: how many.

    Returns:
        ``largest``, the mean over photographs and heads of the largest attention weight without a shift, 0-1; ``gap``,
        the median gap between the two largest attention logits, nats, at most what float32 can tell, some 87;
        ``span``, the mean over photographs of the shift's largest value less its smallest, nats; ``fixed``, the share
        of photographs and heads whose gap exceeds the photograph's span: this map cannot change their winner.

    Raises:
        ValueError: the model has no shift.
    """
    if model.config.shift == "off":
        raise ValueError("The model has no attention shift (Config.shift is 'off'): nothing to hold against its gaps.")
    rows = np.flatnonzero(store.ok)[:count]
    features = store.batch(rows)
    even = torch.full((len(features), *features.shape[2:]), _SURE)
    two = model.encode_features(features, even)["attention"].topk(2, dim=-1).values  # [N, H, 2]
    logs = two.clamp(min=torch.finfo(two.dtype).tiny).log()
    gap = logs[..., 0] - logs[..., 1]
    shift = model.encode_features(features, torch.from_numpy(maps[rows]))["shift"]
    span = shift.amax(dim=-1) - shift.amin(dim=-1)
    return {
        "largest": float(two[..., 0].mean()),
        "gap": float(gap.median()),
        "span": float(span.mean()),
        "fixed": float((gap > span[:, None]).float().mean()),
    }


def map_quality(maps: np.ndarray, annotated: np.ndarray) -> dict[str, float] | None:
    """Measure how well a map ranks cells with text above cells without: the area under the ROC curve, 0.5 by chance.

    Args:
        maps: [N, G, G] float, text logits.
        annotated: [N, G, G] float, the logits of :func:`text_maps` for "annotated"; above its lowest value is text.

    Returns:
        ``mean`` over the photographs that hold cells of both kinds, ``from`` and ``to`` of its 95 % interval over them;
        None without such photographs.
    """
    inside = annotated > annotated.min()
    both = [row for row, cells in enumerate(inside) if cells.any() and not cells.all()]
    areas = np.array([roc_auc_score(inside[row].ravel(), maps[row].ravel()) for row in both])
    if not len(areas):
        return None
    low, high = metrics.bootstrap_interval(areas)
    return {"mean": float(areas.mean()), "from": low, "to": high}


@torch.inference_mode()
def told_apart(model: FDP, encoded: np.ndarray, gallery: Any, queries: Any, candidates: int = 5) -> np.ndarray:
    """Measure whether a photograph is nearer to its word than to words that look alike.

    Args:
        model: encodes the words.
        encoded: [N, D], the photographs; NaN rows count as wrong.
        gallery: their words are no distractors of one another.
        queries: Q texts and their [Q, N] relevance.
        candidates: the word itself and at most so many less one of the nearest words of the lexicon.

    Returns:
        [Q] float, the share of a query's photographs that prefer it to all its distractors; NaN without distractors.

    Source: method.md, section 8, first experiment (3).
    """
    lent = [word for word in lexicon.words()[: training.LEXICON_SIZE] if len(word) >= words.MIN_LENGTH]
    inside = [{words.fold(word.text) for word in photo.words} for photo in gallery.photos]
    barred = [set().union(*(inside[n] for n in np.flatnonzero(row))) for row in queries.relevant]
    chosen = distract.Distractors(lent, queries.texts, candidates).sample(list(queries.texts), barred, "told apart")
    texts = model.encode_queries(chosen.flat()).cpu().numpy().reshape(len(queries), candidates, -1)
    share = np.full(len(queries), np.nan)
    for row, valid in enumerate(chosen.valid.numpy()):
        if valid.sum() > 1:
            cosine = encoded[queries.relevant[row]] @ texts[row][valid].T
            share[row] = (cosine[:, :1] > cosine[:, 1:]).all(axis=1).mean()
    return share


class Encoded:
    """A gallery that is encoded already, as a system for :func:`fdp_core.evaluation.evaluate`."""

    def __init__(self, name: str, rows: np.ndarray, model: FDP) -> None:
        self.name, self.rows, self.model = name, rows, model

    def encode_gallery(self, gallery: Any) -> np.ndarray:
        return self.rows

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            return self.model.encode_queries(texts).cpu().numpy()

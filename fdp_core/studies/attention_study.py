"""Where the attention pool looks, before and after the shift, held against where text is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from fdp_core import attention
from fdp_core.datasets import Gallery, Photo, Word
from fdp_core.focus import AttentionShift
from fdp_core.model import FDP
from fdp_core.retrieval import geometry
from fdp_core.retrieval.features import FeatureStore, Head


@dataclass(frozen=True, eq=False)
class PoolStudy:
    """Logits of the pool for N photographs with legible text, and where that text is; cells row by row, G * G of them.

    Attributes:
        photos: N photographs (``datasets.Photo``), and ``rows`` N, where they stand in the gallery.
        placed: N transforms from their pixels to the square input.
        text: float32 [N, G*G] in 0..1, the share of each cell that legible words cover.
        inside: float32 [N, G*G] in 0..1, the share of each cell that the photograph covers; the rest is its bars.
        judged: bool [N, G*G], cells on the photograph without illegible text: there the text map can be right or wrong.
        own: logits of CLIP's own pool, positions resized in two dimensions, nats, float [N, H, L].
        trained: the same with FDP's trained positions, before the shift, float [N, H, L].
        text_logits: the localiser's map S, float [N, G, G].
    """

    photos: tuple[Photo, ...]
    rows: tuple[int, ...]
    placed: tuple[geometry.Geometry, ...]
    text: np.ndarray
    inside: np.ndarray
    judged: np.ndarray
    own: Tensor
    trained: Tensor
    text_logits: Tensor

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def area(self) -> np.ndarray:
        """Share of the input that legible text covers, float [N] in 0..1: what a pool that does not look gets."""
        return self.text.mean(axis=1, dtype=np.float64)


def cells_of(photo: Photo, placed: geometry.Geometry, grid: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Say of each of the G*G cells of a photograph how much text and how much photograph it holds, and if it is judged.

    The words' whole polygons count, not shrunk ones. Returns (text, inside, judged) as in :class:`PoolStudy`.
    """
    text, illegible = geometry.target_maps(photo.words, placed, grid, shrink=1.0)
    frame = [[0, 0], [placed.width, 0], [placed.width, placed.height], [0, placed.height]]
    outline = Word("photograph", np.array(frame, np.float32))  # a polygon like any other: its cells are counted alike
    inside, _ = geometry.target_maps([outline], placed, grid, shrink=1.0)
    return text.ravel(), inside.ravel(), ((inside > 0.5) & ~illegible).ravel()


@torch.no_grad()
def run_pools(model: FDP, gallery: Gallery, store: FeatureStore) -> PoolStudy:
    """Run both pools and the localiser over the readable photographs that hold legible text.

    ``store`` holds the gallery's trunk features at the model's input size.

    Raises:
        ValueError: none of the photographs has a word with a polygon on the canvas.
    """
    pool, device, grid = model.backbone.pool, model.backbone.device, store.array.shape[-1]
    rows, cells = [], []
    for row, photo in enumerate(gallery.photos):
        if store.ok[row]:
            found = cells_of(photo, store.geometries[row], grid)
            if found[0].any():
                rows.append(row)
                cells.append(found)
    if not rows:
        raise ValueError(
            f"None of the {len(gallery)} photographs of {gallery.name} has a legible word with a polygon. This "
            "measurement needs words that are outlined: take mini, svt, ic15 or another set with polygons."
        )
    tables = [
        attention.resize_positions(table, grid, how)
        for table, how in ((pool.positional_embedding, "2d"), (model.positions, model.config.position_resize))
    ]

    def pool_of(table: Tensor) -> Head:
        return lambda features, _: attention.pool_logits(attention.tokens(features, table), pool)

    heads = [*map(pool_of, tables), lambda features, _: model.localise(features)]
    own, trained, text_logits = (torch.from_numpy(store.encode(head, device=device)[rows]) for head in heads)
    text, inside, judged = (np.stack(column) for column in zip(*cells))
    return PoolStudy(
        photos=tuple(gallery.photos[row] for row in rows),
        rows=tuple(rows),
        placed=tuple(store.geometries[row] for row in rows),
        text=text,
        inside=inside,
        judged=judged,
        own=own,
        trained=trained,
        text_logits=text_logits,
    )


@torch.no_grad()
def attend(logits: Tensor, text_logits: Tensor | None = None, shift: AttentionShift | None = None) -> np.ndarray:
    """Turn the pool's logits [N, H, L] into attention, float64 [N, H, L], shifted by a text map where one is given.

    Args:
        logits: ``PoolStudy.own`` or ``PoolStudy.trained``.
        text_logits: a text map, float [N, G, G]; None for no shift.
        shift: turns the map into M; needed where a map is given.

    Source: FDP section 3.2 (dynamic attention shift).
    """
    logits = logits.double()  # a gate drives weights far below what single precision can hold
    if text_logits is not None:
        if shift is None:
            raise ValueError("A text map needs a shift: pass model.shift or a focus.AttentionShift.")
        bias = shift(text_logits.to(next(iter(shift.state_dict().values()), text_logits).device))
        if bias is not None:
            logits = shift.own * logits + bias.detach().cpu().double()[:, None]
    return logits.softmax(dim=-1).numpy()


@torch.inference_mode()
def encode(
    model: FDP, store: FeatureStore, maps: np.ndarray | Tensor | None = None, shift: AttentionShift | None = None
) -> np.ndarray:
    """Encode a gallery as FDP does, where asked for with other text maps or another shift.

    Args:
        model: in eval mode.
        store: trunk features of N photographs.
        maps: float [N, G, G], text logits in place of the localiser's.
        shift: in place of the model's own.

    Returns:
        Unit vectors, float32 [N, D]; NaN where a photograph could not be read.
    """
    batch = 1 if model.config.shift_heads == "released_order" else 8  # in larger batches it mixes photographs up (B1)

    def head(features: Tensor, rows: np.ndarray) -> Tensor:
        return model.encode_features(features, None if maps is None else torch.as_tensor(maps[rows]), shift)["image"]

    return store.encode(head, batch)


def shuffled(maps: np.ndarray, seed: int = 0, share: float = 1.0) -> np.ndarray:
    """Let the cells of each map [N, G, G] swap their values, a random ``share`` of them among themselves."""
    flat = np.reshape(maps, (len(maps), -1)).copy()
    chosen, rng = np.random.default_rng([seed, 1]).random(flat.shape) < share, np.random.default_rng(seed)
    for row, cells in zip(flat, chosen):
        row[cells] = rng.permuted(row[cells])
    return flat.reshape(maps.shape)


def share_on(weights: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return which share of the attention [N, H, L], the mean token first, falls on marked cells: float [N, H] in 0..1.

    ``cells``, float [N, G*G] in 0..1, say how much of each is marked. The mean token is no place, so shares are taken
    among the cells.
    """
    places = weights[..., 1:]
    return np.einsum("nhc,nc->nh", places, cells) / np.maximum(places.sum(axis=-1), 1e-300)


def point_auc(values: np.ndarray, text: np.ndarray, beside: np.ndarray | None = None) -> tuple[float, float]:
    """Compare a map with where text is: AUC and average precision over points of the photograph.

    A cell counts as text by the share of it that text covers, and as no text by the rest: no threshold is needed.

    Args:
        values: the map, float [n], larger for text; equal values share a rank.
        text: float [n] in 0..1, the share of each cell that text covers.
        beside: float [n], the share of each cell that holds none; None is ``1 - text``.

    Returns:
        (AUC, the chance that a point on text gets a higher value than a point beside it; average precision). A map
        that knows nothing gets 0.5 and the share of text.
    """
    beside = 1 - text if beside is None else beside
    if not (text.sum() > 0 and beside.sum() > 0):
        raise ValueError("The map cannot be judged: this needs cells with text and cells without.")
    labels, twice = np.repeat([1, 0], len(values)), np.tile(np.asarray(values, np.float64), 2)
    weights = np.concatenate([text, beside]).astype(np.float64)
    area = roc_auc_score(labels, twice, sample_weight=weights)
    return float(area), float(average_precision_score(labels, twice, sample_weight=weights))

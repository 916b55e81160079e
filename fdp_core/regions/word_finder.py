"""Where each word begins and ends: one rectangle a word, from a small pyramid of its own.

A cell of one of three grids (8, 16 and 32 pixels) says how sure it is to lie in the middle of a word, how far away that
word's four sides are, and in which direction it reads. Words that touch stay separate: no cell is joined to another.
Stem and the first three layers start from those of ``mini`` (BatchNorm folded in).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NotRequired

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import TypedDict

from fdp_core.files import atomic_write_bytes
from fdp_core.regions.settings import RegionOptions, frame
from fdp_core.weights import MINI_WEIGHTS, pack, read, state_hash, unpack

STRIDES = (8, 16, 32)  # pixels per cell of the three grids
SHIPPED = MINI_WEIGHTS.with_name("mini_finder.safetensors")
FORMAT = "fdp-word-finder-2"
_Width = Annotated[int, Field(ge=1, le=256)]


class _Facts(TypedDict):
    format: Literal["fdp-word-finder-2"]
    width: _Width
    hidden: _Width
    pooled: NotRequired[bool]  # files that do not say are


BITS = 8  # of a weight in a file
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, which mini's first layers expect
STD = (0.26862954, 0.26130258, 0.27577711)
LARGEST = 6.0  # of a distance's logarithm: e^6 cells
UNIT = 2.0  # cells: a distance of logarithm zero
# Chosen on SVT train (retrieval) and held-out photographs of icdar2015_train (finding):
SAME = 0.6  # overlap from which two are one: a word keeps one to three cuts
AVERAGE_FROM = 0.8  # overlap from which rectangles are averaged
MARGIN = (0.15, 0.1)  # of a cut, along and across the text on every side, in heights
LONG = 3  # a photograph more than so many times as long as wide is looked at in parts
COMMON = 1000  # so many frequent words say which regions resemble any word
SHARP = 20.0  # of the mean over them: large, and the nearest word alone counts
USUAL = 0.75  # share of it that a score loses
SURE = 0.03  # of the logarithm of a region's certainty: an unsure one has to win clearly
CHOSEN = {"same": SAME, "average_from": AVERAGE_FROM, "margin": MARGIN, "long": LONG}
CHOSEN |= {"common": COMMON, "sharp": SHARP, "usual": USUAL, "sure": SURE}  # for records and hashes


class Block(nn.Module):
    """A bottleneck of CLIP's ResNet without BatchNorm, ``wide`` to ``narrow`` to ``out`` channels.

    The stride, 1 or 2, is a mean over cells where ``pooled``, else that of the convolution, in a quarter of its time.

    Source: CLIP's ModifiedResNet; ResNet for the second form.
    """

    def __init__(self, wide: int, narrow: int, out: int, stride: int = 1, pooled: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(wide, narrow, 1)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride=1 if pooled else stride, padding=1)
        self.conv3 = nn.Conv2d(narrow, out, 1)
        self.shortcut = nn.Conv2d(wide, out, 1) if stride > 1 or wide != out else None

    def forward(self, x: Tensor) -> Tensor:
        """Return float [B, out, H / stride, W / stride] of float [B, wide, H, W]."""
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
            y = y if self.conv2.stride[0] > 1 else F.avg_pool2d(y, self.stride)
        return F.relu(self.conv3(y) + (x if self.shortcut is None else self.shortcut(x)))


class WordFinder(nn.Module):
    """Finds words in photographs whose sides are multiples of 32.

    ``width`` are the channels of the first layers (``mini``: 32), ``hidden`` those of the pyramid; ``pooled``: strides
    are means over cells as in CLIP, slower.

    Source: feature pyramid and distances to four sides as in FCOS and EAST; a certainty that is the overlap to come as
    in generalised focal loss.
    """

    def __init__(self, width: int = 32, hidden: int = 64, pooled: bool = False) -> None:
        super().__init__()
        self.width, self.hidden, self.pooled = width, hidden, pooled
        w = width
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, w // 2, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(w // 2, w // 2, 3, padding=1)
        self.conv3 = nn.Conv2d(w // 2, w, 3, stride=1 if pooled else 2, padding=1)
        self.layer1 = nn.Sequential(Block(w, w, 4 * w))
        self.layer2 = nn.Sequential(Block(4 * w, 2 * w, 8 * w, 2, pooled), Block(8 * w, 2 * w, 8 * w))
        self.layer3 = nn.Sequential(
            Block(8 * w, 4 * w, 16 * w, 2, pooled), Block(16 * w, 4 * w, 16 * w), Block(16 * w, 4 * w, 16 * w)
        )
        self.layer4 = nn.Sequential(Block(16 * w, 3 * w, 8 * w, 2, pooled), Block(8 * w, 3 * w, 8 * w))
        self.sides = nn.ModuleList(nn.Conv2d(n * w, hidden, 1) for n in (8, 16, 8))
        self.smooth = nn.ModuleList(nn.Conv2d(hidden, hidden, 3, padding=1) for _ in STRIDES)
        self.head = nn.ModuleList(nn.Conv2d(hidden, hidden, 3, padding=1) for _ in range(2))
        self.last = nn.Conv2d(hidden, 7, 3, padding=1)
        nn.init.normal_(self.last.weight, std=0.01)
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor([-3.0, 0.5, -0.5, 0.5, -0.5, 1.0, 0.0]))  # most cells hold no text

    def lower(self, images: Tensor) -> Tensor:
        """Return what stem and first layer see: uint8 [B, H, W, 3] -> float [B, 4 width, H / 4, W / 4]."""
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        return self.layer1(F.avg_pool2d(x, 2) if self.pooled else x)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return what layers 2 to 4 see: uint8 [B, H, W, 3] -> float [B, C, H / s, W / s], s = 8, 16, 32."""
        levels = [self.layer2(self.lower(images))]
        for layer in (self.layer3, self.layer4):
            levels.append(layer(levels[-1]))
        return levels

    def grids(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the three grids of the :meth:`levels`: float [B, 7, H / s, W / s], s = 8, 16, 32.

        Channels: certainty (logit), logarithms of the distances to left, top, right and bottom in units of two cells,
        cosine and sine of the direction of reading (not of unit length).
        """
        x, grids = None, []
        for level, side, smooth in zip(levels[::-1], self.sides[::-1], self.smooth[::-1]):
            y = side(level)
            x = y if x is None else y + F.interpolate(x, size=y.shape[2:], mode="nearest")
            x = F.relu(smooth(F.relu(x)))
            y = x
            for conv in self.head:
                y = F.relu(conv(y))
            grids.append(self.last(y))
        return grids[::-1]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the :meth:`grids` of uint8 images [B, H, W, 3]."""
        return self.grids(self.levels(images))

    def digest(self) -> str:
        """Return a hash of the weights and of the form: both forms may have the same weights."""
        weights = state_hash(self.state_dict())
        return weights if self.pooled else hashlib.sha256(f"{weights} strided".encode()).hexdigest()

    @torch.no_grad()
    def start_from(self, visual: nn.Module) -> None:
        """Copy stem and layers 1-3 of a CLIP ResNet of the same widths, BatchNorm folded in; it is not changed."""
        from torch.nn.utils.fusion import fuse_conv_bn_eval

        def copy(mine: nn.Conv2d, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
            fused = fuse_conv_bn_eval(conv, norm)
            mine.weight.copy_(fused.weight)
            mine.bias.copy_(fused.bias)

        visual = visual.eval()
        for i in (1, 2, 3):
            copy(getattr(self, f"conv{i}"), getattr(visual, f"conv{i}"), getattr(visual, f"bn{i}"))
            for mine, theirs in zip(getattr(self, f"layer{i}"), getattr(visual, f"layer{i}"), strict=True):
                for j in (1, 2, 3):
                    copy(getattr(mine, f"conv{j}"), getattr(theirs, f"conv{j}"), getattr(theirs, f"bn{j}"))
                if mine.shortcut is not None:
                    _, conv, norm = theirs.downsample
                    copy(mine.shortcut, conv, norm)


def centres(height: int, width: int) -> list[np.ndarray]:
    """Return the middles of all cells, in pixels, for each grid of a frame: float32 [H / s * W / s, 2], row by row."""
    found = []
    for stride in STRIDES:
        x, y = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        found.append(((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride).astype(np.float32))
    return found


def boxes_of(cells: np.ndarray, middles: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Turn what cells say into turned rectangles.

    Args:
        cells: float32 [K, 6], logarithms of four distances, cosine and sine, as the network gives them.
        middles: float32 [K, 2], pixels, and ``strides`` [K], pixels.

    Returns:
        float32 [K, 6]: centre x and y, length along the text, height across it (pixels), cosine and sine.
    """
    left, top, right, bottom = (np.exp(np.minimum(cells[:, :4], LARGEST)) * UNIT * strides[:, None]).T
    along = cells[:, 4:] / np.maximum(np.linalg.norm(cells[:, 4:], axis=1, keepdims=True), 1e-6)
    down = np.stack([-along[:, 1], along[:, 0]], 1)
    centre = middles + along * ((right - left) / 2)[:, None] + down * ((bottom - top) / 2)[:, None]
    return np.column_stack([centre, left + right, top + bottom, along]).astype(np.float32)


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the intersection over union of turned rectangles, float32 [..., 6] both, broadcast: float32 [...].

    Exact where both are turned alike; else both are taken as turned by the mean of their directions.
    """
    along = one[..., 4:] + other[..., 4:]
    length = np.sqrt(along[..., 0] ** 2 + along[..., 1] ** 2)[..., None]
    along = np.where(length > 1e-3, along / np.maximum(length, 1e-3), one[..., 4:])
    dx, dy = other[..., 0] - one[..., 0], other[..., 1] - one[..., 1]
    x = np.abs(dx * along[..., 0] + dy * along[..., 1])
    y = np.abs(dy * along[..., 0] - dx * along[..., 1])
    shared = 1.0
    for distance, mine, theirs in ((x, one[..., 2], other[..., 2]), (y, one[..., 3], other[..., 3])):
        side = np.minimum(np.minimum(mine, theirs), (mine + theirs) / 2 - distance)
        shared = shared * np.maximum(side, 0)
    return shared / np.maximum(one[..., 2] * one[..., 3] + other[..., 2] * other[..., 3] - shared, 1e-6)


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: int, same: float) -> tuple[list[int], np.ndarray]:
    """Choose at most ``limit`` of K rectangles, best score first, leaving out those that overlap a better one too much.

    Two are one where they overlap by more than ``same``; equal scores keep their order.

    Returns:
        (numbers of the R kept ones, their overlaps with all: float32 [R, K]).
    """
    gone, kept, shared = np.zeros(len(scores), bool), [], [np.zeros((0, len(boxes)), np.float32)]
    for i in np.argsort(-scores, kind="stable"):
        if len(kept) == limit:
            break
        if not gone[i]:
            kept.append(int(i))
            shared.append(overlaps(boxes[i], boxes)[None])
            gone |= shared[-1][0] > same
    return kept, np.concatenate(shared)


def merge(
    boxes: np.ndarray, scores: np.ndarray, limit: int, same: float = SAME, average_from: float = AVERAGE_FROM
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the surest of the rectangles that overlap, each as the mean of those that nearly equal it.

    Args:
        boxes: float32 [K, 6], see :func:`boxes_of`, and their ``scores`` [K] in 0..1.
        limit, same: as in :func:`suppress`.
        average_from: overlap from which a rectangle joins the mean, weighted by its score.

    Returns:
        (rectangles float32 [R, 6], scores float32 [R], falling).

    Source: locality-aware non-maximum suppression of EAST, with one pass over all.
    """
    kept, shared = suppress(boxes, scores, limit, same)
    alike = boxes[kept, 4:] @ boxes[:, 4:].T > 0.5  # of a turned photograph, one word may read both ways
    near = (shared >= average_from) & alike
    near[np.arange(len(kept)), kept] = True
    weights = near * scores.astype(np.float64)
    means = weights @ boxes / weights.sum(1, keepdims=True)
    means[:, 4:] /= np.maximum(np.linalg.norm(means[:, 4:], axis=1, keepdims=True), 1e-6)
    return means.astype(np.float32), scores[kept].astype(np.float32)


def quads_of(boxes: np.ndarray) -> np.ndarray:
    """Return the corners of turned rectangles [R, 6], clockwise from the word's upper left: float32 [R, 4, 2]."""
    x = boxes[:, 4:] * boxes[:, 2:3] / 2
    y = np.stack([-boxes[:, 5], boxes[:, 4]], 1) * boxes[:, 3:4] / 2
    return (boxes[:, None, :2] + np.stack([-x - y, x - y, x + y, y - x], 1)).astype(np.float32)


def candidates(grids: list[np.ndarray], min_score: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rectangles of all cells that are sure enough, of more than 300 the surest.

    Args:
        grids: three of float32 [7, H / s, W / s].
        min_score: certainty in 0..1.

    Returns:
        (turned rectangles float32 [K, 6], certainty float32 [K]).
    """
    most = 300
    height, width = (side * STRIDES[0] for side in grids[0].shape[1:])
    cells = np.concatenate([grid.reshape(7, -1).T for grid in grids])
    wanted = np.flatnonzero(cells[:, 0] > np.log(min_score / (1 - min_score)))
    if len(wanted) > most:
        wanted = wanted[np.argsort(-cells[wanted, 0], kind="stable")[:most]]
    middles = np.concatenate(centres(height, width))[wanted]
    strides = np.repeat(np.float32(STRIDES), [grid[0].size for grid in grids])[wanted]
    cells = cells[wanted].astype(np.float32)
    return boxes_of(cells[:, 1:], middles, strides), 1 / (1 + np.exp(-cells[:, 0]))


@torch.inference_mode()
def predict(finder: WordFinder, image: np.ndarray, bfloat16: bool = False) -> list[np.ndarray]:
    """Return the grids of one frame, uint8 [H, W, 3] with sides that are multiples of 32: float32 [7, H / s, W / s]."""
    device = finder.mean.device
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        grids = finder(torch.from_numpy(np.ascontiguousarray(image))[None].to(device))
    return [grid[0].float().cpu().numpy() for grid in grids]


def grow(boxes: np.ndarray, margin: tuple[float, float]) -> np.ndarray:
    """Move the sides of turned rectangles [K, 6] out, along and across the text, by shares of their height: [K, 6]."""
    grown = np.array(boxes, np.float32)
    grown[:, 2:4] += 2 * np.array(margin, np.float32) * boxes[:, 3:4]
    return grown


def rescale(boxes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return turned rectangles [K, 6] in pixels that are ``scale`` (x and y, nearly equal) as large: float32 [K, 6]."""
    along = boxes[:, 4:] * scale
    down = np.stack([-boxes[:, 5], boxes[:, 4]], 1) * scale
    length, height = np.linalg.norm(along, axis=1), np.linalg.norm(down, axis=1)
    centre, sides = boxes[:, :2] * scale, boxes[:, 2:4] * np.stack([length, height], 1)
    return np.column_stack([centre, sides, along / np.maximum(length, 1e-6)[:, None]]).astype(np.float32)


def parts_of(image: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide a long photograph [h, w, 3] into parts that overlap by its shorter side: each with its corner [2], x, y.

    Another one is one part: itself.
    """
    short, axis = min(image.shape[:2]), int(image.shape[1] > image.shape[0])
    extra, step = image.shape[axis] - LONG * short, (LONG - 1) * short
    if extra <= 0:
        return [(image, np.zeros(2, np.float32))]
    found = []
    for start in np.linspace(0, extra, int(np.ceil(extra / step)) + 1).astype(int):
        part = image[:, start : start + LONG * short] if axis else image[start : start + LONG * short]
        found.append((part, np.array([start, 0] if axis else [0, start], np.float32)))
    return found


def turn_back(boxes: np.ndarray, turns: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return turned rectangles [K, 6] of ``np.rot90(image, turns)`` in the pixels of the image, of ``shape``."""
    boxes, (height, width) = np.array(boxes, np.float32), shape[:2]
    for turn in range(turns, 0, -1):
        x, y, cosine, sine = boxes[:, 0].copy(), boxes[:, 1].copy(), boxes[:, 4].copy(), boxes[:, 5].copy()
        boxes[:, 0], boxes[:, 1] = (width if turn % 2 else height) - y, x
        boxes[:, 4], boxes[:, 5] = -sine, cosine
    return boxes


def find(
    look: Callable[[np.ndarray], list[np.ndarray]],
    image: np.ndarray,
    options: RegionOptions | None = None,
    same: float = SAME,
    margin: tuple[float, float] = MARGIN,
) -> tuple[np.ndarray, np.ndarray]:
    """Find words in a photograph, at one size or several put together; in a long one part by part.

    Args:
        look: what the network says of one frame: :func:`predict`, or an engine's ``find``.
        image: uint8 [h, w, 3].
        options: sizes, limit, certainty, turns; None: the default ones.
        same: see :func:`suppress`.
        margin: see :func:`grow`; the default is for cuts that are to be read.

    Returns:
        (corners float32 [R, 4, 2] in the photograph's pixels, clockwise from the word's upper left; certainty float32
        [R] in 0..1, falling).
    """
    options, boxes, scores = options or RegionOptions(), [], []
    for turns in range(4 if options.turns else 1):
        for part, corner in parts_of(np.rot90(image, turns)):
            for size in options.sizes:
                small, scale = frame(np.ascontiguousarray(part), size)
                found, sure = candidates(look(small), options.min_score)
                found = rescale(found, scale)
                found[:, :2] += corner
                boxes.append(turn_back(found, turns, image.shape))
                scores.append(sure)
    kept, sure = merge(np.concatenate(boxes), np.concatenate(scores), options.limit, same)
    return quads_of(grow(kept, margin)), sure


def handicap(rows: np.ndarray, scores: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Return what is taken from each region's cosine with a query before photographs are ranked: float32 [R].

    A region that resembles many words, or clearly says another word, is near to a query without saying it.

    Args:
        rows: the regions' unit vectors, float32 [R, D].
        scores: their certainty in 0..1, float32 [R].
        common: unit vectors of frequent words, encoded as queries are, float32 [W, D].

    Source: query bank normalisation, the inverted softmax against hubs in cross-modal retrieval.
    """
    usual = np.log(np.exp(SHARP * (rows @ common.T - 1)).mean(1)) / SHARP + 1
    return (USUAL * usual - SURE * np.log(scores)).astype(np.float32)


def save(path: str | Path, finder: WordFinder, facts: dict | None = None) -> Path:
    """Write a finder in eight bits a weight with facts about its training, whole or not at all; returns the path."""
    described = {"format": FORMAT, "width": finder.width, "hidden": finder.hidden, "pooled": finder.pooled}
    described |= facts or {}
    state = pack(finder.state_dict(), BITS)
    return atomic_write_bytes(path, safetensors.torch.save(state, {"word_finder": json.dumps(described)}))


def load(path: str | Path | None = None) -> WordFinder:
    """Read a finder, in eval mode, float32, on the CPU.

    Args:
        path: the file; None is the one that comes with ``mini``. It has its own first layers: any backbone may read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no word finder, or is damaged.
    """
    path = Path(path) if path else SHIPPED
    try:
        facts, tensors = read(path, "word_finder", _Facts)
        finder = WordFinder(facts["width"], facts["hidden"], facts.get("pooled", True))
        finder.load_state_dict(unpack(tensors))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds no word finder, or is damaged ({error}). Reinstall the package, or make one with "
            "`python -m fdp_core.mini.pretrain_finder`."
        ) from error
    return finder.eval().requires_grad_(False).to(memory_format=torch.channels_last)

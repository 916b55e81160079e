"""Trains the word finder on real photographs and rendered scenes, from mini's layers or from another finder.

    python -m fdp_core.mini.pretrain_finder --bank runs/bank --out runs/finder.safetensors

With ``--teacher`` it starts from another finder's weights and learns to say what that one says as well: so a finder
whose strides were means (``--pooled``) becomes one that strides in its convolutions, in three quarters of its time.

Real sets are looked for under FDP_DATA (icdar2015_train without its last 150 photographs, icdar2011_train without its
last 29, bsds500 as photographs without text); those that are missing are left out, and the file says which were seen.
Interrupt at any time: the same command goes on from the last save; more steps may be asked for.
"""

from __future__ import annotations

import argparse
import copy
import csv
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fdp_core import backbones
from fdp_core.datasets.formats.icdar import parse_words
from fdp_core.datasets.images import open_image
from fdp_core.datasets.types import Word, box_polygon
from fdp_core.mini import scenery, training
from fdp_core.mini.bank import Bank
from fdp_core.regions import crops, word_finder
from fdp_core.regions.word_finder import LARGEST, STRIDES, UNIT, WordFinder

LOWEST = 6.0  # pixels: lower words are not judged
SIZES = ((0.0, 32.0), (24.0, 80.0), (60.0, np.inf))  # of the words that each grid finds, pixels; see size_of
CORE = 0.3  # cells up to this share of a word's sides from its middle are to be sure of it
HELD_OUT = {"icdar2015_train": 150, "icdar2011_train": 29}
SHARES = {"icdar2015_train": 0.5, "icdar2011_train": 0.2, "rendered": 0.25, "bsds500": 0.05}
SCALES = {"icdar2015_train": (0.5, 2.4), "icdar2011_train": (0.3, 1.4), "rendered": (0.4, 1.8), "bsds500": (0.8, 2.5)}


@dataclass(frozen=True, eq=False)
class Example:
    """A photograph or scene: ``picture`` is a path or JPEG bytes; of its words the ``ignore``d ones are not judged."""

    picture: Path | np.ndarray
    words: tuple[Word, ...]

    def image(self) -> np.ndarray:
        """Return uint8 [h, w, 3]."""
        if isinstance(self.picture, Path):
            return np.asarray(open_image(self.picture))
        return cv2.imdecode(self.picture, cv2.IMREAD_COLOR_RGB)


def icdar2015(folder: Path) -> list[Example]:
    """Read ICDAR 2015's own training set in the order of its numbers; unreadable words are not judged."""
    paths = sorted((folder / "train_images").iterdir(), key=lambda p: int(p.stem.removeprefix("img_")))
    return [Example(path, parse_words(folder / "train_gts" / f"gt_{path.stem}.txt")) for path in paths]


def icdar2011(folder: Path) -> list[Example]:
    """Read ICDAR 2011's training set, ``boxes.csv`` (file, x0, y0, x1, y1, text): every word has an upright box."""
    words: dict[str, list[Word]] = {}
    with open(folder / "boxes.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            x0, y0, x1, y1 = (float(row[name]) for name in ("x0", "y0", "x1", "y1"))
            words.setdefault(row["file"], []).append(Word(row["text"], box_polygon(x0, y0, x1 - x0, y1 - y0)))
    return [Example(folder / name, tuple(words[name])) for name in sorted(words, key=lambda n: int(Path(n).stem))]


def rendered(bank: Bank) -> list[Example]:
    """Turn the scenes of a bank into examples; words that the frame cuts off are not judged."""
    words = ([thing for thing in scene.things if thing.is_word] for scene in bank.scenes)
    made = (tuple(Word(w.text, w.polygon, ignore=not w.visible) for w in part) for part in words)
    return [Example(scene.jpeg, part) for scene, part in zip(bank.scenes, made)]


def examples(bank: Path | None, data: Path) -> dict[str, list[Example]]:
    """Return all examples to learn from, by set; sets that are missing are left out."""
    sets = {}
    for name, read in (("icdar2015_train", icdar2015), ("icdar2011_train", icdar2011)):
        if (data / name).is_dir():
            sets[name] = read(data / name)[: -HELD_OUT[name]]
    if (data / "bsds500").is_dir():
        paths = sorted(p for p in (data / "bsds500").rglob("*") if p.suffix.lower() in {".jpg", ".png"})
        sets["bsds500"] = [Example(path, ()) for path in paths]
    if bank:
        sets["rendered"] = rendered(Bank(bank))
    return sets


def rectangle(polygon: np.ndarray) -> np.ndarray:
    """Return the turned rectangle of a word (centre, length, height, cosine, sine; float32 [6]).

    Of four corners the mean of opposite sides, else the smallest one along the direction of reading around all points.
    """
    quad = np.asarray(polygon, np.float32)
    if len(quad) != 4:
        quad = crops.tilted_box(quad, crops.reading_direction(quad))
    along = crops.reading_direction(quad)
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    x, y = quad @ along, quad @ np.array([-along[1], along[0]])
    left, right, top, bottom = (x[0] + x[3]) / 2, (x[1] + x[2]) / 2, (y[0] + y[1]) / 2, (y[2] + y[3]) / 2
    middle = along * (left + right) / 2 + np.array([-along[1], along[0]]) * (top + bottom) / 2
    return np.array([*middle, right - left, abs(bottom - top), *along], np.float32)


def size_of(box: np.ndarray) -> float:
    """Return what decides the grid of a word (rectangle [6]), pixels: its shorter side or a fifth of the longer."""
    return float(max(min(box[2], box[3]), max(box[2], box[3]) / 5))


def targets(boxes: list[np.ndarray], ignored: list[np.ndarray], side: int) -> np.ndarray:
    """Say what each cell of a square frame should say.

    Args:
        boxes: of the words that are judged, float32 [6] each.
        ignored: of those that are not.
        side: of the frame, pixels.

    Returns:
        float32 [N, 7], the cells of all grids one after the other: 1 in the middle of a word, 0 outside, -1 not judged;
        distances to left, top, right, bottom in pixels; cosine and sine.
    """
    parts = []
    for stride, middles, (low, high) in zip(STRIDES, word_finder.centres(side, side), SIZES):
        out = np.zeros((len(middles), 7), np.float32)
        for box in ignored:
            out[_inside(box, middles, 0.5, 0.25 * stride)[0], 0] = -1
        for box in sorted(boxes, key=lambda b: -b[2] * b[3]):  # the smaller word wins
            size = size_of(box)
            near, x, y = _inside(box, middles, 0.5, 0)
            if not low <= size < high:
                if low * 0.75 <= size < high * 1.33:
                    out[near & (out[:, 0] != 1), 0] = -1
                continue
            ring = (np.abs(x) < 0.42 * box[2]) & (np.abs(y) < 0.42 * box[3])
            out[near, 0] = 0
            out[ring, 0] = -1
            core = (np.abs(x) < max(CORE * box[2], 0.55 * stride)) & (np.abs(y) < max(CORE * box[3], 0.55 * stride))
            sides = np.stack([x + box[2] / 2, y + box[3] / 2, box[2] / 2 - x, box[3] / 2 - y], 1)
            core &= sides.min(1) > 0.02 * stride
            out[core, 0] = 1
            out[core, 1:5] = sides[core]
            out[core, 5:] = box[4:]
        parts.append(out)
    return np.concatenate(parts)


def _inside(box: np.ndarray, middles: np.ndarray, share: float, more: float) -> tuple[np.ndarray, ...]:
    """Return which cells lie within a share of a rectangle's sides of its middle, and all cells' x and y in it."""
    offsets = middles - box[:2]
    x = offsets @ box[4:]
    y = offsets @ np.array([-box[5], box[4]], np.float32)
    return (np.abs(x) < share * box[2] + more) & (np.abs(y) < share * box[3] + more), x, y


def view(
    rng: np.random.Generator, image: np.ndarray, example: Example, side: int, scales: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a scaled, turned, damaged part out of an example: (uint8 [side, side, 3], targets [N, 7])."""
    scale = float(np.exp(rng.uniform(*np.log(scales))))
    scale = max(scale, 0.8 * side / min(image.shape[:2]))  # little of the view shall lie beside the photograph
    if scale < 0.7:  # shrink by area first: a warp reads single pixels
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    before = scale if scale < 0.7 else 1.0
    h, w = image.shape[:2]
    turn = np.deg2rad(rng.uniform(-15, 15) if rng.random() < 0.5 else rng.normal(0, 2))
    stretch = np.exp(rng.normal(0, 0.1)) * (scale / before), np.exp(rng.normal(0, 0.1)) * (scale / before)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag(stretch)
    judged = [word.polygon for word in example.words if not word.ignore]
    if judged and rng.random() < 0.8:  # look at a word
        eye = judged[int(rng.integers(len(judged)))].mean(0) * before
        goal = rng.uniform(0.15, 0.85, 2) * side
    else:
        eye, goal = rng.uniform(0, 1, 2) * [w, h], np.full(2, side / 2)
    shift = goal - matrix @ eye
    for axis, extent in ((0, w * stretch[0]), (1, h * stretch[1])):  # do not look far beside the photograph
        shift[axis] = np.clip(shift[axis], min(side - extent, 0), max(side - extent, 0))
    affine = np.column_stack([matrix, shift])
    fill = tuple(int(v) for v in rng.integers(0, 256, 3))
    out = cv2.warpAffine(image, affine, (side, side), flags=cv2.INTER_LINEAR, borderValue=fill)
    out = scenery.camera(rng, scenery.light(rng, out), 0.6)
    if rng.random() < 0.1:
        out = 255 - out
    if rng.random() < 0.15:
        out = np.ascontiguousarray(out[..., rng.permutation(3)])
    boxes, ignored = [], []
    for word in example.words:
        moved = (word.polygon * before) @ matrix.T + shift
        if (moved.max(0) < 0).any() or (moved.min(0) > side).any():
            continue
        box = rectangle(moved)
        cut_off = np.prod(np.ptp(np.clip(moved, 0, side), axis=0)) < 0.9 * np.prod(np.ptp(moved, axis=0))
        fine = not word.ignore and not cut_off and min(box[2], box[3]) >= LOWEST
        (boxes if fine else ignored).append(box)
    return out, targets(boxes, ignored, side)


class Views(training.Steps):
    """Batches of views of the examples, and what the cells of the grids should say."""

    def __init__(self, sets: dict[str, list[Example]], steps: int, batch: int, side: int, seed: int):
        self.sets, self.steps, self.batch, self.side, self.seed = sets, steps, batch, side, seed
        self._kept: dict[tuple[str, int], np.ndarray] = {}

    def make(self, rng: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        """Return views uint8 [B, side, side, 3] and their :func:`targets` [B, N, 7]."""
        names = [name for name in SHARES if name in self.sets]
        shares = np.array([SHARES[name] for name in names])
        made = []
        for name in rng.choice(names, self.batch, p=shares / shares.sum()):
            number = int(rng.integers(len(self.sets[name])))
            example = self.sets[name][number]
            made.append(view(rng, self._image(str(name), number), example, self.side, SCALES[str(name)]))
        return tuple(torch.from_numpy(np.stack(part)) for part in zip(*made))

    def _image(self, name: str, number: int) -> np.ndarray:
        """Decode a picture; those of real sets are kept in memory (about 3 GB)."""
        if name == "rendered":
            return self.sets[name][number].image()
        if (name, number) not in self._kept:
            self._kept[name, number] = self.sets[name][number].image()
        return self._kept[name, number]


def loss(grids: list[Tensor], wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what is wrong with the grids of a batch: a scalar, and its parts.

    The certainty of a word's middle cells is to equal the overlap of their rectangle with the word's, that of all
    others zero; rectangles lose by one minus that overlap, directions by one minus the cosine.

    Args:
        grids: float [B, 7, H / s, W / s] each.
        wanted: float32 [B, N, 7], see :func:`targets`.

    Source: generalised focal loss (quality focal loss), EAST (overlap of four distances).
    """
    cells = torch.cat([grid.float().flatten(2).transpose(1, 2) for grid in grids], 1)
    strides = torch.cat([torch.full((grid[0, 0].numel(),), float(s)) for s, grid in zip(STRIDES, grids)])
    strides = strides.expand(cells.shape[:2])
    positive = wanted[..., 0] > 0
    predicted, true = cells[positive], wanted[positive]
    distances = predicted[:, 1:5].clamp(max=LARGEST).exp() * UNIT * strides[positive][:, None]
    shared = torch.minimum(distances, true[:, 1:5])
    shared = (shared[:, 0] + shared[:, 2]) * (shared[:, 1] + shared[:, 3])
    area, true_area = ((d[:, 0] + d[:, 2]) * (d[:, 1] + d[:, 3]) for d in (distances, true[:, 1:5]))
    overlap = shared / (area + true_area - shared)
    along = F.normalize(predicted[:, 5:], dim=-1, eps=1e-3)
    turned = 1 - (along * true[:, 5:]).sum(-1)
    quality = torch.zeros_like(wanted[..., 0])
    quality[positive] = (overlap * (1 - 4 * turned).clamp(0, 1)).detach()
    logits = cells[..., 0]
    focal = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    focal = focal * (torch.sigmoid(logits) - quality).abs().detach() ** 2
    count = positive.sum().clamp(min=1)
    parts = {
        "certainty": (focal * (wanted[..., 0] >= 0)).sum() / count,
        "overlap": (1 - overlap).sum() / count,
        "direction": turned.sum() / count,
    }
    total = parts["certainty"] + 1.5 * parts["overlap"] + 4 * parts["direction"]
    return total, parts


def imitation(
    levels: list[Tensor], grids: list[Tensor], their_levels: list[Tensor], their_grids: list[Tensor]
) -> dict[str, Tensor]:
    """Return how a finder differs from its teacher on the same images, three scalars.

    Source: knowledge distillation, with hints from within (FitNets).

    Args:
        levels, grids: of the one that learns, see :class:`fdp_core.regions.word_finder.WordFinder`.
        their_levels, their_grids: of the teacher, of the same shapes.
    """
    mine, theirs = (torch.cat([grid.float().flatten(2) for grid in each], 2) for each in (grids, their_grids))
    sure = torch.sigmoid(theirs[:, 0])
    count = sure.sum().clamp(min=1)
    certainty = F.binary_cross_entropy_with_logits(mine[:, 0], sure, reduction="none")
    certainty = certainty + torch.special.xlogy(sure, sure) + torch.special.xlogy(1 - sure, 1 - sure)  # least: zero
    places = F.smooth_l1_loss(mine[:, 1:], theirs[:, 1:], reduction="none", beta=0.1).sum(1)
    hints = (F.mse_loss(own, other) / other.square().mean() for own, other in zip(levels, their_levels))
    return {"taught": certainty.sum() / count, "places": (sure * places).sum() / count, "hints": sum(hints)}


def begin(seed: int, pooled: bool = False) -> WordFinder:
    """Return a finder that starts from mini; the scale of what its layers give is evened out for the new layers."""
    torch.manual_seed(seed)
    finder = WordFinder(pooled=pooled)
    finder.start_from(backbones.load("mini").clip.visual)
    with torch.no_grad():
        grey = torch.randint(0, 256, (2, 16, 16, 3)).float().permute(0, 3, 1, 2)
        probe = F.interpolate(grey, size=(256, 256), mode="bicubic").clamp(0, 255).permute(0, 2, 3, 1)
        for side, level in zip(finder.sides, finder.levels(probe)):
            side.weight.div_(level.square().mean().sqrt())
    return finder.to(memory_format=torch.channels_last)


def rate(step: int, steps: int, cool: float) -> float:
    """Return the share of the learning rate: up in 100 steps, level, down to 2 % in the last ``cool`` of all steps."""
    left = (steps - step) / max(cool * steps, 1)
    return min(1.0, (step + 1) / 100) * max(0.02, min(1.0, left))


def train(out: Path, sets: dict[str, list[Example]], args: argparse.Namespace, half: bool = True) -> None:
    """Train, or go on where ``out`` with its ``.state`` beside it stopped; both are written every ``save`` steps."""
    teacher = word_finder.load(args.teacher) if args.teacher else None
    if teacher:
        finder = WordFinder(teacher.width, teacher.hidden, args.pooled).to(memory_format=torch.channels_last)
        finder.load_state_dict(teacher.state_dict())
    else:
        finder = begin(args.seed, args.pooled)
    frozen = [finder.conv1, finder.conv2]
    first = [finder.conv3, finder.layer1]  # mini's own where no convolution strides, else they have to learn
    for module in frozen + (first if args.pooled else []):
        module.requires_grad_(False)
    old = [p for part in (*first, finder.layer2, finder.layer3) for p in part.parameters() if p.requires_grad]
    known = {id(p) for p in old}
    new = [p for p in finder.parameters() if p.requires_grad and id(p) not in known]
    groups = [{"params": old, "share": 0.3}, {"params": new, "share": 1.0}]
    optimiser = torch.optim.AdamW(groups, lr=args.lr, weight_decay=0.02, fused=True)
    average = copy.deepcopy(finder)
    run = training.Run(out.with_suffix(".state"), {"finder": finder, "average": average}, optimiser)
    facts = {name: getattr(args, name) for name in ("steps", "lr", "batch", "side", "seed")}
    facts["teacher"] = teacher.digest() if teacher else None
    facts["seen"] = {name: len(members) for name, members in sets.items()}

    def save(step: int) -> None:
        word_finder.save(out, average, {**facts, "step": step})

    data = Views(sets, args.steps, args.batch, args.side, args.seed)
    for step, (images, wanted) in run.batches(data, save, args.workers, args.save):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            levels = finder.levels(images)
            grids = finder.grids(levels)
        value, parts = loss(grids, wanted)
        if teacher:
            with torch.no_grad():
                theirs = teacher.levels(images)
            taught = imitation(levels, grids, theirs, teacher.grids(theirs))
            value, parts = value + sum(taught.values()), parts | taught
        run.update(value, args.lr * rate(step, args.steps, args.cool), parts, largest=5.0, smooth=0.98)
        training.average(average, finder, min(0.998, (step + 1) / (step + 20)))


def main() -> None:
    """Parse the command line and train."""
    parser = training.options(__doc__, "the file to write", False, steps=4000, lr=1e-3, batch=4, seed=0)
    parser.add_argument("--side", type=int, default=512, help="pixels of a view")
    parser.add_argument("--cool", type=float, default=0.4, help="share of the steps in which the rate falls")
    parser.add_argument("--teacher", type=Path, help="a finder to start from and to learn from")
    parser.add_argument("--pooled", action="store_true", help="strides are means over cells, slower")
    parser.add_argument("--save", type=int, default=100, help="steps between saves")
    args = training.parse(parser)
    sets = examples(args.bank, Path(os.environ.get("FDP_DATA") or "data"))
    if not any(example.words for members in sets.values() for example in members):
        parser.error("no words to learn from: give --bank, or FDP_DATA with icdar2015_train or icdar2011_train in it")
    with training.interruptible():
        train(args.out, sets, args, not args.full_precision)


if __name__ == "__main__":
    main()

"""What one pre-training step sees: word crops and scenes out of the bank, their texts, and misspellings of them."""

from __future__ import annotations

import functools
import string
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from fdp_core.datasets.types import box_polygon
from fdp_core.mini import lexicon, scenery, training
from fdp_core.mini.bank import Bank, BankScene
from fdp_core.mini.renderer import SceneWord
from fdp_core.regions import crops

# Which letter stands where in a word: a pyramid of character histograms, used as an extra target in pre-training.

ALPHABET = string.ascii_lowercase + string.digits
LEVELS = (1, 2, 3, 4, 6)
SIZE = sum(LEVELS) * len(ALPHABET)  # 576


@functools.lru_cache(maxsize=65536)
def pyramid(word: str) -> np.ndarray:
    """Return the PHOC of a word: for each level l, which characters occur in each of its l equal parts.

    Args:
        word: any text; case is folded and characters outside a-z, 0-9 only take up room.

    Returns:
        float32 [576] of 0 and 1; bit (part, character) is set when at least half of the character lies in the part.

    Source: Almazan et al., "Word spotting and recognition with embedded attributes", TPAMI 2014.
    """
    bits = np.zeros((sum(LEVELS), len(ALPHABET)), np.float32)
    n, word, row = len(word), word.lower(), 0
    for level in LEVELS:
        for part in range(level):
            low, high = part / level, (part + 1) / level
            for i, letter in enumerate(word):
                overlap = min((i + 1) / n, high) - max(i / n, low)
                if letter in ALPHABET and overlap * n >= 0.5 - 1e-9:
                    bits[row, ALPHABET.index(letter)] = 1
            row += 1
    bits.flags.writeable = False
    return bits.reshape(-1)


LOWEST = 13.0  # pixels: lower words are not cut out, nobody could read them


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a pre-training run, beside the bank of scenes."""

    steps: int = 10000
    text_steps: int = 400  # curriculum: the text tower alone learns to spell, until here ...
    hard_steps: int = 5000  # ... then the image tower learns to read crops, damaged more and more for so many steps ...
    scenes_from: int = 4400  # ... and from here on whole scenes too, every second step
    regions_from: int = 5500  # from here on each thing in a scene is also held against its own text, by its cells
    still_from: int = 4400  # from here on BatchNorm keeps its statistics, those of crops: scenes must do with them
    late_from: int = 6500  # from here on scenes in every step, in every second one fewer and larger ones
    late_lr: float = 8e-4  # the learning rate from then on, again falling to zero
    late_weight: float = 1.0  # weight of both terms on scenes from then on
    late_crops: int = 96  # a step, from then on
    late_scenes: int = 16
    large_scenes: int = 6
    large_size: int = 512  # pixels
    crop_height: int = 32  # pixels
    crop_width: int = 128
    batch_crops: int = 192  # a step
    empty: float = 0.06  # share of crops without anything to read: what a localiser finds wrongly
    batch_scenes: int = 12
    scene_size: int = 320  # pixels, cut out of the bank's scenes
    lr: float = 1.5e-3
    warmup: int = 600
    cosine: int = 8000  # the first learning rate falls as if there were so many steps
    weight_decay: float = 0.05
    ema: float = 0.999
    text_every: int = 4  # the text tower learns in every so many-th step: its gradients cost more than the crops'
    global_weight: float = 0.5  # weight of the whole-scene term
    region_weight: float = 0.5  # weight of the term on the things in the scenes
    spelling_weight: float = 0.5  # weight of the letters-and-places term
    negatives: float = 0.5  # misspellings added, as a share of the batch's words
    captions: float = 0.1  # share of the words and pictures whose caption is added
    text_width: int = 192  # width of the text tower: of the unknown tokens
    seed: int = 0


class Batches(training.Steps):
    """What the steps of a pre-training see, made from the recipe, the bank and the step's number alone."""

    def __init__(self, recipe: Recipe, bank: Bank):
        self.recipe, self.bank, self.steps, self.seed = recipe, bank, recipe.steps, recipe.seed

    def make(self, rng: np.random.Generator, step: int) -> dict:
        """Draw words, crops and scenes, as the curriculum has it at this step."""
        r = self.recipe
        if step < r.text_steps:
            said = [lexicon.sample_word(rng) for _ in range(r.batch_crops)]
            return words_and_texts(rng, r, said, ["none"] * len(said), [True] * len(said))
        size = r.crop_height, r.crop_width
        hard = min(1.0, 0.4 + (step - r.text_steps) / r.hard_steps)
        images, things = [], []
        late = step >= r.late_from
        crop_count = r.late_crops if late else r.batch_crops
        scene_count, scene_size = (r.late_scenes if late else r.batch_scenes), r.scene_size
        if late and step % 2:
            scene_count, scene_size = r.large_scenes, r.large_size
        count = crop_count - round(r.empty * crop_count)
        while len(things) < count:
            scene = self.bank.scenes[int(rng.integers(len(self.bank)))]
            picture = scene.image()
            for thing in _legible(scene)[: count - len(things)]:
                images.append(look(rng, picture, thing.polygon, thing.is_word, size, hard))
                things.append(thing)
        nothing = self._empty(rng, crop_count - count, size, hard)
        scenes, members, cells = [], [], []
        if late or (step >= r.scenes_from and step % 2 == 0):
            while len(scenes) < scene_count:
                cut = part_of_scene(rng, self.bank.scenes[int(rng.integers(len(self.bank)))], scene_size)
                if cut is None:
                    continue
                picture, inside, polygons = cut
                cells += [cell_weights(polygon, scene_size) for polygon in polygons]
                members.append(list(range(len(things), len(things) + len(inside))))
                scenes.append(picture)
                things += inside
        said, boards, is_word = zip(*((thing.text.lower(), thing.board, thing.is_word) for thing in things))
        batch = words_and_texts(rng, r, said, boards, is_word)
        batch["things"] = count
        batch["crops"] = torch.from_numpy(np.stack(images + nothing))
        if scenes:
            positive = batch["positive"]
            batch["scenes"] = torch.from_numpy(np.stack(scenes))
            batch["scene_has"] = torch.stack([positive[rows].any(0) for rows in members])
            batch["owners"] = torch.tensor([n for n, rows in enumerate(members) for _ in rows])
            batch["cells"] = torch.from_numpy(np.stack(cells))
        return batch

    def _empty(self, rng, count: int, size: tuple[int, int], hard: float) -> list[np.ndarray]:
        """Cut ``count`` boxes that touch neither word nor picture."""
        found: list[np.ndarray] = []
        while len(found) < count:
            scene = self.bank.scenes[int(rng.integers(len(self.bank)))]
            picture = scene.image()
            taken = np.zeros(picture.shape[:2], np.uint8)
            for thing in scene.things:
                cv2.fillPoly(taken, [thing.polygon.astype(np.int32)], 1)
            for _ in range(8):
                tall = int(np.exp(rng.uniform(np.log(LOWEST), np.log(90))))
                wide = int(tall * rng.uniform(1, 6))
                if tall >= taken.shape[0] or wide >= taken.shape[1]:
                    continue
                y, x = int(rng.integers(taken.shape[0] - tall)), int(rng.integers(taken.shape[1] - wide))
                if len(found) < count and not taken[y : y + tall, x : x + wide].any():
                    found.append(look(rng, picture, box_polygon(x, y, wide, tall), False, size, hard))
        return found


def _legible(scene: BankScene) -> list[SceneWord]:
    """Return the things of a scene that a crop can show: whole, and high enough."""
    whole = (thing for thing in scene.things if thing.visible and len(thing.text) <= 24)
    return [thing for thing in whole if min(np.ptp(thing.polygon, axis=0)) >= LOWEST]


def look(rng, picture: np.ndarray, polygon: np.ndarray, is_word: bool, size: tuple[int, int], hard: float):
    """Cut one thing out as a detector might, loosely and never twice the same, and damage it: uint8 [h, w, 3]."""
    height, width = size
    box = crops.upright_box(polygon)
    if is_word:
        direction = crops.reading_direction(polygon)
        steep = abs(direction[1]) > 0.25 * abs(direction[0])
        if steep or rng.random() < 0.5:
            box = crops.tilted_box(polygon, direction)
    loose = rng.uniform(-0.06, 0.28, 4) * rng.uniform(0, 1)
    quad = crops.grow(box, loose[:2], loose[2:])
    quad = quad + rng.normal(0, 0.02, (4, 2)).astype(np.float32) * np.linalg.norm(box[3] - box[0])
    tall = float(np.linalg.norm(box[3] - box[0]))
    wide = float(np.linalg.norm(box[1] - box[0]))
    # damaged at about its own size: blur and JPEG blocks grow with a small word when it is enlarged
    mid_h = int(np.clip(tall * rng.uniform(0.7, 1.1), 13, 1.5 * height))
    mid_w = int(np.clip(mid_h * wide / max(tall, 1) * rng.uniform(0.8, 1.2), 12, 2 * width))
    out = scenery.camera(rng, scenery.light(rng, crops.cut(picture, quad, mid_h, mid_w)), hard)
    if rng.random() < 0.04:
        out = 255 - out
    shrinks = mid_h > height or mid_w > width
    return cv2.resize(out, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def part_of_scene(rng, scene: BankScene, size: int):
    """Cut a square out of a scene and damage it.

    Returns:
        (uint8 [size, size, 3], the things in it, their polygons in the cut); None when empty.
    """
    picture = scene.image()
    whole = picture.shape[0]
    side = whole * rng.uniform(0.45, 1.0)
    left, top = rng.uniform(0, whole - side, 2)
    corner, scale = np.array([left, top], np.float32), size / side
    inside, polygons = [], []
    for thing in scene.things:
        moved = (thing.polygon - corner) * scale
        if thing.visible and moved.min() >= -1 and moved.max() <= size + 1 and min(np.ptp(moved, axis=0)) >= LOWEST:
            inside.append(thing)
            polygons.append(moved)
    if not inside:
        return None
    image = crops.cut(picture, box_polygon(left, top, side, side), size, size)
    return scenery.camera(rng, scenery.light(rng, image), 0.8), inside, polygons


def cell_weights(polygon: np.ndarray, size: int, stride: int = 32) -> np.ndarray:
    """Return the share of a polygon (pixels of a square of side ``size``) in each cell: float32 [G * G], sum 1."""
    grid, fine = size // stride, size // 4
    drawn = np.zeros((fine, fine), np.uint8)
    cv2.fillPoly(drawn, [np.round(polygon / 4 - 0.5).astype(np.int32)], 1)
    share = drawn.reshape(grid, fine // grid, grid, -1).mean((1, 3)).astype(np.float32).ravel()
    return share / max(share.sum(), 1e-6)


def words_and_texts(rng, r: Recipe, said: Sequence[str], boards: Sequence[str], is_word: Sequence[bool]) -> dict:
    """Gather the texts of a batch and which of them are true of which thing.

    Returns:
        ``labels`` int64 [N], each thing's own word in the vocabulary; ``is_word`` bool [N]; ``vocabulary``, M texts,
        the first ``bare`` of them words, the others captions; ``positive`` bool [N, M]; ``spelling`` float32 [bare, P];
        ``prefix`` float32 [M, k, W], unknown tokens before the texts.
    """
    wrong = [lexicon.mutate(rng, t) for t, w in zip(said, is_word, strict=True) if w and rng.random() < r.negatives]
    plain = sorted(set(said) | {n for n in wrong if n})
    captions = {
        n: caption(rng, text, board, word)
        for n, (text, board, word) in enumerate(zip(said, boards, is_word, strict=True))
        if rng.random() < r.captions
    }
    vocabulary = plain + sorted(set(captions.values()) - set(plain))
    tokens = int(rng.choice([0, 1, 2, 3, 4], p=[0.4, 0.1, 0.2, 0.1, 0.2]))
    prefix = rng.normal(0, 0.02, (len(vocabulary), tokens, r.text_width)).astype(np.float32)
    index = {text: i for i, text in enumerate(vocabulary)}
    labels = np.array([index[t] for t in said])
    positive = np.zeros((len(said), len(vocabulary)), bool)
    positive[np.arange(len(said)), labels] = True
    for n, sentence in captions.items():  # true of all equal words; where it names a colour, only on such boards
        coloured = f"a {boards[n]} sign" in sentence
        same = [
            m
            for m, t in enumerate(said)
            if t == said[n] and is_word[m] == is_word[n] and (not coloured or boards[m] == boards[n])
        ]
        positive[same, index[sentence]] = True
    return {
        "labels": torch.from_numpy(labels),
        "is_word": torch.tensor(is_word),
        "spelling": torch.from_numpy(np.stack([pyramid(t) for t in plain])),
        "vocabulary": vocabulary,
        "bare": len(plain),
        "positive": torch.from_numpy(positive),
        "prefix": torch.from_numpy(prefix),
    }


def caption(rng: np.random.Generator, text: str, board: str, word: bool) -> str:
    """Put a word or a picture's name into one of a few captions, with its board's colour where it has a board."""
    if not word:
        return str(rng.choice([f"{text}.", f"a {text}", f"a picture of a {text}"]))
    plain = [f"{text}.", f"{text}.", f"the word {text}", f"a sign that says {text}"]
    return str(rng.choice(plain if board == "none" else [*plain, f"a {board} sign that says {text}"]))

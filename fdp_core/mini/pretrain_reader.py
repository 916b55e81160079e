"""Trains the reader of the word finder: mini's image tower goes on learning, on the finder's own cuts.

    python -m fdp_core.mini.pretrain_reader --bank runs/bank --out runs/reader.safetensors

The finder looks at the real training sets (under FDP_DATA, as in :mod:`fdp_core.mini.pretrain_finder`); what it cuts
out and how is kept beside the result (``.cuts.npz``). A cut that overlaps a word by half or more says that word, one
that overlaps none says nothing, and all others are left out. About half of every batch is rendered. The text tower
stays frozen, so a word is held against thousands of others in every step.
The file that ships: ``--batch 96 --known 8000 --every 3``, ``--steps 1500`` up to step 300, then ``--steps 900``; from
there (``--start``) ``--batch 96 --known 8000 --steps 3600 --lr 3e-4``.
Interrupt at any time: the same command goes on from the last save. On a GPU: ``--device cuda --workers 8``, the same
command again and again where time is rationed (``--minutes 9`` stops and saves).
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from fdp_core import backbones, losses
from fdp_core.config import parse
from fdp_core.files import atomic_path, reading
from fdp_core.mini import batches, pretrain, pretrain_finder, training
from fdp_core.mini.batches import Recipe
from fdp_core.mini.pretrain_finder import Example, rectangle
from fdp_core.regions import crops, reader, word_finder
from fdp_core.regions.settings import RegionOptions
from fdp_core.words import english_words

LOOK = RegionOptions(limit=60, min_score=0.1)  # of the finder: more cuts a word than are kept for search
SAME = 0.7  # likewise
IS_WORD, IS_NOTHING = 0.5, 0.2  # overlap from which a cut says the word, and up to which it says none
AROUND = 0.7  # of a patch, in heights of the word on every side
HEIGHT = 48  # pixels: patches of higher words are shrunk
CLUTTER = 8  # at most so many cuts without a word from one photograph
SHARES = {"icdar2015_train": 0.28, "icdar2011_train": 0.12, "rendered": 0.48, "nothing": 0.12}
OUT = ((-0.12, 0.42), (-0.12, 0.3))  # how far sides move out, in heights: along and across the text
SIZE = (32, 128)  # of a cut, pixels


class Patch(NamedTuple):
    """A part of a photograph with one cut in it: uint8 [h, w, 3], corners float32 [4, 2], its word ("": none)."""

    image: np.ndarray
    quad: np.ndarray
    text: str


def said(text: str) -> str:
    """Return a word as it is searched for: lower case, without signs at its ends; "" where nothing is left."""
    text = re.sub(r"^[^a-z0-9]+|[^a-z0-9]+$", "", text.lower())
    return text if text.isascii() and len(text) <= 24 else ""


def patch(image: np.ndarray, quad: np.ndarray, text: str) -> Patch:
    """Copy a cut and what is around it out of a photograph, high words shrunk."""
    around = np.linalg.norm(quad[3] - quad[0]) * AROUND
    low = np.maximum(np.floor(quad.min(0) - around), 0).astype(int)
    high = np.minimum(np.ceil(quad.max(0) + around), image.shape[1::-1]).astype(int)
    part, quad = image[low[1] : high[1], low[0] : high[0]], (quad - low).astype(np.float32)
    scale = HEIGHT / max(float(np.linalg.norm(quad[3] - quad[0])), 1.0)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in part.shape[1::-1]]
        quad = quad * np.float32([size[0] / part.shape[1], size[1] / part.shape[0]])
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return Patch(np.ascontiguousarray(part), quad, text)


def patches(finder: word_finder.WordFinder | None, example: Example, bfloat16: bool = True) -> list[Patch]:
    """Return what the finder cuts out of a photograph whose words are all boxed, and the words' own boxes."""
    image = example.image()
    quads = ()
    if finder is not None:
        look = functools.partial(word_finder.predict, finder, bfloat16=bfloat16)
        quads, _ = word_finder.find(look, image, LOOK, same=SAME, margin=(0.0, 0.0))
    texts = ["" if word.ignore else said(word.text) for word in example.words]
    own = [(word.polygon, text) for word, text in zip(example.words, texts) if text and len(word.polygon) == 4]
    found = [patch(image, quad, text) for quad, text in own if np.ptp(quad, 0).min() > 5]
    true, clutter = np.array([rectangle(w.polygon) for w in example.words], np.float32).reshape(-1, 6), 0
    for quad in quads:
        if np.ptp(quad, 0).min() < 5:
            continue
        shared = word_finder.overlaps(rectangle(quad), true) if len(true) else np.zeros(1)
        best = int(shared.argmax())
        if shared[best] >= IS_WORD and texts[best]:
            found.append(patch(image, quad, texts[best]))
        elif shared[best] < IS_NOTHING and clutter < CLUTTER:
            clutter += 1
            found.append(patch(image, quad, ""))
    return found


def gather(
    sets: dict[str, list[Example]], finder: word_finder.WordFinder, kept: Path, every: dict[str, int] | None = None
) -> dict[str, list[Patch]]:
    """Return the patches of the real sets by set, those without a word as "nothing"; made once, then read from a file.

    ``every``: the finder looks at every so many-th photograph of a set; of the others only the words' own boxes count.
    """
    if not kept.exists():
        names, found = [], []
        for name, members in sets.items():
            for number, example in enumerate(members if name in SHARES and name != "rendered" else ()):
                fresh = patches(finder if number % (every or {}).get(name, 1) == 0 else None, example)
                names += [name] * len(fresh)
                found += fresh
                if number % 50 == 0:
                    print(json.dumps({"set": name, "photograph": number, "cuts": len(found)}), flush=True)
        with atomic_path(kept) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                pixels=np.concatenate([p.image.ravel() for p in found] or [np.zeros(0, np.uint8)]),
                sizes=np.array([p.image.shape[:2] for p in found], int).reshape(-1, 2),
                quads=np.array([p.quad for p in found], np.float32),
                labels=np.frombuffer(json.dumps([[n, p.text] for n, p in zip(names, found)]).encode(), np.uint8),
            )
    grouped: dict[str, list[Patch]] = {}
    with reading(kept, "file of cuts", "remove it to cut anew"), np.load(kept) as file:
        pixels, labels = file["pixels"], parse(file["labels"].tobytes(), list[tuple[str, str]])
        ends = np.cumsum(3 * file["sizes"].prod(1)) if len(labels) else []
        for end, size, quad, (name, text) in zip(ends, file["sizes"], file["quads"], labels, strict=True):
            image = pixels[end - 3 * size.prod() : end].reshape(*size, 3)
            grouped.setdefault(name if text else "nothing", []).append(Patch(image, quad, text))
    return grouped


class Looks(training.Steps):
    """Batches of cuts out of the patches and the scenes, and the texts they are held against."""

    def __init__(self, real: dict[str, list[Patch]], scenes: list[Example], steps: int, batch: int, seed: int):
        self.real, self.scenes, self.steps, self.batch, self.seed = real, scenes, steps, batch, seed
        self.recipe = Recipe(captions=0.0, negatives=0.6)

    def make(self, rng: np.random.Generator, step: int) -> dict:
        """Return what :func:`fdp_core.mini.batches.words_and_texts` does, with ``crops`` and the words they say."""
        names = [name for name in SHARES if name in self.real or (name == "rendered" and self.scenes)]
        shares = np.array([SHARES[name] for name in names])
        counts = dict(zip(names, rng.multinomial(self.batch, shares / shares.sum())))
        images, words = [], []
        while len(words) < counts.get("rendered", 0):
            scene = self.scenes[int(rng.integers(len(self.scenes)))]
            picture = scene.image()
            for word in scene.words:
                high = np.ptp(word.polygon, 0).min() >= batches.LOWEST
                if len(words) < counts["rendered"] and not word.ignore and high and len(word.text) <= 24:
                    images.append(look(rng, picture, word.polygon, 0.9))
                    words.append(word.text.lower())
        for name in [name for name in names if name not in ("rendered", "nothing")] + ["nothing"]:
            for _ in range(counts.get(name, 0)):
                image, quad, text = self.real[name][int(rng.integers(len(self.real[name])))]
                images.append(look(rng, image, quad, 0.35))
                words += [text] if text else []
        batch = batches.words_and_texts(rng, self.recipe, words, ["none"] * len(words), [True] * len(words))
        return batch | {"crops": torch.from_numpy(np.stack(images)), "said": words}


def look(rng: np.random.Generator, image: np.ndarray, quad: np.ndarray, hard: float) -> np.ndarray:
    """Cut a word out with its sides moved; half of the cuts are damaged as well: uint8 [32, 128, 3]."""
    if len(quad) != 4:
        quad = crops.tilted_box(quad, crops.reading_direction(quad))
    (left, right), (above, below) = (rng.uniform(*OUT[axis], 2) for axis in (0, 1))
    quad = crops.grow(np.asarray(quad, np.float32), np.array([left, above]), np.array([right, below]))
    if rng.random() < 0.5:
        return batches.look(rng, image, quad, True, SIZE, hard)
    quad = crops.tilted_box(quad, crops.reading_direction(quad))  # as the finder's are: a rectangle
    turn = np.deg2rad(rng.normal(0, 2.5))
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return crops.cut(image, (quad - quad.mean(0)) @ turned + quad.mean(0), *SIZE)


def train(out: Path, real: dict[str, list[Patch]], scenes: list[Example], args: argparse.Namespace) -> None:
    """Train, or go on where ``out`` with its ``.state`` beside it stopped; both are written every ``save`` steps."""
    backbone = backbones.load("mini")
    begin = reader.load(backbone, args.start) if args.start else backbone
    clip = copy.deepcopy(begin.clip).to(args.device).to(memory_format=torch.channels_last).eval()
    groups = training.groups(clip.visual.requires_grad_(True).parameters(), 0.02)
    optimiser = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)
    average = copy.deepcopy(clip.visual)
    run = training.Run(out.with_suffix(".state"), {"visual": clip.visual, "average": average}, optimiser)
    facts = {name: getattr(args, name) for name in ("steps", "lr", "batch", "seed", "known", "every")}
    if args.start:
        facts["start"] = begin.weights_hash
    facts["cuts"] = {name: len(members) for name, members in real.items()} | {"rendered scenes": len(scenes)}
    known = english_words()[: args.known]
    places = {word: i for i, word in enumerate(known)}
    others = nn.functional.normalize(backbone.encode_text(known), dim=-1).to(args.device)
    half = not args.full_precision

    def save(step: int) -> None:
        made = {name: value.cpu() for name, value in average.state_dict().items()}
        reader.save(out, backbone, made, {**facts, "step": step})

    data = Looks(real, scenes, args.steps, args.batch, args.seed)
    for step, batch in run.batches(data, save, args.workers, args.save, minutes=args.minutes):
        with torch.no_grad():
            texts = torch.cat([pretrain.read(clip, batch, backbone.tokenizer, args.device, half), others])
        seen = pretrain.see(clip, batch["crops"].to(args.device), half)
        own = torch.zeros(len(seen), len(texts), dtype=torch.bool)
        own[: len(batch["said"]), : len(texts) - len(known)] = batch["positive"]
        for row, word in enumerate(batch["said"]):
            if word in places:
                own[row, len(texts) - len(known) + places[word]] = True
        own = own.to(args.device)
        loss = losses.contrastive(seen, texts, own, backbone.logit_scale)
        right = own.gather(1, (seen @ texts.T).argmax(1, keepdim=True))[: len(batch["said"]), 0].float().mean()
        lr = args.lr * training.cosine(step, args.steps, 100)
        run.update(loss, lr, {"loss": loss, "right": right}, largest=1.0, smooth=0.95)
        training.average(average, clip.visual, min(args.ema, (step + 1) / (step + 10)))


def main() -> None:
    """Parse the command line and train."""
    parser = training.options(__doc__, "the file to write", False, steps=2400, lr=4e-4, batch=192, seed=0, ema=0.995)
    parser.add_argument("--finder", type=Path, help="weights of the finder; default: those that come with mini")
    parser.add_argument("--start", type=Path, help="a reader to go on from with a new schedule; default: mini itself")
    parser.add_argument("--known", type=int, default=20000, help="frequent words that every cut is held against")
    parser.add_argument("--every", type=int, default=1, help="the finder looks at every so many-th of icdar2015_train")
    parser.add_argument("--save", type=int, default=100, help="steps between saves")
    parser.add_argument("--minutes", type=float, help="save and stop after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = training.parse(parser)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sets = pretrain_finder.examples(args.bank, Path(os.environ.get("FDP_DATA") or "data"))
    every = {"icdar2015_train": args.every}
    real = gather(sets, word_finder.load(args.finder).to(args.device), args.out.with_suffix(".cuts.npz"), every)
    if not any(patch.text for members in real.values() for patch in members) and "rendered" not in sets:
        parser.error("no words to learn from: give --bank, or FDP_DATA with icdar2015_train or icdar2011_train in it")
    with training.interruptible():
        train(args.out, real, sets.get("rendered", []), args)


if __name__ == "__main__":
    main()

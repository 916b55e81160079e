"""What one pre-training step sees: rendered scenes, their words' cells, and misspellings of the words."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from fdp_core import backbones, fonts, lexicon, scenery, spelling, synth

CAPTION_SHARE = 0.2  # of the words and pictures


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a pre-training run."""

    steps: int = 3600
    batch_scenes: int = 24  # scenes a step; a sheet of word crops counts as two
    size: int = 224  # side of a scene, pixels
    lr: float = 1.5e-3
    warmup: int = 200
    weight_decay: float = 0.05
    captions_from: int = 1750  # from this step on texts also come as captions and behind unknown tokens
    ema: float = 0.998
    sheet_steps: int = 900  # curriculum: sheets of word crops only, until here ...
    mixed_steps: int = 600  # ... then scenes take over step by step
    last_sheets: float = 0.15  # share of sheets for the rest of the run
    global_weight: float = 0.5  # weight of the whole-scene term
    spelling_weight: float = 1.0  # weight of the letters-and-places term
    negatives: float = 0.3  # misspellings added, as a share of the batch's words
    text_width: int = 192  # width of the text tower: of the unknown tokens
    seed: int = 0


class Scenes(torch.utils.data.Dataset):
    """Batch number i is rendered from (seed, i) alone, so a resumed run sees what an unbroken one sees."""

    def __init__(self, recipe: Recipe, backgrounds: str | None):
        self.recipe, self.folder, self.renderer = recipe, backgrounds, None

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int):
        if self.renderer is None:  # once a worker
            cv2.setNumThreads(1)
            photos = scenery.load_backgrounds(self.folder) if self.folder else []
            self.renderer = synth.Renderer(fonts.find_fonts(), fonts.find_icon_font(), photos)
        r = self.recipe
        rng = np.random.default_rng([r.seed, step])
        gone = min(max((step - r.sheet_steps) / max(r.mixed_steps, 1), 0.0), 1.0)
        sheets = 1 - gone * (1 - r.last_sheets)
        grid = r.size // backbones.STRIDE
        images, owners, texts, boards, cells, is_word = [], [], [], [], [], []
        room = r.batch_scenes
        while room > 0:
            b = len(images)
            if rng.random() < sheets:
                scene, room = self.renderer.sheet(rng, r.size, hard=0.4 + 0.6 * gone), room - 2
            else:
                scene, room = self.renderer.scene(rng, r.size), room - 1
            images.append(scene.image)
            for drawn, kind in [(w, True) for w in scene.words] + [(p, False) for p in scene.pictures]:
                if not drawn.visible:
                    continue
                owners.append(b)
                texts.append(drawn.text.lower())
                boards.append(drawn.board)
                cells.append(cell_weights(drawn.polygon, r.size, grid))
                is_word.append(kind)
        negatives = [
            lexicon.mutate(rng, t) for t, w in zip(texts, is_word, strict=True) if w and rng.random() < r.negatives
        ]
        plain = sorted(set(texts) | {n for n in negatives if n})
        vocabulary = plain
        captions, prefix = {}, np.zeros((len(vocabulary), 0, r.text_width), np.float32)
        if step >= r.captions_from:
            aside = np.random.default_rng([r.seed, step, 1])  # a stream of its own: the scenes stay as they are
            captions = {
                n: caption(aside, text, board, word)
                for n, (text, board, word) in enumerate(zip(texts, boards, is_word, strict=True))
                if aside.random() < CAPTION_SHARE
            }
            vocabulary = plain + sorted(set(captions.values()) - set(plain))
            tokens = int(aside.choice([0, 1, 2, 3, 4], p=[0.4, 0.1, 0.2, 0.1, 0.2]))
            prefix = aside.normal(0, 0.02, (len(vocabulary), tokens, r.text_width)).astype(np.float32)
        index = {text: i for i, text in enumerate(vocabulary)}
        positive = np.zeros((len(texts), len(vocabulary)), bool)
        for n, text in enumerate(texts):
            positive[n, index[text]] = True
        for n, said in captions.items():  # true of all equal words; where it names a colour, only on such boards
            coloured = f"a {boards[n]} sign" in said
            same = [m for m, t in enumerate(texts) if t == texts[n] and (not coloured or boards[m] == boards[n])]
            positive[same, index[said]] = True
        return {
            "images": torch.from_numpy(np.stack(images)),
            "owners": torch.tensor(owners),
            "labels": torch.tensor([index[t] for t in texts]),
            "is_word": torch.tensor(is_word),
            "spelling": torch.from_numpy(np.stack([spelling.pyramid(t) for t in plain])),
            "cells": torch.from_numpy(np.stack(cells)),
            "vocabulary": vocabulary,
            "bare": len(plain),  # the first so many texts are words, the rest captions
            "positive": torch.from_numpy(positive),
            "prefix": torch.from_numpy(prefix),
        }


def caption(rng: np.random.Generator, text: str, board: str, word: bool) -> str:
    """Put a word or a picture's name into one of a few captions, with its board's colour where it has a board."""
    if not word:
        return str(rng.choice([f"{text}.", f"a {text}", f"a picture of a {text}"]))
    plain = [f"{text}.", f"{text}.", f"the word {text}", f"a sign that says {text}"]
    return str(rng.choice(plain if board == "none" else [*plain, f"a {board} sign that says {text}"]))


def cell_weights(polygon: np.ndarray, size: int, grid: int) -> np.ndarray:
    """Return the share of a polygon in each cell, float32 [grid * grid], sum 1."""
    fine = np.zeros((size // 4, size // 4), np.uint8)
    cv2.fillPoly(fine, [np.round(polygon / 4 - 0.5).astype(np.int32)], 1)
    share = fine.reshape(grid, size // 4 // grid, grid, -1).mean((1, 3)).astype(np.float32).ravel()
    return share / share.sum()

"""A bank of rendered scenes: drawn once, clean, kept in shards on disk, damaged afresh whenever they are used.

    python -m fdp_core.mini.bank --out runs/bank --scenes 20000 --workers 2

Drawing letters costs more than learning from them: a scene is drawn once, and the camera (light, blur, noise, crop)
changes at every look. Shard number s depends on (recipe, s) alone; an interrupted command resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import json
import multiprocessing
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fdp_core.config import parse
from fdp_core.files import atomic_write_bytes, atomic_write_text, reading
from fdp_core.mini import captions, fonts, lexicon, scenery
from fdp_core.mini.renderer import Renderer, SceneWord

SHARD = 100  # scenes a file


@dataclass(frozen=True)
class BankRecipe:
    """Everything that decides what is drawn (beside the fonts and backgrounds of the machine)."""

    scenes: int = 20000
    size: int = 640  # side of a scene, pixels
    signs: tuple[int, int] = (2, 26)  # fewest and most signs tried
    heights: tuple[float, float] = (9.0, 100.0)  # letters' body height, pixels, log-uniform
    picture_share: float = 0.12
    quality: int = 92  # JPEG
    seed: int = 0
    named: bool = False  # words as captions name them (``captions.sample_word``), not as signs carry them


# Which backbone a bank is for. CLIP's pictures show few things at a time; half of them are no writing.
RECIPES = {
    "mini": BankRecipe(),
    "mini_clip": BankRecipe(size=448, signs=(1, 7), heights=(8.0, 110.0), picture_share=0.5, named=True),
}


@dataclass(frozen=True)
class BankScene:
    """One drawn scene: the picture's bytes (JPEG), and the words and pictures in it."""

    jpeg: np.ndarray
    things: list[SceneWord]

    def image(self) -> np.ndarray:
        """Decode the picture: uint8 [size, size, 3] RGB."""
        return cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR_RGB)


# of each scene its things: text, polygon, board, is it a word?, does the frame show it?
_Shard = list[list[tuple[str, list[tuple[float, float]], str, bool, bool]]]


@functools.cache
def _renderer(backgrounds: str | None) -> Renderer:
    cv2.setNumThreads(1)
    photos = scenery.load_backgrounds(backgrounds) if backgrounds else []
    return Renderer(fonts.find_fonts(), fonts.find_icon_font(), photos, fonts.find_emoji_font())


def draw_shard(job: tuple[Path, BankRecipe, int, str | None]) -> int:
    """Draw and write one shard (out, recipe, number, folder of backgrounds); returns how many words are in it."""
    out, recipe, number, backgrounds = job
    renderer = _renderer(backgrounds)
    blobs, lines, words = [], [], 0
    for i in range(number * SHARD, min((number + 1) * SHARD, recipe.scenes)):
        rng = np.random.default_rng([recipe.seed, i])
        sample = captions.sample_word if recipe.named else lexicon.sample_word
        scene = renderer.scene(rng, recipe.size, recipe.signs, recipe.heights, recipe.picture_share, 0, sample)
        options = [cv2.IMWRITE_JPEG_QUALITY, recipe.quality]
        blobs.append(cv2.imencode(".jpg", scene.image[..., ::-1], options)[1].ravel())
        things = scene.words + scene.pictures
        lines.append([[t.text, t.polygon.round(1).tolist(), t.board, t.is_word, t.visible] for t in things])
        words += len(scene.words)
    ends = np.cumsum([len(blob) for blob in blobs])
    buffer = io.BytesIO()
    np.savez(buffer, jpegs=np.concatenate(blobs), ends=ends, things=np.frombuffer(json.dumps(lines).encode(), np.uint8))
    atomic_write_bytes(out / f"{number:05d}.npz", buffer.getvalue())
    return words


def render(out: Path, recipe: BankRecipe, backgrounds: str | None, workers: int = 2) -> None:
    """Draw what is missing of a bank.

    Args:
        out: folder of the shards. recipe: what to draw. backgrounds: folder of photographs without text, or None.
        workers: processes.

    Raises:
        ValueError: the folder holds a bank of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    told = out / "recipe.json"
    mine = json.loads(json.dumps(asdict(recipe)))
    if told.exists():
        with reading(told, "recipe of a bank", "bring it back, or use another --out"):
            theirs = {"named": False} | parse(told.read_bytes(), dict[str, Any])  # older banks do not say it
        if theirs | {"scenes": 0} != mine | {"scenes": 0}:
            raise ValueError(f"{told} was made with another recipe: {theirs}. Use another --out or the same options.")
    atomic_write_text(told, json.dumps(mine) + "\n")
    shards = range((recipe.scenes + SHARD - 1) // SHARD)
    jobs = [(out, recipe, n, backgrounds) for n in shards if not (out / f"{n:05d}.npz").exists()]
    start, words = time.time(), 0
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for done, count in enumerate(pool.imap_unordered(draw_shard, jobs), start=1):
            words += count
            left = (time.time() - start) / done * (len(jobs) - done)
            print(f"{done}/{len(jobs)} shards, {words} words, {left / 60:.1f} min left", flush=True)


class Bank:
    """Reads a bank; scenes by number.

    Args:
        folder: of the shards.

    Raises:
        FileNotFoundError: there is no shard; the message says how to draw some.
        ValueError: a shard is damaged; the message names it.
    """

    def __init__(self, folder: Path | str):
        self.paths = sorted(Path(folder).glob("[0-9]*.npz"))
        if not self.paths:
            raise FileNotFoundError(
                f"No scenes in {folder}: draw some with `python -m fdp_core.mini.bank --out {folder}`."
            )
        self.scenes: list[BankScene] = []
        for path in self.paths:
            with reading(path, "shard of a bank", "remove it and draw it again"), np.load(path) as file:
                jpegs, ends, lines = file["jpegs"], file["ends"], parse(file["things"].tobytes(), _Shard)
                if ends[-1] != len(jpegs):
                    raise ValueError(f"its pictures end at byte {ends[-1]} of {len(jpegs)}")
                for jpeg, things in zip(np.split(jpegs, ends[:-1]), lines, strict=True):
                    drawn = [SceneWord(t, np.array(p, np.float32), board, v, kind) for t, p, board, kind, v in things]
                    self.scenes.append(BankScene(jpeg, drawn))

    def __len__(self) -> int:
        return len(self.scenes)


def main() -> None:
    """Draw a bank from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bank; an existing one is completed")
    parser.add_argument("--backbone", choices=list(RECIPES), default="mini", help="which backbone shall learn from it")
    parser.add_argument("--scenes", type=int, default=BankRecipe.scenes)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--backgrounds", help="folder of photographs without text; default: $FDP_DATA/bsds500 if there")
    args = parser.parse_args()
    if args.scenes % SHARD:  # a part of a shard would never be completed when the bank grows
        parser.error(f"--scenes {args.scenes}: expected a multiple of {SHARD}, the scenes of one file")
    recipe = dataclasses.replace(RECIPES[args.backbone], scenes=args.scenes, seed=args.seed)
    render(args.out, recipe, scenery.folder(args.backgrounds), args.workers)


if __name__ == "__main__":
    main()

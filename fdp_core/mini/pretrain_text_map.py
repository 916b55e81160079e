"""Trains the fine text map on rendered scenes; the trunk stays frozen.

    python -m fdp_core.mini.pretrain_text_map --bank runs/bank --out runs/mini_text_map.safetensors

The same bank of scenes as the pre-training of ``mini``. Interrupt at any time: the file of the last save is kept, and
the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from fdp_core import backbones
from fdp_core.mini import scenery
from fdp_core.mini.bank import Bank, BankScene
from fdp_core.regions import boxes, crops, text_map
from fdp_core.retrieval import geometry
from fdp_core.training.state import load_optimiser, read_state, write_state

LOWEST = 6.0  # pixels: lower words are not judged


class Maps(torch.utils.data.Dataset):
    """Batch number i: parts of scenes and what the map should say, made from (seed, i) and the bank alone."""

    def __init__(self, bank: Bank, steps: int, batch: int = 8, size: int = 512, seed: int = 0):
        self.bank, self.steps, self.batch, self.size, self.seed = bank, steps, batch, size, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, step])
        scenes = [self.bank.scenes[int(rng.integers(len(self.bank)))] for _ in range(self.batch)]
        images, targets, ignored = zip(*(example(rng, scene, self.size) for scene in scenes))
        return tuple(torch.from_numpy(np.stack(part)) for part in (images, targets, ignored))


def example(rng: np.random.Generator, scene: BankScene, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut and damage a part of a scene: (uint8 [S, S, 3], target float32 [S/4, S/4], ignore bool [S/4, S/4])."""
    picture = scene.image()
    scale = float(np.exp(rng.uniform(np.log(0.6), np.log(1.4))))
    side = min(size / scale, picture.shape[0])
    scale = size / side
    corner = rng.uniform(0, picture.shape[0] - side, 2)
    x, y = corner
    quad = np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float32)
    image = scenery.camera(rng, scenery.light(rng, crops.cut(picture, quad, size, size)), 0.8)
    cells = size // text_map.STRIDE
    fine = np.zeros((2 * cells, 2 * cells), np.uint8)  # drawn at twice the map's size, then averaged
    ignore = np.zeros((cells, cells), np.uint8)
    for i, polygon in enumerate(scene.polygons):
        if not scene.is_word[i]:
            continue
        moved = (polygon - corner) * scale
        if (moved.max(0) < 0).any() or (moved.min(0) > size).any():
            continue
        if not scene.visible[i] or min(np.ptp(moved, axis=0)) < LOWEST:
            cv2.fillPoly(ignore, [np.round(moved / text_map.STRIDE - 0.5).astype(np.int32)], 1)
            continue
        kernel = geometry.shrink_polygon(moved, boxes.SHRINK)
        for part in getattr(kernel, "geoms", [kernel]):
            if not part.is_empty:
                outline = np.array(part.exterior.coords) * 2 / text_map.STRIDE - 0.5
                cv2.fillPoly(fine, [np.round(outline).astype(np.int32)], 1)
    target = fine.reshape(cells, 2, cells, 2).mean((1, 3), dtype=np.float32)
    return image, target, (ignore > 0) & (target == 0)


def train(
    out: Path,
    backbone: backbones.Backbone,
    bank: Bank,
    steps: int,
    lr: float,
    batch: int,
    seed: int,
    workers: int = 1,
) -> None:
    """Train, or go on where the file ``out`` with its ``.state`` beside it stopped; writes both every 100 steps."""
    clip = backbone.clip.to(memory_format=torch.channels_last)
    probe = torch.zeros(1, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.no_grad():
        widths = tuple(level.shape[1] for level in backbones.run_levels(clip, probe, 3))
    torch.manual_seed(seed)
    model = text_map.TextMap(widths).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01, fused=True)
    facts = {"steps": steps, "lr": lr, "batch": batch, "seed": seed, "scenes": len(bank)}
    state, first = out.with_suffix(".state"), 0
    if kept := read_state(state):
        if kept["facts"] != facts or kept["lower_hash"] != text_map.lower_hash(backbone):
            raise ValueError(f"{state} was made by another run: {kept['facts']}. Use another --out or remove it.")
        model.load_state_dict(kept["model"])
        load_optimiser(optimiser, kept["optimiser"])
        first = kept["step"]
    data = torch.utils.data.Subset(Maps(bank, steps, batch, seed=seed), range(first, steps))
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=workers, prefetch_factor=6 if workers else None
    )
    began, average = time.time(), None
    model.train()
    for step, (images, target, ignore) in enumerate(loader, start=first):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                levels = backbones.run_levels(clip, backbone.normalise(images), 3)
            logits = model(levels).float()
        value = text_map.loss(logits, target, ignore)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        average = float(value.detach()) if average is None else 0.98 * average + 0.02 * float(value.detach())
        if step % 20 == 0:
            line = {"step": step, "loss": round(average, 4), "seconds": round(time.time() - began, 1)}
            print(json.dumps(line), flush=True)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            text_map.save(out, model, backbone, {**facts, "step": step + 1})
            kept = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            kept |= {"facts": facts, "lower_hash": text_map.lower_hash(backbone)}
            write_state(state, kept)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, required=True, help="folder of the scenes, from fdp_core.mini.bank")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--backbone", default="mini", choices=backbones.NAMES)
    parser.add_argument("--weights", type=Path, help="another file of mini's weights")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that cut and damage")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's default")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    backbone = backbones.load(args.backbone, weights_file=args.weights)
    try:
        train(args.out, backbone, Bank(args.bank), args.steps, args.lr, args.batch, args.seed, args.workers)
    except KeyboardInterrupt:
        print("Interrupted: the last saved step is kept; run the same command to go on.")


if __name__ == "__main__":
    main()

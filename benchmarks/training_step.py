"""A training step by every rung of the ladder from the direct way to ours, and the first epoch.

    FDP_DATA=... python benchmarks/training_step.py --backbone RN50 --batch 48 --rounds 2

The direct step runs the frozen trunk on every sample, fills texts up to the tower's context and asks for each word's
kind anew (fdp_core/studies/plain_step.py). Weights are random but mini's: a step takes as long whatever they are.
Reading and decoding count for ours alone, when the cache is filled. Times are the process's own. Writes a record.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from fdp_core import backbones, config, datasets, words
from fdp_core.distract import Distractors
from fdp_core.model import FDP
from fdp_core.studies import plain_step, speed


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="RN50")
    parser.add_argument("--dataset", default="svt")
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=48, help="samples, an image and one of its words each")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rungs", choices=("all", "ends"), default="all", help="ends: direct and ours alone")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    gallery, _ = datasets.load(args.dataset, "train")
    # the released code: a distractor takes the kind of its word (C8)
    settings = config.preset("default", image_size=args.image_size, distractor_cluster="anchor", probe_dropout=0.0)
    pretrained = args.backbone == "mini"
    model = FDP(
        backbones.load(args.backbone, pretrained=pretrained), settings, words=words.english_words()[:500]
    ).train()
    data, squares, fill = speed.lesson(model, gallery, args.batch)
    # The batch is drawn from all words of so many images as hold them, as training draws it
    order = np.random.default_rng(0).permutation(len(data.samples))
    batch = [data.samples[i] for i in order[: args.batch]]
    distractors = Distractors([*words.english_words()[:20_000]], [word for _, word in batch], settings.candidates)
    ladder = plain_step.ladder()
    if args.rungs == "ends":
        ladder = {name: ladder[name] for name in (list(ladder)[0], list(ladder)[-1])}
    ways = speed.step_ways(model, data, squares, batch, distractors, ladder)
    losses = {name: way() for name, way in ways.items()}  # also the warm-up
    print("losses:", {name: round(loss, 4) for name, loss in losses.items()})
    timings = speed.take_turns(ways, args.rounds, warm_up=0)
    first, last = list(ways)[0], list(ways)[-1]
    direct = timings.median(first, "cpu")
    values: dict[str, float] = {}
    for name in ways:
        values |= speed.spread(f"{name}, % of direct", timings.ratio(name, first, "cpu"))
        print(f"{name}: {timings.ratio(name, first, 'cpu')}")
    warm = timings.ratio(last, first, "cpu")
    each = len(data.samples) / len(data.ids)
    for label, images in (("as the set has them", args.batch / each), ("one word an image", args.batch)):
        ratio = speed.first_epoch(warm, fill, images, direct)
        values |= speed.spread(f"first epoch, {label}, % of direct", ratio)
        print(f"first epoch, {label}: {ratio}")
    values |= {f"{name}, CPU s": timings.median(name, "cpu") for name in ways}
    values |= {"filling the cache, CPU s an image": fill, "samples an image": each}
    values |= {
        "distinct texts": float(len({word for _, word in batch})),
        "largest difference of the losses": (max(losses.values()) - min(losses.values())),
    }
    values["seconds of the process over the clock's"] = timings.busy()
    protocol = f"{args.rounds} rounds in turn, batch {len(batch)}, {settings.candidates} candidates; CPU seconds"
    facts = {"set": gallery.name, "split": "train", "images": len(data.ids), "manifest_hash": gallery.manifest_hash}
    seconds = sum(map(sum, timings.wall.values()))
    metric = f"{last}, % of direct"
    print(speed.record("training step", metric, values, protocol, vars(args), model=model, seconds=seconds, **facts))


if __name__ == "__main__":
    main()

"""FDP's cost over its bare trunk, and the trunk's operations a second over those of a product of matrices.

    python benchmarks/trunk_speed.py --backbone mini --threads 1
    python benchmarks/trunk_speed.py --backbone RN50 --batch 1 --threads 2 --clock wall

All ways take turns. On a shared machine use one thread and the process's own clock (--clock cpu, the default); two
threads need a quiet machine and --clock wall, as PyTorch's threads wait by computing. RN50 and its like get random
weights: a product takes as long whatever the numbers. Writes a record to book/results.
"""

from __future__ import annotations

import argparse

import torch

from fdp_core import backbones, checkpoint, config
from fdp_core.model import FDP
from fdp_core.retrieval import fast_trunk
from fdp_core.studies import speed


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.backbone == "mini":
        model = checkpoint.load(checkpoint.SHIPPED).eval()
    else:
        settings = config.preset("default", image_size=args.image_size)
        model = FDP(backbones.load(args.backbone, pretrained=False), settings).eval()
    timings = speed.take_turns(speed.trunk_ways(model, args.image_size, args.batch), args.rounds)
    count = speed.operations(model, args.image_size, args.batch)
    values: dict[str, float] = {"operations of the trunk, GFLOP": count / 1e9 / args.batch}
    for name in fast_trunk.PRECISIONS:
        cost = timings.ratio(f"FDP, {name}", f"trunk, {name}", args.clock)
        share = speed.trunk_share(timings, count, name, args.clock)
        gain = timings.ratio(f"trunk, {name}", "trunk as it is", args.clock)
        values |= speed.spread(f"FDP over trunk, {name}, %", cost)
        values |= speed.spread(f"trunk over product, {name}, %", share)
        values |= speed.spread(f"trunk over trunk as it is, {name}, %", gain)
        print(f"{name}: FDP / trunk {cost}; trunk / product {share}; trunk / as it is {gain}")
    values |= {f"{name}, ms": 1000 * timings.median(name, args.clock) for name in timings.cpu}
    values["seconds of the process over the clock's"] = timings.busy()
    print("unstable:", *timings.unstable(args.clock) or ["none"], f"; busy {timings.busy():.2f}")
    metric = "FDP over trunk, float32, %"
    protocol = (
        f"{args.rounds} rounds in turn on noise, batch {args.batch}; clock: {args.clock}; random weights but mini's"
    )
    seconds = sum(map(sum, timings.wall.values()))
    print(speed.record("trunk speed", metric, values, protocol, vars(args), model=model, seconds=seconds).name)


if __name__ == "__main__":
    main()

"""The ablation grid of chapter 06: every row with several seeds, one line a run in book/results/ablations.jsonl.

    FDP_DATA=... python benchmarks/ablations.py --sets mini,svt --seeds 0,1,2

Goes on where it was interrupted: a run of the same switches, seed, weights and photographs that has its record is not
repeated. The rows of the parts that the paper names come first, for all seeds, then what costs more, then the finer
switches.
Test sets are measured here, and nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import time

import torch

from fdp_core import backbones, datasets
from fdp_core.evaluation import provenance
from fdp_core.studies import ablation_grid, ablation_runs


def main() -> None:
    """Run what has no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="mini,svt", help="where to measure, by comma")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default="", help="names of rows, by comma; all by default")
    parser.add_argument("--tiers", default="1,2,3")
    parser.add_argument("--train-set", default="mini_train")
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--epochs", type=int, default=ablation_grid.RECIPE["epochs"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's own choice")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    names = [name.strip() for name in args.rows.split(",") if name.strip()]
    rows = ablation_grid.named(names) if names else list(ablation_grid.GRID)
    recipe = {} if args.epochs == ablation_grid.RECIPE["epochs"] else {"epochs": args.epochs}
    lab = ablation_runs.Lab(
        backbones.load(args.backbone, device=args.device),
        [datasets.load(name.strip(), "train")[0] for name in args.train_set.split("+")],
        {name.strip(): datasets.load(name.strip(), "test") for name in args.sets.split(",")},
        provenance.cache_folder("features"),
    )
    seeds = [int(seed) for seed in args.seeds.split(",")]
    todo = [
        (row, seed)
        for tier in sorted(int(tier) for tier in args.tiers.split(","))
        for seed in seeds
        for row in rows
        if row.tier == tier and (row.config(seed, **recipe).epochs or seed == seeds[0])  # untrained: nothing is random
    ]
    for number, (row, seed) in enumerate(todo, 1):
        begin = time.process_time()
        new = ablation_runs.run(lab, row, seed, ablation_grid.load(), **recipe)
        if new:
            ablation_grid.keep(new)
        told = "".join(f", {r['set']} {r['mAP']:.1f}" for r in new if r["map"] == "learned") or ": has its records"
        spent = time.process_time() - begin
        print(f"{number}/{len(todo)} {row.name}, seed {seed}{told}; {spent:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()

"""Peak memory of indexing few and many photographs, each count in a process of its own.

    FDP_DATA=... python benchmarks/index_memory.py --counts 1000 50000

The files repeat. The gallery's list of names is there beforehand; what is measured is by how much the peak of the
resident memory grows between the end of the first slice and the end. FDP around mini encodes at --image-size, so
that fifty thousand take minutes; the size changes what one batch takes, not what fifty thousand add. Writes a record.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fdp_core import backbones, config, datasets
from fdp_core.datasets import Photo
from fdp_core.model import FDP
from fdp_core.retrieval import index, systems
from fdp_core.studies import speed
from fdp_core.studies.speed import peak_memory


def child(args: argparse.Namespace, count: int) -> dict[str, float]:
    """Index ``count`` photographs and return what that took, bytes and seconds."""
    torch.set_num_threads(args.threads)
    gallery, _ = datasets.load(args.dataset, "test")
    small = Path(args.folder)
    files = sorted(small.iterdir())
    photos = tuple(Photo(f"{n:06d}", files[n % len(files)], ()) for n in range(count))
    model = FDP(backbones.load("mini"), config.preset("default", image_size=args.image_size)).eval()
    system = systems.fdp(model, progress=False, batch_size=32)
    many = dataclasses.replace(gallery, photos=photos)
    index.write(system, dataclasses.replace(gallery, photos=photos[: 2 * index.SLICE]), small.parent / "w")
    before, start = peak_memory(), time.process_time()
    path = index.write(system, many, small.parent / "index")
    return {
        "growth": peak_memory() - before,
        "peak": peak_memory(),
        "file": path.stat().st_size,
        "seconds": time.process_time() - start,
    }


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mini")
    parser.add_argument("--counts", type=int, nargs=2, default=[1000, 50_000])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args, args.child)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small"
        small.mkdir()
        gallery, _ = datasets.load(args.dataset, "test")
        for photo in gallery.photos[:20]:  # small files: fifty thousand are decoded
            from PIL import Image

            with Image.open(photo.path) as image:
                image.convert("RGB").resize((128, 96)).save(small / f"{Path(photo.path).stem}.jpg")
        for count in args.counts:
            command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(small), "--child", str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[count] = json.loads(done.stdout.splitlines()[-1])
            print(count, found[count])
    few, many = args.counts
    values = {f"{key}, {count} photographs": value for count, line in found.items() for key, value in line.items()}
    values["bytes of memory a photograph"] = (found[many]["growth"] - found[few]["growth"]) / (many - few)
    values["bytes of the file a photograph"] = found[many]["file"] / many
    values["peak of many over peak of few, %"] = 100 * found[many]["peak"] / found[few]["peak"]
    protocol = (
        f"repeated small files at {args.image_size} pixels, each count in a process of its own; peak resident memory"
    )
    parameters = {key: value for key, value in vars(args).items() if key not in ("folder", "child")}
    seconds = sum(line["seconds"] for line in found.values())
    model = FDP(backbones.load("mini"), config.preset("default"))
    metric = "peak of many over peak of few, %"
    facts = {"set": args.dataset, "split": "test", "images": many, "seconds": seconds}
    print(speed.record("index memory", metric, values, protocol, parameters, model=model, **facts).name)


if __name__ == "__main__":
    main()

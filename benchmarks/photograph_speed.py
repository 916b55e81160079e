"""Seconds a photograph, FDP with regions beside the OCR pipeline, on the same photographs in one run.

    FDP_DATA=... python benchmarks/photograph_speed.py --dataset svt --count 40 --rounds 5

The systems take turns on the same photographs, so that whatever else the machine does hits all; only the ratio means
anything. Each has a process of its own, or the threads of one library would stand in the way of another's, and reads
and decodes the files itself. The OCR pipeline runs with the fastest engine that is installed
(`make ocr`), at the long side that its accuracy in the records was measured at, both ways: one photograph after the
other on all cores, and as many photographs at once as there are cores. The faster of the two is what all are compared
with. Writes a record to book/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import time
from typing import Any

import torch

from fdp_core import checkpoint, datasets
from fdp_core.regions.settings import FAST, Glance
from fdp_core.regions.system import RegionSystem
from fdp_core.retrieval import systems
from fdp_core.studies import speed
from fdp_core.studies.speed import Timings

FASTEST = "FDP + regions, fast"


LOOKS = {
    "FDP + regions": Glance(),
    "FDP + regions, bfloat16": Glance(precision="bfloat16"),
    "FDP + regions, OpenVINO": Glance(engine="openvino", precision="bfloat16"),
    FASTEST: FAST,
}
RIVALS = {"OCR pipeline": 1, "OCR pipeline, parallel": 2}  # readers at once
SYSTEMS = ("FDP", *LOOKS, *RIVALS)


def make(name: str, long_side: int) -> Any:
    """Make a system by its name."""
    if name in RIVALS:
        return systems.ocr(long_side=long_side, workers=RIVALS[name], progress=False)
    model = checkpoint.load(checkpoint.SHIPPED)
    return RegionSystem(model, LOOKS[name], progress=False) if name in LOOKS else systems.fdp(model, progress=False)


def describe(system: Any, gallery: Any) -> None:
    """Describe all photographs of a gallery: encode them, or read them."""
    if hasattr(system, "encode_gallery"):
        system.encode_gallery(gallery)
    else:
        system.words(gallery)
        system.forget()  # or the next round would time a dictionary


def serve(pipe: Any, name: str, gallery: Any, threads: int, long_side: int) -> None:
    """Describe the gallery whenever the pipe asks, and answer how many seconds it took."""
    torch.set_num_threads(threads)
    system = make(name, long_side)
    describe(system, dataclasses.replace(gallery, photos=gallery.photos[:8]))  # warm up
    pipe.send(getattr(system, "version", ""))
    while pipe.recv():
        start = time.perf_counter()
        describe(system, gallery)
        pipe.send(time.perf_counter() - start)


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="svt")
    parser.add_argument("--count", type=int, default=40, help="photographs, the first of the test split")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="torch threads; the OCR engine takes its own default")
    parser.add_argument("--long-side", type=int, default=960, help="of the OCR pipeline's input, pixels")
    args = parser.parse_args()
    gallery, _ = datasets.load(args.dataset, "test")
    gallery = dataclasses.replace(gallery, photos=gallery.photos[: args.count])
    context, pipes, versions = multiprocessing.get_context("spawn"), {}, {}
    for name in SYSTEMS:  # one after the other: compiling takes all cores
        pipes[name], theirs = context.Pipe()
        given = theirs, name, gallery, args.threads, args.long_side
        context.Process(target=serve, args=given, daemon=True).start()
        theirs.close()  # a process that dies ends the wait
        versions[name] = pipes[name].recv()
    took: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    for _ in range(args.rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            took[name].append(pipe.recv() / len(gallery))
    for pipe in pipes.values():
        pipe.send(False)
    timings = Timings(wall=took, cpu={})
    rival = min(RIVALS, key=timings.median)
    values: dict[str, float] = {}
    for name in SYSTEMS:
        ratio, milliseconds = timings.ratio(name, rival), 1000 * timings.median(name)
        values |= speed.spread(f"{name}, % of OCR", ratio) | {f"{name}, ms": milliseconds}
        print(f"{name}: {milliseconds:.1f} ms, {100 * ratio.median:.1f} % of the OCR's")
    protocol = f"{args.rounds} rounds in turn over {len(gallery)} photographs; read, decode, encode or read words"
    parameters = {**vars(args), "ocr": versions[rival], "rival": rival}
    facts = {"set": gallery.name, "split": gallery.split, "images": len(gallery)}
    facts |= {"manifest_hash": gallery.manifest_hash, "seconds": sum(map(sum, took.values())) * len(gallery)}
    model = checkpoint.load(checkpoint.SHIPPED)
    print(speed.record("speed", f"{FASTEST}, % of OCR", values, protocol, parameters, model=model, **facts).name)


if __name__ == "__main__":
    main()

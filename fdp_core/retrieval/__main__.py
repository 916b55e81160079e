"""Bring an index up to date: ``python -m fdp_core.retrieval embed FOLDER_OR_LISTING --index URI``."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import sys
from pathlib import Path

import torch

import fdp_core
from fdp_core.checkpoint import SHIPPED
from fdp_core.config import Whole, check
from fdp_core.datasets import DatasetMissing, Gallery, Photo, images, load_folder
from fdp_core.retrieval import cluster
from fdp_core.retrieval.index import MEMORY
from fdp_core.retrieval.vectors import Embedder


def photographs(file: Path) -> Gallery:
    """Return the photographs of a folder, or those that a text file lists, a path a line, relative to it."""
    if not file.is_file():
        return load_folder(file)
    names = dict.fromkeys(os.fsdecode(line) for line in file.read_bytes().splitlines() if line.strip())
    photos = tuple(Photo(images.printable(name), file.parent / name) for name in names)
    return Gallery(file.stem, "test", photos, manifest_hash="", may_show=False)


def system(model: str) -> Embedder:
    """Load what encodes an index that a user gets without asking, on the GPU where there is one."""
    loaded = fdp_core.load(model, device="cuda" if torch.cuda.is_available() else "cpu")
    return fdp_core.Index.open(MEMORY, loaded).system


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fdp_core.retrieval", description=__doc__)
    sub = parser.add_subparsers(dest="command", required=True).add_parser("embed", help="encode what is new")
    sub.add_argument("photographs", type=Path, metavar="FOLDER_OR_LISTING", help="a folder, or a text file of paths")
    sub.add_argument("--index", required=True, metavar="URI", help="a folder, or an address such as s3://...")
    sub.add_argument("--model", default=str(SHIPPED), help="best.safetensors of a training (default: the shipped FDP)")
    workers = max(1, (os.cpu_count() or 2) // 2) if importlib.util.find_spec("ray") else 0
    sub.add_argument("--workers", type=int, default=workers, help="of Ray, 0: this process (default: %(default)s)")
    options = parser.parse_args(arguments)
    stream = functools.partial(cluster.stream, functools.partial(system, options.model), options.workers)
    try:
        check("--workers", options.workers, Whole)
        opened = fdp_core.Index.open(options.index, system(options.model))
        print(opened.update(photographs(options.photographs), stream=stream if options.workers else None))
    except (DatasetMissing, ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

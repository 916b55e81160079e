"""The long measurements of chapter 10; each writes a record: ``python -m fdp_core.studies.speed_runs NAME --help``.

    FDP_DATA=... python -m fdp_core.studies.speed_runs photograph_speed --dataset svt --count 40 --rounds 5
    FDP_DATA=... python -m fdp_core.studies.speed_runs query_latency --count 1000000 --width 1024
    FDP_DATA=... python -m fdp_core.studies.speed_runs training_step --backbone RN50 --batch 48
    python -m fdp_core.studies.speed_runs trunk_speed --backbone RN50 --threads 2 --clock wall
    python -m fdp_core.studies.speed_runs index_scale --count 50000 --per 20

With one thread the clock is the process's own; two threads need a quiet machine and the clock on the wall.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from fdp_core import backbones, checkpoint, config, datasets, words
from fdp_core.datasets import Gallery, Photo
from fdp_core.distract import Distractors
from fdp_core.evaluation import results
from fdp_core.model import FDP
from fdp_core.regions.settings import RegionOptions
from fdp_core.regions.system import RegionSystem
from fdp_core.retrieval import fast_trunk, index, systems
from fdp_core.retrieval.compiled import OpenVinoMissing
from fdp_core.retrieval.ocr import OcrMissing
from fdp_core.retrieval.vectors import Embedder, Scorer, VectorSets
from fdp_core.studies import baseline_step, speed, vector_search

REGIONS = {
    "FDP + regions, eight bits": RegionOptions(precision="eight bits"),  # the default where OpenVINO is installed
    "FDP + regions": RegionOptions(precision="float32"),
    "FDP + regions, PyTorch": RegionOptions(engine="torch", precision="float32"),
}
SINGLE = {"FDP": None, "FDP, OpenVINO": "openvino"}  # one vector a photograph
RIVALS = {"OCR pipeline": 1, "OCR pipeline, parallel": 2}  # readers at once
HELP = {
    "backbone": "mini, or RN50 and its like with random weights, which take as long as trained ones",
    "count": "photographs, the first of the test split; of query_latency: vectors",
    "kind": "vectors between real neighbours, or random directions",
    "long_side": "of the OCR pipeline's input, pixels",
    "per": "vectors a photograph",
    "photographs": "whose region vectors are the real ones",
    "rungs": "ends: the baseline step and the library's alone",
    "threads": "of PyTorch; the OCR engine takes its own default",
    "width": "of the vectors; 0: the model's own",
}
CHOICES = {"clock": ("cpu", "wall"), "kind": ("clustered", "gaussian"), "rungs": ("all", "ends")}


def _finish(
    args: argparse.Namespace,
    system: str,
    metric: str,
    values: dict[str, float],
    protocol: str,
    timings: speed.Timings,
    gallery: Gallery | None = None,
    **facts: object,
) -> None:
    """Print the values and write the record."""
    if timings.cpu:
        values["seconds of the process over the clock's"] = timings.busy()
    for name, value in values.items():
        print(f"{name}: {value:.4g}")
    if gallery:
        facts |= {"set": gallery.name, "split": gallery.split, "manifest_hash": gallery.manifest_hash}
    parameters = {key: value for key, value in vars(args).items() if key != "name"} | facts.pop("found", {})
    facts = {"seconds": timings.seconds(), **facts, "protocol": protocol, "parameters": parameters}
    print(results.save(results.measurement(system, metric, values, **facts)).name)


def _describe(system: Embedder | Scorer, gallery: Gallery) -> None:
    """Encode or read all photographs."""
    if hasattr(system, "encode_gallery"):
        system.encode_gallery(gallery)
    else:
        system.words(gallery)
        system.forget()  # or the next round would time a dictionary


def _serve(pipe: Connection, name: str, gallery: Gallery, threads: int, long_side: int) -> None:
    """Describe the gallery whenever the pipe asks, and answer how many seconds it took."""
    torch.set_num_threads(threads)
    try:
        if name in RIVALS:
            system = systems.ocr(long_side=long_side, workers=RIVALS[name], progress=False)
        else:
            model = checkpoint.load(checkpoint.SHIPPED)
            if name in REGIONS:
                system = RegionSystem(model, REGIONS[name], progress=False)
            else:
                system = systems.fdp(model, progress=False, precision=SINGLE[name])
    except (OcrMissing, OpenVinoMissing) as error:
        return pipe.send(error)
    _describe(system, dataclasses.replace(gallery, photos=gallery.photos[:8]))  # warm up
    pipe.send(getattr(system, "version", ""))
    while pipe.recv():
        start = time.perf_counter()
        _describe(system, gallery)
        pipe.send(time.perf_counter() - start)


def photograph_speed(args: argparse.Namespace) -> None:
    """Seconds a photograph, FDP with regions beside the OCR pipeline, on the same photographs in one run.

    The systems take turns, each in a process of its own, or the threads of one library would slow down another's; each
    reads and decodes the files itself. The OCR pipeline runs with the fastest engine that is installed (`make ocr`),
    one photograph after the other and two at once; the faster of both is what all are compared with. Without the extras
    of `make ocr` it stops and says which is missing.
    """
    gallery, _ = datasets.load(args.dataset, "test")
    gallery = dataclasses.replace(gallery, photos=gallery.photos[: args.count])
    context, pipes, versions = multiprocessing.get_context("spawn"), {}, {}
    names = (*SINGLE, *REGIONS, *RIVALS)
    # the OCR pipeline first: it may be missing; one after the other: compiling takes all cores
    for name in sorted(names, key=lambda name: name not in RIVALS):
        pipes[name], theirs = context.Pipe()
        given = theirs, name, gallery, args.threads, args.long_side
        context.Process(target=_serve, args=given, daemon=True).start()
        theirs.close()  # a process that dies ends the wait
        versions[name] = pipes[name].recv()
        if isinstance(versions[name], Exception):
            raise versions[name]
    took: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            took[name].append(pipe.recv() / len(gallery))
    for pipe in pipes.values():
        pipe.send(False)
    timings = speed.Timings(wall=took, cpu={})
    rival = min(RIVALS, key=timings.median)
    values: dict[str, float] = {}
    for name in names:
        values |= speed.spread(f"{name}, % of OCR", timings.ratio(name, rival))
        values[f"{name}, ms"] = 1000 * timings.median(name)
    protocol = f"{args.rounds} rounds in turn over {len(gallery)} photographs; read, decode, encode or read words"
    facts = {"images": len(gallery), "seconds": timings.seconds() * len(gallery)}
    facts |= {"found": {"ocr": versions[rival], "rival": rival}, "model": checkpoint.load(checkpoint.SHIPPED)}
    _finish(args, "speed", f"{next(iter(REGIONS))}, % of OCR", values, protocol, timings, gallery, **facts)


def query_latency(args: argparse.Namespace) -> None:
    """How long a query takes: encoding its text, and reading many vectors.

    The vectors lie between neighbouring region vectors of a real set, or are random directions (--kind gaussian). The
    queries are the real ones of the set. A --width above the model's own turns everything into a wider space.
    """
    model = checkpoint.load(checkpoint.SHIPPED).eval()
    gallery, queries = datasets.load(args.dataset, "test")
    system = RegionSystem(model, progress=False)
    texts = list(queries.texts)[: args.queries]
    encoded = system.encode_queries(texts)
    width = args.width or encoded.shape[1]
    encoded = vector_search.turned(encoded, width)  # products stay what they are
    if args.kind == "gaussian":
        vectors = vector_search.gaussian(args.count, width)
    else:
        few = dataclasses.replace(gallery, photos=gallery.photos[: args.photographs])
        real = system.encode_gallery(few).vectors
        vectors = vector_search.jittered(vector_search.turned(real, width), args.count)
    sets, turn = VectorSets.of(vectors), iter(range(10**9))
    ways: dict[str, Callable[[], object]] = {
        "text": lambda: system.encode_queries([texts[next(turn) % len(texts)]]),
        "exact": lambda: sets.nearest(encoded[next(turn) % len(encoded)], 10),
    }
    timings = speed.take_turns(ways, args.rounds * len(encoded), warm_up=3)
    values = {f"{name}, ms": 1000 * timings.median(name, args.clock) for name in ways}
    for name in ways:
        values |= speed.spread(f"{name}, % of exact", timings.ratio(name, "exact", args.clock))
    values["text and exact, ms"] = values["text, ms"] + values["exact, ms"]
    values |= {"vectors": args.count, "dimensions": width, "bytes of the vectors": vectors.nbytes}
    told = f"{args.rounds} rounds over {len(encoded)} queries one by one, in turn"
    protocol = f"{told}; {args.kind} vectors; clock: {args.clock}"
    facts = {"queries": len(encoded), "model": model}
    _finish(args, "query", "text and exact, ms", values, protocol, timings, gallery, **facts)


def training_step(args: argparse.Namespace) -> None:
    """A training step by every rung of the ladder from the baseline to the library's, and the first epoch.

    The baseline runs the frozen trunk on every sample, fills texts up to the tower's context and asks for each word's
    kind anew. Reading and decoding count only for the library's, when the cache is filled. Seconds are the process's.
    """
    gallery, _ = datasets.load(args.dataset, "train")
    # the released code: a distractor takes the kind of its word (C8)
    settings = config.preset("default", image_size=args.image_size, distractor_cluster="anchor", probe_dropout=0.0)
    clip = backbones.load(args.backbone, pretrained=args.backbone == "mini")
    model = FDP(clip, settings, words=words.english_words()[:500]).train()
    data, squares, fill = speed.lesson(model, gallery, args.batch)
    # the batch is drawn from all words of so many images as hold them, as training draws it
    order = np.random.default_rng(0).permutation(len(data.samples))
    batch = [data.samples[i] for i in order[: args.batch]]
    distractors = Distractors([*words.english_words()[:20_000]], [word for _, word in batch], settings.candidates)
    ladder = baseline_step.ladder()
    first, last = list(ladder)[0], list(ladder)[-1]
    if args.rungs == "ends":
        ladder = {name: ladder[name] for name in (first, last)}
    ways = speed.step_ways(model, data, squares, batch, distractors, ladder)
    losses = {name: way() for name, way in ways.items()}  # also the warm-up
    timings = speed.take_turns(ways, args.rounds, warm_up=0)
    baseline = timings.median(first, "cpu")
    values: dict[str, float] = {}
    for name in ways:
        values |= speed.spread(f"{name}, % of direct", timings.ratio(name, first, "cpu"))
    warm, each = timings.ratio(last, first, "cpu"), len(data.samples) / len(data.ids)
    for label, images in (("as the set has them", args.batch / each), ("one word an image", args.batch)):
        ratio = speed.first_epoch(warm, fill, images, baseline)
        values |= speed.spread(f"first epoch, {label}, % of direct", ratio)
    values |= {f"{name}, CPU s": timings.median(name, "cpu") for name in ways}
    values |= {"filling the cache, CPU s an image": fill, "samples an image": each}
    values["distinct texts"] = float(len({word for _, word in batch}))
    values["largest difference of the losses"] = max(losses.values()) - min(losses.values())
    protocol = f"{args.rounds} rounds in turn, batch {len(batch)}, {settings.candidates} candidates; CPU seconds"
    facts = {"images": len(data.ids), "model": model}
    _finish(args, "training step", f"{last}, % of direct", values, protocol, timings, gallery, **facts)


def trunk_speed(args: argparse.Namespace) -> None:
    """FDP's cost over its bare trunk, and the trunk's operations a second over those of a product of matrices."""
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
        gain = timings.ratio(f"trunk, {name}", "trunk as it is", args.clock)
        values |= speed.spread(f"FDP over trunk, {name}, %", cost)
        values |= speed.spread(f"trunk over product, {name}, %", speed.trunk_share(timings, count, name, args.clock))
        values |= speed.spread(f"trunk over trunk as it is, {name}, %", gain)
    values |= {f"{name}, ms": 1000 * timings.median(name, args.clock) for name in timings.cpu}
    print("unstable:", *timings.unstable(args.clock) or ["none"])
    told = f"{args.rounds} rounds in turn on noise, batch {args.batch}"
    protocol = f"{told}; clock: {args.clock}; random weights but mini's"
    _finish(args, "trunk speed", "FDP over trunk, float32, %", values, protocol, timings, model=model)


def index_scale(args: argparse.Namespace) -> None:
    """An index of made region vectors beside exact NumPy: recall@10, ms a query, update, memory, bytes on disk.

    The vectors lie between neighbouring region vectors of a real set, --per of them a photograph, with a handicap as
    the word finder gives it. Photographs are a few bytes in memory, so that all but the encoding is timed. Memory is
    how far the peak of the resident memory rises above what it was before.
    """
    model = checkpoint.load(checkpoint.SHIPPED).eval()
    gallery, queries = datasets.load(args.dataset, "test")
    few = dataclasses.replace(gallery, photos=gallery.photos[: args.photographs])
    regions = RegionSystem(model, progress=False)
    made = _Made(regions, regions.encode_gallery(few).vectors, args.per)
    photos = tuple(Photo(f"{n:07d}", Path(f"{n:07d}"), data=f"{n}".encode()) for n in range(args.count))
    texts, values = list(queries.texts)[: args.queries], {}
    with tempfile.TemporaryDirectory() as folder:
        opened, start, before = index.Index.open(folder, made), time.perf_counter(), speed.peak_memory()
        opened.update(dataclasses.replace(gallery, photos=photos[:-10]))
        values["build, s"] = time.perf_counter() - start
        values["memory of build, bytes"] = speed.peak_memory() - before
        start = time.perf_counter()
        opened.update(dataclasses.replace(gallery, photos=photos), progress=False)
        values["update of 10 photographs, s"] = time.perf_counter() - start
        values["disk, bytes"] = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        others = [word for word in words.english_words() if word not in queries.texts][::40][: 2 * len(texts)]
        everything = [*texts, *others]
        before, encoded = speed.peak_memory(), dict(zip(everything, regions.encode_queries(everything)))
        made.encode_queries = lambda texts: np.array([encoded[text] for text in texts])  # the search alone is timed
        turn = iter(range(10**9))
        ways = {"index": lambda: opened.search(texts[next(turn) % len(texts)])}
        timings = speed.take_turns(ways, args.rounds * len(texts), warm_up=3)
        values["memory of search, bytes"] = speed.peak_memory() - before
        hits = [[hit.row for hit in opened.search(text)] for text in everything]
        sets = opened.sets  # from here on exact
        ways = {"exact": lambda: sets.nearest(encoded[texts[next(turn) % len(texts)]], 10)}
        exact = speed.take_turns(ways, args.rounds * len(texts), warm_up=1)
        right = []
        for text in everything:
            places, scores = sets.nearest(encoded[text], 10)
            right.append(places[np.argsort(-scores, kind="stable")[:10]])
    values["vectors"], values["bytes of the vectors"] = float(len(sets.vectors)), 2.0 * sets.vectors.size
    for name, times in (("index", timings), ("exact", exact)):
        values |= {f"{name}, ms": 1000 * times.median(name), f"{name}, CPU ms": 1000 * times.median(name, "cpu")}
    found, right = np.array(hits), np.array(right)
    values["recall@10, %"] = 100 * vector_search.recall(found[: len(texts)], right[: len(texts)])
    values["recall@10 of other words, %"] = 100 * vector_search.recall(found[len(texts) :], right[len(texts) :])
    protocol = f"{args.rounds} rounds over {len(texts)} queries one by one, recall of {len(others)} other words too"
    protocol += f"; made vectors; clock: wall, of which the process computed {timings.busy():.0%}"
    facts = {"queries": len(texts), "images": args.count, "model": model}
    _finish(args, "index scale", "recall@10, %", values, protocol, timings, gallery, **facts)


class _Made:
    """An embedder that makes vectors between real ones, the same for a slice that begins with the same photograph."""

    name, by_words = "made", False

    def __init__(self, system: RegionSystem, real: np.ndarray, per: int) -> None:
        self.real, self.per, self.encode_queries = real[:, :-1], per, system.encode_queries
        self.model_hash = f"made{per}{system.model_hash}"

    def encode_gallery(self, gallery: Gallery) -> VectorSets:
        """Return ``per`` vectors a photograph, [per * N, D + 1]."""
        count, seed = self.per * len(gallery), int(gallery.photos[0].id)
        handicap = -0.3 * np.random.default_rng(seed).random((count, 1), dtype=np.float32)
        vectors = np.hstack([vector_search.jittered(self.real, count, seed=seed), handicap])
        return VectorSets(vectors, np.arange(0, count + 1, self.per))


RUNS: dict[str, tuple[Callable[[argparse.Namespace], None], dict[str, object]]] = {
    "photograph_speed": (
        photograph_speed,
        {"dataset": "svt", "count": 40, "rounds": 5, "threads": 2, "long_side": 960},
    ),
    "query_latency": (
        query_latency,
        {"dataset": "svt", "photographs": 60, "count": 1_000_000, "width": 0, "kind": "clustered"}
        | {"queries": 40, "rounds": 5, "threads": 1, "clock": "cpu"},
    ),
    "training_step": (
        training_step,
        {"backbone": "RN50", "dataset": "svt", "image_size": 640, "batch": 48, "rounds": 2, "rungs": "all"}
        | {"threads": 1},
    ),
    "trunk_speed": (
        trunk_speed,
        {"backbone": "mini", "image_size": 640, "batch": 1, "rounds": 15, "threads": 1, "clock": "cpu"},
    ),
    "index_scale": (
        index_scale,
        {"dataset": "mini", "photographs": 40, "count": 50_000, "per": 20, "queries": 60, "rounds": 3, "threads": 1},
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record.

    Args:
        arguments: of the command line; None for those that the process was started with.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, (run, options) in RUNS.items():
        about = str(run.__doc__)
        command = commands.add_parser(name, help=about.splitlines()[0], description=about)
        for option, default in options.items():
            name, choices = f"--{option.replace('_', '-')}", CHOICES.get(option)
            command.add_argument(name, type=type(default), default=default, choices=choices, help=HELP.get(option, " "))
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    RUNS[args.name][0](args)


if __name__ == "__main__":
    main()

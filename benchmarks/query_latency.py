"""How long a query takes: prompted text encoding and search over many vectors, exact and by the large index.

    FDP_DATA=... python benchmarks/query_latency.py --count 1000000
    FDP_DATA=... python benchmarks/query_latency.py --count 1000000 --width 1024 --kind gaussian

The vectors lie between neighbouring region vectors of a real set (fdp_core/studies/vector_search.py), or anywhere on
the sphere (--kind gaussian: no clusters at all). The queries are the real ones of the set; the index's subspace is
that of frequent words that are none of them. --width above the model's own turns everything into a wider space: the
time is that of the wider vectors, the subspace still the model's own. Faiss joins in where it is installed.
Writes a record.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch

from fdp_core import checkpoint, datasets
from fdp_core.regions import settings
from fdp_core.regions.system import RegionSystem
from fdp_core.retrieval.index import Index
from fdp_core.studies import large_index, speed, vector_search


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="svt")
    parser.add_argument("--photographs", type=int, default=60, help="whose region vectors are the real ones")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=0, help="0: the model's own")
    parser.add_argument("--kind", choices=("clustered", "gaussian"), default="clustered")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = checkpoint.load(checkpoint.SHIPPED).eval()
    gallery, queries = datasets.load(args.dataset, "test")
    system = RegionSystem(model, settings.Glance(precision="bfloat16"), progress=False)
    texts = list(queries.texts)[: args.queries]
    asked, sample = system.encode_queries(texts), system.encode_queries(speed.frequent(queries.texts))
    width = args.width or asked.shape[1]
    asked, sample = (vector_search.turned(each, width) if args.width else each for each in (asked, sample))
    if args.kind == "gaussian":
        vectors = vector_search.gaussian(args.count, width)
    else:
        real = speed.regions_of(system, gallery, args.photographs)
        vectors = vector_search.jittered(vector_search.turned(real, width) if args.width else real, args.count)
    index = large_index.LargeIndex.build(vectors, sample)
    right, found = large_index.exact(vectors, asked), index.search(asked)
    ids, path = tuple(f"{n:07d}" for n in range(args.count)), Path("none.jpg")
    plain = Index(vectors, ids, (path,) * args.count, "", system=system)
    turn = iter(range(10**9))
    pick = lambda: asked[next(turn) % len(asked)][None]  # noqa: E731
    ways = {
        "text": lambda: system.encode_queries([texts[next(turn) % len(texts)]]),
        "exact": lambda: plain.sets.nearest(pick()[0], 10),
        "large index": lambda: index.search(pick()),
    }
    recalls = {"large index": large_index.recall(found.rows, right.rows)}
    if importlib.util.find_spec("faiss") is not None:
        more, ways_more = faiss(vectors, asked, right.rows, pick, args.threads)
        recalls, ways = recalls | more, ways | ways_more
    timings = speed.take_turns(ways, args.rounds * len(asked), warm_up=3)
    values = {f"{name}, ms": 1000 * timings.median(name, args.clock) for name in ways}
    values |= {f"{name}, recall@10, %": 100 * share for name, share in recalls.items()}
    for name in ways:
        values |= speed.spread(f"{name}, % of exact", timings.ratio(name, "exact", args.clock))
    for name in ("exact", "large index"):
        values[f"text and {name}, ms"] = values["text, ms"] + values[f"{name}, ms"]
    values |= {
        "surely exact answers, %": 100 * float(found.sure.mean()),
        "dimensions of the index": index.short.shape[1],
    }
    values |= {"vectors": args.count, "dimensions": width, "bytes of the vectors": vectors.nbytes}
    values |= {
        "bytes of the short copies": index.short.nbytes,
        "seconds of the process over the clock's": timings.busy(),
    }
    for name, value in values.items():
        print(f"{name}: {value:.4g}")
    protocol = (
        f"{args.rounds} rounds over {len(asked)} queries one by one, in turn; {args.kind} vectors; clock: {args.clock}"
    )
    facts = {"set": gallery.name, "split": "test", "queries": len(asked), "manifest_hash": gallery.manifest_hash}
    seconds = sum(map(sum, timings.wall.values()))
    metric = "text and large index, ms"
    print(speed.record("query", metric, values, protocol, vars(args), model=model, seconds=seconds, **facts).name)


def faiss(vectors: np.ndarray, asked: np.ndarray, right: np.ndarray, pick, threads: int) -> tuple[dict, dict]:
    """Build two indexes of Faiss, groups around centres and products of four bits, both scored again exactly."""
    import faiss as library

    library.omp_set_num_threads(threads)
    recalls, ways = {}, {}
    groups = max(1, round(2 * len(vectors) ** 0.5))
    half = vectors.shape[1] // 2
    grouped, products = f"IVF{groups},SQ8,RFlat", f"PQ{half}x4fs,RFlat"
    for names, recipe in (
        ({"Faiss, a twentieth of the groups": groups // 20, "Faiss, half of the groups": groups // 2}, grouped),
        ({"Faiss, 4-bit products": 0}, products),
    ):
        index = library.index_factory(vectors.shape[1], recipe, library.METRIC_INNER_PRODUCT)
        index.train(vectors[:: max(1, len(vectors) // (40 * groups))])
        index.add(vectors)
        index.k_factor = 100  # as many whole vectors as the large index reads
        for name, probes in names.items():

            def search(queries: np.ndarray, index=index, probes=probes) -> np.ndarray:
                if probes > 1:
                    library.extract_index_ivf(index).nprobe = probes
                return index.search(queries, 10)[1]

            recalls[name] = large_index.recall(search(asked), right)
            ways[name] = lambda search=search: search(pick())
    return recalls, ways


if __name__ == "__main__":
    main()

"""Embedding on Ray, on the cores of one machine or on the cluster that ``RAY_ADDRESS`` names.

Reading, decoding and encoding are a pipeline of Ray Data. Every machine has to see the photographs under the same
paths; only the process that asks writes to the index.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdp_core.datasets import images
from fdp_core.datasets.types import Gallery, Photo
from fdp_core.retrieval import index
from fdp_core.retrieval.vectors import Embedder

BATCH = 8  # photographs at once in a worker; decoded, each takes three bytes a pixel


def _read(row: dict[str, Any], known: Any) -> dict[str, Any]:
    import ray

    photo, data = pickle.loads(row["photo"]), None
    with contextlib.suppress(OSError):  # look_at says why
        whole = photo.path.is_file() and photo.path.stat().st_size  # others may never end
        data = photo.path.read_bytes() if photo.data is None and whole else photo.data
    seen = index.look_at(photo, data)
    skip = seen.fault or not ray.get(known).isdisjoint((seen.content, (seen.id, seen.content)))
    return {"seen": pickle.dumps(seen), "data": None if skip else data}


def _decode(row: dict[str, Any]) -> dict[str, Any]:
    """Make the bytes those of a BMP, upright and RGB: the system opens it at no cost."""
    if not isinstance(row["data"], bytes):  # Ray makes NaN of None
        return row
    try:
        images.open_image(row["data"]).save(bitmap := io.BytesIO(), "BMP")
    except images.CorruptImage as error:
        return {"seen": pickle.dumps(pickle.loads(row["seen"])._replace(fault=error.reason)), "data": None}
    return {**row, "data": bitmap.getvalue()}


class _Encoder:
    """An actor that holds the model."""

    def __init__(self, make: Callable[[], Embedder]) -> None:
        self.system = make()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen = [pickle.loads(each) for each in batch["seen"]]
        todo = [(each, data) for each, data in zip(seen, batch["data"]) if isinstance(data, bytes)]
        photos = tuple(Photo(each.id, Path(os.fsdecode(each.path)), data=data) for each, data in todo)
        gallery = Gallery("a batch", "test", photos, manifest_hash="", may_show=False)
        made = index.encode(self.system, gallery, [each for each, _ in todo]) if todo else []
        done = {each.id: each for each in seen + made}
        return {"done": np.array([pickle.dumps(each) for each in done.values()], object)}


def stream(
    make: Callable[[], Embedder], workers: int, todo: list[Photo], known: frozenset[str | tuple[str, str]]
) -> Iterator[list[index.Encoded]]:
    """Encode photographs, in any order; a worker that dies is replaced and its photographs are encoded again.

    With the first two arguments given, it is what :meth:`fdp_core.retrieval.index.Index.update` takes as ``stream``.

    Args:
        make: makes the system, once in each worker; Ray has to be able to pickle it.
        workers: how many hold the model, at most; each has a GPU where there are any.
        todo: the photographs.
        known: contents that need no vectors, and pairs (id, content): those of one photograph.
    """
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"} | dict(os.environ)
    import ray
    import ray.data

    if not ray.is_initialized():
        ray.init(runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}, log_to_driver=False)
    held, gpus = ray.put(known), 1 if ray.cluster_resources().get("GPU") else 0
    rows = [{"photo": pickle.dumps(photo)} for photo in todo]
    done = ray.data.from_items(rows, override_num_blocks=min(len(rows), 10_000, 4 * workers + len(rows) // 256))
    done = done.map(_read, fn_args=(held,), num_cpus=0.1).map(_decode, num_cpus=0.25)  # cheap: nobody waits for a core
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
    use = {"batch_size": BATCH, "compute": pool, "num_cpus": 0.5, "num_gpus": gpus}
    for batch in done.map_batches(_Encoder, fn_constructor_args=(make,), **use).iter_batches(batch_size=index.SLICE):
        yield [pickle.loads(each) for each in batch["done"]]

"""Checkpoints: what was trained, the cluster centres, the configuration, the word list and the backbone's
name and hash (B6).

One safetensors file, no pickle: reading one runs no code. What only a run needs to go on (optimiser, generators, step)
stands in a file of its own, see :mod:`fdp_core.training.state`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from typing_extensions import TypedDict

from fdp_core import backbones, files, weights
from fdp_core.config import Config, parse
from fdp_core.distinguish import Clusters
from fdp_core.model import FDP

FORMAT = "fdp-checkpoint-1"
# FDP around mini, which searches; as all that comes with the package, trained on mini_train by notebooks/05_train.ipynb
SHIPPED = weights.MINI_WEIGHTS.with_name("mini_fdp.safetensors")
_FACTS = "fdp"  # the metadata entry
_MODEL, _CENTRES = "model/", "clusters/centres"


class _Trained(TypedDict):
    name: str
    weights_hash: str


class _Header(TypedDict):
    config: dict[str, Any]
    words: list[str]
    backbone: _Trained
    overrides: dict[str, int]
    threads: NotRequired[int]  # PyTorch's in the training: another number gives other last digits


class CheckpointError(ValueError):
    """A file is no checkpoint, is damaged, or belongs to another backbone."""


def shipped(backbone: str) -> Path | None:
    """Return the file of the trained FDP that comes with a backbone, by its name; None where none comes along."""
    file = SHIPPED.with_name(f"{backbone}_fdp.safetensors")
    return file if backbone in backbones.COMPACT_NAMES and file.is_file() else None


def save(path: str | Path, model: FDP, bits: int | None = None) -> Path:
    """Write a checkpoint atomically and return its path: the old file stays until the new one is whole.

    Args:
        path: the file, by custom ``*.safetensors``.
        model: the model; its backbone's weights are not saved, only their name and hash.
        bits: of a trained weight, 2 to 8 (:func:`fdp_core.weights.pack`), for a small file; None: as they are.
    """
    state = model.trained_state() if bits is None else weights.pack(model.trained_state(), bits)
    tensors = {_MODEL + name: value for name, value in state.items()}
    header: dict[str, Any] = {
        "config": json.loads(model.config.to_json()),
        "words": list(model.words),
        "backbone": {"name": model.backbone.name, "weights_hash": model.backbone.weights_hash},
        "overrides": {} if model.clusters is None else dict(model.clusters.overrides),
    }
    if model.threads is not None:
        header["threads"] = model.threads
    if model.clusters is not None:
        tensors[_CENTRES] = model.clusters.centres
    # clone: safetensors refuses tensors that share memory
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps(header, sort_keys=True)
    # one entry: safetensors writes several in any order, and equal models should give equal files
    facts = json.dumps({"format": FORMAT, "header": text, "hash": _hash(text, tensors)})
    return files.atomic_write_bytes(path, safetensors.torch.save(tensors, {_FACTS: facts}))


def load(
    path: str | Path = SHIPPED, backbone: backbones.Backbone | None = None, device: str | torch.device = "cpu"
) -> FDP:
    """Rebuild a model with its clusters and word list from a checkpoint, in eval mode.

    Args:
        path: the file; by default FDP around mini, which comes with the package.
        backbone: the backbone that it was trained on; by default the one of that name is loaded, onto ``device``.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is no checkpoint, is damaged, or was trained on other backbone weights.
    """
    header, tensors = _read(path)
    name, digest = header["backbone"]["name"], header["backbone"]["weights_hash"]
    backbone = backbone or backbones.load(name, device=device)
    if (backbone.name, backbone.weights_hash) != (name, digest):
        raise CheckpointError(
            f"{path} was trained on backbone {name} with weights {digest[:12]}..., but this is "
            f"{backbone.name} with weights {backbone.weights_hash[:12]}...: give load() the backbone that it "
            "was trained on, or train again."
        )
    try:
        model = FDP(backbone, Config.from_json(json.dumps(header["config"])))
        state = {k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)}
        model.load_trained_state(weights.unpack(state))
        model.words, model.threads = tuple(header["words"]), header.get("threads")
        if _CENTRES in tensors:
            model.clusters = Clusters(tensors[_CENTRES].to(backbone.device), header["overrides"])
            if model.clusters.centres.shape[1] != backbone.embed_dim:
                raise ValueError("its clusters belong to another backbone")
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error
    return model.eval()


def model_hash(model: FDP) -> str:
    """Return the sha256 (hex) of all that decides a model's features: trained parts, config, clusters."""
    tensors = dict(model.trained_state())
    facts: dict[str, Any] = {"config": model.config.to_json(), "backbone": model.backbone.weights_hash}
    if model.clusters is not None:
        tensors[_CENTRES] = model.clusters.centres
        facts["overrides"] = dict(model.clusters.overrides)
    return _hash(json.dumps(facts, sort_keys=True), tensors)


def _hash(text: str, tensors: Mapping[str, Tensor]) -> str:
    return weights.state_hash({**tensors, "header": torch.from_numpy(np.frombuffer(text.encode(), np.uint8).copy())})


def _read(path: str | Path) -> tuple[_Header, dict[str, Tensor]]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: train one first, or correct the path.")
    try:
        facts, tensors = weights.read(path, _FACTS, dict[str, str])
        if facts.get("format") != FORMAT:
            raise ValueError(f"its format is {facts.get('format')!r}, not {FORMAT!r}")
        header = parse(facts.get("header", ""), _Header)
    except ValueError as error:
        raise CheckpointError(
            f"{path} is no checkpoint of this project, or is damaged ({error}): train again, or load a released "
            "PyTorch checkpoint with fdp_core.studies.released.from_official."
        ) from error
    if _hash(facts["header"], tensors) != facts.get("hash"):
        raise CheckpointError(f"{path} is damaged: its contents do not match the hash saved with them. Train again.")
    return header, tensors

"""The reader of the word finder: the image tower of ``mini``, gone on learning on the finder's own cuts.

The file holds only what differs from the backbone: four bits a weight with one scale a row, for the changes are small.
``mini`` itself stays as it is.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Literal

import safetensors.torch
from torch import Tensor
from typing_extensions import TypedDict

from fdp_core.backbones import Backbone
from fdp_core.files import atomic_write_bytes, sha256_file
from fdp_core.weights import MINI_WEIGHTS, pack, read, unpack

SHIPPED = MINI_WEIGHTS.with_name("mini_reader.safetensors")
FORMAT = "fdp-reader-2"


class _Facts(TypedDict):
    format: Literal["fdp-reader-2"]
    backbone: str


BITS = 4  # of a change


def save(path: str | Path, backbone: Backbone, state: dict[str, Tensor], facts: dict | None = None) -> Path:
    """Write an image tower as its difference from the backbone's, whole or not at all; returns the path.

    ``state`` holds the tower's weights, named as its state dict does; equal ones are left out. ``facts`` about the
    training go along as JSON.
    """
    old = backbone.clip.visual.state_dict()
    changes = {name: value.detach().cpu().float() - old[name].cpu().float() for name, value in state.items()}
    changes = {name: change for name, change in changes.items() if change.abs().max() > 0}
    described = {"format": FORMAT, "backbone": backbone.weights_hash, **(facts or {})}
    packed = pack(changes, BITS)
    return atomic_write_bytes(path, safetensors.torch.save(packed, {"reader": json.dumps(described)}))


def fitting(backbone: Backbone) -> Backbone:
    """Return the reader that comes with ``mini`` where the backbone is ``mini``, else the backbone itself."""
    return load(backbone) if read(SHIPPED, "reader", _Facts)[0]["backbone"] == backbone.weights_hash else backbone


def load(backbone: Backbone, path: str | Path | None = None) -> Backbone:
    """Return a copy of the backbone that reads with another image tower; the backbone is not changed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no reader, is damaged, or belongs to another backbone.
    """
    path = Path(path) if path else SHIPPED
    try:
        facts, tensors = read(path, "reader", _Facts)
        if facts["backbone"] != backbone.weights_hash:
            raise ValueError(f"it was trained from other weights than {backbone.name}'s")
        reader = copy.deepcopy(backbone)
        state = reader.clip.visual.state_dict()
        for name, change in unpack(tensors).items():
            if name not in state or state[name].shape != change.shape:
                raise ValueError(f"{name} of {list(change.shape)} is no weight of {backbone.name}")
            state[name] += change.to(state[name].device)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds no reader for {backbone.name}, or is damaged ({error}). Reinstall the package, or make one "
            "with `python -m fdp_core.mini.pretrain_reader`."
        ) from error
    reader.weights_hash = sha256_file(path)
    return reader

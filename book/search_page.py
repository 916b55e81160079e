"""Writes what the search on the front page reads: text tower, learned contexts, region vectors, small photographs."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import torch

from fdp_core import checkpoint, datasets
from fdp_core.datasets import images
from fdp_core.datasets.types import Photo
from fdp_core.evaluation import provenance
from fdp_core.regions.settings import RegionOptions
from fdp_core.regions.system import RegionSystem
from fdp_core.retrieval.index import Index
from fdp_core.weights import pack

SIDE, QUALITY = 320, 50  # of a small photograph


def open_index(name: str = "mini") -> Index:
    """Return the index that chapter 00 made of a set; it is made now where it is not there."""
    gallery, _ = datasets.load(name)
    system = RegionSystem(checkpoint.load(), RegionOptions(precision="float32"), progress=False)
    index = Index.open(provenance.index_folder(gallery.photos[0].path.parent, system.model_hash), system)
    index.update(gallery, progress=False)
    return index


def write(index: Index, folder: Path, name: str = "mini") -> str:
    """Write an index as a script, ``search_NAME.js``, that ``search.js`` reads, with small photographs beside it.

    Returns:
        The script's name.
    """
    model, sets, photos = index.system.model, index.sets, {photo.id: photo for photo in datasets.load(name)[0].photos}
    clip = model.backbone.clip
    parts = {key: value for key, value in clip.state_dict().items() if not key.startswith(("visual.", "attn_mask"))}
    parts |= {"function": model.prompt.context_function, "content": model.prompt.context_content}
    parts |= {"centres": model.clusters.centres, "vectors": torch.from_numpy(sets.vectors[:, :-1])}
    rest = {"handicaps": sets.vectors[:, -1], "starts": sets.starts, "corners": sets.corners.flatten()}
    packed = {key: value.numpy() for key, value in pack(parts, bits=8).items() if not key.endswith("/shape")} | rest
    data = {
        "heads": clip.transformer.resblocks[0].attn.num_heads,
        "numbers": {key: _base64(value) for key, value in packed.items()},
        "photos": [_small(photos[each], folder, f"search_{name}/{row}.webp") for row, each in enumerate(index.ids)],
    }
    script = folder / f"search_{name}.js"
    script.write_text(f"const FDP_DATA = {json.dumps(data)};\n", encoding="utf-8")
    return script.name


def _base64(values: np.ndarray) -> str:
    """Return bytes as they are, and all other numbers in single precision."""
    return base64.b64encode((values if values.dtype == np.uint8 else values.astype("<f4")).tobytes()).decode()


def _small(photo: Photo, folder: Path, file: str) -> dict:
    """Write a small copy of a photograph; return what the page says of it, and its size in pixels."""
    picture = images.open_image(photo.source)
    facts = {"id": photo.id, "size": picture.size, "words": " ".join(word.text for word in photo.words)}
    picture.thumbnail((SIDE, SIDE))
    (folder / file).parent.mkdir(exist_ok=True)
    picture.save(folder / file, quality=QUALITY, method=6)
    return {**facts, "file": file}

"""Files of weights and checkpoints, spoilt in many ways: one kind of error, which names the file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import odd
import pytest
import safetensors.torch
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdp_core import checkpoint, weights
from fdp_core.config import Config
from fdp_core.model import FDP
from fdp_core.regions import reader, word_finder

SMALL = Config(image_size=64, localiser_hidden=4, probe_heads=4)


@pytest.fixture(scope="module")
def backbone():
    return tiny.backbone()


@pytest.fixture(scope="module")
def files(backbone, tmp_path_factory):
    """Make one whole file of each kind: name -> (bytes, the entry of its facts, how it is read)."""
    folder = tmp_path_factory.mktemp("whole")
    model = FDP(backbone, SMALL)
    model.words, model.clusters = tuple(tiny.WORDS), tiny.clusters(backbone)
    state = {name: value.half() for name, value in backbone.clip.state_dict().items()}
    (folder / "mini").write_bytes(safetensors.torch.save(state, {"config": json.dumps(tiny.CONFIG)}))
    checkpoint.save(folder / "checkpoint", model, bits=8)
    changed = {name: value + 1 for name, value in backbone.clip.visual.state_dict().items() if value.ndim == 4}
    reader.save(folder / "reader", backbone, changed)
    word_finder.save(folder / "finder", word_finder.WordFinder(2, 4))
    return {
        "mini": ((folder / "mini").read_bytes(), "config", weights.read_mini),
        "checkpoint": ((folder / "checkpoint").read_bytes(), "fdp", lambda path: checkpoint.load(path, backbone)),
        "reader": ((folder / "reader").read_bytes(), "reader", lambda path: reader.load(backbone, path)),
        "finder": ((folder / "finder").read_bytes(), "word_finder", word_finder.load),
    }


def refused(read, path, spoilt):
    path.write_bytes(spoilt)
    try:
        read(path)
    except ValueError as error:
        assert str(path) in str(error)


KINDS = ["mini", "checkpoint", "reader", "finder"]
SLOW = {"deadline": None, "max_examples": 60, "suppress_health_check": list(HealthCheck)}


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(files, tmp_path, kind):
    whole, _, read = files[kind]
    (tmp_path / "whole").write_bytes(whole)
    read(tmp_path / "whole")


@pytest.mark.parametrize("kind", KINDS)
@settings(**SLOW)
@given(data=st.data())
def test_spoilt_bytes(files, tmp_path, kind, data):
    whole, _, read = files[kind]
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    at = data.draw(st.integers(0, header) | st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    refused(
        read, tmp_path / "x", whole[:at] if cut else whole[:at] + data.draw(st.binary(max_size=8)) + whole[at + 1 :]
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(**SLOW)
@given(data=st.data())
def test_spoilt_facts(files, tmp_path, kind, data):
    """The facts are JSON, but not what they should be; a checkpoint's hash fits them, as one made by hand would."""
    whole, entry, read = files[kind]
    tensors = safetensors.torch.load(whole)
    size = struct.unpack("<Q", whole[:8])[0]
    facts = json.loads(json.loads(whole[8 : 8 + size])["__metadata__"][entry])
    inner = json.loads(facts["header"]) if kind == "checkpoint" and data.draw(st.booleans()) else facts
    new = data.draw(odd.spoilt(inner))
    if inner is not facts:
        text = json.dumps(new)
        new = facts | {"header": text, "hash": checkpoint._hash(text, tensors)}
    text = data.draw(
        st.sampled_from(
            [json.dumps(new), json.dumps(new)[:-1], "[" * 100_000, "null", "\ud800".encode("utf-8", "replace").decode()]
        )
    )
    refused(read, tmp_path / "x", safetensors.torch.save(tensors, {entry: text}))


@pytest.mark.parametrize("kind", KINDS)
@settings(**SLOW)
@given(data=st.data())
def test_spoilt_tensors(files, tmp_path, kind, data):
    whole, entry, read = files[kind]
    tensors = safetensors.torch.load(whole)
    size = struct.unpack("<Q", whole[:8])[0]
    facts = json.loads(whole[8 : 8 + size])["__metadata__"][entry]
    name = data.draw(st.sampled_from(sorted(tensors)))
    change = data.draw(st.sampled_from(["drop", "rename", "flat", "none", "other", "huge", "bytes"]))
    value = tensors.pop(name)
    other = {
        "rename": value,
        "flat": value.reshape(-1).contiguous(),
        "none": value[:0].clone() if value.ndim else torch.zeros(0),
        "other": torch.ones(3, 1, 2, dtype=torch.float64),
        "huge": torch.tensor([2**62, 2**62, -1]),
        "bytes": torch.frombuffer(bytearray(b"\x78\x9c\x03\x00spoilt"), dtype=torch.uint8),
    }
    if change != "drop":
        tensors[name + "x" if change == "rename" else name] = other[change]
    if kind == "checkpoint":
        told = json.loads(facts)
        facts = json.dumps(told | {"hash": checkpoint._hash(told["header"], tensors)})
    refused(read, tmp_path / "x", safetensors.torch.save(tensors, {entry: facts}))


def test_a_flat_weight_of_a_reader_is_no_change_of_all(files, backbone, tmp_path):
    """A tensor that PyTorch would spread over a larger one is refused."""
    path = reader.save(tmp_path / "r", backbone, {}, None)
    facts = json.dumps({"format": reader.FORMAT, "backbone": backbone.weights_hash})
    name = next(iter(backbone.clip.visual.state_dict()))
    path.write_bytes(safetensors.torch.save({name: torch.ones(1)}, {"reader": facts}))
    with pytest.raises(ValueError, match="no weight of mini"):
        reader.load(backbone, Path(path))

"""OpenAI's weights as a set: fetched by its manifest to where the backbones look, and then read offline."""

import hashlib
import io

import open_clip
import pytest
import torch
import yaml
from hostile_server import Server, half
from open_clip.pretrained import get_pretrained_url

from fdp_core import backbones, datasets, weights
from fdp_core.datasets.__main__ import main
from fdp_core.datasets.manifest import manifest, manifests_folder

QUICK = {"progress": False, "timeout": 0.5, "tries": 3, "pause": 0.01}


def small_clip():
    """Return the bytes of a file of the same form as OpenAI's, of a CLIP with next to no width."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    vision = {"layers": (1, 1, 1, 1), "width": 8, "image_size": 64}
    stream = io.BytesIO()
    torch.save(weights.seeded(lambda: open_clip.CLIP(16, vision, text, quick_gelu=True), 0).state_dict(), stream)
    return stream.getvalue()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of one's own and the real manifest with its addresses and hashes replaced; gives (folder, server)."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for name in ("schema.json", "openai_clip.yaml"):
        (manifests / name).write_bytes((manifests_folder() / name).read_bytes())
    monkeypatch.setenv("FDP_MANIFESTS", str(manifests))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Server() as server:
        data = yaml.safe_load((manifests / "openai_clip.yaml").read_text(encoding="utf-8"))
        for entry in data["files"]:
            content = small_clip() if entry["file"] == "RN50.pt" else entry["file"].encode()
            server.files[f"/{entry['file']}"] = content
            entry |= {"urls": [server.address(f"/{entry['file']}")], "sha256": hashlib.sha256(content).hexdigest()}
        (manifests / "openai_clip.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
        yield tmp_path / "home" / ".cache" / "clip", server


def test_the_manifest_holds_the_files_of_all_backbones():
    source = manifest("clip")
    assert source.name == "openai_clip" and source.parts == [name.lower() for name in backbones.OPENAI_NAMES]
    for entry in source.data["files"]:
        (url,), name = entry["urls"], entry["file"].removesuffix(".pt")
        assert url == get_pretrained_url(name, "openai") and url.split("/")[-2] == entry["sha256"]


def test_fetched_once_and_read_offline(home, monkeypatch):
    folder, server = home
    assert datasets.where("openai_clip") == folder == datasets.where("clip", root="/elsewhere")
    assert [check.status for check in datasets.verify("clip")] == ["missing"] * 4
    server.plan["/RN50.pt"] = [half]
    assert datasets.fetch("clip", **QUICK) == folder
    assert server.log[1].span and server.log[1].path == "/RN50.pt", "the broken download went on"
    names = ["RN101.pt", "RN50.pt", "RN50x16.pt", "RN50x4.pt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [check.status for check in datasets.verify("clip")] == ["present"] * 4
    asked = len(server.log)
    datasets.fetch("clip", **QUICK)
    assert len(server.log) == asked

    def refuse(*_, **__):
        raise OSError("no network here")

    digest = hashlib.sha256(server.files["/RN50.pt"]).hexdigest()
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(
        weights, "get_pretrained_url", lambda name, _: f"https://openaipublic.example/{digest}/{name}.pt"
    )
    assert backbones.load("RN50").weights_hash == digest


def test_one_file_alone(home, capsys):
    folder, server = home
    assert main(["fetch", "clip", "--split", "RN50x4"]) == 0
    assert [path.name for path in folder.iterdir()] == ["RN50x4.pt"]
    assert [check.status for check in datasets.verify("clip", quick=True)] == [
        "missing",
        "missing",
        "present",
        "missing",
    ]
    assert main(["verify", "clip", "--split", "rn50x4"]) == 0 and "rn50x4: present" in capsys.readouterr().out
    assert main(["list"]) == 0 and "rn50x16" in capsys.readouterr().out
    assert main(["show", "clip"]) == 0 and "rn50x4: present" in capsys.readouterr().out
    with pytest.raises(ValueError, match="has no file 'rn51'; it has: rn50, rn101, rn50x4, rn50x16"):
        datasets.fetch("clip", "rn51")


def test_a_damaged_file_is_found_and_kept_aside(home, capsys):
    folder, server = home
    datasets.fetch("clip", **QUICK)
    (folder / "RN101.pt").write_bytes(b"half a download")
    assert main(["verify", "clip"]) == 1
    assert "RN101.pt is not the file that the manifest means" in capsys.readouterr().out
    with pytest.raises(datasets.FetchError, match="RN101.pt.wrong-[0-9a-f]{8}; run again for a new one"):
        datasets.fetch("clip", **QUICK)
    datasets.fetch("clip", **QUICK)
    assert (folder / "RN101.pt").read_bytes() == b"RN101.pt"


def test_weights_are_no_photographs(home):
    with pytest.raises(ValueError, match="holds the weights of models, no photographs"):
        datasets.load("clip")


@pytest.mark.parametrize(
    "change",
    [{"kind": "music"}, {"home": "../x"}, {"home": "/etc"}, {"parser": "svt"}, {"folder": "clip"}, {"splits": {}},
     {"files": [{"file": "RN50.pt", "max_mb": 1, "unpack": False, "urls": ["http://a/b"]}]}],
)  # fmt: skip
def test_the_schema_refuses(home, change):
    path = manifests_folder() / "openai_clip.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(datasets.ManifestError, match="openai_clip.yaml"):
        manifest("clip")

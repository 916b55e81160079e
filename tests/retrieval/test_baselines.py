"""Systems: the same interface, the same numbers with and without a cache, honest speed, clear errors."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from eval_fakes import FakeBackbone, gallery, queries

from fdp_core.backbones import Backbone
from fdp_core.config import Config
from fdp_core.evaluation.report import evaluate
from fdp_core.model import FDP
from fdp_core.retrieval import compiled, features, ocr, systems
from fdp_core.retrieval.features import CorruptPhotographs
from fdp_core.weights import CharTokenizer, build_mini

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "head_width": 64},
    "text_cfg": {"context_length": 16, "vocab_size": 128, "width": 16, "heads": 2, "layers": 1},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    clip = build_mini(TINY)
    return Backbone(clip, "mini", CharTokenizer(16), "a" * 64, TINY["mean"], TINY["std"])


@pytest.fixture(scope="module")
def model(tiny):
    words = ["the", "and", "with", "office", "hotel", "coffee"]
    return FDP(tiny, Config(image_size=64, probe_heads=2), words)


def quiet(**options):
    return {"progress": False, "batch_size": 2, **options}


def test_zero_shot_by_hand(tmp_path):
    shown, backbone = gallery(tmp_path / "g"), FakeBackbone()
    system = systems.zero_shot(backbone, image_size=64, **quiet())
    vectors = system.encode_gallery(shown)
    store = features.trunk_features(backbone, shown, 64, progress=False)
    expected = torch.nn.functional.normalize(backbone.zero_shot(store.batch(slice(None))), dim=-1)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(system.encode_queries(["a", "b"]), axis=1), 1, atol=1e-6)


def test_template_and_native_size():
    backbone = FakeBackbone()
    plain, framed = (systems.zero_shot(backbone, None, template=t) for t in ("{}", 'the word "{}"'))
    assert plain.image_size == 64  # two cells of 32 pixels
    np.testing.assert_array_equal(framed.encode_queries(["x"]), plain.encode_queries(['the word "x"']))
    assert plain.model_hash != framed.model_hash
    with pytest.raises(ValueError, match="no place for the query"):
        systems.zero_shot(backbone, template="a photo")


def test_cache_and_no_cache_give_the_same_bits_and_honest_speed(tmp_path):
    shown = gallery(tmp_path / "g")
    plain = systems.zero_shot(FakeBackbone(), 64, **quiet())
    cached = systems.zero_shot(FakeBackbone(), 64, **quiet(cache_dir=tmp_path / "cache"))
    first = plain.encode_gallery(shown)
    np.testing.assert_array_equal(first, cached.encode_gallery(shown))
    assert plain.speed.fps > 0 and cached.speed.photographs == 5
    assert plain.speed.batch == 2 and plain.speed.precision == "float32" and plain.speed.device == "cpu"
    np.testing.assert_array_equal(first, cached.encode_gallery(shown))
    assert cached.speed.fps is None and "cache" in cached.speed.timed


def test_unreadable_rows_are_nan(tmp_path):
    shown = gallery(tmp_path / "g", corrupt=(1,))
    for cache in (None, tmp_path / "cache"):
        with pytest.warns(CorruptPhotographs, match=r"01\.png"):
            vectors = systems.zero_shot(FakeBackbone(), 64, **quiet(cache_dir=cache)).encode_gallery(shown)
        assert np.isnan(vectors).any(axis=1).tolist() == [False, True, False, False, False]
    with pytest.raises(ValueError, match="None of the 1"):
        with pytest.warns(CorruptPhotographs):
            systems.zero_shot(FakeBackbone(), 64, **quiet()).encode_gallery(gallery(tmp_path / "h", 1, (0,)))


def test_a_real_tiny_mini_runs_zero_shot_and_fdp(tmp_path, tiny, model):
    shown, asked = gallery(tmp_path / "g"), queries()
    plain = evaluate(systems.zero_shot(tiny, 64, **quiet()), shown, asked)
    assert plain.scores.shape == (5, 5) and np.abs(plain.scores).max() <= 1 + 1e-6
    model.train()
    system = systems.fdp(model, **quiet(cache_dir=tmp_path / "cache"))
    report = evaluate(system, shown, asked)
    assert model.training  # left as it was
    assert set(report.groups_from.values()) == {"clusters"}
    assert sum(group["queries"] for group in report.groups.values()) == 5
    np.testing.assert_array_equal(report.scores, evaluate(system, shown, asked).scores)  # no dropout
    model.eval()
    with torch.no_grad():
        store = system.features(shown)
        direct = model.encode_queries(list(asked.texts)) @ model.encode_features(store.batch(slice(None)))["image"].T
    np.testing.assert_allclose(report.scores, direct, atol=1e-5)
    assert report.settings["config"]["image_size"] == 64 and report.settings["weights_hash"] == "a" * 64


def test_fdp_runs_in_openvino_where_it_can(model, monkeypatch, tmp_path):
    """On a CPU without a cache; an explicit precision wins, and PyTorch is the fall-back."""
    monkeypatch.setattr(compiled, "installed", lambda: True)
    assert systems.fdp(model).precision == "openvino"
    assert systems.fdp(model, precision=None).precision is None
    assert systems.fdp(model, cache_dir=tmp_path).precision is None
    monkeypatch.setattr(compiled, "installed", lambda: False)
    assert systems.fdp(model).precision is None


def test_the_model_hash_follows_the_weights(model):
    before = systems.fdp(model).model_hash
    assert before == systems.fdp(model).model_hash
    with torch.no_grad():
        model.positions[0, 0] += 1
    after = systems.fdp(model).model_hash
    with torch.no_grad():
        model.positions[0, 0] -= 1
    assert before != after


@pytest.mark.parametrize(
    ("query", "words", "expected"),
    [
        ("Coffee!", ["coffee"], 1.0),
        ("coffee", ["cofee", "tea"], 1 - 1 / 6),
        ("coffee", [], 0.0),
        ("!!!", ["coffee"], 0.0),
        ("fresh coffee", ["coffee", "fresh"], 1.0),
        ("fresh coffee", ["coffee"], (1 + 1 - 5 / 6) / 2),
    ],
)
def test_similarity_by_hand(query, words, expected):
    assert ocr.similarity(query, words) == pytest.approx(expected, abs=0.02)


def test_words_are_split_and_folded():
    assert ocr.split_words(["Café NOIR", "it's  24/7", "--"]) == sorted(["café", "noir", "its", "247", "--"])


class Reader:
    """Reads the same lines from every photograph, one more each time."""

    version = "stub 1"

    def __init__(self):
        self.calls, self.shapes = 0, []

    def __call__(self, pixels):
        self.calls += 1
        self.shapes.append(pixels.shape)
        return [f"W{self.calls - 1}"] if self.calls != 2 else []


def test_ocr_system_ranks_caches_and_reports(tmp_path):
    shown = gallery(tmp_path / "g", corrupt=(4,))
    reader = Reader()
    system = systems.ocr(reader=reader, long_side=40, cache_dir=tmp_path / "ocr", progress=False)
    with pytest.warns(CorruptPhotographs, match=r"04\.png"):
        report = evaluate(system, shown, queries())
    assert report.ap[[0, 2, 3]].tolist() == [1, 1, 1] and report.unreadable == ("04.png",)
    assert reader.shapes[0] == (24, 40, 3) and system.speed.photographs == 4
    with pytest.warns(CorruptPhotographs):
        system.words(shown)  # also the photograph without words is not read again
        again = systems.ocr(reader=Reader(), long_side=40, cache_dir=tmp_path / "ocr", progress=False)
        assert again.words(shown) == [["w0"], [], ["w2"], ["w3"], None]
    assert reader.calls == 4 and again.reader.calls == 0 and again.speed.fps is None
    for path in (tmp_path / "ocr").glob("*.json"):
        path.write_text("[")
    with pytest.warns(CorruptPhotographs):
        fresh = systems.ocr(reader=Reader(), long_side=40, cache_dir=tmp_path / "ocr", progress=False)
        fresh.words(shown)
    assert fresh.reader.calls == 4


def test_trigrams_find_parts_of_words_and_slips(tmp_path):
    shown, lines = gallery(tmp_path / "g", corrupt=(4,)), iter(["RE16 TGK", "HOTEI open", "%", "coffee shop"])
    system = systems.trigrams(reader=lambda pixels: [next(lines)], progress=False)
    with pytest.warns(CorruptPhotographs, match=r"04\.png"):
        scores = system.scores(shown, ["re16", "hotel", "of", "%", "coffee", "nothing"])
    found = [np.flatnonzero(row > 0).tolist() for row in np.nan_to_num(scores)]
    assert found == [[0], [1], [3], [2], [3], []] and np.isnan(scores[:, 4]).all()
    assert scores[4, 3] > scores[1, 1] > 0, "a whole word shares more trigrams than a misread one"


def test_several_readers_at_once_read_the_same(tmp_path):
    shown = gallery(tmp_path / "g", corrupt=(4,))

    def reader(pixels):
        return [f"mean{pixels.mean():.3f}"]

    with pytest.warns(CorruptPhotographs):
        one, three = (systems.ocr(reader=reader, workers=n, progress=False).words(shown) for n in (1, 3))
    assert one == three and len(set(map(str, one))) == 5


def test_missing_ocr_packages_give_one_clear_error(monkeypatch):
    monkeypatch.setattr(ocr.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ocr.OcrMissing, match=r"\[ocr\]"):
        systems.ocr()


@pytest.mark.skipif(importlib.util.find_spec("rapidocr") is None, reason="the optional extra [ocr] is not installed")
def test_the_real_reader_reads():
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (480, 200), "white")
    ImageDraw.Draw(image).text((60, 60), "HOTEL", fill="black", font=ImageFont.load_default(90))
    for alone in (True, False):
        assert "hotel" in ocr.split_words(ocr.RapidReader(alone=alone)(np.asarray(image)))


def test_baselines_do_not_import_the_optional_packages():
    import subprocess

    code = "import sys, fdp_core.retrieval.systems; print('rapidocr' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

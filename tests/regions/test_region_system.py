"""Region vectors: one system with several vectors a photograph, on a tiny backbone."""

import dataclasses
import importlib.util
import warnings

import numpy as np
import pytest
import tiny
import torch
from eval_fakes import draw, gallery, queries

from fdp_core import backbones, datasets, weights
from fdp_core.config import Config
from fdp_core.datasets import images
from fdp_core.evaluation.report import evaluate
from fdp_core.model import FDP
from fdp_core.regions import crops, networks, reader, word_finder
from fdp_core.regions.settings import RegionOptions
from fdp_core.regions.system import RegionSystem
from fdp_core.retrieval import compiled, geometry, systems
from fdp_core.retrieval.features import CorruptPhotographs
from fdp_core.retrieval.vectors import Embedder
from fdp_core.words import english_words

CONFIG = Config(image_size=128, localiser_hidden=8, shift="off", probe="off", prompts="none")


@pytest.fixture(scope="module")
def model():
    made = FDP(tiny.backbone(), CONFIG)
    made.clusters = tiny.clusters(made.backbone)
    return made


def some_finder(bias: float) -> word_finder.WordFinder:
    """Return random weights; the bias decides how much of a photograph they take for text."""
    torch.manual_seed(0)
    made = word_finder.WordFinder(width=8, hidden=8)
    torch.nn.init.normal_(made.last.weight, std=1.0)
    torch.nn.init.constant_(made.last.bias[:1], bias)
    return made.eval()


@pytest.fixture(scope="module")
def finds():
    return some_finder(0.0)


@pytest.fixture(scope="module")
def blind():
    return some_finder(-99.0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five photographs of several shapes."""
    folder, sizes = tmp_path_factory.mktemp("photos"), [(80, 48), (48, 80), (200, 160), (64, 64), (320, 96)]
    paths = [draw(folder / f"{i}.png", i, size) for i, size in enumerate(sizes)]
    return [np.asarray(images.open_image(path)) for path in paths]


def system(model, some, **options) -> RegionSystem:
    small = {"limit": 6, "height": 32, "width": 64, "sizes": (128,), "engine": "torch", "precision": "float32"}
    return RegionSystem(model, RegionOptions(**{**small, **options}), some, progress=False)


def encode(system: RegionSystem, photos: list[np.ndarray]) -> list[np.ndarray]:
    return [system.encode_image(image) for image in photos]


def assert_same(found, expected, atol=1e-5):
    assert [len(x) for x in found] == [len(x) for x in expected]
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=atol)


# --- photographs in memory


def test_a_row_is_a_regions_unit_vector_and_its_handicap_in_the_order_of_scores(model, finds, photos):
    """What encode_image gives is find, cut and encode_crops, one after the other."""
    regions, some = system(model, finds), 0
    common = model.encode_queries(list(english_words()[: word_finder.COMMON])).detach().numpy()
    for image in photos:
        quads, scores = regions.find(image)
        assert len(quads) == len(scores) <= 6 and (np.diff(scores) <= 0).all()
        rows = regions.encode_image(image)
        assert rows.dtype == np.float32 and rows.shape[1] == 33
        if len(quads):
            some += len(quads)
            units = regions.encode_crops(regions.cut(image, quads))
            np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, atol=1e-5)
            np.testing.assert_allclose(rows[:, :-1], units, atol=1e-5)
            np.testing.assert_allclose(rows[:, -1], -word_finder.handicap(units, scores, common), atol=1e-4)
            found = regions.encode_queries(["hotel", "open"]) @ rows.T
            cosines = model.encode_queries(["hotel", "open"]).detach().numpy() @ units.T
            np.testing.assert_allclose(found, cosines + rows[:, -1], atol=1e-4)
    assert some > 5, "the finder of this test finds something"


def test_regions_are_told_in_the_photographs_own_pixels(model, finds, photos, monkeypatch):
    """A region in the middle of the frame is in the middle of each photograph, whose longer side the finder sees."""

    def middle(grids, *_):
        y, x = np.array(grids[0].shape[1:]) * 8 / 2
        return np.array([[x, y, 8, 4, 1, 0]], np.float32), np.ones(1, np.float32)

    monkeypatch.setattr(word_finder, "candidates", middle)
    monkeypatch.setattr(word_finder, "LONG", 9)
    for image in photos:
        quads, _ = word_finder.find(
            system(model, finds)._engine.find, image, RegionOptions(sizes=(128,)), margin=(0, 0)
        )
        height, width = image.shape[:2]
        assert quads[0].mean(0) == pytest.approx((width / 2, height / 2), abs=1e-3)
        size = max(width, height) / 128
        assert np.ptp(quads[0], axis=0) == pytest.approx((8 * size, 4 * size), rel=0.25), "sides round to 32 pixels"


def test_encoding_twice_is_the_same(model, finds, photos):
    one, two = system(model, finds), system(model, finds)
    assert_same(encode(one, photos), encode(one, photos), atol=0)
    assert_same(encode(one, photos), encode(two, photos), atol=0)


def test_pooled_is_the_mean_direction_without_a_handicap(model, finds, photos):
    for rows, one in zip(encode(system(model, finds), photos), encode(system(model, finds, pooled=True), photos)):
        units = rows[:, :-1]
        np.testing.assert_allclose(one[:, :-1], units.mean(0, keepdims=True) / np.linalg.norm(units.mean(0)), atol=1e-5)
        assert one[0, -1] == 0


def test_a_finder_that_finds_nothing_leaves_fdps_own_vector(model, blind, photos):
    regions = system(model, blind)
    squares = np.stack([geometry.fit_array(image, 128)[0] for image in photos])
    whole = model.encode_images(squares).detach().numpy()
    for rows, expected in zip(encode(regions, photos), whole, strict=True):
        assert rows.shape == (1, 33)
        np.testing.assert_allclose(rows[0, :-1], expected, atol=1e-4)
    assert regions.cut(photos[0], np.zeros((0, 4, 2), np.float32)).shape == (0, 32, 64, 3)


def test_the_finder_may_see_several_sizes_and_turns(model, finds, photos):
    counts = [
        sum(map(len, encode(system(model, finds, limit=99, **some), photos))) for some in ({}, {"sizes": (64, 128)})
    ]
    assert counts[1] > counts[0]
    turned = encode(system(model, finds, turns=True), photos)
    assert any(not np.array_equal(one, two) for one, two in zip(turned, encode(system(model, finds), photos)))


def test_cuts_have_the_asked_size(model, finds):
    image = np.zeros((60, 100, 3), np.uint8)
    image[20:40, 30:70] = 255
    box = np.array([[[30, 20], [70, 20], [70, 40], [30, 40]]], np.float32)
    cut = system(model, finds).cut(image, box)
    assert cut.shape == (1, 32, 64, 3) and cut.dtype == np.uint8
    assert (cut[0, 1:-1, 1:-1] == 255).all() and cut.min() > 100, "but for the soft edge, the box alone"


def test_crops_are_encoded_as_clip_does_at_their_shape(model, finds):
    """At the native grid the crops' pool is CLIP's own; other shapes give unit vectors too."""
    rng = np.random.default_rng(0)
    square = rng.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    regions = system(model, finds)
    own = model.backbone.zero_shot(model.backbone.normalise(square))
    np.testing.assert_allclose(regions.encode_crops(square), torch.nn.functional.normalize(own, dim=-1), atol=1e-4)
    for shape in ((32, 32), (64, 192), (96, 32)):
        vectors = regions.encode_crops(rng.integers(0, 256, (2, *shape, 3), dtype=np.uint8))
        assert vectors.shape == (2, 32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_bfloat16_encodes_nearly_the_same(model, finds):
    cuts = np.random.default_rng(0).integers(0, 256, (9, 32, 64, 3), dtype=np.uint8)
    exact = system(model, finds).encode_crops(cuts)
    half = system(model, finds, precision="bfloat16").encode_crops(cuts)
    assert half.dtype == np.float32 and ((exact * half).sum(1) > 0.99).all()


# --- the front door


def test_an_index_of_a_model_searches_by_regions(model, monkeypatch, tmp_path):
    import fdp_core
    from fdp_core.regions import index

    monkeypatch.setattr(index, "RegionSystem", lambda model, **_: system(model, some_finder(0.0)))
    shown = gallery(tmp_path / "g")
    opened = fdp_core.Index.open("memory://", model)
    assert opened.update(shown, progress=False).encoded == 5
    hits = opened.search("office", k=3)
    assert opened.vectors > 5 and any(hit.corners is not None for hit in hits)
    one = fdp_core.Index.open("memory://", systems.fdp(model, progress=False))
    one.update(shown, progress=False)
    assert one.vectors == 5, "any other system stays itself"


# --- galleries


def test_a_gallery_becomes_sets_of_vectors(model, finds, tmp_path):
    shown = gallery(tmp_path)
    regions = system(model, finds)
    sets = regions.encode_gallery(shown)
    assert len(sets) == 5 and sets.readable.all() and not sets.single
    expected = encode(regions, [np.asarray(images.open_image(p.path)) for p in shown.photos])
    for i, rows in enumerate(expected):
        np.testing.assert_allclose(sets.vectors[sets.starts[i] : sets.starts[i + 1]], rows, atol=1e-5)
    speed = regions.speed
    assert (speed.photographs, speed.batch, speed.precision, speed.device) == (5, 1, "float32", "cpu")
    assert speed.fps > 0


@pytest.mark.parametrize("workers", [2, 5, 64])
def test_how_many_at_once_changes_no_vector(model, finds, tmp_path, workers):
    shown, many = gallery(tmp_path), system(model, finds)
    one = many.encode_gallery(shown)
    many._engine.workers = workers
    other = many.encode_gallery(shown)
    np.testing.assert_array_equal(one.starts, other.starts)
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-5)


def test_a_corrupt_photograph_has_no_rows_and_is_named(model, finds, tmp_path):
    whole = system(model, finds).encode_gallery(gallery(tmp_path / "whole"))
    shown = gallery(tmp_path / "broken", corrupt=(1, 4))
    regions = system(model, finds)
    with pytest.warns(CorruptPhotographs, match="2 photograph.*\n  01.png: .*\n  04.png: ") as caught:
        sets = regions.encode_gallery(shown)
    assert str(tmp_path) not in str(caught[0].message), "no folder in a report"
    assert sets.readable.tolist() == [True, False, True, True, False]
    assert regions.speed.photographs == 3
    kept = whole.take(sets.readable)
    np.testing.assert_array_equal(kept.starts, sets.take(sets.readable).starts)
    np.testing.assert_allclose(kept.vectors, sets.vectors, atol=1e-5)


def test_a_gallery_of_corrupt_photographs_is_an_error(model, finds, tmp_path):
    shown = gallery(tmp_path, 2, corrupt=(0, 1))
    with pytest.warns(CorruptPhotographs), pytest.raises(ValueError, match="None of the 2 photographs of toy"):
        system(model, finds).encode_gallery(shown)


def test_it_can_be_evaluated(model, finds, tmp_path):
    shown, asked = gallery(tmp_path, corrupt=(2,)), queries()
    regions = system(model, finds)
    assert isinstance(regions, Embedder)
    with pytest.warns(CorruptPhotographs):
        report = evaluate(regions, shown, asked)
    assert report.system == "FDP + regions" and report.unreadable == ("02.png",)
    assert report.scores.shape == (5, 5) and 0 < report.mean_ap <= 1
    assert {"function", "content"} <= set(report.groups_from)
    assert report.settings["regions"].items() >= dataclasses.asdict(regions.options).items()
    assert report.settings["weights_hash"] == model.backbone.weights_hash
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CorruptPhotographs)
        sets = regions.encode_gallery(shown)
    for i, text in enumerate(asked.texts):
        cosines = sets.vectors @ regions.encode_queries([text])[0]
        best = [cosines[a:b].max() if b > a else -9 for a, b in zip(sets.starts, sets.starts[1:])]
        np.testing.assert_allclose(report.scores[i][[0, 1, 3, 4]], np.delete(best, 2), atol=1e-5)


def test_queries_are_the_models_own(model, finds):
    texts = ["office", "the", "office"] + [f"word{i}" for i in range(300)]
    regions = system(model, finds)
    encoded = regions.encode_queries(texts)
    np.testing.assert_allclose(encoded[:, :-1], model.encode_queries(texts).detach().numpy(), atol=1e-5)
    assert (encoded[:, -1] == 1).all()
    assert regions.assign_kinds(["the", "office"]).tolist() == [0, 1]


def test_its_hash_tells_model_finder_reader_and_options_apart(model, finds, blind):
    plain = system(model, finds)
    assert len(plain.model_hash) == 64 and plain.settings["model_hash"] == plain.model_hash
    assert system(model, finds).model_hash == plain.model_hash
    assert system(model, finds, precision="bfloat16").model_hash == plain.model_hash, "last digits alone"
    others = [system(model, blind), system(model, finds, limit=5), system(FDP(tiny.backbone(1), CONFIG), finds)]
    others.append(RegionSystem(model, plain.options, finds, tiny.backbone(2)))
    assert len({plain.model_hash, *(other.model_hash for other in others)}) == 5


@pytest.mark.parametrize("there", [True, False])
def test_the_engine_is_openvino_where_it_is_and_torch_else(model, finds, there, monkeypatch):
    if there and importlib.util.find_spec("openvino") is None:
        pytest.skip("no wheel of openvino here")
    monkeypatch.setattr(compiled, "installed", lambda: there)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = system(model, finds, engine="auto", precision="auto")
    assert made.settings["engine"] == ("OpenVinoEngine, eight bits" if there else "TorchEngine, float32")
    assert [str(one.message)[:25] for one in told] == ([] if there else ["OpenVINO is not installed"])


def test_the_model_stays_as_it_is(model, finds, photos):
    before = weights.state_hash(model.state_dict())
    encode(system(model, finds, precision="bfloat16"), photos)
    assert weights.state_hash(model.state_dict()) == before


# --- the reader


def test_a_reader_encodes_the_cuts_and_the_backbone_stays(model, finds, photos, tmp_path):
    backbone = model.backbone
    state = {name: value.clone() for name, value in backbone.clip.visual.state_dict().items()}
    changed = {
        name: value + 0.1 * torch.randn(value.shape) if "conv3.weight" in name else value
        for name, value in state.items()
    }
    other = reader.load(backbone, reader.save(tmp_path / "r.safetensors", backbone, changed, {"step": 1}))
    for name, value in other.clip.visual.state_dict().items():
        assert torch.equal(backbone.clip.visual.state_dict()[name], state[name])
        assert ("conv3.weight" in name) != torch.equal(value, state[name])
        assert (value.float() - changed[name].float()).abs().max() <= 0.1 * 5 / 2 / (2 ** (reader.BITS - 1) - 1)
    plain = system(model, finds)
    reads = RegionSystem(model, plain.options, finds, other, progress=False)
    assert plain.model_hash != reads.model_hash and reads.settings["reader"] == other.weights_hash
    quads, _ = reads.find(photos[2])
    assert len(quads) and np.array_equal(quads, plain.find(photos[2])[0])
    cuts = reads.cut(photos[2], quads)
    assert not np.allclose(reads.encode_crops(cuts), plain.encode_crops(cuts), atol=1e-3)
    with pytest.raises(ValueError, match="trained from other weights"):
        reader.load(other, tmp_path / "r.safetensors")
    (tmp_path / "r.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no reader"):
        reader.load(backbone, tmp_path / "r.safetensors")


def test_the_reader_that_fits_is_minis_own_or_the_backbone_itself():
    mini, other = backbones.load("mini"), tiny.backbone()
    assert reader.fitting(other) is other
    assert reader.fitting(mini).weights_hash == reader.load(mini).weights_hash != mini.weights_hash


def test_the_shipped_reader_is_minis_and_reads_rendered_words_as_well():
    backbone = backbones.load("mini")
    other = reader.load(backbone)
    gallery, _ = datasets.load("mini")
    right = []
    for photo in gallery.photos[:4]:
        words = [word for word in photo.words if len(word.polygon) == 4 and not word.ignore]
        cuts = crops.cut_all(np.asarray(images.open_image(photo.path)), [word.polygon for word in words], 32, 128)
        texts = torch.nn.functional.normalize(backbone.encode_text([word.text for word in words]), dim=-1)
        for read in (backbone, other):
            seen = networks.TorchEngine(word_finder.load(), read).read(cuts)
            right.append((seen @ texts.numpy().T).argmax(1) == np.arange(len(words)))
    mini, trained = (np.concatenate(right[i::2]).mean() for i in (0, 1))
    assert trained > 0.8 and trained > mini - 0.05

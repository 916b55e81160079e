"""The second glance: one system with several vectors a photograph, on a tiny backbone."""

import dataclasses
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
from fdp_core.regions import crops, networks, reader, text_map, word_finder
from fdp_core.regions.settings import Glance
from fdp_core.regions.system import RegionSystem
from fdp_core.retrieval import geometry
from fdp_core.retrieval.features import CorruptPhotographs
from fdp_core.retrieval.vectors import Embedder
from fdp_core.words import english_words

CONFIG = Config(image_size=128, localiser_hidden=8, shift="off", probe="off", prompts="none")
WIDTHS = (32, 64, 128, 256)


@pytest.fixture(scope="module")
def model():
    made = FDP(tiny.backbone(), CONFIG)
    made.clusters = tiny.clusters(made.backbone)
    return made


def some_map(model: FDP, bias: float) -> text_map.TextMap:
    """Return random weights on normalised features; the bias decides how much of a photograph they take for text."""
    torch.manual_seed(0)
    made = text_map.TextMap(WIDTHS, hidden=8)
    torch.nn.init.normal_(made.last.weight, 0, 1)
    torch.nn.init.constant_(made.last.bias, bias)
    with torch.no_grad():
        levels = backbones.run_levels(model.backbone.clip, torch.randn(4, 3, 128, 128))
        for norm, x in zip(made.norms, levels):
            norm.running_mean, norm.running_var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    return made.eval()


@pytest.fixture(scope="module")
def finds(model):
    return some_map(model, -2.0)


@pytest.fixture(scope="module")
def blind(model):
    return some_map(model, -99.0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five photographs of several shapes."""
    folder, sizes = tmp_path_factory.mktemp("photos"), [(80, 48), (48, 80), (200, 160), (64, 64), (320, 96)]
    paths = [draw(folder / f"{i}.png", i, size) for i, size in enumerate(sizes)]
    return [np.asarray(images.open_image(path)) for path in paths]


def system(model, some, **glance) -> RegionSystem:
    chosen = Glance(**{"limit": 6, "height": 32, "width": 64, **glance})
    return RegionSystem(model, chosen, some, progress=False)


def encode(system: RegionSystem, photos: list[np.ndarray]) -> list[np.ndarray]:
    return [system.encode_image(image) for image in photos]


def assert_same(found, expected, atol=1e-5):
    assert [len(x) for x in found] == [len(x) for x in expected]
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=atol)


# --- photographs in memory


def test_the_whole_stands_first_and_is_fdps_own_vector(model, finds, photos):
    vectors = encode(system(model, finds, whole=True), photos)
    squares = np.stack([geometry.fit_array(image, 128)[0] for image in photos])
    whole = model.encode_images(squares).detach().numpy()
    np.testing.assert_allclose(np.stack([rows[0] for rows in vectors]), whole, atol=1e-4)
    for rows in vectors:
        assert rows.shape[1] == 32 and rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert max(map(len, vectors)) > 2, "the map of this test finds something"
    assert max(map(len, vectors)) <= 1 + 6, "the limit"


def test_regions_stand_in_the_order_of_their_scores(model, finds, photos):
    """What encode_image gives is find, cut and encode_crops, one after the other."""
    glance = system(model, finds)
    for image in photos:
        quads, scores = glance.find(image)
        assert len(quads) == len(scores) and (np.diff(scores) <= 0).all()
        if len(quads):
            expected = glance.encode_crops(glance.cut(image, quads))
            np.testing.assert_allclose(glance.encode_image(image), expected, atol=1e-5)


def test_regions_are_told_in_the_photographs_own_pixels(model, finds, photos, monkeypatch):
    """A region in the middle of the map is in the middle of each photograph, whose longer side the map sees as 128."""

    def middle(plane, stride, *_):
        x, y = np.array(plane.shape[::-1]) * stride / 2
        return np.array([[[x - 4, y - 2], [x + 4, y - 2], [x + 4, y + 2], [x - 4, y + 2]]], np.float32), np.ones(1)

    monkeypatch.setattr("fdp_core.regions.boxes.find", middle)
    for image in photos:
        quads, _ = system(model, finds).find(image)
        height, width = image.shape[:2]
        assert quads[0].mean(0) == pytest.approx((width / 2, height / 2), abs=1e-3)
        size = max(width, height) / 128
        assert np.ptp(quads[0], axis=0) == pytest.approx((8 * size, 4 * size), rel=0.25), "sides round to 32 pixels"


def test_encoding_twice_is_the_same(model, finds, photos):
    one, two = system(model, finds), system(model, finds)
    assert_same(encode(one, photos), encode(one, photos), atol=0)
    assert_same(encode(one, photos), encode(two, photos), atol=0)


def test_without_the_whole_a_photograph_still_has_a_vector(model, finds, blind, photos):
    with_whole = encode(system(model, finds, whole=True), photos)
    without = encode(system(model, finds), photos)
    assert_same(without, [rows[1:] if len(rows) > 1 else rows for rows in with_whole])
    alone = encode(system(model, blind), photos)
    assert_same(alone, [rows[:1] for rows in with_whole])


def test_pooled_is_the_mean_direction(model, finds, photos):
    for rows, one in zip(encode(system(model, finds), photos), encode(system(model, finds, pooled=True), photos)):
        np.testing.assert_allclose(one, rows.mean(0, keepdims=True) / np.linalg.norm(rows.mean(0)), atol=1e-5)


def test_a_map_that_finds_nothing_leaves_fdp(model, blind, photos):
    glance = system(model, blind)
    assert [len(rows) for rows in encode(glance, photos)] == [1] * 5
    assert glance.cut(photos[0], np.zeros((0, 4, 2), np.float32)).shape == (0, 32, 64, 3)


@pytest.mark.parametrize("map_size", [64, 192])
def test_the_map_may_see_another_size_than_the_head(model, finds, photos, map_size):
    """The whole stays; the regions are others."""
    plain, other = (encode(system(model, finds, map_size=size, whole=True), photos) for size in (None, map_size))
    assert_same([rows[:1] for rows in other], [rows[:1] for rows in plain], atol=1e-4)
    assert max(map(len, other)) > 1
    assert any(one.shape != two.shape or not np.allclose(one, two) for one, two in zip(other, plain))


def test_cuts_have_the_asked_size_and_a_margin(model, finds):
    image = np.zeros((60, 100, 3), np.uint8)
    image[20:40, 30:70] = 255
    box = np.array([[[30, 20], [70, 20], [70, 40], [30, 40]]], np.float32)
    cut = system(model, finds, margin=0.0).cut(image, box)
    assert cut.shape == (1, 32, 64, 3) and cut.dtype == np.uint8
    assert (cut[0, 1:-1, 1:-1] == 255).all() and cut.min() > 100, "but for the soft edge, the box alone"
    # 0.5 heights on every side: 40 x 60 pixels, of which the middle half and two thirds are white
    cut = system(model, finds, margin=0.5, height=64, width=96).cut(image, box)[0]
    assert (cut[20:44, 20:76] == 255).all() and (cut[:12] == 0).all() and (cut[:, -12:] == 0).all()


def test_crops_are_encoded_as_clip_does_at_their_shape(model, finds):
    """At the native grid the crops' pool is CLIP's own; other shapes give unit vectors too."""
    rng = np.random.default_rng(0)
    square = rng.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    glance = system(model, finds)
    own = model.backbone.zero_shot(model.backbone.normalise(square))
    np.testing.assert_allclose(glance.encode_crops(square), torch.nn.functional.normalize(own, dim=-1), atol=1e-4)
    for shape in ((32, 32), (64, 192), (96, 32)):
        vectors = glance.encode_crops(rng.integers(0, 256, (2, *shape, 3), dtype=np.uint8))
        assert vectors.shape == (2, 32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_bfloat16_encodes_nearly_the_same(model, finds):
    cuts = np.random.default_rng(0).integers(0, 256, (9, 32, 64, 3), dtype=np.uint8)
    exact = system(model, finds).encode_crops(cuts)
    half = system(model, finds, precision="bfloat16").encode_crops(cuts)
    assert half.dtype == np.float32 and ((exact * half).sum(1) > 0.99).all()


# --- galleries


def test_a_gallery_becomes_sets_of_vectors(model, finds, tmp_path):
    shown = gallery(tmp_path)
    glance = system(model, finds)
    sets = glance.encode_gallery(shown)
    assert len(sets) == 5 and sets.readable.all() and not sets.single
    expected = encode(glance, [np.asarray(images.open_image(p.path)) for p in shown.photos])
    for i, rows in enumerate(expected):
        np.testing.assert_allclose(sets.vectors[sets.starts[i] : sets.starts[i + 1]], rows, atol=1e-5)
    speed = glance.speed
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
    glance = system(model, finds)
    with pytest.warns(CorruptPhotographs, match="2 photograph.*\n  01.png: .*\n  04.png: ") as caught:
        sets = glance.encode_gallery(shown)
    assert str(tmp_path) not in str(caught[0].message), "no folder in a report"
    assert sets.readable.tolist() == [True, False, True, True, False]
    assert glance.speed.photographs == 3
    kept = whole.take(sets.readable)
    np.testing.assert_array_equal(kept.starts, sets.take(sets.readable).starts)
    np.testing.assert_allclose(kept.vectors, sets.vectors, atol=1e-5)


def test_a_gallery_of_corrupt_photographs_is_an_error(model, finds, tmp_path):
    shown = gallery(tmp_path, 2, corrupt=(0, 1))
    with pytest.warns(CorruptPhotographs), pytest.raises(ValueError, match="None of the 2 photographs of toy"):
        system(model, finds).encode_gallery(shown)


def test_it_can_be_evaluated(model, finds, tmp_path):
    shown, asked = gallery(tmp_path, corrupt=(2,)), queries()
    glance = system(model, finds)
    assert isinstance(glance, Embedder)
    with pytest.warns(CorruptPhotographs):
        report = evaluate(glance, shown, asked)
    assert report.system == "FDP + regions" and report.unreadable == ("02.png",)
    assert report.scores.shape == (5, 5) and 0 < report.mean_ap <= 1
    assert {"function", "content"} <= set(report.groups_from)
    assert report.settings["glance"] == dataclasses.asdict(glance.options)
    assert report.settings["weights_hash"] == model.backbone.weights_hash
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CorruptPhotographs)
        sets = glance.encode_gallery(shown)
    for i, text in enumerate(asked.texts):
        cosines = sets.vectors @ glance.encode_queries([text])[0]
        best = [cosines[a:b].max() if b > a else -9 for a, b in zip(sets.starts, sets.starts[1:])]
        np.testing.assert_allclose(report.scores[i][[0, 1, 3, 4]], np.delete(best, 2), atol=1e-5)


def test_queries_are_the_models_own(model, finds):
    texts = ["office", "the", "office"] + [f"word{i}" for i in range(300)]
    glance = system(model, finds)
    encoded = glance.encode_queries(texts)
    np.testing.assert_allclose(encoded, model.encode_queries(texts).detach().numpy(), atol=1e-5)
    assert glance.assign_kinds(["the", "office"]).tolist() == [0, 1]


def test_its_hash_tells_model_map_and_glance_apart(model, finds, blind):
    plain = system(model, finds)
    assert len(plain.model_hash) == 64 and plain.settings["model_hash"] == plain.model_hash
    assert system(model, finds).model_hash == plain.model_hash
    others = [system(model, blind), system(model, finds, margin=0.1), system(FDP(tiny.backbone(1), CONFIG), finds)]
    assert len({plain.model_hash, *(other.model_hash for other in others)}) == 4


def test_without_a_map_for_its_backbone_it_cannot_be_made(model, tmp_path, monkeypatch):
    monkeypatch.setattr(text_map, "SHIPPED", tmp_path / "none.safetensors")
    with pytest.raises(text_map.TextMapMissing, match="pretrain_text_map"):
        RegionSystem(model)


def test_the_model_stays_as_it_is(model, finds, photos):
    before = weights.state_hash(model.state_dict())
    encode(system(model, finds, precision="bfloat16"), photos)
    assert weights.state_hash(model.state_dict()) == before


# --- a word finder in place of the text map


@pytest.fixture(scope="module")
def finder():
    torch.manual_seed(0)
    made = word_finder.WordFinder(width=8, hidden=8)
    torch.nn.init.normal_(made.last.weight, std=1.0)
    torch.nn.init.constant_(made.last.bias[:1], 0.0)
    return made.eval()


def test_a_finder_gives_the_regions_and_each_a_handicap(model, finds, finder, photos):
    found = RegionSystem(model, Glance(height=32, width=64), finds, progress=False, finder=finder)
    plain = system(model, finds)
    some = 0
    for image in photos:
        quads, scores = found.find(image)
        expected = word_finder.find(finder, image, **word_finder.OPTIONS)
        np.testing.assert_array_equal(quads, expected[0])
        np.testing.assert_array_equal(scores, expected[1])
        rows = found.encode_image(image)
        assert rows.dtype == np.float32
        if len(quads):
            some += len(quads)
            units = plain.encode_crops(plain.cut(image, quads))
            np.testing.assert_allclose(rows[:, :-1], units, atol=1e-4)
            common = plain.encode_queries(list(english_words()[: word_finder.COMMON]))
            np.testing.assert_allclose(rows[:, -1], -word_finder.handicap(units, scores, common), atol=1e-4)
            asked = found.encode_queries(["hotel", "open"]) @ rows.T
            expected = plain.encode_queries(["hotel", "open"]) @ units.T + rows[:, -1]
            np.testing.assert_allclose(asked, expected, atol=1e-4)
    assert some > 5, "the finder of this test finds something"


def test_a_finder_needs_no_text_map(model, finds, finder, photos, monkeypatch):
    both = RegionSystem(model, Glance(height=32, width=64), finds, progress=False, finder=finder)
    monkeypatch.setattr("fdp_core.regions.system.load", lambda *_: pytest.fail("the text map was loaded"))
    alone = RegionSystem(model, Glance(height=32, width=64), progress=False, finder=finder)
    assert_same(encode(alone, photos), encode(both, photos))


def test_a_reader_encodes_the_cuts_and_the_backbone_stays(model, finder, photos, tmp_path):
    backbone, glance = model.backbone, Glance(height=32, width=64)
    state = {name: value.clone() for name, value in backbone.clip.visual.state_dict().items()}
    changed = {
        name: value + 0.1 * torch.randn(value.shape) if "conv3.weight" in name else value
        for name, value in state.items()
    }
    other = reader.load(backbone, reader.save(tmp_path / "r.safetensors", backbone, changed, {"step": 1}))
    for name, value in other.clip.visual.state_dict().items():
        assert torch.equal(backbone.clip.visual.state_dict()[name], state[name])
        assert ("conv3.weight" in name) != torch.equal(value, state[name])
        assert (value.float() - changed[name].float()).abs().max() <= 0.1 * 5 / 2 / reader.LEVELS
    plain = RegionSystem(model, glance, progress=False, finder=finder)
    reads = RegionSystem(model, glance, progress=False, finder=finder, reader=other)
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
            seen = networks.TorchEngine(read, None, Glance()).read(cuts)
            right.append((seen @ texts.numpy().T).argmax(1) == np.arange(len(words)))
    mini, trained = (np.concatenate(right[i::2]).mean() for i in (0, 1))
    assert trained > 0.8 and trained > mini - 0.05


def test_a_finder_has_a_name_and_a_hash_of_its_own(model, finds, finder, monkeypatch):
    plain = RegionSystem(model, Glance(), finds)
    found = RegionSystem(model, Glance(), finds, finder=finder)
    assert (plain.name, found.name) == ("FDP + regions", "FDP + word finder")
    assert RegionSystem(model, Glance(), finds, "mine", finder=finder).name == "mine"
    assert found.settings["finder"]["limit"] == word_finder.LIMIT and "finder" not in plain.settings
    monkeypatch.setitem(word_finder.OPTIONS, "limit", 7)
    fewer = RegionSystem(model, Glance(), finds, finder=finder)
    assert len({plain.model_hash, found.model_hash, fewer.model_hash}) == 3

"""Pre-training: its losses, its batches, and that an interrupted run goes on to the same weights."""

import json
import math
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import safetensors.torch
import shapely
import torch

from fdp_core import backbones, losses
from fdp_core.mini import bank as bank_module
from fdp_core.mini import batches as batches_module
from fdp_core.mini import pretrain, training
from fdp_core.mini.bank import Bank, BankRecipe, draw_shard
from fdp_core.mini.batches import (
    SIZE,
    Batches,
    Recipe,
    _legible,
    caption,
    cell_weights,
    part_of_scene,
    pyramid,
    words_and_texts,
)
from fdp_core.mini.batches import look as batches_look
from fdp_core.mini.renderer import Renderer, SceneWord
from fdp_core.training.state import write_state
from fdp_core.weights import CharTokenizer, build_mini

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "head_width": 64},
    "text_cfg": {"context_length": 64, "vocab_size": 128, "width": 16, "heads": 2, "layers": 1},
}
RECIPE = Recipe(
    steps=5,
    text_steps=1,
    hard_steps=2,
    scenes_from=2,
    regions_from=3,
    still_from=3,
    crop_height=32,
    crop_width=64,
    batch_crops=6,
    empty=0.34,  # two of six
    batch_scenes=2,
    scene_size=64,
    warmup=2,
    text_every=2,
    captions=0.5,
    text_width=16,
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Four scenes of 96 pixels, drawn with one font."""
    folder = tmp_path_factory.mktemp("bank")
    renderer = Renderer([FONT])
    recipe = BankRecipe(scenes=4, size=96, signs=(3, 5), heights=(14.0, 22.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank_module, "_renderer", lambda backgrounds: renderer)
        draw_shard((folder, recipe, 0, None))
    return Bank(folder)


@pytest.fixture
def small_model(monkeypatch):
    monkeypatch.setattr(pretrain, "MINI", TINY)


def run(out, bank, recipe=RECIPE, **changes):
    pretrain.train(out, recipe, bank, "cpu", 0, **{"half": False, **changes})


def equal(one, other) -> bool:
    """Compare two batches, entry by entry."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def gathered(recipe, said, boards=None, is_word=None, seed=0):
    """Return the texts of a batch of given things."""
    boards, is_word = boards or ["none"] * len(said), is_word or [True] * len(said)
    return words_and_texts(np.random.default_rng(seed), recipe, said, boards, is_word)


# --- losses


def test_contrastive_equals_cross_entropy_with_one_positive_each():
    torch.manual_seed(0)
    x, t = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    scale = torch.tensor(7.0)
    labels = torch.arange(5)
    logits = scale * x @ t.T
    expected = 0.5 * (
        torch.nn.functional.cross_entropy(logits, labels) + torch.nn.functional.cross_entropy(logits.T, labels)
    )
    assert torch.allclose(losses.contrastive(x, t, torch.eye(5, dtype=torch.bool), scale), expected, atol=1e-6)


def test_contrastive_by_hand_with_two_positives():
    """Row 0 has two positives: each competes with the one negative alone."""
    x, t = torch.eye(2), torch.eye(2)[[0, 0, 1]]
    positive = torch.tensor([[True, True, False], [False, False, True]])
    row0, row1 = np.log1p(np.exp(-1)), np.log1p(2 * np.exp(-1))
    columns = np.log1p(np.exp(-1))
    value = float(losses.contrastive(x, t, positive, torch.tensor(1.0)))
    assert value == pytest.approx(0.5 * ((row0 + row1) / 2 + columns), abs=1e-6)


def test_letters_by_hand():
    """Four undecided places, two of them filled: 4 log 2 over 2 letters; nothing to spell costs nothing."""
    bits = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert float(pretrain.letters(torch.zeros(2, 2), bits)) == pytest.approx(2 * math.log(2))
    assert float(pretrain.letters(99 * (bits - 0.5), bits)) < 1e-6
    assert float(pretrain.letters(torch.zeros(0, 2), torch.zeros(0, 2))) == 0


def test_the_terms_are_weighted():
    terms = {"words": 1.0, "scenes": 10.0, "regions": 4.0, "accuracy": 1e9}
    terms |= {"spelling_text": 100.0, "spelling_image": 1000.0}
    recipe = replace(RECIPE, global_weight=0.5, region_weight=0.25, spelling_weight=0.25)
    recipe = replace(recipe, late_from=7, late_weight=2.0)
    assert pretrain.total(terms, recipe, 6) == pytest.approx(1 + 5 + 1 + 25 + 250)
    assert pretrain.total(terms, recipe, 7) == pytest.approx(1 + 20 + 8 + 25 + 250)
    assert pretrain.total({"words": 1.0}, recipe, 0) == 1


def test_the_learning_rate_by_hand():
    """Warm-up and the first cosine, whose end is not reached; then a rate of its own, which falls to zero."""
    recipe = Recipe(steps=200, warmup=10, lr=2.0, cosine=100, late_from=60, late_lr=3.0)
    assert pretrain.rate(recipe, 0) == pytest.approx(0.2)
    assert pretrain.rate(recipe, 4) == pytest.approx(0.5 * (1 + math.cos(0.04 * math.pi)))
    assert pretrain.rate(recipe, 25) == pytest.approx(1 + math.cos(math.pi / 4))
    assert pretrain.rate(recipe, 50) == pytest.approx(1)
    assert pretrain.rate(recipe, 60) == pytest.approx(3 / 50)
    assert pretrain.rate(recipe, 130) == pytest.approx(1.5)
    assert 0 < pretrain.rate(recipe, 199) < 1e-3


def test_late_steps_hold_fewer_crops_and_scenes_of_two_sizes(bank):
    recipe = replace(RECIPE, steps=8, late_from=4, late_crops=4, late_scenes=3, large_scenes=1, large_size=96)
    shapes = [Batches(recipe, bank)[step] for step in (4, 5, 6)]
    assert [len(batch["crops"]) for batch in shapes] == [4, 4, 4]
    assert [tuple(batch["scenes"].shape[:3]) for batch in shapes] == [(3, 64, 64), (1, 96, 96), (3, 64, 64)]


# --- both towers


def test_encode_text_cut_equals_full_length():
    torch.manual_seed(0)
    clip = build_mini(TINY).eval()
    tokens = CharTokenizer(64)(["open", "a longer text"])
    nothing = torch.zeros(2, 0, 16)
    for cut in (tokens, tokens[:, :16]):
        assert torch.allclose(pretrain.encode_text(clip, cut, nothing), clip.encode_text(tokens), atol=1e-5)


def test_words_and_captions_are_read_as_if_together():
    """Each part is cut to its own length: neither the cut nor the parting reaches the result."""
    torch.manual_seed(0)
    clip = build_mini(TINY).eval()
    tokenizer = CharTokenizer(64)
    texts = ["open", "sea", "a red sign that says open", "the word sea"]
    batch = {"bare": 2, "prefix": 0.02 * torch.randn(4, 3, 16), "vocabulary": texts}
    with torch.no_grad():
        found = pretrain.read(clip, batch, tokenizer, "cpu", False)
        whole = pretrain.encode_text(clip, tokenizer(texts), batch["prefix"])
        torch.testing.assert_close(found, torch.nn.functional.normalize(whole, dim=-1), atol=1e-5, rtol=1e-4)
        words = pretrain.read(clip, {**batch, "bare": 4}, tokenizer, "cpu", False)
        torch.testing.assert_close(words, found, atol=1e-5, rtol=1e-4)


def test_images_are_seen_as_the_backbone_sees_them():
    clip = build_mini(TINY).eval()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    backbone = backbones.wrap(clip, pretrain.MEAN, pretrain.STD)
    expected = torch.nn.functional.normalize(backbone.zero_shot(backbone.normalise(images)), dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(pretrain.see(clip, images, False), expected, atol=1e-5, rtol=1e-4)
        assert pretrain.see(clip, torch.zeros(3, 32, 96, 3, dtype=torch.uint8), False).shape == (3, 16)


# --- batches


def test_a_batch_is_the_same_when_asked_twice(bank):
    for step in range(RECIPE.steps):
        one, other = (Batches(RECIPE, bank)[step] for _ in range(2))
        assert equal(one, other), f"step {step}"
    data = Batches(RECIPE, bank)
    assert len(data) == RECIPE.steps
    assert not equal(data[3], data[4])
    assert not equal(data[3], Batches(replace(RECIPE, seed=1), bank)[3])


def test_the_curriculum_goes_from_texts_to_crops_and_to_scenes(bank):
    batches = [Batches(RECIPE, bank)[step] for step in range(5)]
    assert "crops" not in batches[0] and "scenes" not in batches[0]
    assert len(batches[0]["labels"]) == 6
    assert all(batch["crops"].shape == (6, 32, 64, 3) for batch in batches[1:])
    assert [step for step, batch in enumerate(batches) if "scenes" in batch] == [2, 4], "every second step"
    assert batches[2]["scenes"].shape == (2, 64, 64, 3) and batches[2]["scenes"].dtype == torch.uint8


def test_the_positive_matrix_agrees_with_the_labels(bank):
    for step in range(RECIPE.steps):
        batch = Batches(RECIPE, bank)[step]
        positive, labels, bare = batch["positive"], batch["labels"], batch["bare"]
        count, vocabulary = len(labels), batch["vocabulary"]
        assert positive.shape == (count, len(vocabulary)) and len(set(vocabulary)) == len(vocabulary)
        assert labels.max() < bare
        words = torch.nn.functional.one_hot(labels, bare).bool()
        assert torch.equal(positive[:, :bare], words), "one word each: neither another one nor a misspelling"
        for n, row in enumerate(positive[:, bare:]):
            own, true_of_it = vocabulary[labels[n]], [vocabulary[bare + i] for i in row.nonzero().ravel()]
            assert all(sentence.removesuffix(".").split(" ")[-1] == own for sentence in true_of_it)
        assert positive[:, bare:].any(0).all(), "a caption that is true of nothing"
        assert batch["prefix"].shape[0] == len(vocabulary) and batch["prefix"].shape[2] == 16
        expected = np.stack([pyramid(word) for word in vocabulary[:bare]])
        np.testing.assert_array_equal(batch["spelling"], expected)
        assert len(batch["is_word"]) == count


def test_empty_crops_have_no_positive(bank):
    """They stand behind the things: rows of the contrast without a word, and nothing to spell."""
    batch = Batches(RECIPE, bank)[3]
    assert batch["things"] == 4 and len(batch["crops"]) == 6 and len(batch["positive"]) == 4
    torch.manual_seed(0)
    clip, head = build_mini(TINY), torch.nn.Linear(16, SIZE)
    passed = {}
    plain = losses.contrastive

    def contrastive(features, texts, positives, scale):
        passed["positives"] = positives
        return plain(features, texts, positives, scale)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "contrastive", contrastive)
        terms = pretrain.forward(clip, head, batch, CharTokenizer(64), "cpu", False, False)
    assert passed["positives"].shape == (6, len(batch["vocabulary"]))
    assert torch.equal(passed["positives"][:4], batch["positive"]) and not passed["positives"][4:].any()
    assert set(terms) == {"words", "spelling_image", "accuracy"}
    assert 0 <= terms["accuracy"] <= 1


def test_empty_crops_touch_no_word(bank, monkeypatch):
    """What is cut out for them does not overlap a polygon of its scene."""
    boxes = []

    def look(rng, picture, box, is_word, size, hard):
        boxes.append((picture, box))
        return np.zeros((*size, 3), np.uint8)

    monkeypatch.setattr(batches_module, "look", look)
    found = Batches(RECIPE, bank)._empty(np.random.default_rng(0), 8, (32, 64), 1.0)
    assert len(found) == len(boxes) == 8
    for picture, box in boxes:
        scene = next(scene for scene in bank.scenes if (scene.image() == picture).all())
        empty = shapely.Polygon(box)
        assert shapely.box(0, 0, 96, 96).covers(empty)
        for polygon in (thing.polygon for thing in scene.things):
            shared = empty.intersection(shapely.Polygon(polygon).convex_hull).area
            assert shared < 0.02 * empty.area + 10, "but for a row of pixels"


def test_a_scene_has_the_words_that_it_shows(bank):
    """Rows of the scenes' matrix are unions of their members' rows, which follow the crops' things."""
    for step in (2, 4):
        batch = Batches(RECIPE, bank)[step]
        has, things = batch["scene_has"], batch["things"]
        members = batch["positive"][things:]
        assert has.shape == (2, len(batch["vocabulary"])) and has.any(1).all()
        assert torch.equal(has.any(0), members.any(0))
        assert has[:, : batch["bare"]].sum() <= len(members)
        assert len(batch["owners"]) == len(batch["cells"]) == len(members), "cells and owner of each thing in a scene"
        for n in range(len(has)):
            assert torch.equal(members[batch["owners"] == n].any(0), has[n])


def test_cell_weights_are_shares_of_the_polygon():
    square = np.array([[32, 0], [96, 0], [96, 32], [32, 32]], np.float32)
    weights = cell_weights(square, 128).reshape(4, 4)
    assert weights.sum() == pytest.approx(1)
    assert weights[0, 1] == pytest.approx(0.5, abs=0.1) and weights[0, 2] == pytest.approx(0.5, abs=0.1)


def test_a_region_of_one_cell_is_that_cells_dense_feature(small_model):
    torch.manual_seed(0)
    clip = build_mini(TINY).eval()
    attnpool = clip.visual.attnpool
    features = torch.randn(2, attnpool.v_proj.in_features, 2, 2)
    cells = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
    got = pretrain.regions(clip, features, torch.tensor([1, 0]), cells)
    one = attnpool.c_proj(attnpool.v_proj(features[1, :, 0, 1]))
    two = attnpool.c_proj(attnpool.v_proj((features[0, :, 0, 0] + features[0, :, 1, 1]) / 2))
    expected = torch.nn.functional.normalize(torch.stack([one, two]), dim=-1)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_a_part_of_a_scene_tells_what_lies_in_it_whole(bank):
    scene, shown = bank.scenes[0], set()
    for seed in range(30):
        cut = part_of_scene(np.random.default_rng(seed), scene, 64)
        if cut is None:
            continue
        picture, inside, polygons = cut
        assert len(polygons) == len(inside) and all(-1 <= p.min() and p.max() <= 65 for p in polygons)
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        assert inside and all(thing.visible and any(thing is own for own in scene.things) for thing in inside)
        shown.add(tuple(map(id, inside)))
    assert len(shown) > 1, "the parts differ"
    nothing = replace(scene, things=[replace(thing, visible=False) for thing in scene.things])
    assert part_of_scene(np.random.default_rng(0), nothing, 64) is None


def test_only_what_can_be_read_is_cut_out(bank):
    high = np.array([[0, 0], [50, 0], [50, 20], [0, 20]], np.float32)
    low = high * [1, 0.5]
    drawn = [("fine", high, True), ("low", low, True), ("hidden", high, False), ("x" * 25, high, True)]
    scene = replace(bank.scenes[0], things=[SceneWord(text, polygon, "none", seen) for text, polygon, seen in drawn])
    assert [thing.text for thing in _legible(scene)] == ["fine"]


@pytest.mark.parametrize("hard", [0.0, 1.0])
@pytest.mark.parametrize("size", [(32, 64), (64, 192)])
def test_a_look_has_the_asked_size_whatever_it_shows(bank, size, hard):
    rng, scene = np.random.default_rng(0), bank.scenes[0]
    first = scene.things[0].polygon
    for polygon, is_word in [(first, True), (first, False), (first - 60, True)]:
        for _ in range(5):
            out = batches_look(rng, scene.image(), polygon, is_word, size, hard)
            assert out.shape == (*size, 3) and out.dtype == np.uint8


# --- the texts of a batch


def test_equal_words_share_a_row_of_the_vocabulary():
    batch = gathered(replace(RECIPE, negatives=0.0, captions=0.0), ["sea", "open", "sea"])
    assert batch["vocabulary"] == ["open", "sea"] and batch["bare"] == 2
    assert batch["labels"].tolist() == [1, 0, 1]
    assert batch["positive"].int().tolist() == [[0, 1], [1, 0], [0, 1]]


def test_misspellings_are_negatives_for_all():
    batch = gathered(replace(RECIPE, negatives=1.0, captions=0.0), ["harbour", "station"])
    assert 2 < batch["bare"] == len(batch["vocabulary"]) <= 4
    wrong = [i for i, text in enumerate(batch["vocabulary"]) if text not in ("harbour", "station")]
    assert wrong and not batch["positive"][:, wrong].any()
    pictures = gathered(replace(RECIPE, negatives=1.0, captions=0.0), ["cat", "dog"], is_word=[False, False])
    assert pictures["vocabulary"] == ["cat", "dog"], "a picture's name is not misspelt"


def test_a_caption_with_a_colour_is_true_of_boards_of_that_colour_alone():
    said, boards = ["open", "open", "open", "sea"], ["red", "blue", "red", "red"]
    recipe, seen = replace(RECIPE, negatives=0.0, captions=1.0), set()
    for seed in range(40):
        batch = gathered(recipe, said, boards, seed=seed)
        for column, sentence in enumerate(batch["vocabulary"]):
            rows = batch["positive"][:, column].nonzero().ravel().tolist()
            if sentence == "a red sign that says open":
                assert rows == [0, 2]
            elif sentence == "a blue sign that says open":
                assert rows == [1]
            elif sentence == "a red sign that says sea":
                assert rows == [3]
            else:
                assert rows == ([0, 1, 2] if "open" in sentence else [3]), sentence
            seen.add(sentence)
    assert {"a red sign that says open", "a blue sign that says open", "open.", "the word open"} <= seen


def test_captions_say_what_they_are_about():
    rng = np.random.default_rng(0)
    words = {caption(rng, "sea", "none", True) for _ in range(60)}
    assert words == {"sea.", "the word sea", "a sign that says sea"}
    assert "a red sign that says sea" in {caption(rng, "sea", "red", True) for _ in range(60)}
    pictures = {caption(rng, "cat", "red", False) for _ in range(60)}
    assert pictures == {"cat.", "a cat", "a picture of a cat"}


def test_texts_alone_are_told_apart_by_what_they_say(small_model):
    """Without crops the terms are spelling, and words found again behind other unknown tokens."""
    torch.manual_seed(0)
    clip, head = build_mini(TINY), torch.nn.Linear(16, SIZE)
    batch = gathered(RECIPE, ["sea", "open", "sea"])
    terms = pretrain.forward(clip, head, batch, CharTokenizer(64), "cpu", True, False)
    assert set(terms) == {"words", "spelling_text"}
    pretrain.total(terms, RECIPE, 0).backward()
    assert clip.token_embedding.weight.grad.abs().sum() > 0 and clip.visual.conv1.weight.grad is None


# --- whole runs


def weights(folder) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "state.pt", weights_only=True)
    moments = {f"adam.{i}": slots for i, slots in state["optimiser"]["state"].items()}
    parts = {"model": state["model"], "head": state["head"], "ema": state["ema"], **moments}
    return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def test_a_run_leaves_weights_that_load(small_model, bank, tmp_path):
    recipe = replace(RECIPE, steps=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "MINI", {**TINY, "mean": pretrain.MEAN, "std": pretrain.STD})
        run(tmp_path, bank, recipe)
    backbone = backbones.load("mini", weights_file=tmp_path / "mini.safetensors")
    assert backbone.mean == pretrain.MEAN and backbone.embed_dim == 16
    vectors = torch.cat([backbone.encode_text(["sea"]), backbone.zero_shot(torch.zeros(1, 3, 64, 64))])
    assert vectors.isfinite().all()
    with safetensors.safe_open(tmp_path / "mini.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["step"] == "3" and json.loads(facts["recipe"])["batch_crops"] == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "mini.safetensors", "state.pt"]


@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_an_interrupted_run_ends_with_the_same_weights(small_model, bank, tmp_path, stop_at):
    run(tmp_path / "whole", bank)
    run(tmp_path / "parts", bank, stop_at=stop_at)
    before = weights(tmp_path / "parts")
    run(tmp_path / "parts", bank)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert not all(torch.equal(before[key], parts[key]) for key in before)
    assert json.loads((tmp_path / "parts" / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])["step"] == 0


def test_an_interruption_keeps_what_was_saved(small_model, bank, tmp_path, monkeypatch, capsys):
    run(tmp_path, bank, stop_at=2)
    before = (tmp_path / "state.pt").read_bytes()

    def interrupt(*args, **stage):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pretrain, "forward", interrupt)
        run(tmp_path, bank)
    assert "run the same command to go on" in capsys.readouterr().out
    assert (tmp_path / "state.pt").read_bytes() == before


def test_batch_norm_keeps_its_statistics_in_the_end(small_model, bank, tmp_path):
    """From still_from on the running statistics stay, while the weights still learn."""
    run(tmp_path, bank, stop_at=3)
    before = weights(tmp_path)
    run(tmp_path, bank, stop_at=4)
    after = weights(tmp_path)
    assert torch.equal(before["model.visual.bn1.running_mean"], after["model.visual.bn1.running_mean"])
    assert not torch.equal(before["model.visual.conv1.weight"], after["model.visual.conv1.weight"])


def test_the_text_tower_rests_between_its_turns(small_model, bank, tmp_path):
    """Step 3 is none of its turns, step 4 is one: with text_every 2 it learns in the even steps."""
    states = []
    for stop_at in (3, 4, 5):
        run(tmp_path, bank, stop_at=stop_at)
        states.append(weights(tmp_path)["model.token_embedding.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])


def test_another_recipe_is_not_resumed(small_model, bank, tmp_path):
    run(tmp_path, bank, stop_at=1)
    with pytest.raises(ValueError, match="another recipe"):
        run(tmp_path, bank, replace(RECIPE, steps=9))


def test_the_log_drops_steps_that_were_lost(tmp_path):
    log, state = tmp_path / "log.jsonl", tmp_path / "state.pt"
    lines = [json.dumps({"step": step, "words_seen": 10 * step, "seconds": step / 2}) for step in (0, 20, 40)]

    def resumed(step: int, path: Path) -> list[tuple[int, float]]:
        model = torch.nn.Linear(1, 1)
        optimiser = torch.optim.AdamW(model.parameters())
        kept = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
        write_state(state, kept)
        return [(r["words_seen"], r["seconds"]) for r in training.Run(state, {"model": model}, optimiser, log=path).log]

    log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    assert resumed(40, log)[-1] == (200, 10.0)
    assert log.read_text(encoding="utf-8").splitlines() == lines[:2]
    assert resumed(0, log) == [] and log.read_text(encoding="utf-8") == ""
    assert resumed(5, tmp_path / "none") == []

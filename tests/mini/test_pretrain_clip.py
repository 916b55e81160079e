"""Captions and the pre-training of mini_clip: what is true of a scene, what words mean, and that a run goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from fdp_core import attention, backbones, weights
from fdp_core.mini import bank as bank_module
from fdp_core.mini import captions, pretrain, pretrain_clip
from fdp_core.mini.bank import RECIPES, BankScene
from fdp_core.mini.pretrain_clip import CaptionedScenes, ClipRecipe
from fdp_core.mini.renderer import SceneWord
from fdp_core.words import FUNCTION_WORDS

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "head_width": 64},
    "text_cfg": {"context_length": 64, "vocab_size": 128, "width": 16, "heads": 2, "layers": 1},
    "mean": [0.45] * 3,
    "std": [0.27] * 3,
}
RECIPE = ClipRecipe(
    steps=6,
    scenes=4,
    size=64,
    whole_every=2,
    close_scenes=6,
    close_size=32,
    large_every=4,
    large_scenes=2,
    large_size=96,
    relations=3,
    closed=2,
    warmup=2,
)
# coffee is a drink, a drink is a food; a closed-class word ("will") is a noun too, and must not be taken for one
NOUNS = """  1 licence
00000010 13 n 02 coffee 0 java 0 001 @ 00000020 n 0000 | a drink of roasted beans; "he drank it"
00000020 13 n 01 drink 0 001 @ 00000030 n 0000 | any liquid that is suitable for drinking and for nothing else whatever
00000030 13 n 01 food 0 000 | what is eaten
00000040 13 n 02 taxi 0 taxi_cab 0 000 | a car for hire
00000050 13 n 01 will 0 000 | the faculty of choosing
"""
INDEX = """  1 licence
coffee n 2 1 @ 2 1 00000010 00000030
taxi n 1 0 1 1 00000040
will n 1 0 1 1 00000050
"""


@pytest.fixture(autouse=True)
def dictionary(tmp_path_factory, monkeypatch):
    """Stand a WordNet of five nouns in for the real one."""
    folder = tmp_path_factory.mktemp("wordnet")
    for part in ("noun", "verb", "adj", "adv"):
        (folder / f"data.{part}").write_text(NOUNS if part == "noun" else "")
        (folder / f"index.{part}").write_text(INDEX if part == "noun" else "")
    monkeypatch.setenv("WNSEARCHDIR", str(folder))
    captions.meanings.cache_clear()
    yield folder
    captions.meanings.cache_clear()


def thing(text, is_word=True, board="none", box=(10, 10, 50, 40)):
    x0, y0, x1, y1 = box
    polygon = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
    return SceneWord(text, polygon, board, True, is_word)


class Drawn(BankScene):
    """A scene of noise."""

    def image(self):
        return np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def bank():
    """Scenes with a written word, a drawn one, both, and one that shows nothing."""
    shown = [[thing("Coffee")], [thing("coffee", False)], [thing("the"), thing("taxi", False)], []]
    scenes = [Drawn(np.zeros(0, np.uint8), things) for things in shown]
    stand_in = bank_module.Bank.__new__(bank_module.Bank)
    stand_in.scenes = scenes
    return stand_in


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Start from a tiny mini."""
    torch.manual_seed(0)
    state = {k: v for k, v in weights.build_mini(TINY).state_dict().items() if k != "attn_mask"}
    safetensors.torch.save_file(state, tmp_path / "tiny.safetensors", {"config": json.dumps(TINY)})
    monkeypatch.setattr(weights, "MINI_WEIGHTS", tmp_path / "tiny.safetensors")
    monkeypatch.setattr(pretrain_clip, "MINI", TINY)
    monkeypatch.setattr(pretrain, "MINI", TINY)


# --- captions


def test_meanings_by_hand():
    """Synonyms, two kinds upwards, the gloss's first clause; nothing of a closed class."""
    meant = captions.meanings()
    assert meant["coffee"] == ("java", "drink", "food", "a drink of roasted beans")
    assert meant["taxi"] == ("taxi cab", "a car for hire")
    assert "will" not in meant and not set(meant) & set(FUNCTION_WORDS)


def test_a_long_gloss_ends_with_a_whole_word():
    gloss = captions._synset(NOUNS.splitlines()[2])[2]
    assert gloss == "any liquid that is suitable for drinking and for" and len(gloss) <= captions.LONGEST


def test_a_missing_wordnet_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        captions.meanings()


def test_written_and_drawn_things_share_their_name_and_nothing_else():
    written, drawn = captions.names(thing("Coffee", board="red")), captions.names(thing("coffee", False))
    assert set(written) & set(drawn) == {"coffee"}
    assert "a red sign that says coffee" in written and "a picture of a coffee" in drawn


def test_a_caption_is_true_of_every_scene_that_it_describes(bank):
    scenes = [scene.things for scene in bank.scenes[:3]]
    for seed in range(20):
        texts, true = captions.sample(np.random.default_rng(seed), scenes, wrong=1.0)
        assert true.shape == (3, len(texts)) and texts == sorted(texts, key=lambda text: (len(text), text))
        for text, column in zip(texts, true.T, strict=True):
            facts = [
                any(text in (*captions.names(t), *captions.meanings().get(t.text.lower(), ())) for t in things)
                for things in scenes
            ]
            assert column.tolist() == facts
        if "coffee" in texts:
            assert true[:, texts.index("coffee")].tolist() == [True, True, False]


def test_words_of_closed_classes_mean_only_that_they_are_such():
    words, texts, means = captions.sample_meanings(np.random.default_rng(0), 8, 4)
    assert means.shape == (12, len(texts)) and set(words[8:]) <= set(FUNCTION_WORDS)
    assert means[:8, :-2].any(1).all() and means.any(0).all() and not means[8:, :-2].any()
    assert texts[-2:] == ["content word", "function word"]
    assert means[:, -2].tolist() == [True] * 8 + [False] * 4 and means[:, -1].tolist() == [False] * 8 + [True] * 4


def test_signs_carry_concepts_closed_classes_and_frequent_words():
    rng = np.random.default_rng(0)
    drawn = [captions.sample_word(rng) for _ in range(2000)]
    assert 0.35 < np.mean([word in FUNCTION_WORDS for word in drawn]) < 0.55, (
        "frequent words are often of closed classes"
    )
    assert np.mean([word in captions.concepts.names() for word in drawn]) > 0.27


# --- batches


def test_a_batch_is_the_same_when_asked_twice_and_shows_something_in_every_scene(bank):
    data = CaptionedScenes(RECIPE, bank)
    one, two = data[0], data[0]
    assert one["texts"] == two["texts"] and torch.equal(one["scenes"], two["scenes"])
    assert one["scenes"].shape == (6, 32, 32, 3), "looked at closely"
    assert data[1]["scenes"].shape == (4, 64, 64, 3) and data[3]["scenes"].shape == (2, 96, 96, 3)
    assert (one["true"].sum(1) >= 0).all() and one["true"].any(0).sum() > 0


def test_what_is_cut_off_or_too_low_is_named_by_no_caption():
    shown = [thing("whole"), thing("low", box=(10, 50, 60, 53)), thing("cut", box=(-20, 10, 10, 40))]
    picture = np.zeros((64, 64, 3), np.uint8)
    for seed in range(10):
        _, inside = pretrain_clip.cut(np.random.default_rng(seed), picture, shown, 64, False)
        assert {t.text for t in inside} <= {"whole"}


def test_a_close_look_shows_a_drawn_thing_whole_and_large():
    drawn = thing("cup", False, box=(200, 210, 260, 240))
    picture = np.zeros((448, 448, 3), np.uint8)
    picture[210:240, 200:260] = 255
    for seed in range(20):
        look, inside = pretrain_clip.cut(np.random.default_rng(seed), picture, [thing("far"), drawn], 64, True)
        columns = np.flatnonzero((look.mean(axis=(0, 2)) > look.mean() / 2) & (look.max(axis=(0, 2)) > 100))
        assert drawn in inside and look.shape == (64, 64, 3)
        assert np.ptp(columns) >= 64 / 3 - 4


def test_a_bank_for_mini_clip_names_its_words():
    assert RECIPES["mini_clip"].named and not RECIPES["mini"].named
    assert RECIPES["mini"] == bank_module.BankRecipe(), "mini's own recipe stays what it was"


# --- the model and its training


def test_seeing_equals_the_backbone(tiny):
    clip = pretrain_clip.begin(None, 0).eval()
    images = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    seen, looks = pretrain_clip.see(clip, images)
    backbone = backbones.wrap(clip, TINY["mean"], TINY["std"])
    expected = torch.nn.functional.normalize(backbone.zero_shot(backbone.normalise(images)), dim=-1)
    assert torch.allclose(seen, expected, atol=0.02), "but for bfloat16"
    exact, _ = pretrain_clip.see(clip, images, half=False)
    assert torch.allclose(exact, expected, atol=1e-4) and not torch.equal(exact, seen)
    assert torch.allclose(looks.sum(-1), torch.ones(looks.shape[:2]), atol=1e-5)


def test_texts_come_back_in_their_order(tiny):
    clip = pretrain_clip.begin(None, 0).eval()
    tokenizer, unknown = weights.CharTokenizer(64), torch.randn(2, 16)
    texts = ["a picture of a cup", "it", "coffee", "the word tea", "a"]
    together = pretrain_clip.read(clip, tokenizer, texts, unknown)
    for text, vector in zip(texts, together, strict=True):
        assert torch.allclose(pretrain_clip.read(clip, tokenizer, [text], unknown)[0], vector, atol=0.02)


def test_a_new_pool_looks_everywhere(tiny):
    clip = pretrain_clip.begin(None, 0)
    x = attention.tokens(torch.rand(1, clip.visual.attnpool.c_proj.in_features, 2, 2), torch.zeros(5, 1))
    _, looks = attention.attention_pool(x, clip.visual.attnpool)
    assert torch.allclose(looks, torch.full_like(looks, 0.2), atol=0.02)


def test_the_penalty_pulls_a_pool_that_stares_back(tiny, bank):
    clip = pretrain_clip.begin(None, 0).eval()
    batch, tokenizer = CaptionedScenes(RECIPE, bank)[0], weights.CharTokenizer(64)
    wide = pretrain_clip.forward(clip, tokenizer, batch, True, 0.5)
    assert wide["spread"] == 0
    with torch.no_grad():
        clip.visual.attnpool.k_proj.weight.mul_(1e6)
    narrow = pretrain_clip.forward(clip, tokenizer, batch, True, 0.5)
    assert narrow["spread"] > 0.1 and narrow["largest"] > wide["largest"]


def test_an_interrupted_run_goes_on_to_the_same_weights(tiny, bank, tmp_path):
    runs = [tmp_path / "whole", tmp_path / "broken"]
    pretrain_clip.train(runs[0], RECIPE, bank, None, "cpu", 0, None)
    pretrain_clip.train(runs[1], RECIPE, bank, None, "cpu", 0, 0.0001)  # stops after its first step
    assert torch.load(runs[1] / "state.pt", weights_only=True)["step"] < RECIPE.steps
    pretrain_clip.train(runs[1], RECIPE, bank, None, "cpu", 0, None)
    whole, broken = (safetensors.torch.load_file(run / "mini_clip.safetensors") for run in runs)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    start = weights.read_mini(weights.MINI_WEIGHTS)[0].state_dict()
    ended = weights.read_mini(runs[0] / "mini_clip.safetensors")[0].state_dict()
    still = [name for name in start if name.startswith(("visual.conv", "visual.layer1", "visual.layer2"))]
    assert still and all(torch.allclose(start[n].float(), ended[n].float(), atol=1e-3) for n in still)
    assert not torch.allclose(start["visual.layer4.0.conv1.weight"], ended["visual.layer4.0.conv1.weight"], atol=1e-5)


def test_another_recipe_does_not_go_on(tiny, bank, tmp_path):
    pretrain_clip.train(tmp_path, RECIPE, bank, None, "cpu", 0, 0.0001)
    with pytest.raises(ValueError, match="another recipe"):
        pretrain_clip.train(tmp_path, replace(RECIPE, lr=1e-5), bank, None, "cpu", 0, None)

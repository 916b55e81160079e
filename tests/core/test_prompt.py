"""Tests of the learnable contexts, on a tiny CLIP with a character tokenizer and on CLIP's byte pairs."""

from __future__ import annotations

import pytest
import torch

from fdp_core import backbones, prompt, weights

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32},
    "text_cfg": {"context_length": 24, "vocab_size": 128, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    clip = weights.build_mini(CONFIG)
    mean = std = (0.5, 0.5, 0.5)
    return backbones.Backbone(clip, "tiny", weights.CharTokenizer(24), "0", mean, std)


def slow(backbone, learner, text, kind):
    """One prompt alone, spelled out: [SOS] ctx word . [EOS], full context length."""
    context = learner.context_content if kind or learner.mode == "one" else learner.context_function
    tokens = backbone.tokenize([text + "."])
    embedded = backbone.token_embedding(tokens)
    joined = torch.cat([embedded[:, :1], context[None], embedded[:, 1:]], dim=1)[:, : backbone.context_length]
    return backbone.encode_embedded(joined, tokens.argmax(1) + len(context))[0]


def test_batch_equals_each_prompt_alone(backbone):
    learner = prompt.PromptLearner(32, 2, 4, "two", seed=1)
    texts = ["the", "office", "a", "coffee shop", "the", "office", "st."]
    kinds = torch.tensor([0, 1, 0, 1, 1, 1, 0])
    features = learner(backbone, texts, kinds)
    expected = torch.stack([slow(backbone, learner, text, int(kind)) for text, kind in zip(texts, kinds, strict=True)])
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(features[1], features[5]) and not torch.allclose(features[0], features[4])


def test_modes(backbone):
    texts, kinds = ["the", "office"], torch.tensor([0, 1])
    one = prompt.PromptLearner(32, 2, 4, "one", seed=1)
    expected = torch.stack([slow(backbone, one, text, 1) for text in texts])
    torch.testing.assert_close(one(backbone, texts), expected, atol=1e-5, rtol=1e-5)
    none = prompt.PromptLearner(32, 2, 4, "none")
    assert torch.equal(none(backbone, texts, kinds), backbone.encode_text(texts))
    empty = prompt.PromptLearner(32, 0, 0, "two")
    bare = backbone.encode_text([text + "." for text in texts])
    torch.testing.assert_close(empty(backbone, texts, kinds), bare, atol=1e-5, rtol=1e-5)


def test_gradients_reach_only_the_contexts_that_were_used(backbone):
    learner = prompt.PromptLearner(32, 2, 4, "two")
    learner(backbone, ["and", "or"], torch.tensor([0, 0])).sum().backward()
    assert learner.context_function.grad.abs().sum() > 0
    assert learner.context_content.grad is None or learner.context_content.grad.abs().sum() == 0
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_equal_prompts_are_encoded_once(backbone, monkeypatch):
    rows = []
    original = backbone.encode_embedded
    monkeypatch.setattr(backbone, "encode_embedded", lambda x, eot: (rows.append(len(x)), original(x, eot))[1])
    prompt.PromptLearner(32)(backbone, ["the", "bar", "the", "bar", "bar"], torch.tensor([0, 1, 0, 1, 0]))
    assert rows == [3]


def test_chunks_do_not_change_the_result(backbone, monkeypatch):
    learner = prompt.PromptLearner(32)
    texts, kinds = [f"word{i}" for i in range(7)], torch.tensor([0, 1, 0, 1, 0, 1, 1])
    whole = learner(backbone, texts, kinds).detach()
    monkeypatch.setattr(prompt, "CHUNK", 3)
    torch.testing.assert_close(learner(backbone, texts, kinds), whole, atol=1e-5, rtol=1e-5)


def test_contexts_are_seeded_and_small():
    first, second, other = (prompt.PromptLearner(32, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.context_content, second.context_content)
    assert not torch.equal(first.context_content, other.context_content)
    assert first.context_function.shape == (2, 32) and first.context_content.shape == (4, 32)
    assert prompt.PromptLearner(512, 50, 50).context_content.std().item() == pytest.approx(0.02, rel=0.05)


def test_long_texts_lose_their_end_not_their_end_token(backbone):
    tokens, eot = prompt.layout(backbone, ["x" * 60], [4])
    assert tokens.shape == (1, 24) and eot.tolist() == [23] and tokens[0, 22:].tolist() == [ord("."), 127]
    assert prompt.PromptLearner(32)(backbone, ["x" * 60], torch.tensor([1])).isfinite().all()
    with pytest.raises(ValueError, match="no room"):
        prompt.layout(backbone, ["x"], [22])


def test_layout_of_characters(backbone):
    tokens, eot = prompt.layout(backbone, ["ab", "a"], [1, 0])
    assert tokens.tolist() == [[1, 0, 97, 98, 46, 127], [1, 97, 46, 127, 0, 0]] and eot.tolist() == [5, 3]


def test_layout_of_byte_pairs_is_the_released_prompt():
    """The released prompt is tokenised as one string, with placeholders "X" where the context goes."""
    open_clip = pytest.importorskip("open_clip")

    class BytePairs:
        context_length = 77

        @staticmethod
        def tokenize(texts):
            return open_clip.tokenize(texts)

    for word in ["the", "coffee", "skyscraper", "coffee shop", "1984", "don't"]:
        released = open_clip.tokenize([f"X X {word}."])[0]
        tokens, eot = prompt.layout(BytePairs(), [word], [2])
        assert eot.item() == released.argmax().item()
        assert tokens[0, 3:].tolist() == released[3 : eot.item() + 1].tolist()


def test_bad_arguments_are_errors(backbone):
    with pytest.raises(ValueError, match="one of two, one, none"):
        prompt.PromptLearner(32, mode="three")
    with pytest.raises(ValueError, match="2 and -1 vectors of 32 numbers; expected 0 or more"):
        prompt.PromptLearner(32, n_content=-1)
    with pytest.raises(ValueError, match="2 kinds"):
        prompt.PromptLearner(32)(backbone, ["a", "b"], torch.tensor([0]))
    assert prompt.PromptLearner(32)(backbone, [], torch.tensor([], dtype=torch.long)).shape == (0, 16)


@pytest.mark.parametrize("mode", ["two", "one", "none"])
def test_neutral_start_brings_prompted_words_near_the_bare_ones(backbone, mode):
    learner = prompt.PromptLearner(32, 2, 4, mode, seed=1)
    words = ["the", "office", "coffee", "and", "hotel", "bank"]
    other = prompt.PromptLearner(32, 2, 4, mode, seed=1)
    cosines = prompt.start_neutral(learner, backbone, words, steps=25, batch=8, seed=3)
    assert prompt.start_neutral(other, backbone, words, steps=25, batch=8, seed=3) == cosines
    if mode == "none":
        assert cosines == []
        return
    assert cosines[-1] > cosines[0]
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), other.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in learner.parameters())
    bare = torch.nn.functional.normalize(backbone.encode_text(words), dim=-1)
    start = prompt.PromptLearner(32, 2, 4, mode, seed=1)
    for kind in (0, 1) if mode == "two" else (1,):
        kinds = torch.full((len(words),), kind)
        near, far = (
            (torch.nn.functional.normalize(learned(backbone, words, kinds), dim=-1) * bare).sum(-1).mean()
            for learned in (learner, start)
        )
        assert near > far

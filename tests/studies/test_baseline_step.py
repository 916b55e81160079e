"""The baseline step computes the losses of the fast one, and so does every step of the ladder between them."""

import numpy as np
import pytest
import torch
from eval_fakes import draw
from tiny import WORDS, backbone, clusters

from fdp_core import config
from fdp_core.datasets import Gallery, Photo, Word
from fdp_core.datasets.images import open_image
from fdp_core.distract import Distractors
from fdp_core.model import FDP
from fdp_core.retrieval import features, geometry
from fdp_core.studies import baseline_step
from fdp_core.studies.baseline_step import ALL, Means
from fdp_core.training import loop, samples


def world(folder, **changes):
    """Four photographs, two words each, and everything a step needs."""
    photos = []
    for number in range(4):
        path = draw(folder / f"{number}.png", number, (96, 96))
        boxes = [np.array([[x, 8], [x + 40, 8], [x + 40, 40], [x, 40]], np.float32) for x in (4, 50)]
        words = tuple(Word(WORDS[(3 * number + i) % len(WORDS)], box) for i, box in enumerate(boxes))
        photos.append(Photo(path.name, path, words))
    shown = Gallery("toy", "train", tuple(photos), "", True)
    settings = config.preset(
        "default", image_size=64, probe_heads=2, probe_dropout=0.0, localiser_hidden=8, candidates=3, **changes
    )
    model = FDP(backbone(), settings)
    model.clusters = clusters(model.backbone)
    store = features.trunk_features(model.backbone, shown, 64, settings.fit, progress=False)
    squares = np.stack([geometry.fit_image(open_image(p.path), 64, mode=settings.fit)[0] for p in photos])
    data = samples.build([shown], [store], settings)
    return model, data, squares, list(data.samples), Distractors(["then", "hostel", *WORDS], WORDS, 3)


def gradients(model, terms):
    model.zero_grad()
    terms["total"].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


SETTINGS = [{}, {"distractor_cluster": "anchor"}, {"prompts": "one"}, {"prompts": "none"}, {"words_per_image": 1}]


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_every_step_of_the_ladder_has_the_losses_and_gradients_of_training(tmp_path, changes):
    model, data, squares, batch, distractors = world(tmp_path, **changes)
    expected = loop.loss_terms(model, data, batch, distractors, model.config, 1)
    slopes = gradients(model, expected)
    steps = baseline_step.ladder()
    assert list(steps.values())[0] == Means() and list(steps.values())[-1] == ALL and len(steps) == 6
    for name, means in steps.items():
        terms = baseline_step.loss_terms(model, data, squares, batch, distractors, model.config, 1, means)
        # the kept features are rounded to half precision
        for term, value in expected.items():
            assert float(terms[term]) == pytest.approx(float(value), rel=2e-3, abs=2e-3), (name, term)
        mine = gradients(model, terms)
        assert mine.keys() == slopes.keys()
        for key, slope in slopes.items():
            assert float((mine[key] - slope).norm()) <= 0.02 * float(slope.norm()) + 1e-4, (name, key)


def test_texts_cut_to_their_length_are_the_same(tmp_path):
    model = world(tmp_path)[0]
    kinds = [0, 1] * 5
    cut, whole = (baseline_step._tower(model, WORDS[:10], kinds, Means(cut_texts=cut)) for cut in (True, False))
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-4)


def test_what_is_saved_is_not_done(tmp_path, monkeypatch):
    model, data, squares, batch, distractors = world(tmp_path, distractor_cluster="anchor")
    tower, texts, images = model.backbone.clip.transformer, [], []
    monkeypatch.setattr(tower, "forward", lambda x, run=tower.forward, **k: (texts.append(x.shape[:2]), run(x, **k))[1])
    trunk = model.backbone.trunk
    monkeypatch.setattr(model.backbone, "trunk", lambda x: (images.append(len(x)), trunk(x))[1])

    def count(means):
        texts.clear(), images.clear()
        baseline_step.loss_terms(model, data, squares, batch, distractors, model.config, 1, means)
        return sum(n for n, _ in texts), max(length for _, length in texts), sum(images)

    n, k = len(batch), 3
    assert count(Means()) == (2 * n + n + n * k, model.backbone.context_length, n)
    model.kinds_of([word for _, word in batch])
    rows, length, seen = count(ALL)
    assert rows < n + n * k and length < model.backbone.context_length and seen == 0


def test_without_images_the_trunk_cannot_run(tmp_path):
    model, data, _, batch, distractors = world(tmp_path)
    with pytest.raises(ValueError, match="squares"):
        baseline_step.loss_terms(model, data, None, batch, distractors, model.config, 1)

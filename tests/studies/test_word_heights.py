import dataclasses

import chapters
import numpy as np
import pytest

from fdp_core import datasets
from fdp_core.retrieval import geometry
from fdp_core.studies import attention_study

SIZE, GRID = 640, 20
CELLS = chapters.functions("02")


@pytest.fixture(scope="module")
def study():
    gallery, _ = datasets.load("mini")
    photos = gallery.photos[:6]
    placed = [geometry.plan_fit(640, 640, SIZE) for _ in photos]
    text, inside, judged = (
        np.stack(c) for c in zip(*(attention_study.cells_of(*p, GRID) for p in zip(photos, placed)))
    )
    names = [field.name for field in dataclasses.fields(attention_study.PoolStudy)]
    given = {"photos": photos, "placed": tuple(placed), "text": text, "inside": inside, "judged": judged}
    return attention_study.PoolStudy(**dict.fromkeys(names) | given)


@pytest.fixture(scope="module")
def words(study):
    return CELLS.word_cells(study)


def test_words_apart_cover_what_all_cover_and_know_their_height(study, words):
    for number, photo in enumerate(study.photos):
        mine = words.cells[words.owner == number]
        assert len(mine) == sum(not word.ignore for word in photo.words)
        np.testing.assert_allclose(np.minimum(mine.sum(0), 1), study.text[number], atol=0.05)  # words barely overlap
    word = datasets.Word("open", np.array([[10, 10], [90, 10], [90, 30], [10, 30]], np.float32))
    one = dataclasses.replace(study, photos=(datasets.Photo("a", None, (word,)),), placed=study.placed[:1])
    assert CELLS.word_cells(one).height.tolist() == [20]


def test_even_attention_gets_one_and_attention_on_a_group_gets_more(study, words):
    even = np.full((len(study), 2, GRID * GRID + 1), 1.0)
    value, low, high = CELLS.attention_by_height(words, (32,), even)
    np.testing.assert_allclose([value, low, high], 1)
    on_large = even.copy()
    large = words.height >= 32
    for owner, cells in zip(words.owner[large], words.cells[large]):
        on_large[owner, :, 1:] += 20 * cells
    value, low, high = CELLS.attention_by_height(words, (32,), on_large)
    assert value[1] > 5 * value[0] and low[1] > 1 and (low <= value).all() and (value <= high).all()


def test_auc_of_a_right_and_of_a_blind_map(study, words):
    right, _, _ = CELLS.auc_by_height(study, words, (32,), study.text)
    blind, low, high = CELLS.auc_by_height(study, words, (32,), np.zeros_like(study.text))
    assert (right > 0.85).all()
    np.testing.assert_allclose([blind, low, high], 0.5)
    wrong, _, _ = CELLS.auc_by_height(study, words, (32,), -study.text)
    assert (wrong < 0.15).all()


def test_an_empty_group_is_nan(study, words):
    even = np.full((len(study), 1, GRID * GRID + 1), 1.0)
    value, _, _ = CELLS.attention_by_height(words, (1, 2, 32, 900), even)
    assert np.isfinite(value).tolist() == [False, False, True, True, False]

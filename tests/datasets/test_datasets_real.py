"""The real sets, where they are present: counts as published, and as pinned in the manifests."""

import numpy as np
import pytest

from fdp_core import datasets
from fdp_core.datasets.images import open_image
from fdp_core.datasets.manifest import manifest
from fdp_core.datasets.protocol import rank_words

pytestmark = pytest.mark.needs_data


def real(name, split=None):
    source = manifest(name)
    split, facts = source.split(split)
    if lacking := source.lacking(split):
        pytest.skip(f"real data missing: {source.name}/{split}: no {', '.join(lacking)} in {source.folder()}")
    gallery, queries = datasets.load(name, split)
    assert queries.relevant.shape == (len(queries), len(gallery))
    assert queries.relevant.any(axis=1).all() and len(set(queries.texts)) == len(queries)
    for key in ("photographs", "queries"):
        assert key not in facts or facts[key] == {"photographs": len(gallery), "queries": len(queries)}[key]
    return gallery, queries


def words_of(gallery):
    return [word for photo in gallery.photos for word in photo.words]


def test_svt_test():
    gallery, queries = real("svt", "test")
    assert (len(gallery), len(queries), len(words_of(gallery))) == (249, 427, 647)
    assert queries.relevant.sum() == 569
    assert not gallery.may_show
    door = queries.texts.index("door")
    assert "18_01.jpg" in [gallery.photos[i].id for i in np.flatnonzero(queries.relevant[door])]


def test_svt_train_shares_no_photograph_with_the_test_set():
    train, _ = real("svt", "train")
    test, _ = real("svt", "test")
    assert len(train) == 100
    assert not {photo.id for photo in train.photos} & {photo.id for photo in test.photos}


def test_icdar2015_test():
    gallery, queries = real("ic15", "test")
    words = words_of(gallery)
    assert (len(gallery), len(words), sum(not word.ignore for word in words)) == (500, 5230, 2077)
    assert gallery.may_show and "CC BY 4.0" in gallery.attribution
    assert len(queries) == 100 and queries.texts[:3] == ("sale", "the", "exit")
    assert queries.relevant.sum() == 627


def test_the_frozen_icdar2015_list_is_what_its_recipe_gives():
    gallery, queries = real("ic15", "test")
    protocol = manifest("ic15").split("test")[1]["protocol"]
    ranked = rank_words(gallery.photos, protocol)
    assert [word for word, _ in ranked[:100]] == list(queries.texts)
    np.testing.assert_array_equal(queries.relevant.sum(axis=1), [count for _, count in ranked[:100]])


@pytest.mark.parametrize(("name", "split"), [("svt", "test"), ("ic15", "test")])
def test_polygons_lie_on_their_photographs(name, split):
    gallery, _ = real(name, split)
    for photo in gallery.photos[::50]:
        width, height = open_image(photo.path).size
        for word in photo.words:
            middle = word.polygon.mean(axis=0)
            assert 0 <= middle[0] <= width and 0 <= middle[1] <= height, photo.id


def test_iiit_str():
    gallery, queries = real("iiit", "test")
    assert (len(gallery), len(queries)) == (10_000, 50)
    positives = queries.relevant.sum(axis=1)
    assert positives.min() >= 10 and positives.max() <= 50


def test_mlt2019():
    gallery, queries = real("mlt", "train")
    assert len(gallery) == 10_000 and 0 < len(queries) <= 500


@pytest.mark.parametrize(("name", "split"), [("mini", "test"), ("mini_train", "train")])
def test_shipped_sets_are_whole(name, split):
    gallery, _ = real(name, split)
    (check,) = datasets.verify(name)
    assert check.status == "present", check.problems
    assert gallery.may_show and all(photo.path.is_file() for photo in gallery.photos)


@pytest.mark.parametrize("name", ["svt", "icdar2015"])
def test_quick_check_agrees(name):
    real(name, "test")
    check = datasets.verify(name, "test", quick=True)[0]
    assert check.status == "present", check.problems

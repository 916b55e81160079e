"""Where a text retriever fails: heights, bins and rates by hand, and what must come out of scores that are known."""

import chapters
import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import Gallery, Photo, Queries, Word
from fdp_core.datasets.types import box_polygon
from fdp_core.evaluation import metrics
from fdp_core.evaluation.report import evaluate
from fdp_core.studies.parameters import BadParameter

CELLS = chapters.functions("01")
HEIGHTS = (4, 8, 16, 32)


def photo(folder, name, *words, pictures=(), size=(200, 100)):
    Image.new("RGB", size, "grey").save(folder / name)
    said = tuple(Word(text, box_polygon(2, 2, 60, high), ignore) for text, high, ignore in words)
    return Photo(name, folder / name, said, tuple(pictures))


@pytest.fixture
def shop(tmp_path):
    """Seven photographs of 200 x 100 pixels: coffee on two signs, as a picture, as both, and too small to count."""
    photos = (
        photo(tmp_path, "0.png", ("Coffee", 10, False), ("COFFEE", 20, False), ("the", 8, False)),
        photo(tmp_path, "1.png", ("coffee", 40, False), ("bus", 12, False)),
        photo(tmp_path, "2.png", ("the", 16, False), pictures=("coffee",)),
        photo(tmp_path, "3.png", ("coffee", 30, False), pictures=("coffee",)),
        photo(tmp_path, "4.png", ("coffee", 3, True), pictures=("coffee",)),
        photo(tmp_path, "5.png", ("the coffee", 50, False)),
        photo(tmp_path, "6.png"),
    )
    gallery = Gallery("shop", "test", photos, "", True)
    queries = datasets.queries_for(["coffee", "the"], photos)
    return gallery, queries


def random_case(seed=0, queries=40, photographs=60):
    rng = np.random.default_rng(seed)
    relevant = rng.random((queries, photographs)) < 0.1
    relevant[np.arange(queries), rng.integers(0, photographs, queries)] = True
    heights = np.where(relevant, rng.choice(HEIGHTS, relevant.shape), np.nan)
    return rng, relevant, heights


# ------------------------------------------------------------------------------------------------------- parameters


def test_numbers_are_read_and_bad_ones_named():
    assert CELLS.numbers("224, 320,640", "sizes", 32) == [224, 320, 640]
    for text in ("", "224; 320", "640, 224", "224, 224", "225", "-32", "0", "22.4"):
        with pytest.raises(BadParameter, match="sizes is .* multiples of 32"):
            CELLS.numbers(text, "sizes", 32)


# ---------------------------------------------------------------------------------------------------------- heights


def test_heights_are_those_of_the_tallest_matching_word(shop):
    gallery, queries = shop
    heights = CELLS.searched_heights(gallery, queries, 400)  # twice the long side
    expected = np.array([[40, 80, np.nan, 60] + [np.nan] * 3, [16, np.nan, 32] + [np.nan] * 4])
    np.testing.assert_allclose(heights, expected, atol=1e-6)
    np.testing.assert_allclose(CELLS.searched_heights(gallery, queries, 200), expected / 2, atol=1e-6)


def test_heights_need_words_and_a_readable_file(shop):
    gallery, queries = shop
    gallery.photos[1].path.write_bytes(b"no image")
    heights = CELLS.searched_heights(gallery, queries, 200)
    assert np.isnan(heights[0, 1]) and heights[0, 0] == pytest.approx(20)
    bare = Gallery("shop", "test", tuple(Photo(p.id, p.path) for p in gallery.photos), "", True)
    assert np.isnan(CELLS.searched_heights(bare, queries, 200)).all()


def test_the_mini_gallery_names_a_height_for_every_word_query():
    gallery, queries = datasets.load("mini", "test")
    heights = CELLS.searched_heights(gallery, queries, 640)
    spelt = queries.groups["content"] | queries.groups["function"]
    assert (np.isfinite(heights) == (queries.relevant & spelt[:, None])).all()
    assert np.nanmin(heights) > 5 and np.nanmax(heights) < 320


def test_outranked_by_hand():
    relevant = np.array([[True, False, True, False, False], [True] * 5])
    scores = np.array([[3.0, 1.0, 2.0, 2.0, 9.0], [1.0, 2, 3, 4, 5]])
    share = CELLS.outranked(relevant, scores)
    np.testing.assert_allclose(share[0, [0, 2]], [2 / 3, 1.5 / 3])
    assert np.isnan(share[0, [1, 3, 4]]).all() and np.isnan(share[1]).all()


def test_bins_keep_only_their_own_photographs():
    relevant = np.array([[True, True, True, False, False]])
    scores = np.array([[5.0, 1.0, 4.0, 3.0, 2.0]])
    heights = np.array([[10.0, 30.0, np.nan, np.nan, np.nan]])
    table = CELLS.by_height(relevant, scores, heights, [20])
    assert table[["low", "high", "pairs", "queries"]].to_numpy().tolist() == [[0, 20, 1, 1], [20, np.inf, 1, 1]]
    # The short word's photograph leads; the tall one's is last of three once the other right ones have left.
    np.testing.assert_allclose(table["mAP"], [100, 100 / 3])
    np.testing.assert_allclose(table["outranked"], [100, 0])
    np.testing.assert_allclose(table["chance"], [100 * (1 + 1 / 2 + 1 / 3) / 3] * 2)
    assert table["height"].tolist() == ["below 20", "from 20"]
    assert len(CELLS.by_height(relevant, scores, np.full((1, 5), np.nan), [20])) == 0


def test_a_perfect_ranking_is_perfect_in_every_bin_and_a_random_one_at_chance():
    rng, relevant, heights = random_case(queries=300)
    perfect = CELLS.by_height(relevant, relevant.astype(float), heights, [6, 12, 24])
    assert len(perfect) == 4 and (perfect["mAP"] == 100).all() and (perfect["outranked"] == 100).all()
    random = CELLS.by_height(relevant, rng.random(relevant.shape), heights, [6, 12, 24])
    assert (abs(random["mAP"] - random["chance"]) < 3).all() and (abs(random["outranked"] - 50) < 5).all()


def test_a_larger_input_helps_the_words_that_it_helps():
    rng, relevant, heights = random_case(queries=200)
    heights = {320: heights / 2, 640: heights}
    noise = {size: np.where(relevant, 0.5 + rng.normal(0, 0.05, relevant.shape), np.nan) for size in heights}
    none = CELLS.gain_by_share(noise, heights, 320, 640, parts=2)
    assert (none["from"] < 0).all() and (none["to"] > 0).all()
    helped = {320: noise[320], 640: noise[640] + 0.2 * (heights[640] < 12)}
    table = CELLS.gain_by_share(helped, heights, 320, 640, parts=2)
    np.testing.assert_allclose(table["gain"], [20, 0], atol=1)
    np.testing.assert_allclose(table["gain"], table[640] - table[320])
    assert table["from"].iloc[0] > 15 and table["pairs"].sum() == relevant.sum()
    assert table["low"].iloc[0] == 100 * 4 / 640 and table["high"].iloc[1] == 100 * 32 / 640


def test_recorded_sizes_are_of_one_backbone_and_template():
    def entry(name, size, value, weights="a", template="{}", system="zero-shot CLIP"):
        given = {"image_size": size, "template": template, "fit": "letterbox"}
        facts = {"set": name, "system": system, "metric": "mAP", "value": value, "weights_hash": weights}
        return {**facts, "parameters": given}

    table = pd.DataFrame(
        [
            entry("svt", 640, 7.0),
            entry("svt", 224, 5.0, system="zero-shot CLIP, 224 pixels"),
            entry("svt", 320, 9.0, weights="b"),
            entry("svt", 320, 9.0, template="a {}"),
            entry("mini", 640, 8.0, system="FDP"),
            entry("svt", 640, 90.0, system="zero-shot CLIP, word crops"),
        ]
    )
    found = CELLS.recorded_sizes(table, "a")
    assert list(found) == ["svt"] and found["svt"]["mAP"].to_dict() == {224: 5.0, 640: 7.0}


# ----------------------------------------------------------------------------------------------------- entanglement


def report(gallery, queries, scores):
    class Given:
        name = "given"

        def scores(self, gallery, texts):
            return scores

    return evaluate(Given(), gallery, queries)


def test_photographs_are_sorted_by_what_they_show(shop):
    gallery, queries = shop
    masks = CELLS.picture_masks(gallery, queries)
    where = {name: np.flatnonzero(mask[0]).tolist() for name, mask in masks.items()}
    assert where == {"sign": [0, 1], "picture": [2], "neither": [5, 6]}  # 3 shows both, 4 the word too small
    assert not any(mask[1].any() for mask in masks.values())  # nobody drew "the"


def test_every_picture_of_the_mini_gallery_is_found_and_holds_no_word():
    gallery, queries = datasets.load("mini", "test")
    masks = CELLS.picture_masks(gallery, queries)
    rows = np.flatnonzero(masks["picture"].any(axis=1))
    assert sum(name in queries.texts for photo in gallery.photos for name in photo.pictures) == masks["picture"].sum()
    for row in rows:
        for column in np.flatnonzero(masks["picture"][row]):
            words = {word.text.lower() for word in gallery.photos[column].words}
            assert queries.texts[row] in gallery.photos[column].pictures and queries.texts[row] not in words


def test_rates_by_hand(shop):
    gallery, queries = shop
    masks = CELLS.picture_masks(gallery, queries)
    scores = np.array([[5.0, 1, 3, 0, 0, 4, 1], [0.0] * 7])
    rates = CELLS.picture_rates(scores, masks)
    assert rates.index.tolist() == [0]
    assert rates.iloc[0, :3].tolist() == [0.5, 0.5, pytest.approx((2 + 0.5) / 4)]
    assert np.isnan(rates.iloc[0, 3])  # no other word to ask
    assert np.isnan(metrics.above_rate(scores, masks["sign"], masks["picture"])[1])


def test_a_reader_a_seer_and_a_blind_system_are_told_apart():
    gallery, queries = datasets.load("mini", "test")
    masks = CELLS.picture_masks(gallery, queries)
    noise = np.random.default_rng(0).random(queries.relevant.shape)
    reader, seer = noise + 2 * masks["sign"], noise + 2 * masks["picture"]
    assert (CELLS.picture_rates(reader, masks)["picture over sign"] == 0).all()
    assert (CELLS.picture_rates(reader, masks)["sign over neither"] == 1).all()
    assert (CELLS.picture_rates(seer, masks).iloc[:, :2] == 1).all(axis=None)
    for column in CELLS.picture_rates(noise, masks).to_numpy().T:
        low, high = metrics.bootstrap_interval(column, level=0.999)
        assert low <= 0.5 <= high
    # A photograph that every query likes is no entanglement: the control goes along with it.
    liked = noise + 2 * np.isin(np.arange(len(gallery)), np.flatnonzero(masks["picture"].any(axis=0)))
    rates = CELLS.picture_rates(liked, masks).mean()
    assert abs(rates["picture over sign"] - rates["picture over sign, other words"]) < 0.05 < rates.iloc[0] - 0.5


@pytest.mark.filterwarnings("ignore:.*fall into one cluster")
def test_kinds_come_from_the_set_else_from_clusters():
    backbone = tiny.backbone()
    relevant = np.ones((3, 2), bool)
    groups = {"content": np.array([True, False, False]), "function": np.array([False, True, False])}
    kinds, source = CELLS.query_kinds(Queries(("coffee", "the", "no way"), relevant, "p", groups), backbone)
    assert source == "set" and list(kinds) == ["content", "function"] and not (kinds["content"] | kinds["function"])[2]
    kinds, source = CELLS.query_kinds(Queries(("coffee", "the", "office"), relevant, "p"), backbone)
    assert source == "clusters" and (kinds["content"] ^ kinds["function"]).all()


def test_kinds_side_by_side(shop):
    gallery, _ = shop
    texts = ("coffee", "tea", "the", "of")
    relevant = np.eye(4, 7, dtype=bool)
    kinds = {"content": np.array([True, True, False, False]), "function": np.array([False, False, True, True])}
    queries = Queries(texts, relevant, "p", kinds)
    scores = np.zeros((4, 7)) + relevant * np.array([1, 1, -1, -1])[:, None]
    given = report(gallery, queries, scores)
    table = CELLS.kinds_table(given, kinds)
    assert table.loc["content", ["mAP", "letters", "outranked"]].tolist() == [100, 4.5, 100]
    assert table.loc["function", ["mAP", "letters", "outranked"]].tolist() == [pytest.approx(100 / 7), 2.5, 0]
    gap, low, high = CELLS.kinds_gap(given, kinds)
    assert gap == pytest.approx(100 * 6 / 7) and low <= gap <= high

"""Phrases and attributes: which photographs answer, which only share a word, and how they are scored by parts."""

from collections import Counter

import chapters
import numpy as np
import pytest
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import Gallery, Photo, Queries, Word
from fdp_core.datasets.types import box_polygon
from fdp_core.evaluation import metrics
from fdp_core.retrieval.vectors import VectorSets
from fdp_core.studies import phrases

CELLS = chapters.functions("08", seed=0)


def word(text, x, y, width=60, height=20, **facts):
    return Word(text, box_polygon(x, y, width, height), **facts)


def turned(item, degrees, about=(100, 100)):
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return Word(item.text, (item.polygon - about) @ turn.T + about, item.ignore, item.script, item.colour)


def photo(*words, name="a.png"):
    return Photo(name, name, words)


def gallery(*photos):
    return Gallery("toy", "test", photos, "", True)


def queries_of(texts, relevant, **groups):
    return Queries(tuple(texts), np.array(relevant, bool), "toy", {k: np.array(v, bool) for k, v in groups.items()})


@pytest.fixture(scope="module")
def mini():
    return datasets.load("mini")


@pytest.fixture(scope="module")
def made(mini):
    photos, queries = mini
    return CELLS.phrase_pairs(photos, phrases.phrases(photos, queries), 12, seed=0)


class TestPhrases:
    def test_those_of_the_group_where_the_set_has_one(self):
        words = (
            photo(word("No", 0, 0), word("Parking", 70, 0)),
            photo(word("PARKING", 0, 0)),
            photo(word("bus", 0, 0)),
        )
        queries = queries_of(["no parking", "a bus"], [[1, 0, 0], [0, 0, 1]], phrase=[1, 0])
        found = phrases.phrases(gallery(*words), queries)
        assert found.texts == ("no parking",) and found.parts == (("no", "parking"),)
        assert found.kinds.tolist() == ["phrase"]
        assert found.relevant.tolist() == [[True, False, False]]
        assert found.decoys.tolist() == [[False, True, False]]

    def test_all_of_two_words_and_more_where_the_set_names_none(self):
        queries = queries_of(["Happy Hour", "bus"], [[1, 0], [0, 1]])
        found = phrases.phrases(gallery(photo(), photo()), queries)
        assert found.texts == ("Happy Hour",) and found.parts == (("happy", "hour"),)
        assert not found.decoys.any(), "no words are annotated: nobody knows what shares one"

    def test_neighbours_where_the_set_asks_single_words(self):
        one = photo(word("HOLIDAY", 0, 0), word("Inn", 70, 0), word("12", 140, 0))
        other = photo(word("inn", 0, 0), word("holiday", 0, 100))
        found = phrases.phrases(gallery(one, other), queries_of(["inn"], [[1, 1]]))
        assert found.texts == ("holiday inn",), "no numbers, no other line"
        assert found.relevant.tolist() == [[True, False]] and found.decoys.tolist() == [[False, True]]

    def test_a_set_without_phrases_says_what_to_take(self):
        with pytest.raises(ValueError, match="toy/test has no phrase.*pstr"):
            phrases.phrases(gallery(photo(word("bus", 0, 0))), queries_of(["bus"], [[1]]))

    @pytest.mark.parametrize("degrees", [0, 25, -60, 90, 180])
    def test_neighbours_whatever_the_slope(self, degrees):
        words = [
            word("do", 0, 90),
            word("not", 70, 92),
            word("enter", 140, 88),
            word("far", 300, 90),
            word("low", 70, 130),
        ]
        tilted = photo(*(turned(item, degrees) for item in words))
        assert list(phrases.neighbours(tilted)) == [(0, 1), (1, 2)]
        assert phrases.find_phrase(tilted, ("do", "not", "enter")) == [(0, 1, 2)]
        assert phrases.find_phrase(tilted, ("not", "do")) == []

    def test_neither_illegible_nor_much_larger_words_are_neighbours(self):
        hidden = photo(word("no", 0, 0), word("parking", 70, 0, ignore=True))
        unequal = photo(word("no", 0, 0), word("parking", 70, -20, height=60))
        assert not list(phrases.neighbours(hidden)) and not list(phrases.neighbours(unequal))

    def test_the_nearest_counts(self):
        assert list(phrases.neighbours(photo(word("a", 0, 0), word("b", 84, 0, 4), word("c", 66, 0, 10)))) == [
            (0, 2),
            (2, 1),
        ]

    def test_geometry_finds_what_mini_lists(self, mini):
        photos, queries = mini
        found = phrases.phrases(photos, queries)
        assert len(found) == queries.groups["phrase"].sum()
        stands = [[bool(phrases.find_phrase(item, parts)) for item in photos.photos] for parts in found.parts]
        assert np.array_equal(stands, found.relevant)


class TestAttributes:
    @pytest.fixture
    def signs(self, tmp_path):
        """One photograph of 200 x 100 pixels a word."""
        photos = []
        for n, (x, y, colour) in enumerate([(10, 10, "red"), (120, 10, "blue"), (120, 70, "none"), (10, 70, "red")]):
            Image.new("RGB", (200, 100)).save(tmp_path / f"{n}.png")
            photos.append(Photo(f"{n}.png", tmp_path / f"{n}.png", (word("Open", x, y, colour=colour),)))
        return gallery(*photos)

    def test_answers_and_decoys(self, signs):
        found = phrases.attributes(signs, least=1)
        told = {text: row.astype(int).tolist() for text, row in zip(found.texts, found.relevant)}
        assert told == {
            "a red sign that says open": [1, 0, 0, 1],
            "a blue sign that says open": [0, 1, 0, 0],
            "open on the left": [1, 0, 0, 1],
            "open on the right": [0, 1, 1, 0],
            "open at the top": [1, 1, 0, 0],
            "open at the bottom": [0, 0, 1, 1],
            "a sign that says open": [1, 1, 0, 1],
            "open on the wall": [0, 0, 1, 0],
        }
        assert np.array_equal(found.decoys, ~found.relevant), "every photograph holds the word"
        assert dict(zip(found.texts, found.parts))["a red sign that says open"] == ("open", "a red sign")
        assert set(found.kinds) == {"colour", "position", "surface"}

    def test_rare_ones_are_left_out(self, signs):
        texts = phrases.attributes(signs, least=2).texts
        assert "a red sign that says open" in texts and "a blue sign that says open" not in texts
        nothing = phrases.attributes(signs, least=9)
        assert len(nothing) == 0 and nothing.relevant.shape == (0, 4)

    def test_a_photograph_with_both_is_no_decoy(self, signs):
        both = Photo("b", signs.photos[0].path, (word("open", 0, 0, colour="red"), word("open", 0, 50, colour="blue")))
        found = phrases.attributes(gallery(*signs.photos, both), least=1)
        row = found.texts.index("a red sign that says open")
        assert found.relevant[row, 4] and not found.decoys[row, 4]

    def test_no_position_without_the_photograph_and_no_colour_where_none_is_told(self, tmp_path):
        lost = Photo("x", tmp_path / "x.png", (word("open", 0, 0),))
        with pytest.warns(UserWarning, match="no position"):
            assert len(phrases.attributes(gallery(lost), least=0)) == 0

    def test_colours_are_those_that_mini_lists(self, mini):
        photos, queries = mini
        found = phrases.attributes(photos)
        rows = dict(zip(found.texts, found.relevant))
        for text, relevant in zip(queries.texts, queries.relevant):
            if text.startswith("a "):
                assert np.array_equal(rows[text], relevant), text


def test_queries_are_joined_and_taken():
    one = phrases.phrases(gallery(photo()), queries_of(["a b", "c d"], [[1], [1]]))
    joined = one + one.take(np.array([False, True]))
    assert joined.texts == ("a b", "c d", "c d") and joined.relevant.shape == (3, 1)
    assert joined.take(np.array([2, 0])).parts == (("c", "d"), ("a", "b"))


class TestScores:
    # directions: x is "no", y is "parking", z is the phrase
    KNOWN = {"no": [1, 0, 0], "parking": [0, 1, 0], "no parking": [0, 0, 1]}

    def encode(self, texts):
        return np.array([self.KNOWN[text] for text in texts], float)

    def composed(self, columns):
        relevant = np.eye(1, columns, dtype=bool)
        return phrases.Composed(("no parking",), (("no", "parking"),), np.array(["phrase"]), relevant, ~relevant)

    def test_by_hand(self):
        vectors = np.array([[0.6, 0, 0.8], [0, 1, 0], [0.6, 0.8, 0]], np.float32)
        sets = VectorSets(vectors, np.array([0, 2, 3, 3]))  # two vectors, one, none
        scores = {way: values[0] for way, values in CELLS.composed_scores(sets, self.encode, self.composed(3)).items()}
        assert tuple(scores) == CELLS.WAYS
        assert np.allclose(scores["whole"][:2], [0.8, 0])
        assert np.allclose(scores["mean"][:2], [0.8, 0.7])  # each part in a region of its own
        assert np.allclose(scores["min"][:2], [0.6, 0.6])
        assert np.allclose(scores["product"][:2], [0.8 * 1, 0.8 * 0.9])
        assert np.allclose(scores["one region"][:2], [0.5, 0.7])  # both parts in the same one
        assert np.allclose(scores["word alone"][:2], [0.6, 0.6])
        assert np.allclose(scores["whole + mean"][:2], [0.8, 0.35])
        assert all(values[2] < values[:2].min() for values in scores.values()), "unreadable: last"

    def test_one_vector_cannot_tell_mean_from_one_region(self):
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(20, 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = CELLS.composed_scores(VectorSets.of(vectors), self.encode, self.composed(20))
        assert np.allclose(scores["mean"], scores["one region"], atol=1e-6)

    def test_matches_above_decoys_are_the_area_under_the_curve(self):
        from sklearn.metrics import roc_auc_score

        rng = np.random.default_rng(1)
        scores, relevant = rng.integers(0, 5, (6, 30)).astype(float), rng.random((6, 30)) < 0.3
        decoys = ~relevant & (rng.random((6, 30)) < 0.6)
        for row, share in enumerate(metrics.above_rate(scores, relevant, decoys)):
            used = relevant[row] | decoys[row]
            assert share == pytest.approx(roc_auc_score(relevant[row, used], scores[row, used]))
        assert np.isnan(metrics.above_rate(scores[:1], relevant[:1], np.zeros((1, 30), bool))).all()

    def test_intervals(self):
        found = CELLS.interval(np.array([0.2, np.nan, 0.6]))
        assert found["mean"] == pytest.approx(40) and found["queries"] == 2
        assert found["from"] <= 40 <= found["to"]
        assert np.isnan(CELLS.interval(np.array([np.nan]))["mean"])
        values = np.random.default_rng(0).random(40)
        usual, wide = CELLS.interval(values), CELLS.interval(values, level=1 - 0.05 / 27)
        assert wide["from"] < usual["from"] < usual["mean"] < usual["to"] < wide["to"]


class TestPairs:
    def test_every_phrase_finds_room_and_the_same_seed_gives_the_same(self, mini, made):
        photos, queries = mini
        composed = phrases.phrases(photos, queries)
        assert [phrase for phrase, _, _ in made] == list(composed.texts)
        again = CELLS.phrase_pairs(photos, composed, 12, seed=0)
        assert all(np.array_equal(a[2], b[2]) for a, b in zip(made, again))
        other = CELLS.phrase_pairs(photos, composed, 12, seed=1)
        assert not all(np.array_equal(a[1], b[1]) for a, b in zip(made, other))

    def test_the_same_pixels_in_other_places(self, tmp_path):
        """Words of plain colours on grey: both photographs hold as much of each colour, on one line and on two."""
        image = np.full((200, 300, 3), 128, np.uint8)
        image[20:40, 20:80], image[20:40, 90:150] = (255, 0, 0), (0, 0, 255)
        Image.fromarray(image).save(tmp_path / "a.png")
        Image.fromarray(np.full((200, 300, 3), 200, np.uint8)).save(tmp_path / "b.png")
        words = (word("no", 20, 20), word("parking", 90, 20))
        photos = gallery(
            Photo("a", tmp_path / "a.png", words), Photo("b", tmp_path / "b.png", (word("bus", 100, 100, 60, 20),))
        )
        pairs = CELLS.phrase_pairs(photos, phrases.phrases(photos, queries_of(["no parking"], [[1, 0]])), 3)
        assert len(pairs) == 3
        for _, *both in pairs:
            rows = {}
            for name, shown in zip(("together", "separated"), both):
                for colour in ((255, 0, 0), (0, 0, 255)):
                    mask = (shown == colour).all(-1)
                    assert mask.sum() == 60 * 20 or mask.sum() == 61 * 21, "whole"
                    rows[name, colour] = np.flatnonzero(mask.any(1)).mean()
                assert (shown[100:120, 100:160] == 200).all(), "the host's own word stays free"
            lines = [abs(rows[name, (255, 0, 0)] - rows[name, (0, 0, 255)]) for name in ("together", "separated")]
            assert lines[0] < 2 and lines[1] >= 2 * 20

    @pytest.mark.parametrize("count, dealt", [(0, {}), (3, {1}), (30, {2, 3})])
    def test_pairs_are_dealt_evenly(self, mini, count, dealt):
        photos, queries = mini
        pairs = CELLS.phrase_pairs(photos, phrases.phrases(photos, queries), count)
        assert len(pairs) == count
        assert set(Counter(phrase for phrase, _, _ in pairs).values()) == set(dealt)

    def test_as_a_gallery(self, mini, made, tmp_path):
        photos, composed = chapters.functions("08", gallery=mini[0]).pair_gallery(made[:2], tmp_path)
        assert len(photos) == 4 and photos.may_show and all(item.path.is_file() for item in photos.photos)
        assert composed.relevant.tolist() == [[True, False, False, False], [False, False, True, False]]
        assert composed.decoys.tolist() == [[False, True, False, False], [False, False, False, True]]
        assert composed.texts == (made[0][0], made[1][0])

    def test_no_phrase_in_place_no_pair(self, mini):
        photos, _ = mini
        lost = phrases.phrases(photos, queries_of(["no such phrase"], [[0] * len(photos)]))
        assert CELLS.phrase_pairs(photos, lost, 5) == []

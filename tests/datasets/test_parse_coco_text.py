"""COCO-Text version 2 and the retrieval benchmark that is rebuilt from it (CTR)."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import ParseError, protocol
from fdp_core.datasets.formats.coco_text import make_word, parse_file
from fdp_core.datasets.manifest import manifest
from fdp_core.datasets.types import Parsed, Photo, Word, box_polygon

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def annotation(text, number=1, image=1, **change):
    """Make an annotation with the keys of the real file; annotations of illegible text have an empty string."""
    entry = {
        "mask": [468.9, 286.7, 468.9, 295.2, 493.0, 295.8, 493.0, 287.2], "class": "machine printed",
        "bbox": [468.9, 286.7, 24.1, 9.1], "image_id": image, "id": number, "language": "english", "area": 206.06,
        "utf8_string": text, "legibility": "legible",
    }  # fmt: skip
    return entry | change


def name_of(image):
    return f"COCO_train2014_{image:012d}.jpg"


def coco_text(images):
    """Make the whole file of {image id: (set, annotations)}: keys are strings, lists hold numbers."""
    content = {"cats": {}, "anns": {}, "imgs": {}, "imgToAnns": {}, "info": {"version": "2.0"}}
    for image, (part, annotations) in images.items():
        content["imgs"][str(image)] = {
            "id": image, "set": part, "width": 640, "height": 480, "file_name": name_of(image)
        }  # fmt: skip
        numbers = [len(content["anns"]) + i for i in range(len(annotations))]
        content["imgToAnns"][str(image)] = numbers
        for number, entry in zip(numbers, annotations, strict=True):
            content["anns"][str(number)] = entry | {"id": number, "image_id": image}
    return content


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
MASK = st.lists(st.floats(-9, 999, width=32), min_size=6, max_size=20).filter(lambda values: len(values) % 2 == 0)
WORD = st.tuples(
    TEXT, MASK, st.sampled_from(["legible", "illegible"]), st.sampled_from(["english", "not english", "na"])
)


@QUICK
@given(images=st.dictionaries(st.integers(1, 10**6), st.tuples(st.sampled_from(["train", "val"]),
       st.lists(WORD, max_size=3)), min_size=1, max_size=4), ascii_only=st.booleans())  # fmt: skip
def test_round_trip(tmp_path, images, ascii_only):
    entries = {
        image: (part, [annotation(t, mask=m, legibility=legible, language=tongue) for t, m, legible, tongue in words])
        for image, (part, words) in images.items()
    }
    path = tmp_path / "cocotext.v2.json"
    path.write_text(json.dumps(coco_text(entries), ensure_ascii=ascii_only), encoding="utf-8")
    parsed = parse_file(path, tmp_path / "train2014")
    assert [photo.id for photo in parsed.photos] == [name_of(image) for image in sorted(images)]
    for photo, image in zip(parsed.photos, sorted(images), strict=True):
        words = images[image][1]
        assert photo.path == tmp_path / "train2014" / photo.id
        assert [word.text for word in photo.words] == [text for text, *_ in words]
        assert [word.ignore for word in photo.words] == [
            legible == "illegible" or not text.strip() for text, _, legible, _ in words
        ]
        assert [word.script for word in photo.words] == [
            "Latin" if tongue == "english" else tongue for *_, tongue in words
        ]
        for word, (_, mask, _, _) in zip(photo.words, words, strict=True):
            np.testing.assert_array_equal(word.polygon.ravel(), np.float32(mask))


def test_the_test_set_is_left_out_and_photographs_without_text_stay(tmp_path):
    path = tmp_path / "cocotext.v2.json"
    content = coco_text({3: ("val", []), 1: ("train", [annotation("New")]), 2: ("test", [])})
    del content["imgToAnns"]["3"]
    write(path, content)
    parsed = parse_file(path, tmp_path)
    assert [(photo.id, len(photo.words)) for photo in parsed.photos] == [(name_of(1), 1), (name_of(3), 0)]


@pytest.mark.parametrize("mask", [None, [], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]])
def test_the_box_where_there_is_no_mask(tmp_path, mask):
    path = tmp_path / "cocotext.v2.json"
    write(path, coco_text({1: ("train", [annotation("New", mask=mask, bbox=[10, 20, 30, 5])])}))
    (photo,) = parse_file(path, tmp_path).photos
    assert photo.words[0].polygon.tolist() == [[10, 20], [40, 20], [40, 25], [10, 25]]


@pytest.mark.parametrize("text", ["", "  ", None])
def test_blank_words_are_dont_cares(tmp_path, text):
    path = tmp_path / "cocotext.v2.json"
    write(path, coco_text({1: ("train", [annotation(text)])}))
    assert parse_file(path, tmp_path).photos[0].words[0].ignore


def test_a_missing_transcription_is_blank(tmp_path):
    entry = annotation("x", legibility="illegible")
    del entry["utf8_string"]
    path = tmp_path / "cocotext.v2.json"
    write(path, coco_text({1: ("train", [entry])}))
    (word,) = parse_file(path, tmp_path).photos[0].words
    assert word.ignore and word.text == ""


def broken(change):
    content = coco_text({7: ("train", [annotation("one"), annotation("two")])})
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{\n oops", "line 2: not JSON"),
        ("[1, 2]", "expected the tables imgs, anns, imgToAnns"),
        (broken(lambda c: c.pop("imgToAnns")), "no imgToAnns$"),
        (broken(lambda c: c.update(anns=[])), "no anns$"),
        (broken(lambda c: c["imgs"]["7"].pop("set")), r"imgs\['7'\]: no key 'set'"),
        (
            broken(lambda c: c["imgs"]["7"].update(file_name="../../etc/passwd")),
            r"imgs\['7'\]: .*not the name of a file",
        ),
        (broken(lambda c: c["imgs"].update({"8": c["imgs"]["7"]})), r"imgs\['8'\]: .*occurs twice"),
        (broken(lambda c: c["imgs"].update({"8": "x"})), r"imgs\['8'\]: "),
        (broken(lambda c: c["imgToAnns"].update({"7": [0, 99]})), r"anns\['99'\]: no key '99'"),
        (broken(lambda c: c["anns"]["1"].pop("legibility")), r"anns\['1'\]: no key 'legibility'"),
        (broken(lambda c: c["anns"]["1"].update(utf8_string=5)), r"anns\['1'\]: utf8_string is 5, not text"),
        (broken(lambda c: c["anns"]["1"].update(mask=["a"] * 8)), r"anns\['1'\]: "),
        (broken(lambda c: c["anns"]["1"].update(mask=None, bbox=[1, 2])), r"anns\['1'\]: "),
        (broken(lambda c: c["anns"]["1"].update(mask=[float("nan")] * 8)), r"anns\['1'\]: .*finite"),
        (broken(lambda c: c["imgs"]["7"].update(set="test")), "no image of the sets train and val"),
    ],
)
def test_errors_name_the_entry(tmp_path, content, message):
    path = tmp_path / "cocotext.v2.json"
    write(path, content)
    with pytest.raises(ParseError, match=message) as caught:
        parse_file(path, tmp_path)
    assert "cocotext.v2.json" in str(caught.value)


def test_other_files(tmp_path):
    path = tmp_path / "cocotext.v2.json"
    path.write_bytes(b'{"imgs": "\xff"}')
    with pytest.raises(ParseError, match="not UTF-8"):
        parse_file(path, tmp_path)
    path.write_text("[" * 200_000)
    with pytest.raises(ParseError, match="cocotext.v2.json"):
        parse_file(path, tmp_path)


def rule(**queries):
    recipe = manifest("ctr").split("test")[1]["protocol"]
    return recipe | {"queries": recipe["queries"] | queries}


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ("Stop!", {}, ["stop"]), ("COCA-COLA", {}, ["cocacola"]), ("two words", {}, ["twowords"]), ("a.b", {}, []),
        ("stop", {"legibility": "illegible"}, []), ("stop", {"language": "not english"}, []),
        ("stop", {"language": "na"}, []), ("caf\u00e9", {}, ["caf"]),
    ],
)  # fmt: skip
def test_the_recipe_on_words(text, change, expected):
    word = make_word(annotation(text, **change))
    assert protocol.tokens(word, rule()) == expected


def photo(name, *texts):
    return Photo(name, name, tuple(Word(text, box_polygon(0, 0, 9, 4)) for text in texts))


# Instances: stop 4, the 3 (all in a), bus and taxi 1.
PHOTOS = (photo("a", "the", "the", "The"), photo("b", "STOP", "stop"), photo("c", "stop", "bus", "Stop!"),
          photo("d", "taxi"), photo("e"))  # fmt: skip


@pytest.mark.parametrize(
    ("count", "texts", "gallery"),
    [(1, ("stop",), "bc"), (2, ("stop", "the"), "abc"), (3, ("stop", "the", "bus"), "abc"),
     (4, ("stop", "the", "bus", "taxi"), "abcd")],
)  # fmt: skip
def test_only_photographs_with_a_query_word_are_in_the_gallery(tmp_path, count, texts, gallery):
    top = rule(count=count)
    kept = protocol.restrict_gallery(Parsed(PHOTOS), top, tmp_path)
    assert "".join(photo.id for photo in kept.photos) == gallery
    queries = protocol.build_queries(kept, top, tmp_path)
    assert queries.texts == texts and queries.relevant.any(axis=0).all()
    again = protocol.restrict_gallery(kept, top, tmp_path)
    assert again.photos == kept.photos, "the words of the smaller gallery are the same"


def test_all_photographs_stay_where_the_protocol_does_not_say_so(tmp_path):
    top = {key: value for key, value in rule(count=1).items() if key != "gallery"}
    parsed = Parsed(PHOTOS)
    assert protocol.restrict_gallery(parsed, top, tmp_path) is parsed


def test_listed_queries_restrict_the_gallery_too(tmp_path):
    listed = {"relevance": "listed", "gallery": "relevant_only", "summary": "s", "queries": {"rule": "listed"}}
    kept = protocol.restrict_gallery(Parsed(PHOTOS, {"x": ("d",), "y": ("a", "d")}), listed, tmp_path)
    assert [photo.id for photo in kept.photos] == ["a", "d"] and kept.listed == {"x": ("d",), "y": ("a", "d")}


@pytest.mark.parametrize(("least", "texts"), [(1, ("stop", "the", "bus", "taxi")), (3, ("stop", "the")), (5, ())])
def test_words_that_stand_often_enough(tmp_path, least, texts):
    frequent = rule(rule="frequent", min_count=least)
    assert protocol.build_queries(Parsed(PHOTOS), frequent, tmp_path).texts == texts


def test_the_benchmark_from_its_files(tmp_path):
    words = [annotation(text) for text in ("Stop", "STOP")]
    content = coco_text({
        11: ("train", words), 5: ("val", [annotation("bus"), annotation("stop", legibility="illegible")]),
        6: ("train", []), 8: ("train", [annotation("stop", language="not english")]), 9: ("test", words),
    })  # fmt: skip
    write(tmp_path / "ctr/cocotext.v2.json", content)
    for image in (5, 11):
        path = tmp_path / "ctr/train2014" / name_of(image)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)
    gallery, queries = datasets.load("CTR", root=tmp_path)
    assert [photo.id for photo in gallery.photos] == [name_of(5), name_of(11)]
    assert queries.texts == ("stop", "bus") and queries.relevant.astype(int).tolist() == [[0, 1], [1, 0]]
    (check,) = datasets.verify("ctr", root=tmp_path)
    assert check.counts["photographs"] == 2 and check.counts["queries"] == 2
    assert check.problems == ("2 photographs, 7,196 expected", "2 queries, 500 expected")


@pytest.mark.needs_data
def test_real_set():
    source = manifest("ctr")
    if lacking := source.lacking("test"):
        pytest.skip(f"real data missing: {source.name}/test: no {', '.join(lacking)} in {source.folder()}")
    gallery, queries = datasets.load("ctr")
    assert (len(gallery), len(queries)) == (7196, 500) and queries.relevant.any(axis=0).all()

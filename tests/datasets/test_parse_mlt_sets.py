"""MLT-2017, MLT-2019 and MLT-5k on files of their form: names, scripts, and the filter that makes MLT-5k."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fdp_core import datasets
from fdp_core.datasets import DatasetMissing, ParseError
from fdp_core.datasets.formats import icdar
from fdp_core.datasets.manifest import manifest, manifests_folder
from fdp_core.datasets.protocol import photo_tokens, restrict_gallery
from fdp_core.datasets.types import Parsed, Photo, Word, box_polygon

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BOX = "0,0,40,0,40,20,0,20"
SCRIPTS_2017 = ("Arabic", "Latin", "Chinese", "Japanese", "Korean", "Bangla", "Symbols", "Mixed", "None")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The data folder, where the sets are looked for."""
    monkeypatch.setenv("FDP_DATA", str(tmp_path))
    return tmp_path


def image(kind="JPEG"):
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (30, 30, 200)).save(stream, kind)
    return stream.getvalue()


def put(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def lines(*words, end="\r\n"):
    """Write an annotation file as the set does: a byte order mark, and a line of its own for each word."""
    return "\ufeff" + "".join(f"{BOX},{script},{text}{end}" for script, text in words)


def test_mlt2017_as_it_is_unpacked_by_hand(root):
    folder = root / "mlt2017"
    for number, part, suffix, kind in ((1, 1, ".jpg", "JPEG"), (901, 2, ".JPG", "JPEG"), (7200, 8, ".png", "PNG")):
        put(folder / f"ch8_training_images_{part}", f"img_{number}{suffix}", image(kind))
    texts = folder / "ch8_training_localization_transcription_gt_v2"
    put(texts, "gt_img_1.txt", lines(("Latin", "Rue, 12"), ("Latin", "###"), ("Arabic", "شارع"), ("Mixed", "Café北京")))
    put(texts, "gt_img_901.txt", lines(("Latin", "rue"), ("None", "###"), ("Symbols", ",,")))
    put(texts, "gt_img_7200.txt", "")
    gallery, queries = datasets.load("MLT-2017")
    assert [photo.id for photo in gallery.photos] == ["img_1.jpg", "img_7200.png", "img_901.JPG"]
    assert gallery.split == "train" and not gallery.may_show
    words = gallery.photos[0].words
    assert [(word.text, word.script, word.ignore) for word in words] == [
        ("Rue, 12", "Latin", False), ("###", "Latin", True), ("شارع", "Arabic", False),
        ("Café北京", "Mixed", False)]  # fmt: skip
    np.testing.assert_array_equal(words[0].polygon, [[0, 0], [40, 0], [40, 20], [0, 20]])
    assert [word.text for word in gallery.photos[2].words] == ["rue", "###", ",,"]
    assert queries.texts == ("rue",) and queries.relevant.tolist() == [[True, False, True]]
    with pytest.raises(DatasetMissing, match="validation_gts, validation_images not found"):
        datasets.load("mlt17", "validation")
    put(folder / "validation_images", "img_1.jpg", image())
    put(folder / "validation_gts", "gt_img_1.txt", lines(("Latin", "Haus")))
    assert datasets.load("mlt17", "validation")[1].texts == ("haus",)
    assert datasets.verify("mlt2017", "validation")[0].problems == ("1 photographs, 1,800 expected",)


def test_mlt2017_from_its_archives(root, monkeypatch, tmp_path):
    own = tmp_path / "manifests"
    own.mkdir()
    for path in (*manifests_folder().glob("*.yaml"), manifests_folder() / "schema.json"):
        (own / path.name).write_bytes(path.read_bytes())
    data = yaml.safe_load((own / "mlt2017.yaml").read_text(encoding="utf-8"))
    files = data["files"]
    assert [entry["file"] for entry in files if entry["splits"] == ["train"]] == [
        *(f"ch8_training_images_{part}.zip" for part in range(1, 9)),
        "ch8_training_localization_transcription_gt_v2.zip",
    ]
    for number, entry in enumerate(files, start=1):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            if entry["into"].endswith("gts"):
                for stem in range(1, 9 if entry["into"] == "train_gts" else 2):
                    archive.writestr(f"gt_img_{stem}.txt", lines(("Latin", "Rue")))
            else:
                archive.writestr(f"img_{number if entry['splits'] == ['train'] else 1}.jpg", image())
        put(root / "mlt2017/downloads", entry["file"], stream.getvalue())
        entry["md5"] = hashlib.md5(stream.getvalue(), usedforsecurity=False).hexdigest()
    (own / "mlt2017.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    monkeypatch.setenv("FDP_MANIFESTS", str(own))
    datasets.fetch("mlt2017", progress=False)
    assert [len(datasets.load("mlt2017", split)[0]) for split in ("train", "validation")] == [8, 1]


@QUICK
@given(script=st.sampled_from(SCRIPTS_2017), text=st.sampled_from(["a,b", "", "###", "北京", '"x",', "Hindi,5"]))
def test_scripts_of_2017_are_those_of_2019_without_hindi(tmp_path, script, text):
    assert {*SCRIPTS_2017, "Hindi"} == set(icdar.SCRIPTS)
    put(tmp_path, "gt_img_1.txt", lines((script, text)))
    (word,) = icdar.parse_mlt_words(tmp_path / "gt_img_1.txt")
    assert (word.script, word.text, word.ignore) == (script, text, text in ("", "###"))


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ([("Latin", "Bus")], True),
        ([("Latin", "of")], False),
        ([("Latin", "A-1")], False),
        ([("Latin", "A-12")], True),
        ([("Latin", "###")], False),
        ([("Latin", "")], False),
        ([("Chinese", "北京"), ("Korean", "Bus")], False),
        ([("Mixed", "Bus"), ("Symbols", "1234"), ("None", "###")], False),
        ([("Arabic", "شارع"), ("Latin", "de la")], True),
        ([("Latin", "été")], False),  # é is none of a-z: one letter is left
        ([("Latin", "\u212a\u0130\u017f")], False),  # K, I and s only once they are folded
        ([("Latin", "1,234")], True),
        ([], False),
    ],
)
def test_the_filter_of_mlt5k(words, kept):
    protocol = manifest("mlt-5k").split()[1]["protocol"]
    photo = Photo("a.jpg", "a.jpg", tuple(Word(t, box_polygon(0, 0, 9, 4), t in ("", "###"), s) for s, t in words))
    assert restrict_gallery(Parsed((photo,)), protocol, manifests_folder()).photos == ((photo,) if kept else ())


def test_mlt5k_is_a_filter_of_mlt2019(root):
    folder = root / "mlt2019"
    for name in ("tr_img_00001.jpg", "tr_img_00002.png", "tr_img_00003.gif", "tr_img_00004.jpg"):
        put(folder / "train_images", name, image({"gif": "GIF", "png": "PNG"}.get(name[-3:], "JPEG")))
    put(
        folder / "train_gts", "tr_img_00001.txt", lines(("Arabic", "شارع"), ("Latin", "RUE"), ("Latin", "de"), end="\n")
    )
    put(folder / "train_gts", "tr_img_00002.txt", lines(("Hindi", "सड़क"), ("Latin", "no")))
    put(folder / "train_gts", "tr_img_00003.txt", lines(("Latin", "L'Orangerie, Paris"), ("Latin", "rue")))
    put(folder / "train_gts", "tr_img_00004.txt", lines(("Latin", "###"), ("None", "###")))
    whole, _ = datasets.load("mlt2019")
    gallery, queries = datasets.load("mlt5k")
    assert len(whole) == 4
    assert [photo.id for photo in gallery.photos] == ["tr_img_00001.jpg", "tr_img_00003.gif"]
    assert queries.texts == ("lorangerieparis", "rue")
    assert queries.relevant.tolist() == [[False, True], [True, True]]
    assert [word.text for word in gallery.photos[0].words] == ["شارع", "RUE", "de"], "all words stay, for their places"
    protocol = manifest("mlt5k").split()[1]["protocol"]
    assert photo_tokens(gallery.photos[0], protocol) == ["rue"]
    assert manifest("mlt5k").data["files"] == manifest("mlt2019").data["files"]
    (check,) = datasets.verify("mlt5k")
    assert (check.status, check.counts["photographs"], check.counts["queries"]) == ("present", 2, 2)


def test_mlt_faults_name_file_and_line(root):
    folder = root / "mlt2017"
    put(folder / "train_images", "img_1.jpg", image())
    put(folder / "train_gts", "gt_img_1.txt", lines(("Latin", "ok"), ("Klingon", "Qapla'")))
    with pytest.raises(ParseError, match="gt_img_1.txt, line 2: unknown script 'Klingon'"):
        datasets.load("mlt2017")
    put(folder / "train_gts", "gt_img_1.txt", f"{BOX},Latin,ok\n{BOX},Latin\n")
    with pytest.raises(ParseError, match="gt_img_1.txt, line 2: expected x1,y1"):
        datasets.load("mlt2017")
    assert datasets.verify("mlt2017", "train")[0].status == "damaged"


@pytest.mark.parametrize("name", ["mlt2017", "mlt5k"])
def test_what_is_missing_says_where_it_comes_from(root, name):
    with pytest.raises(DatasetMissing, match="Register at https://rrc.cvc.uab.es") as caught:
        datasets.load(name)
    assert f"'{name}'" in str(caught.value)


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "split", "photographs"), [("mlt2017", "train", 7200), ("mlt2017", "validation", 1800)]
)
def test_real_counts(name, split, photographs):
    source = manifest(name)
    if lacking := source.lacking(split):
        pytest.skip(f"real data missing: {name}/{split}: no {', '.join(lacking)} in {source.folder()}")
    assert len(datasets.load(name, split)[0]) == photographs


@pytest.mark.needs_data
def test_real_mlt5k_is_part_of_mlt2019():
    source = manifest("mlt5k")
    if lacking := source.lacking():
        pytest.skip(f"real data missing: mlt5k: no {', '.join(lacking)} in {source.folder()}")
    gallery, whole = datasets.load("mlt5k")[0], datasets.load("mlt2019")[0]
    assert {photo.id for photo in gallery.photos} < {photo.id for photo in whole.photos}

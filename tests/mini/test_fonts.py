"""Which faces the renderer takes, and the list of the packages they come from."""

import shutil
import subprocess
from pathlib import Path

import matplotlib
import pytest

from fdp_core.mini import concepts, fonts

TTF = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture
def folder(tmp_path):
    """Return a folder with DejaVu Sans twice, its bold face, and what must not be taken."""
    for name, source in (
        ("b.ttf", "DejaVuSans.ttf"),
        ("sub/a.ttf", "DejaVuSans-Bold.ttf"),
        ("sub/c.ttf", "DejaVuSans.ttf"),
        ("keycap.ttf", "DejaVuSerif.ttf"),  # by its name no writing on signs
        ("symbols.ttf", "STIXSizFiveSymReg.ttf"),  # no letters
        ("notes.txt", "DejaVuSansMono.ttf"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(TTF / source, tmp_path / name)
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    return tmp_path


def test_faces_of_the_same_shapes_count_once(folder):
    assert fonts.find_fonts([folder]) == [str(folder / "b.ttf"), str(folder / "sub" / "a.ttf")]


def test_the_first_folder_wins_and_an_absent_one_does_not_matter(folder):
    found = fonts.find_fonts([folder / "absent", folder / "sub", folder])
    assert found == [str(folder / "sub" / "a.ttf"), str(folder / "sub" / "c.ttf")]


def test_the_folders_of_the_variable_come_first(folder, monkeypatch):
    monkeypatch.setenv("FDP_FONTS", str(folder))
    assert fonts.font_folders()[0] == folder
    assert fonts.font_folders()[-1] == TTF


def test_the_picture_fonts_are_found_by_name(tmp_path):
    assert fonts.find_icon_font([tmp_path]) is None and fonts.find_emoji_font([tmp_path]) is None
    (tmp_path / "NotoColorEmoji.ttf").touch()
    (tmp_path / "FontAwesome.otf").touch()
    assert fonts.find_emoji_font([tmp_path]) == str(tmp_path / "NotoColorEmoji.ttf")
    assert fonts.find_icon_font([tmp_path]) == str(tmp_path / "FontAwesome.otf")


def test_every_package_of_the_list_has_a_version_and_a_licence():
    listed = fonts.packages()
    names = [entry["package"] for entry in listed]
    assert len(set(names)) == len(names) > 100 and names[-1] == "matplotlib"
    assert set(concepts.FONTS.values()) <= set(names)
    for entry in listed:
        assert set(entry) == {"package", "version", "licence", "faces"}, entry
        for text in (entry["package"], entry["version"], entry["licence"]):
            assert isinstance(text, str) and text == text.strip() != "", entry
        assert isinstance(entry["faces"], int) and entry["faces"] >= 0, entry
    assert sum(entry["faces"] for entry in listed) > 800


def test_missing_without_dpkg_is_unknown(monkeypatch, capsys):
    monkeypatch.setattr(fonts.shutil, "which", lambda name: None)
    monkeypatch.setattr(fonts, "find_fonts", lambda folders=None: [str(TTF / "DejaVuSans.ttf")])
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("nothing may be run"))
    assert fonts.missing() is None
    fonts.main(["--install"])
    printed = capsys.readouterr().out
    assert "1 faces found" in printed and "unknown" in printed and str(TTF) in printed


def test_missing_reads_what_dpkg_says(monkeypatch):
    """Removed packages of which settings stay are not installed; unknown ones have no line."""
    first, second, *others = [e["package"] for e in fonts.packages() if e["package"] != "matplotlib"]
    lines = [f"{first} installed", f"{second} config-files", *(f"{name} installed" for name in others[1:])]
    monkeypatch.setattr(fonts.shutil, "which", lambda name: f"/usr/bin/{name}")
    answer = subprocess.CompletedProcess([], 1, stdout="\n".join(lines) + "\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: answer)
    assert fonts.missing() == [second, others[0]]


@pytest.mark.parametrize("install", [False, True])
def test_installing_is_done_only_where_asked_for(monkeypatch, capsys, install):
    ran = []
    monkeypatch.setattr(fonts, "find_fonts", lambda folders=None: [])
    monkeypatch.setattr(fonts, "missing", lambda: ["fonts-lato", "fonts-hack"])
    monkeypatch.setattr(subprocess, "run", lambda command, **options: ran.append(command))
    fonts.main(["--install"] if install else [])
    line = "apt-get install --yes --no-install-recommends fonts-lato fonts-hack"
    assert line in capsys.readouterr().out.splitlines()
    assert ran == ([line.split()] if install else [])

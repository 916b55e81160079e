"""Which faces the renderer takes, and the list of the packages they come from."""

import shutil
import subprocess
from pathlib import Path

import matplotlib
import pytest

from fdp_core.mini import concepts, font_packages, fonts

TTF = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: sample

Files: *
Copyright: 2001 Somebody
License: GPL-2+FE

Files: debian/*
Copyright: 2002 Somebody else
License: GPL-3+

Files: css/*
 fonts/*
Copyright: 2003 Somebody
License: SIL-OFL-1.1

Files: src/Sign-*.sfd Makefile
Copyright: 2004 Somebody
License: Expat or OFL 1.1

License: GPL-3+
 This is a text.
"""


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
    listed = font_packages.packages()
    names = [entry.package for entry in listed]
    assert len(set(names)) == len(names) > 100 and names[-1] == "matplotlib"
    assert set(concepts.FONTS.values()) <= set(names)
    for entry in listed:
        for text in (entry.package, entry.version, entry.licence):
            assert isinstance(text, str) and text == text.strip() != "", entry
        assert isinstance(entry.faces, int) and entry.faces >= 0, entry
    assert sum(entry.faces for entry in listed) > 800


def test_missing_without_dpkg_is_unknown(monkeypatch, capsys):
    monkeypatch.setattr(font_packages.shutil, "which", lambda name: None)
    monkeypatch.setattr(fonts, "find_fonts", lambda folders=None: [str(TTF / "DejaVuSans.ttf")])
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("nothing may be run"))
    assert font_packages.missing() is None
    font_packages.main(["--install"])
    printed = capsys.readouterr().out
    assert "1 faces found" in printed and "unknown" in printed and str(TTF) in printed
    with pytest.raises(SystemExit):
        font_packages.main(["--write"])


def test_missing_reads_what_dpkg_says(monkeypatch):
    """Removed packages of which settings stay are not installed; unknown ones have no line."""
    first, second, *others = [e.package for e in font_packages.packages() if e.package != "matplotlib"]
    lines = [f"{first} installed", f"{second} config-files", *(f"{name} installed" for name in others[1:])]
    monkeypatch.setattr(font_packages.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(font_packages, "_ask", lambda *command: lines)
    assert font_packages.missing() == [second, others[0]]


@pytest.mark.parametrize("install", [False, True])
def test_installing_is_done_only_where_asked_for(monkeypatch, capsys, install):
    ran = []
    monkeypatch.setattr(fonts, "find_fonts", lambda folders=None: [])
    monkeypatch.setattr(font_packages, "missing", lambda: ["fonts-lato", "fonts-hack"])
    monkeypatch.setattr(subprocess, "run", lambda command, **options: ran.append(command))
    font_packages.main(["--install"] if install else [])
    line = "apt-get install --yes --no-install-recommends fonts-lato fonts-hack"
    assert line in capsys.readouterr().out.splitlines()
    assert ran == ([line.split()] if install else [])


@pytest.mark.parametrize(
    ("package", "paths", "expected"),
    [
        ("sample", ["/usr/share/fonts/truetype/sample/Sign-Bold.ttf"], "MIT or OFL-1.1"),  # its source is named
        ("sample", ["/usr/share/fonts/truetype/sample/Other.ttf"], "OFL-1.1"),  # fonts/*, never debian/*
        ("sample", ["/f/Other.ttf", "/f/Sign-Bold.otf"], "MIT or OFL-1.1; OFL-1.1"),
        ("plain", ["/f/Other.ttf"], "see copyright"),  # a text, which nobody has read: not guessed
        ("absent", ["/f/Other.ttf"], "see copyright"),
        ("fonts-inconsolata", [], "OFL-1.0"),  # read by a person
    ],
)
def test_licences_are_read_off_the_copyright_file(tmp_path, monkeypatch, package, paths, expected):
    monkeypatch.setattr(font_packages, "_DOC", tmp_path)
    for name, text in (("sample", COPYRIGHT), ("plain", "Under the GPL or the SIL Open Font License, perhaps.\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "copyright").write_text(text, encoding="utf-8")
    assert font_packages.licence(package, paths) == expected


def test_a_licence_for_all_files_has_one_spelling():
    fields = font_packages._licence_fields(COPYRIGHT.replace("fonts/*", "web/*"))
    assert ("*", "GPL-2+FE") in fields and ("web/*", "SIL-OFL-1.1") in fields
    assert font_packages._of_face(fields, "/f/Other.ttf") == "GPL-2+ with font exception"
    for written, expected in (
        ("GPL-3+ with Special Font Exception", "GPL-3+ with font exception"),
        ("AGPL-3 with Font exception", "AGPL-3 with font exception"),
        ("GPL-3+FontException or OFL-1.1", "GPL-3+ with font exception or OFL-1.1"),
        ("OFL 1.1 and GPL-2 + Font Exception", "OFL-1.1 and GPL-2 with font exception"),
        ("sil-1.1", "OFL-1.1"),
        ("OFL-1.1-RFN", "OFL-1.1-RFN"),
        ("GPL-2.0+", "GPL-2+"),
        ("Apache-2", "Apache-2.0"),
        ("Apache-2.0", "Apache-2.0"),
        ("Expat and BitstreamVera", "MIT and Bitstream-Vera"),
    ):
        assert font_packages._of_face([("*", written)], "/f/Other.ttf") == expected

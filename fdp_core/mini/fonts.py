"""Finds the fonts that the renderer may use: every installed face that can write English, each shape once.

    python -m fdp_core.mini.fonts             how many faces were found, which packages are missing, how to install them
    python -m fdp_core.mini.fonts --install   install the missing ones (Debian and its kin)

The same scenes need the same faces. The project ships none of them; ``assets/fonts.yaml`` lists their packages.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shlex
import shutil
import string
import subprocess
from pathlib import Path

import yaml
from fontTools.ttLib import TTFont
from PIL import ImageFont

TABLE = Path(__file__).parent.parent / "assets" / "fonts.yaml"
BUNDLED = "matplotlib"  # brings faces of its own; a requirement of this library, not a package of the system
# Faces that are no writing on signs: seven-segment displays, key caps, plain boxes.
_EXCLUDED = ("dseg", "lastresort", "keycap", "blank", "adobe-blank", "emoji")
_LETTERS = set(map(ord, string.ascii_letters + string.digits))


def font_folders() -> list[Path]:
    """Return the folders searched: ``FDP_FONTS`` (separated as PATH is), the system's, matplotlib's."""
    extra = [Path(p) for p in os.environ.get("FDP_FONTS", "").split(os.pathsep) if p]
    bundled = Path(importlib.util.find_spec(BUNDLED).origin).parent / "mpl-data" / "fonts" / "ttf"
    return [*extra, Path("/usr/share/fonts"), Path.home() / ".fonts", bundled]


def find_fonts(folders: list[Path] | None = None) -> list[str]:
    """Return the paths of usable faces, sorted; two faces that draw the same shapes count once."""
    shapes: dict[str, str] = {}
    for folder in folders or font_folders():
        for path in sorted(folder.rglob("*.[ot]tf")):
            if any(word in path.name.lower() for word in _EXCLUDED):
                continue
            shape = _shape(path)
            if shape:
                shapes.setdefault(shape, str(path))
    return sorted(shapes.values())


def find_icon_font(folders: list[Path] | None = None) -> str | None:
    """Return the path of Font Awesome 4 (Debian ``fonts-font-awesome``), or None."""
    folders = folders or [*font_folders(), Path("/usr/share/fonts-font-awesome")]
    return _first(folders, "fontawesome-webfont.ttf", "FontAwesome.otf")


def find_emoji_font(folders: list[Path] | None = None) -> str | None:
    """Return the path of Noto Color Emoji (Debian ``fonts-noto-color-emoji``), or None."""
    return _first(folders or font_folders(), "NotoColorEmoji.ttf")


def _first(folders: list[Path], *names: str) -> str | None:
    found = (path for folder in folders for name in names for path in sorted(folder.rglob(name)))
    return str(path) if (path := next(found, None)) else None


def _shape(path: Path) -> str | None:
    """Return a hash of how the face draws a few letters, or None when it cannot write English."""
    try:
        with TTFont(path, lazy=True) as face:
            if not set(face.getBestCmap() or {}) >= _LETTERS:
                return None
        font = ImageFont.truetype(str(path), 24)
        letters = [bytes(font.getmask(letter)) for letter in "ABz3"]
        if len(set(letters)) < 4 or any(sum(ink) < 500 for ink in letters):
            return None  # one box for every letter, or nothing at all
        return hashlib.sha256(bytes(font.getmask("HamburgRg"))).hexdigest()
    except Exception:  # noqa: BLE001  fonts come from anywhere; one that cannot be read is not used
        return None


def packages() -> list[dict[str, str | int]]:
    """Return the packages of ``assets/fonts.yaml``, in its order.

    Each has the name of the ``package``, the ``version`` that was used, the ``licence`` of its faces (a short name as
    SPDX has them, or "see copyright") and how many usable ``faces`` it contributes.
    """
    return yaml.safe_load(TABLE.read_text(encoding="utf-8"))


def missing() -> list[str] | None:
    """Return which packages of the list are not installed, in its order; None where there is no ``dpkg-query``."""
    if shutil.which("dpkg-query") is None:
        return None
    names = [entry["package"] for entry in packages() if entry["package"] != BUNDLED]
    # a package that dpkg does not know has no line
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    installed = {line.split()[0] for line in result.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def main(arguments: list[str] | None = None) -> None:
    """Say which fonts there are and which packages are missing; install them only where asked to."""
    parser = argparse.ArgumentParser(prog="python -m fdp_core.mini.fonts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--install", action="store_true", help="run the apt-get line that is printed")
    options = parser.parse_args(arguments)
    listed = sum(entry["faces"] for entry in packages())
    print(f"{len(find_fonts())} faces found ({listed} in {TABLE.name}). Folders searched:")
    for folder in font_folders():
        print(f"  {folder}{'' if folder.is_dir() else ' (not there)'}")
    print(f"icons: {find_icon_font() or 'not found'}\nemoji: {find_emoji_font() or 'not found'}")
    absent = missing()
    if absent is None:
        print(f"Packages missing: unknown, this system has no dpkg-query; {TABLE.name} lists them.")
    elif not absent:
        print("Packages missing: none")
    else:
        line = ["apt-get", "install", "--yes", "--no-install-recommends", *absent]
        print(f"Packages missing: {len(absent)}. To install them (as root):\n{shlex.join(line)}")
        if options.install:
            subprocess.run(line, check=True)


if __name__ == "__main__":
    main()

"""Finds the fonts that the renderer may use: every installed face that can write English, each shape once."""

from __future__ import annotations

import hashlib
import os
import string
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import ImageFont

# Faces that are no writing on signs: seven-segment displays, key caps, plain boxes.
_EXCLUDED = ("dseg", "lastresort", "keycap", "blank", "adobe-blank", "emoji")
_LETTERS = set(map(ord, string.ascii_letters + string.digits))


def font_folders() -> list[Path]:
    """Return the folders searched: ``FDP_FONTS`` (separated as PATH is), the system's, matplotlib's."""
    import matplotlib

    extra = [Path(p) for p in os.environ.get("FDP_FONTS", "").split(os.pathsep) if p]
    bundled = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [*extra, Path("/usr/share/fonts"), Path.home() / ".fonts", bundled]


def find_fonts(folders: list[Path] | None = None) -> list[str]:
    """Return the paths of usable faces, sorted; two faces that draw the same shapes count once."""
    shapes: dict[str, str] = {}
    for folder in folders or font_folders():
        paths = sorted(folder.rglob("*.[ot]tf")) if folder.is_dir() else []
        for path in paths:
            if any(word in path.name.lower() for word in _EXCLUDED):
                continue
            shape = _shape(path)
            if shape:
                shapes.setdefault(shape, str(path))
    return sorted(shapes.values())


def find_icon_font(folders: list[Path] | None = None) -> str | None:
    """Return the path of Font Awesome 4 (Debian ``fonts-font-awesome``), or None."""
    names = ("fontawesome-webfont.ttf", "FontAwesome.otf")
    for folder in folders or [*font_folders(), Path("/usr/share/fonts-font-awesome")]:
        for name in names:
            for path in sorted(folder.rglob(name)) if folder.is_dir() else []:
                return str(path)
    return None


def find_emoji_font(folders: list[Path] | None = None) -> str | None:
    """Return the path of Noto Color Emoji (Debian ``fonts-noto-color-emoji``), or None."""
    for folder in folders or font_folders():
        for path in sorted(folder.rglob("NotoColorEmoji.ttf")) if folder.is_dir() else []:
            return str(path)
    return None


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

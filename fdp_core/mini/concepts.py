"""Which things the renderer can draw, by name: open icon and emoji fonts, ``assets/concepts.csv``.

A picture stands in a scene *without* its word, and captions name it, as web captions do: this is what entangles content
words with objects. Function words never have a picture.

    python -m fdp_core.mini.concepts            how many concepts there are, and which queries name one
    python -m fdp_core.mini.concepts --write    write assets/concept_overlap.csv anew (needs all the query sets)
    python -m fdp_core.mini.concepts --sheet    write assets/pictures.png anew (needs the emoji font)
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fdp_core import datasets
from fdp_core.datasets.protocol import read_frozen
from fdp_core.files import atomic_write_bytes, atomic_write_text
from fdp_core.mini.fonts import find_emoji_font

TABLE = Path(__file__).parent.parent / "assets" / "concepts.csv"
OVERLAP = Path(__file__).parent.parent / "assets" / "concept_overlap.csv"
SHEET = Path(__file__).parent.parent / "assets" / "pictures.png"
QUERY_SETS = ("svt", "icdar2015", "mini")  # test queries of these
FONTS = {"font-awesome": "fonts-font-awesome", "noto-color-emoji": "fonts-noto-color-emoji"}  # font -> Debian package
_EMOJI_PIXELS = 109  # the one size of Noto Color Emoji's bitmaps
_CELL, _COLUMNS = 112, 8  # of the sheet: pixels a picture, pictures a row


@functools.cache
def table() -> dict[str, dict[str, int]]:
    """Return font -> concept -> code point, in the order of the file.

    Source: names of Font Awesome 4.7 (SIL OFL 1.1) and Unicode's character names (Noto Color Emoji, SIL OFL 1.1).
    """
    fonts: dict[str, dict[str, int]] = {}
    with open(TABLE, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            fonts.setdefault(row["font"], {})[row["concept"]] = int(row["code_point"], 16)
    return fonts


def names() -> tuple[str, ...]:
    """Return every drawable concept once, sorted."""
    return tuple(sorted({name for part in table().values() for name in part}))


def overlap(queries: Iterable[str]) -> list[str]:
    """Return which queries (case folded) name a drawable concept, sorted: there the picture can mislead."""
    return sorted({query.lower() for query in queries} & set(names()))


def query_texts(name: str) -> tuple[str, ...]:
    """Return the test queries of a data set; a frozen list is read without the set's photographs.

    Args:
        name: of the set, as ``fdp_core.datasets`` knows it.

    Raises:
        DatasetMissing: the queries come from annotations, and the set is not there.
    """
    if datasets.as_folder(name) is None:
        source = datasets.find(name)
        rule = source.split("test")[1]["protocol"]["queries"]
        if rule["rule"] == "frozen":
            return tuple(read_frozen(source.path.parent / rule["file"], rule.get("sha256")))
    return datasets.load(name, "test")[1].texts


def overlap_table() -> dict[str, tuple[int, list[str]]]:
    """Return query set -> (number of queries, those that name a concept); sets that are not there are left out."""
    rows = {}
    for name in QUERY_SETS:
        try:
            texts = query_texts(name)
        except datasets.DatasetMissing:
            continue
        rows[name] = (len(texts), overlap(texts))
    return rows


@functools.lru_cache(maxsize=1024)
def emoji(path: str, code_point: int) -> np.ndarray | None:
    """Return an emoji as float32 RGBA [h, w, 4] (colour 0..255, alpha 0..1), cropped; None where the font has none."""
    font = ImageFont.truetype(path, _EMOJI_PIXELS)
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((8, 8), chr(code_point), font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        return None
    sprite = np.asarray(canvas.crop(box), np.float32)
    sprite = np.dstack([sprite[..., :3], sprite[..., 3] / 255])
    sprite.flags.writeable = False
    return sprite


def sheet() -> dict[str, np.ndarray]:
    """Return the pictures that ship with the package, so that scenes can be drawn where the fonts are not installed.

    Returns:
        Concept -> float32 RGBA [h, w, 4] (colour 0..255, alpha 0..1), cropped: the emoji of every concept that both
        fonts draw, sorted by name.
    """
    cells = np.asarray(Image.open(SHEET).convert("RGBA"), np.float32) / [1, 1, 1, 255]
    found = {}
    for number, name in enumerate(_on_sheet()):
        row, column = np.array(divmod(number, _COLUMNS)) * _CELL
        cell = cells[row : row + _CELL, column : column + _CELL].astype(np.float32)
        down, across = (np.flatnonzero((cell[..., 3] > 0).any(axis)) for axis in (1, 0))
        found[name] = cell[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    return found


def _on_sheet() -> list[str]:
    return sorted(set.intersection(*(set(part) for part in table().values())))


def _draw_sheet(font: str) -> Image.Image:
    """Draw the sheet anew: RGBA in 256 colours."""
    names = _on_sheet()
    whole = Image.new("RGBA", (_COLUMNS * _CELL, -(-len(names) // _COLUMNS) * _CELL))
    for number, name in enumerate(names):
        drawn = emoji(font, table()["noto-color-emoji"][name]) * [1, 1, 1, 255]
        picture = Image.fromarray(drawn.round().astype(np.uint8))
        picture.thumbnail((_CELL - 4, _CELL - 4))
        whole.paste(picture, (number % _COLUMNS * _CELL, number // _COLUMNS * _CELL))
    return whole.quantize(256, Image.Quantize.FASTOCTREE)


def main(arguments: list[str] | None = None) -> None:
    """Print the number of concepts and the queries that name one; write the table where asked to."""
    parser = argparse.ArgumentParser(prog="python -m fdp_core.mini.concepts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write assets/{OVERLAP.name} anew")
    parser.add_argument("--sheet", action="store_true", help=f"write assets/{SHEET.name} anew")
    options = parser.parse_args(arguments)
    if options.sheet:
        font = find_emoji_font()
        if font is None:
            parser.error(f"no emoji font: install {FONTS['noto-color-emoji']}")
        _draw_sheet(font).save(file := io.BytesIO(), "PNG", optimize=True)
        atomic_write_bytes(SHEET, file.getvalue())
        print(f"wrote {SHEET}")
    for font, part in table().items():
        print(f"{font} ({FONTS[font]}): {len(part)} concepts")
    print(f"together: {len(names())} names")
    warnings.simplefilter("ignore")  # absent photographs do not matter here
    rows = overlap_table()
    for name, (count, found) in rows.items():
        print(f"{name}: {len(found)} of {count} queries can be drawn: {' '.join(found)}")
    absent = [name for name in QUERY_SETS if name not in rows]
    if absent:
        print(f"not there: {', '.join(absent)} (looked in {datasets.data_root()}; set FDP_DATA)")
    if options.write:
        if absent:
            parser.error(f"{OVERLAP.name} is written from all query sets only; not there: {', '.join(absent)}.")
        lines = [f"{name},{count},{' '.join(found)}\n" for name, (count, found) in rows.items()]
        atomic_write_text(OVERLAP, "query_set,queries,overlap\n" + "".join(lines))
        print(f"wrote {OVERLAP}")


if __name__ == "__main__":
    main()

"""Renders scene text and picture concepts: every word's polygon is known, because we drew it.

A *sign* is drawn flat (board, words in lines, optional picture), bent, and put into the scene with one
homography; the words' polygons go through the same maps. Then the camera: blur, light, noise, JPEG.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fdp_core import lexicon

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 30, 35), "green": (25, 120, 60), "blue": (25, 70, 170), "yellow": (245, 205, 40),
    "orange": (235, 120, 25), "purple": (110, 50, 140), "pink": (235, 120, 165), "brown": (110, 70, 40),
    "black": (25, 25, 28), "white": (240, 240, 235), "grey": (128, 128, 130),
}  # fmt: skip


_SIZES = np.array([18, 22, 27, 33, 40, 50, 62, 80, 110])


@dataclass
class SceneWord:
    """One drawn word: its text as drawn, its polygon (float32 [P, 2], x, y in pixels) and its board's colour."""

    text: str
    polygon: np.ndarray
    board: str
    visible: bool = True


@dataclass(frozen=True)
class Sign:
    """What a sign shall say: ``lines`` of words, or a ``picture``; letter ``height`` in pixels; ``board`` colour or any."""

    lines: tuple[tuple[str, ...], ...] = ()
    height: float = 30.0
    board: str | None = None
    picture: str | None = None


@dataclass
class Scene:
    """A rendered scene: ``image`` uint8 [h, w, 3] RGB, its words, and the pictures (name, polygon) in it."""

    image: np.ndarray
    words: list[SceneWord] = field(default_factory=list)
    pictures: list[SceneWord] = field(default_factory=list)


class Renderer:
    """Draws scenes from fonts, an icon font and background photographs.

    Args:
        fonts: paths of text fonts; each must have A-Z, a-z and 0-9.
        icon_font: path of Font Awesome 4 (for pictures) or None: no pictures.
        backgrounds: uint8 RGB arrays without text; procedural ones are used when empty.

    Raises:
        ValueError: no font is given.
    """

    def __init__(self, fonts: list[str], icon_font: str | None = None, backgrounds: list[np.ndarray] | None = None):
        if not fonts:
            raise ValueError("Renderer needs at least one font file; see fonts.find_fonts().")
        self.fonts, self.icon_font, self.backgrounds = fonts, icon_font, backgrounds or []

    def scene(
        self,
        rng: np.random.Generator,
        size: int = 224,
        signs: tuple[int, int] = (6, 14),
        heights: tuple[float, float] = (8.0, 50.0),
        next_word=None,
        picture_share: float = 0.15,
        hard: float = 1.0,
    ) -> Scene:
        """Draw one scene.

        Args:
            rng: the random generator; the same state gives the same scene.
            size: side of the square image, pixels.
            signs: least and greatest number of signs tried.
            heights: range of the letters' body height, pixels (log-uniform, small ones more often).
            next_word: function () -> word; default: ``lexicon.sample_word``.
            picture_share: probability that a sign is a picture without its word.
            hard: 0 no camera damage, 1 the full range.

        Returns:
            The scene; words whose polygon leaves the image are dropped from the lists or marked invisible.
        """
        next_word = next_word or (lambda: lexicon.sample_word(rng))
        canvas = self._background(rng, size)
        scene, taken = Scene(canvas), np.zeros((size, size), bool)
        for _ in range(int(rng.integers(signs[0], signs[1] + 1))):
            height = float(np.exp(rng.uniform(np.log(heights[0]), np.log(heights[1]))))
            picture = bool(self.icon_font) and rng.random() < picture_share
            sign = self._sign(rng, height, next_word, picture, size)
            for _attempt in range(12):
                if self._place(rng, scene, taken, sign):
                    break
        scene.image = _camera(rng, scene.image, hard)
        return scene

    def compose(self, rng: np.random.Generator, size: int, signs: list[Sign], hard: float = 1.0) -> Scene:
        """Draw a scene that holds the given signs; one that finds no room is left out.

        Args:
            rng: the random generator. size: side of the image, pixels. signs: what to write, larger signs first.
            hard: 0 no camera damage, 1 the full range.

        Returns:
            The scene; compare its words with ``signs`` to see what found room.

        Raises:
            ValueError: a picture is asked for without an icon font, or it is not one of ``lexicon.PICTURES``.
        """
        scene, taken = Scene(self._background(rng, size)), np.zeros((size, size), bool)
        for sign in signs:
            flat = self._write(rng, sign, size)
            for _attempt in range(60):
                if self._place(rng, scene, taken, flat):
                    break
        scene.image = _camera(rng, scene.image, hard)
        return scene

    def sheet(self, rng: np.random.Generator, size: int, next_word=None, hard: float = 1.0, cell: int = 32) -> Scene:
        """Draw a sheet of word crops: rows one cell high, each word stretched into a box of whole cells.

        The easiest lesson in reading: where a word begins and ends is known, as in crops of 32 x 128 pixels, and no
        pixel is wasted. Short words get narrow boxes. Arguments and return as for ``scene``.
        """
        next_word = next_word or (lambda: lexicon.sample_word(rng))
        scene = Scene(self._background(rng, size))
        for top in range(0, size - cell + 1, cell):
            left = 0
            while left < size:
                sign = self._write(rng, Sign(((next_word(),),), float(rng.uniform(16, 30))), size)
                if sign is None:
                    continue
                rgb, alpha, ((text, quad),), _, board, _ = sign
                aspect = np.ptp(quad[:, 0]) / max(np.ptp(quad[:, 1]), 1)
                wide = int(np.clip(round(aspect * rng.uniform(0.6, 0.9)), 1, (size - left) // cell)) * cell
                # the word's ink, plus a margin that differs from side to side, fills the box
                low, high = quad.min(0), quad.max(0)
                margin = (high - low) * [0.5 / max(aspect, 1), 0.5]
                low, high = low - margin * rng.uniform(0.05, 0.5, 2), high + margin * rng.uniform(0.05, 0.5, 2)
                scale = np.array([wide, cell]) / (high - low)
                matrix = np.float32([[scale[0], 0, -low[0] * scale[0]], [0, scale[1], -low[1] * scale[1]]])
                layer = cv2.warpAffine(np.dstack([rgb, alpha]), matrix, (wide, cell), flags=cv2.INTER_AREA)
                box = scene.image[top : top + cell, left : left + wide].astype(np.float32)
                mixed = box * (1 - layer[..., 3:]) + layer[..., :3] * layer[..., 3:]
                scene.image[top : top + cell, left : left + wide] = np.clip(mixed, 0, 255).astype(np.uint8)
                corners = [[left, top], [left + wide, top], [left + wide, top + cell], [left, top + cell]]
                scene.words.append(SceneWord(text, np.array(corners, np.float32), board))
                left += wide
        scene.image = _camera(rng, scene.image, hard)
        return scene

    # -- flat signs ---------------------------------------------------------------------------------------------

    def _sign(self, rng, height, next_word, picture, size):
        """Return a random flat sign; see ``_layout``."""
        draw = _draw_size(height)
        font_path = self.fonts[int(rng.integers(len(self.fonts)))]
        items: list[list[tuple[str, np.ndarray]]] = []
        if picture:
            name = list(lexicon.PICTURES)[int(rng.integers(len(lexicon.PICTURES)))]
            glyph = _mask(self.icon_font, round(draw * rng.uniform(1.2, 2.5)), chr(lexicon.PICTURES[name]))
            items = [[(name, glyph)]]
        else:
            case = rng.choice(4, p=[0.58, 0.25, 0.13, 0.04])
            font_px = _font_size(font_path, draw)
            spacing = rng.choice([0.0, 0.08, 0.2], p=[0.9, 0.06, 0.04])
            for _line in range(int(rng.choice([1, 2, 3], p=[0.66, 0.24, 0.10]))):
                line = []
                for _word in range(int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))):
                    text = _cased(rng, next_word(), int(case))
                    glyphs = _mask(font_path, font_px, text, spacing=spacing)
                    if glyphs is None:
                        continue
                    if (sum(g.shape[1] for _, g in line) + glyphs.shape[1]) * height / draw < 0.95 * size:
                        line.append((text, glyphs))
                if line:
                    items.append(line)
        return self._layout(rng, items, picture, height)

    def _write(self, rng, sign, size):
        """Return the flat sign that ``sign`` describes, smaller than asked where it would not fit the frame."""
        if sign.picture:
            if not self.icon_font or sign.picture not in lexicon.PICTURES:
                raise ValueError(f"Cannot draw the picture {sign.picture!r}: needs Font Awesome 4 and a name in lexicon.PICTURES.")
            glyph = _mask(self.icon_font, round(_draw_size(sign.height) * 1.8), chr(lexicon.PICTURES[sign.picture]))
            return self._layout(rng, [[(sign.picture, glyph)]], True, sign.height, sign.board)
        font_path = self.fonts[int(rng.integers(len(self.fonts)))]
        case, height = int(rng.choice(3, p=[0.6, 0.25, 0.15])), sign.height
        while True:
            draw = _draw_size(height)
            pixels = _font_size(font_path, draw)
            items = [[(_cased(rng, w, case), _mask(font_path, pixels, _cased(rng, w, case))) for w in line] for line in sign.lines]
            widest = max(sum(1 + g.shape[1] + draw for _, g in line if g is not None) for line in items)
            if widest * height / draw < 0.8 * size:
                return self._layout(rng, items, False, height, sign.board)
            height *= 0.8

    def _layout(self, rng, items, picture, height, board=None):
        """Set lines of (text, ink) on a board: (rgb [h, w, 3], alpha [h, w], [(text, quad)], picture?, board, scale)."""
        draw = _draw_size(height)
        items = [line for line in items if line and all(glyph is not None for _, glyph in line)]
        if not items:
            return None
        pad, gap, leading = draw * rng.uniform(0.15, 0.8), draw * rng.uniform(0.3, 0.7), draw * rng.uniform(0.15, 0.5)
        widths = [sum(g.shape[1] for _, g in line) + gap * (len(line) - 1) for line in items]
        line_heights = [max(g.shape[0] for _, g in line) for line in items]
        w = int(max(widths) + 2 * pad) + 1
        h = int(sum(line_heights) + leading * (len(items) - 1) + 2 * pad) + 1
        ink, boxes, y = np.zeros((h, w), np.float32), [], pad
        align = rng.choice([0.0, 0.5, 0.5, 1.0])
        for line, width, line_height in zip(items, widths, line_heights, strict=True):
            x = pad + align * (max(widths) - width)
            for text, glyph in line:
                gh, gw = glyph.shape
                top, left = int(y + line_height - gh), int(x)
                ink[top : top + gh, left : left + gw] = np.maximum(ink[top : top + gh, left : left + gw], glyph)
                quad = np.array([[left, top], [left + gw, top], [left + gw, top + gh], [left, top + gh]], np.float32)
                boxes.append((text, quad))
                x += gw + gap
            y += line_height + leading
        rgb, alpha, board = _paint(rng, ink, draw, board)
        if rng.random() < 0.15:
            rgb, alpha, boxes = _bend(rgb, alpha, boxes, rng.uniform(-0.22, 0.22) * w)
        return rgb, alpha, boxes, picture, board, height / draw

    # -- into the scene -----------------------------------------------------------------------------------------

    def _place(self, rng, scene, taken, sign):
        if sign is None:
            return True
        rgb, alpha, boxes, picture, board, scale = sign
        size = taken.shape[0]
        h, w = alpha.shape
        angle = np.deg2rad(rng.normal(0, 5) if rng.random() < 0.9 else rng.uniform(-40, 40))
        sx, sy, shear = scale * rng.uniform(0.8, 1.25), scale, rng.normal(0, 0.08)
        corners = np.array([[-w / 2, -h / 2], [w / 2, -h / 2], [w / 2, h / 2], [-w / 2, h / 2]], np.float64)
        tilt = rng.normal(0, 0.16, 2)  # perspective: one side of the sign is nearer
        corners[:, 1] *= 1 + tilt[0] * corners[:, 0] / w * 2 * 0.5
        corners[:, 0] *= 1 + tilt[1] * corners[:, 1] / h * 2 * 0.2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = corners * [sx, sy] @ np.array([[1, 0], [shear, 1]]) @ turn.T
        low, high = corners.min(0), corners.max(0)
        free = size - (high - low)
        margin = 0.08 * (high - low)  # a sign may be cut off by the frame a little
        if (free + 2 * margin < 1).any():
            return False
        corners += rng.uniform(-margin, np.maximum(free + margin, -margin + 1e-3)) - low
        x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, size)
        if x1 <= x0 or y1 <= y0 or taken[y0:y1, x0:x1].any():
            return False
        taken[y0:y1, x0:x1] = True
        source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
        matrix = cv2.getPerspectiveTransform(source, (corners - [x0, y0]).astype(np.float32))
        shrink = 1 / max(min(sx, sy), 1e-3)
        layer = np.dstack([rgb, alpha])
        if shrink > 1.3:  # low-pass before shrinking, or thin strokes alias away
            layer = cv2.GaussianBlur(layer, (0, 0), 0.35 * shrink)
        layer = cv2.warpPerspective(layer, matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
        a = layer[..., 3:4]
        patch = scene.image[y0:y1, x0:x1].astype(np.float32)
        # colour was blurred with its alpha border: composite straight, the border is one pixel
        scene.image[y0:y1, x0:x1] = np.clip(patch * (1 - a) + layer[..., :3] * a, 0, 255).astype(np.uint8)
        for text, polygon in boxes:
            moved = cv2.perspectiveTransform(polygon[None].astype(np.float32), matrix)[0] + [x0, y0]
            inside = (moved >= -1).all() and (moved <= size + 1).all()
            word = SceneWord(text, np.clip(moved, 0, size).astype(np.float32), board, bool(inside))
            (scene.pictures if picture else scene.words).append(word)
        return True

    def _background(self, rng, size):
        if self.backgrounds and rng.random() < 0.85:
            image = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            h, w = image.shape[:2]
            side = int(min(h, w) * rng.uniform(0.35, 1.0))
            y, x = int(rng.integers(h - side + 1)), int(rng.integers(w - side + 1))
            out = cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_LINEAR)
            out = out[:, ::-1] if rng.random() < 0.5 else out
            return np.ascontiguousarray(out)
        return procedural_background(rng, size)


def procedural_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a uint8 [size, size, 3] scene without text: smooth colour fields, facades of windows, bricks, stripes."""
    cells = int(rng.integers(2, 9))
    base = rng.uniform(20, 235, (cells, cells, 3)).astype(np.float32)
    base = base * 0.35 + rng.uniform(30, 220, 3).astype(np.float32) * 0.65
    image = cv2.resize(base, (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 4))):
        x0, y0 = rng.uniform(0, size * 0.8, 2)
        x1, y1 = x0 + rng.uniform(0.1, 0.7) * size, y0 + rng.uniform(0.1, 0.7) * size
        colour = rng.uniform(10, 245, 3)
        pitch_x, pitch_y = rng.uniform(0.03, 0.2, 2) * size
        if rng.random() < 0.6:  # a grid of windows, tiles or bricks
            fill = rng.uniform(0.3, 0.9)
            for row, y in enumerate(np.arange(y0, y1, pitch_y)):
                shift = pitch_x / 2 * (row % 2) * (pitch_x > 2 * pitch_y)
                for x in np.arange(x0 + shift, x1, pitch_x):
                    shade = colour + rng.normal(0, 12)
                    end = (int(x + fill * pitch_x), int(y + fill * pitch_y))
                    cv2.rectangle(image, (int(x), int(y)), end, tuple(map(float, shade)), -1)
        elif rng.random() < 0.5:
            cv2.rectangle(image, (int(x0), int(y0)), (int(x1), int(y1)), tuple(map(float, colour)), -1)
        else:
            ends = rng.uniform(0, size, (int(rng.integers(3, 7)), 2)).astype(np.int32)
            cv2.fillPoly(image, [ends], tuple(map(float, colour)))
    grain = rng.normal(0, rng.uniform(2, 14), (size // 2 + 1, size // 2 + 1, 1)).astype(np.float32)
    image += cv2.resize(grain, (size, size))[..., None] if rng.random() < 0.8 else 0
    return np.clip(image, 0, 255).astype(np.uint8)


def _draw_size(height: float) -> float:
    """Return the size at which letters are drawn before they shrink to ``height``: few sizes, so that the font cache hits."""
    return float(_SIZES[np.searchsorted(_SIZES[:-1], height * 1.3)])


@functools.lru_cache(maxsize=4096)
def _font(path: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, pixels)


@functools.lru_cache(maxsize=4096)
def _font_size(path: str, height: float) -> int:
    """Return the font size at which capitals are about ``height`` pixels high (faces differ by a factor of two)."""
    box = _font(path, 64).getbbox("HEX")
    return max(8, round(64 * height / max(box[3] - box[1], 16)))


def _mask(path: str, pixels: int, text: str, spacing: float = 0.0) -> np.ndarray | None:
    """Return ink coverage float32 [h, w] in 0..1, cropped to the ink; None when the face draws nothing."""
    font = _font(path, int(pixels))
    if spacing and len(text) > 1:
        parts = [_mask(path, pixels, letter) for letter in text]
        if any(part is None for part in parts):
            return None
        # letters keep their baseline only when drawn together: place each in the word's own box
        box = font.getbbox(text)
        out, x = np.zeros((box[3] - box[1] + 2, 1), np.float32), 0
        columns = []
        for letter, part in zip(text, parts, strict=True):
            top = max(font.getbbox(letter)[1] - box[1], 0)
            column = np.zeros((out.shape[0], part.shape[1] + int(spacing * pixels)), np.float32)
            rows = min(part.shape[0], column.shape[0] - top)
            column[top : top + rows, : part.shape[1]] = part[:rows]
            columns.append(column)
        ink = np.hstack(columns)
    else:
        left, top, right, bottom = font.getbbox(text)
        if right <= left or bottom <= top:
            return None
        image = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
        ImageDraw.Draw(image).text((-left, -top), text, font=font, fill=255)
        ink = np.asarray(image, np.float32) / 255
    rows, columns = np.flatnonzero(ink.max(1) > 0.1), np.flatnonzero(ink.max(0) > 0.1)
    if not len(rows):
        return None
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _cased(rng, word, case):
    if case == 0:
        return word.upper()
    if case == 1:
        return word[:1].upper() + word[1:]
    if case == 2:
        return word
    return word.upper() if rng.random() < 0.5 else word.title()


def _colour(rng, name=None):
    name = name or list(COLOURS)[int(rng.integers(len(COLOURS)))]
    return name, np.clip(np.array(COLOURS[name], np.float32) + rng.normal(0, 14, 3), 0, 255).astype(np.float32)


def _contrasting(rng, colour):
    """Return an ink colour whose luminance differs from the board's by at least 45 of 255 (usually far more)."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    least = 45 if rng.random() < 0.3 else 90
    for _ in range(20):
        ink = _colour(rng)[1] if rng.random() < 0.7 else rng.uniform(0, 255, 3).astype(np.float32)
        if abs(float((ink - colour) @ weights)) > least:
            return ink
    return np.full(3, 250.0 if colour @ weights < 128 else 10.0, np.float32)


def _paint(rng, ink, draw, board_name=None):
    """Give flat ink its colours: returns (rgb float32 [h, w, 3], alpha [h, w], the board's colour name)."""
    h, w = ink.shape
    wanted, (board_name, board) = board_name, _colour(rng, board_name)
    colour = _contrasting(rng, board)
    rgb = np.empty((h, w, 3), np.float32)
    rgb[:] = board
    if rng.random() < 0.35:  # light falls off across the board
        ramp = np.linspace(rng.uniform(0.7, 1), rng.uniform(1, 1.25), w if rng.random() < 0.5 else h, dtype=np.float32)
        rgb *= ramp[None, :, None] if len(ramp) == w and w != h else np.resize(ramp, h)[:, None, None]
    has_board = rng.random() < 0.7 or wanted is not None
    alpha = np.ones((h, w), np.float32) if has_board else np.zeros((h, w), np.float32)
    if has_board and rng.random() < 0.3:
        t = max(1, int(draw * rng.uniform(0.04, 0.12)))
        frame = _contrasting(rng, board)
        cv2.rectangle(rgb, (t, t), (w - 1 - t, h - 1 - t), tuple(map(float, frame)), t)
    style = rng.random()
    if style < 0.2 or (not has_board and style < 0.45):  # shadow
        dx, dy = (int(round(d)) for d in rng.uniform(-0.12, 0.12, 2) * draw)
        shadow = cv2.warpAffine(ink, np.float32([[1, 0, dx], [0, 1, dy]]), (w, h))
        shadow = cv2.GaussianBlur(shadow, (0, 0), draw * rng.uniform(0.01, 0.1) + 0.3)
        shade = rgb * 0.0 + (10.0 if colour.mean() > 110 else 235.0)
        rgb = rgb * (1 - shadow[..., None] * 0.8) + shade * shadow[..., None] * 0.8
        alpha = np.maximum(alpha, shadow * 0.9)
    elif style < 0.32 or (not has_board and style < 0.7):  # outline
        t = max(1, int(draw * rng.uniform(0.03, 0.09)))
        outline = cv2.dilate(ink, np.ones((2 * t + 1, 2 * t + 1), np.uint8))
        rgb = rgb * (1 - outline[..., None]) + _contrasting(rng, colour) * outline[..., None]
        alpha = np.maximum(alpha, outline)
    elif style < 0.38 and has_board:  # neon: the ink glows
        glow = cv2.GaussianBlur(ink, (0, 0), draw * 0.15 + 0.5) * 0.7
        rgb = rgb * 0.5 * (1 - glow[..., None]) + np.maximum(colour, 150) * glow[..., None]
        colour = np.maximum(colour, 170)
    elif style < 0.42:  # engraved or embossed
        d = max(1, int(draw * 0.04))
        light = cv2.warpAffine(ink, np.float32([[1, 0, d], [0, 1, d]]), (w, h)) - ink
        rgb = np.clip(rgb + 90 * light[..., None], 0, 255)
    strength = ink[..., None] * rng.uniform(0.85, 1.0)
    rgb = rgb * (1 - strength) + colour * strength
    return rgb, np.maximum(alpha, ink), board_name if has_board else "none"


def _bend(rgb, alpha, boxes, bend):
    """Bend a sign along a parabola; polygons get extra points so that they follow the curve."""
    h, w = alpha.shape
    room = int(abs(bend)) + 1
    def drop(x):  # how far a column moves down
        t = (np.asarray(x, np.float32) - w / 2) / (w / 2)
        return bend * t * t + (room if bend < 0 else 0)
    grid_x, grid_y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h + room, dtype=np.float32))
    layer = cv2.remap(np.dstack([rgb, alpha]), grid_x, grid_y - drop(grid_x), cv2.INTER_LINEAR)
    bent = []
    for text, quad in boxes:
        xs = np.linspace(quad[0, 0], quad[1, 0], 5)
        top = np.stack([xs, quad[0, 1] + drop(xs)], 1)
        bottom = np.stack([xs[::-1], quad[2, 1] + drop(xs[::-1])], 1)
        bent.append((text, np.concatenate([top, bottom]).astype(np.float32)))
    return layer[..., :3], layer[..., 3], bent


def _camera(rng, image, hard):
    """Blur, light, sensor noise, rescaling and JPEG; uint8 [h, w, 3] to the same."""
    size = image.shape[0]
    if rng.random() < 0.35 * hard:  # rescaling: the photograph was smaller
        small = int(size * rng.uniform(0.6, 0.95))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    blur = rng.random()
    if blur < 0.3 * hard:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.1))
    elif blur < 0.38 * hard:  # motion
        k = int(rng.integers(2, 5))
        kernel = np.eye(k, dtype=np.float32) if rng.random() < 0.3 else np.ones((1, k), np.float32)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.7 * hard:
        gain, offset, gamma = rng.uniform(0.55, 1.2), rng.uniform(-25, 30), np.exp(rng.normal(0, 0.25))
        table = np.clip(255 * (np.arange(256) / 255) ** gamma * gain + offset, 0, 255)
        tint = rng.normal(1, 0.05, 3)
        image = np.clip(table[image] * tint, 0, 255).astype(np.uint8)
    if rng.random() < 0.5 * hard:
        noise = rng.normal(0, rng.uniform(1, 9), image.shape[:2]).astype(np.float32)
        image = np.clip(image + noise[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.6 * hard:
        quality = int(rng.integers(25, 92))
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return image


def load_backgrounds(folder: Path | str, limit: int = 500) -> list[np.ndarray]:
    """Read up to ``limit`` background photographs (uint8 RGB) found anywhere below ``folder``, in name order."""
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths[:limit]]

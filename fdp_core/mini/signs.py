"""The look of one sign, flat: letters as ink, colours, shadow, outline, glow, bend."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 30, 35), "green": (25, 120, 60), "blue": (25, 70, 170), "yellow": (245, 205, 40),
    "orange": (235, 120, 25), "purple": (110, 50, 140), "pink": (235, 120, 165), "brown": (110, 70, 40),
    "black": (25, 25, 28), "white": (240, 240, 235), "grey": (128, 128, 130),
}  # fmt: skip

# Few sizes, so that the font cache hits.
_SIZES = np.array([18, 22, 27, 33, 40, 50, 62, 80, 110])


def draw_size(height: float) -> float:
    """Return the size at which letters are drawn before they shrink to ``height`` (few sizes: the font cache hits)."""
    return float(_SIZES[np.searchsorted(_SIZES[:-1], height * 1.3)])


@functools.lru_cache(maxsize=4096)
def _font(path: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, pixels)


@functools.lru_cache(maxsize=4096)
def font_size(path: str, height: float) -> int:
    """Return the font size at which capitals are about ``height`` pixels high (faces differ by a factor of two)."""
    box = _font(path, 64).getbbox("HEX")
    return max(8, round(64 * height / max(box[3] - box[1], 16)))


def mask(path: str, pixels: int, text: str, spacing: float = 0.0) -> np.ndarray | None:
    """Return ink coverage float32 [h, w] in 0..1, cropped to the ink; None when the face draws nothing."""
    font = _font(path, int(pixels))
    if spacing and len(text) > 1:
        parts = [mask(path, pixels, letter) for letter in text]
        if any(part is None for part in parts):
            return None
        # letters keep their baseline only when drawn together: place each in the word's own box
        box = font.getbbox(text)
        rows_high, columns = int(box[3] - box[1]) + 2, []
        for letter, part in zip(text, parts, strict=True):
            top = max(font.getbbox(letter)[1] - box[1], 0)
            column = np.zeros((rows_high, part.shape[1] + int(spacing * pixels)), np.float32)
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


def cased(rng, word, case):
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


def paint(rng, ink, draw, board_name=None):
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


def bend_sign(rgb, alpha, boxes, bend):
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

"""Renders scene text and picture concepts: every word's polygon is known, because we drew it.

A *sign* is drawn flat (board, words in lines, optional picture), bent, and put into the scene with one
homography; the words' polygons go through the same maps. Then the camera: blur, light, noise, JPEG.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from fdp_core.datasets.types import box_polygon
from fdp_core.mini import concepts, lexicon, scenery
from fdp_core.mini.signs import bend_sign, cased, draw_size, font_size, mask, paint


@dataclass
class SceneWord:
    """One drawn word or picture.

    Attributes:
        text: as drawn, or the picture's name.
        polygon: float32 [P, 2], x and y in pixels.
        board: its board's colour, "none" without a board.
        visible: False where the frame cuts it off.
        is_word: False for a picture.
    """

    text: str
    polygon: np.ndarray
    board: str
    visible: bool = True
    is_word: bool = True


@dataclass(frozen=True)
class Sign:
    """What a sign shall say: ``lines`` of words or a ``picture``, letter ``height`` in pixels, ``board`` colour."""

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
        emoji_font: path of Noto Color Emoji (more pictures, in colour) or None.

    Raises:
        ValueError: no font is given.
    """

    def __init__(
        self,
        fonts: list[str],
        icon_font: str | None = None,
        backgrounds: list[np.ndarray] | None = None,
        emoji_font: str | None = None,
    ):
        if not fonts:
            raise ValueError("Renderer needs at least one font file; see fonts.find_fonts().")
        self.fonts, self.icon_font, self.emoji_font = fonts, icon_font, emoji_font
        self.backgrounds = backgrounds or []
        self.icons = concepts.table()["font-awesome"]

    def scene(
        self,
        rng: np.random.Generator,
        size: int = 224,
        signs: tuple[int, int] = (6, 14),
        heights: tuple[float, float] = (8.0, 50.0),
        picture_share: float = 0.15,
        hard: float = 1.0,
        sample: Callable[[np.random.Generator], str] = lexicon.sample_word,
    ) -> Scene:
        """Draw one scene.

        Args:
            rng: the random generator; the same state gives the same scene.
            size: side of the square image, pixels.
            signs: least and greatest number of signs tried.
            heights: range of the letters' body height, pixels (log-uniform, small ones more often).
            picture_share: probability that a sign is a picture without its word.
            hard: 0 no camera damage, 1 the full range.
            sample: draws a word to write.

        Returns:
            The scene; words whose polygon leaves the image are dropped from the lists or marked invisible.
        """
        canvas = self._background(rng, size)
        scene, taken = Scene(canvas), np.zeros((size, size), bool)
        for _ in range(int(rng.integers(signs[0], signs[1] + 1))):
            height = float(np.exp(rng.uniform(np.log(heights[0]), np.log(heights[1]))))
            picture = bool(self.icon_font or self.emoji_font) and rng.random() < picture_share
            sign = self._sign(rng, height, picture, size, sample)
            for _attempt in range(12):
                if self._place(rng, scene, taken, sign):
                    break
        scene.image = scenery.camera(rng, scene.image, hard)
        return scene

    def compose(self, rng: np.random.Generator, size: int, signs: list[Sign], hard: float = 1.0) -> Scene:
        """Draw a scene that holds the given signs; one that finds no room is left out.

        Args:
            rng: the random generator. size: side of the image, pixels. signs: what to write, larger signs first.
            hard: 0 no camera damage, 1 the full range.

        Returns:
            The scene; compare its words with ``signs`` to see what found room.

        Raises:
            ValueError: a picture is asked for without an icon font, or it is none of its concepts.
        """
        scene, taken = Scene(self._background(rng, size)), np.zeros((size, size), bool)
        for sign in signs:
            flat = self._write(rng, sign, size)
            for _attempt in range(60):
                if self._place(rng, scene, taken, flat):
                    break
        scene.image = scenery.camera(rng, scene.image, hard)
        return scene

    # -- flat signs ---------------------------------------------------------------------------------------------

    def _sign(self, rng, height, picture, size, sample):
        """Return a random flat sign; see ``_layout``."""
        draw = draw_size(height)
        font_path = self.fonts[int(rng.integers(len(self.fonts)))]
        items: list[list[tuple[str, np.ndarray]]] = []
        if picture and self.emoji_font and (not self.icon_font or rng.random() < 0.75):
            return self._emoji(rng, height * rng.uniform(1.2, 3.0))
        if picture:
            name = list(self.icons)[int(rng.integers(len(self.icons)))]
            glyph = mask(self.icon_font, round(draw * rng.uniform(1.2, 2.5)), chr(self.icons[name]))
            items = [[(name, glyph)]]
        else:
            case = rng.choice(4, p=[0.58, 0.25, 0.13, 0.04])
            font_px = font_size(font_path, draw)
            spacing = rng.choice([0.0, 0.08, 0.2], p=[0.9, 0.06, 0.04])
            for _line in range(int(rng.choice([1, 2, 3], p=[0.66, 0.24, 0.10]))):
                line = []
                for _word in range(int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))):
                    text = cased(rng, sample(rng), int(case))
                    glyphs = mask(font_path, font_px, text, spacing=spacing)
                    if glyphs is None:
                        continue
                    if (sum(g.shape[1] for _, g in line) + glyphs.shape[1]) * height / draw < 0.95 * size:
                        line.append((text, glyphs))
                if line:
                    items.append(line)
        return self._layout(rng, items, picture, height)

    def _emoji(self, rng, height):
        """Return a picture in colour, without a board, in the form of ``_layout``."""
        table = concepts.table()["noto-color-emoji"]
        name = list(table)[int(rng.integers(len(table)))]
        sprite = concepts.emoji(self.emoji_font, table[name])
        if sprite is None:
            return None
        h, w = sprite.shape[:2]
        return sprite[..., :3], sprite[..., 3], [(name, box_polygon(0, 0, w, h))], True, "none", height / h

    def _write(self, rng, sign, size):
        """Return the flat sign that ``sign`` describes, smaller than asked where it would not fit the frame."""
        if sign.picture:
            if not self.icon_font or sign.picture not in self.icons:
                raise ValueError(
                    f"Cannot draw the picture {sign.picture!r}: needs Font Awesome 4 and a name of concepts.csv."
                )
            glyph = mask(self.icon_font, round(draw_size(sign.height) * 1.8), chr(self.icons[sign.picture]))
            return self._layout(rng, [[(sign.picture, glyph)]], True, sign.height, sign.board)
        font_path = self.fonts[int(rng.integers(len(self.fonts)))]
        case, height = int(rng.choice(3, p=[0.6, 0.25, 0.15])), sign.height
        while True:
            draw = draw_size(height)
            pixels = font_size(font_path, draw)
            items = [
                [(cased(rng, w, case), mask(font_path, pixels, cased(rng, w, case))) for w in line]
                for line in sign.lines
            ]
            widest = max(sum(1 + g.shape[1] + draw for _, g in line if g is not None) for line in items)
            if widest * height / draw < 0.8 * size:
                return self._layout(rng, items, False, height, sign.board)
            height *= 0.8

    def _layout(self, rng, items, picture, height, board=None):
        """Set lines of (text, ink) on a board: (rgb [h, w, 3], alpha [h, w], [(text, quad)], picture, board, scale)."""
        draw = draw_size(height)
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
                boxes.append((text, box_polygon(left, top, gw, gh)))
                x += gw + gap
            y += line_height + leading
        rgb, alpha, board = paint(rng, ink, draw, board)
        if rng.random() < 0.15:
            rgb, alpha, boxes = bend_sign(rgb, alpha, boxes, rng.uniform(-0.22, 0.22) * w)
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
        matrix = cv2.getPerspectiveTransform(box_polygon(0, 0, w, h), (corners - [x0, y0]).astype(np.float32))
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
            word = SceneWord(text, np.clip(moved, 0, size).astype(np.float32), board, bool(inside), not picture)
            (scene.pictures if picture else scene.words).append(word)
        return True

    def _background(self, rng, size):
        if not self.backgrounds or rng.random() < 0.15:
            return scenery.procedural_background(rng, size)
        if rng.random() < 0.6:
            return scenery.collage(rng, self.backgrounds, size)
        return scenery.piece(rng, self.backgrounds, size, size, rng.uniform(0.35, 1.0))

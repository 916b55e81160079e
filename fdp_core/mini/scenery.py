"""What surrounds the writing: backgrounds without text, and what a camera does to a picture."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def folder(asked: str | None = None) -> str | None:
    """Return the folder of backgrounds: the one asked for, else ``bsds500`` under FDP_DATA where it is there."""
    bsds = Path(os.environ.get("FDP_DATA") or "data") / "bsds500"
    return asked or (str(bsds) if bsds.is_dir() else None)


def load_backgrounds(folder: Path | str, limit: int = 500) -> list[np.ndarray]:
    """Read up to ``limit`` background photographs (uint8 RGB) found anywhere below ``folder``, in name order."""
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths[:limit]]


def piece(rng: np.random.Generator, photos: list[np.ndarray], height: int, width: int, share: float) -> np.ndarray:
    """Cut a piece out of a random photograph, as large as fits times ``share`` (0..1), and resize it."""
    image = photos[int(rng.integers(len(photos)))]
    h, w = image.shape[:2]
    scale = share * min(h / height, w / width)
    ph, pw = max(int(height * scale), 1), max(int(width * scale), 1)
    y, x = int(rng.integers(h - ph + 1)), int(rng.integers(w - pw + 1))
    out = cv2.resize(image[y : y + ph, x : x + pw], (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(out[:, ::-1] if rng.random() < 0.5 else out)


def collage(rng: np.random.Generator, photos: list[np.ndarray], size: int) -> np.ndarray:
    """Fill a frame with several photographs near their own size.

    Background photographs are smaller than a frame: enlarged they are blurred, and sharpness would tell text from what
    surrounds it. Pieces at full sharpness take that shortcut away.
    """
    image = np.empty((size, size, 3), np.uint8)
    cut_y = sorted({0, size, int(size * rng.uniform(0.3, 0.7))})
    for top, bottom in zip(cut_y, cut_y[1:]):
        cut_x = sorted({0, size, int(size * rng.uniform(0.3, 0.7))}) if rng.random() < 0.8 else [0, size]
        for left, right in zip(cut_x, cut_x[1:]):
            image[top:bottom, left:right] = piece(rng, photos, bottom - top, right - left, rng.uniform(0.7, 1.0))
    return image


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


def light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Cast a shadow, a glare or the dark on a picture, or put something thin before it: uint8 [h, w, 3] to the same."""
    h, w = image.shape[:2]
    kind = rng.random()
    if kind < 0.12:  # the edge of a shadow, soft or sharp
        angle, x, y = rng.uniform(0, np.pi), rng.uniform(0, w), rng.uniform(0, h)
        across = (np.arange(w, dtype=np.float32) - x) * np.cos(angle)
        across = across[None] + ((np.arange(h, dtype=np.float32) - y) * np.sin(angle))[:, None]
        shade = 1 - rng.uniform(0.25, 0.7) / (1 + np.exp(-np.clip(across / (0.02 + 0.3 * rng.random()) / h, -30, 30)))
        return (image * shade[..., None]).astype(np.uint8)
    if kind < 0.20:  # a lamp or the sun on a shiny board
        x, y = np.arange(w, dtype=np.float32) - rng.uniform(0, w), np.arange(h, dtype=np.float32) - rng.uniform(0, h)
        reach = h * rng.uniform(0.3, 1.5)
        spot = np.exp(-((y / reach)[:, None] ** 2) - (x / reach)[None] ** 2) * rng.uniform(60, 200)
        return np.clip(image + spot[..., None], 0, 255).astype(np.uint8)
    if kind < 0.26:  # a pole, a branch, a cable
        out, colour = image.copy(), tuple(map(float, rng.uniform(0, 220, 3)))
        ends = rng.uniform(0, 1, (2, 2)) * [w, h]
        ends[int(rng.integers(2)), 1] = rng.choice([0, h])
        cv2.line(out, *(tuple(map(int, end)) for end in ends), colour, max(1, int(h * rng.uniform(0.02, 0.14))))
        return out
    if kind < 0.32:  # night
        dark = image.astype(np.float32) * rng.uniform(0.15, 0.5)
        return np.clip(dark + rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 5), 0, 255).astype(np.uint8)
    return image


def camera(rng: np.random.Generator, image: np.ndarray, hard: float) -> np.ndarray:
    """Blur, light, sensor noise, rescaling and JPEG: uint8 [h, w, 3] to the same; ``hard`` 0..1 scales how often."""
    h, w = image.shape[:2]
    if rng.random() < 0.35 * hard:  # rescaling: the photograph was smaller
        share = rng.uniform(0.5, 0.95)
        small = (max(int(w * share), 1), max(int(h * share), 1))
        image = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (w, h))
    blur = rng.random()
    if blur < 0.3 * hard:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.2))
    elif blur < 0.4 * hard:  # motion
        k = int(rng.integers(2, 6))
        kernel = np.eye(k, dtype=np.float32) if rng.random() < 0.3 else np.ones((1, k), np.float32)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    elif blur < 0.5 * hard:  # sharpening, as in a telephone
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0))
        image = cv2.addWeighted(image, 2.0, soft, -1.0, 0)
    if rng.random() < 0.75 * hard:
        gain, offset, gamma = rng.uniform(0.4, 1.25), rng.uniform(-25, 60), np.exp(rng.normal(0, 0.3))
        table = 255 * (np.arange(256) / 255) ** gamma * gain + offset
        table = np.clip(table[:, None] * rng.normal(1, 0.06, 3), 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
    if rng.random() < 0.12 * hard:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.5 * hard:
        noise = rng.standard_normal((h, w), np.float32) * np.float32(rng.uniform(1, 10))
        image = np.clip(image + noise[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.6 * hard:
        quality = int(rng.integers(20, 92))
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return image

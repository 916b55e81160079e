"""What surrounds the writing: backgrounds without text, and what a camera does to a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def load_backgrounds(folder: Path | str, limit: int = 500) -> list[np.ndarray]:
    """Read up to ``limit`` background photographs (uint8 RGB) found anywhere below ``folder``, in name order."""
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths[:limit]]


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


def camera(rng, image, hard):
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

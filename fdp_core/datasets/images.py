"""Reading a photograph, whatever its file is called, or saying which one cannot be read."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

LARGEST = 89_478_485  # pixels: larger photographs are read smaller, as a phone's 200 megapixels need gigabytes
Image.MAX_IMAGE_PIXELS = 6 * LARGEST  # PIL warns from here on and refuses twice as many: a bomb, not a photograph

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


def image_files(folder: str | os.PathLike[str], recursive: bool = True) -> list[Path]:
    """List the image files of a folder by suffix, sorted by path, without hidden ones and linked folders.

    A suffix only selects: what a file really is gets decided from its content when it is opened (D4).
    """
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        found += [Path(base, name) for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
    return sorted(found)


class CorruptImage(ValueError):
    """A photograph that cannot be read; the message names the file and the reason."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path, self.reason = os.fspath(path), reason
        super().__init__(f"Cannot read the image {self.path}: {reason}. Replace the file or remove it from the set.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open a photograph by its content, turn it upright (EXIF) and convert it to RGB before anything else.

    One of more than ``LARGEST`` pixels is reduced by a whole number, a JPEG while it is decoded.

    Raises:
        CorruptImage: the file is missing, truncated, or no image.

    Source: defect D4 (files named .jpg that are GIF or PNG; conversion after resizing).
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST:
                image.draft(None, tuple(max(1, side // _times(image)) for side in image.size))
            image.load()
            upright = _upright(image if _times(image) == 1 else image.reduce(_times(image)))
            if upright.mode in ("I;16", "I;16B", "I;16L", "I"):  # 16-bit scans: PIL would clip instead of scale
                upright = Image.fromarray((np.clip(np.asarray(upright), 0, 65535) / 257).astype(np.uint8))
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                coloured = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
            return upright.convert("RGB")
    except MemoryError:
        raise
    except FileNotFoundError as error:
        raise CorruptImage(path, "the file does not exist") from error
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error ... for broken files
        raise CorruptImage(path, str(error) or type(error).__name__) from error


def _times(image: Image.Image) -> int:
    """Return by how much the sides of a photograph have to shrink."""
    return math.ceil((image.width * image.height / LARGEST) ** 0.5)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data beside good pixels: keep the pixels
        return image.copy()

"""Reading a photograph, whatever its file is called, or saying which one cannot be read."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps


class CorruptImage(ValueError):
    """A photograph that cannot be read; the message names the file and the reason."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path, self.reason = os.fspath(path), reason
        super().__init__(f"Cannot read the image {self.path}: {reason}. Replace the file or remove it from the set.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open a photograph by its content, turn it upright (EXIF) and convert it to RGB before anything else.

    Raises:
        CorruptImage: the file is missing, truncated, or no image.

    Source: defect D4 (files named .jpg that are GIF or PNG; conversion after resizing).
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = _upright(image)
            if upright.mode in (
                "I;16",
                "I;16B",
                "I;16L",
                "I",
            ):  # 16-bit scans: PIL would clip instead of scale
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


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data beside good pixels: keep the pixels
        return image.copy()

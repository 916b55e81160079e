"""Reading a photograph, whatever its file is called, or saying which one cannot be read."""

from __future__ import annotations

import collections
import contextlib
import datetime
import fnmatch
import io
import itertools
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

with contextlib.suppress(ImportError):  # the extra [heic]
    import pillow_heif

    pillow_heif.register_heif_opener()

LARGEST = 89_478_485  # pixels: larger photographs are read smaller, as a phone's 200 megapixels need gigabytes
TOO_LARGE = 12 * LARGEST  # pixels: no photograph, and more than the memory of most machines
Image.MAX_IMAGE_PIXELS = TOO_LARGE  # PIL speaks of an attack; here it is said plainly below

# PIL's readers that are meant: others hand a file to other programs (PostScript), whatever its name is.
Image.init()
FORMATS = [name for name in ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "HEIF") if name in Image.ID]
SUFFIXES = tuple(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif"]
    + [".heic", ".heif", ".hif"] * ("HEIF" in Image.ID)
)
PICTURES = ".heic .heif .hif .jxl .jp2 .j2k .jpx .psd .xcf .svg .tga .exr".split()  # told where left out
PICTURES += ".dng .crw .cr2 .cr3 .nef .nrw .arw .srw .pef .raf .orf .rw2 .x3f .3fr".split()
# names that are left out: hidden ones, recycle bins, and the small copies that other programs keep
EXCLUDE = (".*", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX", "Trash")
EXCLUDE += ("thumbs", "thumbnails", "#snapshot", "~snapshot", "@Recycle", "@Recently-Snapshot", "@__thumb", "*.lrdata")
EXCLUDE += ("RECYCLE[DR]", "Recycle Bin", "Network Trash Folder", "LOST.DIR", "@tmp", "derivatives", "~$*")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}  # a terminal obeys them


class LeftOut(UserWarning):
    """A folder holds pictures that are not read; the warning names their kinds, once."""


def image_files(
    folder: str | os.PathLike[str],
    recursive: bool = True,
    exclude: Sequence[str] = EXCLUDE,
    follow_links: bool = False,
    tell: bool = False,
) -> list[Path]:
    """List the image files of a folder by suffix, sorted by path.

    A suffix only selects: what a file really is gets decided from its content when it is opened (D4).

    Args:
        folder: the folder.
        recursive: folders in it, too.
        exclude: patterns of names, of files and folders, that are left out; upper and lower case are one.
        follow_links: linked folders, too, each once, so that a link to a folder above it does no harm.
        tell: warn (:class:`LeftOut`) of pictures whose kind is not read, and of folders that cannot be read.
    """
    skipped = [pattern.lower() for pattern in exclude]

    def wanted(name: str) -> bool:
        return not any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in skipped)

    def shut(error: OSError) -> None:
        if tell:
            warnings.warn(f"{printable(str(error.filename))} left out: {error.strerror}.", LeftOut, stacklevel=5)

    found, seen, left = [], set(), collections.Counter()
    tops = [folder]  # linked folders come last, so that a photograph's own folder names it
    for base, folders, names in itertools.chain.from_iterable(os.walk(top, onerror=shut) for top in tops):
        real = os.path.realpath(base)
        folders[:] = sorted(filter(wanted, folders)) if recursive and real not in seen else []
        if real in seen:
            continue
        seen.add(real)
        tops += [Path(base, name) for name in folders if follow_links and os.path.islink(os.path.join(base, name))]
        for name in filter(wanted, names):
            path, suffix = Path(base, name), os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES and (os.path.isfile(path) or not os.path.exists(path)):  # a pipe may never end
                found.append(path)
            left[suffix] += suffix in PICTURES and suffix not in SUFFIXES
    if tell and (kinds := sorted(kind for kind, count in left.items() if count)):
        told = f"{left.total()} files left out: {', '.join(kinds)}"
        heic = " `pip install 'fdp-core[heic]'` reads HEIC." if set(kinds) & {".heic", ".heif", ".hif"} else ""
        warnings.warn(f"{told}.{heic}", LeftOut, stacklevel=3)
    return sorted(found)


def printable(name: str) -> str:
    """Return a file name with control characters and bytes that are not UTF-8 written out, such as ``caf\\xe9.jpg``.

    In a name that itself holds ``\\x`` each backslash is doubled, so that two names never look the same.
    """
    name = name.replace("\\", "\\\\") if "\\x" in name else name
    return name.translate(_CONTROLS).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class CorruptImage(ValueError):
    """A photograph that cannot be read; the message names the file and the reason."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path = os.fspath(path)
        self.reason = reason.replace(self.path, os.path.basename(self.path))  # reports end up in notebooks
        told = f"Cannot read the image {self.path}: {self.reason}. Replace the file or remove it from the set."
        super().__init__(printable(told))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[Image.Image]:
    """Open a file, or its bytes, by one of the readers that are meant."""
    if not isinstance(source, bytes) and os.path.exists(source) and not os.path.isfile(source):
        raise OSError("it is no regular file")
    if source == b"" or (not isinstance(source, bytes) and os.stat(source).st_size == 0):
        raise OSError("it is empty")  # files of the kernel say so, and some of them never end
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
        image.filename = ""  # PIL would map a TIFF that lies on its side with its width for its height
        yield image


def open_image(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Open a photograph by its content, turn it upright (EXIF) and convert it to RGB before anything else.

    One of more than ``LARGEST`` pixels is reduced by a whole number, a JPEG while it is decoded. Numbers of more than
    eight bits are scaled by their range. Behind a transparent picture stands white, or black where it is bright itself.

    Raises:
        CorruptImage: the file is missing, truncated, no image, or larger than ``TOO_LARGE`` pixels.

    Source: defect D4 (files named .jpg that are GIF or PNG; conversion after resizing).
    """
    path = "(bytes in memory)" if isinstance(source, bytes) else source
    try:
        with _opened(source) as image:
            if image.width * image.height > TOO_LARGE:
                raise Image.DecompressionBombError
            if image.width * image.height > LARGEST:
                image.draft(None, tuple(max(1, side // _times(image)) for side in image.size))
            wide = re.search("RGB[AX]?;16", str(image.tile[:1]))
            image.load()
            if wide:
                _fill(image, source)
            upright = _upright(image if _times(image) == 1 else image.reduce(_times(image)))
            if upright.mode == "F" or upright.mode.startswith("I"):  # PIL would clip instead of scale
                values = np.asarray(upright)
                unsigned = upright.mode == "I" and getattr(image, "tag_v2", {}).get(339) == (1,)
                upright = Image.fromarray(_to_bytes(values.view(np.uint32) if unsigned else values))
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                coloured = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", coloured.size, _ground(coloured)), coloured)
            return upright if upright.mode == "RGB" else upright.convert("RGB")
    except MemoryError:
        raise
    except FileNotFoundError as error:
        raise CorruptImage(path, "the file does not exist") from error
    except Image.DecompressionBombError as error:
        raise CorruptImage(path, f"it has more than the {TOO_LARGE / 1e6:.0f} megapixels that are read") from error
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error ... for broken files
        raise CorruptImage(path, str(error) or type(error).__name__) from error


def fault(source: str | os.PathLike[str] | bytes) -> str:
    """Say why a photograph cannot be read, without its folder; "" where it can."""
    try:
        open_image(source)
    except CorruptImage as error:
        return error.reason
    return ""


def date_taken(source: str | os.PathLike[str] | bytes) -> datetime.datetime | None:
    """Return when a photograph was taken, from its EXIF data; None where it does not say so."""
    try:
        with _opened(source) as image:
            if image.format == "PNG" and "exif" not in image.info:
                return None  # PIL would decode all of it to look for them at its end
            exif = image.getexif()
            text = exif.get_ifd(0x8769).get(0x9003) or exif.get(0x0132)  # DateTimeOriginal, DateTime
            return datetime.datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except Exception:  # none, or none that is a date
        return None


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Scale numbers of any shape to uint8 by the smallest usual range that holds them, else by their own.

    Fractions may rise a little above 1, as they do where a picture was made larger or sharper.
    """
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = values.min(), values.max()
    if low >= 0:
        tops = (2.0**bits - 1 for bits in (1, 8, 10, 12, 14, 16))
        low, high = 0.0, next((top for top in tops if top / 64 < high <= max(1.9, top)), high)  # below: all black
    return np.round(np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)


def _fill(image: Image.Image, source: str | os.PathLike[str] | bytes) -> None:
    """Scale colours of 16 bits that fill half of them at most, as a camera's 12 bits do: PIL keeps the upper byte."""
    high = np.asarray(image)
    if high[..., :3].max() > 127:
        return
    order = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
    with _opened(source) as other:  # which reads the lower bytes

        def swapped(rawmode: str) -> str:
            return rawmode[:-4] + order.get(rawmode[-4:], rawmode[-4:])

        for at, tile in enumerate(other.tile):
            args = swapped(tile.args) if isinstance(tile.args, str) else (swapped(tile.args[0]), *tile.args[1:])
            other.tile[at] = tile._replace(args=args)
        colours = np.asarray(other)[..., :3] + 256.0 * high[..., :3]
    image.paste(Image.fromarray(np.dstack([_to_bytes(colours), high[..., 3:]])))


def _ground(image: Image.Image) -> str:
    """Return the ground on which the opaque pixels of an RGBA picture can be seen."""
    alpha = np.asarray(image.getchannel("A"), np.float64)
    light = np.asarray(image.convert("RGB").convert("L"), np.float64)
    return "black" if (alpha * light).sum() > 127.5 * alpha.sum() else "white"


def _times(image: Image.Image) -> int:
    """Return by how much the sides of a photograph have to shrink."""
    return math.ceil((image.width * image.height / LARGEST) ** 0.5)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data beside good pixels: keep the pixels
        return image.copy()

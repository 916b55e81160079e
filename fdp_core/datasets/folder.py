"""Any folder of photographs as a gallery: no words, no queries, just something to search."""

from __future__ import annotations

import os
from pathlib import Path

from .types import DatasetMissing, Gallery, Photo

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


def load_folder(folder: str | os.PathLike[str], recursive: bool = True, may_show: bool = False) -> Gallery:
    """Make a gallery of all image files of a folder.

    Args:
        folder: the folder.
        recursive: also take the folders in it.
        may_show: whether its photographs may be shown to others; the caller knows.

    Returns:
        A gallery named after the folder, of split ``"test"``, ids relative to the folder.

    Raises:
        DatasetMissing: there is no such folder, or no image in it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DatasetMissing(f"There is no folder {folder}. Give the path of a folder that holds photographs.")
    paths = image_files(folder, recursive)
    if not paths:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise DatasetMissing(f"The folder {folder} holds no photographs (looked for {kinds}).")
    photos = tuple(Photo(path.relative_to(folder).as_posix(), path) for path in paths)
    return Gallery(folder.resolve().name, "test", photos, manifest_hash="", may_show=may_show)

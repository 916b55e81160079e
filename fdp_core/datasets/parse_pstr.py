"""PSTR's ``query_image_dict.npy``: a pickled dict, phrase -> names of the images that show it."""

from __future__ import annotations

from pathlib import Path

from .file_names import first_there
from .query_lists import parse_listed
from .safe_pickle import read_npy
from .types import Parsed, ParseError


def parse(root: Path, layout: dict) -> Parsed:
    """Read PSTR; its pickle comes from the net and is read by :func:`fdp_core.datasets.safe_pickle.read_npy`.

    Args:
        root: the folder of the set.
        layout: lists of alternatives: ``annotations`` (the .npy file) and ``images`` (a folder).

    Returns:
        All images of the folder without words, and the phrases as they are written there.

    Raises:
        ParseError: the file holds anything but such a dict; names the file and what it found.
        OSError: the file cannot be read.
    """
    path = first_there(root, layout["annotations"])
    array = read_npy(path)
    if array.size != 1:
        raise ParseError(path, None, f"expected one dict {{phrase: [file, ...]}}, found {array.size} objects")
    return parse_listed(path, array.item(), first_there(root, layout["images"]))

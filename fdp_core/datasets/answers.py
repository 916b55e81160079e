"""What servers answer, and what goes wrong on the way, in plain words."""

from __future__ import annotations

import re

import requests
import urllib3

REFUSED = "the connection was refused"
UNKNOWN_HOST = "the name of the server is not known here (no network?)"
FAULTS = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, UnicodeError)
PASSING = frozenset({408, 425, 429, *range(500, 600)})  # answers that may be better the next time
_MEANINGS = (
    ("Connection refused", REFUSED),
    ("Name or service not known", UNKNOWN_HOST),
    ("Temporary failure in name resolution", UNKNOWN_HOST),
    ("No address associated with hostname", UNKNOWN_HOST),
    ("nodename nor servname", UNKNOWN_HOST),
    ("getaddrinfo failed", UNKNOWN_HOST),
    ("Network is unreachable", "the network is unreachable"),
    ("certificate verify failed", "the certificate of the server is not trusted here"),
    ("Read timed out", "the server stopped sending"),
    ("timed out", "the server does not answer"),
    ("IncompleteRead", "the connection ended too early"),
    ("Connection aborted", "the connection was broken off"),
    ("Connection broken", "the connection was broken off"),
)


def explain(error: Exception) -> tuple[str, bool]:
    """Say what went wrong without the layers of exceptions around it, and whether another try is pointless."""
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "the server sends us from address to address without end", True
    if isinstance(error, (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)):
        return "it leads to an address that is no web address", True
    text = str(error)
    for mark, meaning in _MEANINGS:
        if mark in text:
            return meaning, meaning in (REFUSED, UNKNOWN_HOST)
    reason = text.rpartition("Failed to establish a new connection: ")[2].rstrip("'\")")
    return _one_line(reason) or type(error).__name__, False


def answered(response: requests.Response) -> str:
    """Say what a server answered in place of the file."""
    return f"the server answered {response.status_code} {_one_line(response.reason or '')}".rstrip()


def _one_line(text: str) -> str:
    # the words are the server's: no line ends, no commands to the terminal
    return "".join(character if character.isprintable() else " " for character in text)[:200].strip()


def place(response: requests.Response) -> tuple[int, int | None]:
    """Return at which byte of the file an answer begins, and how long the whole file is, None where it is not said.

    An answer that names no place it understands (``bytes 100-199/200``, ``bytes */200``) begins at -1.
    """
    length = _number(response.headers.get("Content-Length", ""))
    if response.status_code == 200:
        return 0, length
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""), re.ASCII)
    if found is None:
        return -1, None
    first, total = (_number(part or "") for part in found.groups())
    if total is None and None not in (first, length):
        total = first + length
    return -1 if first is None else first, total


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def version_of(response: requests.Response) -> str:
    """Return by what a server tells versions of a file apart: a strong ETag, else the date; else nothing."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")

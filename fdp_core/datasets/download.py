"""One file from the net: resumed where its hash is known, bounded, checked, and kept aside when it is wrong."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import pooch
import requests
import urllib3
from tqdm import tqdm

from fdp_core.datasets.archives import enough_space
from fdp_core.files import sha256_file

CHUNK = 1 << 16
NETWORK_ERRORS = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, UnicodeError)
RETRIED = frozenset({408, 425, 429, *range(500, 600)})  # status codes that may be better the next time
_REFUSED = "the connection was refused"
_UNKNOWN_HOST = "the name of the server is not known here (no network?)"
_MEANINGS = (
    ("Connection refused", _REFUSED),
    ("Name or service not known", _UNKNOWN_HOST),
    ("Temporary failure in name resolution", _UNKNOWN_HOST),
    ("No address associated with hostname", _UNKNOWN_HOST),
    ("nodename nor servname", _UNKNOWN_HOST),
    ("getaddrinfo failed", _UNKNOWN_HOST),
    ("Network is unreachable", "the network is unreachable"),
    ("certificate verify failed", "the certificate of the server is not trusted here"),
    ("Read timed out", "the server stopped sending"),
    ("timed out", "the server does not answer"),
    ("IncompleteRead", "the connection ended too early"),
    ("Connection aborted", "the connection was broken off"),
    ("Connection broken", "the connection was broken off"),
)


class FetchError(Exception):
    """A file could not be had; the message says which, from where, why, and what can be done."""


class DiskFault(FetchError):
    """The fault is on this side: a full disk or a folder that cannot be written; no other address will help."""


def network_error(error: Exception) -> tuple[str, bool]:
    """Return in plain words what went wrong on the network, and whether another try is pointless."""
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "the server sends us from address to address without end", True
    if isinstance(error, (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)):
        return "it leads to an address that is no web address", True
    text = str(error)
    for mark, meaning in _MEANINGS:
        if mark in text:
            return meaning, meaning in (_REFUSED, _UNKNOWN_HOST)
    reason = text.rpartition("Failed to establish a new connection: ")[2].rstrip("'\")")
    return _one_line(reason) or type(error).__name__, False


def http_error(response: requests.Response) -> tuple[str, bool]:
    """Return which status came in place of the file, and whether another try is pointless."""
    reason = f"the server answered {response.status_code} {_one_line(response.reason or '')}".rstrip()
    return reason, response.status_code not in RETRIED


def _one_line(text: str) -> str:
    # the words are the server's: no line ends, no commands to the terminal
    return "".join(character if character.isprintable() else " " for character in text)[:200].strip()


def byte_range(response: requests.Response) -> tuple[int, int | None]:
    """Return the first byte of a response in the file, -1 where none is named, and the file's length where it is."""
    length = _number(response.headers.get("Content-Length", ""))
    if response.status_code == 200:
        return 0, length
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""), re.ASCII)
    first, total = (_number(part) for part in found.groups()) if found else (None, None)
    if total is None and None not in (first, length):
        total = first + length
    return -1 if first is None else first, total


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


@dataclass
class Resumable:
    """A downloader for pooch; where a hash is known, a ``.part`` file is kept between tries and between runs.

    Attributes:
        part: where the bytes gather.
        known_hash: ``"sha256:..."`` or ``"md5:..."``, or None (trust on first use; every try begins anew).
        limit: the most bytes to accept.
        copies: how often the file has to fit on the disk: twice if it is to be unpacked.
        progress: show a bar.
        timeout: seconds without a byte after which the connection is given up.
        tries: how often a broken connection is taken up again.
        pause: seconds before the second try; grows linearly.
    """

    part: Path
    known_hash: str | None
    limit: int
    copies: int
    progress: bool
    timeout: float
    tries: int
    pause: float
    afresh: bool = field(default=False, init=False)
    resumed: bool = field(default=False, init=False)

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        self._gather(url)
        right = self._is_right()
        if self.resumed and not right:
            # The kept part may be of another version of the file: once more, from the start.
            self.afresh = True
            self._gather(url)
            right = self._is_right()
        if not right:
            digest = pooch.file_hash(str(self.part), alg=self.known_hash.split(":")[0])
            raise FetchError(
                f"{url} is not the file that is meant: {self.known_hash} expected, {digest} received. The file is kept "
                f"as {set_aside(self.part, self.part.stem)}; look at it, and report it if the set has a new version."
            )
        os.replace(self.part, output_file)

    def _is_right(self) -> bool:
        return self.known_hash is None or pooch.hashes.hash_matches(str(self.part), self.known_hash)

    def _kept(self) -> int:
        """Return how many bytes of the part can be used: none without a hash that would tell two files joined."""
        return self.part.stat().st_size if self.known_hash and self.part.exists() and not self.afresh else 0

    def _gather(self, url: str) -> None:
        for attempt in range(1, self.tries + 1):
            try:
                return self._stream(url)
            except requests.exceptions.HTTPError as error:
                fault, final = http_error(error.response)
            except NETWORK_ERRORS as error:
                fault, final = network_error(error)
            if final:
                break
            if attempt < self.tries:
                time.sleep(self.pause * attempt)
        kept = f" {have:,} bytes are kept; run again to go on." if (have := self._kept()) else ""
        raise FetchError(f"Cannot get {url}: {fault}.{kept}") from None

    def _stream(self, url: str) -> None:
        have = self._kept()
        # identity: a length and a range must count the file's own bytes, not those of a compressed transfer
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            first, total = byte_range(response)
            if have and response.status_code == 416 and self._is_right():
                return  # the part is the whole file
            if response.status_code == 416 or (response.status_code == 206 and first != have):
                self.afresh = True  # the part stays until the file comes from its start
                raise requests.exceptions.ConnectionError("what the server offers does not go on from the kept part")
            if response.status_code not in (200, 206):
                raise requests.exceptions.HTTPError(response=response)
            if response.status_code == 200:
                if self.part.exists() and response.headers.get("Content-Type", "").startswith("text/html"):
                    raise requests.exceptions.ConnectionError("the server sends a web page in place of the rest")
                have = 0  # the server does not resume
            if total is not None and total > self.limit:
                raise FetchError(f"{url} offers {total:,} bytes; the manifest allows {self.limit:,}. Not downloaded.")
            enough_space(self.part.parent, (total or 0) * self.copies - have)
            self._write(url, response, have, total)

    def _write(self, url: str, response: requests.Response, have: int, total: int | None) -> None:
        # Whatever the transfer is said to be packed with, its bytes are the file: never unpack on the way.
        response.raw.headers.pop("Content-Encoding", None)
        self.resumed = self.resumed or have > 0
        options = {"unit": "B", "unit_scale": True, "disable": not self.progress}
        with (
            self.part.open("ab" if have else "wb") as out,
            tqdm(desc=self.part.stem, total=total, initial=have, **options) as bar,
        ):
            self.afresh = False
            for chunk in response.iter_content(CHUNK):
                have += len(chunk)
                if have > self.limit:
                    break
                out.write(chunk)
                bar.update(len(chunk))
        if have > self.limit:
            raise FetchError(
                f"{url} sends more than the {self.limit:,} bytes that the manifest allows. "
                f"What came is kept as {set_aside(self.part, self.part.stem)}."
            )
        if total is not None and have != total:
            raise requests.exceptions.ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def download(
    url: str,
    target: Path,
    known_hash: str | None,
    limit: int,
    *,
    copies: int = 1,
    progress: bool = True,
    timeout: float = 30.0,
    tries: int = 3,
    pause: float = 1.0,
) -> Path:
    """Download ``url`` to ``target``, unless it lies there already with the right hash.

    Args:
        url: http or https address.
        target: the file to make; ``target.part`` holds an unfinished download.
        known_hash: ``"sha256:..."`` or ``"md5:..."``, or None where none is known yet.
        limit: the most bytes to accept.
        copies: how often the file has to fit on the disk: twice if it is to be unpacked.
        progress: show a bar on stderr.
        timeout: seconds without a byte after which a connection is given up.
        tries: how often to connect.
        pause: seconds between tries.

    Returns:
        ``target``.

    Raises:
        FetchError: refused, broken off, too big, wrong hash (kept aside and named), or no space on the disk.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    part = target.with_name(target.name + ".part")
    downloader = Resumable(part, known_hash, limit, copies, progress, timeout, tries, pause)
    try:
        pooch.retrieve(url, known_hash, fname=target.name, path=target.parent, downloader=downloader)
    except OSError as error:
        raise no_room(error, target.parent) from error
    return target


def no_room(error: OSError, folder: Path) -> DiskFault:
    """Turn an error of the file system into one line that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFault(
            f"The disk that holds {folder} is full ({error.strerror}). What came so far is kept: "
            "make room, or set FDP_DATA to another disk, and run again."
        )
    return DiskFault(
        f"Cannot write to {folder}: {error.strerror or error}. Set FDP_DATA to a folder that you may write."
    )


def set_aside(path: Path, name: str | None = None) -> Path:
    """Move a wrong file out of the way, beside where it lay, under a name that holds its hash; returns that."""
    aside = path.with_name(f"{name or path.name}.wrong-{sha256_file(path)[:8]}")
    os.replace(path, aside)
    return aside

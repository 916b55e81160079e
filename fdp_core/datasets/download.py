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
_MEANINGS = (  # what the packages say, what it means, and whether another try is pointless
    ("Connection refused", "the connection was refused", True),
    (
        "Name or service not known|Temporary failure in name resolution|No address associated with hostname|"
        "nodename nor servname|getaddrinfo failed",
        "the name of the server is not known here (no network?)",
        True,
    ),
    ("Network is unreachable", "the network is unreachable", False),
    ("certificate verify failed", "the certificate of the server is not trusted here", False),
    ("Read timed out", "the server stopped sending", False),
    ("timed out", "the server does not answer", False),
    ("IncompleteRead", "the connection ended too early", False),
    ("Connection (aborted|broken)", "the connection was broken off", False),
)


class FetchError(Exception):
    """A file could not be obtained; the message says which, from where, why, and what can be done."""


class DiskFault(FetchError):
    """The fault is on this side: a full disk or a folder that cannot be written; no other address will help."""


def _network_error(error: Exception) -> tuple[str, bool]:
    """Return in plain words what went wrong on the network, and whether another try is pointless."""
    if isinstance(error, requests.exceptions.HTTPError):
        status, reason = error.response.status_code, _one_line(error.response.reason or "")
        return f"the server answered {status} {reason}".rstrip(), status not in RETRIED
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "the server sends us from address to address without end", True
    if isinstance(error, (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)):
        return "it leads to an address that is no web address", True
    text = str(error)
    for mark, meaning, final in _MEANINGS:
        if re.search(mark, text):
            return meaning, final
    reason = text.rpartition("Failed to establish a new connection: ")[2].rstrip("'\")")
    return _one_line(reason) or type(error).__name__, False


def _one_line(text: str) -> str:
    # the words are the server's: no line ends, no commands to the terminal
    return "".join(character if character.isprintable() else " " for character in text)[:200].strip()


def _byte_range(response: requests.Response) -> tuple[int, int | None]:
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
class _Resumable:
    """A downloader for pooch into ``part``, which is kept between tries and runs where the hash is known."""

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
        if self.resumed and not self._is_right():
            # The kept part may be of another version of the file: once more, from the start.
            self.afresh = True
            self._gather(url)
        if not self._is_right():
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
            except NETWORK_ERRORS as error:
                fault, final = _network_error(error)
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
            first, total = _byte_range(response)
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
        target: the file to make; ``target.part`` holds an unfinished download.
        known_hash: ``"sha256:..."`` or ``"md5:..."``, or None where none is known yet.
        limit: the most bytes to accept.
        copies: how often the file has to fit on the disk: twice if it is to be unpacked.
        timeout: seconds without a byte after which a connection is given up.
        tries: how often to connect, with ``pause`` seconds between.

    Raises:
        FetchError: refused, broken off, too big, wrong hash (kept aside and named), or no space on the disk.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    part = target.with_name(target.name + ".part")
    downloader = _Resumable(part, known_hash, limit, copies, progress, timeout, tries, pause)
    try:
        pooch.retrieve(url, known_hash, fname=target.name, path=target.parent, downloader=downloader)
    except OSError as error:
        raise no_room(error, target.parent) from error
    return target


def no_room(error: OSError, folder: Path) -> DiskFault:
    """Turn an error of the file system into one line that says what to do."""
    reason = error.strerror or error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "What came so far is kept: make room, or set FDP_DATA to another disk, and run again."
        return DiskFault(f"The disk that holds {folder} is full ({reason}). {advice}")
    return DiskFault(f"Cannot write to {folder}: {reason}. Set FDP_DATA to a folder that you may write.")


def set_aside(path: Path, name: str | None = None) -> Path:
    """Move a wrong file out of the way, beside where it lay, under a name that holds its hash; returns that."""
    aside = path.with_name(f"{name or path.name}.wrong-{sha256_file(path)[:8]}")
    os.replace(path, aside)
    return aside

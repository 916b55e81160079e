"""One file from the net: resumed where it stopped, bounded, checked, and kept aside when it is wrong."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from .archives import enough_space

CHUNK = 1 << 16
REFUSED = "the connection was refused"
UNKNOWN_HOST = "the name of the server is not known here (no network?)"


class FetchError(Exception):
    """A file could not be had; the message says which, from where, why, and what can be done."""


class Resumable:
    """A downloader for pooch that keeps a ``.part`` file between tries and between runs.

    Args:
        part: where the bytes gather.
        known_hash: ``"sha256:..."`` or ``"md5:..."``, or None (trust on first use).
        limit: the most bytes to accept.
        progress: show a bar.
        timeout: seconds without a byte after which the connection is given up.
        tries: how often a broken connection is taken up again.
        pause: seconds before the second try; grows linearly.
    """

    def __init__(
        self,
        part: Path,
        known_hash: str | None,
        limit: int,
        progress: bool,
        timeout: float,
        tries: int,
        pause: float,
    ) -> None:
        self.part, self.known_hash, self.limit, self.progress = part, known_hash, limit, progress
        self.timeout, self.tries, self.pause = timeout, tries, pause

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        resumed = self.part.exists()
        self._gather(url)
        if resumed and not self._is_right():
            # The kept part may be of another version of the file: once more, from the start.
            self.part.unlink()
            self._gather(url)
        if not self._is_right():
            digest = pooch.file_hash(str(self.part), alg=self.known_hash.split(":")[0])
            aside = self.part.with_name(f"{self.part.stem}.wrong-{digest[:8]}")
            os.replace(self.part, aside)
            raise FetchError(
                f"{url} is not the file that is meant: {self.known_hash} expected, {digest} received. "
                f"The file is kept as {aside}; look at it, and report it if the set has a new version."
            )
        os.replace(self.part, output_file)

    def _is_right(self) -> bool:
        return self.known_hash is None or pooch.hashes.hash_matches(str(self.part), self.known_hash)

    def _gather(self, url: str) -> None:
        for attempt in range(1, self.tries + 1):
            try:
                return self._stream(url)
            except requests.exceptions.HTTPError as error:
                fault = f"the server answered {error.response.status_code} {error.response.reason}"
                if error.response.status_code < 500:
                    break
            except requests.exceptions.RequestException as error:
                fault = _plain(error)
                if fault in (REFUSED, UNKNOWN_HOST):
                    break
            if attempt < self.tries:
                time.sleep(self.pause * attempt)
        kept = f" {self.part.stat().st_size:,} bytes are kept; run again to go on." if self.part.exists() else ""
        raise FetchError(f"Cannot get {url}: {fault}.{kept}") from None

    def _stream(self, url: str) -> None:
        have = self.part.stat().st_size if self.part.exists() else 0
        # identity: a length and a range must count the file's own bytes, not those of a compressed transfer
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code == 416:  # nothing after what we have: whole already, or of another file
                if self.known_hash and self._is_right():
                    return
                self.part.unlink()
                raise requests.exceptions.ConnectionError("the kept part does not fit the file")
            response.raise_for_status()
            if have and not (
                response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            ):
                have = 0  # the server does not resume
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdigit() else None
            if total is not None and total > self.limit:
                raise FetchError(f"{url} offers {total:,} bytes; the manifest allows {self.limit:,}. Not downloaded.")
            enough_space(self.part.parent, (total or 0) - have)
            with (
                self.part.open("ab" if have else "wb") as out,
                tqdm(
                    desc=self.part.stem,
                    total=total,
                    initial=have,
                    unit="B",
                    unit_scale=True,
                    disable=not self.progress,
                ) as bar,
            ):
                for chunk in response.iter_content(CHUNK):
                    have += len(chunk)
                    if have > self.limit:
                        raise FetchError(f"{url} sends more than the {self.limit:,} bytes that the manifest allows.")
                    out.write(chunk)
                    bar.update(len(chunk))
            if total is not None and have != total:
                raise requests.exceptions.ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _plain(error: requests.exceptions.RequestException) -> str:
    """Say what went wrong without the layers of exceptions around it."""
    text = str(error)
    for mark, meaning in (
        ("Connection refused", REFUSED),
        ("Name or service not known", UNKNOWN_HOST),
        ("Temporary failure in name resolution", UNKNOWN_HOST),
        ("No address associated with hostname", UNKNOWN_HOST),
        ("Network is unreachable", "the network is unreachable"),
        ("Read timed out", "the server stopped sending"),
        ("timed out", "the server does not answer"),
        ("IncompleteRead", "the connection ended too early"),
    ):
        if mark in text:
            return meaning
    return text.rpartition("Failed to establish a new connection: ")[2].rstrip("'\")") or type(error).__name__


def download(
    url: str,
    target: Path,
    known_hash: str | None,
    limit: int,
    *,
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
    downloader = Resumable(part, known_hash, limit, progress, timeout, tries, pause)
    try:
        pooch.retrieve(url, known_hash, fname=target.name, path=target.parent, downloader=downloader)
    except OSError as error:
        raise no_room(error, target.parent) from error
    return target


def no_room(error: OSError, folder: Path) -> FetchError:
    """Turn an error of the file system into one line that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(
            f"The disk that holds {folder} is full ({error.strerror}). What came so far is kept: "
            "make room, or set FDP_DATA to another disk, and run again."
        )
    return FetchError(
        f"Cannot write to {folder}: {error.strerror or error}. Set FDP_DATA to a folder that you may write."
    )

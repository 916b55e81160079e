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

from fdp_core.datasets.answers import FAULTS, PASSING, answered, explain, place, version_of
from fdp_core.datasets.archives import enough_space
from fdp_core.files import sha256_file

CHUNK = 1 << 16


class FetchError(Exception):
    """A file could not be had; the message says which, from where, why, and what can be done."""


class DiskFault(FetchError):
    """The fault is on this side: a full disk or a folder that cannot be written; no other address will help."""


class Resumable:
    """A downloader for pooch that keeps a ``.part`` file between tries and between runs.

    Args:
        part: where the bytes gather.
        known_hash: ``"sha256:..."`` or ``"md5:..."``, or None (trust on first use).
        limit: the most bytes to accept.
        copies: how often the file has to fit on the disk: twice if it is to be unpacked.
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
        copies: int,
        progress: bool,
        timeout: float,
        tries: int,
        pause: float,
    ) -> None:
        self.part, self.known_hash, self.limit, self.copies, self.progress = part, known_hash, limit, copies, progress
        self.timeout, self.tries, self.pause = timeout, tries, pause
        self.version = part.with_name(part.name + "-version")  # what the server calls the version of the kept part
        self.afresh = self.resumed = False

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
                f"{url} is not the file that is meant: {self.known_hash} expected, {digest} received. "
                f"The file is kept as {self._set_aside()}; look at it, and report it if the set has a new version."
            )
        self.version.unlink(missing_ok=True)
        os.replace(self.part, output_file)

    def _is_right(self) -> bool:
        return self.known_hash is None or pooch.hashes.hash_matches(str(self.part), self.known_hash)

    def _set_aside(self) -> Path:
        self.version.unlink(missing_ok=True)
        return set_aside(self.part, self.part.stem)

    def _gather(self, url: str) -> None:
        for attempt in range(1, self.tries + 1):
            try:
                return self._stream(url)
            except requests.exceptions.HTTPError as error:
                fault, final = answered(error.response), error.response.status_code not in PASSING
            except FAULTS as error:
                fault, final = explain(error)
            if final:
                break
            if attempt < self.tries:
                time.sleep(self.pause * attempt)
        kept = f" {self.part.stat().st_size:,} bytes are kept; run again to go on." if self.part.exists() else ""
        raise FetchError(f"Cannot get {url}: {fault}.{kept}") from None

    def _stream(self, url: str) -> None:
        have = self.part.stat().st_size if self.part.exists() and not self.afresh else 0
        with requests.get(url, headers=self._headers(have), stream=True, timeout=self.timeout) as response:
            first, total = place(response)
            if have and response.status_code == 416 and self._is_whole(have, total):
                return
            if response.status_code in (206, 416) and (first != have or not self._is_same_version(response)):
                self.afresh = True  # the part stays until the file comes from its start
                raise requests.exceptions.ConnectionError("what the server offers does not go on from the kept part")
            response.raise_for_status()
            if response.status_code not in (200, 206):
                raise requests.exceptions.HTTPError(response=response)
            if response.status_code == 200:
                if have and response.headers.get("Content-Type", "").startswith("text/html"):
                    raise requests.exceptions.ConnectionError("the server sends a web page in place of the rest")
                have = 0  # the server does not resume
            if total is not None and total > self.limit:
                raise FetchError(f"{url} offers {total:,} bytes; the manifest allows {self.limit:,}. Not downloaded.")
            enough_space(self.part.parent, (total or 0) * self.copies - have)
            self._write(url, response, have, total)

    def _headers(self, have: int) -> dict[str, str]:
        # identity: a length and a range must count the file's own bytes, not those of a compressed transfer
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self.known_hash is None and self.version.exists():
                headers["If-Range"] = self.version.read_text(encoding="latin-1")
        return headers

    def _is_whole(self, have: int, total: int | None) -> bool:
        """Whether the kept part is the whole file, when the server has nothing after it."""
        return self._is_right() if self.known_hash else have == total

    def _is_same_version(self, response: requests.Response) -> bool:
        if self.known_hash or not self.version.exists():
            return True
        return version_of(response) in ("", self.version.read_text(encoding="latin-1"))

    def _write(self, url: str, response: requests.Response, have: int, total: int | None) -> None:
        # Whatever the transfer is said to be packed with, its bytes are the file: never unpack on the way.
        response.raw.headers.pop("Content-Encoding", None)
        if have:
            self.resumed = True
        elif version := version_of(response):
            self.version.write_text(version, encoding="latin-1")
        else:
            self.version.unlink(missing_ok=True)
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
                f"What came is kept as {self._set_aside()}."
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

"""Several at once: results in order, things for one thread at a time, folders for one process at a time."""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import filelock
from tqdm import tqdm

from fdp_core.files import writing_to

Item, Made = TypeVar("Item"), TypeVar("Made")


def in_order(
    function: Callable[[Item], Made], items: Sequence[Item], workers: int, progress: bool = False, desc: str = ""
) -> Iterator[Made]:
    """Yield what a function makes of each item, in the items' order, by so many threads; ``desc`` names the bar.

    Raises:
        Whatever the function raises. Then, as after Ctrl-C, the items that have not begun are left alone.
    """
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from tqdm(pool.map(function, items), total=len(items), disable=not progress, desc=desc)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Spare(Generic[Made]):
    """Things that one thread uses at a time, ``first`` those that are there; ``make`` makes one when all are in use."""

    def __init__(self, make: Callable[[], Made], first: Iterable[Made] = ()) -> None:
        self._make, self._idle = make, collections.deque(first)

    @contextlib.contextmanager
    def lend(self) -> Iterator[Made]:
        """Give one to this thread alone; one whose use failed does not come back."""
        try:
            thing = self._idle.pop()
        except IndexError:
            thing = self._make()
        yield thing
        self._idle.append(thing)


class FolderInUse(RuntimeError):
    """Another process works in a folder that can have one owner."""


@contextlib.contextmanager
def only_owner(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Keep a folder to this process, by a lock that ends with it; None is no folder.

    Raises:
        FolderInUse: another process has it.
        DiskFault: the folder cannot be made.
    """
    if folder is None:
        yield
        return
    lock = filelock.FileLock(os.path.join(folder, ".lock"), timeout=0)
    try:
        with writing_to(folder):
            os.makedirs(folder, exist_ok=True)
            lock.acquire()
    except filelock.Timeout as error:
        told = f"Another process is working in {folder}"
        raise FolderInUse(f"{told}. Wait until it has ended, or take another folder.") from error
    try:
        yield
    finally:
        lock.release()

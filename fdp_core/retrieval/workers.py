"""Several photographs at once: results in order, and things that only one thread may use at a time."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from tqdm import tqdm

Item, Made = TypeVar("Item"), TypeVar("Made")


def in_order(
    function: Callable[[Item], Made], items: Sequence[Item], workers: int, progress: bool = False, desc: str = ""
) -> Iterator[Made]:
    """Yield what a function makes of each item, in the items' order, computed by threads.

    Args:
        function: what to do with an item.
        items: N items.
        workers: how many at once, at least 1.
        progress: show a progress bar, named by ``desc``.

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
    """Things that one thread uses at a time; another one is made when all are in use.

    Args:
        make: makes one.
        first: those that are there already.
    """

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

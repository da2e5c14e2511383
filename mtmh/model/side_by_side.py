"""Threads of our own for a training step on the CPU: most of its operations are too small for torch's to share."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_LANES: ContextVar[tuple[int, ThreadPoolExecutor | None]] = ContextVar("lanes", default=(1, None))


@contextmanager
def side_by_side(device: torch.device) -> Iterator[None]:
    """Within, `each` works in as many threads as torch has on the CPU, and an operation itself has one.

    Torch's threads wait for their next operation by spinning, so two sets of them would take each other's cores.
    """
    count = torch.get_num_threads()
    if device.type != "cpu" or count == 1:
        yield
        return
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        torch.set_num_threads(1)
        token = _LANES.set((count, pool))
        try:
            yield
        finally:
            _LANES.reset(token)
            torch.set_num_threads(count)


def lanes() -> int:
    """How many tasks `each` works on at a time."""
    return _LANES.get()[0]


def each(work: Callable[[T], R], tasks: Iterable[T]) -> list[R]:
    """[work(task) for task in tasks], without a graph: side by side within `side_by_side`, else in turn."""
    count, pool = _LANES.get()
    waiting = deque(enumerate(tasks))
    found: dict[int, R] = {}

    def lane() -> None:
        with torch.no_grad():
            while waiting:
                try:
                    place, task = waiting.popleft()
                except IndexError:  # another lane took the last one
                    return
                found[place] = work(task)

    if pool is None:
        lane()
    else:  # not in the caller's thread: the C library hands its large blocks back to the system, and takes them again
        for one in [pool.submit(lane) for _ in range(min(count, len(waiting)))]:
            one.result()
    return [found[place] for place in range(len(found))]


def ranges(size: int, count: int) -> list[slice]:
    """range(size) in `count` parts of nearly one size, empty ones left out."""
    bounds = [size * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds) if stop > start]

"""Threads of our own for a training step on the CPU: most of its operations are
too small for torch's to share.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")

_POOL: ContextVar[tuple[int, ThreadPoolExecutor | None]] = ContextVar("pool", default=(1, None))


@contextmanager
def one_thread_per_op() -> Iterator[None]:
    """Within, `parallel_map` works in as many threads as torch has, and an
    operation itself has one.

    Torch's threads wait for their next operation by spinning, so two sets of them would take each
    other's cores.
    """
    count = torch.get_num_threads()
    if count == 1:
        yield
        return
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        torch.set_num_threads(1)
        token = _POOL.set((count, pool))
        try:
            yield
        finally:
            _POOL.reset(token)
            torch.set_num_threads(count)


def n_workers() -> int:
    """How many tasks `parallel_map` works on at a time."""
    return _POOL.get()[0]


def parallel_map(work: Callable[[Task], Result], tasks: Iterable[Task]) -> list[Result]:
    """[work(task) for task in tasks], without a graph; in threads within
    `one_thread_per_op`, else in turn.
    """
    count, pool = _POOL.get()
    queue = deque(enumerate(tasks))
    results: dict[int, Result] = {}

    def worker() -> None:
        with torch.no_grad():
            while queue:
                try:
                    position, task = queue.popleft()
                except IndexError:  # another worker took the last task
                    return
                results[position] = work(task)

    if pool is None:
        worker()
    else:
        # Not in the caller's thread: the C library hands its large blocks
        # back to the system, and takes them again.
        for running in [pool.submit(worker) for _ in range(min(count, len(queue)))]:
            running.result()
    return [results[position] for position in range(len(results))]


def split_range(size: int, count: int) -> list[slice]:
    """range(size) in `count` parts of nearly one size, empty ones left out."""
    bounds = [size * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds) if stop > start]

"""Reading images ahead of the model, with a bound on how many are in memory.

Pillow lets go of the interpreter lock while it decodes, so threads do run side by side: no processes are needed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
WORKERS = min(8, os.cpu_count() or 1)


def read_ahead(items: Iterable[T], read: Callable[[T], R], ahead: int, workers: int = WORKERS) -> Iterator[R]:
    """Yield `read(item)` of every item, in order, done by threads.

    Parameters
    ----------
    items
        May be endless; at most `ahead` of them have been taken and not yet handed out.
    read
        Called in a thread; what it raises is raised here.
    ahead
        The bound.
    workers
        How many threads.
    """
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(read, item))
            del item  # or the last image would stay in memory until the next is taken
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # whoever asks for no more should not wait for the rest
        pool.shutdown(wait=True, cancel_futures=True)

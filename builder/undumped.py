"""Secrets in this process's memory, and core dumps: while there are some, the kernel writes none.

RLIMIT_CORE would not do: it means nothing to a core_pattern that is a pipe. See PR_SET_DUMPABLE in prctl(2)
and core(5).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from builder import libc


@contextlib.contextmanager
def without_dumps(wanted: bool) -> Iterator[None]:
    """Where wanted, leave no core dump of this process while the block lasts."""
    if not wanted:
        yield
        return
    before = libc.prctl(libc.PR_GET_DUMPABLE)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    try:
        yield
    finally:
        libc.prctl(libc.PR_SET_DUMPABLE, min(before, 1))

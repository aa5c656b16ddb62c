"""How many files a build may have open: as many as it is let, and no more steps than these are enough for.

A build raises its own limit for as long as it runs, and steps get the limit that it began with (`before`), as
some programs go through all the numbers that there can be. See getrlimit(2).
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

ENOUGH = 1 << 16  # files; more than any build has open
OWN = 48  # files of a build that runs nothing: streams, locks, layers that are read side by side
EACH = 9  # files of a running step: its pipes, the folders that it writes into

Limit = tuple[int, int]


@contextlib.contextmanager
def raised_open_files() -> Iterator[Limit | None]:
    """Raise the soft limit for a while; gives (soft, hard) as they were, None where nothing was raised."""
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield None
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def share_open_files(pid: int) -> None:
    """Give a process that was started earlier the limit that this one has now. See prlimit(2)."""
    with contextlib.suppress(OSError):  # it has ended, which whoever needs it finds out
        resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))


def steps_at_once(wanted: int, *, waiting: int, caches: int) -> int:
    """How many steps may run at the same time, at least one, where so many are wanted.

    waiting: how many may be ready to run, each of which has a file open; caches: the most that one mounts.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (soft - OWN - waiting) // (EACH + caches)))

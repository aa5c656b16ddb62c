"""Points: what goes wrong, and where. Pure but for the log that the calls are read from.

A point is written as `scene/kind/…`, which is its name in the record:

    steps/kill/rename/3          the process ends (SIGKILL) as some thread makes its third rename
    steps/error/fsync/1/EIO      that call fails so, once
    steps/full/pages/40          the disk has room for 40 pages and no more
    steps/full/inodes/12         the same of files
    steps/limit/files/20         no more than 20 open files (RLIMIT_NOFILE)
    steps/signal/INT/250         a signal after 250 thousandths of the time that the command takes
    steps/cut/rename/3/named     the power fails as some thread makes its third rename (see `power`)
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.faults import power, tracing
from tests.faults.tracing import Call

KINDS = ("kill", "error", "full", "limit", "signal", "cut")
SIGNALS = ("INT", "TERM", "HUP")
FULL, FAILING, READ_ONLY, QUOTA, NO_FILES = "ENOSPC", "EIO", "EROFS", "EDQUOT", "EMFILE"
# What each may say by its manual, as far as a disk, a quota or a limit is behind it.
ERRNOS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(tracing.NAMES, (FULL, FAILING, QUOTA, READ_ONLY)),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), (FAILING, READ_ONLY)),
    **dict.fromkeys(tracing.BYTES, (FULL, FAILING, QUOTA)),
    **dict.fromkeys(tracing.ATTRIBUTES, (FAILING, READ_ONLY)),
    **dict.fromkeys(("setxattr", "fsetxattr", "lsetxattr"), (FULL, FAILING, QUOTA, READ_ONLY)),
    **dict.fromkeys(tracing.BARRIERS, (FAILING, FULL, QUOTA)),
    **dict.fromkeys(tracing.DESCRIPTORS, (NO_FILES, "ENFILE")),
    **dict.fromkeys(tracing.MOUNTS, ("ENOMEM",)),
    **dict.fromkeys(("clone", "clone3", "fork", "vfork"), ("EAGAIN",)),
    "openat": (FULL, FAILING, QUOTA, READ_ONLY, NO_FILES),
    "flock": ("ENOLCK",),
}
READING = (FAILING, NO_FILES)  # what opening for reading may say
SPARED = ("umount2", "dup")  # where no disk and no limit is behind an error


@dataclass(frozen=True, order=True)
class Point:
    """One thing that goes wrong. `what`: the call, limit or signal; `number`: which of them, how much, when.

    errno: how it fails; of a power cut, the way.
    """

    scene: str
    kind: str
    what: str
    number: int
    errno: str = ""

    def __str__(self) -> str:
        parts = [self.scene, self.kind, self.what, str(self.number), self.errno]
        return "/".join(part for part in parts if part)

    @property
    def injection(self) -> str:
        """strace's expression; "" where the fault is none of strace's."""
        if self.kind in ("kill", "cut"):
            return f"{self.what}:signal=KILL:when={self.number}"
        if self.kind == "error":
            return f"{self.what}:error={self.errno}:when={self.number}"
        return ""


def of_calls(scene: str, calls: Iterable[Call], folders: Sequence[str], kinds: Sequence[str]) -> list[Point]:
    """The points of the calls that a scene makes, sorted. folders: below them, reading may fail, too.

    A point is left out whose fault would meet the interpreter's files as well, but for one errno of each.
    """
    found: set[Point] = set()
    foreign: set[tuple[str, int]] = set()
    for call in calls:
        if "kill" in kinds and call.changes:
            found.add(Point(scene, "kill", call.name, call.number))
        if "error" in kinds:
            found.update(Point(scene, "error", call.name, call.number, e) for e in _errnos(call, folders))
            if call.name in tracing.PATHS and not any(folder in call.text for folder in folders):
                foreign.add((call.name, call.number))
    spared = {p for p in found if (p.what, p.number) in foreign and p.kind == "error" and p.errno != FAILING}
    return sorted(found - spared)


def _errnos(call: Call, folders: Sequence[str]) -> tuple[str, ...]:
    """The errors that such a call may meet on a bad day."""
    if call.name in SPARED or (call.name in tracing.PROCESSES and "clone" not in call.name):
        return ()
    if call.name == "openat" and not call.changes:
        return READING if any(folder in call.text for folder in folders) else ()
    if not call.changes:
        return ()
    if call.name in tracing.BYTES and not any(call.subject.startswith(folder) for folder in folders):
        return ()  # pipes, sockets, standard streams
    return ERRNOS.get(call.name, ())


def of_room(scene: str, pages: int, inodes: int) -> list[Point]:
    """The points at which a disk is full, of a scene that needs so many pages and files."""
    rows = [Point(scene, "full", "pages", number) for number in range(pages + 1)]
    return rows + [Point(scene, "full", "inodes", number) for number in range(inodes + 1)]


def of_signals(scene: str, count: int, chance: random.Random) -> list[Point]:
    """So many random moments, with each signal in turn."""
    moments = sorted(chance.sample(range(1000), count))
    return [Point(scene, "signal", SIGNALS[number % 3], moment) for number, moment in enumerate(moments)]


def of_cuts(kills: Sequence[Point]) -> list[Point]:
    """A power cut at the same moments, in all ways in turn."""
    return [
        Point(point.scene, "cut", point.what, point.number, power.WAYS[number % len(power.WAYS)])
        for number, point in enumerate(kills)
    ]


def of_limits(scene: str, lowest: int, highest: int) -> list[Point]:
    """The points at which files may not be opened any more."""
    return [Point(scene, "limit", "files", number) for number in range(lowest, highest + 1)]


def spread(points: Sequence[Point], count: int) -> Iterator[Point]:
    """That many of them, evenly."""
    if count >= len(points):
        yield from points
        return
    for number in range(count):
        yield points[number * len(points) // count]

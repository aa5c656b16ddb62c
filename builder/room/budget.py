"""How much room the store may take, and whether it may have too much: what each build asks at its end.

    ROOT/cache/room    a line of JSON: what was counted last, and when; then a number a line: the bytes that
                       each build since has added

So whether anything is to be done costs a build the reading of one small file; only when the sum is above a
bound, little is free on the disk, or the count is a day old, is it counted again (`tidying`). What lies below
`reserved-space` is never looked at. It is an estimate: a line that is lost, or a cache that a step has
filled, is made good by the next count. The settings are noted there too, so that the file they come from is
read when it has changed, and not by each build. Loads next to nothing.
"""

from __future__ import annotations

import os
import time

from builder.configfile import find
from builder.fs.whole import write_whole
from builder.settings import RoomSettings, load
from builder.solver.cache import sealed, unsealed
from builder.store.failure import told_as
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from builder.store.root import Store

FILE = os.path.join("cache", "room")
FORMAT = 1
COUNT_AGAIN = 86400  # seconds after which a count is made again
TRY_AGAIN = 600  # seconds after which room is made again where there was no more to be had
MAX_FILE = 1 << 16  # bytes, after which a count is made again


class Budget(Value):
    """The bounds in bytes, on this disk; age in seconds. All 0: nothing is bound."""

    max_used: int = 0
    reserved: int = 0
    min_free: int = 0
    max_age: int = 0

    def plain(self) -> list[int]:
        """As plain data."""
        return [self.max_used, self.reserved, self.min_free, self.max_age]


def due(store: Store, environment: Mapping[str, str]) -> Budget | None:
    """Note what this build has added; the budget, if the store may be beyond it.

    Raises StoreError, and UsageError for a configuration file that is wrong.
    """
    with told_as(store.folder, "looking how much room there is"):
        noted, grown = _note(store)
        budget = _budget(store, environment, noted)
        used = noted.get("used")
        if budget == Budget() or (isinstance(used, int) and not _is_due(store, budget, noted, used + grown)):
            return None
    return budget


def remember(
    store: Store, environment: Mapping[str, str], budget: Budget, used: int, *, tried: bool = False
) -> None:
    """Note what was counted: bytes that no image with a name needs. tried: there was no more to be had.

    Raises OSError.
    """
    noted = {
        "format": FORMAT, "used": used, "at": time.time(), "settings": _identity(find(environment)),
        "budget": budget.plain(), "tried": tried,
    }  # fmt: skip
    write_whole(os.path.join(store.folder, FILE), sealed(FILE, noted) + b"\n")


def is_over(store: Store, budget: Budget, used: int) -> bool:
    """Whether so many bytes are, or may be, too many."""
    if used <= budget.reserved:
        return False
    over = (budget.max_used and used > budget.max_used) or free(store) < budget.min_free
    return bool(over or budget.max_age)


def free(store: Store) -> int:
    """The bytes that are free for users on the store's disk."""
    disk = os.statvfs(store.folder)
    return disk.f_bavail * disk.f_frsize


def _is_due(store: Store, budget: Budget, noted: Mapping[str, Any], used: int) -> bool:
    """Whether it is worth while to count."""
    if used <= budget.reserved:
        return False
    since = time.time() - float(noted.get("at", 0))
    if not 0 <= since < COUNT_AGAIN:
        return True
    over = (budget.max_used and used > budget.max_used) or free(store) < budget.min_free
    tried = noted.get("tried") is True and noted.get("budget") == budget.plain()
    return bool(over) and (not tried or since > TRY_AGAIN or used > int(noted.get("used", 0)) * 1.01)


def _note(store: Store) -> tuple[dict[str, Any], int]:
    """Add what this build has added; (what was counted, what was added since). Raises OSError."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(store.folder, FILE), flags, 0o600)
    with open(fd, "r+b", buffering=0) as file:
        data = file.read(MAX_FILE + 1)
        if data:
            file.write(b"%d\n" % store.blobs.grown)
    head, _, rest = data.partition(b"\n")
    try:
        noted = unsealed(FILE, head)
        if len(data) > MAX_FILE or noted is None or noted.get("format") != FORMAT:
            return {}, 0
        return noted, sum(int(line) for line in rest.split()) + store.blobs.grown
    except (ValueError, TypeError):
        return {}, 0


def _identity(path: str) -> list[Any]:
    """What tells one state of a configuration file from another."""
    try:
        status = os.stat(path)
    except OSError:
        return [path]
    return [path, status.st_size, status.st_mtime_ns, status.st_ino]


def _budget(store: Store, environment: Mapping[str, str], noted: Mapping[str, Any]) -> Budget:
    """The bounds: as they were noted, or read anew. Raises UsageError."""
    known = noted.get("budget")
    if noted.get("settings") == _identity(find(environment)) and isinstance(known, list) and len(known) == 4:
        max_used, reserved, min_free, max_age = (int(number) for number in known)
        return Budget(max_used=max_used, reserved=reserved, min_free=min_free, max_age=max_age)
    return budget_of(store, load(environment).room)


def budget_of(store: Store, settings: RoomSettings) -> Budget:
    """Settings as bytes of the disk that the store lies on."""
    if not settings.enabled:
        return Budget()
    disk = os.statvfs(store.folder)
    whole = disk.f_blocks * disk.f_frsize
    return Budget(
        max_used=settings.max_used.of(whole),
        reserved=settings.reserved.of(whole),
        min_free=settings.min_free.of(whole),
        max_age=settings.max_age,
    )

"""What a build that failed on a full disk is told besides: how much `pybuild prune` would free."""

from __future__ import annotations

import shlex
import threading
import time
from typing import TYPE_CHECKING

from builder.errors import BuildError
from builder.room import facts
from builder.room.items import World
from builder.room.rules import Rule, choose, unreferenced
from builder.store.root import open_store
from builder.ui.words import size

if TYPE_CHECKING:
    from builder.store.root import Store

WORTH_TELLING = 10 << 20  # bytes
PATIENCE = 2.0  # seconds


def add_offer(error: BuildError, root: str, root_flag: str) -> None:
    """Put it into the hint of an error that a full disk was the reason of, once the build has ended.

    root_flag: --root as the build was given it.
    """
    told: list[int] = []
    counting = threading.Thread(target=lambda: told.append(_counted(root)), daemon=True)
    counting.start()
    counting.join(PATIENCE)  # who waits for an error is not to wait for a large store
    command = f"pybuild prune --root {shlex.quote(root_flag)}" if root_flag else "pybuild prune"
    if not told:
        error.hint = f"{error.hint}; `{command}` may free some"
    elif told[0] >= WORTH_TELLING:
        error.hint = f"{error.hint}; `{command}` would free at least {size(told[0])}"


def _counted(root: str) -> int:
    """What can go, 0 where that cannot be told."""
    try:
        return prunable(open_store(root))
    except (BuildError, OSError):
        return 0


def prunable(store: Store) -> int:
    """The bytes of layers and blobs that `pybuild prune` would remove now. Raises StoreError, OSError.

    What else it removes (cache mounts, repositories) could only be told by walking through all of it.
    """
    world = World(facts.read(store))
    chosen = unreferenced(world)
    chosen += choose(world, Rule(), time.time())
    return sum(removal.size for removal in chosen)

"""Making room by itself, at the end of a build: what goes by a budget, and its going.

Loaded only when there may be too much (see `budget`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.room import facts as room_facts
from builder.room.budget import Budget, free, is_over, remember
from builder.room.filters import Filter
from builder.room.folders import read_folders
from builder.room.items import World
from builder.room.removal import Outcome, remove
from builder.room.rules import Removal, Rule, Why, bounds_of, choose, unreferenced
from builder.room.stale import sweep
from builder.store.failure import told_as

if TYPE_CHECKING:
    from builder.store.root import Store


def tidy(store: Store, environment: Mapping[str, str], budget: Budget) -> Outcome:
    """Count, and make room if there is too much. Blocking; raises StoreError."""
    with told_as(store.folder, "making room"):
        folders = read_folders(store.folder)
        world = World(room_facts.read(store), folders)
        used = world.used_space()
        remember(store, environment, budget, used)
        if not is_over(store, budget, used):
            return Outcome(left=used)
        now = time.time()
        outcome = remove(store, lambda found: decide(store, found, budget, now), folders)
        sweep(store, max_age=budget.max_age)
        if not outcome.busy:
            remember(store, environment, budget, outcome.left, tried=True)
    return outcome


def decide(store: Store, world: World, budget: Budget, now: float) -> list[Removal]:
    """What goes by a budget: blobs of nobody, what is too old, what is too much."""
    chosen = unreferenced(world)
    if budget.max_age and world.used_space() > budget.reserved:
        why = Why("unused", 0, budget.max_age)
        chosen += choose(world, Rule(Filter(unused=budget.max_age), why=why), now)
    bounds = bounds_of(
        world.used_space(),
        free(store) + sum(removal.size for removal in chosen),
        max_used=budget.max_used,
        min_free=budget.min_free,
        reserved=budget.reserved,
    )
    return chosen + choose(world, Rule(bounds=bounds), now) if bounds is not None else chosen

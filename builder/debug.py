"""The last failed steps, later: what `pybuild debug` does. Returns plain values; nothing is printed.

A failed step is entered on the rung that it ran on, and what it changed is told as `docker diff` tells it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.compiler import scope
from builder.errors import BuildError
from builder.failed import FailedStep, held
from builder.limits import raised_open_files
from builder.sandboxes import Sandboxes
from builder.session import enter, find_shell, is_whole, opened_parts, withheld
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import WHITEOUT, LayerId
from builder.sources.image import ImageSource
from builder.store import locks
from builder.store.ingest import sweep_ingest
from builder.undumped import without_dumps

if TYPE_CHECKING:
    from builder.events import AnyEvent
    from builder.isolation.choose import Standing
    from builder.parts import Parts
    from builder.request import BuildRequest
    from builder.runtime.console import Console
    from builder.session import OnOutput
    from builder.store.root import Store

ADDED, CHANGED, DELETED = "A", "C", "D"


@dataclass(frozen=True, slots=True)
class Change:
    """A path that a step has added, changed or deleted; `size` of a file's bytes as it is now."""

    kind: str
    path: str
    size: int


def diff(store: Store, kept: FailedStep) -> list[Change]:
    """What the step had changed, sorted by path; folders on the way to a change count as changed.

    Raises BuildError where its layers are no longer there.
    """
    layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs, any_way=True)
    with held(store, kept):
        if not layers.exists(kept.snapshot):
            raise _gone(kept)
        below = layers.tree(kept.snapshot[:-1])
        changes = []
        for entry in layers.entries(LayerId(kept.layer)):
            kind = CHANGED if below.get(entry.path) is not None else ADDED
            kind = DELETED if entry.kind == WHITEOUT else kind
            changes.append(Change(kind, f"/{entry.path}", entry.size))
    return sorted(changes, key=lambda change: change.path)


@dataclass(frozen=True)
class Visit:
    """Who goes in, and how.

    command: what is run, () for a shell; console: a terminal for it; tell: takes lines for the person;
    on_output: takes what a command without a terminal writes. request: secrets and agents to take along.
    """

    request: BuildRequest
    command: Sequence[str]
    console: Console | None
    tell: Callable[[str], None]
    on_output: OnOutput


async def visit(store: Store, kept: FailedStep, standing: Standing, how: Visit) -> int:
    """Run a shell or a command in what the failed step left; its exit status. Raises BuildError."""
    emit: Callable[[AnyEvent], None] = lambda _event: None  # noqa: E731 - one line says it
    secret = bool(how.request.secrets or how.request.ssh)
    with (
        locks.shared(store.folder, locks.BUILDS),
        held(store, kept),
        without_dumps(secret),
        raised_open_files() as before,
    ):
        sweep_ingest(store.folder)
        request = how.request
        sandboxes = Sandboxes(emit, standing, helper=request.network_helper, runtime=request.runtime)
        try:
            images = ImageSource(store, {}, pull=False)
            async with opened_parts(store, request, images, sandboxes) as parts:
                parts.open_files = before
                return await _visit(parts, kept, how)
        finally:
            await sandboxes.close()


async def _visit(parts: Parts, kept: FailedStep, how: Visit) -> int:
    if not await parts.thread(is_whole, parts, kept):
        raise _gone(kept)
    argv = how.command or (await parts.thread(find_shell, parts, kept),)
    agents = [agent.id for agent in how.request.ssh]
    for line in withheld(kept, parts.secrets, agents):
        how.tell(line)
    proxy = scope.proxy_variables(os.environ)
    return await enter(parts, kept, argv, how.console, how.on_output, proxy)


def _gone(kept: FailedStep) -> BuildError:
    return BuildError(
        f"what the failed step of build {kept.build} ran on is no longer in the store",
        code="layer-lost",
        hint="build again: layers of a build that failed do not outlive a restart of the machine",
    )

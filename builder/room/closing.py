"""What a build does about room when it ends: notes what it used, and makes room if there is too much.

Nothing of this can make a build fail: what goes wrong is a warning.
"""

from __future__ import annotations

import os
import time

from builder.errors import BuildError, UsageError
from builder.events import Removed, Warned
from builder.room.budget import due

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from builder.events import Emit
    from builder.room.removal import Outcome
    from builder.room.rules import Removal
    from builder.store.root import Store

    Thread = Callable[[Callable[[], Outcome]], Awaitable[Outcome]]


async def make_room(
    store: Store, thread: Thread, emit: Emit, environment: Mapping[str, str] = os.environ
) -> None:
    """Make room, if the build has added something and there is too much. thread: runs what takes long."""
    if not store.blobs.grown:
        return
    try:
        budget = due(store, environment)
        if budget is None:
            return
        from builder.room.tidying import tidy

        outcome = await thread(lambda: tidy(store, environment, budget))
    except UsageError:  # of the configuration file, which is told when a build begins
        return
    except (BuildError, OSError) as error:
        emit(Warned(time=time.time(), message=f"no room was made in the store: {error}"))
        return
    for removal in outcome.removals:
        emit(event_of(removal))


def event_of(removal: Removal) -> Removed:
    """What went, as an event."""
    return Removed(
        time=time.time(),
        id=removal.item.id,
        kind=removal.item.type,
        description=removal.item.description,
        form=removal.form,
        size=removal.size,
        reason=removal.why.kind,
        had=removal.why.had,
        bound=removal.why.bound,
    )

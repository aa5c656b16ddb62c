"""What happens when a build has failed of a RUN: the step is kept, and entered where somebody waits for that.

Every build loads this, and what goes into a step is loaded only when somebody does.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import msgspec

from builder.errors import BuildError, StepFailed
from builder.isolation.rungs import CHROOT

if TYPE_CHECKING:
    from builder.failed import Failures
    from builder.parts import Parts
    from builder.runtime.console import Console

SHELL = "`pybuild debug{root}` opens a shell where it failed"
COMMAND = "`pybuild debug{root} -- COMMAND` runs a command where it failed"  # where there are no terminals


class Entrance(msgspec.Struct, frozen=True):
    """A person who wants to go in when a step fails.

    introduce: tells the person the error, and which shell it is that opens.
    """

    console: Console
    introduce: Callable[[StepFailed, str], None]


class Aftermath(msgspec.Struct, frozen=True):
    """What is done when a build fails of a step.

    failures: where the step is kept, None where it cannot be; entrance: who waits to go in; before: what
    comes before somebody goes in; root_flag: --root as this build was given it.
    """

    failures: Failures | None
    entrance: Entrance | None
    before: Callable[[BuildError], None]
    root_flag: str = ""


@contextlib.asynccontextmanager
async def followed_up(parts: Parts, aftermath: Aftermath) -> AsyncIterator[None]:
    """A block in which steps may fail. Where it fails of one, that step is kept and, where somebody waits
    at the entrance, entered, when all else has ended."""
    failures = parts.failures = aftermath.failures
    try:
        yield
    except StepFailed as error:
        if failures is None:
            raise
        if failures.error is not error:
            failures.drop()
            raise
        kept = await parts.thread(failures.finish, parts.layers)
        if kept is not None:
            if aftermath.entrance is not None:
                from builder.session import enter_after

                aftermath.before(error)
                entrance = aftermath.entrance
                await enter_after(error, parts, kept, entrance.console, entrance.introduce)
            if error.hint is None:
                error.hint = hint(aftermath.root_flag, kept.rung)
        raise
    except BaseException:
        if failures is not None:
            failures.drop()
        raise


def hint(root_flag: str, rung: str) -> str:
    """How to go into what was kept of a step on this rung, for who gave this build that `--root`."""
    import shlex

    root = f" --root {shlex.quote(root_flag)}" if root_flag else ""
    return (COMMAND if rung == CHROOT else SHELL).format(root=root)

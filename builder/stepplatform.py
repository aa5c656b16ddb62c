"""A step for another machine than this one: what its sandbox is given for that, and what is said if it
cannot run.

Nothing is refused beforehand: a stage may call itself one platform and hold programs of another, and they
run. What cannot be run turns out when it is started, and then the reason is known here.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from builder.errors import StepFailed
from builder.isolation.emulators import PACKAGES, Emulation, emulation_of
from builder.isolation.rungs import CHROOT
from builder.prepare import machine_platform
from builder.runtime import spec

if TYPE_CHECKING:
    from builder.ops.exec import Exec

HINT = (
    f"on Debian: apt-get install {PACKAGES}; a stage that cross-compiles needs no emulator: "
    "FROM --platform=$BUILDPLATFORM"
)


def find_emulation(op: Exec, rung: str) -> Emulation | None:
    """How the step's programs run on this machine; None where they are its own.

    rung: of isolation.rungs, as a chroot alone can be given no files.
    """
    system, _, rest = op.platform.partition("/")
    architecture = rest.partition("/")[0]
    if not architecture or (system, architecture) == ("linux", machine_platform()[0]):
        return None
    if system != "linux":
        return Emulation(problem=f"there is no emulator for {system}")
    found = emulation_of(architecture)
    if found.bring and rung == CHROOT:
        problem = f"its emulator {found.bring[0][0]} is not held by the kernel (flag F of binfmt_misc)"
        return found.but(bring=(), problem=problem)
    return found


def mounts_of(emulation: Emulation | None) -> list[spec.MountSpec]:
    """The interpreters that the step's root must have, where the kernel looks for them; read-only."""
    if emulation is None:
        return []
    options = ("nosuid", "nodev")
    return [spec.Bind(target=path, source=file, options=options) for path, file in emulation.bring]


def explained(error: StepFailed, op: Exec, emulation: Emulation | None) -> StepFailed:
    """The error of a step that could not be started, with the reason where that is another machine's program.

    That no interpreter is there (ENOENT) may mean the emulator, or what the program itself names.
    """
    if emulation is None or not emulation.problem:
        return error
    if error.errno == errno.ENOEXEC:
        message = f"cannot run {op.argv[0]} for {op.platform}: {emulation.problem}"
    elif error.errno == errno.ENOENT and not all(handler.is_held for handler in emulation.handlers):
        message = f"{error.message} (for {op.platform}, {emulation.problem})"
    else:
        return error
    return StepFailed(message, status=error.status, tail=error.tail, hint=HINT, errno=error.errno)

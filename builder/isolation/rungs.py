"""The ladder: the ways in which RUN can be isolated, best first, and what each gives up. Pure.

A rung says whose ids a step has; two variants come on top of it where the kernel refuses more (`Isolation`).
Nothing is given up silently: `weakenings` has one line for each thing, and `full` refuses to go on with any.
"""

from __future__ import annotations

from dataclasses import dataclass

from builder.errors import SandboxError

AUTO, ROOT, USERNS, SINGLE_UID, CHROOT, NONE = "auto", "root", "userns", "single-uid", "chroot", "none"
RUNGS = (ROOT, USERNS, SINGLE_UID)  # those that are chosen by themselves, best first
CHOICES = (AUTO, *RUNGS, CHROOT)
OVERLAY, COPY = "overlay", "copy"

_ABOUT = {
    ROOT: "root: namespaces and mounts by the machine's root",
    USERNS: "a user namespace with a range of ids (newuidmap, newgidmap)",
    SINGLE_UID: "a user namespace with one id; owners are emulated",
    CHROOT: "chroot alone: no namespaces",
    NONE: "RUN steps cannot be run",
}


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a build's steps are isolated with.

    outer_proc: steps see the /proc that is here already, and with it the builder's processes;
    snapshotter: OVERLAY, or COPY where overlayfs is refused.
    """

    rung: str
    outer_proc: bool = False
    snapshotter: str = OVERLAY


def about(rung: str) -> str:
    """One line about a rung."""
    return _ABOUT[rung]


def weakenings(isolation: Isolation) -> tuple[str, ...]:
    """One line for each thing that steps lack beside the first rung, in no more words than it needs."""
    lines = []
    if isolation.rung == SINGLE_UID:
        lines.append("RUN steps run in a user namespace with one id: owners of files are emulated")
    if isolation.rung == CHROOT:
        lines.append(
            "RUN steps run in a chroot without namespaces: they see this machine's processes and network"
        )
    if isolation.outer_proc:
        lines.append("a new /proc is refused here: RUN steps see the processes around them in the outer one")
    if isolation.snapshotter == COPY:
        lines.append("overlayfs is refused here: each RUN step works on a copy of its root file system")
    return tuple(lines)


def require_full(isolation: Isolation, *, host_network: bool) -> None:
    """Raise SandboxError if anything is weaker than full isolation, the host's network included."""
    lines = list(weakenings(isolation))
    if host_network:
        lines.append("RUN steps have the host's network (--network none gives them none)")
    if lines:
        raise SandboxError(
            "--require-isolation=full is not met: " + "; ".join(lines),
            code="isolation",
            hint="`pybuild doctor` tells what would have to change",
        )

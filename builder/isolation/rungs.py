"""The ladder: the ways in which RUN can be isolated, best first, and what each gives up. Pure.

A rung says whose ids a step has; two variants come on top of it where the kernel refuses more (`Isolation`).
Nothing is given up silently: `weakenings` has a line for each thing, and `full` refuses to go on with any.
"""

from __future__ import annotations

from builder.errors import SandboxError
from builder.value import Value

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


class Isolation(Value):
    """What a build's steps are isolated with.

    outer_proc: steps see the /proc that is here already, and with it the builder's processes;
    snapshotter: OVERLAY, or COPY where overlayfs is refused; outer_hostname: steps keep the name that this
    machine or container has, as setting one is refused.
    """

    rung: str
    outer_proc: bool = False
    snapshotter: str = OVERLAY
    outer_hostname: bool = False


def about(rung: str) -> str:
    """One line about a rung."""
    return _ABOUT[rung]


class Weakening(Value):
    """A thing that steps lack. line: what, in no more words than it needs; remedy: what would change that, or
    "" where that is the rungs' business."""

    line: str
    remedy: str = ""


def weakenings(isolation: Isolation) -> tuple[Weakening, ...]:
    """What steps lack beside the first rung."""
    lacks = (
        (isolation.rung == SINGLE_UID, _SINGLE_ID),
        (isolation.rung == CHROOT, _NO_NAMESPACES),
        (isolation.outer_proc, _OUTER_PROC),
        (isolation.outer_hostname, _OUTER_HOSTNAME),
        (isolation.snapshotter == COPY and isolation.rung != CHROOT, _COPIES),
    )
    return tuple(weakening for is_so, weakening in lacks if is_so)


_SINGLE_ID = Weakening("RUN steps run in a user namespace with one id: owners of files are emulated")
_NO_NAMESPACES = Weakening(
    "RUN STEPS ARE NOT ISOLATED: they run in a chroot without namespaces, and reach the processes, the "
    "network and, with some skill, the files of this machine or container"
)
_OUTER_PROC = Weakening(
    "a new /proc is refused here: RUN steps see the processes around them in the outer one",
    "start the container with --security-opt unmask=ALL (podman), --security-opt systempaths=unconfined "
    "(docker), or procMount: Unmasked (Kubernetes)",
)
_OUTER_HOSTNAME = Weakening(
    "a host name is refused here: RUN steps have the one that is here",
    "start the container with --security-opt seccomp=unconfined",
)
_COPIES = Weakening(
    "overlayfs is refused here: each RUN step works on a copy of its root file system",
    "put the store on a volume, with --root or PYBUILD_ROOT",
)


def require_full(isolation: Isolation, *, host_network: bool) -> None:
    """Raise SandboxError if anything is weaker than full isolation, the host's network included."""
    lines = [weakening.line for weakening in weakenings(isolation)]
    if host_network:
        lines.append("RUN steps have the host's network (--network none gives them none)")
    if lines:
        raise SandboxError(
            "--require-isolation=full is not met: " + "; ".join(lines),
            code="isolation",
            hint="`pybuild doctor` tells what would have to change",
        )

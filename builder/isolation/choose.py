"""Which rung this process stands on: the one asked for, or the best that works here.

Taken once, before a build has threads, as it may mean to enter a user namespace. What RUN would need and
cannot have is no error here: a build may have no RUN, and does all else without any rights.
"""

from __future__ import annotations

import os
import stat
from functools import partial

from builder import libc
from builder.errors import SandboxError
from builder.fs import ownership
from builder.isolation.rungs import AUTO, CHROOT, COPY, NONE, ROOT, Isolation
from builder.isolation.snapshotter import choose_snapshotter
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CAP_SYS_ADMIN = 1 << 21


class Refusal(Value):
    """Why something better cannot be had, and what would change that."""

    reason: str
    remedy: str


_OWN_RIGHTS = Refusal(
    "this user has capabilities, which a user namespace would take away",
    "start pybuild without them, or ask for --isolation userns or single-uid",
)
_NO_CHROOT = Refusal(
    "chroot(2) is refused, which who emulates owners needs",
    "start the container with --cap-add SYS_CHROOT, or with --security-opt seccomp=unconfined",
)


class Standing(Value):
    """Where this process stands, and why not higher (nothing, on the rung that was asked for)."""

    isolation: Isolation
    refused: Refusal | None = None


def stand(wanted: str, store: str) -> Standing:
    """Get onto the rung; `wanted` is one of `rungs.CHOICES`, `store` the folder where layers lie.

    Raises SandboxError where that one does not work. The process must have a single thread.
    """
    if wanted in (AUTO, ROOT) and may_mount():
        return Standing(_variant(ROOT, store))
    if wanted == ROOT:
        raise SandboxError(
            "--isolation root: this process is not root, or lacks CAP_SYS_ADMIN",
            code="isolation",
            hint="run pybuild as root (sudo), or inside a container started with --privileged",
        )
    if wanted == AUTO and _has_rights_of_its_own():
        return Standing(Isolation(NONE), _OWN_RIGHTS)
    if wanted == CHROOT:
        check_chroot(store)
        return Standing(Isolation(CHROOT, snapshotter=COPY))
    from builder.isolation.enter import enter

    try:
        rung, refused = enter(wanted)
    except SandboxError as error:
        if wanted != AUTO:
            raise
        return Standing(Isolation(NONE), Refusal(error.message, error.hint or ""))
    if ownership.of_process() == ownership.RECORDED and not _works_in_child(partial(os.chroot, "/")):
        if wanted != AUTO:
            raise SandboxError(_NO_CHROOT.reason, code="isolation", hint=_NO_CHROOT.remedy)
        return Standing(Isolation(NONE), _NO_CHROOT)
    refusal = Refusal(str(refused), refused.remedy) if refused is not None else None
    return Standing(_variant(rung, store), refusal)


def _has_rights_of_its_own() -> bool:
    """Whether a plain user was given capabilities, which count no more inside a user namespace.

    Whoever gave them meant them to count: what is read by them alone, maybe this Python, would be lost.
    """
    return os.geteuid() != 0 and bool(libc.capabilities()[0])


def may_mount() -> bool:
    """Whether this process may make mounts and namespaces as it is."""
    return os.geteuid() == 0 and bool(libc.capabilities()[0] & _CAP_SYS_ADMIN)


def check_chroot(store: str) -> None:
    """Raise SandboxError, with what to do, where steps cannot run by chroot(2) alone."""
    if os.geteuid() != 0:
        reason, remedy = "only root may change the root folder", "run pybuild as root"
    elif not _works_in_child(partial(os.chroot, "/")):
        reason, remedy = "chroot(2) is refused", "start the container with --cap-add SYS_CHROOT"
    elif not _works_in_child(partial(_try_device, store)):
        reason = f"no device can be made and used in {store}"
        remedy = "start the container with --cap-add MKNOD, and put the store where devices may be"
    else:
        return
    raise SandboxError(f"--isolation chroot: {reason}", code="isolation", hint=remedy)


def _try_device(store: str) -> None:
    """Make /dev/null in the store, and open it."""
    os.makedirs(store, exist_ok=True)
    name = os.path.join(store, f".device-trial-{os.getpid()}-{os.urandom(4).hex()}")
    os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    try:
        os.close(os.open(name, os.O_WRONLY))
    finally:
        os.unlink(name)


def _variant(rung: str, store: str) -> Isolation:
    """The rung, with what the kernel refuses on top of it."""
    snapshotter, _ = choose_snapshotter(store)
    if ownership.of_process() == ownership.REAL:
        return Isolation(rung, snapshotter=snapshotter)
    return Isolation(
        rung,
        outer_proc=not can_mount_proc(),
        snapshotter=snapshotter,
        outer_hostname=not can_name_host(),
    )


def can_mount_proc() -> bool:
    """Whether the kernel grants a new /proc for a new PID namespace: tried by a child, which ends.

    A user namespace gets one only where the /proc around it is seen whole, which containers mask.
    """
    return _works_in_child(_try_proc)


def can_name_host() -> bool:
    """Whether a new UTS namespace may have a name of its own: podman's seccomp profile forbids that."""
    return _works_in_child(_try_hostname)


def _works_in_child(attempt: Callable[[], None]) -> bool:
    """Whether it raises nothing, in a child that ends with it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            attempt()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _try_hostname() -> None:
    libc.unshare(libc.CLONE_NEWUTS)
    libc.sethostname("buildkitsandbox")


def _try_proc() -> None:
    libc.unshare(libc.CLONE_NEWPID)
    if not _works_in_child(_mount_proc):
        os._exit(1)


def _mount_proc() -> None:
    configuration = libc.fsopen("proc")
    libc.fsconfig_create(configuration)
    libc.fsmount(configuration, 0)

"""Whether steps can have overlays on a folder, or must work on copies: found out by trying.

The one idea: no list of file systems, kernels and security modules is right for long. A child, which ends,
mounts an overlay of two new folders beside the store's layers, in a mount namespace of its own, and does
there what a step may do: removes a file, replaces a folder, keeps an xattr. What it finds then tells. The
machine's root on a file system that is no overlayfs is only asked whether the kernel has overlays: there they
work, and a build shall not pay for the trial.

Must never know: builds, layers. See Documentation/filesystems/overlayfs.rst of the kernel.
"""

from __future__ import annotations

import os
import signal
import stat

from builder import libc
from builder.errors import StoreError
from builder.fs import ownership
from builder.fs.remove import remove_tree
from builder.isolation.rungs import COPY, OVERLAY
from builder.runtime import mounts
from builder.store.ingest import IngestFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_LONGEST = 1000  # bytes of what the child says


def choose_snapshotter(store: str) -> tuple[str, str]:
    """OVERLAY or COPY for steps whose layers lie in the folder `store`, which may not be there yet; and why
    it is COPY. This process must be able to mount, and have a single thread.

    A store in which nothing can be made gives OVERLAY: whoever uses it will tell why.
    """
    place = _nearest_folder(store)
    is_overlay = libc.filesystem_type(place) == libc.OVERLAYFS_MAGIC
    if ownership.of_process() == ownership.REAL and not is_overlay:
        return _ask_kernel()
    try:
        reason = _try_in_store(store) if os.path.isdir(os.path.join(store, "ingest")) else _try_in(place)
    except (OSError, StoreError):
        return OVERLAY, ""
    if not reason:
        return OVERLAY, ""
    return COPY, f"{place} lies on overlayfs itself: {reason}" if is_overlay else reason


def _ask_kernel() -> tuple[str, str]:
    try:
        os.close(libc.fsopen("overlay"))
    except OSError as error:
        return COPY, f"this kernel has no overlayfs ({os.strerror(error.errno or 0)})"
    return OVERLAY, ""


def _nearest_folder(path: str) -> str:
    """The folder, or the nearest one above that is there."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _try_in_store(store: str) -> str:
    """Why an overlay does not work there, or "". Raises StoreError where nothing can be made."""
    with IngestFolder(store) as work:
        return _try_in_child(work.path)


def _try_in(place: str) -> str:
    """The same in a folder where no store is yet. Raises OSError."""
    trial = os.path.join(place, f".overlay-trial-{os.getpid()}-{os.urandom(4).hex()}")
    os.mkdir(trial, 0o700)
    try:
        return _try_in_child(trial)
    finally:
        remove_tree(trial)


def _try_in_child(trial: str) -> str:
    """Why an overlay in this folder does not work, or ""."""
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        _live(trial, tells)
    os.close(tells)
    with os.fdopen(told, "rb") as pipe:
        reason = pipe.read(_LONGEST)
    status = os.waitpid(child, 0)[1]
    if status and not reason:
        return f"the trial of an overlay ended with status {status}"
    return reason.decode("utf-8", "replace")


def _live(trial: str, tells: int) -> NoReturn:
    """The child's life. Nothing of the parent's runs in it."""
    status = 1
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        reason = _try(trial)
        os.write(tells, reason.encode("utf-8", "replace")[:_LONGEST])
        status = 0
    except OSError as error:
        os.write(tells, f"{error.strerror}".encode("utf-8", "replace")[:_LONGEST])
    finally:
        os._exit(status)


def _try(trial: str) -> str:
    """Mount and use an overlay in a mount namespace of its own. Raises OSError where that is refused."""
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    lower, upper, work, place = (os.path.join(trial, name) for name in ("lower", "upper", "work", "place"))
    for folder in (lower, upper, work, place, f"{lower}/folder"):
        os.mkdir(folder, 0o700)
    for name in ("gone", "folder/hidden", "kept"):
        os.close(os.open(f"{lower}/{name}", os.O_WRONLY | os.O_CREAT, 0o600))
    top = mounts.overlay_tree([lower], upper, work, 0, place)
    os.fchdir(top)
    os.unlink("gone")
    os.unlink("folder/hidden")
    os.rmdir("folder")
    os.mkdir("folder", 0o700)
    if ownership.of_process() != ownership.REAL:
        os.setxattr("kept", ownership.STAT_XATTR, b"1:1")
    if sorted(os.listdir(".")) != ["folder", "kept"] or os.listdir("folder"):
        return "an overlay shows what was removed in it"
    removed = os.lstat(f"{upper}/gone")
    if not stat.S_ISCHR(removed.st_mode) or removed.st_rdev:
        return "an overlay notes removals in another way than by devices 0:0"
    return ""

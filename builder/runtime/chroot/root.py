"""What a step finds in its root where nothing can be mounted: files copied in, and devices, taken out again.

Runs in the process beside the step, before it starts and after its last process has ended, as root of the
container. Paths of the root are opened inside it, never joined.
"""

from __future__ import annotations

import os
import shutil
import stat

from builder import libc
from builder.runtime import mounts
from builder.runtime.failure import because
from builder.runtime.rootfs import DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_FOLDERS = ("/proc", "/sys", "/dev")  # as every sandbox leaves them


class Furnished:
    """A root with what a step needs, until `clear`. work: a folder beside it for what is in the way."""

    def __init__(self, root: str, work: str) -> None:
        self._root = libc.openat2(libc.AT_FDCWD, root, os.O_PATH | os.O_DIRECTORY)
        self._work = libc.openat2(libc.AT_FDCWD, work, os.O_PATH | os.O_DIRECTORY)
        self._made: list[tuple[int, str, os.stat_result]] = []
        self._moved: list[tuple[int, str, str]] = []

    def furnish(self, laid: list[Mapping[str, Any]]) -> None:
        """Make folders and devices, and copy files in. Raises Failure."""
        try:
            for folder in _FOLDERS:
                place = mounts.open_target(self._root, folder, folder=True)
                if folder == "/dev":
                    self._make_devices(place)
            for number, mount in enumerate(laid):
                self._copy(mount["source"], mount["destination"], f"laid-{number}")
        except OSError as error:
            raise because("root", "cannot lay out the root filesystem", error) from error

    def clear(self) -> None:
        """Take out what was laid in, unless the step has put something else there."""
        for folder, name, made in reversed(self._made):
            try:
                if os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), made):
                    os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue
        for folder, name, kept in reversed(self._moved):
            try:
                os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(kept, name, src_dir_fd=self._work, dst_dir_fd=folder)

    def _make_devices(self, folder: int) -> None:
        for name, number in DEVICES.items():
            try:
                os.mknod(name, stat.S_IFCHR | 0o666, number, dir_fd=folder)
            except FileExistsError:
                continue
            os.chmod(name, 0o666, dir_fd=folder)  # whatever the umask is
            self._made.append((folder, name, os.stat(name, dir_fd=folder, follow_symlinks=False)))

    def _copy(self, source: str, target: str, kept: str) -> None:
        """A file's bytes at the target; what is there meanwhile lies in `work`, as it was."""
        parent, _, name = target.rpartition("/")
        folder = mounts.open_target(self._root, parent, folder=True)
        try:
            os.rename(name, kept, src_dir_fd=folder, dst_dir_fd=self._work)
            self._moved.append((folder, name, kept))
        except FileNotFoundError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o644, dir_fd=folder)
        os.fchmod(descriptor, 0o644)
        with open(source, "rb") as original, open(descriptor, "wb") as copy:
            shutil.copyfileobj(original, copy)
            self._made.append((folder, name, os.fstat(descriptor)))

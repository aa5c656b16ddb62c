"""Paths inside a root, never outside.

The one place where a path that came from an image, a context, a Dockerfile or an archive meets the
kernel. A root is a descriptor of a folder; a path is resolved as if that folder were `/`: absolute
names and links start at it, `..` stops at it, and no magic link of /proc leads out. openat2(2) does it
where there is one; elsewhere a walk does, component by component, that never lets the kernel follow a
link. What comes back are descriptors, so nothing can be swapped between the check and the use.

Must never know: what lies in the root. Errors are OSError with the kernel's errno.
"""

from __future__ import annotations

import contextlib
import errno
import os

from builder.fs.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINKS = 40  # as the kernel (path_resolution(7))
PATH_MAX = 4096  # with the final NUL

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
STEP_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Emptied when the kernel (or a filter around us) turns out to have no openat2.
_kernel_resolver = ["openat2"]


@contextlib.contextmanager
def opened(fd: int) -> Iterator[int]:
    """The descriptor, closed at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def open_root(folder: str | os.PathLike[str]) -> int:
    """A descriptor of a trusted folder of the host, to be a root."""
    return os.open(folder, FOLDER_FLAGS)


def open_in(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """open(2) of `path` with `root_fd` as the root; a last symlink is followed unless O_NOFOLLOW.

    Raises OSError: ELOOP for more than 40 links or a magic link, ENOENT, ENOTDIR, and so on.
    """
    if not path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if _kernel_resolver and len(os.fsencode(path)) < PATH_MAX:
        try:
            creating = flags & (os.O_CREAT | os.O_TMPFILE) not in (0, os.O_DIRECTORY)
            return openat2(
                root_fd,
                path,
                flags,
                mode & 0o7777 if creating else 0,
                RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
            )
        except OSError as error:
            # EPERM may also be the answer about this one file: the walk then says so itself. EAGAIN: others
            # rename, or mount, without a pause.
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EAGAIN):
                raise
            if error.errno == errno.ENOSYS:
                _kernel_resolver.clear()
    return _Walk(root_fd, path).open(flags, mode)


def open_folder(root_fd: int, path: str) -> int:
    """A readable descriptor of a folder in the root; links are followed inside it."""
    return open_in(root_fd, path, FOLDER_FLAGS)


class _Walk:
    """Resolution by hand: every step is one openat(2) that follows nothing.

    `..` goes back by walking again from the root, since the kernel's own `..` could leave it after a
    rename; the depth of a path therefore costs no descriptors.
    """

    def __init__(self, root_fd: int, path: str) -> None:
        self.root_fd = root_fd
        self.path = path
        self.folder_only = path.endswith(("/", "/.", "/..")) or path in (".", "..")
        self.todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        self.here: list[str] = []
        self.links = 0
        self.fd = -1

    def open(self, flags: int, mode: int) -> int:
        """Walk to the last component and open it."""
        self._go_to([])
        try:
            while self.todo:
                part = self.todo.pop()
                if part == "..":
                    self._go_to(self.here[:-1])
                elif self.todo:
                    self._step(part)
                elif (fd := self._open_last(part, flags, mode)) is not None:
                    return fd
            return os.open(".", flags & ~os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.fd)
        finally:
            os.close(self.fd)

    def _open_last(self, part: str, flags: int, mode: int) -> int | None:
        follows = not flags & os.O_NOFOLLOW and flags & (os.O_CREAT | os.O_EXCL) != os.O_CREAT | os.O_EXCL
        if (follows or self.folder_only) and self._follow(part):
            return None
        if self.folder_only:
            flags |= os.O_DIRECTORY
        return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.fd)

    def _step(self, part: str) -> None:
        if self._follow(part):
            return
        below = os.open(part, STEP_FLAGS, dir_fd=self.fd)
        os.close(self.fd)
        self.fd = below
        self.here.append(part)

    def _follow(self, part: str) -> bool:
        """Put a symlink's target before what is left to walk; False where `part` is no symlink."""
        try:
            target = os.readlink(part, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        self.links += 1
        if self.links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self.path)
        if target.startswith("/"):
            self._go_to([])
        if not self.todo and target.endswith("/"):
            self.folder_only = True
        self.todo.extend(name for name in reversed(target.split("/")) if name not in ("", "."))
        return True

    def _go_to(self, names: list[str]) -> None:
        """Stand in the folder of these names, walked from the root."""
        fd = os.open(".", STEP_FLAGS & ~os.O_NOFOLLOW, dir_fd=self.root_fd)
        try:
            for name in names:
                below = os.open(name, STEP_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
        except OSError:
            os.close(fd)
            raise
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.here = fd, names

"""No device can be opened in a container that a runtime has made and not yet started, but those of its /dev.

Runtimes mount anew what they are given, and some forget "nodev" on the way (crun does, for the root). So it
is set again from inside the container's mount namespace, when nothing of the image has run there.
"""

from __future__ import annotations

import os
import stat

from builder import libc
from builder.runtime.failure import because

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def close_devices(pid: int) -> None:
    """Set "nodev" on all mounts of the container whose process 1 is `pid`, but for those that are a device,
    and for its terminals. Raises Failure."""
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            places = openable(file.read())
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _close_in(namespace, places)
        os.close(namespace)
        number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if number:
            raise OSError(number, os.strerror(number))
    except OSError as error:
        raise because("runtime", "cannot close the container's mounts to devices", error) from error


def openable(mountinfo: bytes) -> list[bytes]:
    """The places of a /proc/PID/mountinfo where devices can be opened, in the order mounted; of several
    mounts at one place, the last can be reached."""
    open_: dict[bytes, bool] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(b" - ")
        place, options = left.split(b" ")[4:6]
        open_[place] = b"nodev" not in options.split(b",") and right.split(b" ")[0] != b"devpts"
    return [place.decode("unicode_escape").encode("latin-1") for place, is_open in open_.items() if is_open]


def _close_in(namespace: int, places: Sequence[bytes]) -> None:
    """In a child: enter, set, and end with the number of an error."""
    number = 1
    try:
        libc.setns(namespace, libc.CLONE_NEWNS)
        for place in places:
            found = libc.openat2(libc.AT_FDCWD, place, os.O_PATH | os.O_NOFOLLOW)
            mode = os.fstat(found).st_mode
            if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
                libc.mount_setattr(found, libc.MOUNT_ATTR_NODEV)
            os.close(found)
        number = 0
    except OSError as error:
        number = error.errno or number
    finally:
        os._exit(number)

"""Files that appear whole: written under another name beside their place, and put there by one rename.

Who reads sees the old bytes or the new, never a part. It is no barrier: after a power cut the file may be
empty. On the path of a fully cached build.
"""

from __future__ import annotations

import os


def write_whole(path: str, data: bytes, mode: int = 0o600) -> None:
    """Put a file there, replacing what has the name, whoever else does so at the same time.

    mode: less the umask. On an error nothing is left. Raises OSError.
    """
    temporary = f"{path}.{os.getpid()}-{os.urandom(6).hex()}.part"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):  # else it has its place, and a signal came just then
            os.unlink(temporary)
        raise

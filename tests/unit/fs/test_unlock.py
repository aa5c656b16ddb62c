"""A user reads what is his, whatever its mode, and leaves the mode as it was."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.fs.rooted import open_root, opened
from builder.fs.unlock import open_own
from builder.snapshots.forms import open_file, open_stored

NOBODY = 65534


def as_plain_user(folder: Path, check: Callable[[int], None]) -> None:
    """Call it, as a user who is not root, with a descriptor of a folder that is his."""
    with opened(open_root(folder)) as fd:
        if os.geteuid() != 0:
            check(fd)
            return
        os.chown(folder, NOBODY, NOBODY)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                check(fd)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


def lay(fd: int) -> None:
    for name in ("a", "a/b"):
        os.mkdir(name, 0o700, dir_fd=fd)
    for name, mode in (("a/b/f", 0o000), ("a/b/su", 0o4111), ("plain", 0o200)):
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd))
        os.chmod(name, mode, dir_fd=fd)
    os.chmod("a/b", 0o000, dir_fd=fd)
    os.chmod("a", 0o100, dir_fd=fd)


def test_a_file_behind_any_modes_can_be_read_and_they_stay(tmp_path: Path) -> None:
    def check(fd: int) -> None:
        lay(fd)
        for name in ("plain", "a/b/f", "a/b/su"):
            with pytest.raises(PermissionError):
                os.close(os.open(name, os.O_RDONLY, dir_fd=fd))
            with opened(open_own(fd, name)) as file:
                assert os.read(file, 10) == b""
            with open_stored(fd, name) as stream:
                assert stream.read() == b""
            with pytest.raises(PermissionError):
                open_file(fd, name)
        os.chmod("a", 0o700, dir_fd=fd)
        os.chmod("a/b", os.stat("a/b", dir_fd=fd).st_mode & 0o7777 | 0o700, dir_fd=fd)
        modes = [
            stat.S_IMODE(os.stat(name, dir_fd=fd).st_mode) for name in ("plain", "a/b/f", "a/b/su", "a/b")
        ]
        assert modes == [0o200, 0o000, 0o4111, 0o700]

    as_plain_user(tmp_path, check)


def test_no_link_is_followed(tmp_path: Path) -> None:
    def check(fd: int) -> None:
        lay(fd)
        os.symlink("plain", "link", dir_fd=fd)
        with pytest.raises(OSError, match="symbolic links"):
            open_own(fd, "link")
        assert stat.S_IMODE(os.stat("plain", dir_fd=fd).st_mode) == 0o200

    as_plain_user(tmp_path, check)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a file of another user")
def test_another_users_file_stays_closed(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch(0o600)

    def check(fd: int) -> None:
        with pytest.raises(PermissionError):
            open_own(fd, "theirs")

    as_plain_user(tmp_path, check)

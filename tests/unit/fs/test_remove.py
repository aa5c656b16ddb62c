import ctypes
import errno
import os
import subprocess
import sys

import pytest

from builder.fs import steps
from builder.fs.remove import empty_folder, remove_at, remove_others, remove_tree
from builder.fs.rooted import open_root, opened


def test_a_tree_goes_with_all_kinds_of_files(tmp_path):
    top = tmp_path / "top"
    (top / "a/b/c").mkdir(parents=True)
    (top / "a/file").write_text("x")
    os.mkfifo(top / "a/b/fifo")
    (top / "link").symlink_to("a")

    remove_tree(top)

    assert list(tmp_path.iterdir()) == []


def test_a_file_a_link_and_nothing_can_be_removed(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")

    for name in ("link", "file", "nothing"):
        remove_tree(tmp_path / name)

    assert list(tmp_path.iterdir()) == []


def test_what_links_lead_to_stays(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    (tmp_path / "top").mkdir()
    (tmp_path / "top/link").symlink_to(tmp_path / "kept")

    remove_tree(tmp_path / "top")

    assert (tmp_path / "kept/file").read_text() == "x"


def test_thousands_of_levels_are_removed(tmp_path):
    fd = open_root(tmp_path)
    for _ in range(2500):
        os.mkdir("level", dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("level", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    before = set(os.listdir("/proc/self/fd"))

    with opened(open_root(tmp_path)) as root:
        empty_folder(root)

    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) <= before  # an earlier test may still be closing some


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_missing_permission_bits_are_mended(tmp_path):
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_text("x")
    (top / "a/b").chmod(0o000)
    (top / "a").chmod(0o500)
    for path in (top / "a/b", top / "a", top, tmp_path):
        os.chown(path, 65534, 65534)
    parents = list(tmp_path.parents)[:-1]
    modes = [path.stat().st_mode for path in parents]
    try:
        for path in parents:
            path.chmod(path.stat().st_mode | 0o005)
        code = (
            "import os, sys; sys.path[:0] = eval(sys.argv[2]); from builder.fs.remove import remove_tree;"
            "os.setgid(65534); os.setuid(65534); remove_tree(sys.argv[1])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(top), repr(sys.path)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for path, mode in zip(parents, modes, strict=True):
            path.chmod(mode)

    assert done.returncode == 0, done.stderr
    assert not top.exists()


@pytest.fixture
def bind_mount(tmp_path):
    """A folder of the host, mounted inside the tree that is to be removed."""
    libc = ctypes.CDLL(None, use_errno=True)
    (tmp_path / "host").mkdir()
    (tmp_path / "host/precious").write_text("x")
    target = tmp_path / "top/a/mount"
    target.mkdir(parents=True)
    if libc.mount(bytes(tmp_path / "host"), bytes(target), None, 4096, None):
        pytest.skip("no permission to mount")
    yield tmp_path
    libc.umount2(bytes(target), 2)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_bind_mount_is_not_entered(bind_mount):
    with pytest.raises(OSError, match="something is mounted there"):
        remove_tree(bind_mount / "top")

    assert (bind_mount / "host/precious").exists()


def test_a_kernel_without_openat2_removes_too(tmp_path, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, "missing")

    monkeypatch.setattr(steps, "openat2", missing)
    (tmp_path / "a/b").mkdir(parents=True)

    with opened(open_root(tmp_path)) as fd:
        remove_at(fd, "a")

    assert list(tmp_path.iterdir()) == []


def test_only_what_is_not_kept_goes(tmp_path):
    for path in ("a/b/kept", "a/b/stale", "a/stale/deep/x", "stale", "kept/of/folder"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")

    with opened(open_root(tmp_path)) as fd:
        remove_others(fd, ["a/b/kept", "kept"])

    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"a", "a/b", "a/b/kept", "kept"}


def test_a_link_where_a_folder_is_kept_is_not_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("x")
    (tmp_path / "top").mkdir()
    (tmp_path / "top/a").symlink_to("../outside")

    with opened(open_root(tmp_path / "top")) as fd:
        remove_others(fd, ["a", "a/other"])

    assert (tmp_path / "outside/file").read_text() == "x"


def test_thousands_of_kept_levels_are_walked(tmp_path):
    path = "/".join(["l"] * 1500)
    fd = open_root(tmp_path)
    for _ in range(1500):
        os.mkdir("l", dir_fd=fd)
        below = os.open("l", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.mkdir("stale", dir_fd=fd)

    with opened(open_root(tmp_path)) as top:
        remove_others(top, [path])

    assert os.listdir(fd) == []
    os.close(fd)
    remove_tree(tmp_path / "l")

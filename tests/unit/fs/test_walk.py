import contextlib
import os
import resource
import stat

import pytest

from builder.fs.remove import remove_tree
from builder.fs.rooted import open_root, opened
from builder.fs.walk import walk
from builder.snapshots.snapshot import order


def found(folder, **options):
    with opened(open_root(folder)) as fd:
        return list(walk(fd, **options))


def make_deep(folder, depth, name="d"):
    """A folder in a folder in a folder, by descriptors, since no path reaches that far."""
    fd = open_root(folder)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


@contextlib.contextmanager
def few_descriptors():
    """At most 64 more descriptors in this block."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 64, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_paths_come_in_the_order_of_layers(tmp_path):
    for path in ("b", "a/z", "a-b/x", "a/b/c", "a.b"):
        (tmp_path / path).mkdir(parents=True)

    paths = [entry.path for entry in found(tmp_path)]

    assert paths == [".", "a", "a/b", "a/b/c", "a/z", "a-b", "a-b/x", "a.b", "b"]
    assert paths == sorted(paths, key=order)


def test_links_are_read_and_not_followed(tmp_path):
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "loop").symlink_to(".")

    assert [(e.path, e.link) for e in found(tmp_path)] == [(".", ""), ("loop", "."), ("out", "/etc")]


def test_names_of_one_file_are_a_group(tmp_path):
    (tmp_path / "b").write_text("x")
    os.link(tmp_path / "b", tmp_path / "a")
    os.link(tmp_path / "b", tmp_path / "c")
    (tmp_path / "d").write_text("x")

    groups = {e.path: e.hardlink for e in found(tmp_path)}

    assert groups == {".": None, "a": None, "b": "a", "c": "a", "d": None}


def test_names_that_are_no_utf8_come_back_as_they_are(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).write_text("x")

    assert found(tmp_path)[1].path == name


def test_kinds_are_told_by_their_stat(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    assert stat.S_ISFIFO(found(tmp_path)[1].status.st_mode)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="setting capabilities needs root")
def test_wanted_xattrs_are_read(tmp_path):
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    (tmp_path / "ping").write_text("x")
    os.setxattr(tmp_path / "ping", "security.capability", capability)
    os.setxattr(tmp_path / "ping", "trusted.other", b"1")
    (tmp_path / "dir").mkdir()
    os.setxattr(tmp_path / "dir", "trusted.overlay.opaque", b"y")

    xattrs = {e.path: e.xattrs for e in found(tmp_path, folder_xattrs=("trusted.overlay.opaque",))}

    assert xattrs["ping"] == (("security.capability", capability),)
    assert xattrs["dir"] == (("trusted.overlay.opaque", b"y"),)


def test_depth_costs_no_descriptors_and_no_recursion(tmp_path):
    os.close(make_deep(tmp_path, 2100, "long-name"))
    before = set(os.listdir("/proc/self/fd"))

    with opened(open_root(tmp_path)) as fd, few_descriptors():
        depth = max(entry.path.count("/") for entry in walk(fd))

    assert depth == 2099
    assert set(os.listdir("/proc/self/fd")) <= before  # an earlier test may still be closing some
    remove_tree(tmp_path / "long-name")

"""A power cut: what is on the disk when a build dies at one call, by a real ext4 of which only that is kept.

The store lies on a loop device over a file of a tmpfs. What the kernel has written to that file is what has
reached the disk; at the cut the file is copied, and the copy is mounted as after a power failure (its journal
is played back). The next build runs under another boot id. Ways to be unlucky, from the manual (ext4(5)):

    ordered     nothing but what was asked for (fsync, syncfs) has been written
    named       the journal was committed just before: names and sizes are there, and of bytes that nobody
                asked for, none (delayed allocation: files of length 0)
    garbled     the same with data=writeback,nodelalloc: such files have their size, and other bytes
    torn        some of the files were written, and others not

Needs root, loop devices and mkfs.ext4(8).
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.storecheck import wrong_in

WAYS = ("ordered", "named", "garbled", "torn")
GARBLED = "data=writeback,nodelalloc"
# Nothing is written for age alone while a point is tried.
OPTIONS = "loop,commit=300,noatime,nodiscard"
SIZE = 192 << 20
ATTEMPTS = 50
DYING_SECONDS = 30.0
BOOT_ID = "/proc/sys/kernel/random/boot_id"
ANOTHER_BOOT = 'mount --bind "$0" ' + BOOT_ID + ' && exec "$@"'
NAMED = re.compile(r"^(layer|blob) ([0-9a-z]+)")


def is_possible() -> bool:
    """Whether this machine can do it."""
    has_tools = all(shutil.which(name) for name in ("mkfs.ext4", "losetup", "unshare"))
    return has_tools and os.geteuid() == 0 and os.path.exists("/dev/loop-control")


def make_disk(image: Path) -> None:
    """An empty file system in a sparse file."""
    with image.open("wb") as file:
        file.truncate(SIZE)
    features = ["-O", "^resize_inode", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", *features, image], check=True)


def finish_disk(made: Path, folder: Path, image: Path) -> None:
    """A copy of a disk that is mounted at `folder`, with all that is in it, and an empty journal.

    Unmounting does not do, as another mount namespace may have a copy of the mount.
    """
    subprocess.run(["sync", "-f", folder], check=True)
    _copy_at_rest(made, image)
    subprocess.run(["e2fsck", "-p", image], check=False, stdout=subprocess.DEVNULL)


@contextmanager
def mounted(image: Path, folder: Path, way: str = "") -> Iterator[None]:
    """The file system in that file at a folder while the block lasts."""
    options = f"{OPTIONS},{GARBLED}" if way == "garbled" else OPTIONS
    subprocess.run(["mount", "-o", options, image, folder], check=True)
    try:
        yield
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    """Unmount what a process that was killed, and is ending yet, may have open."""
    deadline = time.monotonic() + DYING_SECONDS
    while subprocess.run(["umount", folder], check=False, stderr=subprocess.DEVNULL).returncode:
        if time.monotonic() > deadline:
            subprocess.run(["umount", folder], check=True)
            return
        time.sleep(0.05)


def cut(image: Path, folder: Path, copy: Path, way: str, chance: random.Random) -> None:
    """Copy what has reached the disk by now of the file system mounted at `folder`."""
    if way == "torn":
        files = [Path(top, name) for top, _, names in os.walk(folder) for name in names]
        files = sorted(path for path in files if path.is_file() and not path.is_symlink())
        for path in chance.sample(files, len(files) // 3):
            _sync(path)
    elif way != "ordered":
        other = folder / ".other"
        other.write_bytes(b"x")
        _sync(other)  # which commits the journal, with all names that were changed
    _copy_at_rest(image, copy)


def _copy_at_rest(image: Path, copy: Path) -> None:
    """Copy a disk as it is at one moment: what was read while the kernel wrote to it is read again."""
    for _ in range(ATTEMPTS):
        before = image.stat().st_mtime_ns
        copy_disk(image, copy)
        if image.stat().st_mtime_ns == before:
            return
    raise RuntimeError(f"{image} is written to all the time")


def copy_disk(source: Path, target: Path) -> None:
    """A copy of a sparse file.

    A new file: mount(8) would take a loop device that is still there for the old one, with all it remembers.
    """
    target.unlink(missing_ok=True)
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def after_boot(folder: Path) -> list[str]:
    """The words before a command that run it as if the machine had been booted since."""
    file = folder / "boot_id"
    file.write_text(f"{uuid.uuid4()}\n")
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", ANOTHER_BOOT, os.fspath(file)]


def wrong_and_believed(store: Path) -> list[str]:
    """What is wrong in a store of all that vouches for its bytes, being behind a barrier."""
    found = []
    for row in wrong_in(store):
        named = NAMED.match(row)
        if named and named[1] == "layer" and _mark(store / "layers" / named[2], row) != "promoted":
            continue
        if named and named[1] == "blob" and not _is_settled(store / "blobs" / "sha256" / named[2]):
            continue
        found.append(row)
    return found


def _is_settled(blob: Path) -> bool:
    return blob.stat().st_mode & 0o777 == 0o400


def _mark(layer: Path, row: str) -> str:
    """The mark of a layer; of its folder, if that is what is wrong and was made later."""
    tree = re.search(r", (tree[a-z-]*):", row)
    for name in [f"{tree[1]}-boot", "boot"] if tree else ["boot"]:
        try:
            return os.readlink(layer / name)
        except OSError:
            continue
    return ""

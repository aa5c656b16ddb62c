"""Bytes that change between the keying of a COPY and its reading are in no image, and under no key.

The files are changed the moment the step is said to run: its key is known by then, and nothing is read yet.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.build import build
from builder.errors import BuildError
from builder.events import AnyEvent, Planned, Started
from builder.request import BuildRequest, OutputSpec
from tests.support.machine import CHECKOUT, needs_root

BLOB = "FROM scratch\nCOPY src /src\n"
LINKED = "FROM scratch\nCOPY --link src /src\n"
FOLDER = "FROM busybox\nCOPY src /src\nRUN cat /src/a > /seen\n"
OLD, NEW = b"old bytes\n", b"new bytes\n"


def keep_times(path: Path) -> None:
    """The same size, and the time of the last change set back: only the inode knows."""
    before = path.stat()
    path.write_bytes(NEW)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def grow(path: Path) -> None:
    path.write_bytes(OLD + NEW)


def cut(path: Path) -> None:
    path.write_bytes(OLD[:3])


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def remove(path: Path) -> None:
    path.unlink()


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


CHANGES = [keep_times, grow, cut, replace, remove, become_a_link]


class Case:
    """A context whose file `a` changes while it is built, and a store."""

    def __init__(self, folder: Path, dockerfile: str, seed: Path | None) -> None:
        self.root = folder / "store"
        if seed is not None:
            subprocess.run(["cp", "-a", seed, self.root], check=True)
        self.context = folder / "context"
        (self.context / "src").mkdir(parents=True)
        self.dockerfile = self.context / "Dockerfile"
        self.dockerfile.write_text(dockerfile)
        self.file = self.context / "src" / "a"
        self.out = folder / "out.tar"

    def fill(self, count: int) -> None:
        for number in range(count):
            (self.context / "src" / f"f{number:03}").write_bytes(b"%d\n" % number)

    def build(self, change: Callable[[Path], None] | None = None) -> dict[str, bytes]:
        """The image's files; `change` is done to the file when COPY begins. Raises BuildError."""
        copies: set[str] = set()

        def emit(event: AnyEvent) -> None:
            if isinstance(event, Planned):
                copies.update(info.digest for info in event.vertices if "COPY" in info.label)
            if isinstance(event, Started) and event.vertex in copies and change is not None:
                change(self.file)

        outputs = (OutputSpec(type="tar", dest=str(self.out)),)
        asyncio.run(
            build(BuildRequest(context=str(self.context), root=str(self.root), outputs=outputs), emit)
        )
        with tarfile.open(self.out) as archive:
            files = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
            return {name: file.read() for name, file in files.items() if file is not None}


def check_change(case: Case, change: Callable[[Path], None]) -> None:
    """A build during which the file changes, one after it, and one with the old bytes again."""
    case.file.write_bytes(OLD)
    with pytest.raises(BuildError) as caught:
        case.build(change)

    assert caught.value.code in ("changed-during-build", "unreadable-context"), caught.value
    assert "a" in caught.value.message
    if case.file.is_file() and not case.file.is_symlink():
        now = case.file.read_bytes()
        assert case.build()["src/a"] == now
    case.file.unlink(missing_ok=True)
    case.file.write_bytes(OLD)
    files = case.build()
    assert files["src/a"] == OLD
    assert files.get("seen", OLD) == OLD


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dockerfile", [BLOB, LINKED], ids=["blob", "linked"])
def test_a_layer_that_is_a_blob_is_of_the_bytes_that_were_keyed(
    tmp_path: Path, dockerfile: str, change: Callable[[Path], None]
) -> None:
    check_change(Case(tmp_path, dockerfile, None), change)


@pytest.mark.root
@needs_root()
@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_is_a_folder_is_of_the_bytes_that_were_keyed(
    tmp_path: Path, busybox_seed: Path, change: Callable[[Path], None]
) -> None:
    check_change(Case(tmp_path, FOLDER, busybox_seed), change)


@pytest.mark.root
@needs_root()
@pytest.mark.parametrize("dockerfile", [BLOB, FOLDER], ids=["blob", "folder"])
def test_a_layer_made_of_an_earlier_one_is_of_the_bytes_that_were_keyed(
    tmp_path: Path, busybox_seed: Path, dockerfile: str
) -> None:
    case = Case(tmp_path, dockerfile, busybox_seed)
    case.fill(300)
    case.file.write_bytes(b"before\n")
    case.build()

    check_change(case, keep_times)


def test_a_cached_build_is_no_way_around_it(tmp_path: Path) -> None:
    """The file changes after the failed build back and forth, each time within a tick of the clock."""
    case = Case(tmp_path, BLOB, None)
    case.file.write_bytes(OLD)
    with pytest.raises(BuildError):
        case.build(keep_times)
    command = [
        sys.executable,
        "-m",
        "builder",
        "--root",
        str(case.root),
        "-q",
        "-o",
        f"type=tar,dest={case.out}",
    ]

    for data in (OLD, NEW, NEW, OLD, NEW, OLD, OLD):
        times = case.file.stat()
        case.file.write_bytes(data)
        os.utime(case.file, ns=(times.st_atime_ns, times.st_mtime_ns))
        env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        subprocess.run([*command, str(case.context)], env=env, check=True)

        with tarfile.open(case.out) as archive:
            assert archive.extractfile("src/a").read() == data  # type: ignore[union-attr]

"""Whatever the kernel can do, a destination gets the bytes; and a file is there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.exporters.destination import BUFFER, Destination

DATA = os.urandom(3 * BUFFER + 7)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def fail_with(number: int) -> object:
    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


def copy_between(source: Path, dest: str, size: int = len(DATA)) -> None:
    with open(source, "rb", buffering=0) as file, Destination(dest) as out:
        out.write(b"head")
        out.copy(file, size)
        out.write(b"tail")


@pytest.mark.parametrize("lacking", [[], ["copy_file_range"], ["copy_file_range", "sendfile"]])
def test_what_the_kernel_lacks_is_done_otherwise(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: list[str]
) -> None:
    for number, name in enumerate(lacking):
        monkeypatch.setattr(os, name, fail_with((errno.EXDEV, errno.EINVAL)[number]))

    copy_between(source, str(tmp_path / "dest"))

    assert (tmp_path / "dest").read_bytes() == b"head" + DATA + b"tail"


def test_a_call_that_stops_halfway_is_gone_on_with(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = os.copy_file_range, []

    def move_some(source_fd: int, target_fd: int, _size: int) -> int:
        calls.append(1)
        return original(source_fd, target_fd, 1000) if len(calls) < 3 else 0

    monkeypatch.setattr(os, "copy_file_range", move_some)

    copy_between(source, str(tmp_path / "dest"))

    assert (tmp_path / "dest").read_bytes() == b"head" + DATA + b"tail"


def test_standard_output_takes_an_archive_behind_what_it_has(source: Path, tmp_path: Path) -> None:
    held = os.dup(1)
    with open(tmp_path / "out", "ab") as appended:
        appended.write(b"before")
        appended.flush()
        os.dup2(appended.fileno(), 1)
    try:
        copy_between(source, "-")
    finally:
        os.dup2(held, 1)
        os.close(held)

    assert (tmp_path / "out").read_bytes() == b"before" + b"head" + DATA + b"tail"


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_what_the_disk_refuses_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    monkeypatch.setattr(os, "copy_file_range", fail_with(error))

    with pytest.raises(BuildError, match=f"dest failed: {os.strerror(error).lower()}"):
        copy_between(source, str(tmp_path / "dest"))

    assert sorted(os.listdir(tmp_path)) == ["source"]


def test_a_source_that_is_shorter_than_it_was_is_no_archive(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="was cut short while it was read"):
        copy_between(source, str(tmp_path / "dest"), len(DATA) + 1)

    assert sorted(os.listdir(tmp_path)) == ["source"]


@pytest.mark.parametrize("call", ["open", "write", "close"])
def test_a_signal_right_after_a_call_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "dest").write_text("precious")
    done = getattr(os, call)

    def interrupted(*args: object) -> None:
        monkeypatch.setattr(os, call, done)
        done(*args)
        raise SystemExit(143)

    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(SystemExit):
        write(tmp_path / "dest")

    assert (tmp_path / "dest").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["dest"]


def write(dest: Path) -> None:
    with Destination(str(dest)) as out:
        out.write(bytes(BUFFER))
        out.write(b"more")

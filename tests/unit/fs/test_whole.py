"""Files that appear whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.fs.whole import write_whole


def test_a_file_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"much longer than what comes")

    write_whole(str(path), b"new", 0o640)

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_on_an_error_the_old_bytes_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(5, "no luck")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="no luck"):
        write_whole(str(path), b"new")

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_signal_that_comes_with_the_rename_is_told_and_the_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: str, target: str, rename: Callable[[str, str], None] = os.rename) -> None:
        rename(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)

    with pytest.raises(KeyboardInterrupt):
        write_whole(str(tmp_path / "file"), b"new")

    assert os.listdir(tmp_path) == ["file"]

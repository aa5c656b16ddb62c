"""Files that a step's user makes, while another process of the step does with them what it likes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from builder import libc
from builder.runtime.ownership.creation import Creation
from builder.runtime.ownership.credentials import credentials_of
from builder.runtime.ownership.records import Records
from builder.runtime.ownership.targets import Call


class AnyProcess:
    """Stands for who calls (`Targets`), who that is (`Identity`) and what it may (`Permissions`)."""

    def __init__(self, path: Path) -> None:
        self.path = os.fsencode(path)

    def read_path(self, call: Call, address: int) -> bytes:
        return self.path

    def locate(self, call: Call, folder: int, path: bytes) -> tuple[bytes, bool]:
        return path, True

    def open(self, call: Call, path: bytes, flags: int) -> int:
        return os.open(path, os.O_PATH | flags)

    def umask(self, call: Call) -> int:
        return 0o022

    def check(self, call: Call) -> None:
        """It is still there."""

    def of(self, call: Call) -> object:
        return credentials_of(1000, 1000, (), 0, 0, 0)

    def demand(self, *_: object) -> None:
        """It may."""


def test_a_folder_that_is_taken_away_at_once_was_made_and_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would have the kernel make it, and then it would be root's."""
    makes = os.mkdir

    def make_and_lose(path: bytes, mode: int) -> None:
        makes(path, mode)
        os.rmdir(path)

    monkeypatch.chdir("/proc")
    monkeypatch.setattr(os, "mkdir", make_and_lose)
    process: Any = AnyProcess(tmp_path / "new")
    creation = Creation(process, process, Records(libc.Exchange(), {}), process)
    before = os.umask(0)
    try:
        answer = creation.handlers()["mkdir"](Call(1, os.getpid(), 83, 0, [0, 0o755, 0]))
    finally:
        os.umask(before)

    assert answer == 0
    assert os.listdir(tmp_path) == []

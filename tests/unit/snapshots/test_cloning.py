"""Large files share their blocks with what they are copied from, where a file system can do that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder import digest
from builder.errors import BuildError
from builder.snapshots import forms
from builder.snapshots.snapshot import FILE, Entry
from tests.support.layers import open_layers

DATA = os.urandom((3 << 20) - 1) + b"a"


class Clones:
    """A file system that shares blocks, which here is: copies them. `data`: what comes out instead."""

    def __init__(self, data: bytes | None = None, *, able: bool = True) -> None:
        self.data = data
        self.able = able
        self.count = 0

    def __call__(self, source_fd: int, target_fd: int) -> bool:
        self.count += 1
        if self.able:
            data = os.pread(source_fd, 1 << 30, 0) if self.data is None else self.data
            os.pwrite(target_fd, data, 0)
        return self.able


def made(tmp_path: Path, entry: Entry, data: bytes = DATA) -> bytes:
    """The bytes of the one file of a layer that is made of a file on disk."""
    source = tmp_path / "source"
    source.write_bytes(data)
    layers = open_layers(tmp_path)
    layer = layers.create([entry], lambda _: source.open("rb", buffering=0), unpacked=True)
    (row,) = layers.entries(layer)
    assert row.digest == digest.of_bytes((layers.unpacked(layer) / "f").read_bytes())
    return (layers.unpacked(layer) / "f").read_bytes()


def entry_of(data: bytes, **more: str) -> Entry:
    return Entry("f", FILE, 0o640, size=len(data), **more)  # type: ignore[arg-type]


def test_a_large_file_is_cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "clone_file", clones := Clones())

    assert made(tmp_path, entry_of(DATA)) == DATA
    assert clones.count == 1


def test_a_small_file_is_not_worth_the_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "clone_file", clones := Clones())

    assert made(tmp_path, entry_of(b"small"), b"small") == b"small"
    assert clones.count == 0


def test_where_that_cannot_be_done_the_bytes_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "clone_file", clones := Clones(able=False))

    assert made(tmp_path, entry_of(DATA)) == DATA
    assert clones.count == 1


@pytest.mark.parametrize(
    "wrong", [DATA[:-1] + b"x", DATA[:-1], DATA + b"x"], ids=["another", "shorter", "longer"]
)
def test_what_was_shared_is_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bytes
) -> None:
    """The file was changed between the look at it and the copy."""
    monkeypatch.setattr(forms, "clone_file", Clones(wrong))

    with pytest.raises(BuildError, match="changed during the build"):
        made(tmp_path, entry_of(DATA, digest=digest.of_bytes(DATA)))

    assert not os.listdir(tmp_path / "root" / "ingest")

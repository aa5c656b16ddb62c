"""Values that are taken out of a folder, whatever a step has made of them there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.fs import redaction
from builder.fs.redaction import TooMuch, take_out

VALUE = b"a-value-of-a-secret\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.write_bytes(VALUE)
    return path


@pytest.fixture
def folder(tmp_path: Path, outside: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    return folder


def test_files_that_hold_one_are_emptied_and_others_are_not(folder: Path) -> None:
    (folder / "sub" / "copy").write_bytes(b"key = " + VALUE.strip() + b";")
    (folder / "other").write_bytes(b"a-value-of-another")
    os.link(folder / "sub" / "copy", folder / "link")

    assert take_out(folder, [b"", b" \n", VALUE]) == ("link",)

    assert (folder / "sub" / "copy").read_bytes() == b""
    assert (folder / "other").read_bytes() == b"a-value-of-another"


def test_names_links_and_xattrs_that_hold_one_go(folder: Path) -> None:
    text = VALUE.strip().decode()
    (folder / f"x{text}" / "below").mkdir(parents=True)
    (folder / "sub" / "link").symlink_to(f"/{text}")
    (folder / "marked").write_bytes(b"")
    try:
        os.setxattr(folder / "marked", "user.x", VALUE)
    except OSError as error:
        pytest.skip(f"no xattrs here: {error.strerror}")

    assert take_out(folder, [VALUE]) == ("marked", "sub/link", f"x{text}")

    assert sorted(path.name for path in folder.rglob("*")) == ["sub"]


def test_nothing_outside_is_touched(folder: Path, outside: Path) -> None:
    (folder / "absolute").symlink_to(outside)
    (folder / "relative").symlink_to("../outside")
    (folder / "folder").symlink_to("..")
    os.mkfifo(folder / "fifo")

    assert take_out(folder, [VALUE]) == ()

    assert outside.read_bytes() == VALUE


def test_a_value_is_found_across_pieces_and_behind_holes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "_PIECE", 8)
    (folder / "across").write_bytes(b"....." + VALUE)
    with (folder / "sparse").open("wb") as file:
        file.seek(1 << 40)
        file.write(VALUE)
    (folder / "none").write_bytes(b"a-value-of" * 9)

    assert take_out(folder, [VALUE, b"z"]) == ("across", "sparse")


def test_there_is_a_bound_on_what_is_looked_through(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_bytes(b"x" * 10000)
    monkeypatch.setattr(redaction, "MOST", 4096)

    assert take_out(folder, []) == ()
    with pytest.raises(TooMuch):
        take_out(folder, [VALUE])

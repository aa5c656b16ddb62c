"""Where large trees begin: a wish that file systems may refuse, and never a change of what is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.fs import spread
from builder.fs.spread import Places, make_apart
from builder.snapshots.snapshot import FILE, FOLDER, Entry
from builder.snapshots.unpack import TreeWriter


def opened(path: Path) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def test_a_folder_made_apart_has_its_name_and_mode_and_leaves_nothing_else(tmp_path: Path) -> None:
    fd = opened(tmp_path)
    try:
        make_apart("tree", fd, 0o700)
    finally:
        os.close(fd)

    assert os.listdir(tmp_path) == ["tree"]
    assert (tmp_path / "tree").stat().st_mode & 0o777 == 0o700


def test_a_folder_is_not_made_apart_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "kept").touch()
    fd = opened(tmp_path)
    try:
        with pytest.raises(FileExistsError):
            make_apart("tree", fd, 0o700)
    finally:
        os.close(fd)

    assert os.listdir(tmp_path) == ["tree"]
    assert (tmp_path / "tree" / "kept").exists()


def test_a_file_system_without_the_flag_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(25, "inappropriate ioctl for device")

    monkeypatch.setattr(spread.fcntl, "ioctl", refuse)
    fd = opened(tmp_path)
    try:
        make_apart("tree", fd, 0o755)
    finally:
        os.close(fd)

    assert (tmp_path / "tree").is_dir()


def test_folders_begin_elsewhere_once_files_are_made_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart: list[str] = []
    monkeypatch.setattr(spread, "make_apart", lambda name, fd, mode: apart.append(name))
    places = Places()
    fd = opened(tmp_path)
    try:
        places.make_folder("quick", fd, 0o755)
        monkeypatch.setattr(spread, "SLOW", -1)
        for number in range(spread.PATIENCE):
            os.close(places.open_new(str(number), os.O_WRONLY | os.O_CREAT, 0o600, fd))
        places.make_folder("slow", fd, 0o755)
        places.make_folder("after", fd, 0o755)
    finally:
        os.close(fd)

    assert apart == ["slow"]
    assert (tmp_path / "quick").is_dir()
    assert (tmp_path / "after").is_dir()


@pytest.mark.parametrize("many", [False, True])
def test_a_tree_is_the_same_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    monkeypatch.setattr(spread, "SLOW", -1)
    folder = tmp_path / "layer" / "tree"

    with TreeWriter(folder, many=many) as tree:
        for number in range(30):
            tree.add(Entry(f"d{number:02}", FOLDER, 0o751))
            tree.add(Entry(f"d{number:02}/f", FILE, 0o640))

    assert sorted(os.listdir(folder)) == [f"d{number:02}" for number in range(30)]
    assert all(os.listdir(folder / f"d{number:02}") == ["f"] for number in range(30))
    assert (folder / "d29").stat().st_mode & 0o777 == 0o751
    assert os.listdir(tmp_path / "layer") == ["tree"]

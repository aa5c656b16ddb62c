"""Folders of cache mounts: made once, whoever is first, and named by what they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.cachemounts import CacheMounts


def test_who_makes_a_folder_second_takes_that_of_the_first_though_it_is_empty(tmp_path: Path) -> None:
    caches = CacheMounts(str(tmp_path))
    os.makedirs(caches.folder)
    path = os.path.join(caches.folder, "c")

    def fill(new: str) -> None:
        caches.make(path, lambda other: os.chmod(other, 0o711))  # another step, meanwhile

    caches.make(path, fill)

    assert os.stat(path).st_mode & 0o777 == 0o711
    assert os.listdir(tmp_path / "ingest") == []


def test_a_folder_whose_content_cannot_be_had_is_not_there(tmp_path: Path) -> None:
    caches = CacheMounts(str(tmp_path))
    os.makedirs(caches.folder)

    def fill(new: str) -> None:
        Path(new, "half").touch()
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        caches.make(os.path.join(caches.folder, "c"), fill)

    assert os.listdir(caches.folder) == []
    assert os.listdir(tmp_path / "ingest") == []


def test_caches_are_told_apart_by_their_id_and_by_what_they_start_with(tmp_path: Path) -> None:
    caches = CacheMounts(str(tmp_path))
    starts: list[tuple[str, list[object]]] = [
        ("a", []), ("b", []), ("a", [0o700, 0, 0]), ("a", [0o755, 7, 8]), ("a", ["layer", "/"]),
        ("a", ["layer", "/x"]), ("a", ["layer", "other", "/"]),
    ]  # fmt: skip

    assert len({caches.name(identity, start) for identity, start in starts}) == len(starts)


async def test_a_private_folder_is_nobody_else_s_and_is_taken_again(tmp_path: Path) -> None:
    caches = CacheMounts(str(tmp_path))

    async with caches.hold("c", "private") as first, caches.hold("c", "private") as second:
        assert first != second
    async with caches.hold("c", "shared") as held, caches.hold("c", "shared") as again:
        assert held == again == first
        async with caches.hold("c", "private") as other:
            assert other == second

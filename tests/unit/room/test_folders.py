"""The folders of a store that are no layers, as people see them."""

from __future__ import annotations

from pathlib import Path

from builder.room.folders import read_folders
from builder.room.items import CONTEXT
from builder.store.root import open_store


def test_a_stat_cache_that_is_being_written_is_nothing_to_remove(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    folder = store.root / "cache" / "stat"
    folder.mkdir()
    (folder / ("a" * 32)).touch()
    (folder / f"{'a' * 32}.12-0123456789ab.part").touch()

    found = read_folders(store.folder)[CONTEXT]

    assert [Path(item.path).name for item in found] == ["a" * 32]

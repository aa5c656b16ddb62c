"""What a store notes of its room, as builds leave it that were cut short."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.fsck.answers import check
from builder.fsck.finding import Counts
from builder.store.root import open_store


@pytest.mark.parametrize(("data", "found"), [(b"", []), (b"12\n", ["cache/room"]), (b"{}", ["cache/room"])])
def test_a_file_that_was_made_and_not_written_is_no_damage(
    tmp_path: Path, data: bytes, found: list[str]
) -> None:
    store = open_store(tmp_path / "store")
    Path(store.folder, "cache", "room").write_bytes(data)

    assert [finding.path for finding in check(store, Counts())] == found

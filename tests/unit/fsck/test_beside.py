"""A check while others work on the store: what goes between two looks is no damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import digest as digests
from builder.fsck.check import check
from builder.oci import reference
from builder.oci.names import Names, Row, read_rows
from builder.store.root import open_store
from tests.support.layouts import LayoutMaker


@pytest.mark.parametrize("repair", [False, True])
def test_an_image_that_is_removed_meanwhile_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repair: bool
) -> None:
    layout, store = LayoutMaker(tmp_path / "layout"), open_store(tmp_path / "store")
    layout.image([{"a": b"1"}], tag="one")
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(layout.entries[0], [reference.parse("app:one")])
    calls = list[str]()

    def read_and_lose(folder: str) -> list[Row]:
        calls.append(folder)
        rows = read_rows(folder)
        if rows:
            Names(store).remove(digests.parse(layout.entries[0]["digest"]))
            for blob in Path(folder, "blobs/sha256").iterdir():
                blob.unlink()
        return rows

    monkeypatch.setattr("builder.fsck.names.read_rows", read_and_lose)

    report = check(store.folder, repair=repair)

    assert (report.found, report.mended) == ([], [])
    assert len(calls) == 2

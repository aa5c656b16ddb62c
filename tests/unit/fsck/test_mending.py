"""Mending beside builds: what they do between the look and the repair is not undone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from builder import digest
from builder.fsck import mending
from builder.fsck.check import check
from builder.fsck.finding import RESTORE_NAMES, Finding
from builder.fsck.mending import mend
from builder.oci import reference
from builder.oci.names import Names, Row, name_of, read_copy
from builder.store.root import Store, open_store
from tests.support.layouts import LayoutMaker


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path, layout: LayoutMaker) -> Store:
    """A store with an image, the bytes of whose layer are wrong."""
    store = open_store(tmp_path / "store")
    row = layout.image([{"file": b"1"}], tag="one")
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(row, [reference.parse("app:1")])
    layer = store.blobs.path(layer_of(layout))
    layer.chmod(0o600)
    layer.write_bytes(bytes(len(layer.read_bytes())))
    return store


def layer_of(layout: LayoutMaker) -> digest.Digest:
    (row,) = layout.entries
    return digest.parse(layout.manifest(row)["layers"][0]["digest"])


def names(store: Store) -> list[str | None]:
    return [name_of(row) for row in Names(store).rows()]


def test_a_damaged_blob_and_its_image_go(store: Store, layout: LayoutMaker) -> None:
    found = check(store.folder, repair=False).found
    assert [finding.kind for finding in found] == ["blob", "image"]

    assert mend(store, found) == found

    assert not store.blobs.path(layer_of(layout)).exists()
    assert names(store) == []


def test_what_a_build_has_mended_itself_stays(store: Store, layout: LayoutMaker) -> None:
    found = check(store.folder, repair=False).found
    open_store(store.folder).blobs.put(layout.path(layer_of(layout)).read_bytes())

    assert mend(store, found) == found

    assert store.blobs.has_its_bytes(layer_of(layout))
    assert names(store) == ["app:1"]


def test_a_name_that_is_given_while_names_are_restored_is_not_lost(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = layout.entries
    naming = threading.Thread(target=Names(store).add, args=(row, [reference.parse("web:1")]))

    def name_beside(folder: str) -> list[Row] | None:
        rows = read_copy(folder)
        naming.start()
        naming.join(0.2)  # where nothing holds it, it is done by then
        return rows

    monkeypatch.setattr(mending, "read_copy", name_beside)
    mend(store, [Finding("names", "index.json", "it cannot be read", RESTORE_NAMES)])
    naming.join()

    assert names(store) == ["app:1", "web:1"]

"""The copy of index.json by which it is mended: of this very file, or it says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.fsck.finding import Counts
from builder.fsck.names import check_tables
from builder.oci import names, reference
from builder.oci.names import Names
from builder.store.root import Store, open_store
from tests.support.layouts import LayoutMaker


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path, layout: LayoutMaker) -> Store:
    """A store with two images, one of which has a name."""
    store = open_store(tmp_path / "store")
    for tag in ("one", "two"):
        layout.image([{tag: tag.encode()}], tag=tag)
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(layout.entries[0], [reference.parse("app:one")])
    return store


def problems(store: Store) -> list[str]:
    return [finding.problem for finding in check_tables(store, (), Counts())]


def test_a_name_that_was_changed_in_its_file_is_found_by_the_copy(store: Store) -> None:
    index = Path(store.folder, "index.json")
    index.write_text(index.read_text().replace("app:one", "app:oge"))  # in place: the same file

    assert problems(store) == ["the entry of app:oge is not as it was written"]


@pytest.mark.parametrize(("key", "flipped"), [("mediaType", "mediaUype"), ("manifests", "manidests")])
def test_a_name_of_the_document_s_own_that_was_changed_is_found_by_the_copy(
    store: Store, key: str, flipped: str
) -> None:
    index = Path(store.folder, "index.json")
    index.write_text(index.read_text().replace(f'"{key}"', f'"{flipped}"', 1))

    assert problems(store) == ["it does not say that it is an index"]


def test_a_build_that_was_killed_before_it_wrote_the_copy_is_no_damage(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut undid the copy: index.json is ahead of it, and right."""
    with monkeypatch.context() as patch:
        patch.setattr(names, "_keep_copy", lambda _folder, _document: None)
        Names(store).add(layout.entries[1], [reference.parse("app:two")])

    assert not names.is_copied(store.folder)
    assert problems(store) == []


def test_a_copy_that_cannot_be_written_leaves_no_older_one(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its inode may be that of an index.json which is written later."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(names, "write_whole", full)
    Names(store).add(layout.entries[1], [reference.parse("app:two")])

    assert names.read_copy(store.folder) is None
    assert problems(store) == []


def test_a_copy_that_was_cut_short_is_none(store: Store) -> None:
    copy = Path(store.folder, names.COPY)
    assert names.is_copied(store.folder)
    assert json.loads(copy.read_bytes().splitlines()[0])["manifests"] == names.read_copy(store.folder)

    copy.write_bytes(copy.read_bytes()[:-1])

    assert names.read_copy(store.folder) is None
    assert not names.is_copied(store.folder)

"""What a store holds, counted while builds go on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.room import facts
from builder.snapshots import index
from builder.store.root import open_store

LAYER = "abcdefghijklmnop"


def test_a_layer_whose_mark_is_replaced_meanwhile_is_there_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its blobs would be nobody's."""
    store = open_store(tmp_path / "store")
    layer = store.root / "layers" / LAYER
    layer.mkdir()
    index.mark_boot(str(layer), "one")
    temporary = layer / f"boot-{'0' * 16}"
    temporary.symlink_to(index.PROMOTED)
    scandir = os.scandir

    @contextlib.contextmanager
    def rename_behind(folder: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            found = list(entries)
        if folder == str(layer):
            temporary.rename(layer / "boot")
        yield found

    monkeypatch.setattr(os, "scandir", rename_behind)

    assert list(facts.read(store).layers) == [LAYER]
    assert not temporary.is_symlink()

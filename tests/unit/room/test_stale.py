"""What a build that is killed leaves beside its place is known for what it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.digest import of_value
from builder.fs.whole import write_whole
from builder.room.stale import OLD, sweep, temporary_names
from builder.snapshots import index
from builder.solver.cache import Cache, Record
from builder.store.root import open_store


def replace_a_mark(root: Path) -> None:
    layer = root / "layers" / "abcdefghijklmnop"
    layer.mkdir()
    index.mark_boot(str(layer), "one")
    index.mark_boot(str(layer), index.PROMOTED)


def replace_the_mark_of_a_tree(root: Path) -> None:
    layer = root / "layers" / "abcdefghijklmnop"
    layer.mkdir()
    index.mark_boot(str(layer), "one", index.tree_boot("tree"))
    index.mark_boot(str(layer), index.PROMOTED, index.tree_boot("tree"))


def write_a_record(root: Path) -> None:
    Cache(str(root / "cache"), lambda _snapshot: True).put(of_value("key"), Record((), 0.0, "RUN x"))


def write_a_file_whole(root: Path) -> None:
    write_whole(str(root / "cache" / "room"), b"{}")


class Killed(BaseException):
    """As SIGKILL does: nobody catches it, or cleans up."""


@pytest.mark.parametrize(
    "write", [replace_a_mark, replace_the_mark_of_a_tree, write_a_record, write_a_file_whole]
)
def test_a_temporary_name_that_was_never_renamed_goes_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    store = open_store(tmp_path / "store")

    def die(_source: str, _target: str) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", die)
        patch.setattr(os, "unlink", lambda _path: None)  # which is not come to
        patch.setattr(os, "getpid", lambda: 1 << 30)
        with pytest.raises(Killed):
            write(Path(store.folder))
    (left,) = temporary_names(store.folder)

    assert sweep(store).temporary == 0  # it may be somebody's in another PID namespace
    long_ago = os.lstat(left).st_mtime - OLD - 1
    os.utime(left, (long_ago, long_ago), follow_symlinks=False)
    assert sweep(store).temporary == 1
    assert not os.path.lexists(left)

"""What `pybuild lock` does to the store."""

from __future__ import annotations

from pathlib import Path

from builder.locking import make_lock
from builder.request import BuildRequest
from builder.store.root import open_store

NOBODY = 1 << 22  # the number of no process: it is the kernel's highest bound for them


def test_what_a_killed_one_left_is_swept_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    store = open_store(tmp_path / "store")
    left = store.root / f"ingest/blob-{NOBODY}-0123456789abcdef"
    left.write_bytes(b"half of a file")

    make_lock(BuildRequest(context=str(tmp_path), root=store.folder))

    assert list(left.parent.iterdir()) == []

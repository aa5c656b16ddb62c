"""`type=tar`: the image's filesystem as one tar archive; its config, being no file, is not in it."""

from __future__ import annotations

from builder.exporters import Export
from builder.exporters.destination import Destination
from builder.exporters.merged import Merged, Open
from builder.oci import tar
from builder.snapshots.tree import Tree


def export(tree: Tree, open_file: Open, wanted: Export, *, clamp: int | None = None) -> None:
    """Write the tree where `wanted` says; `clamp`: the latest time, in nanoseconds. Raises BuildError."""
    assert wanted.dest is not None
    merged = Merged(tree, open_file)
    with Destination(wanted.dest) as out:
        tar.write((entry for entry in merged.entries if entry.path != "."), merged.content, out, clamp=clamp)

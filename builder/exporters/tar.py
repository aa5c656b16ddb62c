"""`type=tar`: the image's filesystem as one tar archive; its config, being no file, is not in it."""

from __future__ import annotations

from builder.exporters import Export
from builder.exporters.destination import Destination
from builder.exporters.merged import Files
from builder.oci import tar


def export(files: Files, wanted: Export) -> None:
    """Write the files where `wanted` says. Raises BuildError."""
    assert wanted.dest is not None
    with Destination(wanted.dest) as out:
        tar.write((entry for entry in files.entries if entry.path != "."), files.content, out)

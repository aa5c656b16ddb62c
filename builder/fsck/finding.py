"""What a check may find: an object of the store that is not what it should be. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

# What is done to mend a finding.
DROP, DROP_LAYER = "drop", "drop-layer"
FORGET_IMAGE, FORGET_REFERENCE = "forget-image", "forget-reference"
RESTORE_NAMES, WRITE_LAYOUT, WRITE_VERSION = "restore-names", "write-layout", "write-version"
TOLD = {
    DROP: "dropped", DROP_LAYER: "the layer is dropped, and made again when it is needed",
    FORGET_IMAGE: "the image is taken off the table", FORGET_REFERENCE: "forgotten, and asked for again",
    RESTORE_NAMES: "written anew from its copy", WRITE_LAYOUT: "written anew", WRITE_VERSION: "written anew",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """kind: of object (blob, layer, record, ...); path: of it, below ROOT; problem: in a few words.

    mend: one of the above; what: that which it is done to, where that is not `path` (a layer's id, a digest,
    a key of the table of references).
    """

    kind: str
    path: str
    problem: str
    mend: str = DROP
    what: str = ""


@dataclass(slots=True)
class Counts:
    """How much was looked at. unproven: files of layers of which nobody knows a digest."""

    blobs: int = 0
    layers: int = 0
    files: int = 0
    unproven: int = 0
    images: int = 0
    records: int = 0

"""What a base image is now, as far as this machine knows without looking far.

For the path of a fully cached build: a remembered compile holds these texts, and is believed while they
are the same. Reads index.json files, and nothing else; json and os only.
"""

from __future__ import annotations

import os

from builder import digest as digests
from builder.errors import BuildError
from builder.oci.names import name_of, read_pulled, read_rows, stored_name
from builder.oci.reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LAYOUT = "oci-layout://"
MAX_INDEX = 4 << 20


def state_of(root: str, locator: str, platform: str, layouts: Mapping[str, str]) -> str | None:
    """A text that is equal as long as the image is: None where only a full look can tell.

    layouts: named context -> `DIR[:TAG|@DIGEST]` (also with `oci-layout://` before it).
    """
    try:
        if locator.startswith(LAYOUT):
            name = layouts.get(locator.removeprefix(LAYOUT))
            return None if name is None else _layout_state(name.removeprefix(LAYOUT))
        return _reference_state(root, locator, platform)
    except (BuildError, OSError):
        return None


def _reference_state(root: str, locator: str, platform: str) -> str | None:
    reference = parse(locator)
    if reference.digest is not None:
        return f"pinned {reference.digest}"
    wanted = stored_name(reference)
    named = next((row for row in read_rows(root) if name_of(row) == wanted), None)
    if named is not None and not named.get("platform"):
        return f"named {named['digest']}"
    known = read_pulled(root).get(f"{reference} {platform}")
    remembered = f"remembered {known['digest']}" if known else None
    if named is None:
        return remembered
    # A single image may be for another platform; then what a registry said counts (see sources.image).
    return f"named {named['digest']}, {remembered or 'not remembered'}"


def _layout_state(name: str) -> str | None:
    """A layout's state is its index.json: all below is named by digest there."""
    with open(os.path.join(_folder(name), "index.json"), "rb") as file:
        data = file.read(MAX_INDEX + 1)
    return f"layout {name} {digests.of_bytes(data)}" if len(data) <= MAX_INDEX else None


def _folder(name: str) -> str:
    """The folder in `DIR[:TAG][@DIGEST]`, as oci.layout reads it."""
    folder = name.rpartition("@")[0] if "@sha" in name else name
    before, colon, tag = folder.rpartition(":")
    return before if colon and "/" not in tag else folder

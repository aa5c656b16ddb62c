"""How an image was asked for: the record of the build that made it (see `record` and `again`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from builder import again, events, records
from builder.delivery import TREES
from builder.errors import BuildError
from builder.events import BuildFinished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.request import BuildRequest
    from builder.store.root import Store

TAIL = 1 << 16  # bytes at the end of a record, where it says what came of the build
HINT = "name the CONTEXT that it is built from, with the flags of its build"


def find_request(store: Store, digest: str, shown: str, given: BuildRequest) -> BuildRequest:
    """The request of the last recorded build that gave the image of this digest.

    given: what records do not keep, and the store. Raises BuildError where there is no such build, or where
    its record and what is given are not enough.
    """
    plain = _find(store, digest)
    if plain is None:
        raise BuildError(f"no build of {shown} is recorded", code="no-build", hint=HINT)
    return again.request_of(plain, given)


def complete(store: Store, digest: str, typed: BuildRequest, environ: Mapping[str, str]) -> BuildRequest:
    """A request that was typed; what nobody typed of the image's form and time is the record's, if any."""
    plain = _find(store, digest)
    return typed if plain is None else again.completed(typed, plain, environ)


def _find(store: Store, digest: str) -> dict[str, Any] | None:
    """What the record of the last such build has; None where there is none."""
    for path in (records.path_of(store, name) for name in records.all_ids(store)):
        images = _images_of(path)
        if digest in images:
            plain = records.request_of(path).get("again")
            return _of_output(plain, images.index(digest)) if isinstance(plain, dict) else {}
    return None


def _of_output(plain: dict[str, Any], number: int) -> dict[str, Any]:
    """A request with that one of its outputs alone, counted among those that are images."""
    outputs = plain.get("outputs")
    rows = outputs if isinstance(outputs, list) else []
    images = [row for row in rows if isinstance(row, list) and row and row[0] not in TREES]
    return {**plain, "outputs": [images[number]]} if number < len(images) else plain


def _images_of(path: str) -> tuple[str, ...]:
    """The images that a recorded build gave, in the order of its outputs."""
    try:
        with open(records.events_file(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL))
            lines = file.read().splitlines()
        for line in reversed(lines):
            if b'"image"' in line and isinstance(event := events.decode(line), BuildFinished):
                return event.images or (event.image,)
    except (OSError, ValueError):
        return ()
    return ()

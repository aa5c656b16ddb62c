"""`pybuild images --tree`: each image once, with all its names, and below it its platforms."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from builder.commands.formats import NONE, short_id, size
from builder.errors import ImageError, StoreError
from builder.ui.words import one_line

if TYPE_CHECKING:
    from builder.images import Listed
    from builder.store.root import Store

HEADINGS = ("IMAGE", "ID", "CONTENT SIZE")
GAP = " " * 3
Line = tuple[str, str, str]


def show_tree(store: Store, listed: Sequence[Listed]) -> None:
    """Write a list as a tree. What an index has and the store has not counts nothing."""
    blocks: dict[str, list[Listed]] = {}
    for image in listed:
        blocks.setdefault(image.digest, []).append(image)
    lines = [HEADINGS]
    for count, names in enumerate(blocks.values()):
        lines += [("", "", "")] if count else []
        lines += _block(store, names)
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for name, ident, bytes_there in lines:
        row = GAP.join((name.ljust(widths[0]), ident.ljust(widths[1]), bytes_there.rjust(widths[2])))
        sys.stdout.write(row.rstrip() + "\n")


def _block(store: Store, names: Sequence[Listed]) -> Iterable[Line]:
    """An image: its names, the last with id and size, and its platforms."""
    image = names[-1]
    *others, last = [one_line(_name(each)) for each in names]
    for name in others:
        yield name, "", ""
    yield last, short_id(image.id or image.digest, full=False), size(image.size)
    parts = [part for part in _parts(store, image) if part["Kind"] != "attestation"]
    for part in parts:
        branch = "└─" if part is parts[-1] else "├─"
        there = part["Size"]["Content"] if part["Available"] and "Size" in part else 0
        yield f"{branch} {one_line(_platform(part))}", short_id(part["ID"], full=False), size(there)


def _name(image: Listed) -> str:
    return image.name or NONE


def _parts(store: Store, image: Listed) -> list[dict[str, Any]]:
    from builder.images.describe import manifests

    try:
        return manifests(store, image.digest)
    except (ImageError, StoreError):
        return []  # the list says that it is damaged


def _platform(part: dict[str, Any]) -> str:
    platform = part["Descriptor"].get("platform") or {}
    told = (platform.get(key, "") for key in ("os", "architecture", "variant"))
    return "/".join(each for each in told if each) or NONE

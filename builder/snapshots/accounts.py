"""The account files of an image, as bytes, for the lookups of `owners`, which is pure and reads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.snapshots import owners

if TYPE_CHECKING:
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.tree import Tree


def read_accounts(layers: LayerStore, tree: Tree) -> tuple[bytes | None, bytes | None]:
    """The bytes of /etc/passwd and /etc/group in a tree, None for what is not there.

    Raises BuildError where one is no regular file or too large, and as `LayerStore.open` does.
    """
    return _read(layers, tree, owners.PASSWD), _read(layers, tree, owners.GROUP)


def _read(layers: LayerStore, tree: Tree, path: str) -> bytes | None:
    """One of these files; `owners.find` has checked that it is small and regular."""
    node = owners.find(tree, path)
    if node is None:
        return None
    with layers.open(node.layer, node.entry) as file:
        return file.read()

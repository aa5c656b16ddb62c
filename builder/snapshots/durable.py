"""Which layers outlive a power cut: those that have a barrier behind them.

A layer, and a folder unpacked for it later, each have a mark (see `index`): the boot that made it, or
`promoted` once its bytes are known to be on the disk. Knows marks and syncfs(2), nothing of what they are
about.
"""

from __future__ import annotations

import os

from builder.libc import sync_filesystem
from builder.snapshots import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def find_unpromoted(folders: Iterable[str], boot: str) -> list[tuple[str, str]]:
    """The marks (folder, name) of the layers in these folders that vouch for this boot only."""
    pending = []
    for folder in folders:
        if index.read_boot(folder) == boot:
            pending.append((folder, index.BOOT))
        for tree in index.TREES:
            made_later = index.read_boot(folder, index.tree_boot(tree)) == boot
            if made_later and os.path.isdir(os.path.join(folder, tree)):
                pending.append((folder, index.tree_boot(tree)))
    return pending


def promote(marks: Iterable[tuple[str, str]]) -> None:
    """Set marks to `promoted`."""
    for folder, name in marks:
        index.mark_boot(folder, index.PROMOTED, name)


def pass_barrier(top: str, folders: Iterable[str], boot: str) -> None:
    """Bring the file system of `top` to the disk and promote the layers, if any of them needs it.

    What needs it is asked for before, so that a folder that another process is just putting into place
    is not taken for one that the barrier has seen.
    """
    pending = find_unpromoted(folders, boot)
    if not pending:
        return
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_filesystem(fd)
    finally:
        os.close(fd)
    promote(pending)

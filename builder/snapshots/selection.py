"""Selections: the digest of what a COPY takes from a tree.

COPY plans its layer from the very items that its key is made of (`snapshots.matches`), so nothing can be
copied that was not counted. The digest holds what COPY would write (names, kinds, modes, owners, targets,
bytes, devices, capabilities) and never a time, nor where in the tree it lay. Nothing is mounted for it.

On the path of a fully cached build.
"""

from __future__ import annotations

from builder.digest import Digest, from_hex, light_sha256
from builder.snapshots.matches import items, patterns_of, select
from builder.snapshots.snapshot import BLOCK, CHAR, FILE, SYMLINK, Entry, LayerId
from builder.snapshots.tree import Node, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.graph.selection import Selection
    from builder.snapshots.matches import HiddenBy, Item

    DigestOf = Callable[[LayerId, Entry], Digest]
    Fill = Callable[[Iterable[Entry]], None]
    Told = list[tuple[str, bool, str]]

CAPABILITY = "security.capability"  # the one xattr that images keep


def digest(
    tree: Tree,
    selection: Selection,
    digest_of: DigestOf,
    *,
    hidden_by: HiddenBy | None = None,
    fill: Fill | None = None,
    told: Told | None = None,
) -> Digest:
    """The digest of what COPY would write for this selection; raises as `select` does.

    fill: told all files whose digests will be asked for, to get them at once (and set them); told: takes
    what the digest is made of: per match its path, whether it is a folder, and its rows as one text.
    """
    chosen = _Chosen(tree, selection, hidden_by)
    if fill is not None and (wanted := chosen.files()):
        fill(entry for _, entry in wanted)
    total = light_sha256(b"selection 1\n")
    for match, found in chosen.matches:
        rows: list[str] = []
        if not match.is_folder:
            rows.append(_row(match.name, match.node, selection, tree, digest_of, ""))
        elif not selection.wildcards:
            rows.append(_row(".", match.node, selection, tree, digest_of, ""))
        else:
            rows.append("contents\0")
        first_names = link_groups(found)
        for item in found:
            first = first_names.get(item.path, "") if first_names else ""
            row = _row(item.path, item.node, selection, tree, digest_of, first, carried=item.carried)
            rows.append(row + "carried\0" if item.carried else row)
        text = "".join(rows)
        if told is not None:
            told.append((match.path, match.is_folder, text))
        total.update(f"{text}{len(rows)}\n".encode("utf-8", "surrogateescape"))
    return from_hex(total.hexdigest())


def files(
    tree: Tree, selection: Selection, *, hidden_by: HiddenBy | None = None
) -> list[tuple[LayerId, Entry]]:
    """The files that `digest` will ask the digests of; raises as `select` does."""
    return _Chosen(tree, selection, hidden_by).files()


class _Chosen:
    """A selection's matches, each with what is in it."""

    __slots__ = ("_tree", "matches")

    def __init__(self, tree: Tree, selection: Selection, hidden_by: HiddenBy | None) -> None:
        excludes = patterns_of(selection.excludes)
        self._tree = tree
        self.matches = [
            (match, list(items(tree, match, excludes)) if match.is_folder else [])
            for match in select(tree, selection, hidden_by=hidden_by)
        ]

    def files(self) -> list[tuple[LayerId, Entry]]:
        """The entries with the bytes that have no digest yet, each once."""
        wanted: dict[tuple[LayerId, str], tuple[LayerId, Entry]] = {}
        for match, found in self.matches:
            for node in (match.node, *(item.node for item in found)):
                if node.entry.digest is None and node.entry.kind == FILE:
                    entry = bytes_of(self._tree, node)
                    wanted[node.layer, entry.path] = (node.layer, entry)
        return list(wanted.values())


def link_groups(found: Iterable[Item]) -> dict[str, str]:
    """For the further names of a file among these items: its first name. Both relative."""
    found = [item for item in found if item.node.entry.kind == FILE]
    linked = {inode(item.node) for item in found if item.node.entry.hardlink is not None}
    if not linked:
        return {}
    first: dict[tuple[LayerId, str], str] = {}
    further: dict[str, str] = {}
    for item in found:
        if (key := inode(item.node)) in linked and first.setdefault(key, item.path) != item.path:
            further[item.path] = first[key]
    return further


def inode(node: Node) -> tuple[LayerId, str]:
    """Equal for the names of one file."""
    return node.layer, node.entry.path if node.entry.hardlink is None else node.entry.hardlink


def bytes_of(tree: Tree, node: Node) -> Entry:
    """The entry that has a FILE's bytes in its layer: itself, or the first name of a hard link."""
    entry = node.entry
    if entry.hardlink is None:
        return entry
    first = tree.nodes.get(entry.hardlink)
    if first is not None and first.layer == node.layer and first.entry.hardlink is None:
        return first.entry
    return entry.replace(path=entry.hardlink, hardlink=None)


def capability_of(entry: Entry) -> tuple[tuple[str, bytes], ...]:
    """The xattrs that an image keeps."""
    return tuple(pair for pair in entry.xattrs if pair[0] == CAPABILITY) if entry.xattrs else ()


def _row(
    name: str,
    node: Node,
    selection: Selection,
    tree: Tree,
    digest_of: DigestOf,
    first_name: str,
    *,
    carried: bool = False,
) -> str:
    """All that counts of one path. Fields end in NUL, which no name and no target can hold.

    carried: it is a folder on the way, whose mode counts whatever --chmod says: one that is there takes it.
    """
    entry = node.entry
    kind = entry.kind
    content = capability = ""
    if kind == FILE:
        content = entry.digest or digest_of(node.layer, bytes_of(tree, node))
    elif kind == SYMLINK:
        content = entry.link
    elif kind in (CHAR, BLOCK):
        kind = CHAR
        content = f"{entry.device[0]}:{entry.device[1]}"
    if entry.xattrs:
        capability = "".join(value.hex() for _, value in capability_of(entry))
    mode = f"{entry.mode:o}" if (selection.modes or carried) and kind != SYMLINK else ""
    owner = f"{entry.uid}:{entry.gid}" if selection.owners else ""
    return f"{name}\0{kind}\0{mode}\0{owner}\0{content}\0{capability}\0{first_name}\0"

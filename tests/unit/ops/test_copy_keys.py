"""COPYs with one key lay down one layer: nothing that shows in the result is missing from the key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.compiler.copies import OCTAL
from builder.digest import of_bytes, of_value
from builder.errors import BuildError
from builder.graph.selection import Selection
from builder.ops.files import Copy, PathItem
from builder.snapshots import graft, selection
from builder.snapshots.snapshot import FILE, FOLDER, SYMLINK, Entry, LayerId, parent_of
from builder.snapshots.tree import Tree
from tests.support.trees import NOW

NAMES = st.sampled_from(["a", "b", "ab"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.sampled_from(
    ["/", "/a", "/b", "/*", "/a*", "/*/a", "/a/b", "/a/*", "/?", "/a/./b", "/./a/b", "/a/./*"]
)
OPS = st.builds(
    Copy,
    st.lists(st.builds(PathItem, st.just(1), PATTERNS), min_size=1, max_size=2).map(tuple),
    st.sampled_from(["/d", "/d/", "/", "/link/", "/old", "/old/"]),
    chown=st.sampled_from(["", "", "7:8"]),
    chmod=st.sampled_from(["", "", "640", "g+w", "u+X"]),
    parents=st.booleans(),
    excludes=st.sampled_from([(), (), ("b",), ("**/a",), ("*", "!ab"), ("a/*",)]),
)
BELOW = Tree().plus(
    LayerId("below"),
    [
        Entry("link", SYMLINK, 0o777, link="old"),
        Entry("old", FOLDER, 0o755),
        Entry("old/a", FILE, 0o644, size=1, digest=of_bytes(b"0")),
    ],
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    kinds: dict[str, Entry] = {}
    for path in draw(st.lists(PATHS, max_size=5)):
        parents = []
        folder = path
        while (folder := parent_of(folder)) != ".":
            parents.append(folder)
        if path in kinds or any(p in kinds and kinds[p].kind != FOLDER for p in parents):
            continue
        for parent in parents:
            kinds.setdefault(parent, Entry(parent, FOLDER, 0o755))
        kind = draw(st.sampled_from([FILE, FILE, FILE, FOLDER, SYMLINK]))
        owner = draw(st.sampled_from([(0, 0), (1, 0), (0, 1)]))
        if kind == FILE:
            data = draw(st.sampled_from([b"0", b"1"]))
            mode = draw(st.sampled_from([0o644, 0o755, 0o4755]))
            entry = Entry(path, FILE, mode, *owner, 1, digest=of_bytes(data))
            if draw(st.booleans()):
                entry.xattrs = (("security.capability", data),)
        elif kind == FOLDER:
            entry = Entry(path, FOLDER, draw(st.sampled_from([0o755, 0o700])), *owner)
        else:
            entry = Entry(path, SYMLINK, 0o777, *owner, link=draw(st.sampled_from(["a", "../b", "/ab"])))
        files = [e for e in kinds.values() if e.kind == FILE and e.hardlink is None]
        if kind == FILE and files and draw(st.booleans()):
            entry = files[0].replace(path=path, hardlink=files[0].path)
        kinds[path] = entry
    return Tree().plus(LayerId("source"), sorted(kinds.values(), key=lambda e: e.path.split("/")))


def key_of(op: Copy, tree: Tree) -> str:
    """What the solver makes of it, below being the same."""
    select = Selection(
        tuple(item.pattern for item in op.items if isinstance(item, PathItem)),
        op.excludes,
        parents=op.parents,
        owners=not op.chown,
        modes=not OCTAL.fullmatch(op.chmod),
    )
    return of_value([op.plain(), selection.digest(tree, select, digest_of)])


def digest_of(layer: LayerId, entry: Entry) -> Any:
    return entry.digest


def layer_of(op: Copy, tree: Tree) -> list[Entry]:
    owner = (7, 8) if op.chown else None
    planned = graft.plan(op, BELOW, {1: tree}, owner, now=NOW, digest_of=digest_of)
    return [item.entry.replace(mtime=0) for item in planned]


def neighbours(tree: Tree) -> Iterator[Tree]:
    """The trees that differ from this one in one thing."""
    entries = [node.entry for node in tree.nodes.values()]
    for number, entry in enumerate(entries):
        others = [entry.replace(mode=entry.mode ^ 0o20), entry.replace(uid=3), entry.replace(gid=3)]
        if entry.kind == SYMLINK:
            others.append(entry.replace(link="other"))
        if entry.kind == FILE:
            others.append(entry.replace(digest=of_bytes(b"other"), hardlink=None))
            others.append(entry.replace(xattrs=(("security.capability", b"other"),)))
            others.append(entry.replace(hardlink=None))
        for other in others:
            yield Tree().plus(LayerId("source"), [*entries[:number], other, *entries[number + 1 :]])


@settings(max_examples=100, deadline=None)
@given(st.lists(OPS, min_size=1, max_size=3), trees(), trees())
def test_copies_with_one_key_lay_down_one_layer(ops: list[Copy], tree: Tree, another: Tree) -> None:
    seen: dict[str, tuple[list[Entry], Copy]] = {}
    for op in ops:
        for source in (tree, another, *neighbours(tree)):
            try:
                key, layer = key_of(op, source), layer_of(op, source)
            except BuildError:
                continue
            assert seen.setdefault(key, (layer, op))[0] == layer, (op, seen[key][1])

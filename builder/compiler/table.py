"""An ordered mapping of names, as values: each change gives a new one, which shares the rest. Pure.

A tree whose inner nodes are tuples and whose leaves are small dicts, walked by the bits of a name's hash: so
a change copies one path of it, and the states of ten thousand instructions are little more than the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

V = TypeVar("V")
BITS = 4
WIDTH = 1 << BITS
LEAF = 16  # names, from which on a leaf is parted
DEEPEST = 60  # bits of a hash; names that have all of them in common share a leaf
# A leaf has (rank, (name, value)) by name: ranks are unique, and they are the table's order.
Entry = tuple[int, tuple[str, V]]
Leaf = dict[str, Entry[V]]
Node = Any  # Leaf[V] | tuple[Node, ...]


class Table(Mapping[str, V]):
    """Names in order with their values; never changes. Finding and setting one take O(log n)."""

    __slots__ = ("_grown", "_items", "_length", "_next", "_root")

    def __init__(self, items: Iterable[tuple[str, V]] = ()) -> None:
        self._root: Node = {}
        self._length = self._next = 0
        self._items: tuple[tuple[str, V], ...] | None = None
        # Where only the last item is new: the others, and that one. It spares sorting them all.
        self._grown: tuple[tuple[tuple[str, V], ...], tuple[str, V]] | None = None
        for name, value in items:
            self._set(name, value, moves=False)

    def put(self, name: str, value: V) -> Table[V]:
        """The table with a value for a name, which keeps its place if it had one."""
        return self._with(name, value, moves=False)

    def with_all(self, items: Iterable[tuple[str, V]]) -> Table[V]:
        """The table with values for several names, as `put` sets them."""
        table = self._copy()
        for name, value in items:
            table._set(name, value, moves=False)
        return table

    def put_last(self, name: str, value: V) -> Table[V]:
        """The table with a value for a name, which comes last now."""
        return self._with(name, value, moves=True)

    def _with(self, name: str, value: V, *, moves: bool) -> Table[V]:
        table = self._copy()
        table._set(name, value, moves=moves)
        if len(table) > len(self) and self._items is not None:
            table._grown = self._items, (name, value)
        return table

    def _copy(self) -> Table[V]:
        table: Table[V] = Table()
        table._root, table._length, table._next = self._root, self._length, self._next
        return table

    def _set(self, name: str, value: V, *, moves: bool) -> None:
        known = self._find(name)
        rank = self._next if known is None or moves else known[0]
        self._root = _changed(self._root, 0, name, (rank, (name, value)))
        self._length += known is None
        self._next += 1

    def _find(self, name: str) -> Entry[V] | None:
        node, bits = self._root, hash(name)
        while type(node) is tuple:
            node = node[bits % WIDTH]
            bits >>= BITS
        found: Entry[V] | None = node.get(name)
        return found

    def __getitem__(self, name: str) -> V:
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return found[1][1]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or the default."""
        found = self._find(name)
        return default if found is None else found[1][1]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs())

    def pairs(self) -> tuple[tuple[str, V], ...]:
        """All names with their values, in order; put together once."""
        if self._items is None and self._grown is not None:
            others, last = self._grown
            self._items, self._grown = (*others, last), None
        if self._items is None:
            entries = sorted(entry for leaf in _leaves(self._root) for entry in leaf.values())
            self._items = tuple(pair for _, pair in entries)
        return self._items


def _changed(node: Node, depth: int, name: str, entry: Entry[Any]) -> Node:
    """A node with an entry more, or another one, for a name."""
    place = (hash(name) >> depth) % WIDTH
    if type(node) is tuple:
        return (*node[:place], _changed(node[place], depth + BITS, name, entry), *node[place + 1 :])
    leaf = {**node, name: entry}
    return leaf if len(leaf) <= LEAF or depth >= DEEPEST else _parted(leaf, depth)


def _parted(leaf: Leaf[Any], depth: int) -> tuple[Node, ...]:
    parts: list[Leaf[Any]] = [{} for _ in range(WIDTH)]
    for name, entry in leaf.items():
        parts[(hash(name) >> depth) % WIDTH][name] = entry
    return tuple(parts)


def _leaves(root: Node) -> Iterator[Leaf[Any]]:
    pending = [root]
    while pending:
        node = pending.pop()
        if type(node) is tuple:
            pending += node
        else:
            yield node

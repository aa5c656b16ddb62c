"""A row that grows at its end, as values: each has what was before it in common with the others. Pure.

So what thousands of instructions come to, one after another, takes no more memory than the last of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Chain(Generic[T]):
    """Items in order; never changes. Adding one takes the same time however many there are."""

    __slots__ = ("_before", "_last", "_length")

    def __init__(self, items: Iterable[T] = (), *, before: Chain[T] | None = None) -> None:
        self._before = before
        self._last = tuple(items)
        self._length = len(self._last) + (len(before) if before is not None else 0)

    def added(self, item: T) -> Chain[T]:
        """The row with one more item at its end."""
        return Chain((item,), before=self)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        pieces: list[tuple[T, ...]] = []
        row: Chain[T] | None = self
        while row is not None:
            pieces.append(row._last)
            row = row._before
        return (item for piece in reversed(pieces) for item in piece)

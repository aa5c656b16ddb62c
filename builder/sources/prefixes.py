"""Which part of a context COPY's patterns can reach, so that the rest need not be walked.

A pattern's part before its first wildcard is a path; all below what it leads to may be copied. A symlink on
the way, or one that a wildcard can match, makes what it leads to wanted too. More is never wrong, only
slower, so what is hard to tell is wanted. Pure; on the path of a fully cached build.
"""

from __future__ import annotations

from builder.snapshots.patterns import clean, has_wildcards
from builder.snapshots.snapshot import SYMLINK, Entry, parent_of
from builder.snapshots.tree import MAX_LINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Wanted:
    """The wanted paths: each whole, with the names beside it (to tell what may have been meant)."""

    __slots__ = ("_above", "_roots", "_rounds", "_wild")

    def __init__(self, patterns: Sequence[str]) -> None:
        self._roots: set[str] = set()
        self._above: set[str] = set()
        self._wild = False
        self._rounds = 0
        for pattern in patterns:
            # A pivot needs no care: what --parents names lies where the pattern without it says.
            literal: list[str] = []
            for part in clean("/" + pattern)[1:].split("/"):
                if has_wildcards(part) or "\\" in part:
                    self._wild = True
                    break
                literal.append(part)
            self._want("/".join(literal) or ".")

    def _want(self, path: str) -> bool:
        if path in self._roots:
            return False
        self._roots.add(path)
        while path != ".":
            path = parent_of(path)
            self._above.add(path)
        return True

    def may_need(self, path: str) -> bool:
        """Whether the path itself is to be read: it is on the way, wanted, or beside such."""
        return parent_of(path) in self._above or self.holds(path)

    def looks_into(self, folder: str) -> bool:
        """Whether the folder's contents are to be read."""
        return folder in self._above or self.holds(folder)

    def holds(self, path: str) -> bool:
        """Whether the path is wanted, and with it all that is below."""
        while path not in self._roots:
            if path == ".":
                return False
            path = parent_of(path)
        return True

    def follow(self, entries: Iterable[Entry]) -> bool:
        """Want what the symlinks among these lead to, where they count; True if that is news."""
        self._rounds += 1
        if self._rounds > MAX_LINKS:
            return False
        news = False
        for entry in entries:
            if entry.kind == SYMLINK and self._counts(entry.path):
                base = "/" if entry.link.startswith("/") else f"/{parent_of(entry.path)}/"
                target = clean(base + entry.link)[1:] or "."
                if not self.holds(target):
                    news = self._want(target) or news
        return news

    def _counts(self, path: str) -> bool:
        on_the_way = path in self._above or path in self._roots
        return on_the_way or (self._wild and self.holds(path))

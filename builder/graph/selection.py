"""A selection: which paths of an input count, and so give a vertex its key by their content.

Plain data, and on the path of a fully cached build: nothing is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Selection:
    """What one vertex takes from one input.

    patterns: absolute paths in the input, wildcards allowed (Go's path.Match, one per source);
    excludes: patterns in .dockerignore's syntax, relative to a source folder;
    parents: keep the source's parent folders (COPY --parents);
    owners: whether the entries' owners count (not where --chown replaces them);
    modes: whether permission bits count (not where an octal --chmod replaces them);
    wildcards: whether the patterns are patterns at all (a bind mount's source is not).
    """

    __slots__ = ("excludes", "modes", "owners", "parents", "patterns", "wildcards")

    def __init__(
        self,
        patterns: tuple[str, ...],
        excludes: tuple[str, ...] = (),
        *,
        parents: bool = False,
        owners: bool = True,
        modes: bool = True,
        wildcards: bool = True,
    ) -> None:
        self.patterns = patterns
        self.excludes = excludes
        self.parents = parents
        self.owners = owners
        self.modes = modes
        self.wildcards = wildcards

    def plain(self) -> list[Any]:
        """As plain data: for digests and for the disk."""
        return [
            list(self.patterns),
            list(self.excludes),
            self.parents,
            self.owners,
            self.modes,
            self.wildcards,
        ]

    @classmethod
    def from_plain(cls, data: list[Any]) -> Selection:
        """The inverse of `plain`."""
        patterns, excludes, parents, owners, modes, wildcards = data
        return cls(
            tuple(patterns), tuple(excludes), parents=parents, owners=owners, modes=modes, wildcards=wildcards
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.plain() == other.plain()

    def __hash__(self) -> int:
        return hash((self.patterns, self.excludes, self.parents, self.owners, self.modes, self.wildcards))

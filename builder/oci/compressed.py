"""How a layer is compressed, as a value: a kind, and a level of it.

Apart from what compresses (`compression`), because the path of a fully cached build asks for it by name.
"""

from __future__ import annotations

from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["gzip", "estargz", "zstd", "none"]

LEVELS = {"gzip": range(10), "estargz": range(10), "zstd": range(23), "none": range(1)}


class Compression:
    """How a layer is compressed; level None is the kind's own default. Not to be changed.

    gzip levels 1-3 are isal's (the default is its 2), 0 and 4-9 are zlib's, and so are those of estargz,
    which is gzip in pieces (see `estargz`); zstd has 1-22, and 0 is its default. Raises UsageError for a kind
    or a level that there is not.
    """

    __slots__ = ("kind", "level")

    def __init__(self, kind: Kind = "gzip", level: int | None = None) -> None:
        self.kind = kind
        self.level = level
        levels = LEVELS.get(kind)
        if levels is None:
            raise UsageError(f"unknown compression {kind!r}", hint="use gzip, estargz, zstd or uncompressed")
        if level is not None and kind != "none" and level not in levels:
            raise UsageError(f"compression level {level} of {kind} is not in {levels[0]}-{levels[-1]}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compression) and (self.kind, self.level) == (other.kind, other.level)

    def __hash__(self) -> int:
        return hash((self.kind, self.level))

    def __repr__(self) -> str:
        return f"Compression({self.kind!r}, {self.level!r})"

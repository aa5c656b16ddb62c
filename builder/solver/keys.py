"""Cache keys: what names a result before it exists.

A key is the digest of the op and of its inputs, each by its own key, or by the content of the part
that is selected. None poisons: a vertex with an input of unknown key has none itself.

On the path of a fully cached build: plain data in, plain data out.
"""

from __future__ import annotations

from builder.digest import Digest, of_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def combine(op: Digest | None, inputs: Iterable[Digest | None]) -> Digest | None:
    """The key of an op over inputs that are known by these keys or content digests."""
    known = list(inputs)
    if op is None or None in known:
        return None
    return of_value([op, known])


def late_name(op: Digest) -> Digest:
    """An op's name in keys that hold the content of its inputs, and not what these were made of."""
    return of_value(["late", op])

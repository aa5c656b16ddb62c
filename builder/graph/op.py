"""The Op protocol: what a vertex does, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

W = TypeVar("W", contravariant=True)
R = TypeVar("R")


class Op(Protocol[W, R]):
    """One output per op: a filesystem.

    `plain` is the op as plain data (see `digest.of_value`): equal data, equal op. It holds the op's
    name and version, and all that its result depends on but its inputs. None: the result is not known
    from the definition (a build context), so consumers must select content or have no early key. An op
    whose class says that it `writes` makes files of which the time may be bounded.
    """

    def plain(self) -> list[Any] | None: ...

    async def run(self, worker: W, inputs: Sequence[R]) -> R: ...

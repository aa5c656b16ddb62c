"""The variables of a stage, as a value: what its words and its RUNs see. Pure.

Three tables, the later ones hiding the earlier: ARGs of the stages below, the image's variables as the stage
met them, and what its own instructions have set. In that order programs get them; so opening a stage looks
only at what the stage below it has set itself, however many variables there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.compiler.table import Table

NOTHING: Table[str] = Table()


class Variables(Mapping[str, str]):
    """Names and values in the order they were set; never changes.

    size: the characters that they take when a program is given them (`NAME=VALUE`, and an end, each).
    """

    __slots__ = ("_below", "_env", "_nul", "_own", "_pairs", "size")

    def __init__(
        self, below: Table[str] = NOTHING, env: Table[str] = NOTHING, own: Table[str] = NOTHING, size: int = 0
    ) -> None:
        self._below, self._env, self._own = below, env, own
        self._pairs: tuple[tuple[str, str], ...] | None = None
        self._nul = False  # whether one that was set holds a NUL, perhaps one that is hidden now
        self.size = size

    def assigned(self, name: str, value: str) -> Variables:
        """The variables with one set, which comes last now."""
        before = self.get(name)
        size = self.size + _length(name, value) - (0 if before is None else _length(name, before))
        variables = Variables(self._below, self._env, self._own.put_last(name, value), size)
        variables._nul = self._nul or "\0" in name or "\0" in value
        return variables

    def opened(self, env: Table[str]) -> Variables:
        """What a stage meets that stands on this one: the image's variables come last, and win over ARGs.

        `env` has all that the image had before, and what ENV has set since.
        """
        if env is self._env and not self._own:
            return self
        below, size = self._below, self.size
        for name, value in self._own.pairs():
            if name in env:
                size += len(env[name]) - len(value)
            else:
                below = below.put_last(name, value)
        nul = self._nul
        if not self.size:  # the first of a row of stages, so these are new
            size = sum(_length(name, value) for name, value in env.pairs())
            nul = any("\0" in text for pair in env.pairs() for text in pair)
        variables = Variables(below, env, NOTHING, size)
        variables._nul = nul
        return variables

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or the default."""
        for table in (self._own, self._env, self._below):
            value = table.get(name)
            if value is not None:
                return value
        return default

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs())

    def __len__(self) -> int:
        return len(self.pairs())

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All names with their values, in order; put together once."""
        if self._pairs is None:
            own, env = self._own.pairs(), self._env.pairs()
            hidden = {name for name, _ in own}
            kept = [pair for pair in env if pair[0] not in hidden]
            hidden.update(name for name, _ in env)
            self._pairs = (*(pair for pair in self._below.pairs() if pair[0] not in hidden), *kept, *own)
        return self._pairs

    def with_nul(self) -> tuple[str, ...]:
        """The names and values that hold a NUL, which no program can be given."""
        if not self._nul:
            return ()
        return tuple(text for pair in self.pairs() for text in pair if "\0" in text)


def _length(name: str, value: str) -> int:
    return len(name) + len(value) + 2

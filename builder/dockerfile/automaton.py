"""What a grammar without recursion comes to: states, and which terminal leads from one to which.

`grammar` has Lark analyse the grammar and puts down here what it finds; nothing else is needed to read a
line. In each state only the terminals that can stand there are looked for, in the order that Lark gives them.

Pure. It never knows what a terminal or a line means.
"""

from __future__ import annotations

import re

import msgspec

END = "$END"  # as Lark calls the end of a text
ACCEPTED = -1  # where it leads


class Token(msgspec.Struct, frozen=True):
    """A stretch of a line, and the terminal that it is."""

    kind: str
    text: str
    start: int
    end: int


class Misfit(Exception):
    """A line that does not fit.

    at: from where on, its length if it ends too early; expected: the terminals that could stand there.
    """

    def __init__(self, at: int, expected: frozenset[str]) -> None:
        super().__init__(f"at {at} there is none of {', '.join(sorted(expected))}")
        self.at = at
        self.expected = expected


class State(msgspec.Struct, frozen=True, array_like=True):
    """`pattern` is the number of what is looked for, `moves` are where each terminal leads."""

    pattern: int
    moves: dict[str, int]


class Automaton(msgspec.Struct, dict=True):
    """As plain data.

    starts: the state for each start symbol; patterns: regular expressions with a group for each terminal;
    ignored: the terminals that may stand anywhere; dropped: those that say nothing more once they are found.
    """

    starts: dict[str, int]
    patterns: list[str]
    states: list[State]
    ignored: frozenset[str]
    dropped: frozenset[str]

    def __post_init__(self) -> None:
        # Compiled when they are first needed: no file needs all of them, and each takes longer than a line.
        self._compiled: list[re.Pattern[str] | None] = [None] * len(self.patterns)

    def read(self, text: str, start: str) -> list[Token]:
        """The tokens of a line that `start` stands for. Raises Misfit."""
        at, end = 0, len(text)
        state = self.states[self.starts[start]]
        tokens: list[Token] = []
        while at < end:
            found = (self._compiled[state.pattern] or self._compile(state.pattern)).match(text, at)
            if found is None or (kind := found.lastgroup) is None:
                raise Misfit(at, frozenset(state.moves))
            begun, at = at, found.end()
            if kind in self.ignored:
                continue
            if kind not in state.moves:
                raise Misfit(begun, frozenset(state.moves))
            state = self.states[state.moves[kind]]
            if kind not in self.dropped:
                tokens.append(Token(kind, found[0], begun, at))
        if END not in state.moves:
            raise Misfit(end, frozenset(state.moves))
        return tokens

    def _compile(self, number: int) -> re.Pattern[str]:
        compiled = re.compile(self.patterns[number])
        self._compiled[number] = compiled
        return compiled

"""The wildcards of `${name#pattern}`, `${name%pattern}` and `${name/pattern/new}`: `*` and `?`. Pure.

A pattern is run as a set of states, one bit each, so that the time is bounded by text times pattern
whatever the pattern: no backtracking. Neither wildcard matches a newline. A backslash makes `*`, `?` and
itself plain; before `}` and `/` it was needed to write them and is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

STAR, ANY = "*", "?"
MAX_PATTERN = 4096  # characters; a step of the match takes as long as there are


class PatternError(ValueError):
    """A pattern cannot be read."""


def cut_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without the shortest (or longest) beginning that matches. Raises PatternError."""
    end = _pick(_Machine(_read(pattern)).ends(value, 0), longest=longest)
    return value if end is None else value[end:]


def cut_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without the shortest (or longest) end that matches. Raises PatternError."""
    end = _pick(_Machine(_read(pattern)[::-1]).ends(value[::-1], 0), longest=longest)
    return value if end is None else value[: len(value) - end]


def part(value: str, pattern: str, *, every: bool) -> list[str]:
    """What is left between the matches: leftmost first, each as long as can be. Raises PatternError."""
    tokens = _read(pattern)
    machine = _Machine(tokens)
    pieces: list[str] = []
    kept = free = 0
    for start in _Machine(tokens[::-1]).starts(value):
        if start < free:
            continue
        end = _pick(machine.ends(value, start), longest=True)
        if end is None or (end == start == kept and pieces):
            continue  # an empty match that touches the one before it is none
        pieces.append(value[kept:start])
        kept, free = end, max(end, start + 1)
        if not every:
            break
    return [*pieces, value[kept:]]


def _pick(ends: Iterator[int], *, longest: bool) -> int | None:
    found: int | None = None
    for end in ends:
        if not longest:
            return end
        found = end
    return found


def _read(pattern: str) -> list[tuple[str, str]]:
    """The pattern as (kind, character) pairs; a plain character has the kind ""."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"a pattern is longer than {MAX_PATTERN} characters")
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\":
            following = pattern[at : at + 1]
            if following in ("}", "/"):
                continue
            if following not in ("*", "?", "\\"):
                raise PatternError(f"invalid escape \\{following} in the pattern {pattern}")
            tokens.append(("", following))
            at += 1
        elif char == STAR:
            if not tokens or tokens[-1][0] != STAR:
                tokens.append((STAR, ""))
        else:
            tokens.append((ANY, "") if char == ANY else ("", char))
    return tokens


class _Machine:
    """Bit n of a state: the first n tokens are matched."""

    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self.stars = sum(1 << n for n, (kind, _) in enumerate(tokens) if kind == STAR)
        self.anys = sum(1 << n for n, (kind, _) in enumerate(tokens) if kind == ANY)
        self.plain: dict[str, int] = {}
        for n, (kind, char) in enumerate(tokens):
            if not kind:
                self.plain[char] = self.plain.get(char, 0) | 1 << n
        self.final = 1 << len(tokens)
        self.first = self._close(1)

    def _close(self, state: int) -> int:
        return state | (state & self.stars) << 1

    def _step(self, state: int, char: str) -> int:
        moved = (state & self.plain.get(char, 0)) << 1
        if char != "\n":
            moved |= (state & self.anys) << 1 | state & self.stars
        return self._close(moved)

    def ends(self, text: str, start: int) -> Iterator[int]:
        """Where a match that starts there can end, nearest first."""
        state = self.first
        if state & self.final:
            yield start
        for at in range(start, len(text)):
            state = self._step(state, text[at])
            if not state:
                return
            if state & self.final:
                yield at + 1

    def starts(self, text: str) -> Iterator[int]:
        """Of a machine of the reversed pattern: where matches in the text can start, leftmost first."""
        found = [len(text)] if self.first & self.final else []
        state = self.first
        for at in range(len(text) - 1, -1, -1):
            state = self._step(state, text[at]) | self.first
            if state & self.final:
                found.append(at)
        return reversed(found)

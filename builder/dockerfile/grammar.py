"""The grammar (grammar/*.lark), one for each escape character, as an automaton.

Lark analyses it: which terminals there are and which goes before which, and the states of an LALR parser.
No instruction is recursive, so the stacks that such a parser can come to are few, and each is a state of an
automaton, which reads a line several times as fast. Lark's import and analysis take longer than all else that
stands before the first step of a build, so the caller may lend a cache, which keeps the automaton as plain
JSON under the digest of all that it depends on. Only here Lark is imported, and only where something has to
be analysed; the grammar's files are all that this package reads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import msgspec

from builder.digest import Digest, of_value
from builder.dockerfile.automaton import ACCEPTED, END, Automaton, State

if TYPE_CHECKING:
    from lark import Lark
    from lark.parsers.lalr_analysis import IntParseTable

KIND = "grammars"
VERSION = 1  # of what is kept
MOST_STATES = 10_000
# A grammar that was made stays for the life of the process.
_MADE: dict[str, Automaton] = {}

Stack = tuple[int, ...]


class Analyses(Protocol):
    """What keeps texts under names; the solver's cache is one."""

    def recall(self, kind: str, name: Digest) -> str | None: ...

    def remember(self, kind: str, name: Digest, text: str) -> str: ...


def grammar(escape: str, keywords: tuple[str, ...], kept: Analyses | None = None) -> Automaton:
    """The grammar under one escape character, with a start symbol for each keyword."""
    if escape not in _MADE:
        _MADE[escape] = _make(escape, keywords) if kept is None else _recalled(escape, keywords, kept)
    return _MADE[escape]


def _recalled(escape: str, keywords: tuple[str, ...], kept: Analyses) -> Automaton:
    name = _name(escape, keywords)
    text = kept.recall(KIND, name)
    if text is not None:
        try:
            return msgspec.json.decode(text, type=Automaton)
        except msgspec.DecodeError:
            pass  # it was cut short, or is something else
    made = _make(escape, keywords)
    kept.remember(KIND, name, msgspec.json.encode(made).decode())
    return made


def _name(escape: str, keywords: tuple[str, ...]) -> Digest:
    """The digest of what is analysed, and how; which Lark did it is no part of what a grammar means."""
    texts = []
    for path in _files(escape):
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    return of_value([VERSION, list(keywords), texts])


def _make(escape: str, keywords: tuple[str, ...]) -> Automaton:
    return flatten(analyse(escape, keywords))


def analyse(escape: str, keywords: tuple[str, ...]) -> Lark:
    """The grammar as Lark makes it."""
    from lark import Lark

    main, terminals = _files(escape)
    with open(main, encoding="utf-8") as file:
        return Lark(
            file,
            parser="lalr",
            start=[keyword.lower() for keyword in keywords],
            import_paths=[os.path.dirname(terminals)],
            maybe_placeholders=False,
        )


def flatten(analysed: Lark) -> Automaton:
    """The automaton of an analysis. Raises ValueError where the grammar is recursive."""
    table: IntParseTable = analysed.parser.parser.parser.parse_table
    lexers = analysed.parser.lexer.lexers
    numbers: dict[Stack, int] = {(state,): number for number, state in enumerate(table.start_states.values())}
    ends = {start: table.end_states[name] for name, start in table.start_states.items()}
    waiting: list[Stack] = list(numbers)
    patterns: dict[str, int] = {}
    states = []
    for stack in waiting:  # which grows meanwhile
        moves = {}
        for kind in filter(str.isupper, table.states[stack[-1]]):
            after = _shifted(table, ends[stack[0]], stack, str(kind))
            if after and after not in numbers:
                numbers[after] = len(numbers)
                waiting.append(after)
            if after is not None:
                moves[str(kind)] = numbers[after] if after else ACCEPTED
        pattern = "|".join(f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in lexers[stack[-1]].terminals)
        states.append(State(patterns.setdefault(pattern, len(patterns)), moves))
        if len(states) > MOST_STATES:
            raise ValueError("the grammar is recursive")
    return Automaton(
        {name: numbers[(start,)] for name, start in table.start_states.items()},
        list(patterns),
        states,
        ignored=frozenset(map(str, analysed.ignore_tokens)),
        dropped=_dropped(analysed),
    )


def _dropped(analysed: Lark) -> frozenset[str]:
    """The terminals that Lark would leave out of a tree."""
    from lark.grammar import Terminal

    symbols = [symbol for rule in analysed.rules for symbol in rule.expansion]
    return frozenset(str(s.name) for s in symbols if isinstance(s, Terminal) and s.filter_out)


def _shifted(table: IntParseTable, end: int, stack: Stack, kind: str) -> Stack | None:
    """The stack after a terminal; empty if the line ends well with it, None if it cannot stand there."""
    from lark.parsers.lalr_analysis import Shift

    while True:
        action, target = table.states[stack[-1]].get(kind, (None, None))
        if action is None:
            return None
        if action is Shift:
            return (*stack, target)
        stack = stack[: len(stack) - len(target.expansion)]
        stack = (*stack, table.states[stack[-1]][target.origin.name][1])
        if kind == END and stack[-1] == end:
            return ()


def _files(escape: str) -> tuple[str, str]:
    """The grammar's two files: beside this package in an installed wheel, beside `builder` in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "grammar")
    folder = inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "grammar")
    terminals = os.path.join(folder, "backtick" if escape == "`" else "backslash", "escape.lark")
    return os.path.join(folder, "dockerfile.lark"), terminals

"""The automaton reads as Lark does; it is kept, and what was kept reads as what was made."""

from __future__ import annotations

import sys
from functools import cache

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from builder.digest import Digest
from builder.dockerfile import grammar
from builder.dockerfile.automaton import Automaton, Misfit
from builder.dockerfile.parser import KEYWORDS, read
from builder.text import SourceText

LINES = {
    "from": "FROM --platform=linux/arm64 debian:12 AS base",
    "run": "RUN --mount=type=cache,target=/c make",
    "copy": 'COPY --chown=1:1 ["a b", "/c"]',
    "healthcheck": "HEALTHCHECK --interval=5s CMD true",
}
PIECES = [
    " ", "\t", "\xa0", "\x1f", "--a", "--b=c", '--"d e"', "--", "A=b", "A", "c d", "as", "AS", "none", "cmd",
    '["x", "y"]', "[", "]", '"', "'", "\\", "`", "\\ ", "$V", "é", "\udcff", "=", "#",
]  # fmt: skip
ESCAPES = ("\\", "`")
Found = list[tuple[str, str, int]] | int


@cache
def analysed(escape: str) -> Lark:
    return grammar.analyse(escape, KEYWORDS)


@cache
def flattened(escape: str) -> Automaton:
    return grammar.flatten(analysed(escape))


class Kept:
    """Texts in a dict; `recalled` are the names asked for."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, Digest], str] = {}

    def recall(self, kind: str, name: Digest) -> str | None:
        return self.texts.get((kind, name))

    def remember(self, kind: str, name: Digest, text: str) -> str:
        return self.texts.setdefault((kind, name), text)


def by_lark(lark: Lark, text: str, start: str) -> Found:
    """What Lark finds in a line, or where it stops."""
    try:
        tree = lark.parse(text, start=start)
    except UnexpectedCharacters as error:
        return error.pos_in_stream
    except UnexpectedToken as error:
        at = error.token.start_pos or 0
        return len(text) if error.token.type == "$END" else at
    tokens = tree.scan_values(lambda _: True)
    return [(token.type, str(token), token.start_pos) for token in tokens]


def by_automaton(automaton: Automaton, text: str, start: str) -> Found:
    """What the automaton finds in a line, or where it stops."""
    try:
        return [(token.kind, token.text, token.start) for token in automaton.read(text, start)]
    except Misfit as error:
        return error.at


@given(st.sampled_from(KEYWORDS), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=500, deadline=None)
def test_the_automaton_finds_what_lark_finds(keyword: str, rest: str) -> None:
    for escape in ESCAPES:
        found = by_lark(analysed(escape), keyword + rest, keyword.lower())
        event("refused" if isinstance(found, int) else "read")

        assert by_automaton(flattened(escape), keyword + rest, keyword.lower()) == found


def test_a_token_has_its_place() -> None:
    flag, *words = flattened("\\").read(LINES["copy"], "copy")

    assert (flag.kind, flag.start, flag.end) == ("FLAG", 5, 16)
    assert [(word.kind, word.text) for word in words] == [("ARRAY", '["a b", "/c"]')]


def test_a_grammar_with_recursion_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "MOST_STATES", 100)
    nested = Lark('start: "(" start ")" | "x"', parser="lalr", start=["start"])

    with pytest.raises(ValueError, match="recursive"):
        grammar.flatten(nested)


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_kept_analysis_reads_as_a_new_one(escape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    made = grammar._recalled(escape, KEYWORDS, kept)

    monkeypatch.setattr(grammar, "_make", lambda *_: pytest.fail("analysed again"))
    recalled = grammar._recalled(escape, KEYWORDS, kept)

    assert recalled == made
    for start, line in LINES.items():
        assert recalled.read(line, start) == made.read(line, start) != []


def test_what_was_analysed_once_is_read_without_lark(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    grammar._recalled("\\", KEYWORDS, kept)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lark"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(grammar, "_MADE", {})

    found = read(SourceText("Dockerfile", "FROM a\nCOPY a\nRUN make\n"), kept)

    assert [error.code for error in found.errors] == ["incomplete"]
    assert [bool(line.instruction) for line in found.lines] == [True, False, True]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"starts": {}, "patterns": []}', '{"starts": 1'])
def test_a_damaged_analysis_is_made_anew(text: str) -> None:
    kept = Kept()
    name = grammar._name("\\", KEYWORDS)
    kept.texts[grammar.KIND, name] = text

    made = grammar._recalled("\\", KEYWORDS, kept)

    assert made.read(LINES["run"], "run")


def test_each_escape_has_an_analysis_of_its_own() -> None:
    assert grammar._name("\\", KEYWORDS) != grammar._name("`", KEYWORDS)

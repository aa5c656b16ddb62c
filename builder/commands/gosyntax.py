"""docker's `--format` templates as trees: the syntax of Go's text/template, and nothing of what it means.

A template is a list of parts: texts, pipes, branches (if, with, range), uses of other templates, and jumps
(break, continue). What is no template is a UsageError that names the part. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from builder.errors import UsageError

_ACTION = re.compile(
    r"""\{\{(-\s)?((?:(?>"(?:[^"\\\n]|\\.)*"|`[^`]*`|/\*.*?\*/|.))*?)(\s-)?\}\}""", re.DOTALL
)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\\n]|\\.|\n)*"|`[^`]*`)
    | (?P<letter>'(?:[^'\\\n]|\\[^\n]+?)')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?))
    | (?P<dotted>(?:\$\w*)?(?:\.[A-Za-z_]\w*)+|\$\w*|\.)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<sign>[(),|])
    )""",
    re.VERBOSE,
)
_DECLARED = re.compile(r"\s*(\$\w+)(?:\s*,\s*(\$\w+))?\s*(:?=)(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_ESCAPED = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_WORD = re.compile(r"\s*(\w*)\s*(.*)", re.DOTALL)
MAX_NUMBER = 100  # characters
LARGEST = 1 << 63  # what a whole number is below


class Token(NamedTuple):
    """kind: string, letter, number, dotted, name or sign; text: as written."""

    kind: str
    text: str


class Pipe(NamedTuple):
    """Commands, each given what the one before it came to; each is its terms. text: as written.

    names: the variables that it gives its value to; anew: they are made here, and not only changed.
    """

    commands: tuple[tuple[Any, ...], ...]
    text: str
    names: tuple[str, ...] = ()
    anew: bool = True


class Access(NamedTuple):
    """Fields of what a pipe in parentheses comes to."""

    pipe: Pipe
    fields: tuple[str, ...]


class Branch(NamedTuple):
    """kind: if, with or range."""

    kind: str
    pipe: Pipe
    body: list[Any]
    other: list[Any]


class Use(NamedTuple):
    """Another template, given what a pipe comes to; without one it is given nothing."""

    name: str
    pipe: Pipe | None


class Jump(NamedTuple):
    """break or continue."""

    kind: str


class Syntax(NamedTuple):
    """parts: of the template itself; named: of those that it defines."""

    parts: list[Any]
    named: dict[str, list[Any]]


def read(text: str) -> Syntax:
    """A template's tree. Raises UsageError."""
    try:
        return _Reader(text).read()
    except RecursionError:
        raise UsageError("--format: the template is nested too deeply") from None


def fault(what: str, text: str, hint: str | None = None) -> UsageError:
    """What is wrong with an action."""
    return UsageError(f"--format {{{{{text.strip()}}}}}: {what}", hint=hint)


class _Reader:
    """Cuts a template into texts and actions, and nests them."""

    def __init__(self, text: str) -> None:
        self._pieces = list(_pieces(text))
        self._at = 0
        self._named: dict[str, list[Any]] = {}

    def read(self) -> Syntax:
        parts, ended = self._block(top=True)
        if ended:
            raise fault("there is nothing that it would end", ended)
        return Syntax(parts, self._named)

    def _block(self, *, top: bool = False, looped: bool = False) -> tuple[list[Any], str]:
        """The parts up to an `else` or `end`, and what that says."""
        parts: list[Any] = []
        while self._at < len(self._pieces):
            is_action, text = self._pieces[self._at]
            self._at += 1
            if not is_action:
                parts.append(text)
                continue
            word, rest = _first_word(text)
            if word in ("end", "else"):
                return parts, text.strip()
            if word == "define" and not top:
                raise fault("a template is defined in no other part", text)
            parts += self._action(word, rest, text, looped=looped)
        if not top:
            raise UsageError("--format: an {{if}}, {{with}}, {{range}} or {{define}} has no {{end}}")
        return parts, ""

    def _action(self, word: str, rest: str, text: str, *, looped: bool) -> list[Any]:
        """What an action is as a part of the tree."""
        if word in ("if", "with", "range"):
            return [self._branch(word, rest, looped=looped)]
        if word in ("break", "continue"):
            if not looped or rest.strip():
                raise fault(f"{word} stands alone, and in a range", text)
            return [Jump(word)]
        if word == "define":
            name, further = _name(rest, text)
            if further:
                raise fault(f"{further!r} is not expected", text)
            self._named[name] = self._body()
            return []
        if word in ("template", "block"):
            name, further = _name(rest, text)
            if word == "block":
                self._named.setdefault(name, self._body())
            return [Use(name, _parse_pipe(further) if further else None)]
        return [] if text.strip().startswith("/*") else [_parse_pipe(text)]

    def _body(self) -> list[Any]:
        body, ended = self._block()
        if ended != "end":
            raise fault("an {{end}} is wanted here", ended)
        return body

    def _branch(self, kind: str, condition: str, *, looped: bool) -> Branch:
        pipe = _parse_pipe(condition)
        if len(pipe.names) > 1 and kind != "range":
            raise fault("two variables are there in range alone", condition)
        body, ended = self._block(looped=looped or kind == "range")
        other: list[Any] = []
        if ended.startswith("else"):
            further = ended.removeprefix("else").strip()
            if further:
                word, rest = _first_word(further)
                if word not in ("if", "with"):
                    raise fault("an else goes with if or with", ended)
                return Branch(kind, pipe, body, [self._branch(word, rest, looped=looped)])
            other, ended = self._block(looped=looped)
        if ended != "end":
            raise fault("an {{end}} is wanted here", ended)
        return Branch(kind, pipe, body, other)


def _first_word(text: str) -> tuple[str, str]:
    """The word that an action begins with, "" where it begins with none, and what is behind it."""
    found = _WORD.fullmatch(text)
    return (found[1], found[2].rstrip()) if found else ("", text)


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """(is an action, its text), white space cut off where an action says so."""
    at, cut = 0, False
    for found in _ACTION.finditer(text):
        before = text[at : found.start()]
        if "{{" in before:
            raise UsageError(f"--format {before}: a {{{{ has no }}}}")
        before = before.lstrip() if cut else before
        yield False, before.rstrip() if found[1] else before
        yield True, found[2]
        at, cut = found.end(), bool(found[3])
    rest = text[at:]
    if "{{" in rest:
        raise UsageError(f"--format {rest}: a {{{{ has no }}}}")
    yield False, rest.lstrip() if cut else rest


def _name(text: str, action: str) -> tuple[str, str]:
    """The name of a template, which is a string, and what is behind it."""
    found = _TOKEN.match(text)
    if found is None or found["string"] is None:
        raise fault("the name of a template is wanted, in quotes", action)
    _check(Token("string", found["string"]), action)
    return text_in(found["string"]), text[found.end() :].strip()


def _parse_pipe(text: str) -> Pipe:
    names: tuple[str, ...] = ()
    anew, told = True, text
    if declared := _DECLARED.fullmatch(text):
        names = tuple(name for name in declared.group(1, 2) if name)
        anew, told = declared[3] == ":=", declared[4]
    tokens = _tokens(told)
    pipe, left = _pipe(tokens, text)
    if left:
        raise fault(f"{left[0].text!r} is not expected", text)
    return pipe._replace(names=names, anew=anew)


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise fault(f"{text[at:].strip()[:20]!r} is not understood", text)
        kind, word = match.lastgroup, match[match.lastgroup]
        if kind == "dotted" and found and found[-1].text == ")" and match.start(kind) == at:
            kind = "access"  # (…).Field: a blank would part them
        found.append(Token(kind, word))
        _check(found[-1], text)
        at = match.end()
    return found


def _check(token: Token, text: str) -> None:
    """Whether a number, a string or a letter is one. Raises UsageError."""
    if token.kind in _READERS:
        try:
            _READERS[token.kind](token.text)
        except ValueError as error:
            told = token.text[:20] + ("…" if token.text[20:] else "")
            raise fault(f"{told} {error}", text) from None


def _pipe(tokens: Sequence[Token], text: str) -> tuple[Pipe, Sequence[Token]]:
    commands: list[tuple[Any, ...]] = []
    terms: list[Any] = []
    while tokens and tokens[0].text != ")":
        token, tokens = tokens[0], tokens[1:]
        if token == Token("sign", "|"):
            commands.append(tuple(terms))
            terms = []
        elif token == Token("sign", "("):
            inner, tokens = _pipe(tokens, text)
            if not tokens:
                raise fault("a ( has no )", text)
            tokens = tokens[1:]
            if tokens and tokens[0].kind == "access":
                terms.append(Access(inner, tuple(tokens[0].text[1:].split("."))))
                tokens = tokens[1:]
            else:
                terms.append(inner)
        elif token.kind == "sign":
            raise fault(f"{token.text!r} is not expected", text)
        else:
            terms.append(token)
    commands.append(tuple(terms))
    if not all(commands):
        raise fault("a value is missing", text)
    return Pipe(tuple(commands), text), tokens


def number_in(text: str) -> int | float:
    """A number as Go writes one: 12, 0x1f, 0b1, 017, 1.5, 1e3. Raises ValueError for what is none."""
    plain = text.replace("_", "")
    if len(plain) > MAX_NUMBER:
        raise ValueError("is too long for a number")
    try:
        octal = re.fullmatch(r"[+-]?0[0-7]+", plain)
        number = int(plain, 8 if octal else 0) if not re.search(r"^[^xX]*[.eE]", plain) else float(plain)
    except ValueError:
        raise ValueError("is no number") from None
    if not (-LARGEST <= number < LARGEST if isinstance(number, int) else isfinite(number)):
        raise ValueError("is too large for a number")
    return number


def letter_in(literal: str) -> int:
    """The number of a letter in its quotes. Raises ValueError."""
    text = text_in(literal)
    if len(text) != 1:
        raise ValueError("is more than a letter")
    return ord(text) if is_letter(ord(text)) else ord(text) - 0xDC00


def text_in(literal: str) -> str:
    """The text of a string in its quotes. Raises ValueError for an escape that means nothing.

    Bytes that are no UTF-8 are as `surrogateescape` has them.
    """
    if literal.startswith("`"):
        return literal[1:-1]
    text = _ESCAPE.sub(_unescaped, literal[1:-1])
    return text.encode(errors="surrogateescape").decode(errors="surrogateescape")


def _unescaped(found: re.Match[str]) -> str:
    told = found[1]
    if len(told) == 1:
        if told not in _ESCAPED:
            raise ValueError(f"has \\{told}, which means nothing")
        return _ESCAPED[told]
    number = int(told[1:], 16) if told[0] in "xuU" else int(told, 8)
    if told[0] in "uU":
        if not is_letter(number):
            raise ValueError(f"has \\{told}, which is no letter")
        return chr(number)
    if number > 255:
        raise ValueError(f"has \\{told}, which is no byte")
    return bytes([number]).decode(errors="surrogateescape")


def is_letter(number: int) -> bool:
    """Whether Unicode has, or could have, a letter of this number."""
    return 0 <= number < 0xD800 or 0xDFFF < number < 0x110000


_READERS: Mapping[str, Callable[[str], object]] = {
    "number": number_in,
    "string": text_in,
    "letter": letter_in,
}

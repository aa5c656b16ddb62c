"""docker's `--format` templates: the part of Go's text/template that such formats are made of.

    {{.Name}} {{.Config.Env}} {{$.Id}} {{.}}        fields, nested, of the whole, the value itself
    {{json .X}} {{index .X 0}} {{.X | join ","}}    functions (see `gofunctions`), pipes, parentheses
    {{(index .X 0).Name}}                           fields of what is in parentheses
    {{if .X}}…{{else if .Y}}…{{else}}…{{end}}       and {{with .X}}…{{end}}
    {{range .X}}…{{end}}  {{range $k, $v := .X}}…{{end}}
    {{- … -}} {{/* … */}}                           white space cut off, comments

What else Go has is an error that says so, and so is a field that is not there: a template never gives half
of what was asked for. Errors are UsageErrors that name the template's part. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from builder.commands.flags import nearest
from builder.commands.gofunctions import FUNCTIONS, NO_VALUE, Function, Misuse, Nil, text_of
from builder.errors import UsageError

_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\\n]|\\.|\n)*"|`[^`]*`)
    | (?P<number>-?\d+(?:\.\d+)?)
    | (?P<dotted>(?:\$\w*)?(?:\.[A-Za-z_]\w*)+|\$\w*|\.)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<sign>:=|[(),|])
    )""",
    re.VERBOSE,
)
_NOT_THERE = ("define", "template", "block", "break", "continue")
_LITERALS = {"true": True, "false": False, "nil": None}
# Fields of an image that are maps: one of their keys that is not there has no value, and is no mistake.
MAPS = frozenset({"Labels", "Annotations", "Volumes", "ExposedPorts", "annotations"})


class Token(NamedTuple):
    """kind: string, number, dotted, name or sign; text: as written."""

    kind: str
    text: str


class Pipe(NamedTuple):
    """Commands, each given what the one before it came to; each is its terms. text: as written."""

    commands: tuple[tuple[Any, ...], ...]
    text: str


class Access(NamedTuple):
    """Fields of what a pipe in parentheses comes to."""

    pipe: Pipe
    fields: tuple[str, ...]


class Branch(NamedTuple):
    """kind: if, with or range; names: what range calls key and value, or the value alone."""

    kind: str
    pipe: Pipe
    names: tuple[str, ...]
    body: list[Any]
    other: list[Any]


class Template:
    """A template that has been read. `headings`: of its fields a table's heading is to be made."""

    def __init__(self, text: str) -> None:
        """Raises UsageError for what is no template, or uses what is not there."""
        self._parts = _Reader(text).read()

    def render(self, data: object, functions: Mapping[str, Function] = FUNCTIONS) -> str:
        """The text for some data. Raises UsageError for a field that it has not."""
        return "".join(_written(self._parts, data, {"$": data}, functions))


def _fault(what: str, text: str, hint: str | None = None) -> UsageError:
    return UsageError(f"--format {{{{{text.strip()}}}}}: {what}", hint=hint)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


class _Reader:
    """Cuts a template into texts and actions, and nests them."""

    def __init__(self, text: str) -> None:
        self._pieces = list(_pieces(text))
        self._at = 0

    def read(self) -> list[Any]:
        parts, ended = self._block(top=True)
        if ended:
            raise _fault("there is nothing that it would end", ended)
        return parts

    def _block(self, *, top: bool = False) -> tuple[list[Any], str]:
        """The parts up to an `else` or `end`, and what that says."""
        parts: list[Any] = []
        while self._at < len(self._pieces):
            is_action, text = self._pieces[self._at]
            self._at += 1
            if not is_action:
                parts.append(text)
                continue
            word, _, rest = text.strip().partition(" ")
            if word in ("end", "else"):
                return parts, text.strip()
            if word in ("if", "with", "range"):
                parts.append(self._branch(word, rest))
            elif word in _NOT_THERE:
                raise _fault(f"{word} is not available in templates here", text)
            elif not text.strip().startswith("/*"):
                parts.append(_parse_pipe(text))
        if not top:
            raise UsageError("--format: an {{if}}, {{with}} or {{range}} has no {{end}}")
        return parts, ""

    def _branch(self, kind: str, condition: str) -> Branch:
        names: tuple[str, ...] = ()
        if ":=" in condition:
            declared, _, condition = condition.partition(":=")
            names = tuple(name.strip() for name in declared.split(","))
            if kind != "range" or len(names) > 2 or not all(re.fullmatch(r"\$\w+", n) for n in names):
                raise _fault("variables are there in range alone: range $key, $value := .X", condition)
        pipe = _parse_pipe(condition)
        body, ended = self._block()
        other: list[Any] = []
        if ended.startswith("else"):
            further = ended.removeprefix("else").strip()
            if further:
                word, _, rest = further.partition(" ")
                if word not in ("if", "with"):
                    raise _fault("an else goes with if or with", ended)
                other = [self._branch(word, rest)]
                return Branch(kind, pipe, names, body, other)
            other, ended = self._block()
        if ended != "end":
            raise _fault("an {{end}} is wanted here", ended)
        return Branch(kind, pipe, names, body, other)


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


def _parse_pipe(text: str) -> Pipe:
    tokens = _tokens(text)
    pipe, left = _pipe(tokens, text)
    if left:
        raise _fault(f"{left[0].text!r} is not expected", text)
    return pipe


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _fault(f"{text[at:].strip()[:20]!r} is not understood", text)
        kind, word = match.lastgroup, match[match.lastgroup]
        if kind == "dotted" and found and found[-1].text == ")" and match.start(kind) == at:
            kind = "access"  # (…).Field: a blank would part them
        found.append(Token(kind, word))
        at = match.end()
    return found


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
                raise _fault("a ( has no )", text)
            tokens = tokens[1:]
            if tokens and tokens[0].kind == "access":
                terms.append(Access(inner, tuple(tokens[0].text[1:].split("."))))
                tokens = tokens[1:]
            else:
                terms.append(inner)
        elif token.kind == "sign":
            raise _fault(f"{token.text!r} is not expected", text)
        else:
            terms.append(token)
    commands.append(tuple(terms))
    if not all(commands):
        raise _fault("a value is missing", text)
    return Pipe(tuple(commands), text), tokens


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────


def _written(
    parts: Sequence[Any], here: object, names: Mapping[str, object], functions: Mapping[str, Function]
) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, Pipe):
            yield text_of(_value(part, here, names, functions))
        else:
            yield from _branched(part, here, names, functions)


def _branched(
    branch: Branch, here: object, names: Mapping[str, object], functions: Mapping[str, Function]
) -> Iterator[str]:
    value = _value(branch.pipe, here, names, functions)
    if not value or value == NO_VALUE:
        yield from _written(branch.other, here, names, functions)
    elif branch.kind == "range":
        for key, item in _items(value, branch.pipe.text):
            told = (key, item) if len(branch.names) == 2 else (item,)
            inner = {**names, **dict(zip(branch.names, told, strict=False))}
            yield from _written(branch.body, item, inner, functions)
    else:
        yield from _written(branch.body, value if branch.kind == "with" else here, names, functions)


def _items(value: object, text: str) -> list[tuple[object, object]]:
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    raise _fault(f"range over {text_of(value)}: it is neither a list nor a map", text)


def _value(
    pipe: Pipe, here: object, names: Mapping[str, object], functions: Mapping[str, Function]
) -> object:
    piped: tuple[object, ...] = ()
    for first, *others in pipe.commands:
        rest = [_term(term, here, names, functions, pipe.text) for term in others]
        if isinstance(first, Token) and first.kind == "name" and first.text not in _LITERALS:
            value = _call(first.text, [*rest, *piped], functions, pipe.text)
        elif rest or piped:
            raise _fault("only a function can be given values", pipe.text)
        else:
            value = _term(first, here, names, functions, pipe.text)
        piped = (value,)
    return piped[0]


def _call(name: str, values: list[object], functions: Mapping[str, Function], text: str) -> object:
    function = functions.get(name)
    if function is None:
        raise _fault(f"there is no function {name}", text, nearest(name, functions))
    try:
        return function(*values)
    except Misuse as error:
        raise _fault(str(error), text) from error
    except TypeError as error:
        raise _fault(f"{name} does not take {len(values)} values of this kind", text) from error


def _term(
    term: Any, here: object, names: Mapping[str, object], functions: Mapping[str, Function], text: str
) -> object:
    if isinstance(term, Pipe):
        return _value(term, here, names, functions)
    if isinstance(term, Access):
        return _fields(_value(term.pipe, here, names, functions), term.fields, text)
    match term.kind:
        case "string":
            return _string(term.text, text)
        case "number":
            return float(term.text) if "." in term.text else int(term.text)
        case "name":
            if term.text in _LITERALS:
                return _LITERALS[term.text]
            return _call(term.text, [], functions, text)
    start, *fields = term.text.split(".")
    if start and start not in names:
        raise _fault(f"the variable {start} is not set", text)
    return _fields(names[start] if start else here, [field for field in fields if field], text)


def _fields(value: object, fields: Sequence[str], text: str) -> object:
    parent = ""
    for field in fields:
        value = _field(value, field, parent, text)
        parent = field
    return value


def _field(value: object, name: str, parent: str, text: str) -> object:
    if isinstance(value, Nil) or value == NO_VALUE:
        return NO_VALUE
    if not isinstance(value, Mapping):
        raise _fault(f".{name}: {text_of(value)!r} has no fields", text)
    if name in value:
        found = value[name]
        return Nil("map[]" if name in MAPS else "[]") if found is None else found
    if parent in MAPS:
        return NO_VALUE
    known = nearest(name, map(str, value))
    raise _fault(f"there is no field .{name}", text, known or f"the fields are {', '.join(sorted(value))}")


def _string(text: str, action: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    try:
        return str(json.loads(text.replace("\n", "\\n").replace("\t", "\\t")))
    except ValueError:
        raise _fault(f"{text} is no string", action) from None

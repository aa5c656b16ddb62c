"""docker's `--format` templates: what Go's text/template makes of them, over plain data.

    {{.Name}} {{.Config.Env}} {{$.Id}} {{.}}        fields, nested, of the whole, the value itself
    {{json .X}} {{index .X 0}} {{.X | join ","}}    functions (see `gofunctions`), pipes, parentheses
    {{(index .X 0).Name}}                           fields of what is in parentheses
    {{if .X}}…{{else if .Y}}…{{else}}…{{end}}       and {{with .X}}…{{end}}
    {{range .X}}…{{end}}  {{range $k, $v := .X}}…{{end}}  {{break}} {{continue}}
    {{$x := .X}} {{$x = 2}} {{$x.Name}}             variables, up to the end of their block
    {{define "t"}}…{{end}} {{template "t" .}} {{block "t" .}}…{{end}}
    {{- … -}} {{/* … */}}                           white space cut off, comments

A field that is not there is an error: a template never gives half of what was asked for. Errors are
UsageErrors that name the template's part. `gosyntax` reads templates. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.commands.flags import nearest
from builder.commands.gofunctions import FUNCTIONS, Function
from builder.commands.gosyntax import (
    Access,
    Branch,
    Jump,
    Pipe,
    Token,
    Use,
    fault,
    letter_in,
    number_in,
    read,
    text_in,
)
from builder.commands.govalues import NO_VALUE, Misuse, Nil, Struct, text_of
from builder.errors import UsageError

_LITERALS = {"true": True, "false": False, "nil": None}
# Fields of an image that are maps: one of their keys that is not there has no value, and is no mistake.
MAPS = frozenset({"Labels", "Annotations", "Volumes", "ExposedPorts", "annotations"})
MAX_DEPTH = 100  # templates that use each other
MAX_COUNT = 1 << 20


class Template:
    """A template that has been read."""

    def __init__(self, text: str) -> None:
        """Raises UsageError for what is no template."""
        self._syntax = read(text)

    def render(self, data: object, functions: Mapping[str, Function] = FUNCTIONS) -> str:
        """The text for some data. Raises UsageError for a field that it has not, or what is misused."""
        rendering = _Rendering(self._syntax.named, functions)
        try:
            return "".join(rendering.written(self._syntax.parts, data, _Scope(None, {"$": data})))
        except RecursionError:
            raise UsageError("--format: the template is nested too deeply") from None


class _Jumped(Exception):
    """A break or continue on its way to its range."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Scope:
    """The variables of a block, and those around it."""

    def __init__(self, outer: _Scope | None, names: dict[str, object]) -> None:
        self._outer = outer
        self.names = names

    def inner(self) -> _Scope:
        """One of a block in this."""
        return _Scope(self, {})

    def holder(self, name: str) -> dict[str, object] | None:
        """Where a variable is."""
        scope: _Scope | None = self
        while scope is not None and name not in scope.names:
            scope = scope._outer
        return scope.names if scope is not None else None


class _Rendering:
    """One pass over some data. `_depth`: of templates that use each other."""

    def __init__(self, named: Mapping[str, list[Any]], functions: Mapping[str, Function]) -> None:
        self._named = named
        self._functions = functions
        self._depth = 0

    def written(self, parts: Sequence[Any], here: object, scope: _Scope) -> Iterator[str]:
        """The texts of parts, one after the other."""
        for part in parts:
            if isinstance(part, str):
                yield part
            elif isinstance(part, Pipe):
                value = self._value(part, here, scope)
                if part.names:
                    self._set(part, (value,), scope)
                else:
                    yield text_of(value)
            elif isinstance(part, Use):
                yield from self._used(part, here, scope)
            elif isinstance(part, Jump):
                raise _Jumped(part.kind)
            else:
                yield from self._branched(part, here, scope.inner())

    def _used(self, use: Use, here: object, scope: _Scope) -> Iterator[str]:
        if use.name not in self._named:
            raise UsageError(
                f"--format: no template {use.name!r} is defined", hint=nearest(use.name, self._named)
            )
        if self._depth == MAX_DEPTH:
            raise UsageError(f"--format: template {use.name!r} uses itself without end")
        data = self._value(use.pipe, here, scope) if use.pipe is not None else NO_VALUE
        self._depth += 1
        yield from self.written(self._named[use.name], data, _Scope(None, {"$": data}))
        self._depth -= 1

    def _branched(self, branch: Branch, here: object, scope: _Scope) -> Iterator[str]:
        value = self._value(branch.pipe, here, scope)
        if branch.kind == "range":
            yield from self._ranged(branch, value, here, scope)
            return
        self._set(branch.pipe, (value,), scope)
        if not value or value == NO_VALUE:
            yield from self.written(branch.other, here, scope)
        else:
            yield from self.written(branch.body, value if branch.kind == "with" else here, scope)

    def _ranged(self, branch: Branch, value: object, here: object, scope: _Scope) -> Iterator[str]:
        if not value or value == NO_VALUE:
            yield from self.written(branch.other, here, scope)
            return
        for key, item in _items(value, branch.pipe.text):
            inner = scope.inner()
            self._set(branch.pipe, (key, item) if len(branch.pipe.names) == 2 else (item,), inner)
            try:
                yield from self.written(branch.body, item, inner)
            except _Jumped as jump:
                if jump.kind == "break":
                    return

    def _set(self, pipe: Pipe, values: Sequence[object], scope: _Scope) -> None:
        for name, value in zip(pipe.names, values, strict=False):
            names = scope.names if pipe.anew else scope.holder(name)
            if names is None:
                raise fault(f"the variable {name} is not set", pipe.text)
            names[name] = value

    def _value(self, pipe: Pipe, here: object, scope: _Scope) -> object:
        piped: tuple[object, ...] = ()
        for first, *others in pipe.commands:
            if isinstance(first, Token) and first.kind == "name" and first.text not in _LITERALS:
                if first.text in ("and", "or"):
                    value = self._either(first.text, others, piped, here, scope, pipe.text)
                else:
                    rest = [self._term(term, here, scope, pipe.text) for term in others]
                    value = self._call(first.text, [*rest, *piped], pipe.text)
            elif others or piped:
                raise fault("only a function can be given values", pipe.text)
            else:
                value = self._term(first, here, scope, pipe.text)
            piped = (value,)
        return piped[0]

    def _either(
        self,
        name: str,
        terms: Sequence[Any],
        piped: tuple[object, ...],
        here: object,
        scope: _Scope,
        text: str,
    ) -> object:
        """`and` and `or`: what is behind the term that decides is not looked at."""
        value: object = None
        if not terms and not piped:
            raise fault(f"{name} does not take 0 values", text)
        for term in terms:
            value = self._term(term, here, scope, text)
            if _is_true(value) == (name == "or"):
                return value
        return piped[0] if piped else value

    def _call(self, name: str, values: list[object], text: str) -> object:
        function = self._functions.get(name)
        if function is None:
            raise fault(f"there is no function {name}", text, nearest(name, self._functions))
        try:
            return function(*values)
        except Misuse as error:
            raise fault(str(error), text) from error
        except TypeError as error:
            raise fault(f"{name} does not take {len(values)} values of this kind", text) from error

    def _term(self, term: Any, here: object, scope: _Scope, text: str) -> object:
        if isinstance(term, Pipe):
            return self._value(term, here, scope)
        if isinstance(term, Access):
            return _fields(self._value(term.pipe, here, scope), term.fields, text)
        match term.kind:
            case "string":
                return text_in(term.text)
            case "letter":
                return letter_in(term.text)
            case "number":
                return number_in(term.text)
            case "name":
                if term.text in _LITERALS:
                    return _LITERALS[term.text]
                return self._call(term.text, [], text)
        start, *fields = term.text.split(".")
        names = scope.holder(start) if start else {"": here}
        if names is None:
            raise fault(f"the variable {start} is not set", text)
        return _fields(names[start], [field for field in fields if field], text)


def _is_true(value: object) -> bool:
    return bool(value) and value != NO_VALUE


def _items(value: object, text: str) -> list[tuple[object, object]]:
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        if value > MAX_COUNT:
            raise fault(f"range over {value}: that is too many", text)
        return [(number, number) for number in range(value)]
    raise fault(f"range over {text_of(value)}: it is neither a list nor a map", text)


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
        raise fault(f".{name}: {text_of(value)!r} has no fields", text)
    if name in value:
        found = value[name]
        return Nil("map[]" if name in MAPS else "[]") if found is None else found
    if isinstance(value, Struct) and name in value.absent:
        return value.absent[name]
    if parent in MAPS:
        return NO_VALUE
    known = nearest(name, map(str, value))
    raise fault(f"there is no field .{name}", text, known or f"the fields are {', '.join(sorted(value))}")

"""The grammar (grammar/*.lark), one for each escape character, as Lark makes it.

Lark takes ten times as long to analyse a grammar as to take up what an analysis gave, and longer than all
else that stands before the first step of a build. So the caller may lend a cache, which keeps the analysis
as plain JSON under the digest of all that it depends on. Lark is imported only here and in `parser`, and
only once something is parsed; the grammar's files are all that this package reads.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from builder.digest import Digest, of_value

if TYPE_CHECKING:
    from lark import Lark

KIND = "grammars"
# A grammar that was made stays for the life of the process.
_MADE: dict[str, Lark] = {}


class Analyses(Protocol):
    """What keeps texts under names; the solver's cache is one."""

    def recall(self, kind: str, name: Digest) -> str | None: ...

    def remember(self, kind: str, name: Digest, text: str) -> str: ...


def grammar(escape: str, keywords: tuple[str, ...], kept: Analyses | None = None) -> Lark:
    """The grammar under one escape character, with a start symbol for each keyword."""
    if escape not in _MADE:
        _MADE[escape] = _make(escape, keywords) if kept is None else _recalled(escape, keywords, kept)
    return _MADE[escape]


def _make(escape: str, keywords: tuple[str, ...]) -> Lark:
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


def _recalled(escape: str, keywords: tuple[str, ...], kept: Analyses) -> Lark:
    name = _name(escape, keywords)
    text = kept.recall(KIND, name)
    if text is not None and (known := _decode(text)) is not None:
        return known
    made = _make(escape, keywords)
    kept.remember(KIND, name, _encode(made))
    return made


def _name(escape: str, keywords: tuple[str, ...]) -> Digest:
    """The digest of all that an analysis depends on."""
    import lark

    texts = []
    for path in _files(escape):
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    return of_value([lark.__version__, list(sys.version_info[:2]), list(keywords), texts])


def _encode(made: Lark) -> str:
    """The analysis as JSON. Numbers that are keys become texts, as JSON has it."""
    from lark.grammar import Rule
    from lark.lexer import TerminalDef

    data, memo = made.memo_serialize([TerminalDef, Rule])
    return json.dumps({"data": data, "memo": memo}, separators=(",", ":"))


def _decode(text: str) -> Lark | None:
    """The grammar of an analysis; None for a text that holds none."""
    from lark import Lark

    try:
        return Lark.load(json.loads(text, object_hook=_with_numbers))
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError):
        return None


def _with_numbers(found: dict[str, Any]) -> dict[Any, Any]:
    """An object as it was: its keys are all numbers, or none is."""
    if next(iter(found), "").isdigit():
        return {int(key): value for key, value in found.items()}
    return found


def _files(escape: str) -> tuple[str, str]:
    """The grammar's two files: beside this package in an installed wheel, beside `builder` in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "grammar")
    folder = inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "grammar")
    terminals = os.path.join(folder, "backtick" if escape == "`" else "backslash", "escape.lark")
    return os.path.join(folder, "dockerfile.lark"), terminals

"""JSON by what the interpreter has built in: for the path of a fully cached build.

The package `json` makes regular expressions when it is imported, and loads `re` for that: a fifth of such a
build. Its C parts do all the work, and are called here as it calls them. On an interpreter that has none, or
has them otherwise, `json` itself is used.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Encoder = Callable[[object], str]
    Plain = Callable[[object], object]
    Separators = tuple[str, str]

SPACE = " \t\n\r"


def loads(text: str | bytes) -> Any:
    """The value that a JSON text (UTF-8 where it is bytes) stands for. Raises ValueError, RecursionError."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogatepass")
    text = text.strip(SPACE)
    try:
        value, end = _scan(text, 0)
    except (StopIteration, SystemError):  # the latter, where it finds no `json` to take its own error from
        end = -1
    if end != len(text):
        import json

        return json.loads(text)  # which tells what is wrong
    return value


def dumps(value: object, *, compact: bool = False, ascii_only: bool = True, sort_keys: bool = False) -> str:
    """Plain data as JSON; compact: without a space between. Raises TypeError for what is none."""
    return encoder(compact=compact, ascii_only=ascii_only, sort_keys=sort_keys)(value)


def encoder(
    *, compact: bool = False, ascii_only: bool = True, sort_keys: bool = False, plain: Plain | None = None
) -> Encoder:
    """What `dumps` does, for who calls it often. plain: makes plain data of what is none."""
    separators = (",", ":") if compact else (", ", ": ")
    made: Encoder = _make_encoder(separators, ascii_only, sort_keys, plain or _refuse)
    return made


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is no plain data")


def _load_c() -> tuple[Any, Any]:
    """(scan, make_encoder) by the interpreter's own parts. Raises ImportError, AttributeError, TypeError."""
    import _json as parts

    if hasattr(sys, "gettotalrefcount"):
        raise ImportError("a debug build ends where the scanner finds no error to raise")

    class Context:
        strict = True
        object_hook = object_pairs_hook = array_hook = None
        parse_float, parse_int = float, int
        parse_constant = float

    c: Any = parts
    scan, text_of = c.make_scanner(Context), (c.encode_basestring, c.encode_basestring_ascii)

    def make_encoder(
        separators: Separators, ascii_only: bool, sort_keys: bool, plain: Plain = _refuse
    ) -> Encoder:
        item, key = separators
        pieces = c.make_encoder(None, plain, text_of[ascii_only], None, key, item, sort_keys, False, True)
        return lambda value: "".join(pieces(value, 0))

    tried = make_encoder((",", ":"), True, True)({"b": [1, None], "a": "é"})
    if tried != '{"a":"\\u00e9","b":[1,null]}':
        raise ImportError("the interpreter's JSON does something else")
    return scan, make_encoder


def _load_package() -> tuple[Any, Any]:
    """The same by the package."""
    import json

    def make_encoder(
        separators: Separators, ascii_only: bool, sort_keys: bool, plain: Plain = _refuse
    ) -> Encoder:
        return json.JSONEncoder(
            ensure_ascii=ascii_only,
            separators=separators,
            sort_keys=sort_keys,
            check_circular=False,
            default=plain,
        ).encode

    decoder: Any = json.JSONDecoder()
    return decoder.scan_once, make_encoder


try:
    _scan, _make_encoder = _load_c()
except (ImportError, AttributeError, TypeError):
    _scan, _make_encoder = _load_package()

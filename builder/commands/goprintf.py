"""printf of docker's templates: a format and its values, as Go's fmt has them.

    %[flags][width][.precision]verb    flags: - + # 0 and a blank; width, precision: digits, or * for a value
    v s q     values, texts, texts in quotes
    d x o b   whole numbers; x also of texts: their bytes
    c U       letters by their numbers
    e f g     fractions
    t %       true or false; a percent sign

What Go writes into the text (`%!d(string=x)`) is a Misuse here. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from builder.commands.gosyntax import is_letter
from builder.commands.govalues import Misuse, exactly, text_of

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d{1,4}|\*)?(?:\.(?P<precision>\*|\d{0,3}))?(?P<verb>.)?", re.S
)
MAX_WIDTH = 1_000_000  # as Go has it
MAX_PRECISION = 1000
KNOWN = "v, s, q, d, x, X, o, b, c, U, e, E, f, F, g, G, t and %"


class Spec(NamedTuple):
    """One verb: its flags, and its precision where it has one."""

    verb: str
    flags: str
    precision: int | None


def printf(form: object, *values: object) -> str:
    """The format with its values in their places. Raises Misuse."""
    left = list(values)

    def given(text: str, found: re.Match[str]) -> int | None:
        if text != "*":
            return int(text or 0)
        number = exactly(int, _next(left, found[0]), "* takes a whole number")
        if abs(number) > MAX_WIDTH:
            raise Misuse(f"printf: {number} is too wide")
        return number

    def written(found: re.Match[str]) -> str:
        if found["verb"] is None:
            raise Misuse(f"printf: {found[0]!r} has no verb")
        width = given(found["width"] or "", found) or 0
        precision = given(found["precision"], found) if found["precision"] is not None else None
        if precision is not None and not 0 <= precision < MAX_PRECISION:
            raise Misuse(f"printf: {precision} is no precision")
        if found["verb"] == "%":
            return "%"
        spec = Spec(found["verb"], found["flags"], precision)
        if spec.verb not in _WRITERS:
            raise Misuse(f"printf knows no {found[0]}: its verbs are {KNOWN}")
        value = _next(left, found[0])
        return _padded(_WRITERS[spec.verb](value, spec), width, spec, value)

    done = _VERB.sub(written, text_of(form))
    if left:
        raise Misuse("printf has more values than its format takes")
    return done


def _next(left: list[object], verb: str) -> object:
    if not left:
        raise Misuse(f"printf has no value for {verb}")
    return left.pop(0)


def _padded(shown: str, width: int, spec: Spec, value: object) -> str:
    if width < 0 or "-" in spec.flags:
        return shown.ljust(abs(width))
    if "0" in spec.flags and isinstance(value, int | float) and spec.verb not in "vsqc":
        sign = shown[:1] if shown[:1] in ("-", "+", " ") else ""
        return sign + shown[len(sign) :].rjust(width - len(sign), "0")
    return shown.rjust(width)


def _text(value: object, spec: Spec) -> str:
    if spec.verb == "v" and isinstance(value, int | float) and not isinstance(value, bool):
        return _signed(text_of(value), spec)
    shown = (
        json.dumps(value, ensure_ascii=False)
        if "#" in spec.flags and isinstance(value, str)
        else text_of(value)
    )
    return shown[: spec.precision]


def _quoted(value: object, spec: Spec) -> str:
    if isinstance(value, list | tuple):
        return "[" + " ".join(_quoted(item, spec) for item in value) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"'{_char(value)}'"
    return json.dumps(text_of(value)[: spec.precision], ensure_ascii=False)


def _whole(value: object, spec: Spec) -> str:
    if spec.verb in "xX" and isinstance(value, str):
        shown = value.encode(errors="surrogateescape").hex()
        return shown.upper() if spec.verb == "X" else shown
    number = exactly(int, value, f"%{spec.verb} takes a whole number")
    marks = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}
    mark = marks.get(spec.verb, "") if "#" in spec.flags else ""
    digits = format(abs(number), spec.verb).rjust(spec.precision or 0, "0")
    return _signed(("-" if number < 0 else "") + mark + digits, spec)


def _letter(value: object, spec: Spec) -> str:
    number = exactly(int, value, f"%{spec.verb} takes a whole number")
    if spec.verb == "c":
        return _char(number)
    if number < 0:
        raise Misuse(f"{number} is no letter")
    return f"U+{number:04X}"


def _char(number: int) -> str:
    """A letter by its number; where there is none, the one that says so."""
    return chr(number) if is_letter(number) else "\ufffd"


def _fraction(value: object, spec: Spec) -> str:
    number = exactly(float, value, f"%{spec.verb} takes a fraction")
    if spec.verb in "gG" and spec.precision is None:
        return _signed(text_of(number), spec)
    return _signed(format(number, f".{6 if spec.precision is None else spec.precision}{spec.verb}"), spec)


def _truth(value: object, _spec: Spec) -> str:
    return text_of(exactly(bool, value, "%t takes true or false"))


def _signed(shown: str, spec: Spec) -> str:
    sign = next((flag for flag in "+ " if flag in spec.flags), "")
    return shown if shown.startswith("-") else sign + shown


_WRITERS: Mapping[str, Callable[[object, Spec], str]] = {
    **dict.fromkeys("vs", _text),
    "q": _quoted,
    **dict.fromkeys("dxXob", _whole),
    **dict.fromkeys("cU", _letter),
    **dict.fromkeys("eEfFgG", _fraction),
    "t": _truth,
}

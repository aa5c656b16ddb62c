"""What must never be told: secrets' values, those of variables that sound secret, credentials in addresses.

A value is taken out wherever it stands in a text. One of few characters would stand in too many places that
do not mean it, so it is taken out only where it is the whole value. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from builder.compiler.remotes import redact
from builder.compiler.secretnames import sounds_secret

HIDDEN = "***"
SHORTEST = 4  # characters of what is looked for inside of texts
# Instructions that give variables their values, and values given in a command's words.
_GIVEN = re.compile(r"""^[ \t]*(?:ARG|ENV)[ \t]+((?:[^\\\n]|\\.|\\\n)*)""", re.IGNORECASE | re.MULTILINE)
_PAIR = re.compile(r"""([\w.-]+)=("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'$]+)""")
_UPPER = re.compile(r"""\b([A-Z][A-Z0-9_]*)=("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'$;&|)]+)""")
_OLD_FORM = re.compile(r"(\w+)[ \t]+(\S.*)", re.DOTALL)
_QUERY = re.compile(r"([?&]([^=&#\s]+)=)[^&#\s\"']+")
_SIGNED = frozenset(("sig", "signature", "x-amz-signature", "x-goog-signature", "x-amz-security-token"))


class Redactor:
    """Takes the given values, and credentials, out of texts; what comes out is valid UTF-8."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {value.strip() for value in values}
        found.discard("")
        self._whole = frozenset(found)
        self._known: dict[str, str] = {}  # variables are the same in many steps
        self._inside = sorted((v for v in found if len(v) >= SHORTEST), key=lambda v: (-len(v), v))

    def text(self, text: str) -> str:
        """The text with nothing in it that must not be told."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._cleaned(text)
        return known

    def _cleaned(self, text: str) -> str:
        if text.strip() in self._whole:
            return HIDDEN
        for value in self._inside:
            if value in text:
                text = text.replace(value, HIDDEN)
        if "://" in text:
            text = _QUERY.sub(_without_signature, redact(text))
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def variable(self, name: str, value: str) -> str:
        """A variable's value."""
        return HIDDEN if value and sounds_secret(name) else self.text(value)


def secrets_in(variables: Mapping[str, str]) -> list[str]:
    """The values of those variables that sound like secrets."""
    return [value for name, value in variables.items() if sounds_secret(name)]


def secrets_written(dockerfile: str) -> list[str]:
    """The values that a Dockerfile itself gives to variables that sound like secrets."""
    pairs = [match.groups() for match in _UPPER.finditer(dockerfile)]
    for instruction in _GIVEN.finditer(dockerfile):
        rest = instruction[1].replace("\\\n", " ")
        pairs += [match.groups() for match in _PAIR.finditer(rest)]
        if "=" not in rest.split(None, 1)[0] and (old := _OLD_FORM.match(rest)):
            pairs.append(old.groups())
    return [_unquoted(value) for name, value in pairs if sounds_secret(name)]


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _without_signature(match: re.Match[str]) -> str:
    name = match[2].lower()
    is_secret = name in _SIGNED or sounds_secret(name.replace("-", "_").replace(".", "_"))
    return match[1] + HIDDEN if is_secret else match[0]

"""Parts of keys as they are kept and shown: what is secret by its name left out, what is long cut.

A text that is not kept whole is an object {"shown": …, "tag": …}: equal texts have equal tags. The tag of a
secret's value is two bytes of its digest, from which nothing can be found out that the key itself does not
give away. Values of --secret are in no part of a key, so they never come here. Pure.
"""

from __future__ import annotations

import re
from typing import Any

from builder.compiler.remotes import redact
from builder.compiler.secretnames import sounds_secret
from builder.digest import hex_of, of_bytes

LONGEST = 4000  # characters of a text that is kept
HIDDEN = "***"
ASSIGNED = r"""\b([A-Za-z_][A-Za-z0-9_]*)=('[^']*'|"[^"]*"|[^\s;&|'"]+)"""


def veiled(parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of an op as they may be kept. `env order` goes, as the dict of variables has it too."""
    kept = {name: _veiled(value) for name, value in parts.items() if name not in ("env", "env order")}
    if "env" in parts:
        kept["env"] = {name: veiled_variable(name, value) for name, value in parts["env"].items()}
    if "env pairs" in kept:
        kept["env pairs"] = [[name, veiled_variable(name, value)] for name, value in parts["env pairs"]]
    return kept


def veiled_variable(name: str, value: str) -> str | dict[str, str]:
    """A variable's value as it may be kept."""
    if sounds_secret(name) and value:
        return {"shown": HIDDEN, "tag": _tag(value, 4)}
    return veiled_text(value)


def veiled_text(text: str) -> str | dict[str, str]:
    """A text as it may be kept: without credentials of addresses and values given to secret names."""
    shown = redact(re.sub(ASSIGNED, _without_secret, text)) if "=" in text or "://" in text else text
    if len(shown) > LONGEST:
        return {"shown": shown[:LONGEST] + "…", "tag": _tag(text, 16)}
    return text if shown == text else {"shown": shown, "tag": _tag(text, 4)}


def shown_of(value: Any) -> str:
    """What is to be shown of a kept value."""
    if isinstance(value, dict) and "shown" in value:
        return str(value["shown"])
    return value if isinstance(value, str) else str(value)


def is_hidden(value: Any) -> bool:
    """Whether of a kept value nothing is shown."""
    return isinstance(value, dict) and value.get("shown") == HIDDEN


def _veiled(value: Any) -> Any:
    if isinstance(value, str):
        return veiled_text(value)
    if isinstance(value, list):
        return [_veiled(item) for item in value]
    if isinstance(value, dict):
        return {name: _veiled(item) for name, item in value.items()}
    return value


def _without_secret(match: re.Match[str]) -> str:
    name = match.group(1)
    return f"{name}={HIDDEN}" if sounds_secret(name) else match.group(0)


def _tag(text: str, digits: int) -> str:
    return hex_of(of_bytes(text.encode("utf-8", "surrogatepass")))[:digits]

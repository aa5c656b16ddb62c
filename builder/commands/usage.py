"""Help texts: made from the flags, so that they cannot disagree. Loaded only to be printed."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable

from builder.commands.flags import Command, Flag

INDENT = 28


def render(command: Command) -> str:
    """A command's help: how it is called, what it does, its flags by group."""
    width = max(40, min(100, shutil.get_terminal_size().columns))
    parts = [f"Usage: {command.usage}", textwrap.fill(command.about, width)]
    groups: dict[str, list[Flag]] = {}
    for flag in command.flags:
        if flag.group:
            groups.setdefault(flag.group, []).append(flag)
    for group, members in groups.items():
        parts.append("\n".join([f"{group}:", *(_line(flag, width) for flag in members)]))
    if command.closing:
        parts.append(command.closing)
    return "\n\n".join(parts) + "\n"


def table(rows: Iterable[tuple[str, str]], width: int = 16) -> str:
    """Names and what they are, in two columns."""
    return "\n".join(f"  {name:<{width}} {text}" for name, text in rows)


def _line(flag: Flag, width: int) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    left = f"  {short}--{flag.name}" + (f" {flag.metavar}" if flag.metavar else "")
    text = textwrap.wrap(flag.help, max(20, width - INDENT), break_on_hyphens=False) or [""]
    if len(left) >= INDENT - 1:
        text.insert(0, "")
    lines = [f"{left:<{INDENT}}{text[0]}".rstrip(), *(" " * INDENT + line for line in text[1:])]
    return "\n".join(lines)

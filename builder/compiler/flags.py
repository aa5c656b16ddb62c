"""The values of an instruction's flags. Pure; the parser has checked that they can be."""

from __future__ import annotations

from builder.dockerfile.ast import AnyInstruction


def switch(step: AnyInstruction, name: str, *, default: bool = False) -> bool:
    """The value of a boolean flag; a bare one is true."""
    value = step.flag(name)
    return default if value is None else value.lower() != "false"


def texts(step: AnyInstruction, name: str) -> tuple[str, ...]:
    """The values of a flag that may be given several times, in order."""
    return tuple(flag.value or "" for flag in step.flags if flag.name == name)

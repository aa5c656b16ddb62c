"""Where an error belongs: from an instruction to a place in the text.

An error is placed at the instruction's first line, or at the flag that is wrong; where that stands on a
continued line, the place tells at which line the instruction begins, too.
"""

from __future__ import annotations

from builder.dockerfile.ast import Instruction
from builder.errors import DockerfileError
from builder.text import Location, SourceText


def place(source: SourceText, step: Instruction, flag: str = "", value: str | None = None) -> Location:
    """The place of an instruction, or of a flag of it: the last of the name, or the one with this value."""
    for given in reversed(step.flags) if flag else ():
        if given.name == flag and value in (None, given.value):
            return Location(source, given.span, step.span.line)
    return Location(source, step.span)


def fault(
    location: Location | None,
    message: str,
    *,
    code: str = "dockerfile-error",
    hint: str | None = None,
    notes: tuple[str, ...] = (),
) -> DockerfileError:
    """An error of the Dockerfile at a place."""
    return DockerfileError(message, code=code, location=location, hint=hint, notes=notes)

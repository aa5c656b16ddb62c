"""Where an error belongs: from an instruction to a place in the text.

An error is placed at the instruction's first line; a flag is pointed at where it stands on that line
(a flag on a continued line is still shown by its instruction, whose line people know it by).
"""

from __future__ import annotations

from builder.dockerfile.ast import Instruction
from builder.errors import DockerfileError
from builder.text import Location, SourceText, Span


def place(source: SourceText, step: Instruction, span: Span | None = None) -> Location:
    """The place of an instruction, or of a part of it that stands on its first line."""
    if span is not None and span.line == step.span.line == span.last_line:
        return Location(source, span)
    return Location(source, step.span)


def fault(
    location: Location | None, message: str, *, code: str = "dockerfile-error", hint: str | None = None
) -> DockerfileError:
    """An error of the Dockerfile at a place."""
    return DockerfileError(message, code=code, location=location, hint=hint)

"""The stages of a Dockerfile: what is cut where, under which names and numbers. Pure.

A stage is known by its number and, where it has one, its name in lower case. Of two stages with one name
COPY means the last one overall, FROM the last one before it. Nothing is expanded here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from builder.compiler.flags import check_flags
from builder.compiler.places import fault, place
from builder.dockerfile.ast import AnyInstruction, Arg, Dockerfile, From
from builder.text import Location

NAME = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and what follows it. `name` is in lower case, "" for none."""

    number: int
    name: str
    start: From
    steps: tuple[AnyInstruction, ...]

    @property
    def shown(self) -> str:
        """The name as people are told it."""
        return self.name or f"stage-{self.number}"


@dataclass(frozen=True, slots=True)
class Parts:
    """A Dockerfile in parts: the ARGs before the first FROM, and the stages (at least one)."""

    globals: tuple[Arg, ...]
    stages: tuple[Stage, ...]


def read_stages(dockerfile: Dockerfile) -> Parts:
    """Cut a Dockerfile into its parts, all flags and names checked. Raises DockerfileError."""
    before: list[Arg] = []
    stages: list[tuple[From, list[AnyInstruction]]] = []
    for step in dockerfile.instructions:
        check_flags(step, dockerfile.source)
        if isinstance(step, From):
            stages.append((step, []))
        elif stages:
            stages[-1][1].append(step)
        elif isinstance(step, Arg):
            before.append(step)
        else:
            raise fault(
                place(dockerfile.source, step),
                f"{step.keyword} stands before the first FROM",
                code="no-stage",
                hint="only ARG may stand there",
            )
    if not stages:
        raise fault(
            None, f"{dockerfile.source.name} has no FROM, so there is nothing to build", code="no-stage"
        )
    return Parts(
        tuple(before),
        tuple(
            Stage(number, _name_of(start, place(dockerfile.source, start)), start, tuple(steps))
            for number, (start, steps) in enumerate(stages)
        ),
    )


def _name_of(start: From, location: Location) -> str:
    name = (start.name or "").lower()
    if name and not NAME.fullmatch(name):
        raise fault(
            location,
            f"stage name {start.name!r} must be a letter, then letters, digits, '.', '_' or '-'",
            code="bad-stage-name",
        )
    return name


def numbers_by_name(stages: tuple[Stage, ...]) -> dict[str, int]:
    """Each name's stage: the last one that has it."""
    return {stage.name: stage.number for stage in stages if stage.name}

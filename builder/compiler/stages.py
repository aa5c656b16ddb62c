"""The stages of a Dockerfile: what is cut where, under which names and numbers. Pure.

A stage is known by its number and, where it has one, its name in lower case. Of two stages with one name
COPY means the last one overall, FROM the last one before it. Nothing is expanded here.
"""

from __future__ import annotations

import msgspec

from builder.dockerfile.ast import AnyInstruction, Arg, Dockerfile, From


class Stage(msgspec.Struct, frozen=True):
    """A FROM and what follows it. `name` is in lower case, "" for none."""

    number: int
    name: str
    start: From
    steps: tuple[AnyInstruction, ...]

    @property
    def shown(self) -> str:
        """The name as people are told it."""
        return self.name or f"stage-{self.number}"


class Parts(msgspec.Struct, frozen=True):
    """A Dockerfile in parts: the ARGs before the first FROM, and the stages (at least one)."""

    globals: tuple[Arg, ...]
    stages: tuple[Stage, ...]


def read_stages(dockerfile: Dockerfile) -> Parts:
    """Cut a Dockerfile into its parts. The parser sees to it that there is a FROM, and only ARG before it."""
    before: list[Arg] = []
    stages: list[tuple[From, list[AnyInstruction]]] = []
    for step in dockerfile.instructions:
        if isinstance(step, From):
            stages.append((step, []))
        elif stages:
            stages[-1][1].append(step)
        elif isinstance(step, Arg):
            before.append(step)
    return Parts(
        tuple(before),
        tuple(
            Stage(number, (start.name or "").lower(), start, tuple(steps))
            for number, (start, steps) in enumerate(stages)
        ),
    )


def numbers_by_name(stages: tuple[Stage, ...]) -> dict[str, int]:
    """Each name's stage: the last one that has it."""
    return {stage.name: stage.number for stage in stages if stage.name}

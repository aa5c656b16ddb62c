"""What a change would run again: a program's steps, which files each one takes, and how long each one takes.

A step is run again if it takes a changed file, or is made on, or takes from, a step that is. Whether a stage
that was built again gives the same is not known beforehand; what a measurement has shown to be spared can be
told. What can run side by side does: a case takes as long as the longest chain of what runs. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.errors import BuildError
from builder.ops.source import MAIN_CONTEXT, Local
from builder.snapshots.matches import items, patterns_of, select

if TYPE_CHECKING:
    from builder.compiler.program import Program
    from builder.graph.definition import Vertex
    from builder.graph.selection import Selection
    from builder.snapshots.tree import Tree


@dataclass(frozen=True, slots=True)
class Step:
    """A vertex. files: the paths in the context that it takes; above: the numbers of what it is made of."""

    name: str
    stage: str
    line: int
    shown: bool
    files: frozenset[str]
    above: tuple[int, ...]
    digest: str = ""


def text_of(vertex: Vertex) -> str:
    """A vertex's label without its number: `RUN make`."""
    return vertex.about.label.partition("] ")[2] or vertex.about.label


@dataclass(slots=True)
class Model:
    """The steps of a program in their order, the target last. `seconds` by (stage, text)."""

    steps: list[Step]
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def length(self, step: Step) -> float:
        """How long a step takes; nothing where that is not known."""
        return self.seconds.get((step.stage, step.name), 0.0)

    def rerun(self, changed: str, spared: frozenset[str] = frozenset()) -> list[Step]:
        """The steps that run again when this file changes. spared: texts of steps that were seen not to."""
        again: set[int] = set()
        for number, step in enumerate(self.steps):
            if step.name not in spared and (changed in step.files or again.intersection(step.above)):
                again.add(number)
        return [step for number, step in enumerate(self.steps) if number in again and step.shown]

    def other_than(self, model: Model) -> list[Step]:
        """The steps that are none of another program's, and so run again where that was built before."""
        theirs = {step.digest for step in model.steps}
        return [step for step in self.steps if step.shown and step.digest not in theirs]

    def takes(self, steps: list[Step]) -> float:
        """How long these take: the longest chain of them."""
        wanted = {id(step) for step in steps}
        ends: list[float] = []
        for step in self.steps:
            begin = max((ends[number] for number in step.above), default=0.0)
            ends.append(begin + (self.length(step) if id(step) in wanted else 0.0))
        return max(ends, default=0.0)

    def cold(self) -> list[Step]:
        """All steps."""
        return [step for step in self.steps if step.shown]


def model_of(program: Program, tree: Tree, seconds: Mapping[tuple[str, str], float]) -> Model:
    """The model of a program over a context that looks like `tree`."""
    reached = program.definition.reached(program.target)
    numbers = {vertex.digest: number for number, vertex in enumerate(reached)}
    steps = []
    for vertex in reached:
        files: set[str] = set()
        for item in vertex.inputs:
            if is_main(reached[numbers[item.of]]):
                files |= taken(tree, item.select)
        steps.append(
            Step(
                text_of(vertex),
                vertex.about.stage,
                vertex.about.location.span.line if vertex.about.location else 0,
                vertex.op_digest is not None and not vertex.about.internal,
                frozenset(files),
                tuple(numbers[item.of] for item in vertex.inputs),
                vertex.digest,
            )
        )
    return Model(steps, seconds)


def is_main(vertex: Vertex) -> bool:
    """Whether it is the build's own context."""
    return isinstance(vertex.op, Local) and vertex.op.name == MAIN_CONTEXT


def taken(tree: Tree, selection: Selection | None) -> set[str]:
    """The paths in the context that a selection takes; none where it leads nowhere, which the build tells."""
    if selection is None:
        return set(tree.nodes)
    found: set[str] = set()
    each_taken(tree, selection, lambda _dest, path: found.add(path))
    return found


def each_taken(tree: Tree, selection: Selection, tell: Callable[[str, str], None]) -> None:
    """Tell of each path that a selection takes what it is called at the destination, and its path."""
    try:
        excludes = patterns_of(selection.excludes)
        for match in select(tree, selection):
            if not match.is_folder:
                tell(match.name, match.path)
                continue
            offset = 0 if match.path == "." else len(match.path) + 1
            for item in items(tree, match, excludes):
                tell(item.path, f"{match.path}/{item.path}" if offset else item.path)
    except BuildError:
        return

"""Which stages the target needs, and what each of them does once triggers are counted in. Pure.

A stage is reached by being the target, the base of a reached one, or what a step of a reached one takes
from. Triggers (ONBUILD) of what a stage stands on come before its own steps, and may reach further stages
and images: so this goes round until nothing new turns up. What an image's triggers are is known only once
the image is; images that are not known yet are what the compile is short of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from builder.compiler.places import fault, place
from builder.compiler.program import BaseImage, ImageRequest
from builder.compiler.sources import Base, FromImage, FromStage, Names, Source, sources_of
from builder.dockerfile.ast import AnyInstruction, Onbuild
from builder.dockerfile.parser import parse_trigger
from builder.text import Location

MAX_NOTES = 10  # of one error


class Step(msgspec.Struct, frozen=True):
    """An instruction and what it takes from; `onbuild`: a trigger of what the stage stands on."""

    instruction: AnyInstruction
    sources: tuple[Source | None, ...]
    onbuild: bool = False


class Plan(msgspec.Struct, frozen=True):
    """The stages to lower by number, in order, with all their steps; and the images that are not known."""

    steps: Mapping[int, tuple[Step, ...]]
    missing: tuple[ImageRequest, ...]


Steps = tuple[tuple[Step, ...], ...]


def read_steps(names: Names) -> Steps:
    """The own steps of every stage, used or not. Raises DockerfileError for a source that there is not."""
    return tuple(tuple(Step(step, sources_of(names, step)) for step in stage.steps) for stage in names.stages)


def check_circles(names: Names, bases: tuple[Base, ...], steps: Steps) -> None:
    """Raise DockerfileError where stages take from each other in a circle, used or not.

    Of several instructions by which one stage takes from another, the last one is told.
    """
    needs = [
        []
        if base.replaced
        else [*{s: i.instruction for i in own if i.sources for s in _stages_of(i)}.items()]
        for base, own in zip(bases, steps, strict=True)
    ]
    finished: set[int] = set()
    for start in range(len(needs)):
        path: dict[int, int] = {start: 0}
        while path and start not in finished:
            stage, position = path.popitem()
            if position == len(needs[stage]):
                finished.add(stage)
                continue
            path[stage] = position + 1
            need, step = needs[stage][position]
            if need in path:
                raise fault(
                    place(names.text, step),
                    f"stage {names.stages[stage].shown} needs {names.stages[need].shown}, which needs it too"
                    if need != stage
                    else f"stage {names.stages[stage].shown} takes from itself",
                    code="circle",
                    notes=_circle(names, path, needs, need),
                )
            if need not in finished:
                path[need] = 0


def _circle(
    names: Names, path: Mapping[int, int], needs: Sequence[Sequence[tuple[int, AnyInstruction]]], first: int
) -> tuple[str, ...]:
    """What takes from what, from a stage back to itself, as far as anybody reads that.

    `path` tells how far each stage was looked at.
    """
    stages = list(path)
    told = []
    for stage in stages[stages.index(first) :][:MAX_NOTES]:
        need, step = needs[stage][path[stage] - 1]
        told.append(
            f"{place(names.text, step)}: {names.stages[stage].shown} needs {names.stages[need].shown}"
        )
    return tuple(told) if len(told) > 1 else ()


def _stages_of(step: Step) -> list[int]:
    return [source.number for source in step.sources if isinstance(source, FromStage)]


def make_plan(
    names: Names,
    bases: tuple[Base, ...],
    own: Steps,
    target: int,
    known: Mapping[ImageRequest, BaseImage],
) -> Plan:
    """What has to be lowered for the target, or all there is; triggers only for what the target needs.

    Raises DockerfileError for a trigger that cannot be read.
    """
    steps = dict(enumerate(own))
    triggered: set[int] = set()
    while True:
        reached = _reach(bases, steps, target)
        fresh = [n for n in reached if n not in triggered and _is_known(bases[n], known)]
        if not fresh:
            break
        for number in fresh:
            triggered.add(number)
            triggers = _read_triggers(names, bases, own, number, known)
            steps[number] = (*triggers, *steps[number])
    everything = names.options.all_stages
    wanted = range(len(bases)) if everything else reached
    # Who looks at everything also looks at what a named context stands in for.
    plan = {n: () if bases[n].replaced and not everything else steps[n] for n in wanted}
    return Plan(plan, _missing(bases, plan, known))


def _reach(bases: tuple[Base, ...], steps: Mapping[int, tuple[Step, ...]], target: int) -> list[int]:
    reached: set[int] = set()
    pending = [target]
    while pending:
        number = pending.pop()
        if number in reached:
            continue
        reached.add(number)
        base = bases[number]
        if isinstance(base.source, FromStage):
            pending.append(base.source.number)
        if not base.replaced:
            pending += [stage for step in steps[number] if step.sources for stage in _stages_of(step)]
    return sorted(reached)


def _is_known(base: Base, known: Mapping[ImageRequest, BaseImage]) -> bool:
    return not isinstance(base.source, FromImage) or base.source.request in known


def _read_triggers(
    names: Names,
    bases: tuple[Base, ...],
    own: Steps,
    number: int,
    known: Mapping[ImageRequest, BaseImage],
) -> tuple[Step, ...]:
    base = bases[number]
    if base.replaced:
        return ()
    location = place(names.text, names.stages[number].start)
    triggers: tuple[str, ...] = ()
    if isinstance(base.source, FromImage):
        triggers = known[base.source.request].config.config.on_build or ()
    elif isinstance(base.source, FromStage) and not bases[base.source.number].replaced:
        parent = [step.instruction for step in own[base.source.number]]
        triggers = tuple(step.trigger for step in parent if isinstance(step, Onbuild))
    return tuple(_read_trigger(names, trigger, location) for trigger in triggers)


def _read_trigger(names: Names, trigger: str, location: Location) -> Step:
    """A trigger's instruction; whatever is wrong with it is told at the FROM that it runs for."""
    # A trigger is a text of its own, in which the backslash escapes whatever the Dockerfile says.
    instruction = parse_trigger(trigger, "\\", location)
    return Step(instruction, sources_of(names, instruction), onbuild=True)


def _missing(
    bases: tuple[Base, ...], plan: Mapping[int, tuple[Step, ...]], known: Mapping[ImageRequest, BaseImage]
) -> tuple[ImageRequest, ...]:
    wanted: dict[ImageRequest, None] = {}
    for number, steps in plan.items():
        for source in (bases[number].source, *(s for step in steps for s in step.sources)):
            if isinstance(source, FromImage) and source.request not in known:
                wanted.setdefault(source.request)
    return tuple(wanted)

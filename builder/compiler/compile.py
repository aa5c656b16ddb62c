"""From a Dockerfile to a program. Pure: what it must know and is not told, it asks for and is called again.

The stages that the target needs are folded over their instructions, in the order of the file, so that
whatever a stage takes from is there before it. Stages that nothing needs are read but not lowered: a name
or a flag that cannot be is an error there too, a variable or a mount is not.

Never knows: files, registries, the clock, whether anything is cached. Equal arguments give equal programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec
from msgspec.structs import replace
from msgspec.structs import replace as replace_options

from builder.compiler import created_by
from builder.compiler.epoch import Epoch, find_epoch, settled_epoch, with_epoch
from builder.compiler.growth import Growth
from builder.compiler.lock import Addresses
from builder.compiler.lower import LABELLED, lower
from builder.compiler.lowering import Lowering, Origin, fetching
from builder.compiler.nearest import meant
from builder.compiler.places import fault, place
from builder.compiler.platforms import normalise
from builder.compiler.program import BaseImage, CompileOptions, ImageRequest, Missing, Program
from builder.compiler.reach import Plan, Step, check_circles, make_plan, read_steps
from builder.compiler.scope import EPOCH, global_scope
from builder.compiler.sources import (
    Base,
    FromContext,
    FromImage,
    FromRemote,
    FromScratch,
    FromStage,
    Names,
    Source,
    check_bases,
    collect_names,
    find_bases,
)
from builder.compiler.stages import Stage, read_stages
from builder.compiler.state import (
    StageState,
    from_folder,
    from_image,
    from_scratch,
    from_stage,
    opened,
    settle_history,
)
from builder.digest import Digest
from builder.dockerfile.ast import AnyInstruction, Dockerfile
from builder.dockerfile.lines import is_own_frontend
from builder.errors import BuildError
from builder.graph.definition import About, Definition, Input
from builder.graph.selection import Selection
from builder.oci.spec import ImageConfig, Platform
from builder.ops.files import Copy, PathItem
from builder.ops.source import MAIN_CONTEXT, NAMED_CONTEXT, Image, Local, Scratch

FRONTEND = "BUILDKIT_SYNTAX"  # the build argument that takes the place of # syntax=…


class Visit(msgspec.Struct, frozen=True):
    """An instruction (`step`) of a stage that was lowered, and the state that it met."""

    stage: int
    step: Step
    state: StageState
    lowering: Lowering


def compile(
    dockerfile: Dockerfile,
    options: CompileOptions,
    known: Mapping[ImageRequest, BaseImage],
    visits: list[Visit] | None = None,
) -> Program | Missing:
    """The program of a Dockerfile, or the images and times that must be known first.

    `visits` gets every instruction as it is come to, the one that fails included: what checks look at.
    Raises DockerfileError (at a place of the text), or BuildError for a wrong target or option.
    """
    options = _settle_options(options)
    text, escape = dockerfile.source, dockerfile.escape
    parts = read_stages(dockerfile)
    scope = global_scope(options, parts.stages[-1].name, parts.globals, text, escape)
    names = collect_names(parts.stages, options, text, escape)
    epoch = find_epoch(names, scope)
    if isinstance(epoch, Missing):
        return epoch
    options, scope = with_epoch(options, scope, epoch)
    names = msgspec.structs.replace(names, options=options)
    bases = find_bases(names, scope)
    target = _find_target(names)
    steps = read_steps(names)
    check_circles(names, bases, steps)
    check_bases(bases)
    plan = make_plan(names, bases, steps, target, known)
    if plan.missing:
        return Missing(plan.missing)
    epoch = settled_epoch(options, epoch)
    work = Work(names, bases, known, scope, plan, [] if visits is None else visits)
    work.addresses.file = options.lock_file
    work.definition.latest = epoch.seconds if options.reproducible else None
    for number in plan.steps:
        work.lower_stage(names.stages[number])
    return _finish(work, target, epoch)


def _settle_options(options: CompileOptions) -> CompileOptions:
    """Platforms in the words of images; the environment's time as the build argument that it stands for.

    Raises BuildError where they ask for a language of another frontend.
    """
    args = options.build_args
    frontend = args.get(FRONTEND, "").strip().partition(" ")[0]
    if frontend and not is_own_frontend(frontend):
        raise BuildError(
            f"the frontend {frontend} of {FRONTEND} is not available: Dockerfiles are read by pybuild itself",
            code="unknown-frontend",
        )
    if options.source_date_epoch is not None:
        args = {EPOCH: str(options.source_date_epoch), **args}
    return replace_options(
        options,
        build_args=args,
        build_platform=normalise(options.build_platform),
        platform=normalise(options.platform),
    )


def _find_target(names: Names) -> int:
    target = names.options.target
    if not target:
        return names.stages[-1].number
    number = names.numbers.get(target.lower())
    if number is None:
        raise BuildError(
            f"target {target!r} is not a stage of {names.text.name}",
            code="no-such-target",
            hint=meant(target, names.numbers) or _stage_list(names),
        )
    return number


def _stage_list(names: Names) -> str:
    known = ", ".join(names.numbers)
    return f"its stages are {known}" if known else "its stages have no names: write FROM … AS name"


class Work(msgspec.Struct):
    """A compile under way: the definition as it grows, and what each stage has come to."""

    names: Names
    bases: tuple[Base, ...]
    known: Mapping[ImageRequest, BaseImage]
    scope: Mapping[str, str]
    plan: Plan
    visits: list[Visit]
    definition: Definition = msgspec.field(default_factory=Definition)
    done: dict[int, StageState] = msgspec.field(default_factory=dict)
    growth: Growth = msgspec.field(default_factory=Growth)
    addresses: Addresses = msgspec.field(default_factory=Addresses)

    def lower_stage(self, stage: Stage) -> None:
        """Fold a stage's instructions over the state that its base gives."""
        base, steps = self.bases[stage.number], self.plan.steps[stage.number]
        lowering = self._open(stage, base, steps)
        state = self._begin(lowering, stage, base)
        if not base.replaced:
            state = self._opened(lowering, state, stage)
        triggered = replace(lowering, onbuild=True)
        for step in steps:
            now = triggered if step.onbuild else lowering
            self.visits.append(Visit(stage.number, step, state, now))
            state = lower(now, state, step.instruction, step.sources, self.find)
        self.done[stage.number] = state

    def _opened(self, lowering: Lowering, state: StageState, stage: Stage) -> StageState:
        try:
            return opened(state)
        except ValueError as error:
            message = f"the base image's working folder: {error}"
            raise lowering.fault(stage.start, message, "bad-path") from error

    def _open(self, stage: Stage, base: Base, steps: tuple[Step, ...]) -> Lowering:
        options = self.names.options
        filters = {name.lower() for name in options.no_cache_filter}
        return Lowering(
            self.definition,
            options,
            self.names.text,
            self.names.escape,
            self.scope,
            shown=stage.shown if len(self.names.stages) > 1 else "",
            total=(not isinstance(base.source, FromStage | FromScratch))
            + sum(isinstance(step.instruction, LABELLED) for step in steps),
            no_cache=options.no_cache or (bool(stage.name) and stage.name in filters),
            growth=self.growth,
            addresses=self.addresses,
        )

    def _begin(self, lowering: Lowering, stage: Stage, base: Base) -> StageState:
        match base.source:
            case FromStage(number):
                return from_stage(self.done[number])
            case FromScratch():
                return from_scratch(lowering.scratch(), base.platform)
            case FromImage(request):
                text = f"FROM {_shown(request.locator)}"
                head = self._image(request, lowering.about(text, 1, stage.start, base.platform))
                state = from_image(head, self.known[request], base.platform)
                return replace(state, steps=1)
            case FromContext() | FromRemote():
                about = lowering.about(f"FROM {base.source.name}", 1, stage.start, base.platform)
                about = replace(about, no_cache=False)
                origin = self.find(base.source, stage.start)
                head = self._copied(lowering, origin, about)
                state = from_folder(head, base.platform, bare=base.replaced)
                return replace(state, steps=1)

    def _image(self, request: ImageRequest, about: About) -> Digest:
        base = self.known[request]
        if not base.config.rootfs.diff_ids:
            return self._scratch()
        op = Image(request.locator, base.digest)
        return self.definition.add(op, (), replace(about, no_cache=False))

    def _scratch(self) -> Digest:
        return self.definition.add(Scratch(), (), About("[internal] empty filesystem", internal=True))

    def _copied(self, lowering: Lowering, origin: Origin, about: About) -> Digest:
        """A context that a stage stands on is copied, so that its content is what counts."""
        selection = Selection(("/",), owners=not origin.is_folder, wildcards=False)
        op = Copy((PathItem(1, "/"),), "/")
        return self.definition.add(op, (Input(lowering.scratch()), Input(origin.vertex, selection)), about)

    def _local(self, name: str) -> Digest:
        about = About(f"[context {name}] load folder", internal=True)
        return self.definition.add(Local(NAMED_CONTEXT if name == MAIN_CONTEXT else name), (), about)

    def find(self, source: Source, step: AnyInstruction) -> Origin:
        """The vertex of what an instruction takes from; a stage must be above it."""
        location = place(self.names.text, step)
        match source:
            case FromStage(number):
                if self.bases[number].replaced:
                    return self.find(self.bases[number].source, step)
                if number not in self.done:
                    raise fault(
                        location,
                        f"{step.keyword} takes from stage {self.names.stages[number].shown},"
                        " which is not above this stage",
                        code="later-stage",
                        hint="move that stage up",
                    )
                return Origin(self.done[number].head, source)
            case FromScratch():
                return Origin(self._scratch(), source)
            case FromImage(request):
                about = About(f"FROM {_shown(request.locator)}", location=location)
                return Origin(self._image(request, about), source)
            case FromContext(name):
                return Origin(self._local(name), source)
            case FromRemote(name, op):
                op = self.addresses.pin(op, location)
                return Origin(self.definition.add(op, (), fetching(op, location, name)), source)


def _finish(work: Work, target: int, epoch: Epoch) -> Program:
    """The program of the target's state: its part of the definition, its config with the build's labels."""
    state, options = work.done[target], work.names.options
    if options.labels:
        state = replace(state, labels=state.labels.with_all(options.labels.items()))
    history = settle_history(state.history, state.layers)
    image = _as_json_can(replace(_with_platform(state.settled(), options), history=history))
    reached = work.definition.reached(state.head)
    return Program(
        Definition({vertex.digest: vertex for vertex in reached}, work.definition.latest),
        state.head,
        image,
        image.history,
        source_date_epoch=epoch.seconds,
        epoch_fetched=epoch.fetched,
        base_layers=state.base_layers,
        base_entries=state.base_entries,
        addresses=work.addresses.met,
    )


def _as_json_can(image: ImageConfig) -> ImageConfig:
    """The same config without what is no UTF-8, which a Dockerfile may hold and JSON may not."""
    with suppress(UnicodeEncodeError):
        msgspec.json.encode(image)
        return image

    def valid(value: object) -> object:
        match value:
            case str():
                return created_by.valid(value)
            case dict():
                return {valid(key): valid(item) for key, item in value.items()}
            case list() | tuple():
                return [valid(item) for item in value]
        return value

    return msgspec.convert(valid(msgspec.to_builtins(image)), ImageConfig)


def _with_platform(image: ImageConfig, options: CompileOptions) -> ImageConfig:
    """A platform that was asked for is what the image says of itself, whatever its base is for."""
    own = Platform(image.architecture, image.os, image.variant, image.os_version)
    if options.platform_given:
        asked = options.platform
        same = (own.os, own.architecture) == (asked.os, asked.architecture)
        own = Platform(
            asked.architecture,
            asked.os,
            asked.variant or (own.variant if same else ""),
            asked.os_version or (own.os_version if same else ""),
        )
    own = normalise(own)
    return replace(
        image, architecture=own.architecture, os=own.os, variant=own.variant, os_version=own.os_version
    )


def _shown(locator: str) -> str:
    """A locator as people know it: a named context by its name."""
    return locator.removeprefix("oci-layout://")

"""What a name after FROM, `--from=` or a mount's `from=` stands for. Pure.

A stage first, then `scratch`, then a named context, then an image. FROM matches the names of the stages
above it, in lower case; `--from` matches those of all stages, in any case, and COPY takes a number too.
A named context with a stage's name stands in for that stage wherever it is meant, by number too.
Nothing is looked up: an image is an `ImageRequest`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain

import msgspec

from builder.compiler import platforms
from builder.compiler.nearest import meant, nearest
from builder.compiler.places import fault, place
from builder.compiler.program import CompileOptions, ImageRequest, NamedContext
from builder.compiler.remotes import read_context, redact
from builder.compiler.scope import expand
from builder.compiler.stages import Stage, numbers_by_name
from builder.dockerfile import mounts
from builder.dockerfile.ast import AnyInstruction, Copy, Run
from builder.errors import BuildError, DockerfileError
from builder.oci import reference
from builder.oci.reference import Reference
from builder.oci.spec import Platform
from builder.ops.source import MAIN_CONTEXT, Git, Http
from builder.text import Location, SourceText

SCRATCH = "scratch"
NUMBER = re.compile(r"[+-]?[0-9]+")
LONG_NUMBER = 10  # digits; no Dockerfile has so many stages


class FromStage(msgspec.Struct, frozen=True):
    """A stage, as it is at its end."""

    number: int


class FromScratch(msgspec.Struct, frozen=True):
    """The empty filesystem."""


class FromImage(msgspec.Struct, frozen=True):
    """An image; `platform` is the one asked for."""

    request: ImageRequest


class FromContext(msgspec.Struct, frozen=True):
    """A folder that the user named."""

    name: str


class FromRemote(msgspec.Struct, frozen=True):
    """What is fetched from an address that the user named."""

    name: str
    op: Git | Http


Source = FromStage | FromScratch | FromImage | FromContext | FromRemote


class Base(msgspec.Struct, frozen=True):
    """What a stage stands on. `replaced`: a named context stands in for the whole stage.

    `platform` is the stage's own, where its FROM says one, else what the build is for; `fault`: the name can
    be no image's, so the source means nothing.
    """

    source: Source
    platform: Platform
    replaced: bool = False
    fault: DockerfileError | None = None


class Names(msgspec.Struct, frozen=True):
    """All that names can stand for: the stages, and the named contexts by their normalised names."""

    stages: tuple[Stage, ...]
    contexts: Mapping[str, str]
    options: CompileOptions
    text: SourceText
    escape: str
    numbers: Mapping[str, int] = msgspec.field(default_factory=dict)


def collect_names(stages: tuple[Stage, ...], options: CompileOptions, text: SourceText, escape: str) -> Names:
    """Put together what names can stand for."""
    contexts = {_normal(name): name for name in options.contexts}
    return Names(stages, contexts, options, text, escape, numbers_by_name(stages))


def find_bases(names: Names, scope: Mapping[str, str]) -> tuple[Base, ...]:
    """What every stage stands on, used or not. Raises DockerfileError at the FROM that is wrong.

    Names that can be no image's are left to `check_bases`: they matter only where the stages fit together.
    """
    above: dict[str, int] = {}
    bases = []
    for stage in names.stages:
        bases.append(_find_base(names, stage, scope, above))
        if stage.name:
            above[stage.name] = stage.number
    return tuple(bases)


def check_bases(bases: tuple[Base, ...]) -> None:
    """Raise DockerfileError for the first one whose name can be no image's."""
    for base in bases:
        if base.fault is not None:
            raise base.fault


def _find_base(names: Names, stage: Stage, scope: Mapping[str, str], above: Mapping[str, int]) -> Base:
    location = place(names.text, stage.start)
    name = expand(stage.start.image, scope, names.escape, location)
    if not name:
        hint = "give its ARG a default above the first FROM" if "$" in stage.start.image else None
        raise fault(location, f"base name {stage.start.image} comes out empty", code="empty-base", hint=hint)
    asked = _asked_platform(names, stage, scope, place(names.text, stage.start, "platform"))
    platform = asked or names.options.platform
    if stage.name != MAIN_CONTEXT and (context := _named_context(names, stage.name, platform)):
        return Base(_source_of_context(names, context, platform, location), platform, replaced=True)
    if name in above:
        return Base(FromStage(above[name]), platform)
    if name == SCRATCH:
        return Base(FromScratch(), names.options.platform)
    try:
        return Base(_find_image(names, name, platform, location, hints=above), platform)
    except DockerfileError as error:
        return Base(FromScratch(), platform, fault=error)


def _asked_platform(
    names: Names, stage: Stage, scope: Mapping[str, str], location: Location
) -> Platform | None:
    text = stage.start.flag("platform")
    if not text:
        return None
    value = expand(text, scope, names.escape, location)
    if not value:
        raise fault(
            location, f"platform {text} comes out empty", code="bad-platform", hint=meant(text, scope)
        )
    try:
        return platforms.parse_platform(value, names.options.build_platform)
    except ValueError as error:
        raise fault(location, str(error), code="bad-platform", hint="for example linux/arm64") from error


def sources_of(names: Names, step: AnyInstruction) -> tuple[Source | None, ...]:
    """What a COPY or the mounts of a RUN take from, mount by mount; None is the build context.

    Raises DockerfileError for a stage that there is not, a variable, or a name that is no image's.
    """
    if isinstance(step, Copy):
        name = step.flag("from")
        return (_copy_source(names, name, step),) if name else ()
    if isinstance(step, Run):
        return tuple(
            _mount_source(names, flag.value or "", Location(names.text, flag.span, step.span.line))
            for flag in step.flags
            if flag.name == "mount"
        )
    return ()


def _copy_source(names: Names, name: str, step: Copy) -> Source:
    location = place(names.text, step, "from")
    if expand(name, {}, names.escape, location) != name:
        raise _no_variables(location, f"--from={name}")
    if NUMBER.fullmatch(name):
        number = int(name) if len(name) < LONG_NUMBER else -1
        if not 0 <= number < len(names.stages):
            raise fault(
                location,
                f"--from={name}: there is no stage number {name}",
                code="no-such-stage",
                hint=f"stages are numbered from 0 to {len(names.stages) - 1}",
            )
        return FromStage(number)
    return find_source(names, name, location)


def _mount_source(names: Names, text: str, location: Location) -> Source | None:
    try:
        name = mounts.source_name(text)
    except mounts.MountError as error:
        raise fault(location, str(error), code="bad-mount") from error
    if not name:
        return None
    if "$" in name[:-1]:
        raise _no_variables(location, f"from={name}")
    if NUMBER.fullmatch(name):
        raise fault(
            location,
            f"from={name}: a mount names its stage, it takes no number",
            code="no-such-stage",
            hint=f"give the stage a name: FROM … AS stage{name}",
        )
    return find_source(names, name, location)


def _no_variables(location: Location, what: str) -> DockerfileError:
    return fault(
        location,
        f"{what}: variables are not expanded here",
        code="variable-in-from",
        hint="name a stage with FROM $NAME AS alias, which may use ARGs from above the first FROM",
    )


def find_source(names: Names, name: str, location: Location) -> Source:
    """What a name in `--from` or `from` stands for."""
    number = names.numbers.get(name.lower())
    if number is not None:
        return FromStage(number)
    if name == SCRATCH:
        return FromScratch()
    return _find_image(names, name, names.options.platform, location, hints=names.numbers)


def find_context(names: Names, name: str) -> Source | None:
    """What the named context of this name stands for, if there is one."""
    found = _parse(name)
    platform = names.options.platform
    context = _named_context(names, _familiar(found), platform) if found else None
    return _source_of_context(names, context, platform, None) if context else None


def _find_image(
    names: Names, name: str, platform: Platform, location: Location, *, hints: Mapping[str, int]
) -> Source:
    """A named context or an image."""
    found = _parse(name)
    if found is None:
        raise fault(
            location,
            f"{redact(name)!r} is neither a stage nor a valid image name",
            code="bad-image-name",
            hint=meant(name, chain(hints, names.contexts))
            or "image names are in lower case, for example debian:12",
        )
    context = _named_context(names, _familiar(found), platform)
    if context:
        return _source_of_context(names, context, platform, location)
    near = nearest(name, chain(hints, names.contexts))
    hint = f"no stage or context is named {name}; did you mean {near}?" if near else None
    return FromImage(ImageRequest(str(found), platform, location, hint))


def _named_context(names: Names, name: str, platform: Platform) -> str | None:
    """The named context (as typed) that goes by this name, one for the platform first."""
    if name == SCRATCH or not names.contexts:
        return None
    return names.contexts.get(f"{name}::{platform}") or names.contexts.get(name)


def _source_of_context(names: Names, name: str, platform: Platform, location: Location | None) -> Source:
    context: NamedContext = names.options.contexts[name]
    if context.kind == "local":
        return FromContext(name)
    if context.kind == "remote":
        return FromRemote(name, _address_of(context.value, location))
    if context.kind == "layout":
        return FromImage(ImageRequest(f"oci-layout://{name}", platform, location))
    if context.value == SCRATCH:
        return FromScratch()
    found = _parse(context.value)
    if found is None:
        raise BuildError(
            f"named context {name}: {redact(context.value)!r} is not a valid image name",
            code="bad-image-name",
        )
    return FromImage(ImageRequest(str(found), platform, location))


def _address_of(text: str, location: Location | None) -> Git | Http:
    """Where a named context is fetched; who uses one whose address means nothing is told at the line."""
    try:
        return read_context(text)
    except BuildError as error:
        if location is None:
            raise
        raise fault(location, f"named {error.message}", code=error.code, hint=error.hint) from error


def _parse(name: str) -> Reference | None:
    try:
        return reference.parse(name)
    except (BuildError, ValueError):
        return None


def _familiar(found: Reference) -> str:
    return found.familiar().removesuffix(":latest")


def _normal(name: str) -> str:
    """A named context's name as images are named: `docker.io/library/alpine:latest` is `alpine`."""
    base, separator, platform = name.partition("::")
    found = _parse(base)
    return (_familiar(found) if found else base) + separator + platform

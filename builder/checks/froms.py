"""Rules about FROM lines: they need the global ARGs, the last of them the bases' configs too. Pure.

A FROM whose words cannot be expanded, or whose platform is none, ends the looking, as it ends the compile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from builder.checks import rules
from builder.checks.hints import Hints
from builder.checks.rules import Rule
from builder.checks.settings import Settings
from builder.checks.writing import Found
from builder.compiler import platforms, scope
from builder.compiler.compile import Visit
from builder.compiler.program import BaseImage, CompileOptions, ImageRequest
from builder.compiler.sources import (
    Base,
    FromImage,
    FromStage,
    Source,
    check_bases,
    collect_names,
    find_bases,
    sources_of,
)
from builder.compiler.stages import Parts, Stage, numbers_by_name
from builder.dockerfile import words
from builder.dockerfile.ast import Dockerfile
from builder.dockerfile.words import Lookups, WordError
from builder.errors import BuildError
from builder.oci import reference
from builder.oci.platform import fits
from builder.oci.spec import Platform
from builder.text import Span


class BaseLine(msgspec.Struct, frozen=True):
    """A FROM line and what expanding it asked for. `image` and `platform` hold the names that it looked up.

    platform_text: the flag as written, None where there is none; platform_value: what it comes to; asked:
    the platform that this is. declared: the names that are known to FROM lines; target: the target's
    platform as a variable has it; fails: the line cannot be compiled.
    """

    stage: Stage
    image: Lookups
    platform: Lookups
    platform_text: str | None
    platform_value: str
    asked: Platform | None
    declared: frozenset[str]
    target: str
    fails: bool
    hints: Hints


def undefined_arg_in_from(line: BaseLine) -> Iterator[str]:
    """Variables that no ARG declares, in the image and in the platform."""
    for lookups in (line.image, line.platform):
        for name in sorted(lookups.missing - line.declared):
            yield f"no ARG above declares {name}, which FROM uses{line.hints.near(name, line.declared)}"


def redundant_target_platform(line: BaseLine) -> Iterator[str]:
    """The target's platform and nothing else, by its variable."""
    alone = line.platform.found == {"TARGETPLATFORM"} and not line.platform.missing
    if alone and line.platform_value == line.target:
        yield f"--platform={line.platform_text} is what FROM takes without being told"


def from_platform_flag_const_disallowed(line: BaseLine) -> Iterator[str]:
    """A platform without a variable in it, in a stage whose name says nothing of it."""
    platform = line.asked
    if platform is None or line.platform.found or line.platform.missing:
        return
    if platform.os not in line.stage.name and platform.architecture not in line.stage.name:
        yield f"--platform={line.platform_value} in FROM should not be a constant"


FROM_RULES: tuple[tuple[Rule, Callable[[BaseLine], Iterator[str]]], ...] = (
    (rules.UNDEFINED_ARG_IN_FROM, undefined_arg_in_from),
    (rules.REDUNDANT_TARGET_PLATFORM, redundant_target_platform),
    (rules.FROM_PLATFORM_FLAG_CONST_DISALLOWED, from_platform_flag_const_disallowed),
)


def find_in_froms(
    dockerfile: Dockerfile, parts: Parts, options: CompileOptions, settings: Settings
) -> Iterator[Found]:
    """What the FROM rules find, line by line."""
    try:
        known = scope.global_scope(
            options, parts.stages[-1].name, parts.globals, dockerfile.source, dockerfile.escape
        )
    except BuildError:
        return
    declared = frozenset(known) | {pair.name for step in parts.globals for pair in step.pairs}
    hints = Hints()
    for stage in parts.stages:
        own = settings.below(stage.start.comments)
        line = _read(stage, known, declared, dockerfile.escape, options, hints)
        for rule, look in FROM_RULES:
            if own.allows(rule):
                yield from ((rule, message, stage.start.span) for message in look(line))
        if line.fails:
            return


def _read(
    stage: Stage,
    known: Mapping[str, str],
    declared: frozenset[str],
    escape: str,
    options: CompileOptions,
    hints: Hints,
) -> BaseLine:
    image, platform = Lookups(), Lookups()
    text = stage.start.flag("platform") or None
    value, asked = "", None
    try:
        fails = not words.expand(stage.start.image, known, escape, lookups=image)
        if text and not fails:
            value = words.expand(text, known, escape, lookups=platform)
            asked = platforms.parse_platform(value, options.build_platform)
    except (WordError, ValueError):
        fails = True
    target = known["TARGETPLATFORM"]
    return BaseLine(stage, image, platform, text, value, asked, declared, target, fails, hints)


def invalid_default_arg_in_from(
    dockerfile: Dockerfile, parts: Parts, options: CompileOptions
) -> Iterator[tuple[str, Stage]]:
    """FROM lines that name no possible image when no build argument is given."""
    known = _default_scope(dockerfile, parts, options)
    for stage in parts.stages:
        name = words.expand(stage.start.image, known, dockerfile.escape)
        try:
            reference.parse(name)
        except ValueError:
            shown = f"comes to {name!r}, no image's name," if name else "comes out empty"
            yield f"without build arguments {stage.start.image} {shown}", stage


def find_bad_defaults(
    dockerfile: Dockerfile, parts: Parts, options: CompileOptions, settings: Settings
) -> Iterator[Found]:
    """What is found of ARGs' defaults; nothing more behind what cannot be expanded."""
    rule = rules.INVALID_DEFAULT_ARG_IN_FROM
    if settings.allows(rule):
        try:
            for message, stage in invalid_default_arg_in_from(dockerfile, parts, options):
                yield rule, message, stage.start.span
        except WordError:
            return


def _default_scope(dockerfile: Dockerfile, parts: Parts, options: CompileOptions) -> dict[str, str]:
    """The global scope without build arguments, but for those that are there without an ARG."""
    predefined = scope.global_scope(options, parts.stages[-1].name, (), dockerfile.source, dockerfile.escape)
    for step in parts.globals:
        for pair in step.pairs:
            if pair.value is not None:
                predefined[pair.name] = words.expand(pair.value, predefined, dockerfile.escape)
    return predefined


def invalid_base_image_platform(
    dockerfile: Dockerfile,
    parts: Parts,
    options: CompileOptions,
    known: Mapping[ImageRequest, BaseImage],
    visits: Sequence[Visit] = (),
) -> Iterator[tuple[str, Span]]:
    """Images for another platform than was asked for; what somebody named as a context is taken as it is.

    They are the bases of stages that are needed, and what instructions take from.
    """
    bases = bases_of(dockerfile, parts, options)
    nameless = replace(options, contexts={})
    foreign = []
    # unchecked: the name of a stage that a context stands in for may be none
    images = _find_all(dockerfile, parts, nameless)
    for base, by_name, stage in zip(bases, images, parts.stages, strict=True):
        asked = bool(options.platform_given or stage.start.flag("platform"))
        if base.source == by_name.source and (own := _foreign(base.source, known, asked=asked)):
            foreign.append((stage, f"base image {stage.start.image} is for {own}, not for {base.platform}"))
    if foreign:
        reached = set(_reached(parts, options, bases, visits))
        yield from ((message, stage.start.span) for stage, message in foreign if stage.number in reached)
    names = collect_names(parts.stages, nameless, dockerfile.source, dockerfile.escape)
    for visit in visits:
        for source in visit.step.sources:
            own = _foreign(source, known, asked=options.platform_given)
            if isinstance(source, FromImage) and own and source in sources_of(names, visit.step.instruction):
                message = f"image {source.request.locator} is for {own}, not for {options.platform}"
                yield message, visit.step.instruction.span


def _foreign(
    source: Source | None, known: Mapping[ImageRequest, BaseImage], *, asked: bool
) -> Platform | None:
    """The platform of an image that is for another than was wanted; asked: somebody named the wanted one."""
    image = known.get(source.request) if isinstance(source, FromImage) else None
    if not isinstance(source, FromImage) or image is None or not image.config.rootfs.diff_ids:
        return None
    wanted = source.request.platform
    own = Platform(image.config.architecture, image.config.os, image.config.variant)
    same = (own.os, own.architecture) == (wanted.os, wanted.architecture)
    return None if same or (not asked and fits(own, wanted)) else own


def _reached(
    parts: Parts, options: CompileOptions, bases: tuple[Base, ...], visits: Sequence[Visit]
) -> Iterable[int]:
    if options.all_stages:
        return range(len(parts.stages))
    by_stage: dict[int, list[Visit]] = {}
    for visit in visits:
        by_stage.setdefault(visit.stage, []).append(visit)
    target = numbers_by_name(parts.stages).get(options.target.lower(), len(parts.stages) - 1)
    return needed(target, bases, by_stage)


def needed(target: int, bases: tuple[Base, ...], visits: Mapping[int, list[Visit]]) -> Iterator[int]:
    """The target, what it stands on, what it takes from, and so on; each once. `visits` are by stage."""
    known: set[int] = set()
    pending = [target]
    while pending:
        number = pending.pop()
        if number in known:
            continue
        known.add(number)
        yield number
        taken = [source for visit in visits.get(number, ()) for source in visit.step.sources]
        base = bases[number].source
        pending += [source.number for source in [*taken, base] if isinstance(source, FromStage)]


def find_foreign_bases(
    dockerfile: Dockerfile,
    parts: Parts,
    options: CompileOptions,
    settings: Settings,
    known: Mapping[ImageRequest, BaseImage],
    visits: Sequence[Visit] = (),
) -> Iterator[Found]:
    """What is found of the images that are known. Raises BuildError where a FROM line is wrong."""
    rule = rules.INVALID_BASE_IMAGE_PLATFORM
    if settings.allows(rule) and known:
        for message, span in invalid_base_image_platform(dockerfile, parts, options, known, visits):
            yield rule, message, span


def bases_of(dockerfile: Dockerfile, parts: Parts, options: CompileOptions) -> tuple[Base, ...]:
    """What every stage stands on. Raises BuildError where a FROM line is wrong."""
    bases = _find_all(dockerfile, parts, options)
    check_bases(bases)
    return bases


def _find_all(dockerfile: Dockerfile, parts: Parts, options: CompileOptions) -> tuple[Base, ...]:
    source, escape = dockerfile.source, dockerfile.escape
    known = scope.global_scope(options, parts.stages[-1].name, parts.globals, source, escape)
    return find_bases(collect_names(parts.stages, options, source, escape), known)

"""SOURCE_DATE_EPOCH: which time it stands for. Pure.

It is a number of seconds, or names what has a time: `context` the build's own context, else a named context,
else a stage that does nothing but fetch one thing with ADD. Of a repository it is the commit's time, of a
file on the web when it was last modified (of an archive without that, its newest file's); folders and images
have none, and then there is no such argument. Once the time is known, the argument has it as its value.

A reproducible build in which it is not given has files of 1980-01-01 00:00:00 UTC, the oldest time that a ZIP
archive can hold; the argument is not set then.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from builder.compiler import remotes
from builder.compiler.fetched import SHA256, as_git
from builder.compiler.lock import pinned
from builder.compiler.places import fault, place
from builder.compiler.program import CompileOptions, Missing
from builder.compiler.remotes import AddressError, Repository
from builder.compiler.scope import EPOCH, INTEGER, expand
from builder.compiler.sources import FromRemote, Names, find_context
from builder.compiler.stages import Stage
from builder.dockerfile.ast import Add, Arg
from builder.errors import BuildError, DockerfileError
from builder.ops.source import MAIN_CONTEXT, Git, Http
from builder.text import Location

DEFAULT = 315532800
FIRST, LAST = -62135596800, 253402300799  # the years 1 to 9999: those of RFC 3339, which documents have


class Epoch(msgspec.Struct, frozen=True):
    """The time in seconds, None for none. `fetched`: it is what was found at some address."""

    seconds: int | None = None
    fetched: bool = False


def find_epoch(names: Names, scope: Mapping[str, str]) -> Epoch | Missing:
    """The time, or whose time must be known first. Raises BuildError for what stands for none."""
    found = _find_epoch(names, scope)
    if isinstance(found, Epoch) and not FIRST <= (found.seconds or 0) <= LAST:
        raise BuildError(
            f"{EPOCH} is {found.seconds}, which is in no year from 1 to 9999", code="bad-source-date-epoch"
        )
    return found


def _find_epoch(names: Names, scope: Mapping[str, str]) -> Epoch | Missing:
    options = names.options
    text = options.build_args.get(EPOCH, scope.get(EPOCH, ""))
    if not text:
        return Epoch()
    if INTEGER.fullmatch(text):
        return Epoch(int(text))
    if text == MAIN_CONTEXT:
        return Epoch(options.context_epoch, fetched=True)
    source = _source_of(names, scope, text)
    if source is None:
        return Epoch()
    with suppress(ValueError):  # which is told at the line that asks for it
        source = pinned(options.lock_file.lock, source)
    if source not in options.source_times:
        return Missing((), (source,))
    return Epoch(options.source_times[source], fetched=True)


def with_epoch(
    options: CompileOptions, scope: Mapping[str, str], epoch: Epoch
) -> tuple[CompileOptions, dict[str, str]]:
    """Options and global scope with the time as the argument's value wherever it has one."""
    return replace(options, build_args=_settled(options.build_args, epoch)), _settled(scope, epoch)


def settled_epoch(options: CompileOptions, epoch: Epoch) -> Epoch:
    """The time that the image's files and history have: a reproducible build always has one."""
    return Epoch(DEFAULT) if options.reproducible and epoch.seconds is None else epoch


def _settled(values: Mapping[str, str], epoch: Epoch) -> dict[str, str]:
    rest = {name: value for name, value in values.items() if name != EPOCH}
    if EPOCH not in values or epoch.seconds is None:
        return rest
    return {**values, EPOCH: str(epoch.seconds)}


def _source_of(names: Names, scope: Mapping[str, str], text: str) -> Git | Http | None:
    """What is at an address under this name; None for a named context that is at none."""
    context = find_context(names, text)
    if context is not None:
        return context.op if isinstance(context, FromRemote) else None
    for stage in names.stages:
        if stage.name == text.lower():
            return _fetched_by(names, stage, {n: v for n, v in scope.items() if n != EPOCH})
    raise BuildError(
        f"{EPOCH} is {text!r}, which is neither a number of seconds nor a stage or a named context",
        code="bad-source-date-epoch",
        hint="it counts the seconds since 1970-01-01, for example 1700000000",
    )


def _fetched_by(names: Names, stage: Stage, scope: dict[str, str]) -> Git | Http:
    """What a stage fetches that does nothing else. Raises DockerfileError."""
    location = place(names.text, stage.start)
    if expand(stage.start.image, scope, names.escape, location) != "scratch":
        raise _unfit(names, stage, location, "it must be FROM scratch")
    found: Git | Http | None = None
    for step in stage.steps:
        location = place(names.text, step)
        if isinstance(step, Arg):
            _declare(names, step, scope, location)
        elif isinstance(step, Add) and found is None:
            found = _read_add(names, stage, step, scope)
        else:
            raise _unfit(names, stage, location, "it may have ARGs and one ADD of a URL or a git repository")
    if found is None:
        raise _unfit(names, stage, location, "it must have an ADD of a URL or a git repository")
    return found


def _declare(names: Names, step: Arg, scope: dict[str, str], location: Location) -> None:
    for pair in step.pairs:
        if pair.name in names.options.build_args:
            scope[pair.name] = names.options.build_args[pair.name]
        elif pair.value is not None:
            scope[pair.name] = expand(pair.value, scope, names.escape, location)


def _read_add(names: Names, stage: Stage, step: Add, scope: Mapping[str, str]) -> Git | Http:
    location = place(names.text, step)
    if step.heredocs or len(step.sources) != 1:
        raise _unfit(names, stage, location, "its ADD must have one source")
    source, checksum = (
        expand(word, scope, names.escape, location) for word in (step.sources[0], step.flag("checksum") or "")
    )
    try:
        meant = remotes.read_source(source)
        if isinstance(meant, Repository):
            return as_git(step, meant, checksum)
    except AddressError as error:
        raise fault(location, f"ADD {remotes.redact(source)}: {error}", code="bad-address") from error
    if meant is None:
        raise _unfit(names, stage, location, "its ADD must be of a URL or a git repository")
    if checksum and not SHA256.fullmatch(checksum):
        raise fault(location, f"--checksum={checksum} is not the checksum of a file", code="bad-checksum")
    return msgspec.structs.replace(meant, checksum=checksum)


def _unfit(names: Names, stage: Stage, location: Location, why: str) -> DockerfileError:
    begin = place(names.text, stage.start)
    return fault(
        location,
        f"stage {stage.shown} cannot be {EPOCH}: {why}",
        code="bad-source-date-epoch",
        notes=() if begin == location else (f"{begin}: the stage begins here",),
    )

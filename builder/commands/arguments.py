"""What commands about images are called with: words, platforms, conditions; and how they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.commands.flags import Flag, Parsed
from builder.commands.store import root_of
from builder.errors import BuildError, UsageError

if TYPE_CHECKING:
    from builder.oci.spec import Platform
    from builder.store.root import Store

Environ = Mapping[str, str]
WHAT = "What"
DEFAULT_PLATFORM = "DOCKER_DEFAULT_PLATFORM"  # the variable, for what is made or fetched
PLATFORM = Flag(
    name="platform",
    metavar="OS/ARCH",
    group=WHAT,
    help="which image of one of several platforms (default: this machine's)",
)


def open_store_of(parsed: Parsed, environ: Environ) -> Store:
    """The store that a command works with."""
    from builder.store.root import open_store

    return open_store(root_of(parsed, environ))


def platform_of(parsed: Parsed, default: str = "") -> Platform | None:
    """The platform that was asked for, None if none was. Raises UsageError."""
    typed = parsed.text("platform") or default
    if not typed:
        return None
    from builder.oci.spec import Platform
    from builder.prepare import parse_platform

    system, architecture, variant = parse_platform(typed)
    return Platform(architecture, system, variant)


def conditions_of(parsed: Parsed, known: Sequence[str]) -> list[tuple[str, str]]:
    """The values of --filter as (kind, value). Raises UsageError."""
    found = []
    for text in parsed.all("filter"):
        kind, has_value, value = text.partition("=")
        if not has_value:
            raise UsageError(f"--filter {text}: a filter is KIND=VALUE")
        if kind not in known:
            raise UsageError(f"--filter {kind}=… is not known", hint=f"the filters are {', '.join(known)}")
        found.append((kind, value))
    return found


def expect(parsed: Parsed, command: str, least: int, most: int | None, what: str = "an image") -> None:
    """Check how many words were given. Raises UsageError."""
    count = len(parsed.words)
    hint = f"see `{command} --help`"
    if count < least:
        raise UsageError(f"{command} needs {what}", hint=hint)
    if most is not None and count > most:
        limit = "one argument" if most == 1 else f"{most} arguments"
        raise UsageError(f"{command} takes {limit} at most, not {count}", hint=hint)


def finish(failures: Sequence[BuildError]) -> int:
    """Raise the first failure, the others as its notes; 0 where there is none."""
    if not failures:
        return 0
    first, *others = failures
    first.notes = (*first.notes, *(error.message for error in others))
    raise first

"""Which names have which values where. Pure.

Three scopes: the global one (platform arguments and the ARGs before the first FROM), which FROM lines see
and from which a stage's ARG takes its value; a stage's own (ARG and ENV, as they come); and build
arguments, which win over every default of an ARG but are seen by nothing that has no ARG for them.
Values of build arguments are never expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from builder.compiler.growth import Counted, Growth, check_variable
from builder.compiler.places import fault, place
from builder.compiler.platforms import full_name
from builder.compiler.program import CompileOptions
from builder.dockerfile import words
from builder.dockerfile.ast import Arg
from builder.dockerfile.words import WordError
from builder.text import Location, SourceText

EPOCH = "SOURCE_DATE_EPOCH"
HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"
# Arguments that speak to the builder: a stage that declares them does not see them.
SILENT = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
T = TypeVar("T")
MAX_SHOWN = 80
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def platform_arguments(options: CompileOptions) -> dict[str, str]:
    """The arguments that need no declaration in FROM; a build argument of the same name wins."""
    build, target = options.build_platform, options.platform
    values = {
        "BUILDPLATFORM": str(build),
        "BUILDOS": build.os,
        "BUILDOSVERSION": build.os_version,
        "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant,
        "TARGETPLATFORM": full_name(target),
        "TARGETOS": target.os,
        "TARGETOSVERSION": target.os_version,
        "TARGETARCH": target.architecture,
        "TARGETVARIANT": target.variant,
    }
    return {name: options.build_args.get(name, value) for name, value in values.items()}


def global_scope(
    options: CompileOptions, last_stage: str, args: tuple[Arg, ...], source: SourceText, escape: str
) -> dict[str, str]:
    """What FROM lines see. `last_stage` is the name of the stage that is built without a target."""
    scope = platform_arguments(options)
    scope["TARGETSTAGE"] = options.build_args.get("TARGETSTAGE", options.target or last_stage or "default")
    growth = Growth()
    for step in args:
        for pair in step.pairs:
            if pair.name in options.build_args:
                scope[pair.name] = options.build_args[pair.name]
            elif pair.value is not None:
                location = place(source, step)
                scope[pair.name] = expand(pair.value, Counted(scope, growth), escape, location)
                _check(pair.name, scope[pair.name], location)
    return scope


def _check(name: str, value: str, location: Location) -> None:
    try:
        check_variable(name, value)
    except WordError as error:
        raise fault(location, str(error), code="too-large") from error


def proxy_variables(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The proxy arguments in both spellings, sorted; of two spellings the lower-case one wins."""
    given: dict[str, str] = {}
    for name in sorted(build_args):
        if name.upper() in PROXIES and build_args[name]:
            given[name.upper()] = build_args[name]
    both = given | {name.lower(): value for name, value in given.items()}
    return tuple(sorted(both.items()))


def expand(word: str, variables: Mapping[str, str], escape: str, location: Location | None) -> str:
    """A word with its variables filled in and its quotes taken off. Raises DockerfileError."""
    return _placed(words.expand, word, variables, escape, location)


def expand_text(text: str, variables: Mapping[str, str], location: Location | None) -> str:
    """A heredoc with its variables filled in; its escape character is always the backslash."""
    return _placed(words.expand_text, text, variables, "\\", location)


def expand_words(
    word: str, variables: Mapping[str, str], escape: str, location: Location | None
) -> list[str]:
    """As `expand`, but blanks that come from unquoted variables part words."""
    return _placed(words.expand_words, word, variables, escape, location)


def _placed(
    expander: Callable[[str, Mapping[str, str], str], T],
    word: str,
    variables: Mapping[str, str],
    escape: str,
    location: Location | None,
) -> T:
    try:
        return expander(word, variables, escape)
    except WordError as error:
        raise fault(location, f"{_shown(word)}: {error}", code="bad-variable") from error


def _shown(word: str) -> str:
    """A word as a message can have it: one line, not endless."""
    line = word.strip().partition("\n")[0]
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"

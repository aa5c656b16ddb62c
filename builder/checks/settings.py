"""Which rules apply: `# check=skip=…;error=true;experimental=…`, for a file or for one instruction. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice

import msgspec
from msgspec.structs import replace

from builder.checks.rules import RULES, Rule
from builder.compiler.nearest import meant
from builder.dockerfile.blanks import SPACE
from builder.dockerfile.lines import DIRECTIVE
from builder.dockerfile.mounts import FALSE, TRUE
from builder.dockerfile.parser import Reading
from builder.errors import BuildError, DockerfileError
from builder.text import Location

BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"
ALL = "all"
MAX_DOUBTS = 20
OPTIONS = ("skip", "experimental", "error")


class Settings(msgspec.Struct, frozen=True):
    """The names of rules to leave out, of experimental ones to apply, and whether a finding is an error.

    Names are as somebody wrote them: "all" is all of them, one that no rule has does nothing.
    """

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def allows(self, rule: Rule) -> bool:
        """Whether the rule applies."""
        if rule.experimental:
            return bool(self.experimental & {ALL, rule.name})
        return not self.skip & {ALL, rule.name}

    def below(self, comments: Iterable[str]) -> Settings:
        """The settings for an instruction with these comments above it: the first that says something."""
        own = _said_by(comments)
        if own is None:
            return self
        return replace(self, skip=self.skip | own.skip, experimental=self.experimental | own.experimental)


def _said_by(comments: Iterable[str]) -> Settings | None:
    """What the first of the comments that speaks of checks says, None for nothing that can be read."""
    for comment in comments:
        match = DIRECTIVE.fullmatch(comment)
        if match is not None and match[1].lower() == "check":
            try:
                return parse(match[2].partition(" ")[0])
            except ValueError:
                return None
    return None


def doubts(reading: Reading, settings: Settings) -> tuple[str, ...]:
    """The names that no rule has in the settings of a file and of its instructions, and what was meant.

    Each is told once, and no more of them than somebody reads.
    """
    return tuple(
        f"check names {name}, which is no rule"
        + (f"; {near}" if (near := meant(name, RULES)) else "")
        + place
        for name, place in islice(_unknown(reading, settings), MAX_DOUBTS)
    )


def _unknown(reading: Reading, settings: Settings) -> Iterator[tuple[str, str]]:
    known = {*RULES, ALL, ""}
    own = ((f" (above line {line.first})", _said_by(line.comments)) for line, _ in reading.lines)
    for place, said in chain([("", settings)], own):
        for name in sorted(((said.skip | said.experimental) - known) if said else ()):
            known.add(name)
            yield name, place


def settings_of(reading: Reading, build_args: Mapping[str, str]) -> Settings:
    """The settings for a file: those of the build argument, else of its directive. Raises BuildError."""
    if BUILD_ARG in build_args:
        try:
            return parse(build_args[BUILD_ARG])
        except ValueError as error:
            raise BuildError(f"{BUILD_ARG}: {error}", code="bad-check", hint=_HINT) from error
    for directive in reading.directives:
        if directive.name == "check":
            try:
                return parse(directive.value)
            except ValueError as error:
                raise DockerfileError(
                    f"check: {error}",
                    code="bad-check",
                    location=Location(reading.source, directive.span),
                    hint=_HINT,
                ) from error
    return Settings()


_HINT = "for example: skip=JSONArgsRecommended,StageNameCasing;error=true"


def parse(text: str) -> Settings:
    """The settings of `skip=A,B;experimental=all;error=true`. Raises ValueError for what is none."""
    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error = False
    text = text.strip(SPACE)
    for option in text.split(";", 2) if text else ():
        name, equals, value = (part.strip(SPACE) for part in option.partition("="))
        match name if equals else None:
            case "skip":
                skip = _names(value) | (skip & {ALL})
            case "experimental":
                experimental = _names(value) | (experimental & {ALL})
            case "error" if value in TRUE | FALSE:
                error = value in TRUE
            case "error":
                raise ValueError(f"error is true or false, not {value!r}")
            case _:
                near = meant(name, OPTIONS)
                raise ValueError(f"{option!r} is no option" + (f"; {near}" if near else ""))
    return Settings(skip, experimental, error)


def _names(text: str) -> frozenset[str]:
    """Names between commas; "all" counts only alone."""
    if text == ALL:
        return frozenset({ALL})
    return frozenset(name.strip(SPACE) for name in text.split(",")) - {ALL}

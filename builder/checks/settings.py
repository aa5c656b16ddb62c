"""Which rules apply: `# check=skip=…;error=true;experimental=…`, for a file or for one instruction. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from builder.checks.rules import Rule
from builder.dockerfile.blanks import SPACE
from builder.dockerfile.lines import DIRECTIVE
from builder.dockerfile.mounts import FALSE, TRUE
from builder.dockerfile.parser import Reading
from builder.errors import BuildError, DockerfileError
from builder.text import Location

BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"
ALL = "all"


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
        for comment in comments:
            match = DIRECTIVE.fullmatch(comment)
            name = match[1].lower() if match else ""
            if match is None or name != "check":
                continue
            try:
                own = parse(match[2].partition(" ")[0])
            except ValueError:
                return self
            return replace(self, skip=self.skip | own.skip, experimental=self.experimental | own.experimental)
        return self


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
                skip = _names(value)
            case "experimental":
                experimental = _names(value)
            case "error" if value in TRUE | FALSE:
                error = value in TRUE
            case "error":
                raise ValueError(f"error is true or false, not {value!r}")
            case _:
                raise ValueError(f"{option!r} is no option")
    return Settings(skip, experimental, error)


def _names(text: str) -> frozenset[str]:
    """Names between commas; "all" counts only alone."""
    if text == ALL:
        return frozenset({ALL})
    return frozenset(name.strip(SPACE) for name in text.split(",")) - {ALL}

"""The config that `--change` asks for: instructions of a Dockerfile, as `pybuild import` takes them.

They are those that change what an image says of itself and make no layer, and they are read and understood by
the code that builds do it with. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from builder.compiler.compile import compile as compile_dockerfile
from builder.compiler.program import CompileOptions, Program
from builder.dockerfile.ast import Env, Workdir
from builder.dockerfile.parser import parse
from builder.errors import BuildError, DockerfileError, UsageError
from builder.oci.spec import ImageConfig, Platform
from builder.text import SourceText

ALLOWED = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME",
    "WORKDIR",
)  # fmt: skip
NAME = "--change"
FIRST = "FROM scratch\n"


def config_of(changes: Sequence[str], platform: Platform) -> ImageConfig:
    """The config of an image for a platform that only these instructions, in their order, have changed.

    Raises UsageError for what is no such instruction, or cannot be.
    """
    try:
        return _compiled(changes, platform)
    except DockerfileError as error:
        raise UsageError(f"--change{_which(changes, error)}: {error.message}", hint=error.hint) from error


def _which(changes: Sequence[str], error: DockerfileError) -> str:
    """The change that an error is in."""
    line = FIRST.count("\n") + 1
    for change in changes:
        line += change.count("\n") + 1
        if error.location is not None and error.location.span.line < line:
            return f" {change!r}"
    return ""


def _compiled(changes: Sequence[str], platform: Platform) -> ImageConfig:
    dockerfile = parse(SourceText(NAME, FIRST + "".join(f"{change}\n" for change in changes)))
    for instruction in dockerfile.instructions[1:]:
        if instruction.keyword not in ALLOWED:
            raise UsageError(
                f"--change {instruction.keyword}: that is no change of an image's config",
                hint=f"it takes {', '.join(ALLOWED)}",
            )
    options = CompileOptions(build_platform=platform, platform=platform, platform_given=True)
    program = compile_dockerfile(dockerfile, options, {})
    if not isinstance(program, Program):
        raise BuildError("--change needs another image to be known")
    config = program.config.config
    # What an image from scratch has by itself in a build, an imported one has not.
    if not any(isinstance(each, Workdir) for each in dockerfile.instructions):
        config = replace(config, working_dir="")
    if not any(
        pair.name == "PATH"
        for each in dockerfile.instructions
        if isinstance(each, Env)
        for pair in each.pairs
    ):
        config = replace(config, env=tuple(entry for entry in config.env if not entry.startswith("PATH=")))
    return replace(program.config, config=config, history=())

"""A Dockerfile on its way to a program: what had to be known for that, and what checks find in it.

Compiling goes round with resolving base images until nothing is missing. Wherever it fails, what was read and
come to until then stays, so that findings can be told beside the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builder.checks.find import Subject, find
from builder.checks.settings import Settings, doubts, settings_of
from builder.compiler.compile import Visit
from builder.compiler.compile import compile as compile_dockerfile
from builder.compiler.program import Program
from builder.dockerfile.ignore import Ignore
from builder.dockerfile.ignore import parse as parse_ignore
from builder.dockerfile.parser import read
from builder.errors import BuildError
from builder.solver.solver import first_error
from builder.text import SourceText

if TYPE_CHECKING:
    from builder.compiler.program import BaseImage, CompileOptions, ImageRequest, Missing, Warning
    from builder.dockerfile.grammar import Analyses
    from builder.ops.source import Git, Http
    from builder.prepare import Texts
    from builder.sources.image import ImageSource

    Bases = dict[ImageRequest, BaseImage]
    TimeOf = Callable[[Git | Http], Awaitable[int | None]]


class Attempt:
    """One Dockerfile with one set of options. `known`: the bases as they were resolved.

    kept: where the grammar's analysis is kept; time_of: gives the time of what is at an address, in seconds.
    """

    def __init__(
        self, texts: Texts, options: CompileOptions, kept: Analyses | None = None, *, time_of: TimeOf
    ) -> None:
        self.reading = read(SourceText(texts.name, texts.dockerfile), kept)
        self.options = replace(options, context_is_folder=texts.layer is None, context_epoch=texts.epoch)
        self.known: Bases = {}
        self.visits: list[Visit] = []
        self._texts = texts
        self._ignore: Ignore | None = None
        self._settings: Settings | None = None
        self._time_of = time_of

    async def compile(self, images: ImageSource) -> Program:
        """The program, with what checks find as its warnings. Raises BuildError."""
        self._settings = settings_of(self.reading, self.options.build_args)
        dockerfile = self.reading.dockerfile()
        name, text = self._texts.ignore or (".dockerignore", "")
        self._ignore = parse_ignore(text, name)
        while True:
            self.visits.clear()
            outcome = compile_dockerfile(dockerfile, self.options, self.known, self.visits)
            if isinstance(outcome, Program):
                return replace(outcome, warnings=self.findings())
            self.known.update(await _resolve(outcome, images))
            times = {source: await self._time_of(source) for source in outcome.times}
            self.options = replace(self.options, source_times={**self.options.source_times, **times})

    def findings(self) -> tuple[Warning, ...]:
        """What checks find, as far as compiling went."""
        if self._settings is None:
            return ()
        subject = Subject(self.reading, self.options, self.known, self.visits, self._ignore)
        return find(subject, self._settings)

    def doubts(self) -> tuple[str, ...]:
        """What the settings of checks say that means nothing."""
        return () if self._settings is None else doubts(self.reading, self._settings)

    def refuse(self, findings: tuple[Warning, ...]) -> None:
        """Raise BuildError where the Dockerfile wants findings to be an error, and there are some."""
        if findings and self._settings is not None and self._settings.error:
            names = ", ".join(dict.fromkeys(finding.rule for finding in findings))
            raise BuildError(
                f"checks found something, which check=error=true makes an error: {names}",
                code="check-failed",
            )


async def _resolve(missing: Missing, images: ImageSource) -> Bases:
    """All missing images at the same time."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {wanted: group.create_task(images.resolve(wanted)) for wanted in missing.images}
    except BaseExceptionGroup as errors:
        raise first_error(errors) from errors
    return {wanted: task.result() for wanted, task in tasks.items()}

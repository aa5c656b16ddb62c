"""A Dockerfile on its way to a program: what had to be known for that, and what checks find in it.

Compiling goes round with resolving base images until nothing is missing. Wherever it fails, what was read and
come to until then stays, so that findings can be told beside the error. For several platforms one text is
compiled several times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builder.checks.find import Subject, find
from builder.checks.settings import Settings, doubts, settings_of
from builder.compiler.compile import Visit
from builder.compiler.compile import compile as compile_dockerfile
from builder.compiler.program import Program, together, united
from builder.dockerfile.ignore import Ignore
from builder.dockerfile.ignore import parse as parse_ignore
from builder.dockerfile.parser import read
from builder.errors import BuildError
from builder.resolving import Resolving, lock_file_of
from builder.solver.solver import first_error
from builder.text import SourceText

if TYPE_CHECKING:
    from builder.compiler.program import (
        BaseImage,
        CompileOptions,
        ImageRequest,
        Programs,
        Warning,
    )
    from builder.dockerfile.grammar import Analyses
    from builder.dockerfile.parser import Reading
    from builder.ops.source import Git, Http
    from builder.prepare import Texts
    from builder.sources.image import ImageSource

    Bases = dict[ImageRequest, BaseImage]
    TimeOf = Callable[[Git | Http], Awaitable[int | None]]


class Attempt:
    """One Dockerfile with one set of options. `known`: the bases as they were resolved.

    kept: where the grammar's analysis is kept; time_of: gives the time of what is at an address, in seconds;
    reading: the text, where it has been read.
    """

    def __init__(
        self,
        texts: Texts,
        options: CompileOptions,
        kept: Analyses | None = None,
        *,
        time_of: TimeOf,
        reading: Reading | None = None,
    ) -> None:
        self.reading = reading or read(SourceText(texts.name, texts.dockerfile), kept)
        lock_file = lock_file_of(texts, required=options.lock_file.required)
        self.options = replace(
            options,
            context_is_folder=texts.layer is None,
            context_epoch=texts.epoch,
            lock_file=lock_file,
        )
        self._bases = Resolving(lock_file)
        self.visits: list[Visit] = []
        self._texts = texts
        self._ignore: Ignore | None = None
        self._settings: Settings | None = None
        self._time_of = time_of

    @property
    def known(self) -> Bases:
        """The bases, as they were resolved."""
        return self._bases.known

    @property
    def loose(self) -> Bases:
        """Those of them whose names may mean others tomorrow: all that no lock file pins."""
        return {wanted: base for wanted, base in self.known.items() if wanted not in self._bases.locked}

    async def compile(self, images: ImageSource) -> Program:
        """The program; its warnings are what checks find, and what a lock file lacks. Raises BuildError."""
        self._bases.begin()
        self._settings = settings_of(self.reading, self.options.build_args)
        dockerfile = self.reading.dockerfile()
        name, text = self._texts.ignore or (".dockerignore", "")
        self._ignore = parse_ignore(text, name)
        while True:
            self.visits.clear()
            outcome = compile_dockerfile(dockerfile, self.options, self.known, self.visits)
            if isinstance(outcome, Program):
                return replace(outcome, warnings=(*self.findings(), *self._bases.warnings(outcome)))
            await self._bases.resolve(outcome, images)
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
        names = ", ".join(dict.fromkeys(finding.rule for finding in findings if finding.rule))
        if names and self._settings is not None and self._settings.error:
            raise BuildError(
                f"checks found something, which check=error=true makes an error: {names}",
                code="check-failed",
            )


class Attempts:
    """One Dockerfile with a set of options for each platform; `first` is the attempt for the first one."""

    def __init__(
        self,
        texts: Texts,
        options: Sequence[CompileOptions],
        kept: Analyses | None = None,
        *,
        time_of: TimeOf,
    ) -> None:
        self.first = Attempt(texts, options[0], kept, time_of=time_of)
        further = (Attempt(texts, each, time_of=time_of, reading=self.first.reading) for each in options[1:])
        self._each = (self.first, *further)

    async def compile(self, images: ImageSource) -> Programs:
        """The programs, with what checks find as their warnings. Raises BuildError."""
        if len(self._each) == 1:
            return together([await self.first.compile(images)])
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(attempt.compile(images)) for attempt in self._each]
        except BaseExceptionGroup as errors:
            raise first_error(errors) from errors
        return together([task.result() for task in tasks])

    @property
    def known(self) -> Bases:
        """The bases of all, as they were resolved."""
        return {wanted: base for attempt in self._each for wanted, base in attempt.known.items()}

    @property
    def loose(self) -> Bases:
        """Those of them that no lock file pins."""
        return {wanted: base for attempt in self._each for wanted, base in attempt.loose.items()}

    def findings(self) -> tuple[Warning, ...]:
        """What checks find for any of the platforms, as far as compiling went."""
        return united([attempt.findings() for attempt in self._each])

    def doubts(self) -> tuple[str, ...]:
        """What the settings of checks say that means nothing."""
        return self.first.doubts()

    def refuse(self, findings: tuple[Warning, ...]) -> None:
        """Raise BuildError where the Dockerfile wants findings to be an error, and there are some."""
        self.first.refuse(findings)

"""What can be told of a request without building it: findings, an outline, its targets, its syntax tree.

As `build`, it reads the texts and resolves the base images that the compiler asks for; nothing runs and
nothing is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from builder import loops
from builder.attempt import Attempts
from builder.checks.documents import Report
from builder.checks.outline import Outline, read_outline
from builder.errors import BuildError
from builder.programs import all_options, kept_analyses, load_texts, open_images, times_of
from builder.store.root import open_store

if TYPE_CHECKING:
    from builder.compiler.program import Programs
    from builder.dockerfile.ast import Dockerfile
    from builder.request import BuildRequest
    from builder.text import SourceText


def check(request: BuildRequest) -> Report:
    """What is found in the target, or in the whole file where none is named, for any of the platforms.

    What is wrong with the Dockerfile or its bases is in the report. Raises BuildError where a text cannot be
    read.
    """
    attempts = _attempts(request, all_stages=not request.target)
    error: BuildError | None = None
    try:
        programs = loops.run(_compile(attempts, request))
        attempts.refuse(programs.warnings)
    except BuildError as raised:
        error = raised
    return Report(attempts.first.reading.source, attempts.findings(), error, attempts.doubts())


def outline(request: BuildRequest) -> tuple[Outline, SourceText]:
    """What the target takes, for the first platform. Raises BuildError where it cannot be compiled."""
    attempts = _attempts(request)
    loops.run(_compile(attempts, request))
    attempt, reading = attempts.first, attempts.first.reading
    return read_outline(reading.dockerfile(), attempt.options, attempt.visits), reading.source


def syntax(request: BuildRequest) -> Dockerfile:
    """The request's Dockerfile, parsed. Raises BuildError."""
    return _attempts(request).first.reading.dockerfile()


def _attempts(request: BuildRequest, *, all_stages: bool = False) -> Attempts:
    options = [replace(each, all_stages=all_stages) for each in all_options(request)]
    store = open_store(request.root)
    times = times_of(request, store)
    return Attempts(load_texts(request), options, kept_analyses(store), time_of=times)


async def _compile(attempts: Attempts, request: BuildRequest) -> Programs:
    images = open_images(request, open_store(request.root))
    try:
        return await attempts.compile(images)
    finally:
        await images.close()

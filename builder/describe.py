"""What can be told of a request without building it: findings, an outline, its targets, its syntax tree.

As `build`, it reads the texts and resolves the base images that the compiler asks for; nothing runs and
nothing is recorded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builder.attempt import Attempt
from builder.build import compile_options, kept_analyses, load_texts, open_images, times_of
from builder.checks.documents import Report
from builder.checks.outline import Outline, read_outline
from builder.errors import BuildError
from builder.store.root import open_store

if TYPE_CHECKING:
    from builder.compiler.program import Program
    from builder.dockerfile.ast import Dockerfile
    from builder.request import BuildRequest
    from builder.text import SourceText


def check(request: BuildRequest) -> Report:
    """What is found in the target, or in the whole file where none is named.

    What is wrong with the Dockerfile or its bases is in the report. Raises BuildError where a text cannot be
    read.
    """
    attempt = _attempt(request, all_stages=not request.target)
    error: BuildError | None = None
    try:
        program = asyncio.run(_compile(attempt, request))
        attempt.refuse(program.warnings)
    except BuildError as raised:
        error = raised
    return Report(attempt.reading.source, attempt.findings(), error, attempt.doubts())


def outline(request: BuildRequest) -> tuple[Outline, SourceText]:
    """What the target takes. Raises BuildError where it cannot be compiled."""
    attempt = _attempt(request)
    asyncio.run(_compile(attempt, request))
    reading = attempt.reading
    return read_outline(reading.dockerfile(), attempt.options, attempt.visits), reading.source


def syntax(request: BuildRequest) -> Dockerfile:
    """The request's Dockerfile, parsed. Raises BuildError."""
    return _attempt(request).reading.dockerfile()


def _attempt(request: BuildRequest, *, all_stages: bool = False) -> Attempt:
    options = replace(compile_options(request), all_stages=all_stages)
    store = open_store(request.root)
    times = times_of(request, store)
    return Attempt(load_texts(request), options, kept_analyses(store), time_of=times)


async def _compile(attempt: Attempt, request: BuildRequest) -> Program:
    images = open_images(request, open_store(request.root))
    try:
        return await attempt.compile(images)
    finally:
        await images.close()

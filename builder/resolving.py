"""The base images that a compile asks for: each as the lock file has it, else as it is found.

What a lock file says is not looked up: the image is fetched by its digest, as if the Dockerfile had it. What
is there and lacks something is told as a warning at the line; --locked makes that an error (`compiler.lock`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from builder.compiler.lock import COMMAND, LockFile, is_lockable, parse
from builder.compiler.program import Warning
from builder.errors import BuildError
from builder.oci import reference
from builder.solver.solver import first_error

if TYPE_CHECKING:
    from builder.compiler.program import BaseImage, ImageRequest, Missing, Program
    from builder.digest import Digest
    from builder.prepare import Texts
    from builder.sources.image import ImageSource
    from builder.text import Location

    Bases = dict[ImageRequest, BaseImage]

EXCERPT_LINES = 3


def lock_file_of(texts: Texts, *, required: bool) -> LockFile:
    """The lock file that goes with a Dockerfile. Raises BuildError for one that is damaged."""
    lock = parse(texts.lock, texts.lock_name) if texts.lock is not None else None
    return LockFile(texts.lock_name, lock, required)


class Resolving:
    """The bases of one compile. known: as they were resolved; locked: those that the lock file names."""

    def __init__(self, file: LockFile) -> None:
        self.known: Bases = {}
        self.locked: set[ImageRequest] = set()
        self._file = file
        self._unlocked: list[ImageRequest] = []

    def begin(self) -> None:
        """Raise BuildError where a lock file must be there and is not."""
        if self._file.required and self._file.lock is None:
            raise BuildError(
                f"{self._file.name} is not there, and --locked was given",
                code="not-locked",
                hint="`pybuild lock` writes it",
            )

    async def resolve(self, missing: Missing, images: ImageSource) -> None:
        """Know all missing images.

        Raises BuildError for one that is not there, or must be locked and is not.
        """
        digests = {wanted: self._pin(wanted) for wanted in missing.images}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    wanted: group.create_task(self._one(wanted, digest, images))
                    for wanted, digest in digests.items()
                }
        except BaseExceptionGroup as errors:
            raise first_error(errors) from errors
        self.known |= {wanted: task.result() for wanted, task in tasks.items()}

    async def _one(self, wanted: ImageRequest, digest: Digest | None, images: ImageSource) -> BaseImage:
        try:
            return await images.resolve(wanted, digest)
        except BuildError as error:
            if digest is not None and error.code != "offline":
                error.notes += (f"{self._file.name} has {digest} for it; {COMMAND}",)
            raise

    def _pin(self, wanted: ImageRequest) -> Digest | None:
        """The digest that the lock file has."""
        file = self._file
        if not is_lockable(wanted.locator):
            return None
        digest = file.lock.image(wanted.locator, wanted.platform) if file.lock is not None else None
        if digest is not None:
            self.locked.add(wanted)
        elif file.required:
            raise file.refusal(_shown(wanted), wanted.location)
        elif file.lock is not None and wanted not in self._unlocked:
            self._unlocked.append(wanted)
        return digest

    def warnings(self, program: Program) -> tuple[Warning, ...]:
        """What a lock file that is there lacks of what the program is made of."""
        if self._file.lock is None:
            return ()
        lacking = [(_shown(wanted), wanted.location) for wanted in self._unlocked]
        lacking += self._file.lacking(program.addresses)
        return tuple(_warning(what, self._file.name, at) for what, at in lacking if at is not None)


def _warning(what: str, name: str, at: Location) -> Warning:
    lines = at.source.lines()[at.span.line - 1 : at.span.last_line][:EXCERPT_LINES]
    message = f"{what} is not in {name}, so it is whatever it is now: `pybuild lock` adds it"
    return Warning("", message, at.span, tuple(lines))


def _shown(wanted: ImageRequest) -> str:
    return f"image {reference.parse(wanted.locator).familiar()} for {wanted.platform}"

"""`pybuild lock`: what the names in a Dockerfile lead to now, written down beside it (`compiler.lock`).

Every stage counts, unless a target is named, and every platform that is asked for, else those that the lock
file has. A base image is looked up in its registry, but for one that the store has under its own name, which
is what a build takes too. Files are fetched, since only their bytes tell; of repositories only the refs are
looked at.

The lock that is there has no say in what the new one holds. It is written by one rename.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builder import loops, prepare, remote
from builder.agents.agent import Agents
from builder.attempt import Attempt
from builder.compiler.lock import (
    Change,
    Commit,
    Lock,
    address_name,
    changes,
    is_lockable,
    merged,
    parse,
    render,
)
from builder.compiler.platforms import normalise
from builder.errors import BuildError, UsageError, reason_of
from builder.fs.whole import write_whole
from builder.parts import secrets_of
from builder.programs import all_options, kept_analyses, load_texts, open_images, times_of
from builder.solver.solver import first_error
from builder.store import locks
from builder.store.ingest import sweep_ingest
from builder.store.leases import leased
from builder.store.root import open_store

if TYPE_CHECKING:
    from builder.compiler.program import BaseImage, CompileOptions, ImageRequest
    from builder.ops.source import Git, Http
    from builder.prepare import Texts
    from builder.request import BuildRequest
    from builder.store.root import Store
    from builder.text import Location


@dataclass(frozen=True, slots=True)
class Locked:
    """A new lock beside the old one. path: of the file; text: what it is to hold; changes: what differs.

    is_there: whether the file is, and holds just that.
    """

    path: str
    lock: Lock
    text: str
    changes: list[Change]
    is_there: bool


def make_lock(request: BuildRequest, *, keep: bool = False) -> Locked:
    """What `pybuild lock` writes for a request; nothing is written.

    keep: what the file has and the request does not ask for stays in it. Raises BuildError where a name leads
    nowhere, and UsageError where the Dockerfile is no file of the user's.
    """
    path = lock_path(request)
    text = prepare.read_lock(path)
    before = parse(text, path) if text is not None else Lock()
    if not request.platform:
        request = request.but(platform=",".join(before.platforms))
    store = open_store(request.root)
    with locks.shared(store.folder, locks.BUILDS), leased(store):
        sweep_ingest(store.folder)
        texts = load_texts(request.but(pull=True))  # without the lock that is there
        after = loops.run(_look(request, store, texts))
    if keep:
        after = merged(before, after)
    new = render(after)
    return Locked(path, after, new, changes(before, after), new == text)


def write_lock(locked: Locked) -> None:
    """Put the lock file there. Raises BuildError where it cannot be."""
    try:
        write_whole(os.path.realpath(locked.path), locked.text.encode(), 0o666)
    except OSError as error:
        raise BuildError(
            f"{locked.path} cannot be written: {reason_of(error)}", code="output-file"
        ) from error


def lock_path(request: BuildRequest) -> str:
    """Where the lock file lies, be it there or not. Raises BuildError, UsageError."""
    typed = request.dockerfile or ""
    is_within = not prepare.has_folder(request) and not os.path.isabs(typed)
    if typed == "-" or typed.startswith(("http://", "https://")) or is_within:
        raise UsageError(
            "a lock file lies beside its Dockerfile, and this one is no file here",
            hint="name the Dockerfile with -f FILE",
        )
    return prepare.dockerfile_path(request) + prepare.LOCK_SUFFIX


async def _look(request: BuildRequest, store: Store, texts: Texts) -> Lock:
    """What all that can be locked leads to now, for all platforms."""
    images = open_images(request, store, anew=True)
    options = [replace(each, all_stages=not request.target) for each in all_options(request)]
    found: dict[ImageRequest, BaseImage] = {}
    addresses: dict[Git | Http, Location | None] = {}
    try:
        for each in options:
            attempt = Attempt(texts, each, kept_analyses(store), time_of=times_of(request, store))
            program = await attempt.compile(images)
            found |= {asked: base for asked, base in attempt.known.items() if is_lockable(asked.locator)}
            addresses = {**program.addresses, **addresses}
        content = await _fetch(request, store, addresses)
    except BuildError as error:
        if not request.target:
            error.notes += ("all stages are locked; --target STAGE locks what that one needs",)
        raise
    finally:
        await images.close()
    by_name: dict[str, dict[str, str]] = {}
    for asked, base in found.items():
        by_name.setdefault(asked.locator, {})[str(asked.platform)] = base.digest
    urls = {address_name(op): what for op, what in content.items() if isinstance(what, str)}
    commits = {address_name(op): what for op, what in content.items() if isinstance(what, Commit)}
    return Lock(_platforms(options), by_name, urls, commits)


def _platforms(options: list[CompileOptions]) -> tuple[str, ...]:
    return tuple(str(normalise(each.platform)) for each in options)


async def _fetch(
    request: BuildRequest, store: Store, addresses: dict[Git | Http, Location | None]
) -> dict[Git | Http, str | Commit]:
    """What is at the addresses, all looked at together. Raises BuildError at the line that asks for one."""

    async def look(op: Git | Http, location: Location | None) -> str | Commit:
        try:
            agents = Agents(request.ssh)
            return await remote.found_at(op, store, secrets_of(request), agents, offline=request.offline)
        except BuildError as error:
            raise error.at(location) from error.__cause__

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {op: group.create_task(look(op, at)) for op, at in addresses.items()}
    except BaseExceptionGroup as errors:
        raise first_error(errors) from errors
    return {op: task.result() for op, task in tasks.items()}

"""Git repositories: a ref becomes a commit, a commit becomes a layer.

    ROOT/cache/git/<hex>/    a bare repository for each remote; what was fetched is under refs/pybuild/<id>
    ROOT/cache/git/hosts     the keys of the ssh hosts that were met

Where a ref leads is asked on each build (ls-remote), and remembered for those that go offline; the commit is
fetched, without its history, unless it is there; and a checkout of it is made once, in a folder that becomes
the layer as it is. What is told to git are full ids and full refs alone, never a name that a server
advertised or a person typed (SAFETY: a ref that begins with a dash is an option).

A repository is held by one process at a time. Must never know: who asked.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from builder import stop
from builder.compiler.lock import COMMAND
from builder.compiler.remotes import redact
from builder.digest import Digest, hex_of, of_value
from builder.errors import BuildError
from builder.fs.remove import remove_tree
from builder.ops.source import COMMIT, Git
from builder.snapshots.snapshot import LayerId
from builder.sources import offline
from builder.sources.gitcheckout import Checkout, find_folder, read_tree
from builder.sources.gitcommand import GitCommand, GitFailed
from builder.sources.gitcredentials import credentials, without_credentials
from builder.sources.shelf import NewLayer, Shelf

KEPT_REFS = "refs/pybuild/"
REMEMBERED = "refs"
LOCK_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Found:
    """Where a ref leads: a commit, by way of `object` (itself, or a tag); `name`: the full ref or ""."""

    commit: str
    object: str
    name: str = ""


async def fetch(shelf: Shelf, op: Git, *, ssh_agent: str = "") -> tuple[LayerId, str]:
    """The layer with the files, and the id of the commit.

    ssh_agent: the socket of the user's agent, if it may be used. Raises BuildError where the files cannot be
    had, or are not what they should be.
    """
    begun = time.time()
    async with _Repository.opened(shelf, op, ssh_agent) as repository:
        found = await repository.find()
        plain = op.plain_at(found.commit, found.name)
        layer = shelf.find(plain)
        if layer is None:
            if shelf.offline:
                raise offline.missing(f"commit {found.commit} of {repository.shown}")
            await repository.fetch(found)
            layer = await repository.check_out(found)
            label = f"fetch {redact(op.remote)}#{found.commit}"
            shelf.keep(plain, layer, label, time.time() - begun)
    return layer, found.commit


async def find(shelf: Shelf, op: Git, *, ssh_agent: str = "") -> Found:
    """Where the op's ref leads; nothing is fetched. Raises BuildError where it leads nowhere."""
    async with _Repository.opened(shelf, op, ssh_agent) as repository:
        return await repository.find()


async def commit_time(shelf: Shelf, op: Git, commit: str, *, ssh_agent: str = "") -> int:
    """The committer's time, in seconds, of a commit of the op's repository. Raises BuildError."""
    async with _Repository.opened(shelf, op, ssh_agent) as repository:
        await repository.fetch(Found(commit, commit))
        return await repository.commit_time(commit)


async def time_of(shelf: Shelf, op: Git, *, ssh_agent: str = "") -> int:
    """The committer's time, in seconds, of the commit that the op would fetch. Raises BuildError."""
    async with _Repository.opened(shelf, op, ssh_agent) as repository:
        found = await repository.find()
        await repository.fetch(found)
        return await repository.commit_time(found.commit)


class _Repository:
    """The bare repository that stands for one remote, held by this process alone."""

    def __init__(self, shelf: Shelf, op: Git, folder: str, git: GitCommand) -> None:
        self.shelf = shelf
        self.op = op
        self.folder = folder
        self.git = git
        self.url = without_credentials(op.remote)
        self.shown = redact(op.remote)

    @classmethod
    @asynccontextmanager
    async def opened(cls, shelf: Shelf, op: Git, ssh_agent: str) -> AsyncIterator[_Repository]:
        """Hold the repository of a remote; other processes wait."""
        top = os.path.join(shelf.root, "cache", "git")
        home = os.path.join(top, "home")
        os.makedirs(home, mode=0o700, exist_ok=True)
        name = hex_of(of_value(["git", op.remote]))[:32]
        git = GitCommand(home, os.path.join(top, "hosts"), credentials(shelf.secret_of, op.remote), ssh_agent)
        fd = os.open(os.path.join(top, name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(fd):  # noqa: ASYNC110 - by another process, which tells nobody
                await asyncio.sleep(LOCK_PAUSE)
            yield cls(shelf, op, os.path.join(top, name), git)
        finally:
            os.close(fd)

    # ── which commit ─────────────────────────────────────────────────────────────────────────────────────

    async def find(self) -> Found:
        """Where the op's ref leads. Raises BuildError where it leads nowhere, or not where it should."""
        if self.op.commit is not None:
            return Found(self.op.commit, self.op.found_tag or self.op.commit, self.op.found_ref)
        if COMMIT.fullmatch(self.op.ref):  # and the checksum is not its beginning
            raise self._mismatch([self.op.ref])
        found = self._recall() if self.shelf.offline else await self._look()
        ids = list(dict.fromkeys((found.object, found.commit)))
        if not any(name.startswith(self.op.checksum) for name in ids):
            raise self._mismatch(ids)
        return found

    async def _look(self) -> Found:
        """Where the ref leads now."""
        found = await (self._find_named(self.op.ref) if self.op.ref else self._find_default())
        told = json.dumps([found.commit, found.object, found.name])
        self.shelf.cache.remember(REMEMBERED, self._name(), told)
        return found

    def _recall(self) -> Found:
        """Where the ref led when somebody looked last. Raises BuildError where nobody did."""
        text = self.shelf.cache.recall(REMEMBERED, self._name())
        try:
            commit, target, name = json.loads(text or "null")
        except (ValueError, TypeError) as error:
            raise offline.missing(f"{self.shown}#{self.op.ref}".rstrip("#")) from error
        return Found(commit, target, name)

    def _name(self) -> Digest:
        return of_value(["git", self.op.remote, self.op.ref])

    async def _find_named(self, ref: str) -> Found:
        """A ref by its name: as it is below refs/, as a branch, as a tag, in this order."""
        listed = await self._list(ref, ref + "^{}")
        bare = ref.removeprefix("refs/")
        names = (
            f"refs/{bare}",
            "refs/heads/" + ref.removeprefix("refs/heads/"),
            "refs/tags/" + ref.removeprefix("refs/tags/"),
        )
        for name in names:
            if name in listed:
                return Found(listed.get(name + "^{}", listed[name]), listed[name], name)
        raise BuildError(
            f"{self.shown} has no ref {ref}",
            code="no-such-ref",
            hint="a branch, a tag or the whole id of a commit stands behind the #",
        )

    async def _find_default(self) -> Found:
        """The branch that HEAD names, or what HEAD is where it names none."""
        listed = await self._list("HEAD", symbolic=True)
        if "HEAD" not in listed:
            raise BuildError(
                f"{self.shown} has no default branch", code="no-such-ref", hint="name one after a #"
            )
        return Found(listed["HEAD"], listed["HEAD"], listed.get("ref: HEAD", ""))

    async def _list(self, *patterns: str, symbolic: bool = False) -> dict[str, str]:
        """What the remote has for these names: ref -> id, and `ref: HEAD` -> the branch that it is."""
        flags = ["--symref"] if symbolic else []
        what = f"looking at {self.shown}"
        output = await self.git.run(what, "ls-remote", *flags, "--", self.url, *patterns)
        listed: dict[str, str] = {}
        for line in output.decode("utf-8", "surrogateescape").splitlines():
            value, _, name = line.partition("\t")
            if COMMIT.fullmatch(value):
                listed[name] = value
            elif value.startswith("ref: refs/heads/"):
                listed[f"ref: {name}"] = value.removeprefix("ref: ")
        return listed

    def _mismatch(self, ids: list[str]) -> BuildError:
        what = f"{self.shown}#{self.op.ref}" if self.op.ref else self.shown
        return BuildError(
            f"{what} is {' or '.join(ids)}, not {self.op.checksum}",
            code="wrong-checksum",
            hint="the ref has moved, or the checksum is of another one",
        )

    # ── its objects ──────────────────────────────────────────────────────────────────────────────────────

    async def fetch(self, found: Found) -> None:
        """Bring the commit here, if it is not. A repository that went bad is made anew."""
        is_new = not os.path.isdir(self.folder)
        if is_new:
            await self._make(found)
        if await self._has(found.object):
            return
        if self.shelf.offline:
            raise offline.missing(f"commit {found.commit} of {self.shown}")
        try:
            await self._fetch(found)
        except GitFailed:
            if is_new:
                raise
            await stop.in_thread(None, partial(remove_tree, self.folder))  # while it is held
            await self._make(found)
            await self._fetch(found)

    async def _make(self, found: Found) -> None:
        form = ["--object-format=sha256"] if len(found.object) == 64 else []
        await self._run("making a repository", "init", "--quiet", "--bare", "--template=", *form, self.folder)

    async def _has(self, name: str) -> bool:
        try:
            await self._run("looking for a commit", "cat-file", "-e", f"{name}^{{commit}}")
        except GitFailed:
            return False
        return True

    async def _fetch(self, found: Found) -> None:
        """Ask for the object alone; then, as not every server gives that, for the ref; then for all refs."""
        for lock in ("shallow.lock", "packed-refs.lock"):  # of a git that was killed: we hold the repository
            if os.path.lexists(os.path.join(self.folder, lock)):
                os.unlink(os.path.join(self.folder, lock))
        kept = KEPT_REFS + found.object
        tries: list[tuple[str, ...]] = [("--depth=1", f"+{found.object}:{kept}")]
        if found.name:
            tries += [("--depth=1", f"+{found.name}:{kept}"), ("", f"+{found.name}:{kept}")]
        shallow = os.path.exists(os.path.join(self.folder, "shallow"))
        everything = [f"+refs/{kind}/*:{KEPT_REFS}{kind}/*" for kind in ("heads", "tags")]
        tries.append(("--unshallow" if shallow else "", *everything))
        failure: GitFailed | None = None
        for depth, *specs in tries:
            flags = ["--quiet", "--no-tags", "--no-write-fetch-head", *([depth] if depth else [])]
            try:
                await self._run(f"fetching {self.shown}", "fetch", *flags, "--", self.url, *specs)
            except GitFailed as error:
                failure = failure or error
                if not _is_about_the_request(error.said):
                    raise
                continue
            if await self._has(found.object):
                await self._run("keeping a commit", "update-ref", kept, found.object)
                return
        hint = f"the lock file names it: {COMMAND}" if self.op.locked else None
        message = f"{self.shown} has no commit {found.object}"
        raise BuildError(message, code="no-such-ref", hint=hint) from failure

    async def commit_time(self, commit: str) -> int:
        """The committer's time in seconds."""
        data = await self._run("reading a commit", "cat-file", "commit", commit)
        for line in data.split(b"\n\n", 1)[0].splitlines():
            if line.startswith(b"committer "):
                return int(line.split()[-2])
        raise BuildError(f"commit {commit} has no time", code="git-failed")

    async def _run(self, what: str, *arguments: str) -> bytes:
        return await self.git.run(what, *arguments, git_dir=self.folder)

    # ── its files ────────────────────────────────────────────────────────────────────────────────────────

    async def check_out(self, found: Found) -> LayerId:
        """The files of the commit as a layer."""
        op, seconds = self.op, None
        if op.commit_times:
            seconds = await self.commit_time(found.commit)
        with NewLayer(self.shelf) as new:
            checkout = Checkout(
                self.git,
                os.path.join(new.path, "checkout"),
                self.folder,
                keeps=op.keep_git_dir and not op.subdir,
                what=f"checking out {self.shown}",
            )
            await checkout.open(self.url, found.object, KEPT_REFS + found.object, found.name)
            await checkout.write(found.commit, submodules=op.submodules)
            os.rename(find_folder(checkout.tree, op.subdir, self.shown), new.tree)
            return new.place(
                await asyncio.to_thread(read_tree, new.tree, keep=checkout.keeps, seconds=seconds)
            )


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_about_the_request(said: str) -> bool:
    """Whether the server may well give the commit when it is asked in another way."""
    marks = (
        "not our ref", "unadvertised object", "shallow", "--depth", "couldn't find remote ref", "dumb http",
        "remote error: upload-pack",
    )  # fmt: skip
    return any(mark in said for mark in marks)

"""Source ops: where a filesystem comes from.

What is fetched from an address has no early key, as nobody knows what is there, unless the address or a
checksum pins the content: then that is the key, and where it was got from does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from builder.ops.worker import Worker
from builder.snapshots.snapshot import Snapshot


class Scratch(msgspec.Struct, frozen=True, tag=True):
    """The empty filesystem."""

    def plain(self) -> list[Any] | None:
        """See graph.op."""
        return ["scratch", 1]

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return ()


class Image(msgspec.Struct, frozen=True, tag=True):
    """A base image, known by its manifest's digest; `locator` only tells where to get it.

    locator: a normalised reference ("docker.io/library/debian:12") or "oci-layout://NAME" for a named
    context that is an image layout.
    """

    locator: str
    digest: str

    def plain(self) -> list[Any] | None:
        """See graph.op."""
        return ["image", 1, self.digest]

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.pull(self)


MAIN_CONTEXT = "context"
NAMED_CONTEXT = "_context"  # no name that a user can give: the named context called `context`


class Local(msgspec.Struct, frozen=True, tag=True):
    """A context that the user gave: the build context ("context") or a named folder; ignore files applied.

    Its owners are reset to 0:0 and its xattrs dropped when it is read.
    """

    name: str

    def plain(self) -> list[Any] | None:
        """See graph.op: unknown until it is read."""
        return None

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.read_context(self)


COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Http(msgspec.Struct, frozen=True, tag=True):
    """A file on the web, alone in a filesystem, called `filename`: root's, mode 0600, of the server's time.

    checksum: `sha256:…` that its bytes must have, or ""; locked: a lock file said so. Credentials in `url`
    are for its origin alone.
    """

    url: str
    filename: str
    checksum: str = ""
    locked: bool = False

    def plain(self) -> list[Any] | None:
        """See graph.op: known where a checksum says what it is."""
        return ["http", 1, self.checksum, self.filename] if self.checksum else None

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.fetch_file(self)


class Git(msgspec.Struct, frozen=True, tag=True):
    """The files of a commit of a git repository, or of a folder in it: root's, 0644 or 0755.

    ref: a branch, a tag, a full ref or commit, "" for the default branch; subdir: clean, relative, "" for
    all; checksum: how the id of the commit (or of an annotated tag) must begin; keep_git_dir: `.git` comes
    along, if there is no subdir; commit_times: files have the commit's time, not that of the checkout;
    by_commit: `checksum` is the whole id, and is asked for without a look at where the ref is now; locked: a
    lock file said so, and that the commit was found by the full ref `found_ref` and the annotated tag
    `found_tag`.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True
    commit_times: bool = False
    by_commit: bool = False
    found_ref: str = ""
    found_tag: str = ""
    locked: bool = False

    @property
    def commit(self) -> str | None:
        """The id of the commit, where the op says which one it is."""
        if COMMIT.fullmatch(self.ref):
            return self.ref if self.ref.startswith(self.checksum) else None
        return self.checksum if self.by_commit and COMMIT.fullmatch(self.checksum) else None

    def plain(self) -> list[Any] | None:
        """See graph.op: known where it names a commit."""
        return self.plain_at(self.commit, self.found_ref or self.ref) if self.commit else None

    def plain_at(self, commit: str, name: str) -> list[Any]:
        """As plain data once the commit is known; `name` is the ref that a kept `.git` has for it."""
        kept = [self.remote, name] if self.keep_git_dir and not self.subdir else None
        return ["git", 1, commit, self.subdir, kept, self.submodules, self.commit_times]

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.fetch_repository(self)

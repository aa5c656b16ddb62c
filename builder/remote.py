"""Contexts that are no folder: fetched or taken from standard input, and unpacked, before a compile.

    https://host/repo.git#ref:folder    a git repository; see compiler.remotes
    https://host/file                   an archive, or else a Dockerfile, which then is the whole context
    -                                   the same on standard input; a Dockerfile comes with an empty folder

Each becomes a layer of the store, owners and all, and the Dockerfile is read from it, resolved inside it: a
link leads nowhere else (CVE-2026-44517). Ignore files in it are files like others. Loaded only where needed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar

import msgspec

from builder import prepare, stop
from builder.agents.agent import Agents
from builder.agents.forgit import socket_for
from builder.compiler.lock import Commit
from builder.compiler.remotes import TRUTH, WEB, read_context, redact
from builder.digest import Digest, from_hex
from builder.errors import BuildError, UsageError
from builder.oci.compression import BZIP2_MAGIC, GZIP_MAGIC, XZ_MAGIC, ZSTD_MAGIC
from builder.ops.files import Copy, PathItem
from builder.ops.source import Git, Http
from builder.prepare import MAX_DOCKERFILE, Texts
from builder.snapshots import graft
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, Entry, LayerId
from builder.snapshots.tree import TooManyLinks, Tree
from builder.snapshots.unpack import no_content
from builder.solver.cache import Cache
from builder.sources.archive import Archives, is_archive
from builder.sources.shelf import NewLayer, SecretOf, Shelf, open_new
from builder.store.failure import told_as

if TYPE_CHECKING:
    from builder.request import BuildRequest
    from builder.store.root import Store

P = ParamSpec("P")
T = TypeVar("T")
KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
FILENAME = "context"  # what a file is called that is a context
DEFAULT_NAME = "Dockerfile"
CHUNK = 1 << 20
SECOND = 1_000_000_000  # in nanoseconds
COMPRESSED = (GZIP_MAGIC, BZIP2_MAGIC, XZ_MAGIC, ZSTD_MAGIC)


async def read_texts(request: BuildRequest, store: Store, secret_of: SecretOf, stdin: int = 0) -> Texts:
    """The Dockerfile of a request whose context or Dockerfile has to be fetched, and the context's layer.

    Raises BuildError where one of them cannot be had.
    """
    if request.context == "-" and request.dockerfile == "-":
        raise UsageError("context and Dockerfile cannot both come from standard input")
    reading = _Reading(request, _open_shelf(store, secret_of, offline=request.offline), stdin)
    if prepare.has_folder(request):
        name, text = await reading.dockerfile_by_url()
        folder = prepare.context_folder(request.context)
        return Texts(name, text, folder, prepare.ignore_of(folder, None))
    if request.context == "-":
        return await reading.from_stdin()
    op = read_context(request.context)
    return await (reading.from_git(op) if isinstance(op, Git) else reading.from_file(op))


async def found_at(
    op: Git | Http, store: Store, secret_of: SecretOf, agents: Agents, *, offline: bool = False
) -> str | Commit:
    """What is at an address now, as a lock file has it: a file, which is fetched, or where a ref leads.

    Raises BuildError.
    """
    shelf = _open_shelf(store, secret_of, offline=offline)
    if isinstance(op, Http):
        from builder.sources import http

        layer = await http.fetch(shelf, op)
        return shelf.layers.entries(layer)[0].digest or ""
    from builder.sources import git

    async with _agent(op, agents, shelf) as agent:
        found = await git.find(shelf, op, ssh_agent=agent)
    return Commit(found.commit, found.name, found.object if found.object != found.commit else "")


async def time_of(
    op: Git | Http, store: Store, secret_of: SecretOf, agents: Agents, *, offline: bool = False
) -> int | None:
    """The time of what is at an address, in seconds, where it has one. Raises BuildError.

    A commit's is its committer's; a file's when it was last modified, else of an archive its newest file's.
    """
    shelf = _open_shelf(store, secret_of, offline=offline)
    if isinstance(op, Git):
        from builder.sources import git

        async with _agent(op, agents, shelf) as agent:
            return await git.time_of(shelf, op, ssh_agent=agent)
    from builder.sources import http

    layer = await http.fetch(shelf, op)
    entry = shelf.layers.entries(layer)[0]
    return entry.mtime // SECOND if entry.mtime else await _thread(_newest_in, shelf, layer, entry)


def _agent(op: Git, agents: Agents, shelf: Shelf) -> AbstractAsyncContextManager[str]:
    """The agent for a repository that the user names: that of --ssh, else the one in the environment."""
    return socket_for(op.remote, agents, shelf.root, os.environ.get("SSH_AUTH_SOCK", ""))


def _newest_in(shelf: Shelf, layer: LayerId, entry: Entry) -> int | None:
    """The time of an archive's newest file; None for what is no archive."""
    with shelf.layers.open(layer, entry) as file, Archives(shelf.root) as archives:
        read = archives.read(file, entry.path)
    return _newest(read.entries) if read is not None else None


def _open_shelf(store: Store, secret_of: SecretOf, *, offline: bool) -> Shelf:
    layers = LayerStore(Path(store.folder, "layers"), store.blobs)
    cache = Cache(os.path.join(store.folder, "cache"), layers.exists)
    return Shelf(store.folder, layers, cache, secret_of, offline=offline)


class _Reading:
    """One request's texts, on the way from somewhere else."""

    def __init__(self, request: BuildRequest, shelf: Shelf, stdin: int) -> None:
        self.request = request
        self.shelf = shelf
        self.stdin = stdin
        self.args = prepare.build_args(request, os.environ)

    async def from_git(self, op: Git) -> Texts:
        """A repository; its files have the commit's time where the build's times are given."""
        from builder.sources import git

        op = msgspec.structs.replace(
            op,
            keep_git_dir=op.keep_git_dir or TRUTH.get(self.args.get(KEEP_GIT_DIR) or "0", False),
            commit_times=op.commit_times or bool(self.args.get(prepare.EPOCH)),
        )
        async with _agent(op, Agents(self.request.ssh), self.shelf) as agent:
            layer, commit = await git.fetch(self.shelf, op, ssh_agent=agent)
            texts = await self._with_dockerfile(layer, None)
            texts.origin = commit
            if self._wants_epoch(texts.dockerfile):
                texts.epoch = await git.commit_time(self.shelf, op, commit, ssh_agent=agent)
        return texts

    def _wants_epoch(self, dockerfile: str) -> bool:
        """Whether the context's time may be asked for: by a build argument, or by what an ARG defaults to."""
        return self.args.get(prepare.EPOCH, FILENAME if prepare.EPOCH in dockerfile else "") == FILENAME

    async def from_file(self, op: Http) -> Texts:
        """An archive by URL, or a Dockerfile."""
        from builder.sources import http

        layer = await http.fetch(self.shelf, op)
        entry = self.shelf.layers.entries(layer)[0]
        epoch = entry.mtime // SECOND if entry.mtime else None
        with self.shelf.layers.open(layer, entry) as file:
            context = await _thread(self._unpack, file, Digest(entry.digest or ""), redact(op.url))
        if context is not None:
            if epoch is None:
                epoch = _newest(self.shelf.layers.entries(context))
            texts = await self._with_dockerfile(context, epoch)
        else:
            text = await _thread(self._read, layer, entry, redact(op.url))
            texts = Texts(FILENAME, text, None, None, layer, epoch)
        texts.origin = entry.digest or ""
        return texts

    async def from_stdin(self) -> Texts:
        """An archive on standard input, or a Dockerfile, whose context is then an empty folder."""
        shown = "standard input"
        with NewLayer(self.shelf) as new, open_new(os.path.join(new.path, "stdin")) as file:
            digest = await _thread(_spool, self.stdin, file)
            context = await _thread(self._unpack, file, digest, shown)
            if context is None:
                return Texts(DEFAULT_NAME, self._as_dockerfile(file, shown), None, None, self._empty())
        return await self._with_dockerfile(context, _newest(self.shelf.layers.entries(context)))

    def _empty(self) -> LayerId:
        """The layer of a context without files."""
        plain = ["context-empty", 1]
        layer = self.shelf.find(plain)
        if layer is None:
            layer = self.shelf.layers.create([], no_content, unpacked=True)
            self.shelf.keep(plain, layer, "make an empty context", 0.0)
        return layer

    def _as_dockerfile(self, file: BinaryIO, shown: str) -> str:
        """The text of what is no archive."""
        if self.request.dockerfile:
            raise UsageError(
                f"{shown} is no archive, so it is a Dockerfile, and -f names another",
                hint="leave -f out, or name the context",
            )
        file.seek(0)
        return _text(file, shown)

    async def dockerfile_by_url(self) -> tuple[str, str]:
        """The Dockerfile that `-f` names by its URL: its name and its text."""
        from builder.sources import http

        address = self.request.dockerfile or ""
        op = read_context(address)
        if not isinstance(op, Http):
            raise UsageError(f"-f {redact(address)} is a git repository", hint="a Dockerfile is one file")
        layer = await http.fetch(self.shelf, op)
        entry = self.shelf.layers.entries(layer)[0]
        return DEFAULT_NAME, await _thread(self._read, layer, entry, redact(address))

    async def _with_dockerfile(self, layer: LayerId, epoch: int | None) -> Texts:
        """The Dockerfile that goes with a context: in it, or where `-f` names one that is not in it."""
        asked, lock = self.request.dockerfile, None
        if asked is None or not (asked == "-" or os.path.isabs(asked) or asked.startswith(WEB)):
            name, text, lock = await _thread(self._find, layer, asked or DEFAULT_NAME)
        elif asked.startswith(WEB):
            name, text = await self.dockerfile_by_url()
        else:
            name, text = prepare.read_dockerfile(self.request, self.stdin)
            lock = prepare.lock_of(self.request, name) if asked != "-" else None
        return Texts(name, text, None, None, layer, epoch, lock)

    def _find(self, layer: LayerId, name: str) -> tuple[str, str, str | None]:
        """A file of the context, by a path as typed: (name, text, text of the lock file beside it).

        `dockerfile` will do for `Dockerfile`, which it is called then.
        """
        tree = self.shelf.layers.tree((layer,))
        folder, slash, base = name.rpartition("/")
        names = [name, f"{folder}{slash}{base.lower()}"] if base == DEFAULT_NAME else [name]
        for candidate in names:
            entry = _get(tree, candidate)
            if entry is not None and entry.kind == FILE:
                return name, self._read(layer, entry, candidate), self._lock(layer, tree, candidate)
        raise BuildError(
            f"Dockerfile {name} is not in the context {redact(self.request.context)}",
            code="dockerfile-not-found",
            hint="name the file with -f PATH, as it is called in there",
        )

    def _lock(self, layer: LayerId, tree: Tree, dockerfile: str) -> str | None:
        is_ignored = self.request.pull or self.request.unlocked
        entry = None if is_ignored else _get(tree, dockerfile + prepare.LOCK_SUFFIX)
        if entry is None or entry.kind != FILE:
            return None
        with self.shelf.layers.open(layer, entry) as file:
            return prepare.decode_lock(file.read(MAX_DOCKERFILE))

    def _read(self, layer: LayerId, entry: Entry, shown: str) -> str:
        with self.shelf.layers.open(layer, entry) as file:
            return _text(file, shown)

    def _unpack(self, file: BinaryIO, digest: Digest, shown: str) -> LayerId | None:
        """The layer that an archive holds; None for what is no archive."""
        if not is_archive(file):
            file.seek(0)
            if file.read(len(XZ_MAGIC)).startswith(COMPRESSED):
                raise BuildError(f"{shown} is compressed, and no archive", code="context")
            return None
        plain = ["context-archive", 1, digest]
        layer = self.shelf.find(plain)
        if layer is not None:
            return layer
        begun = time.time()
        with told_as(self.shelf.root, "unpacking a context"):
            layer = unpack(self.shelf, file)
        return self.shelf.keep(plain, layer, f"unpack {shown}", time.time() - begun)


def unpack(shelf: Shelf, file: BinaryIO) -> LayerId:
    """The layer of an archive that is a context, unpacked as ADD unpacks one into an empty folder."""
    op = Copy((PathItem(0, f"/{FILENAME}"),), "/", unpack=True)
    source = Tree().plus(LayerId(FILENAME), [Entry(FILENAME, FILE, 0o600)])
    with Archives(shelf.root) as archives:
        file.seek(0)
        read = archives.read(file, "the context")
        planned = graft.plan(
            op, Tree(), {0: source}, None, now=time.time_ns(), digest_of=_no_digest, archive=lambda *_: read
        )
        origins = {item.entry.path: item.origin for item in planned}

        def content(entry: Entry) -> BinaryIO:
            origin = origins[entry.path]
            assert isinstance(origin, tuple)
            return archives.open(origin[1])

        return shelf.layers.create([item.entry for item in planned], content, unpacked=True)


async def _thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await stop.in_thread(None, functools.partial(function, *args, **kwargs))


def _get(tree: Tree, path: str) -> Entry | None:
    try:
        return tree.get(tree.resolve("/" + path))
    except TooManyLinks:
        return None


def _no_digest(_layer: LayerId, entry: Entry) -> Digest:
    return Digest(entry.digest or "")


def _text(file: BinaryIO, shown: str) -> str:
    data = file.read(MAX_DOCKERFILE + 1)
    if len(data) > MAX_DOCKERFILE:
        raise BuildError(f"{shown} is larger than {MAX_DOCKERFILE >> 20} MiB", code="dockerfile")
    return prepare.decode(data, shown)


def _newest(entries: Sequence[Entry]) -> int | None:
    """The time of the newest file, in seconds."""
    return max((entry.mtime // SECOND for entry in entries if entry.kind == FILE), default=None)


def _spool(fd: int, file: BinaryIO) -> Digest:
    """Keep all that a descriptor gives in a file; its digest."""
    sha = hashlib.sha256()
    while data := os.read(fd, CHUNK):
        stop.check()
        sha.update(data)
        file.write(data)
    file.seek(0)
    return from_hex(sha.hexdigest())

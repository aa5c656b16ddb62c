"""Blobs: bytes by their digest, in ROOT/blobs/sha256, in the shape of an OCI image layout.

The one idea: a blob appears under its digest by a single link(2) of a finished file, so a reader sees
all of it or none. It never knows what a blob means.

Invariant: a blob that somebody is told of has the bytes its digest says. What a power cut can undo is
told apart by the file's mode: a blob is 0600 until its bytes are known to be on the disk (fsync at
commit when `durable`, else one `barrier` for many), and 0400 from then on. One that is still 0600 and
was not written by this process is hashed before it is believed. On the cached path: hashlib is loaded
by who writes or checks bytes.
"""

from __future__ import annotations

import os
import stat
from _thread import allocate_lock

from builder import digest as digests
from builder import stop
from builder.errors import StoreError
from builder.store.failure import store_error, told_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

    from builder.digest import Digest
    from builder.store.leases import Lease

CHUNK = 1 << 20
_UNSETTLED = 0o600
_SETTLED = 0o400
_AT_ONCE = 64  # blobs that a barrier holds open
_FEW = 3  # blobs that a barrier brings to the disk one by one


class WrongContent(StoreError):
    """Bytes that were written are not those expected; tells `digest` and `size` as they are."""

    code = "wrong-content"

    def __init__(self, message: str, digest: Digest, size: int) -> None:
        super().__init__(message)
        self.digest = digest
        self.size = size


class Ingest:
    """A blob on its way in. Leaving the block without `commit` drops it.

    The temporary file is flock'ed while it is written: one that nobody holds is stale (see
    store.ingest). `write` is for threads; who writes to `fileno()` itself calls `feed` with the same bytes.
    """

    def __init__(self, blobs: BlobStore, fd: int, path: str) -> None:
        from hashlib import sha256

        self._sha256 = sha256
        self._blobs = blobs
        self._fd = fd
        self._path = path
        self._hash = sha256()
        self.folder = blobs.folder
        self.size = 0

    def fileno(self) -> int:
        """The temporary file, open for writing at its end."""
        return self._fd

    def feed(self, data: bytes | memoryview) -> None:
        """Take note of bytes that were, or will be, written to `fileno()`."""
        self._hash.update(data)
        self.size += len(data)

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes; returns how many, which is all of them. Raises StoreError."""
        self.feed(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise store_error(error, self.folder, "writing a blob") from error
        return len(data)

    def restart(self) -> None:
        """Begin again with nothing written, as when a transfer cannot be resumed."""
        with told_as(self.folder, "writing a blob"):
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = self._sha256()
        self.size = 0

    def digest(self) -> Digest:
        """The digest of what was written so far."""
        return digests.from_hex(self._hash.hexdigest())

    def commit(self, *, expected: Digest | None = None, size: int | None = None) -> tuple[Digest, int]:
        """Make it a blob; returns its digest and size. Raises WrongContent, or StoreError.

        A blob that is there already is success: the new bytes are dropped, being the same.
        """
        digest = self.digest()
        if size is not None and size != self.size:
            raise WrongContent(f"expected {size} bytes, got {self.size}", digest, self.size)
        if expected is not None and expected != digest:
            raise WrongContent(f"expected {expected}, got {digest}", digest, self.size)
        with told_as(self.folder, "writing a blob"):
            self._blobs._settle_in(self._fd, self._path, digest, self.size)
        self._close()
        return digest, self.size

    def _close(self) -> None:
        fd, self._fd = self._fd, -1  # in this order: a signal may unwind this anywhere
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass  # it has its place, and a signal came just then
            finally:
                self._close()


class BlobStore:
    """The blobs of the store at `root`. Safe to use from several threads and processes.

    durable: each blob is on the disk when `commit` returns. Otherwise that is so after `barrier`, which
    must come before anything names them. lease: keeps what is found and made here from being removed, if
    there is one; grown: bytes that were added to the store by way of this object.
    """

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = False) -> None:
        self.folder = os.fspath(root)
        self.durable = durable
        self._blobs = os.path.join(self.folder, "blobs", "sha256")
        self._guard = allocate_lock()
        self._believed: set[str] = set()
        self._unsettled: set[str] = set()
        self.lease: Lease | None = None
        self.grown = 0

    def _file(self, digest: Digest) -> str:
        return os.path.join(self._blobs, digests.hex_of(digests.parse(digest)))

    def path(self, digest: Digest) -> Path:
        """Where the blob's file is, or would be."""
        from pathlib import Path

        return Path(self._file(digest))

    def stat(self, digest: Digest) -> int | None:
        """The blob's size in bytes, or None if it is not there (or was cut short by a crash)."""
        path = self._file(digest)
        if self.lease is not None and os.path.exists(path):
            self.lease.hold((digest,))
        try:
            info = os.stat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_error(error, self.folder, f"looking up {digest}") from error
        if (
            stat.S_IMODE(info.st_mode) == _UNSETTLED
            and digest not in self._believed
            and not self._check(digest)
        ):
            return None
        return info.st_size

    def _check(self, digest: Digest) -> bool:
        """Whether a blob without the mark of a barrier has its bytes; if so, settle it."""
        try:
            fd = os.open(self._file(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            if _hash_of(fd) != digest:
                return False
            os.fsync(fd)
            os.fchmod(fd, _SETTLED)
        except OSError as error:
            raise store_error(error, self.folder, f"reading {digest}") from error
        finally:
            os.close(fd)
        return True

    def open(self, digest: Digest) -> BinaryIO:
        """The blob's bytes, from the beginning. Raises StoreError if it is not there."""
        if self.stat(digest) is None:
            raise StoreError(f"blob {digest} is not in the store {self.folder}", code="blob-not-found")
        with told_as(self.folder, f"reading {digest}"):
            return open(self._file(digest), "rb", buffering=0)

    def read(self, digest: Digest, limit: int) -> bytes:
        """A small blob as bytes, verified. Raises StoreError: not there, damaged, above `limit` bytes."""
        with self.open(digest) as file, told_as(self.folder, f"reading {digest}"):
            data = file.read(limit + 1)
        if len(data) > limit:
            raise StoreError(f"blob {digest} has more than the {limit} bytes allowed here")
        if digests.of_bytes(data) != digest:
            raise self.damaged(digest)
        return data

    def verify(self, digest: Digest) -> None:
        """Read the whole blob and raise StoreError if its bytes are not what its digest says."""
        with self.open(digest) as file, told_as(self.folder, f"reading {digest}"):
            if _hash_of(file.fileno()) != digest:
                raise self.damaged(digest)
        with self._guard:
            self._believed.add(digest)

    def has_its_bytes(self, digest: Digest) -> bool:
        """Whether the blob's bytes are what its digest says; they are read for it."""
        with self.open(digest) as file, told_as(self.folder, f"reading {digest}"):
            return _hash_of(file.fileno()) == digest

    def is_checked(self, digest: Digest) -> bool:
        """Whether this object has written, or verified, the blob's bytes."""
        return digest in self._believed

    def damaged(self, digest: Digest) -> StoreError:
        """The error for a blob with wrong bytes. If they are, it is dropped, so that it can be had anew."""
        path = self._file(digest)
        with told_as(self.folder, f"reading {digest}"):
            try:
                wrong = self._is_wrong(path, digest)
            except FileNotFoundError:  # somebody has dropped it for that, and may be making it anew
                wrong = True
            else:
                if wrong:
                    self.remove(digest)
        return StoreError(
            f"blob {digest} in the store {self.folder} is damaged",
            code="blob-damaged",
            hint="it was removed: build, or pull, again; `pybuild fsck` tells what else is damaged"
            if wrong
            else "`pybuild fsck` tells what is wrong",
        )

    @staticmethod
    def _is_wrong(path: str, digest: Digest) -> bool:
        """Whether a blob has other bytes than it should."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return _hash_of(fd) != digest
        finally:
            os.close(fd)

    def ingest(self) -> Ingest:
        """A new blob to write; use it in a `with` block. Raises StoreError."""
        from builder.store.ingest import make_file

        with told_as(self.folder, "writing a blob"):
            path, fd = make_file(self.folder, "blob")
        return Ingest(self, fd, path)

    def put(self, data: bytes) -> Digest:
        """Make a blob of some bytes; cheap if it is there already, with just these bytes."""
        digest = digests.of_bytes(data)
        if self.stat(digest) == len(data) and self._bytes_of(digest, len(data)) == data:
            return digest
        with self.ingest() as ingest:
            ingest.write(data)
            return ingest.commit()[0]

    def _bytes_of(self, digest: Digest, size: int) -> bytes:
        """A blob's bytes, as they are; one more than `size` at most. Nothing where they cannot be read."""
        try:
            with open(self._file(digest), "rb", buffering=0) as file:
                return file.read(size + 1)
        except OSError:
            return b""

    def _settle_in(self, fd: int, temporary: str, digest: Digest, size: int) -> None:
        """The protocol's second half: fsync, link without replacing, fsync of the folder."""
        path = self._file(digest)
        if self.lease is not None:
            self.lease.hold((digest,))
        if self.durable:
            os.fsync(fd)
            os.fchmod(fd, _SETTLED)
        ours = True
        if not _link(temporary, path):
            ours = self._gives_way(path, digest, size)
            if ours:
                os.replace(temporary, path)
        with self._guard:
            self.grown += size if ours else 0
            self._believed.add(digest)
            if ours and not self.durable:
                self._unsettled.add(digest)
        if os.path.lexists(temporary):
            os.unlink(temporary)
        if self.durable:
            _sync_folder(self._blobs)

    def _gives_way(self, path: str, digest: Digest, size: int) -> bool:
        """Whether the blob that is there is not to be kept: cut short, without a barrier, or damaged."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True  # it was damaged, and somebody has dropped it just now
        try:
            there = os.fstat(fd)
            if there.st_size != size or stat.S_IMODE(there.st_mode) == _UNSETTLED:
                return True
            return _hash_of(fd) != digest
        finally:
            os.close(fd)

    def barrier(self) -> None:
        """Bring all blobs that this object made to the disk: to be called before they are named."""
        with self._guard:
            pending, self._unsettled = sorted(self._unsettled), set()
        if not pending:
            return
        with told_as(self.folder, "writing blobs to the disk"):
            try:
                for start in range(0, len(pending), _AT_ONCE):
                    self._settle(pending[start : start + _AT_ONCE])
            except OSError:
                with self._guard:
                    self._unsettled.update(pending)
                raise

    def _settle(self, names: list[str]) -> None:
        """Bring these blobs to the disk, then mark the very files that were brought there. Raises OSError.

        Of many, one syncfs(2) takes as long as an fsync(2) of a few.
        """
        opened = []
        try:
            for name in names:
                try:
                    fd = os.open(self._file(digests.Digest(name)), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue  # removed since, so nobody will name it
                opened.append(fd)
            if len(opened) > _FEW:
                from builder.libc import sync_filesystem

                sync_filesystem(opened[-1])
            else:
                for fd in opened:
                    os.fsync(fd)
                _sync_folder(self._blobs)
            for fd in opened:
                os.fchmod(fd, _SETTLED)
        finally:
            for fd in opened:
                os.close(fd)

    def digests(self) -> Iterator[Digest]:
        """All blobs there are, in no order; files of other names are left alone."""
        with told_as(self.folder, "listing the blobs"):
            names = os.listdir(self._blobs) if os.path.isdir(self._blobs) else []
        for name in names:
            if len(name) == 64 and digests.HEX.issuperset(name):
                yield digests.from_hex(name)

    def remove(self, digest: Digest) -> int:
        """Remove a blob; returns the bytes freed, 0 if it was not there. For store.gc alone."""
        path = self._file(digest)
        with self._guard:
            self._believed.discard(digest)
            self._unsettled.discard(digest)
        with told_as(self.folder, f"removing {digest}"):
            try:
                size = os.stat(path).st_size
                os.unlink(path)
            except FileNotFoundError:
                return 0
        return size


def _hash_of(fd: int) -> Digest:
    from hashlib import sha256

    hasher = sha256()
    while data := os.read(fd, CHUNK):
        stop.check()
        hasher.update(data)
    return digests.from_hex(hasher.hexdigest())


def _link(source: str, target: str) -> bool:
    """Give a file its final name; False if something has that name already."""
    if not os.path.isdir(folder := os.path.dirname(target)):
        os.makedirs(folder, 0o700, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""A cache of files' digests by their stat: what was hashed need not be hashed again.

One file per folder that is watched. A row is believed only if size, mtime, ctime, inode and device are all
as they were, and if the file was at rest when it was hashed: a change within the clock tick of its last
change leaves no trace in its times, so such a row is never written (Git's "racily clean" rule). Losing the
cache, or half of it, costs time and nothing else: whatever cannot be read is ignored, the last of two
builds that save wins, and a reader sees a whole file or none.

Layout: MAGIC, sha256 of the rest, two counts (rows, bytes of paths), the paths (NUL between), then per
path 40 bytes of stat and 32 of digest. Rows are compared as bytes, so loading unpacks nothing.

On the path of a fully cached build.
"""

from __future__ import annotations

import os
import struct

from builder.digest import Digest, from_hex, hex_of, sha256_of
from builder.fs.whole import write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.digest import Digest as DigestType

MAGIC = b"pybuild statcache 1\n"
COUNTS = struct.Struct("<QQ")
STAT = struct.Struct("<QqqQQ")
DIGEST_SIZE = 32
MAX_SIZE = 1 << 30  # what no cache of ours reaches
MAX_STALE = 10_000  # rows kept, beyond those in use, for files that were not asked about
FINE_TICK = 50_000_000  # ns; more than a kernel's clock tick
COARSE_TICK = 2_000_000_000  # ns; for file systems that keep whole (FAT: even) seconds


class StatCache:
    """The cache in one file (which may be missing). `lookup` and `remember` by path; `save` at the end."""

    __slots__ = ("_data", "_digests", "_fresh", "_is_saved", "_path", "_rows", "_stats", "_used")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._fresh: dict[str, bytes] = {}  # what was hashed by this process
        self._is_saved = True
        self._used: set[str] = set()
        self._data = b""
        self._rows: dict[str, int] = {}
        self._stats = self._digests = 0
        self._load()

    def _load(self) -> None:
        data = _read(self._path)
        head = len(MAGIC) + DIGEST_SIZE + COUNTS.size
        if len(data) < head or not data.startswith(MAGIC):
            return
        body = memoryview(data)[len(MAGIC) + DIGEST_SIZE :]
        if sha256_of(body) != data[len(MAGIC) : len(MAGIC) + DIGEST_SIZE]:
            return
        count, size = COUNTS.unpack_from(body)
        if len(data) != head + size + count * (STAT.size + DIGEST_SIZE):
            return
        paths = data[head : head + size].decode("utf-8", "surrogateescape").split("\0") if count else []
        if len(paths) != count:
            return
        self._data = data
        self._rows = dict(zip(paths, range(count), strict=True))
        self._stats = head + size
        self._digests = self._stats + count * STAT.size

    def is_sound(self) -> bool:
        """Whether the file is as it was written."""
        return bool(self._data)

    def paths(self) -> list[str]:
        """The paths of all rows."""
        return list(self._rows)

    def lookup(self, path: str, status: os.stat_result) -> DigestType | None:
        """The digest of the file at `path`, if it was hashed and is as it was then."""
        row = self._rows.get(path)
        if row is None or path in self._fresh:
            fresh, packed = self._fresh.get(path, b""), _packed(status)
            return from_hex(fresh[STAT.size :].hex()) if packed and fresh.startswith(packed) else None
        at = self._stats + row * STAT.size
        if self._data[at : at + STAT.size] != _packed(status):
            return None
        self._used.add(path)
        at = self._digests + row * DIGEST_SIZE
        return from_hex(self._data[at : at + DIGEST_SIZE].hex())

    def remember(self, path: str, status: os.stat_result, digest: Digest, hashed_at: int) -> None:
        """Keep a digest, unless the file was changed about when it was hashed.

        status: the file's, taken before its bytes were read and equal to that after; hashed_at: the wall
        clock in nanoseconds before that.
        """
        tick = FINE_TICK if status.st_ctime_ns % 1_000_000_000 else COARSE_TICK
        packed = _packed(status)
        if packed is not None and max(status.st_mtime_ns, status.st_ctime_ns) + tick < hashed_at:
            self._fresh[path] = packed + bytes.fromhex(hex_of(digest))
            self._is_saved = False

    def save(self) -> None:
        """Write the cache if anything is new in it; rows not looked up lately are dropped if many.

        Raises OSError.
        """
        if self._is_saved:
            return
        rows: dict[str, bytes] = {}
        stale = [path for path in self._rows if path not in self._used and path not in self._fresh]
        for path in (*stale[:MAX_STALE], *self._used):
            row = self._rows[path]
            stat_at, digest_at = self._stats + row * STAT.size, self._digests + row * DIGEST_SIZE
            rows[path] = self._data[stat_at : stat_at + STAT.size] + self._data[digest_at : digest_at + 32]
        rows.update(self._fresh)
        paths = sorted(rows)
        names = "\0".join(paths).encode("utf-8", "surrogateescape")
        body = b"".join(
            (
                COUNTS.pack(len(paths), len(names)),
                names,
                *(rows[path][: STAT.size] for path in paths),
                *(rows[path][STAT.size :] for path in paths),
            )
        )
        write_whole(self._path, MAGIC + sha256_of(body) + body)
        self._is_saved = True


def _packed(status: os.stat_result) -> bytes | None:
    """The stat as a row; None for values that no row can hold, which are not cached."""
    try:
        return STAT.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    except struct.error:
        return None


def _read(path: str) -> bytes:
    """The file's bytes; b"" where it cannot be read or is no cache of ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        with open(fd, "rb", buffering=0) as file:
            return file.read() if os.fstat(fd).st_size <= MAX_SIZE else b""
    except OSError:
        return b""

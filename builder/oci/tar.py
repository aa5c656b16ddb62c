"""Tar archives as streams of entries: our own writer and our own safe reader.

The writer makes ustar with pax records only where ustar cannot say it; the bytes are a function of the
entries and their content alone. Times are whole seconds, as containerd's layers have them. The reader
takes ustar, pax, V7 and GNU archives, normalises names so that none leaves the root, and holds no more
of the archive than one header record of bounded size. Both exist because tarfile is slow (20,000 files:
5 s) and because its reader allocates and follows what a hostile header says.

Must never know: layers, whiteouts, compression, disks. On the path of a fully cached build, which writes
headers: a hash is loaded by who checks.
"""

from __future__ import annotations

from builder import stop
from builder.errors import BuildError
from builder.oci import sparse
from builder.oci import tar_header as th
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, SYMLINK, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO, Protocol

    from builder.fs.copy import Readable

    Content = Callable[[Entry], BinaryIO]

    class Writable(Protocol):
        """What takes all the bytes of each write."""

        def write(self, data: bytes, /) -> object: ...


CHUNK = 1 << 18
LARGE = 1 << 15  # bytes that are not worth being joined with others
END = bytes(2 * th.BLOCK)
# Bytes of extended headers: in all, and more for each entry; they take time to read, and none to compress.
FREE_EXTENDED, EXTENDED_EACH = 64 << 20, 2 << 10
MAX_OCTAL_7 = 0o7777777
MAX_OCTAL_11 = 0o77777777777

_TYPES = {
    FILE: th.REGULAR, FOLDER: th.FOLDER, SYMLINK: th.SYMLINK, CHAR: th.CHAR, BLOCK: th.BLOCK_DEVICE,
    FIFO: th.FIFO,
}  # fmt: skip
_KINDS = {
    th.REGULAR: FILE, th.OLD_REGULAR: FILE, th.CONTIGUOUS: FILE, th.GNU_SPARSE: FILE, th.HARDLINK: FILE,
    th.SYMLINK: SYMLINK, th.CHAR: CHAR, th.BLOCK_DEVICE: BLOCK, th.FOLDER: FOLDER, th.FIFO: FIFO,
}  # fmt: skip
_WITH_DATA = (th.REGULAR, th.OLD_REGULAR, th.CONTIGUOUS, th.GNU_SPARSE)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────


def write(
    entries: Iterable[Entry],
    content: Content,
    out: Writable,
    *,
    clamp: int | None = None,
    end: bool = True,
) -> None:
    """Write an archive of the entries in their order, each FILE's bytes from `content`.

    `clamp` (nanoseconds) is the latest mtime written; end: whether nothing follows. Raises BuildError
    (changed-during-build) where the bytes are not as many as the entry says, or not those of its digest
    where it has one. Whiteouts are not known here (ValueError).
    """
    pieces = _Pieces(out)
    for entry in entries:
        pieces.add(head_of(entry, clamp))
        if entry.kind == FILE and entry.hardlink is None and entry.size:
            with content(entry) as stream:
                for data in _checked(entry, stream):
                    pieces.add(data)
            if gap := th.padding(entry.size):
                pieces.add(bytes(gap))
    if end:
        pieces.add(END)
    pieces.flush()


class _Pieces:
    """Passes bytes on, small ones together."""

    __slots__ = ("_held", "_out", "_pieces")

    def __init__(self, out: Writable) -> None:
        self._out = out
        self._pieces: list[bytes] = []
        self._held = 0

    def add(self, data: bytes) -> None:
        if len(data) >= LARGE:
            self.flush()
            self._out.write(data)
            return
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= CHUNK:
            self.flush()

    def flush(self) -> None:
        stop.check()
        if self._pieces:
            self._out.write(b"".join(self._pieces))
            self._pieces.clear()
            self._held = 0


def size_of(entry: Entry, clamp: int | None = None) -> int:
    """The bytes that an entry takes in an archive that `write` writes, with its data."""
    data = entry.size if entry.kind == FILE and entry.hardlink is None else 0
    path = entry.path
    is_plain = (
        len(path) < 100
        and path.isascii()
        and not (entry.link or entry.hardlink or entry.xattrs)
        and entry.uid <= MAX_OCTAL_7
        and entry.gid <= MAX_OCTAL_7
        and data <= MAX_OCTAL_11
        and clamp is None
        and 0 <= entry.mtime <= MAX_OCTAL_11 * th.NANO
    )
    head = th.BLOCK if is_plain else len(head_of(entry, clamp))
    return head + data + th.padding(data)


def _checked(entry: Entry, stream: Readable) -> Iterator[bytes]:
    """The bytes of a file, which must be as many as the entry says, and have its digest."""
    sha = None
    if entry.digest:
        from hashlib import sha256

        sha = sha256()
    left = entry.size
    while data := stream.read(min(CHUNK, left + 1)):
        left -= len(data)
        if left < 0:
            raise changed(entry)
        if sha is not None:
            sha.update(data)
        yield data
    if left or (sha is not None and "sha256:" + sha.hexdigest() != entry.digest):
        raise changed(entry)


def changed(entry: Entry) -> BuildError:
    """The error for a file that is not what it was when it was looked at."""
    return BuildError(f"{entry.path!r} changed during the build", code="changed-during-build")


def head_of(entry: Entry, clamp: int | None = None) -> bytes:
    """The header block of an entry, after a pax header where it needs one."""
    kind = th.HARDLINK if entry.hardlink is not None else _TYPES.get(entry.kind)
    if kind is None:
        raise ValueError(f"no tar entry of kind {entry.kind!r}")
    name = entry.path.encode("utf-8", "surrogateescape")
    if kind == th.FOLDER:
        name += b"/"
    link = (entry.link if entry.hardlink is None else entry.hardlink).encode("utf-8", "surrogateescape")
    if b"\0" in name or b"\0" in link:
        raise BuildError(f"{entry.path!r} has a name that no archive can hold")
    size = entry.size if kind == th.REGULAR else 0
    mtime = entry.mtime if clamp is None else min(entry.mtime, clamp)
    numbers = (entry.mode, entry.uid, entry.gid, size, mtime // th.NANO)
    device = entry.device if kind in (th.CHAR, th.BLOCK_DEVICE) else (0, 0)
    if (
        len(name) <= 100
        and len(link) <= 100
        and not entry.xattrs
        and name.isascii()
        and link.isascii()
        and entry.uid <= MAX_OCTAL_7
        and entry.gid <= MAX_OCTAL_7
        and size <= MAX_OCTAL_11
        and 0 <= numbers[4] <= MAX_OCTAL_11
    ):
        return th.header_block(name, b"", numbers, kind, link, device)
    return _extended_header(entry, name, link, numbers, kind)


def _extended_header(
    entry: Entry, name: bytes, link: bytes, numbers: tuple[int, int, int, int, int], kind: bytes
) -> bytes:
    """A header for what a plain one cannot say: split names, pax records."""
    records: dict[bytes, bytes] = {}
    prefix, last = _split(name)
    if not last:
        records[b"path"] = name
        prefix, last = b"", _plain(name)
    if len(link) > 100 or not link.isascii():
        records[b"linkpath"] = link
        link = _plain(link)
    mode, uid, gid, size, mtime = numbers
    for key, value, most in (
        (b"uid", uid, MAX_OCTAL_7),
        (b"gid", gid, MAX_OCTAL_7),
        (b"size", size, MAX_OCTAL_11),
        (b"mtime", mtime, MAX_OCTAL_11),
    ):
        if not 0 <= value <= most:
            records[key] = b"%d" % value
    for attribute, data in entry.xattrs:
        records[th.XATTR.encode() + attribute.encode("utf-8", "surrogateescape")] = data
    fields = (
        mode,
        0 if b"uid" in records else uid,
        0 if b"gid" in records else gid,
        0 if b"size" in records else size,
        0 if b"mtime" in records else mtime,
    )
    device = entry.device if kind in (th.CHAR, th.BLOCK_DEVICE) else (0, 0)
    block = th.header_block(last, prefix, fields, kind, link, device)
    if not records:
        return block
    data = b"".join(th.pax_record(key, records[key]) for key in sorted(records))
    folder, _, base = _plain(name.rstrip(b"/"), len(name)).rpartition(b"/")
    pax_name = (folder + b"/" if folder else b"") + b"PaxHeaders.0/" + base
    pax = th.header_block(pax_name[:100], b"", (0o644, 0, 0, len(data), 0), th.PAX)
    return pax + data + bytes(th.padding(len(data))) + block


def _plain(name: bytes, length: int = 100) -> bytes:
    """What an old reader gets to see of a name that is in a pax record: its ASCII, cut."""
    return bytes(byte for byte in name if byte < 128)[:length]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """A name as ustar's (prefix, name), or (b"", b"") where it does not fit or is not ASCII."""
    if not name.isascii():
        return b"", b""
    if len(name) <= 100:
        return b"", name
    at = name[:156].rstrip(b"/").rfind(b"/")
    if at <= 0 or len(name) - at - 1 > 100:
        return b"", b""
    return name[:at], name[at + 1 :]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def read(stream: Readable) -> Iterator[tuple[Entry, Readable]]:
    """The entries of an archive, each with a reader of its bytes, good until the next entry is asked for.

    Paths and hard link targets are normalised: relative, no `.`, no `..` above the root, the root `.`.
    xattrs are as the archive has them. Global pax headers are checked and not applied, as Go does. Raises
    ImageError for what is damaged, cut off, or beyond the limits of `tar_header`.
    """
    feed = _Feed(stream)
    pax: dict[str, bytes] = {}
    gnu: dict[bytes, bytes] = {}
    sparse_budget = sparse.MAX_EXPANDED
    while (block := feed.header()) is not None:
        stop.check()
        header = th.Header(block)
        if header.type in (th.PAX, th.SOLARIS_PAX):
            pax = th.parse_pax(feed.record(header))
            continue
        if header.type == th.PAX_GLOBAL:
            th.parse_pax(feed.record(header))
            continue
        if header.type in (th.GNU_NAME, th.GNU_LINK):
            gnu[header.type] = th.until_nul(feed.record(header))
            continue
        if header.type == th.GNU_VOLUME:
            feed.note_extended(0)
            feed.skip(header.size + th.padding(header.size))
            continue
        entry = describe(header, pax, gnu)
        feed.extended_left += EXTENDED_EACH
        stored = header.size if header.type in _WITH_DATA and entry.kind == FILE else 0
        body: Body | sparse.SparseBody = Body(feed, stored)
        if header.type == th.GNU_SPARSE or any(key.startswith("GNU.sparse.") for key in pax):
            if entry.kind != FILE or header.type not in _WITH_DATA:
                raise th.damaged(f"a sparse map for {th.shown(header.name)}, which is no file")
            body = sparse.open_body(block, header, pax, feed, stored)
            entry.size = body.left
            if "GNU.sparse.name" in pax:
                entry.path = normal_path(pax["GNU.sparse.name"])
            sparse_budget -= entry.size
            if sparse_budget < 0:
                raise th.damaged(f"its sparse files are too large at {th.shown(header.name)}")
        yield entry, body
        body.drain()
        feed.skip(th.padding(stored))
        pax, gnu = {}, {}
    if pax or gnu:
        raise th.damaged("it ends after an extended header")


class _Feed:
    """The archive's bytes in order, through one buffer."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self.extended_left = FREE_EXTENDED

    def note_extended(self, size: int) -> None:
        """Count an extended header with that many bytes of data."""
        self.extended_left -= th.BLOCK + size
        if self.extended_left < 0:
            raise th.damaged("its extended headers are too large for what they describe")

    def header(self) -> bytes | None:
        """The next header block, or None at the end: two blocks of zeros, or the end of the stream."""
        zeros = 0
        while True:
            block = self.exactly(th.BLOCK, optional=True)
            if not block:
                return None
            if block[0] or block.count(0) != th.BLOCK:
                if zeros:
                    raise th.damaged("there is a header after a block of zeros")
                return block
            zeros += 1
            if zeros == 2:
                return None

    def record(self, header: th.Header) -> bytes:
        """The data of an extended header, whose size is checked before anything is read."""
        if header.size > th.MAX_RECORD:
            raise th.damaged(f"an extended header of {header.size} bytes")
        self.note_extended(header.size)
        data = self.exactly(header.size)
        self.skip(th.padding(header.size))
        return data

    def exactly(self, size: int, *, optional: bool = False) -> bytes:
        """The next `size` bytes; with `optional`, b"" at the very end of the stream."""
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
            return data
        pieces = [self._buffer[self._at :]]
        have = len(pieces[0])
        self._buffer, self._at = b"", 0
        while have < size and (more := self._stream.read(CHUNK)):
            pieces.append(more)
            have += len(more)
        data = b"".join(pieces)
        if have < size:
            if optional and not have:
                return b""
            raise th.damaged("it is cut off")
        self._buffer, self._at = data, size
        return data[:size]

    def some(self, size: int) -> bytes:
        """At most `size` of the next bytes, at least one."""
        if self._at >= len(self._buffer):
            stop.check()
            self._buffer, self._at = self._stream.read(CHUNK), 0
            if not self._buffer:
                raise th.damaged("it is cut off")
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        return data

    def skip(self, size: int) -> None:
        """Pass over the next `size` bytes."""
        while size:
            step = min(size, len(self._buffer) - self._at)
            if step:
                self._at += step
                size -= step
            else:
                size -= len(self.some(size))


class Body:
    """The bytes of one member."""

    __slots__ = ("_feed", "left")

    def __init__(self, feed: _Feed, size: int) -> None:
        self._feed = feed
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, or all that is left."""
        if size < 0:
            pieces = []
            while self.left:
                pieces.append(self.read(CHUNK))
            return b"".join(pieces)
        if not self.left or not size:
            return b""
        data = self._feed.some(min(size, self.left))
        self.left -= len(data)
        return data

    def drain(self) -> None:
        """Pass over what is left."""
        self._feed.skip(self.left)
        self.left = 0


def describe(header: th.Header, pax: dict[str, bytes], gnu: dict[bytes, bytes]) -> Entry:
    """The entry of a header and of the extended headers before it, which go into the header's own fields."""
    _apply(header, pax, gnu)
    return _entry(header, pax)


def _apply(header: th.Header, pax: dict[str, bytes], gnu: dict[bytes, bytes]) -> None:
    """Put what extended headers say into the header that they stand before; pax wins over GNU."""
    header.name = pax.get("path", gnu.get(th.GNU_NAME, header.name))
    header.link = pax.get("linkpath", gnu.get(th.GNU_LINK, header.link))
    for key in ("size", "uid", "gid"):
        if key in pax:
            setattr(header, key, th.pax_number(key, pax[key]))
    if not 0 <= header.size <= th.MAX_SIZE:
        raise th.damaged(f"size {header.size} of {th.shown(header.name)}")


def _entry(header: th.Header, pax: dict[str, bytes]) -> Entry:
    """The entry that a header (with its extended headers applied) describes."""
    kind = _KINDS.get(header.type)
    if kind is None:
        raise th.damaged(f"{th.shown(header.name)} is of the unknown type {th.shown(header.type)}")
    if kind == FILE and header.type != th.HARDLINK and header.name.endswith(b"/"):
        kind = FOLDER  # how V7 tar wrote folders
    if not (0 <= header.uid <= th.MAX_ID and 0 <= header.gid <= th.MAX_ID):
        raise th.damaged(f"owner {header.uid}:{header.gid} of {th.shown(header.name)}")
    mtime = th.pax_time(pax["mtime"]) if "mtime" in pax else header.mtime * th.NANO
    entry = Entry(
        normal_path(header.name),
        kind,
        header.mode & 0o7777,
        header.uid,
        header.gid,
        header.size if kind == FILE and header.type != th.HARDLINK else 0,
        mtime if -(2**63) <= mtime < 2**63 else 0,  # beyond what the kernel takes: as containerd
    )
    if header.type == th.SYMLINK:
        entry.link = _link_text(header)
    elif header.type == th.HARDLINK:
        entry.hardlink = normal_path(_link_text(header).encode("utf-8", "surrogateescape"))
    elif kind in (CHAR, BLOCK):
        if not (0 <= header.devmajor <= 0xFFF and 0 <= header.devminor <= 0xFFFFF):
            raise th.damaged(f"device {header.devmajor}:{header.devminor} of {th.shown(header.name)}")
        entry.device = (header.devmajor, header.devminor)
    if pax:
        start = len(th.XATTR)
        entry.xattrs = tuple(sorted((k[start:], v) for k, v in pax.items() if k.startswith(th.XATTR)))
    return entry


def _link_text(header: th.Header) -> str:
    if not header.link or b"\0" in header.link or len(header.link) > th.MAX_PATH:
        raise th.damaged(f"the link target of {th.shown(header.name)}")
    return header.link.decode("utf-8", "surrogateescape")


def normal_path(raw: bytes) -> str:
    """An archive's name as a path inside the root: `./a//b/` -> `a/b`, `../x` -> `x`, `/` -> `.`.

    Raises ImageError for an empty name, a NUL, and names that no kernel takes.
    """
    if not raw or b"\0" in raw or len(raw) > th.MAX_PATH:
        raise th.damaged(f"the name {th.shown(raw)}")
    path = raw.decode("utf-8", "surrogateescape")
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts:
        kept: list[str] = []
        for part in parts:
            if part == "..":
                del kept[-1:]
            elif part not in ("", "."):
                kept.append(part)
        path = "/".join(kept) or "."
        parts = kept
    if len(raw) > th.MAX_NAME and any(
        len(part.encode("utf-8", "surrogateescape")) > th.MAX_NAME for part in parts
    ):
        raise th.damaged(f"the name {th.shown(raw)}")
    return path

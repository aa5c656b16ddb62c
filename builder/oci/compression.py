"""Compressed streams of bounded memory: gzip, zstd and none to write; also bzip2 and xz to read.

Writing: the output is a function of the bytes and the compression alone. Whatever the sizes of the
writes and the number of threads, gzip cuts the input into blocks of 1 MiB, each compressed by itself
with the 32 KiB before it as its dictionary and ended by a sync flush, in order, in one gzip member
without a time or a name (RFC 1952); zstd gets the same blocks, jobs of one size, and always at least one
worker.

Reading: the kind is seen from the first bytes. Damaged, cut off or trailing bytes are an ImageError, as
is output beyond the limits that a reader was given; no single read expands more than it returns. Unless it
is told otherwise, a reader takes its stream for a foreign one, and stops at what can only be a bomb.

Must never know: tar, layers, digests.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from builder import stop
from builder.errors import ImageError
from builder.oci.compressed import Compression
from builder.oci.deflate import DICTIONARY, deflate_block
from builder.oci.detached import Detached
from builder.oci.inorder import InOrder

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import IO

    from builder.fs.copy import Readable
    from builder.oci.zstd_frames import FrameTracker

BLOCK = 1 << 20
INPUT = 1 << 17
ZSTD_LEVEL = 3
ZSTD_JOB = 2 << 20  # bytes that a worker takes on at a time
ZSTD_SLOW = 10  # the level from which on a job may take seconds, or minutes
GZIP_MAGIC = b"\x1f\x8b\x08"
GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no time, no name, no system
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BZIP2_MAGIC = b"BZh"
XZ_MAGIC = b"\xfd7zXZ\0"
ZSTD_WINDOW = 1 << 27  # as the zstd command without --long=31
ZSTD_USUAL = (
    1 << 25
)  # of all levels but the last two; larger ones take their turn, as each is that much memory
ZSTD_HEAD = 18  # bytes, the longest header of a frame
TURN_SECONDS = 30.0
XZ_MEMORY = 1 << 27  # twice of what `xz -9` asks for


class Writable(Protocol):
    """What takes bytes."""

    def write(self, data: bytes, /) -> object: ...


FREE_OF_RATIO = 16 << 20


class Limits(msgspec.Struct, frozen=True):
    """What a reader may give out: bytes in all, and bytes for each byte read (after the first `free`)."""

    size: int | None = None
    ratio: int | None = None
    free: int = FREE_OF_RATIO


NO_LIMITS = Limits()
# An image may have a file of zeros, of some gigabytes even, which gzip makes a thousand times smaller.
FOREIGN = Limits(ratio=200, free=4 << 30)


class Writer:
    """Takes the uncompressed bytes; `close` ends the stream and leaves what it writes to open.

    Leaving the block by an error ends the threads and writes no end.
    """

    def __init__(self, out: Writable) -> None:
        self._out = out
        self._block = bytearray(BLOCK)
        self._filled = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Take bytes of any length."""
        size = len(data)
        rest = memoryview(data)
        while rest:
            taken = rest[: BLOCK - self._filled]
            self._block[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rest = rest[len(taken) :]
            if self._filled == BLOCK:
                block, self._filled = self._block, 0
                self._block = self._next()
                self._take(block)
        return size

    def close(self) -> None:
        """End the stream."""
        rest, self._filled = bytes(self._block[: self._filled]), 0
        self._end(rest)

    def abort(self) -> None:
        """Drop what is under way."""

    def _next(self) -> bytearray:
        """A block to fill, while the last one may be in use."""
        return bytearray(BLOCK)

    def _take(self, block: bytearray) -> None:
        self._out.write(bytes(block))

    def _end(self, rest: bytes) -> None:
        if rest:
            self._out.write(rest)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class _GzipWriter(Writer):
    """Blocks compressed side by side, written in order."""

    def __init__(self, out: Writable, level: int | None, threads: int) -> None:
        from isal import isal_zlib

        super().__init__(out)
        self._level = level
        self._blocks = InOrder(out.write, threads)
        self._free: deque[bytearray] = deque()
        self._before = b""
        self._crc32 = isal_zlib.crc32
        self._crc = 0
        self._size = 0
        out.write(GZIP_HEADER)

    def _next(self) -> bytearray:
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(BLOCK)

    def _take(self, block: bytearray) -> None:
        dictionary = self._note(block)

        def work() -> bytes:
            packed = deflate_block(block, dictionary, self._level, last=False)
            self._free.append(block)
            return packed

        self._blocks.put(work)

    def _end(self, rest: bytes) -> None:
        try:
            last = deflate_block(rest, self._note(rest), self._level, last=True)
            self._blocks.close()
            self._out.write(last + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        finally:
            self.abort()

    def _note(self, block: bytes | bytearray) -> bytes:
        """Add a block to the checksum; the dictionary to compress it with."""
        self._crc = self._crc32(block, self._crc)
        self._size += len(block)
        dictionary, self._before = self._before, bytes(block[-DICTIONARY:])
        return dictionary

    def abort(self) -> None:
        self._blocks.abort()


class _ZstdWriter(Writer):
    """One zstd frame with a checksum. Nothing stops a worker, so who waits for slow ones can leave."""

    def __init__(self, out: Writable, level: int | None, threads: int) -> None:
        import zstandard

        super().__init__(out)
        level = level or ZSTD_LEVEL
        window = zstandard.ZstdCompressionParameters.from_level(level).window_log
        settings = zstandard.ZstdCompressionParameters.from_level(
            level,
            threads=max(1, threads),  # no worker and one worker cut differently; one and many do not
            job_size=max(ZSTD_JOB, 1 << window),  # four times as much unless told, and that for each thread
            write_checksum=True,
        )
        self._frame = zstandard.ZstdCompressor(compression_params=settings).compressobj()
        self._aside = Detached() if level >= ZSTD_SLOW else None

    def close(self) -> None:
        try:
            super().close()
        except BaseException:
            self.abort()
            raise
        if self._aside is not None:
            self._aside.close()

    def abort(self) -> None:
        # A frame that is dropped waits for its workers, with the interpreter's lock: so it is ended before.
        if self._aside is not None:
            self._aside.leave(self._frame.flush)

    def _next(self) -> bytearray:
        return self._block  # what compress is given is used up when it returns

    def _take(self, block: bytearray) -> None:
        if data := self._done(lambda: self._frame.compress(block)):
            self._out.write(data)

    def _end(self, rest: bytes) -> None:
        last = self._done(lambda: self._frame.compress(rest))
        self._out.write(last + self._done(self._frame.flush))

    def _done(self, work: Callable[[], bytes]) -> bytes:
        return self._aside.call(work) if self._aside is not None else work()


def open_writer(out: Writable, compression: Compression, *, threads: int | None = None) -> Writer:
    """A writer of the compressed form into `out`; `threads` (default: the cores) never changes the bytes."""
    threads = threads or len(os.sched_getaffinity(0))
    if compression.kind == "gzip":
        return _GzipWriter(out, compression.level, threads)
    if compression.kind == "zstd":
        return _ZstdWriter(out, compression.level, threads)
    return Writer(out)


class _Source:
    """The compressed stream, with the bytes that were looked at put back before it, and a count."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._head = b""
        self.count = 0

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (data := self._stream.read(size - len(self._head))):
            self._head += data
        return self._head

    def push_back(self, data: bytes) -> None:
        self._head = data + self._head
        self.count -= len(data)

    def read(self, size: int = INPUT, /) -> bytes:
        data, self._head = (self._head[:size], self._head[size:]) if self._head else (b"", b"")
        data = data or self._stream.read(size)
        self.count += len(data)
        return data


class Reader:
    """The uncompressed bytes of a stream of any kind; `kind` says what it was seen to be."""

    def __init__(self, source: _Source, kind: str, name: str, limits: Limits) -> None:
        self.kind = kind
        self.count = 0
        self._source = source
        self._name = name
        self._limits = limits
        self._held = b""
        self._ended = False

    @property
    def consumed(self) -> int:
        """The bytes of the stream itself that were read so far."""
        return self._source.count

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes (at least one before the end), or all of the rest."""
        if size < 0:
            pieces = []
            while piece := self.read(BLOCK):
                pieces.append(piece)
            return b"".join(pieces)
        if size == 0:
            return b""
        while not self._held and not self._ended:
            self._held = self._more()
            self._check()
        data, self._held = self._held[:size], self._held[size:]
        return data

    def _more(self) -> bytes:
        """Some more bytes, or b"" with `_ended` set at the end (b"" alone means: ask again)."""
        data = self._source.read(INPUT)
        self._ended = not data
        return data

    def _check(self) -> None:
        self.count += len(self._held)
        size, ratio = self._limits.size, self._limits.ratio
        if size is not None and self.count > size:
            raise ImageError(f"{self._name} is larger than {size} bytes when uncompressed", code="too-large")
        if ratio is not None and self.count > self._limits.free and self.count > ratio * self.consumed:
            raise ImageError(
                f"{self._name} expands to more than {ratio} times its size",
                code="decompression-bomb",
                hint="nothing that is meant to be used does; ask whoever made it",
            )

    def _fail(self, reason: str) -> ImageError:
        return ImageError(f"{self._name} is damaged: {reason}", code="damaged-archive")


class _Unpacker(Protocol):
    """What the decompressors of bz2, lzma and isal have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _MemberReader(Reader):
    """One or more members after each other, then at most padding of zeros."""

    def __init__(
        self, source: _Source, kind: str, name: str, limits: Limits, start: Callable[[], _Unpacker]
    ) -> None:
        super().__init__(source, kind, name, limits)
        self._start = start
        self._member = start()
        self._errors = _errors_of(kind)

    def _more(self) -> bytes:
        if self._member.eof and not self._next_member():
            self._ended = True
            return b""
        data = b""
        if self._member.needs_input and not (data := self._source.read(INPUT)):
            raise self._fail(f"the {self.kind} stream is cut off")
        try:
            return self._member.decompress(data, BLOCK)
        except self._errors as error:
            raise self._fail(f"not valid {self.kind}") from error

    def _next_member(self) -> bool:
        """Begin the next member where there is one; zeros between and after members are padding."""
        rest = self._member.unused_data.lstrip(b"\0") or self._source.read(INPUT).lstrip(b"\0")
        while not rest and (more := self._source.read(INPUT)):
            rest = more.lstrip(b"\0")
        if not rest:
            return False
        self._source.push_back(rest)
        self._member = self._start()
        return True


def _errors_of(kind: str) -> tuple[type[Exception], ...]:
    """What a decompressor raises for input that it cannot read."""
    if kind == "xz":
        import lzma

        return (lzma.LZMAError, EOFError)
    if kind == "bzip2":
        return (OSError, EOFError, ValueError)
    from isal import igzip_lib

    damaged = cast("type[Exception]", igzip_lib.IsalError)  # its stub calls it an instance
    return (damaged, EOFError, ValueError)


class _ZstdReader(Reader):
    """Zstd frames, each decoded as a stream; that the last one is whole is seen from the blocks."""

    def __init__(self, source: _Source, name: str, limits: Limits) -> None:
        import zstandard

        from builder.oci.zstd_frames import FrameTracker, window_of

        super().__init__(source, "zstd", name, limits)
        self._frames = FrameTracker()
        self._error = zstandard.ZstdError
        window = window_of(source.peek(ZSTD_HEAD))
        large = window is None or window > ZSTD_USUAL
        self._turn = _Turn() if large else None
        unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW if large else ZSTD_USUAL)
        tracked = cast("IO[bytes]", _Tracked(source, self._frames))
        self._stream = unpacker.stream_reader(tracked, INPUT, read_across_frames=True)

    def _more(self) -> bytes:
        try:
            data = self._stream.read(BLOCK)
        except (self._error, ValueError) as error:
            raise self._fail("not valid zstd") from error
        if not data:
            self._ended = True
            self._turn = None
            if not self._frames.whole:
                raise self._fail("the zstd stream is cut off")
        return data


_LARGE = threading.Lock()


class _Turn:
    """The turn of one stream that takes much memory, for as long as this lives.

    Who waits too long goes on without: one may live longer than it is read, as what an error still holds.
    """

    def __init__(self) -> None:
        self._has = False
        end = monotonic() + TURN_SECONDS
        while not self._has and monotonic() < end:
            stop.check()
            self._has = _LARGE.acquire(timeout=0.05)

    def __del__(self) -> None:
        if self._has:
            _LARGE.release()


class _Tracked:
    """A source whose bytes a frame tracker sees pass."""

    def __init__(self, source: _Source, frames: FrameTracker) -> None:
        self._source = source
        self._frames = frames

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(INPUT if size < 0 else size)
        self._frames.feed(data)
        return data


def open_reader(stream: Readable, *, name: str = "the archive", limits: Limits = FOREIGN) -> Reader:
    """A reader of what `stream` holds when uncompressed; `name` is how errors call it.

    Raises ImageError, from `read`.
    """
    source = _Source(stream)
    head = source.peek(6)
    if head.startswith(GZIP_MAGIC):
        from isal import igzip_lib

        return _MemberReader(
            source, "gzip", name, limits, lambda: igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
        )
    if head.startswith(ZSTD_MAGIC) or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return _ZstdReader(source, name, limits)
    if head.startswith(BZIP2_MAGIC):
        import bz2

        return _MemberReader(source, "bzip2", name, limits, bz2.BZ2Decompressor)
    if head.startswith(XZ_MAGIC):
        import lzma

        return _MemberReader(
            source, "xz", name, limits, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
        )
    return Reader(source, "none", name, limits)

"""One block of a raw deflate stream (RFC 1951), compressed by itself after what stands before it.

Levels 1 to 3 are isal's, the others zlib's. The bytes are a function of what is given. Must never know: what
the stream is in.
"""

from __future__ import annotations

import struct

DICTIONARY = 1 << 15  # bytes before a block that it can refer to
ISAL_LEVEL = 2
BEGINNING = 4  # bytes, the shortest that isal takes for a match


def deflate_block(block: bytes | bytearray, dictionary: bytes, level: int | None, *, last: bool) -> bytes:
    """The block as it continues the one before it.

    dictionary: the last DICTIONARY bytes of that; last: whether the stream ends with it.
    """
    import zlib

    flush = zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH
    if level is None or 1 <= level <= 3:
        from isal import isal_zlib

        # Where isal has no history, it hashes its stream's address for the third byte (write_first_byte in
        # igzip_icf_body_h1_gr_bt.asm), and what it gives is another in one of some 100,000 cases. So the
        # first bytes of a stream stand as they are, and are history.
        begun, dictionary, rest = _begin(block) if block and not dictionary else (b"", dictionary, block)
        faster = isal_zlib.compressobj(level or ISAL_LEVEL, zlib.DEFLATED, -15, zdict=dictionary)
        return begun + faster.compress(rest) + faster.flush(flush)
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, zdict=dictionary)
    return packer.compress(block) + packer.flush(flush)


def _begin(block: bytes | bytearray) -> tuple[bytes, bytes, memoryview]:
    """The first bytes as a block of their own that is stored, themselves, and the rest."""
    first = bytes(block[:BEGINNING])
    stored = b"\0" + struct.pack("<HH", len(first), len(first) ^ 0xFFFF) + first
    return stored, first, memoryview(block)[BEGINNING:]

"""Where zstd frames begin and end (RFC 8878, section 3), seen from their headers alone.

The decoder's stream does not say whether its input stopped in the middle of a frame; this does. It
decodes nothing and believes nothing: the decoder refuses what is not valid.
"""

from __future__ import annotations

_FRAME = 0xFD2FB528
_DICTIONARY_SIZES = (0, 1, 2, 4)
_CONTENT_SIZES = (0, 2, 4, 8)


def window_of(head: bytes) -> int | None:
    """The bytes that a decoder has to keep for a stream that begins so; None where that is not told."""
    if len(head) < 6 or int.from_bytes(head[:4], "little") != _FRAME:
        return None
    descriptor = head[4]
    if not descriptor & 0x20:
        base = 1 << (10 + (head[5] >> 3))
        return base + base // 8 * (head[5] & 7)
    start = 5 + _DICTIONARY_SIZES[descriptor & 3]
    size = _CONTENT_SIZES[descriptor >> 6] or 1
    content = head[start : start + size]
    return int.from_bytes(content, "little") + (256 if size == 2 else 0) if len(content) == size else None


class FrameTracker:
    """Sees the compressed bytes pass; `whole` is true between frames."""

    def __init__(self) -> None:
        self._need = 4  # bytes of the field that is being read
        self._field = b""
        self._skip = 0
        self._then = "magic"
        self._checksum = False

    @property
    def whole(self) -> bool:
        """Whether the bytes so far end where a frame ends."""
        return self._then == "magic" and not self._field and not self._skip

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            piece = data[at : at + self._need - len(self._field)]
            self._field += piece
            at += len(piece)
            if len(self._field) == self._need:
                field, self._field = self._field, b""
                self._read(field)

    def _read(self, field: bytes) -> None:
        value = int.from_bytes(field, "little")
        if self._then == "magic":
            self._expect("descriptor", 1) if value == _FRAME else self._expect("length", 4)
        elif self._then == "length":
            self._skip = value
            self._expect("magic", 4)
        elif self._then == "descriptor":
            self._read_descriptor(value)
        else:
            self._read_block(value)

    def _read_descriptor(self, value: int) -> None:
        single = bool(value & 0x20)
        content = _CONTENT_SIZES[value >> 6] or int(single)
        self._checksum = bool(value & 4)
        self._skip = (not single) + _DICTIONARY_SIZES[value & 3] + content
        self._expect("block", 3)

    def _read_block(self, value: int) -> None:
        last, kind, size = value & 1, value >> 1 & 3, value >> 3
        self._skip = 1 if kind == 1 else size
        if last:
            self._skip += 4 if self._checksum else 0
            self._expect("magic", 4)

    def _expect(self, then: str, need: int) -> None:
        self._then, self._need = then, need

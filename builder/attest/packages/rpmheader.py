"""A header of an RPM package, as databases keep it: numbers, an index of tags, and their values.

rpm's docs/manual/format_header.md. All of it is big-endian and untrusted.
"""

from __future__ import annotations

import struct

from builder.attest.packages.package import Unreadable

NAME, VERSION, RELEASE, EPOCH, SUMMARY = 1000, 1001, 1002, 1003, 1004
VENDOR, LICENSE, URL, ARCH, SOURCE = 1011, 1014, 1020, 1022, 1044
WANTED = frozenset((NAME, VERSION, RELEASE, EPOCH, SUMMARY, VENDOR, LICENSE, URL, ARCH, SOURCE))
INT32, STRING, STRINGS, TRANSLATED = 4, 6, 8, 9
MAX_TAGS = 0xFFFF
MAX_DATA = 256 << 20
MAX_TEXT = 64 << 10
ENTRY = 16


def parse(blob: bytes) -> dict[int, str]:
    """The wanted tags' values as texts; of several the first. Raises Unreadable."""
    if len(blob) < 8:
        raise Unreadable("a package's header is cut short")
    count, size = struct.unpack_from(">II", blob)
    begin = 8 + ENTRY * count
    if count > MAX_TAGS or size > MAX_DATA or begin + size > len(blob):
        raise Unreadable("a package's header is damaged")
    found: dict[int, str] = {}
    for number in range(count):
        tag, kind, offset, _ = struct.unpack_from(">IIII", blob, 8 + ENTRY * number)
        if tag in WANTED and tag not in found and offset < size:
            found[tag] = _value(blob, kind, begin + offset, begin + size)
    return found


def _value(blob: bytes, kind: int, begin: int, end: int) -> str:
    if kind == INT32:
        return str(struct.unpack_from(">I", blob, begin)[0]) if begin + 4 <= end else ""
    if kind not in (STRING, STRINGS, TRANSLATED):
        return ""
    stop = blob.find(b"\0", begin, min(end, begin + MAX_TEXT))
    return blob[begin : stop if stop >= 0 else min(end, begin + MAX_TEXT)].decode("utf-8", "replace")

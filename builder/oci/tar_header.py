"""Tar headers as values: 512-byte blocks and pax records, both ways.

ustar and pax as POSIX has them (pax, "ustar Interchange Format" and "pax Extended Header"); to read, also
what V7, star and GNU tar write (base-256 numbers). Pure: bytes in, values out; every number is bounded
here, and nothing is allocated by what a header says. Damaged headers are an ImageError.

Must never know: streams, layers, whiteouts.
"""

from __future__ import annotations

import struct

from builder.errors import ImageError

BLOCK = 512
MAX_RECORD = 1 << 20  # bytes of a pax header or a GNU long name, as Go's reader has it
MAX_PATH = 4095  # bytes, as the kernel's PATH_MAX
MAX_NAME = 255  # bytes of one component
MAX_ID = 2**32 - 2  # (uid_t)-1 means "leave it" to chown(2)
MAX_SIZE = 2**63 - 1

NANO = 1_000_000_000
XATTR = "SCHILY.xattr."

# Types (the typeflag field).
REGULAR, OLD_REGULAR, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, FOLDER, FIFO, CONTIGUOUS = (
    b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7",
)  # fmt: skip
PAX, SOLARIS_PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK, GNU_SPARSE, GNU_VOLUME = (
    b"x", b"X", b"g", b"L", b"K", b"S", b"V",
)  # fmt: skip

_LAYOUT = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12s")
_NO_NAME = b""
_DEVICE_ZERO = b"0000000\0"


class Header:
    """The fields of a header block; names are raw bytes, `mtime` in seconds."""

    __slots__ = ("devmajor", "devminor", "gid", "link", "mode", "mtime", "name", "size", "type", "uid")

    def __init__(self, block: bytes) -> None:
        fields = _LAYOUT.unpack(block)
        _check_sum(block, fields[6])
        self.type: bytes = fields[7]
        self.name = until_nul(fields[0])
        self.mode = number(fields[1])
        self.uid = number(fields[2])
        self.gid = number(fields[3])
        self.size = number(fields[4])
        self.mtime = number(fields[5])
        self.link = until_nul(fields[8])
        if self.type in (CHAR, BLOCK_DEVICE):
            self.devmajor = number(fields[12])
            self.devminor = number(fields[13])
        else:
            self.devmajor = self.devminor = 0
        if fields[9][:6] == b"ustar\0":
            prefix = fields[14][:131] if fields[15][8:] == b"tar\0" else fields[14]
            if prefix := until_nul(prefix):
                self.name = prefix + b"/" + self.name
        if not 0 <= self.size <= MAX_SIZE:
            raise damaged(f"size {self.size} of {shown(self.name)}")


def damaged(what: str) -> ImageError:
    """The error for a tar that cannot be what it says."""
    return ImageError(f"the archive is damaged: {what}", code="damaged-archive")


def shown(name: bytes) -> str:
    """A name for an error message: quoted, printable, cut."""
    text = repr(name[:200].decode("utf-8", "replace"))
    return text if len(name) <= 200 else text + "..."


def until_nul(field: bytes) -> bytes:
    """A field's text: up to the first NUL."""
    end = field.find(0)
    return field if end < 0 else field[:end]


def _check_sum(block: bytes, field: bytes) -> None:
    """Both ways of summing are accepted: unsigned (POSIX) and signed (some old writers)."""
    stored = number(field)
    outside = block[:148] + block[156:]
    unsigned = sum(outside) + 256
    if stored != unsigned and stored != unsigned - 256 * sum(byte > 127 for byte in outside):
        raise damaged("the checksum of a header is wrong")


def number(field: bytes) -> int:
    """The value of an octal field, or GNU's base-256 where the first bit is set (two's complement)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    text = until_nul(field.lstrip(b" \0")).rstrip(b" ")
    if not text:
        return 0
    try:
        if text.isdigit():
            return int(text, 8)
    except ValueError:
        pass
    raise damaged(f"the number {shown(field)} in a header")


def parse_pax(data: bytes) -> dict[str, bytes]:
    """The records of a pax header, the last of each key; an empty value is left out.

    The repeated GNU.sparse.offset and .numbytes of sparse format 0.0 are joined as GNU.sparse.map.
    """
    records: dict[str, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 20)
        digits = data[at:blank] if blank > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        if not at <= blank < end <= len(data) or data[end - 1 : end] != b"\n":  # each record ends further on
            raise damaged("a pax record")
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise damaged("a pax record")
        name = key.decode("utf-8", "surrogateescape")
        if name in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            sparse.append(value)
        elif value:
            records[name] = value
        else:
            records.pop(name, None)
        at = end
    if sparse:
        records["GNU.sparse.map"] = b",".join(sparse)
    return records


def pax_number(key: str, value: bytes) -> int:
    """A decimal record such as size or uid, perhaps negative."""
    digits = value[1:] if value.startswith(b"-") else value
    if not digits.isdigit() or len(digits) > 20:
        raise damaged(f"the pax record {key}={shown(value)}")
    return int(value)


def pax_time(value: bytes) -> int:
    """A time record in nanoseconds; digits beyond the ninth are dropped."""
    whole, _, fraction = value.partition(b".")
    if fraction and not fraction.isdigit():
        raise damaged(f"the pax record mtime={shown(value)}")
    seconds = pax_number("mtime", whole)
    nanoseconds = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    return seconds * NANO + (-nanoseconds if whole.startswith(b"-") else nanoseconds)


def pax_record(key: bytes, value: bytes) -> bytes:
    """`<length> <key>=<value>\\n`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def header_block(
    name: bytes,
    prefix: bytes,
    numbers: tuple[int, int, int, int, int],
    kind: bytes,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """A ustar block; `numbers` are mode, uid, gid, size and mtime, and fit their fields."""
    mode, uid, gid, size, mtime = numbers
    block = _LAYOUT.pack(
        name, b"%07o\0" % mode, b"%07o\0" % uid, b"%07o\0" % gid, b"%011o\0" % size, b"%011o\0" % mtime,
        b"        ", kind, link, b"ustar\0" b"00", _NO_NAME, _NO_NAME,
        b"%07o\0" % device[0] if device[0] else _DEVICE_ZERO,
        b"%07o\0" % device[1] if device[1] else _DEVICE_ZERO, prefix, b"",
    )  # fmt: skip
    return b"%b%06o\0 %b" % (block[:148], sum(block), block[156:])


def padding(size: int) -> int:
    """Bytes from the end of `size` bytes of data to the next block."""
    return -size % BLOCK

"""Archives made to break readers; each kind is known from an advisory against somebody's."""

# ruff: noqa: E501

import collections
import io
import resource
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import ImageError
from builder.oci import tar
from builder.oci import tar_header as th
from builder.oci.tar_header import MAX_RECORD, parse_pax, pax_record
from builder.snapshots.snapshot import FILE, FOLDER, SYMLINK

LAYOUT = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12s")


def header(name=b"a", *, kind=b"0", size=b"00000000000\0", link=b"", mode=b"0000644\0", uid=b"0000000\0",
           mtime=b"00000000000\0", magic=b"ustar\0" + b"00", device=b"0000000\0", prefix=b"", tail=b""):  # fmt: skip
    if isinstance(size, int):
        size = b"%011o\0" % size
    block = LAYOUT.pack(name, mode, uid, b"0000000\0", size, mtime, b" " * 8, kind, link, magic, b"", b"",
                        device, device, prefix, tail)  # fmt: skip
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data):
    return data + bytes(-len(data) % 512)


def pax(**records):
    data = b"".join(pax_record(key.replace("__", ".").encode(), value) for key, value in records.items())
    return header(b"pax", kind=b"x", size=len(data)) + padded(data)


def read(data):
    return [(entry, body.read()) for entry, body in tar.read(io.BytesIO(data))]


def read_one(data):
    ((entry, _),) = read(data + bytes(1024))
    return entry


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"../../etc/passwd", "etc/passwd"), (b"/etc/passwd", "etc/passwd"), (b"a/../../../b", "b"),
        (b"./a//b/./c", "a/b/c"), (b"./", "."), (b"..", "."), (b"//", "."), (b"a/..", "."), (b"...", "..."),
        (b"a/..b", "a/..b"),
    ],
)  # fmt: skip
@pytest.mark.hostile(
    "CVE-2007-4559",
    "CVE-2025-4517",
    "CVE-2025-4330",
    "CVE-2025-4138",
    "CVE-2025-4435",
    "CVE-2024-12718",
    "CVE-2026-11940",
)
def test_names_end_inside_the_root(name, path):
    assert read_one(header(name)).path == path
    assert read_one(pax(path=name) + header()).path == path
    assert read_one(header(b"l", kind=b"1", link=name)).hardlink == path


def test_the_text_of_a_symlink_is_left_as_it_is():
    assert read_one(header(b"l", kind=b"2", link=b"../../etc")).link == "../../etc"


@pytest.mark.parametrize(
    "archive",
    {
        "negative size": header(size=b"\xff" * 12),
        "negative size of a pax header": header(kind=b"x", size=b"\xff" * 12) + header(),
        "negative size of a long name": header(kind=b"L", size=b"\xff" * 12) + header(),
        "negative pax size": pax(size=b"-512") + header(),
        "huge pax size": pax(size=b"9" * 19) + header(),
        "size of many digits": pax(size=b"9" * 5000) + header(),
        "size of unicode digits": pax(size="٣".encode()) + header(),
        "size with an underscore": header(size=b"0000000_100\0"),
        "size with a sign": header(size=b"-0000000001\0"),
        "octal size with a 9": header(size=b"00000000009\0"),
        "pax header of 8 EiB": header(kind=b"x", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7),
        "pax header over the limit": header(kind=b"x", size=MAX_RECORD + 1) + bytes(MAX_RECORD + 1024),
        "global header over the limit": header(kind=b"g", size=MAX_RECORD + 1) + bytes(MAX_RECORD + 1024),
        "long name over the limit": header(kind=b"L", size=MAX_RECORD + 1) + bytes(MAX_RECORD + 1024),
        "long link over the limit": header(kind=b"K", size=8 << 30),
        "pax record beyond the header": header(kind=b"x", size=8) + padded(b"99 a=bc\n") + header(),
        "second pax record without length": header(kind=b"x", size=38)
        + padded(b"8 a=bcd\n" + b"x" * 30)
        + header(),
        "second pax record of length 0": header(kind=b"x", size=16)
        + padded(b"8 a=bcd\n0 a=bcd\n")
        + header(),
        "pax record of length 0": header(kind=b"x", size=8) + padded(b"0 a=bcd\n") + header(),
        "pax record of length 1": header(kind=b"x", size=8) + padded(b"1 a=bcd\n") + header(),
        "pax record without newline": header(kind=b"x", size=8) + padded(b"8 a=bcde") + header(),
        "pax record without equals": header(kind=b"x", size=8) + padded(b"8 abcde\n") + header(),
        "pax record without length": header(kind=b"x", size=8) + padded(b" a=bcd\n\n") + header(),
        "pax length of many digits": header(kind=b"x", size=512) + b"9" * 512 + header(),
        "bad time": pax(mtime=b"1e9") + header(),
        "bad fraction": pax(mtime=b"1.-5") + header(),
        "time of nothing": pax(mtime=b".") + header(),
        "owner of minus one": pax(uid=b"4294967295") + header(),
        "negative owner": pax(uid=b"-1") + header(),
        "negative owner in binary": header(uid=b"\xff" * 8),
        "NUL in a path": pax(path=b"a\0b") + header(),
        "NUL in a link": pax(linkpath=b"a\0b") + header(kind=b"2"),
        "empty name": header(b""),
        "empty link": header(kind=b"2"),
        "empty hard link": header(kind=b"1"),
        "name of 256 bytes": pax(path=b"n" * 256) + header(),
        "path beyond PATH_MAX": pax(path=b"abc/" * 1100) + header(),
        "link beyond PATH_MAX": pax(linkpath=b"abc/" * 1100) + header(kind=b"2"),
        "device number": header(kind=b"3", device=b"7777777\0"),
        "unknown type": header(kind=b"Z"),
        "multivolume": header(kind=b"M"),
        "wrong checksum": header()[:20] + b"x" + header()[21:],
        "cut header": header()[:300],
        "cut body": header(size=1000) + bytes(600),
        "cut padding": header(size=10) + b"0123456789",
        "cut pax": header(kind=b"x", size=100) + b"10 a=",
        "pax without its file": pax(path=b"a"),
        "header after zeros": header() + bytes(512) + header(),
        "garbage": b"garbage " * 64,
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.hostile("CVE-2025-8194", "CVE-2026-11972")
def test_what_is_damaged_or_beyond_limits_is_an_image_error(archive):
    name, data = archive
    with pytest.raises(ImageError, match="the archive is damaged"):
        read(data if "cut" in name else data + bytes(1024))


class Endless:
    """A start, then one byte for as long as somebody reads; `given` counts the bytes."""

    def __init__(self, start: bytes, more: bytes = b"\0") -> None:
        self.start = start
        self.more = more
        self.given = 0

    def read(self, size: int = -1, /) -> bytes:
        self.given += size
        assert size > 0, "all at once"
        assert self.given < 8 << 20, "the archive is read for what its header says"
        data, self.start = self.start, b""
        return data + (self.more * size)[: max(0, size - len(data))]


@pytest.mark.hostile("gh-151498")
@pytest.mark.parametrize("kind", [b"x", b"g", b"X", b"L", b"K"])
def test_the_size_of_an_extended_header_is_checked_before_it_is_read(kind):
    stream = Endless(header(kind=kind, size=6 << 30))

    with pytest.raises(ImageError, match=f"an extended header of {6 << 30} bytes"):
        next(tar.read(stream))
    assert stream.given <= tar.CHUNK


@pytest.mark.hostile("gh-151498")
def test_a_size_field_allocates_nothing():
    """Neither a file's size nor its map are made room for before there are bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    _, body = next(tar.read(Endless(header(size=6 << 30))))
    for _ in range(8):
        assert len(body.read(1 << 20)) <= tar.CHUNK
    with pytest.raises(ImageError):
        read(header(size=6 << 30) + bytes(1024))

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.hostile("CVE-2024-6232")
@pytest.mark.parametrize("record", [b"9", b"9 ", b"1 1 ", b" ", b"9 GNU.sparse.size", b"="])
def test_a_record_of_a_megabyte_is_looked_at_once(record):
    """Python's reader had a regex for it, which tried each digit as the first."""
    digits = record * (MAX_RECORD // len(record))

    with pytest.raises(ImageError, match="a pax record"):
        parse_pax(digits)
    with pytest.raises(ImageError, match="a pax record"):
        parse_pax(b"9" * (MAX_RECORD - 20) + b" GNU.sparse.size=1\n")
    with pytest.raises(ImageError, match="in a header"):
        th.number(b"1" * MAX_RECORD + b"x")


def test_data_behind_types_that_have_none_is_not_skipped():
    # As Go reads it: a size on a link or a folder does not hide the header that follows.
    data = header(b"l", kind=b"1", link=b"x", size=512) + header(b"next") + bytes(1024)
    assert [entry.path for entry, _ in read(data)] == ["l", "next"]


def test_numbers_in_base_256_and_old_forms_are_read():
    entry = read_one(header(uid=b"\x80\0\0\0\0\x01\0\0", mtime=b"\xff" * 12, mode=b" 644 \0\0\0"))
    assert (entry.uid, entry.mtime, entry.mode) == (65536, -1_000_000_000, 0o644)
    assert read_one(header(b"folder/", kind=b"\0", magic=bytes(8))).kind == FOLDER
    assert read_one(header(b"name", prefix=b"pre/fix")).path == "pre/fix/name"
    assert read_one(header(b"name", magic=b"ustar  \0", prefix=b"12345670123")).path == "name"
    assert (
        read_one(header(b"name", prefix=b"p" * 131 + b"00000000000\0", tail=b"\0" * 8 + b"tar\0")).path
        == "p" * 131 + "/name"
    )


def test_a_signed_checksum_is_accepted():
    block = header("é".encode())
    outside = block[:148] + block[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in outside) + 256
    assert read_one(block[:148] + b"%06o\0 " % signed + block[156:]).path == "é"


def test_a_time_beyond_the_kernels_is_the_epoch():
    assert read_one(pax(mtime=b"99999999999999") + header()).mtime == 0
    assert read_one(pax(mtime=b"-1.5") + header()).mtime == -1_500_000_000
    assert read_one(pax(mtime=b"-0.5") + header()).mtime == -500_000_000


def test_global_headers_are_checked_and_not_applied():
    data = b"".join(pax_record(*record) for record in [(b"path", b"evil"), (b"comment", b"0123")])
    assert read_one(header(kind=b"g", size=len(data)) + padded(data) + header(b"a")).path == "a"


def test_extended_headers_are_for_the_next_entry_only():
    data = pax(path=b"first", mtime=b"5") + header() + header(b"second") + bytes(1024)
    assert [(e.path, e.mtime) for e, _ in read(data)] == [("first", 5_000_000_000), ("second", 0)]


def test_an_empty_record_takes_the_headers_value_back():
    assert read_one(pax(path=b"") + header(b"a")).path == "a"
    assert parse_pax(pax_record(b"a", b"1") + pax_record(b"a", b"2")) == {"a": b"2"}


def test_gnu_long_names_are_cut_at_their_nul():
    data = header(b"././@LongLink", kind=b"L", size=203) + padded(b"n" * 200 + b"\0xx")
    link = header(b"././@LongLink", kind=b"K", size=151) + padded(b"t" * 150 + b"\0")
    entry = read_one(data + link + header(kind=b"2", link=b"x"))
    assert (entry.path, entry.kind, entry.link) == ("n" * 200, SYMLINK, "t" * 150)


def sparse(size, *extents, stored=0, more=b"\0"):
    """A GNU sparse header with up to four extents."""
    block = bytearray(header(b"s", kind=b"S", size=stored, magic=b"ustar  \0"))
    for number, (start, length) in enumerate(extents):
        block[386 + 24 * number : 410 + 24 * number] = b"%011o\0%011o\0" % (start, length)
    block[482:483] = more
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "archive",
    {
        "more stored than mapped": sparse(1000, (0, 100), stored=200) + bytes(512),
        "more mapped than stored": sparse(1000, (0, 600), stored=512) + bytes(512),
        "extents that overlap": sparse(1000, (0, 100), (50, 100), stored=200) + bytes(512),
        "extent beyond the end": sparse(100, (50, 100), stored=100) + bytes(512),
        "a map without end": sparse(100, more=b"\1") + (b"%011o\0%011o\0" % (0, 0) * 21 + b"\1" + bytes(7)) * 3000,
        "files of terabytes": sparse(7 << 30) * 10,
        "negative real size": pax(GNU__sparse__major=b"1", GNU__sparse__realsize=b"-5") + header(),
        "no real size": pax(GNU__sparse__major=b"1") + header(),
        "map of billions": pax(GNU__sparse__major=b"1", GNU__sparse__realsize=b"5") + header(size=512) + padded(b"999999999\n"),
        "map that is no number": pax(GNU__sparse__major=b"1", GNU__sparse__realsize=b"5") + header(size=512) + padded(b"x\n"),
        "map without newlines": pax(GNU__sparse__major=b"1", GNU__sparse__realsize=b"5") + header(size=4096) + b"1" * 4096,
        "map of a link": pax(GNU__sparse__major=b"1", GNU__sparse__realsize=b"5") + header(kind=b"2", link=b"x"),
        "map of a folder": pax(GNU__sparse__map=b"", GNU__sparse__size=b"5") + header(b"d/", kind=b"5"),
        "old map of a folder": header(b"d/", kind=b"S", magic=b"ustar  \0"),
        "odd map": pax(GNU__sparse__map=b"1,2,3", GNU__sparse__size=b"100") + header(),
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
@pytest.mark.hostile("CVE-2025-58183")
def test_sparse_maps_that_lie_are_image_errors(archive):
    with pytest.raises(ImageError, match="the archive is damaged"):
        collections.deque(tar.read(io.BytesIO(archive[1] + bytes(1024))), 0)


def test_a_sparse_file_of_holes_needs_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ((entry, body),) = [(e, b.read(1 << 30)) for e, b in tar.read(io.BytesIO(sparse(4 << 30) + bytes(1024)))]
    assert entry.size == 4 << 30
    assert 0 < len(body) <= 1 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.hostile("CVE-2025-58183")
@pytest.mark.parametrize("stored", [b"999999999\n", b""])
def test_a_sparse_map_is_bounded_whatever_the_size_of_its_file(stored):
    """Its count is looked at, and what has been read of it (either ends this); so is the length of a line."""
    size = b"\x80" + b"\0" * 6 + b"\x7f" * 5
    start = pax(GNU__sparse__major=b"1", GNU__sparse__realsize=b"5") + header(size=size) + stored
    more = b"1\n" if stored else b"1"

    with pytest.raises(ImageError, match="a sparse map is too large"):
        next(tar.read(Endless(start, more)))


@pytest.mark.hostile("bombs", "gh-151498")
@pytest.mark.parametrize(
    "extended",
    {
        "pax": pax(a=b"b" * 1000),
        "global": header(b"pax", kind=b"g", size=512) + b"8 a=bcd\n" * 64,
        "long name": header(b"x", kind=b"L", size=512) + padded(b"n" * 512),
        "volume": header(b"x", kind=b"V"),
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_headers_that_describe_nothing_are_not_read_for_ever(extended, monkeypatch):
    """Each is small enough, and costs a thousandth of its size when compressed."""
    monkeypatch.setattr(tar, "FREE_EXTENDED", 100_000)

    with pytest.raises(ImageError, match="extended headers are too large for what they describe"):
        next(tar.read(Endless(extended[1] * 200, extended[1])))


def test_files_may_have_an_extended_header_each(monkeypatch):
    monkeypatch.setattr(tar, "FREE_EXTENDED", 10_000)

    assert len(read(pax(path=b"n" * 200, mtime=b"1.5") * 1 + header())) == 1
    assert len(read((pax(path=b"n" * 200, mtime=b"1.5") + header()) * 500 + bytes(1024))) == 500


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_bytes_are_entries_or_an_image_error(data):
    archive = bytearray(
        pax(path=b"a/b", mtime=b"5.5", SCHILY__xattr__a=b"b") + header(size=100) + padded(b"x" * 100)
        + sparse(1000, (0, 100), (500, 412), stored=512) + bytes(512) + header(b"L", kind=b"L", size=3) + padded(b"abc")
        + header() + bytes(1024)
    )  # fmt: skip
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at] = data.draw(st.integers(0, 255))
        start = at // 512 * 512
        if data.draw(st.booleans()) and archive[start + 257 : start + 262] == b"ustar":
            archive[start + 148 : start + 156] = b" " * 8
            archive[start + 148 : start + 156] = b"%06o\0 " % sum(archive[start : start + 512])
    try:
        for entry, body in tar.read(io.BytesIO(bytes(archive))):
            assert not {"", ".."}.intersection(entry.path.split("/"))
            assert entry.kind == FILE or not body.read(1)
            for _ in range(10):
                body.read(1 << 16)
    except ImageError:
        pass

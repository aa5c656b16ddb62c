import bz2
import contextlib
import gzip
import io
import lzma
import random
import threading
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import ImageError, UsageError
from builder.oci import compression
from builder.oci.compressed import Compression
from builder.oci.compression import BLOCK, FOREIGN, NO_LIMITS, Limits, open_reader, open_writer
from builder.oci.zstd_frames import window_of
from tests.support.hostilelayers import xz_of_much_memory, zstd_bomb

KINDS = [
    Compression("gzip"), Compression("gzip", 0), Compression("gzip", 1), Compression("gzip", 3),
    Compression("gzip", 6), Compression("zstd"), Compression("zstd", 9), Compression("none"),
]  # fmt: skip
TEXT = b"".join(random.Random(1).choices([b"alpha ", b"beta\n", b"gamma ", bytes(300)], k=60_000))
SHORT = TEXT[:200_000]


def pack(data, compression, *, threads=2, step=1 << 16):
    out = io.BytesIO()
    with open_writer(out, compression, threads=threads) as writer:
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
    return out.getvalue()


def unpack(data, **options):
    return open_reader(io.BytesIO(data), **options).read()


class Dribble:
    """A stream that gives a few bytes at a time, as sockets do."""

    def __init__(self, data, size):
        self.stream = io.BytesIO(data)
        self.size = size

    def read(self, size=-1):
        return self.stream.read(self.size if size < 0 else min(size, self.size))


@pytest.mark.parametrize("compression", KINDS, ids=str)
def test_what_is_packed_is_read_again(compression):
    for data in (b"", b"x", TEXT, TEXT[:BLOCK], TEXT[: BLOCK + 1]):
        packed = pack(data, compression)
        assert unpack(packed) == data
        assert (
            len(packed) < len(data) or len(data) < 2 or compression.level == 0 or compression.kind == "none"
        )


@pytest.mark.parametrize("compression", KINDS, ids=str)
def test_threads_and_sizes_of_writes_do_not_change_the_bytes(compression):
    results = {
        pack(TEXT, compression, threads=threads, step=step)
        for threads in (1, 2, 5)
        for step in (999, 1 << 20, len(TEXT))
    }
    assert len(results) == 1


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_one_two_and_eight_threads_write_the_same_of_many_blocks(kind):
    noise = random.Random(5).randbytes(1 << 20)
    data = b"".join(noise[: n << 16] + TEXT[: 16 - n << 16] for n in range(14)) + b"end"

    one, two, eight = (pack(data, Compression(kind), threads=threads) for threads in (1, 2, 8))

    assert one == two == eight
    assert unpack(one) == data


@given(st.lists(st.binary(max_size=3000), max_size=20), st.sampled_from(KINDS))
def test_any_bytes_in_any_pieces_come_back(pieces, compression):
    out = io.BytesIO()
    with open_writer(out, compression, threads=1) as writer:
        writer.write(b"no magic")
        for piece in pieces:
            writer.write(piece)

    assert unpack(out.getvalue()) == b"no magic" + b"".join(pieces)


def test_others_read_what_is_written():
    assert gzip.decompress(pack(TEXT, Compression("gzip"))) == TEXT
    assert gzip.decompress(pack(TEXT, Compression("gzip", 9))) == TEXT
    frame = zstandard.ZstdDecompressor().decompressobj()
    assert frame.decompress(pack(TEXT, Compression("zstd"))) == TEXT


def test_a_gzip_header_has_no_time_and_no_name():
    assert pack(b"x", Compression("gzip"))[:10] == bytes.fromhex("1f8b08000000000000ff")


def test_members_and_frames_after_each_other_are_one_stream():
    zstd = zstandard.ZstdCompressor().compress
    for part in (gzip.compress, bz2.compress, lzma.compress, zstd):
        assert unpack(part(b"one ") + part(b"") + part(b"two")) == b"one two"
    assert unpack(gzip.compress(b"one ") + bytes(700_000) + gzip.compress(b"two") + bytes(512)) == b"one two"
    assert unpack(b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd(b"x")) == b"x"


@pytest.mark.parametrize(
    ("part", "kind"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"), (bytes, "none"),
     (zstandard.ZstdCompressor().compress, "zstd")],
)  # fmt: skip
def test_a_slow_stream_is_recognised(part, kind):
    reader = open_reader(Dribble(part(TEXT[:50_000]), 3))
    assert reader.kind == kind
    assert reader.read() == TEXT[:50_000]


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(SHORT), bz2.compress(SHORT), lzma.compress(SHORT),
     zstandard.ZstdCompressor(write_checksum=True).compress(SHORT), pack(TEXT, Compression("zstd")),
     pack(TEXT, Compression("gzip"))],
    ids=["gzip", "bzip2", "xz", "zstd", "our zstd", "our gzip"],
)  # fmt: skip
def test_a_stream_that_is_cut_off_or_changed_is_an_image_error(packed):
    for end in (6, 7, 12, 20, len(packed) // 2, len(packed) - 9, len(packed) - 4, len(packed) - 1):
        with pytest.raises(ImageError, match="the archive is damaged"):
            unpack(packed[:end])
    at = len(packed) - len(packed) // 4
    with pytest.raises(ImageError, match="the archive is damaged"):
        unpack(packed[:at] + bytes([packed[at] ^ 0x55]) + packed[at + 1 :])


@given(
    st.binary(max_size=200), st.sampled_from([b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"])
)
def test_garbage_is_an_image_error_or_bytes(garbage, magic):
    with contextlib.suppress(ImageError):
        unpack(magic + garbage)


def test_garbage_after_the_end_is_an_error():
    for part in (gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress):
        with pytest.raises(ImageError):
            unpack(part(b"x") + b"garbage after the end")


def test_an_error_names_the_stream():
    with pytest.raises(ImageError, match="layer 3 is damaged"):
        unpack(b"\x1f\x8b\x08", name="layer 3")


@pytest.mark.hostile("CVE-2014-9357")
@pytest.mark.parametrize(
    "part", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
def test_no_program_of_the_machine_takes_an_archive_apart(part, tmp_path, monkeypatch):
    for name in ("xz", "unxz", "gzip", "unpigz", "pigz", "bzip2", "zstd", "tar", "sh"):
        (tmp_path / name).write_text(f"#!/bin/sh\n: > {tmp_path}/ran\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert unpack(part(SHORT)) == SHORT
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "part", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
@pytest.mark.hostile("CVE-2025-61728")
def test_bombs_stop_at_the_limits(part):
    bomb = part(bytes(64 << 20))

    with pytest.raises(ImageError, match="larger than 1000000 bytes"):
        unpack(bomb, limits=Limits(size=1_000_000))
    with pytest.raises(ImageError, match="expands to more than 100 times"):
        unpack(bomb, limits=Limits(ratio=100))


@pytest.mark.hostile("CVE-2025-61728", "bombs")
def test_a_stream_is_foreign_unless_it_is_said_not_to_be():
    """A frame of zstd: eight bytes for each 256 KiB. A third of a megabyte is more than 8 GiB."""
    bomb = zstd_bomb(9 << 30)
    foreign = open_reader(io.BytesIO(bomb))
    foreign.count = FOREIGN.free
    with pytest.raises(ImageError, match="expands to more than 200 times its size"):
        foreign.read(BLOCK)
    own = open_reader(io.BytesIO(bomb), limits=NO_LIMITS)
    own.count = 100 * FOREIGN.free
    assert own.read(BLOCK)


@pytest.mark.hostile("bombs")
def test_streams_that_take_much_memory_take_turns(monkeypatch):
    """Layers are unpacked side by side, and each may ask for 128 MiB."""
    monkeypatch.setattr(compression, "TURN_SECONDS", 0.1)
    large = zstd_bomb(1 << 20, window=0x88)
    first = open_reader(io.BytesIO(large))
    assert compression._LARGE.locked()
    assert len(unpack(zstd_bomb(1 << 20))) == 1 << 20, "small ones need not wait"
    assert len(unpack(large)) == 1 << 20, "nobody waits for ever"
    assert compression._LARGE.locked()
    assert len(first.read()) == 1 << 20
    assert not compression._LARGE.locked()
    with pytest.raises(ImageError):
        unpack(large[:-1])
    assert not compression._LARGE.locked()


@pytest.mark.parametrize(("level", "size"), [(1, 100), (3, 70_000), (19, 300_000), (22, 40 << 20)])
def test_the_window_of_a_stream_is_known_from_its_start(level, size):
    for told in (True, False):
        parameters = zstandard.ZstdCompressionParameters.from_level(level, write_content_size=told)
        packer = zstandard.ZstdCompressor(compression_params=parameters)
        packed = packer.compress(bytes(size)) if told else packer.compressobj().compress(bytes(size))
        head = (packed or packer.compress(bytes(size)))[:18]
        assert window_of(head) == zstandard.get_frame_parameters(head).window_size
    assert window_of(b"") is None
    assert window_of(b"\x50\x2a\x4d\x18\0\0\0\0") is None


@pytest.mark.hostile("bombs")
def test_what_decompresses_takes_little_memory_whatever_the_stream_asks_for():
    assert unpack(lzma.compress(SHORT, preset=9)) == SHORT
    with pytest.raises(ImageError, match="not valid xz"):
        unpack(xz_of_much_memory(SHORT))
    with pytest.raises(ImageError, match="not valid zstd"):
        unpack(zstd_bomb(1 << 20, window=0x90))  # 256 MiB


@pytest.mark.parametrize(
    "part", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
def test_one_read_gives_no_more_than_was_asked_for(part):
    reader = open_reader(io.BytesIO(part(bytes(8 << 20))))

    assert len(reader.read(10)) == 10
    assert len(reader.read(100)) <= 100
    assert reader.count <= 2 << 20


def test_unknown_kinds_and_levels_are_refused():
    with pytest.raises(UsageError, match="unknown compression 'lzma'"):
        Compression("lzma")
    for kind, level in (("gzip", 10), ("gzip", -1), ("estargz", 10), ("zstd", -1), ("zstd", 23)):
        with pytest.raises(UsageError, match=f"level {level} of {kind}"):
            Compression(kind, level)


def test_levels_of_zlib_are_smaller_than_those_of_isal():
    assert len(pack(TEXT, Compression("gzip", 9))) < len(pack(TEXT, Compression("gzip")))
    assert len(pack(TEXT, Compression("gzip", 0))) > len(TEXT)


def working():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("blocks")}


def test_an_error_in_the_block_ends_the_threads_and_the_stream():
    out = io.BytesIO()
    with contextlib.suppress(KeyError), open_writer(out, Compression("gzip"), threads=3) as writer:
        writer.write(TEXT * 10)
        assert working()
        raise KeyError

    assert working() == set()
    with pytest.raises((EOFError, zlib.error)):
        gzip.decompress(out.getvalue())


def test_a_full_disk_ends_the_threads():
    class Full:
        left = 3

        def write(self, data):
            self.left -= 1
            if not self.left:
                raise OSError(28, "No space left on device")

    with (
        pytest.raises(OSError, match="No space"),
        open_writer(Full(), Compression("gzip"), threads=2) as writer,
    ):
        writer.write(TEXT * 20)
    assert working() == set()

"""Blocks of a deflate stream, as zlib reads them."""

import zlib
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from builder.oci.deflate import DICTIONARY, deflate_block

LEVELS = [None, *range(10)]
PERIODIC = st.builds(lambda part, times: part * times, st.binary(max_size=9), st.integers(0, 9000))
BLOCKS = st.lists(st.binary(max_size=300) | PERIODIC, min_size=1, max_size=4)


def deflated(blocks: list[bytes], level: int | None) -> bytes:
    """The stream of these blocks."""
    found, before = b"", b""
    for number, block in enumerate(blocks, 1):
        found += deflate_block(block, before, level, last=number == len(blocks))
        before = (before + block)[-DICTIONARY:]
    return found


@given(BLOCKS, st.sampled_from(LEVELS))
def test_any_blocks_come_back(blocks: list[bytes], level: int | None) -> None:
    reader = zlib.decompressobj(-15)

    assert reader.decompress(deflated(blocks, level)) == b"".join(blocks)
    assert reader.eof
    assert reader.unused_data == b""


@pytest.mark.parametrize("level", [None, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 4, 5, 3000, 1 << 20])
def test_isal_never_begins_without_history(level: int | None, size: int) -> None:
    """Its bytes would depend on where in memory its stream lies."""
    data = (b"3\n" * size)[:size]
    with mock.patch.object(isal_zlib, "compressobj", wraps=isal_zlib.compressobj) as begun:
        found = deflated([data, data], level)

    assert zlib.decompress(found, -15) == data * 2
    assert begun.call_count == 2
    assert all(call.kwargs["zdict"] for call in begun.call_args_list)

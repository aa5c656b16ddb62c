import io
import shutil
import threading

import pytest

from builder.errors import ImageError
from builder.oci.readahead import BLOCK, ReadAhead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


class Failing(io.BytesIO):
    """Ends with an error instead of an end."""

    def read(self, size=-1):
        data = super().read(size)
        if not data:
            raise ImageError("cut off")
        return data


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 7])
def test_the_bytes_are_those_of_the_stream(size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    with ReadAhead(io.BytesIO(data)) as ahead:
        pieces = []
        while piece := ahead.read(100_000):
            pieces.append(piece)
        assert ahead.read() == b""
    assert b"".join(pieces) == data
    assert not threads()


def test_a_short_stream_needs_no_thread():
    with ReadAhead(io.BytesIO(b"x" * 1000)) as ahead:
        assert ahead.read() == b"x" * 1000
        assert ahead.read() == b""
        assert not threads()


@pytest.mark.parametrize("size", [10, 8 * BLOCK])
def test_an_error_comes_where_the_bytes_end(size):
    got = io.BytesIO()
    with ReadAhead(Failing(bytes(size))) as ahead:
        with pytest.raises(ImageError, match="cut off"):
            shutil.copyfileobj(ahead, got)
        assert ahead.read() == b""
    assert got.getvalue() == bytes(size)
    assert not threads()


def test_giving_up_ends_the_thread():
    with ReadAhead(io.BytesIO(bytes(100 * BLOCK))) as ahead:
        for _ in range(3):
            ahead.read()
        assert threads()
    assert not threads()

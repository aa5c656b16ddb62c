import errno
import hashlib
import io
import os

import pytest

from builder.fs import copy
from builder.fs.copy import copy_file, copy_hashing, copy_stream


def allocated(path):
    return path.stat().st_blocks * 512


def unsupported(*_):
    raise OSError(errno.EXDEV, "no")


def copy_path(source, target):
    with open(source, "rb") as a, open(target, "wb") as b:
        return copy_file(a.fileno(), b.fileno())


@pytest.fixture(params=["as it comes", "no reflink", "read and write"])
def way(request, monkeypatch):
    if request.param != "as it comes":
        monkeypatch.setattr(copy, "clone_file", lambda *_: False)
    if request.param == "read and write":
        monkeypatch.setattr(os, "copy_file_range", unsupported)


@pytest.mark.parametrize("size", [0, 1, 4095, 1 << 18, (1 << 20) + 7])
def test_a_copy_has_the_same_bytes(tmp_path, way, size):
    (tmp_path / "a").write_bytes(os.urandom(size))

    assert copy_path(tmp_path / "a", tmp_path / "b") == size
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_holes_stay_holes(tmp_path, way):
    with open(tmp_path / "a", "wb") as file:
        file.seek(8 << 20)
        file.write(b"data")
        file.truncate(32 << 20)

    copy_path(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert allocated(tmp_path / "b") <= 1 << 20


def test_a_file_that_the_kernel_makes_up_is_copied(tmp_path):
    with open("/proc/self/status", "rb") as a, open(tmp_path / "b", "wb") as b:
        assert copy_file(a.fileno(), b.fileno()) == 0  # its size is 0, and so is the copy's


def test_a_stream_is_hashed_while_it_is_copied(tmp_path):
    data = os.urandom(700_000)
    with open(tmp_path / "b", "wb") as target:
        found = copy_hashing(io.BytesIO(data), target.fileno())

    assert found == (hashlib.sha256(data).hexdigest(), len(data))
    assert (tmp_path / "b").read_bytes() == data


def test_zeros_of_a_stream_become_holes(tmp_path):
    data = bytes(4 << 20) + b"x" + bytes(4 << 20)
    with open(tmp_path / "b", "wb") as target:
        assert copy_stream(io.BytesIO(data), target.fileno()) == len(data)

    assert (tmp_path / "b").read_bytes() == data
    assert allocated(tmp_path / "b") <= 1 << 20


def test_an_error_of_the_disk_is_not_taken_for_a_missing_feature(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "broken")

    (tmp_path / "a").write_bytes(b"data")
    monkeypatch.setattr(copy, "clone_file", lambda *_: False)
    monkeypatch.setattr(os, "copy_file_range", broken)
    with pytest.raises(OSError, match="broken"):
        copy_path(tmp_path / "a", tmp_path / "b")

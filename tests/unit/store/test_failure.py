"""What the system refuses, in words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from builder.errors import StoreError
from builder.store.failure import full_disk_hint, store_error, system_error, unexplained


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (errno.ENOSPC, "disk-full", "no space left on the device"),
        (errno.EDQUOT, "disk-full", "no space left on the device"),
        (errno.EACCES, "store-permission", "permission denied"),
        (errno.EROFS, "store-read-only", "the file system is read-only"),
        (errno.EIO, "store-error", "input/output error"),
    ],
)
def test_what_the_store_cannot_do_is_told_with_the_folder(number: int, code: str, reason: str) -> None:
    error = store_error(OSError(number, os.strerror(number)), "/store", "writing a blob")

    assert (error.message, error.code) == (f"writing a blob in /store failed: {reason}", code)
    assert (error.hint is None) == (code == "store-error")


def test_an_error_without_a_file_or_with_one_of_the_store_is_the_stores() -> None:
    files = [(), ("/store/cache/x",), ("etc",)]  # the last is one in a folder that was open
    errors = [OSError(errno.ENOSPC, "full", *file) for file in files]

    for error in errors:
        told = unexplained(error, "/store")
        assert isinstance(told, StoreError)
        assert told.code == "disk-full"


def test_an_error_of_a_file_elsewhere_names_that() -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/storehouse/x")
    told = unexplained(missing, "/store")

    assert (told.message, told.code) == ("/storehouse/x: no such file or directory", "system")


@pytest.mark.parametrize(
    ("number", "message", "advice"),
    [
        (errno.ENOSPC, "/out.tar: no space left on device", "free some space"),
        (errno.EMFILE, "/out.tar: too many open files", "ulimit -n"),
        (errno.EIO, "/out.tar: input/output error", ""),
    ],
)
def test_what_nobody_knows_more_of_is_told_in_one_way(number: int, message: str, advice: str) -> None:
    told = system_error(OSError(number, os.strerror(number), "/out.tar"))

    assert told.message == message
    assert advice in (told.hint or "")


def test_a_disk_with_room_has_no_hint(tmp_path: Path) -> None:
    assert full_disk_hint(str(tmp_path)) is None


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOLCK])
def test_what_a_file_system_does_not_know_is_told_with_what_to_do(number: int) -> None:
    error = store_error(OSError(number, os.strerror(number)), "/store", "taking the lock x")

    assert error.hint == "choose a folder on another file system with --root or PYBUILD_ROOT"


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        os.path.abspath("context")

    told = system_error(caught.value)

    assert (told.message, told.hint) == ("the working folder is gone", "change to one that is there (cd)")
    monkeypatch.chdir(tmp_path)
    assert system_error(caught.value).message == "no such file or directory"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, "ulimit -n"),
        (errno.EAGAIN, "ulimit -u"),
        (errno.ENOMEM, "ulimit -v"),
        (errno.EFBIG, "ulimit -f"),
    ],
)
def test_a_limit_of_the_user_is_told_with_what_raises_it(number: int, remedy: str) -> None:
    error = OSError(number, os.strerror(number))

    assert remedy in str(store_error(error, "/store", "writing a layer").hint)
    assert remedy in str(system_error(error).hint)

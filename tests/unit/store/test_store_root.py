"""A store is made once, and only its owner and versions that know its format open it."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from builder.digest import of_bytes
from builder.errors import StoreError
from builder.store import locks
from builder.store.gc import remove_unreferenced
from builder.store.root import FOLDERS, default_root, open_store
from tests.support.namespaces import ONE_ID, call_as_root_of, has_user_namespaces


def test_a_new_store_is_a_private_image_layout(tmp_path: Path) -> None:
    store = open_store(tmp_path / "deep" / "store")

    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert all((store.root / name).is_dir() for name in FOLDERS)
    assert json.loads((store.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.root / "index.json").read_bytes())["manifests"] == []
    version = json.loads((store.root / "VERSION").read_bytes())
    assert version == {"format": 1, "uid": os.geteuid()}
    assert os.listdir(store.root / "ingest") == []


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    open_store(tmp_path).blobs.put(b"1")
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[],"annotations":{}}')

    store = open_store(str(tmp_path))

    assert "annotations" in (tmp_path / "index.json").read_text()
    assert len(list(store.blobs.digests())) == 1


def test_many_processes_may_make_it_at_once(tmp_path: Path) -> None:
    script = "import sys; from builder.store.root import open_store; open_store(sys.argv[1]).blobs.put(b'x')"
    makers = [subprocess.Popen([sys.executable, "-c", script, tmp_path / "store"]) for _ in range(6)]

    assert [maker.wait() for maker in makers] == [0] * 6


def test_a_half_made_store_is_made_whole(tmp_path: Path) -> None:
    open_store(tmp_path)
    (tmp_path / "VERSION").unlink()
    (tmp_path / "index.json").unlink()

    open_store(tmp_path)

    assert (tmp_path / "index.json").exists()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ({"format": 2, "uid": 0}, "has format 2; this pybuild knows up to 1"),
        ({"format": 1}, "VERSION is damaged"),
        ([], "VERSION is damaged"),
        ("x" * 9999, "VERSION is damaged"),
    ],
)
def test_a_store_that_is_not_ours_is_refused(tmp_path: Path, version: object, message: str) -> None:
    open_store(tmp_path)
    (tmp_path / "VERSION").write_text(json.dumps(version))

    with pytest.raises(StoreError, match=message) as caught:
        open_store(tmp_path)

    assert caught.value.hint


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a store to another user")
def test_a_store_of_another_user_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path)
    (tmp_path / "VERSION").write_text('{"format": 1, "uid": 4000000}')
    open_store(tmp_path)  # the number may be that of a namespace: the file is ours
    os.chown(tmp_path / "VERSION", 4_000_000, 0)

    with pytest.raises(StoreError, match="belongs to uid 4000000") as caught:
        open_store(tmp_path)

    assert caught.value.hint


def test_a_user_finds_the_store_again_inside_user_namespaces(tmp_path: Path) -> None:
    """Also in one inside another, where the user outside has the number of the first one's root."""
    open_store(tmp_path / "ours")
    if not has_user_namespaces():
        pytest.skip("user namespaces are refused here")

    def inside() -> None:
        open_store(tmp_path / "ours").blobs.put(b"1")
        call_as_root_of([(0, 0, 1)], lambda: open_store(tmp_path / "ours").blobs.put(b"2"))

    call_as_root_of(ONE_ID, inside)

    blobs = open_store(tmp_path / "ours").blobs
    assert [blobs.read(of_bytes(data), 1) for data in (b"1", b"2")] == [b"1", b"2"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(StoreError, match=r"is no store of pybuild and is not empty \(it has 'thesis.txt'\)"):
        open_store(tmp_path)

    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="is no folder"):
        open_store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"is no folder|not a directory"):
        open_store(tmp_path / "file" / "below")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a read-only tmpfs")
def test_a_read_only_disk_is_told_with_a_remedy(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], check=True)
    try:
        with pytest.raises(StoreError, match="the file system is read-only") as caught:
            open_store(tmp_path / "store")
    finally:
        subprocess.run(["umount", tmp_path], check=True)

    assert "--root" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PYBUILD_ROOT": "/a/b", "XDG_DATA_HOME": "/x"}, "/a/b"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/pybuild"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/pybuild"),
        ({"HOME": "/h"}, "/h/.local/share/pybuild"),
    ],
)
def test_where_the_store_is(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert default_root(environment) == expected


def test_root_has_its_store_under_var(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert default_root({"XDG_DATA_HOME": "/x"}) == "/var/lib/pybuild"


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    root = str(tmp_path)
    with locks.exclusive(root, "index"):
        assert locks.try_exclusive(root, "index") is None
        assert locks.try_exclusive(root, "other") is not None
    again = locks.try_exclusive(root, "index")

    assert again is not None
    again.release()
    again.release()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    script = (
        "import sys, os; from builder.store import locks; l = locks.exclusive(sys.argv[1], 'x'); os._exit(9)"
    )

    assert subprocess.run([sys.executable, "-c", script, tmp_path], check=False).returncode == 9

    assert locks.try_exclusive(str(tmp_path), "x") is not None


def test_a_sweep_takes_what_is_not_live_and_nothing_while_a_build_runs(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    kept, gone = store.blobs.put(b"kept"), store.blobs.put(b"gone!")

    with locks.shared(store.folder, locks.BUILDS):
        assert remove_unreferenced(store, [kept, gone], lambda: {kept}).busy
    removed = remove_unreferenced(store, [kept, gone], lambda: {kept})

    assert (removed.digests, removed.size, removed.busy) == ((gone,), 5, False)
    assert list(store.blobs.digests()) == [kept]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_told(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: str, target: str) -> None:
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr(os, "link", link)

    with pytest.raises(StoreError, match=r"the file system of .* has no hard links") as caught:
        open_store(tmp_path / "store")

    assert "--root" in str(caught.value.hint)
    assert list((tmp_path / "store" / "ingest").iterdir()) == []

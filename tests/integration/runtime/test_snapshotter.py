"""Where overlays work and where not, found out by trying."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from builder import libc
from builder.isolation.rungs import COPY, OVERLAY
from builder.isolation.snapshotter import choose_snapshotter
from builder.store.root import open_store
from tests.support.namespaces import ONE_ID, SOME_IDS, call_as_root_of, has_user_namespaces

pytestmark = pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def mount_overlay(folder: Path, options: str = "") -> Path:
    """An overlay, as containers have for their root."""
    for name in ("l", "u", "w", "merged"):
        (folder / name).mkdir()
    layers = f"lowerdir={folder}/l,upperdir={folder}/u,workdir={folder}/w{options}"
    mount("-t", "overlay", "overlay", "-o", layers, folder / "merged")
    return folder / "merged"


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(ONE_ID, id="one id"),
        pytest.param(SOME_IDS, id="some ids", marks=[pytest.mark.root, needs_root]),
    ],
)
def test_an_ordinary_folder_takes_overlays(tmp_path: Path, rows: list[tuple[int, int, int]]) -> None:
    def check() -> None:
        assert choose_snapshotter(str(tmp_path / "not/there")) == (OVERLAY, "")
        store = open_store(tmp_path / "store")
        assert choose_snapshotter(store.folder) == (OVERLAY, "")
        assert os.listdir(tmp_path) == ["store"]
        assert os.listdir(tmp_path / "store/ingest") == []

    call_as_root_of(rows, check)


def test_a_store_on_overlayfs_needs_copies_and_says_so(tmp_path: Path) -> None:
    def check() -> None:
        merged = mount_overlay(tmp_path, ",userxattr")
        snapshotter, reason = choose_snapshotter(str(merged))
        assert snapshotter == COPY
        assert reason.startswith(f"{merged} lies on overlayfs itself: ")
        assert os.listdir(merged) == []

    call_as_root_of(ONE_ID, check)


def test_a_file_system_without_xattrs_needs_copies(tmp_path: Path) -> None:
    def check() -> None:
        mount("-t", "ramfs", "ramfs", tmp_path)
        assert choose_snapshotter(str(tmp_path))[0] == COPY

    call_as_root_of(ONE_ID, check)


def test_memory_takes_overlays(tmp_path: Path) -> None:
    def check() -> None:
        mount("-t", "tmpfs", "tmpfs", tmp_path)
        assert choose_snapshotter(str(tmp_path))[0] == OVERLAY

    call_as_root_of(ONE_ID, check)


def test_a_kernel_that_refuses_is_taken_at_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    def check() -> None:
        monkeypatch.setattr(libc, "fsopen", refuse)
        monkeypatch.setattr(libc, "mount", lambda *_: None)
        assert choose_snapshotter(str(tmp_path)) == (COPY, "Operation not permitted")

    call_as_root_of(ONE_ID, check)


@pytest.mark.root
@needs_root
def test_the_machines_root_on_overlayfs_needs_copies(tmp_path: Path) -> None:
    assert choose_snapshotter(str(tmp_path)) == (OVERLAY, "")

    def check() -> None:
        # Still the machine's root: a mount namespace alone.
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
        merged = mount_overlay(tmp_path)
        assert choose_snapshotter(str(merged))[0] == COPY

    child = os.fork()
    if child == 0:
        status = 1
        try:
            check()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.root
@needs_root
def test_a_kernel_without_overlays_needs_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(_: str) -> int:
        raise OSError(19, "No such device")

    monkeypatch.setattr(libc, "fsopen", lacks)

    assert choose_snapshotter(str(tmp_path)) == (COPY, "this kernel has no overlayfs (No such device)")

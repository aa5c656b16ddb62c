"""Folders of leaves: whose they are, when they may go, what they tell. Plain folders stand for cgroups."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.runtime import leaves
from builder.runtime.leaves import PREFIX, BuildFolders, Leaf, Usage, sweep, sweep_folder

V1 = {
    "memory.max_usage_in_bytes": "67108864\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "cpuacct.usage": "1500000000\n",
    "blkio.throttle.io_service_bytes": "8:0 Read 4096\n8:0 Write 8192\n8:16 Read 1\nTotal 12289\n",
    "pids.events": "max 3\n",
}
V2 = {
    "memory.peak": "67108864\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\n",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\n",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1\n8:16 rbytes=1 wbytes=0 rios=1\n",
    "pids.events": "max 3\n",
}
USED = Usage(memory=1 << 26, cpu=1.5, read=4097, written=8192, out_of_memory=2, forks_refused=3)


@pytest.mark.parametrize("files", [V1, V2])
def test_both_versions_tell_the_same(files: dict[str, str], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert Leaf([str(tmp_path)]).usage() == USED


def test_what_lies_in_several_hierarchies_is_put_together(tmp_path: Path) -> None:
    for name, text in V1.items():
        (tmp_path / name.split(".")[0]).mkdir(exist_ok=True)
        (tmp_path / name.split(".")[0] / name).write_text(text)

    assert Leaf([str(path) for path in tmp_path.iterdir()]).usage() == USED


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert Leaf([str(tmp_path / "gone")]).usage() == Usage()


def test_a_living_build_s_folder_is_left_alone(tmp_path: Path) -> None:
    folders = BuildFolders.make([str(tmp_path)])
    (tmp_path / folders.name / "1").mkdir()

    sweep([str(tmp_path)])

    assert (tmp_path / folders.name / "1").is_dir()
    folders.remove()
    folders.remove()
    assert os.listdir(tmp_path) == []


def test_a_dead_build_s_folder_goes_with_its_leaves(tmp_path: Path) -> None:
    """The build is a process of its own, which ends without a word."""
    program = (
        "import os, sys; from builder.runtime.leaves import BuildFolders\n"
        "folders = BuildFolders.make(sys.argv[1:])\n"
        "os.makedirs(folders.folders[0] + '/1/below'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert len(os.listdir(tmp_path)) == 1

    sweep([str(tmp_path)])

    assert os.listdir(tmp_path) == []


def test_what_is_not_a_build_s_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "pybuild.other").mkdir()
    (tmp_path / f"{PREFIX}file").write_text("")

    sweep([str(tmp_path), str(tmp_path / "none")])

    assert sweep_folder(str(tmp_path / "pybuild.other"))
    assert sorted(os.listdir(tmp_path)) == ["pybuild.other", f"{PREFIX}file"]


def test_a_maker_that_a_sweeper_meets_makes_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, met = leaves.make, []

    def make(folder: str, *, inherits: bool = False) -> None:
        original(folder, inherits=inherits)
        if not met:
            met.append(folder)
            sweep([str(tmp_path)])

    monkeypatch.setattr(leaves, "make", make)

    folders = BuildFolders.make([str(tmp_path)])

    assert os.listdir(tmp_path) == [folders.name]
    assert met != [folders.folders[0]]


def test_a_folder_that_was_replaced_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removed and made again between open and lock: the lock is one of a folder that has no name."""
    folder = tmp_path / f"{PREFIX}1"
    folder.mkdir()
    original = leaves.fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        folder.rmdir()
        folder.mkdir()
        original(descriptor, how)

    monkeypatch.setattr(leaves.fcntl, "flock", flock)

    assert not sweep_folder(str(folder))


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = leaves.make

    def make(folder: str, *, inherits: bool = False) -> None:
        if "refused" in folder:
            raise PermissionError(errno.EACCES, "refused")
        original(folder, inherits=inherits)

    monkeypatch.setattr(leaves, "make", make)
    with pytest.raises(PermissionError):
        BuildFolders.make([str(tmp_path / "good"), str(tmp_path / "refused")])

    assert os.listdir(tmp_path / "good") == []


def test_a_cgroup_whose_processes_are_ending_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tries = tmp_path / f"{PREFIX}1" / "1", []
    folder.mkdir(parents=True)
    rmdir = os.rmdir

    def busy(path: str) -> None:
        tries.append(path)
        if len(tries) < 3:
            raise OSError(errno.EBUSY, "busy")
        rmdir(path)

    monkeypatch.setattr(os, "rmdir", busy)

    Leaf([str(folder)]).remove()

    assert not folder.exists()
    assert len(tries) == 3

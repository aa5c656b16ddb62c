"""Limits as the runtime-spec has them, and the record of what a build made."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import cast

import pytest

from builder.errors import SandboxError
from builder.isolation import cgroups
from builder.isolation.cgroups import Site
from builder.isolation.stepgroups import StepGroups, resources_of, sweep_groups
from builder.request import StepLimits
from builder.runtime import spec
from builder.runtime.leaves import PREFIX, BuildFolders


def test_limits_have_the_names_of_the_runtime_spec() -> None:
    limits = StepLimits(
        memory=64, memory_swap=-1, cpu_period=1000, cpu_quota=2000, cpu_shares=3, cpuset_cpus="0",
        cpuset_mems="1", pids=4, timeout=5.0,
    )  # fmt: skip

    assert resources_of(limits) == {
        "memory": {"limit": 64, "swap": -1},
        "cpu": {"shares": 3, "quota": 2000, "period": 1000, "cpus": "0", "mems": "1"},
        "pids": {"limit": 4},
    }


def test_memory_alone_may_swap_as_much_again() -> None:
    assert resources_of(StepLimits(memory=64)) == {"memory": {"limit": 64, "swap": 128}}


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        (StepLimits(), False),
        (StepLimits(timeout=9.0), False),
        (StepLimits(pids=1), True),
        (StepLimits(cgroup_parent="/x"), True),
    ],
)
def test_a_cgroup_is_wanted_only_for_what_it_holds(limits: StepLimits, wanted: bool, tmp_path: Path) -> None:
    assert StepGroups(str(tmp_path), limits).wanted is wanted


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cgroup"
    folder.mkdir()
    site = Site(parents=(str(folder),), path="/own/")
    monkeypatch.setattr(cgroups, "find_site", lambda needed, parent: site)
    return folder


def test_each_step_has_a_leaf_of_its_own_in_its_builds_folder(parent: Path, tmp_path: Path) -> None:
    groups = StepGroups(str(tmp_path / "store"), StepLimits(pids=9))

    first, second = groups.leaf()[0], groups.leaf()[0]

    (name,) = (path.name for path in parent.iterdir())
    assert (first, second) == (f"/own/{name}/1", f"/own/{name}/2")
    groups.close()


def test_swap_that_is_asked_for_has_to_be_counted(parent: Path, tmp_path: Path) -> None:
    StepGroups(str(tmp_path), StepLimits(memory=9)).check()
    with pytest.raises(SandboxError, match="--memory-swap here: this kernel does not count swap"):
        StepGroups(str(tmp_path), StepLimits(memory=9, memory_swap=9)).check()


def test_what_a_build_made_is_written_down_until_it_is_gone(parent: Path, tmp_path: Path) -> None:
    groups = StepGroups(str(tmp_path / "store"), StepLimits(pids=9))
    groups.check()
    (made,) = parent.iterdir()

    assert (tmp_path / "store/cgroups" / made.name).read_text() == f"{made}\n"
    sweep_groups(str(tmp_path / "store"))
    assert made.exists()
    groups.close()
    assert not made.exists()
    assert not (tmp_path / "store/cgroups").exists()


def test_the_next_build_removes_what_a_dead_one_wrote_down(tmp_path: Path) -> None:
    dead, record = tmp_path / f"{PREFIX}dead", tmp_path / "store/cgroups"
    (dead / "1").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    record.mkdir(parents=True)
    (record / dead.name).write_text(f"{dead}\n{tmp_path}/{PREFIX}gone\n{tmp_path}/kept\n")

    sweep_groups(str(tmp_path / "store"))

    assert not dead.exists()
    assert not record.exists()
    assert (tmp_path / "kept").is_dir()


def test_a_spec_says_limits_beside_its_rules_for_devices() -> None:
    plain = spec.sandbox_spec(lower=(), upper="/u", work="/w", argv=["true"], env=(), cwd="/")
    limits = spec.resources_of(resources_of(StepLimits(memory=64, pids=3)))

    limited = spec.with_cgroup(plain, "/own/b/1", limits)

    document = spec.encode(limited)
    assert b'"cgroupsPath":"/own/b/1"' in document
    assert b'"memory":{"limit":64,"swap":128}' in document
    assert b'"pids":{"limit":3}' in document
    assert plain.linux.resources is not None
    assert limited.linux.resources is not None
    assert limited.linux.resources.devices == plain.linux.resources.devices
    assert b"cgroupsPath" not in spec.encode(plain)


def test_a_record_that_the_disk_refuses_is_not_left(tmp_path: Path) -> None:
    class Refused:
        name = "pybuild.steps-1"

        @property
        def folders(self) -> tuple[str, ...]:
            raise OSError(errno.EIO, "Input/output error")

    groups = StepGroups(str(tmp_path), StepLimits(pids=9))
    with pytest.raises(OSError, match="Input/output"):
        groups._remember(cast(BuildFolders, Refused()))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["makedirs", "rename"])
def test_a_build_that_sweeps_meanwhile_is_in_nobody_s_way(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before the record's file is there, and before it has its name."""
    call, swept = getattr(os, moment), []

    def sweep_beside(*args: object, **more: object) -> None:
        if moment == "makedirs":
            call(*args, **more)
        if not swept:
            swept.append(moment)
            (tmp_path / "cgroups" / "dead").touch()
            sweep_groups(str(tmp_path))
            assert not (tmp_path / "cgroups" / "dead").exists()
        if moment == "rename":
            call(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, sweep_beside)
        groups = StepGroups(str(tmp_path), StepLimits(pids=9))
        groups.check()

    (made,) = parent.iterdir()
    assert swept == [moment]
    assert [path.name for path in (tmp_path / "cgroups").iterdir()] == [made.name]
    assert (tmp_path / "cgroups" / made.name).read_text() == f"{made}\n"
    groups.close()

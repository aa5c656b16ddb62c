"""Finding cgroups of both versions, and what limits are there; the kernel's part is in integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.runtime import cgroups
from builder.runtime.cgroups import Hierarchy, in_use, join, parse, plan, settings, weight_of
from builder.runtime.failure import Failure
from tests.support.fakecgroups import FakeUnified

HYBRID = """\
22 1 8:1 / / rw - ext4 /dev/sda rw
30 22 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 none rw
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 30 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
"""
MEMBER = """\
5:pids:/
4:memory:/user/job
3:cpu,cpuacct:/
1:name=systemd:/user.slice
0::/user.slice
"""
UNIFIED = "31 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def found(mounts: str, members: str) -> list[tuple[str, str, int, set[str]]]:
    return [(h.mount, h.own, h.version, set(h.controllers)) for h in parse(mounts, members)]


def test_every_controller_of_v1_has_its_hierarchy_and_its_path() -> None:
    assert found(HYBRID, MEMBER) == [
        ("/sys/fs/cgroup/unified", "/user.slice", 2, set()),
        ("/sys/fs/cgroup/systemd", "/user.slice", 1, {"name=systemd"}),
        ("/sys/fs/cgroup/cpu,cpuacct", "", 1, {"cpu", "cpuacct"}),
        ("/sys/fs/cgroup/memory", "/user/job", 1, {"memory"}),
        ("/sys/fs/cgroup/pids", "", 1, {"pids"}),
    ]


def test_a_unified_hierarchy_is_one() -> None:
    assert found(UNIFIED, "0::/a/b.scope\n") == [("/sys/fs/cgroup", "/a/b.scope", 2, set())]


@pytest.mark.parametrize(
    ("root", "path", "own"),
    [
        ("/docker/1f", "/docker/1f", ""),  # a container under v1, which is shown its own part
        ("/docker/1f", "/docker/1f/sub", "/sub"),
        ("/docker/1f", "/docker/1foo", ""),
        ("/docker/1f", "/elsewhere", ""),
        ("/", "/../up", ""),  # a process outside of its cgroup namespace's own
    ],
)
def test_paths_count_from_what_is_mounted(root: str, path: str, own: str) -> None:
    mounts = f"34 30 0:30 {root} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert found(mounts, f"4:memory:{path}\n") == [("/sys/fs/cgroup/memory", own, 1, {"memory"})]


def test_a_mount_with_blanks_is_understood() -> None:
    assert found(r"1 2 0:3 / /mnt/a\040b rw - cgroup2 none rw" + "\n", "0::/\n")[0][0] == "/mnt/a b"


def test_v2_counts_where_it_carries_controllers() -> None:
    unified = Hierarchy("/u", "", 2, frozenset({"hugetlb"}))
    memory = Hierarchy("/m", "", 1, frozenset({"memory"}))
    assert in_use([unified, memory]) == [memory]
    unified.controllers = frozenset({"memory", "pids"})
    assert in_use([unified]) == [unified]


LIMITS = {
    "memory": {"limit": 1000, "swap": 3000},
    "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 7},
    "devices": [{"allow": False}],
}


def test_limits_are_written_as_v1_has_them() -> None:
    assert settings(LIMITS, 1) == [
        ("memory", "memory.limit_in_bytes", "1000"),
        ("memory", "memory.memsw.limit_in_bytes", "3000"),
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "7"),
    ]


def test_limits_are_written_as_v2_has_them() -> None:
    assert settings(LIMITS, 2) == [
        ("memory", "memory.max", "1000"),
        ("memory", "memory.swap.max", "2000"),
        ("cpu", "cpu.weight", "39"),
        ("cpu", "cpu.max", "50000 100000"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "7"),
    ]


def test_what_has_no_limit_says_so() -> None:
    unlimited = {"memory": {"limit": 9, "swap": -1}, "cpu": {"period": 5000}, "pids": {"limit": -1}}
    assert settings(unlimited, 2) == [
        ("memory", "memory.max", "9"),
        ("memory", "memory.swap.max", "max"),
        ("cpu", "cpu.max", "max 5000"),
        ("pids", "pids.max", "max"),
    ]
    assert settings({}, 1) == settings({"memory": None}, 2) == []


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (262144, 10000), (1, 1), (1024, 39)])
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert weight_of(shares) == weight


def test_a_leaf_is_planned_in_every_hierarchy_that_counts_or_limits() -> None:
    members = "3:cpuset:/\n4:memory:/user/job\n5:pids:/\n6:devices:/\n"
    mounts = "".join(
        f"3 1 0:1 / /c/{name} rw - cgroup cgroup rw,{name}\n"
        for name in ("cpuset", "memory", "pids", "devices")
    )
    places = plan(parse(mounts, members), "b/1", {"memory": {"limit": 5}})

    assert [(place.folder, place.settings) for place in places] == [
        ("/c/memory/user/job/b/1", [("memory.limit_in_bytes", "5")]),
        ("/c/pids/b/1", []),
    ]
    assert [place.folder for place in plan(parse(mounts, members), "/b/1", {"cpu": {"cpus": "0"}})] == [
        "/c/cpuset/b/1", "/c/memory/b/1", "/c/pids/b/1",
    ]  # fmt: skip


def test_a_limit_that_nothing_can_hold_is_no_limit_that_is_left_out() -> None:
    with pytest.raises(Failure, match="no cgroup controller pids") as caught:
        plan(parse(UNIFIED, "0::/\n"), "/b/1", {"pids": {"limit": 5}})
    assert caught.value.step == "cgroup"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeUnified:
    kernel = FakeUnified(tmp_path / "cgroup", monkeypatch)
    monkeypatch.setattr(cgroups, "read_hierarchies", lambda: [kernel.hierarchy("")])
    return kernel


def test_a_step_joins_a_leaf_that_has_its_limits_already(kernel: FakeUnified) -> None:
    kernel.add("/", given="memory pids")
    kernel.add("/build", given="memory pids")

    join({"cgroupsPath": "/build/1", "resources": {"memory": {"limit": 4096}, "pids": {"limit": 3}}})

    assert kernel.text("build/1/memory.max") == "4096"
    assert kernel.text("build/1/pids.max") == "3"
    assert kernel.text("build/1/cgroup.procs") == "0"


def test_a_step_without_a_cgroup_of_its_own_looks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "read_hierarchies", lambda: pytest.fail("looked"))

    join({"resources": {"devices": []}})


def test_a_limit_that_cannot_be_set_fails_with_its_file(kernel: FakeUnified) -> None:
    kernel.add("/", given="pids")
    kernel.add("/build", given="pids")

    with pytest.raises(Failure, match=r"cannot set memory.max of .*build/1 to 4096: No such file") as caught:
        join({"cgroupsPath": "/build/1", "resources": {"memory": {"limit": 4096}}})
    assert caught.value.step == "cgroup"
    assert kernel.text("build/1/cgroup.procs") == ""


def test_swap_that_the_kernel_does_not_count_is_no_failure(kernel: FakeUnified) -> None:
    kernel.add("/", given="memory")
    kernel.add("/build", given="memory")
    kernel.add("/build/1")
    (kernel.mount / "build/1/memory.swap.max").unlink()

    join({"cgroupsPath": "/build/1", "resources": {"memory": {"limit": 4096, "swap": 8192}}})

    assert kernel.text("build/1/memory.max") == "4096"


def test_a_leaf_for_statistics_alone_need_not_be_had(kernel: FakeUnified) -> None:
    kernel.refused.add("")

    join({"cgroupsPath": "/build/1", "resources": {}})

    assert not (kernel.mount / "build").exists()


def test_a_cpuset_of_v1_gets_what_is_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr(
        cgroups, "write", lambda folder, name, value: written.update({f"{folder}/{name}": value})
    )
    for name, text in (("cpuset.cpus", "0-3"), ("cpuset.mems", "0")):
        (tmp_path / name).write_text(text)

    cgroups.make(f"{tmp_path}/build", inherits=True)

    assert written == {f"{tmp_path}/build/cpuset.cpus": "0-3", f"{tmp_path}/build/cpuset.mems": "0"}

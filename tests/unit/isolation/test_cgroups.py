"""Where a build's cgroups may be: v2 on a kernel of plain folders, v1 as plain folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import SandboxError
from builder.isolation import cgroups, survey
from builder.isolation.cgroups import controllers_here, find_site, give_down
from builder.runtime.cgroups import Hierarchy
from tests.support.fakecgroups import FakeUnified

MEMORY = frozenset({"memory"})
BOTH = frozenset({"memory", "pids"})


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeUnified:
    return FakeUnified(tmp_path / "cgroup", monkeypatch)


def test_the_machine_s_own_cgroup_takes_children_beside_its_processes(kernel: FakeUnified) -> None:
    kernel.add("/", 1, 50)

    site = find_site(BOTH, "", [kernel.hierarchy("")])

    assert site.parents == (str(kernel.mount),)
    assert site.path == "/"
    assert {"memory", "pids"} <= set(kernel.text("cgroup.subtree_control").split())
    assert kernel.text("cgroup.procs").split() == ["1", "50"]


def test_the_processes_of_a_delegated_cgroup_move_to_a_child(kernel: FakeUnified) -> None:
    kernel.add("/", given="memory pids")
    kernel.add("/run.scope", 40, 41)
    kernel.delegated.add("/run.scope")

    site = find_site(BOTH, "", [kernel.hierarchy("/run.scope")])

    assert site.path == "/run.scope/"
    assert kernel.text("run.scope/cgroup.procs") == ""
    assert kernel.text("run.scope/pybuild.host/cgroup.procs").split() == ["40", "41"]
    assert {"memory", "pids"} <= set(kernel.text("run.scope/cgroup.subtree_control").split())


def test_who_has_moved_before_finds_the_same_place_again(kernel: FakeUnified) -> None:
    kernel.add("/", given="memory pids")
    kernel.add("/run.scope", 40)
    kernel.delegated.add("/run.scope")
    find_site(BOTH, "", [kernel.hierarchy("/run.scope")])

    site = find_site(BOTH, "", [kernel.hierarchy("/run.scope/pybuild.host")])

    assert site.path == "/run.scope/"


def test_what_a_container_sees_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeUnified(tmp_path / "cgroup", monkeypatch, machine=False)
    kernel.add("/", 1, 7)

    site = find_site(MEMORY, "", [kernel.hierarchy("")])

    assert site.path == "/"
    assert kernel.text("pybuild.host/cgroup.procs").split() == ["1", "7"]


def test_beside_a_shell_the_cgroup_above_is_taken_that_gives_its_children_controllers(
    kernel: FakeUnified,
) -> None:
    kernel.add("/", given="memory pids")
    kernel.add("/app.slice", given="memory pids")
    kernel.add("/app.slice/shell.scope", 40)
    kernel.refused.add("")

    site = find_site(BOTH, "", [kernel.hierarchy("/app.slice/shell.scope")])

    assert site.path == "/app.slice/"
    assert kernel.text("app.slice/shell.scope/cgroup.procs") == "40"


def test_a_user_without_a_cgroup_is_told_the_command_for_one(kernel: FakeUnified) -> None:
    kernel.add("/", given="memory")
    kernel.add("/session.scope", 40)
    kernel.refused |= {"", "/session.scope"}

    with pytest.raises(SandboxError) as caught:
        find_site(MEMORY, "", [kernel.hierarchy("/session.scope")])

    assert caught.value.message.startswith("RUN steps cannot have --memory here: ")
    assert "session.scope: permission denied" in caught.value.message
    assert "systemd-run --user --scope -p Delegate=yes" in (caught.value.hint or "")


def test_a_controller_that_was_not_handed_down_is_named(kernel: FakeUnified) -> None:
    kernel.add("/", given="pids")
    kernel.add("/run.scope", 40)
    kernel.delegated.add("/run.scope")
    kernel.refused.add("")

    with pytest.raises(
        SandboxError, match=r"--memory here: .*run\.scope was not given the cgroup controller memory"
    ):
        find_site(MEMORY, "", [kernel.hierarchy("/run.scope")])
    assert kernel.text("run.scope/cgroup.procs") == "40"


def test_a_parent_that_is_asked_for_is_made_and_gets_the_controllers(kernel: FakeUnified) -> None:
    kernel.add("/", 1)
    kernel.add("/own", 40)

    site = find_site(MEMORY, "/ci/job", [kernel.hierarchy("/own")])

    assert site.path == "/ci/job/"
    assert "memory" in kernel.text("ci/job/cgroup.subtree_control").split()
    assert kernel.text("own/cgroup.procs") == "40"


def test_a_relative_parent_lies_where_else_the_build_would_be(kernel: FakeUnified) -> None:
    kernel.add("/", given="memory")
    kernel.add("/run.scope", 40)
    kernel.delegated.add("/run.scope")

    assert find_site(MEMORY, "job", [kernel.hierarchy("/run.scope")]).path == "/run.scope/job/"


def test_a_build_s_folder_gives_its_leaves_what_they_need(kernel: FakeUnified) -> None:
    kernel.add("/", given="memory pids cpu io")
    kernel.add("/build")

    give_down(str(kernel.mount / "build"), MEMORY)

    assert "memory" in kernel.text("build/cgroup.subtree_control").split()


def test_a_machine_without_a_controller_says_so(kernel: FakeUnified) -> None:
    hierarchy = kernel.hierarchy("")
    hierarchy.controllers = frozenset({"cpu"})

    with pytest.raises(SandboxError, match="no cgroup controller memory and pids"):
        find_site(BOTH, "", [hierarchy])


def test_a_machine_without_cgroups_says_so() -> None:
    with pytest.raises(SandboxError, match="--cgroup-parent here: no cgroups are mounted"):
        find_site(frozenset(), "x", [])


def test_under_v1_it_is_below_the_process_s_own_cgroup_in_each(tmp_path: Path) -> None:
    for path in ("memory/own", "pids", "cpuset"):
        (tmp_path / path).mkdir(parents=True)
    found = [
        Hierarchy(str(tmp_path / "memory"), "/own", 1, frozenset({"memory"})),
        Hierarchy(str(tmp_path / "pids"), "", 1, frozenset({"pids"})),
        Hierarchy(str(tmp_path / "cpuset"), "", 1, frozenset({"cpuset"})),
    ]

    site = find_site(MEMORY, "", found)

    assert site.parents == (str(tmp_path / "memory/own"), str(tmp_path / "pids"))
    assert (site.path, site.inherits) == ("", ())
    assert find_site(frozenset({"cpuset"}), "", found).inherits == (str(tmp_path / "cpuset"),)


def test_under_v1_only_what_a_limit_needs_has_to_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, pids = tmp_path / "memory", tmp_path / "pids"
    for path in (memory, pids):
        path.mkdir()
    found = [Hierarchy(str(path), "", 1, frozenset({path.name})) for path in (memory, pids)]
    monkeypatch.setattr(cgroups.os, "access", lambda path, mode: path == str(memory))

    assert find_site(MEMORY, "", found).parents == (str(memory),)
    with pytest.raises(SandboxError, match=r"--pids-limit here: .*pids: permission denied") as caught:
        find_site(frozenset({"pids"}), "", found)
    assert "--cgroup-parent" in (caught.value.hint or "")


def test_the_doctor_is_told_what_can_be_held(kernel: FakeUnified, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.add("/", given="memory pids")
    kernel.add("/run.scope", 40)
    monkeypatch.setattr(cgroups, "read_hierarchies", lambda: [kernel.hierarchy("/run.scope")])
    kernel.delegated.add("/run.scope")

    assert controllers_here() == (2, ("memory", "pids"))
    kernel.refused |= {"", "/run.scope"}
    assert controllers_here() == (2, ())
    monkeypatch.setattr(cgroups, "read_hierarchies", list)
    assert controllers_here() == (0, ())
    assert kernel.text("run.scope/cgroup.procs") == "40"


@pytest.mark.parametrize(
    ("held", "works", "detail", "remedy"),
    [
        (
            (2, ("memory", "cpu", "pids", "cpuset")),
            True,
            "v2, for --memory, --cpus, --pids-limit, --cpuset-cpus",
            "",
        ),
        ((2, ("memory", "pids")), True, "not for --cpus, --cpuset-cpus", "Delegate=yes"),
        ((1, ()), False, "none can be made here (v1): --memory, --cpus", "--cgroup-parent"),
        ((0, ()), False, "none are mounted", "mount -t cgroup2"),
    ],
)
def test_the_doctor_tells_which_flags_can_be_had(
    held: tuple[int, tuple[str, ...]], works: bool, detail: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "controllers_here", lambda: held)

    finding = survey._find_cgroups()

    assert finding.works is works
    assert detail in finding.detail
    assert remedy in finding.remedy
    assert bool(remedy) == bool(finding.remedy)

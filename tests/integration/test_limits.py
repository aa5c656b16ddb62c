"""What `RUN` steps may use, on this machine's own cgroups: what is told, what holds, and what is left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.isolation.cgroups import controllers_here, find_site, give_down
from builder.runtime import cgroups
from builder.runtime.cgroups import Hierarchy, read_hierarchies
from builder.runtime.leaves import BuildFolders, sweep
from tests.support.contexts import events_of, lay, said, steps_run
from tests.support.machine import Pybuild, needs, needs_root, run
from tests.support.namespaces import has_user_namespaces
from tests.support.rootless import UID, Rootless
from tests.support.workshop import Workshop, stop

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

HELD = controllers_here()[1] if os.geteuid() == 0 else ()
MIB = 1 << 20
HUNGRY = "tail /dev/zero"


def holds(*controllers: str) -> pytest.MarkDecorator:
    missing = [name for name in controllers if name not in HELD]
    return pytest.mark.skipif(bool(missing), reason=f"no cgroups can be made for {', '.join(missing)} here")


def folders_of(root: Path) -> list[Path]:
    """What the build that uses this store has made, by its record."""
    with contextlib.suppress(FileNotFoundError):
        return [
            Path(line) for record in (root / "cgroups").iterdir() for line in record.read_text().splitlines()
        ]
    return []


def leaves_of(workshop: Workshop) -> list[Path]:
    return [leaf for folder in folders_of(workshop.root) for leaf in folder.glob("[0-9]*") if leaf.is_dir()]


@pytest.fixture
def running(workshop: Workshop) -> tuple[Workshop, subprocess.Popen[str]]:
    """A limited step that sleeps, in its leaf of each hierarchy: it joins one after the other."""
    workshop.dockerfile("FROM busybox\nRUN sleep 1000 & sleep 1001\n")
    flags = ["-m", "64m", "--pids-limit=20", "--cpus=0.5"]
    process = workshop.start(*flags, workshop.context)
    workshop.wait_until(
        lambda: (
            (leaves := leaves_of(workshop))
            and len(leaves) == len(folders_of(workshop.root))
            and all((leaf / "cgroup.procs").read_text() for leaf in leaves)
        )
    )
    return workshop, process


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────


@holds("memory")
def test_a_step_that_wants_more_memory_than_it_may_have_is_told_so(workshop: Workshop) -> None:
    outcome = workshop.fail("-m", "32m", "--memory-swap=32m", dockerfile=f"FROM busybox\nRUN {HUNGRY}\n")

    assert re.search(
        r"did not complete successfully: exit code: 137: killed for lack of memory: "
        r"32 MiB allowed, peak (3[0-2](\.\d)?) MiB$",
        outcome.message,
    )
    assert outcome.marked == f"RUN {HUNGRY}"
    assert folders_of(workshop.root) == []


@holds("memory")
def test_a_child_that_was_killed_is_told_where_the_step_goes_on(pybuild: Pybuild, context: Path) -> None:
    lay(context, f"FROM busybox\nRUN {HUNGRY} || echo survived\n")

    done = pybuild("build", "--progress=rawjson", "-m", "32m", "--memory-swap=32m", context)

    (warning,) = (event for event in events_of(done.stderr) if event["event"] == "warned")
    assert (
        "went well all the same: 1 process was killed for lack of memory: 32 MiB allowed"
        in warning["message"]
    )
    assert warning["line"] == 2


@holds("memory")
def test_insecure_steps_are_limited_too(workshop: Workshop) -> None:
    outcome = workshop.fail(
        "-m", "32m", "--memory-swap=32m", "--allow=security.insecure",
        dockerfile=f"FROM busybox\nRUN --security=insecure {HUNGRY}\n",
    )  # fmt: skip

    assert "killed for lack of memory: 32 MiB allowed" in outcome.message


@holds("memory")
@pytest.mark.parametrize("runtime", [pytest.param(name, marks=needs(name)) for name in ("runc", "crun")])
def test_another_runtime_s_steps_are_limited_too(workshop: Workshop, runtime: str) -> None:
    flags = ["-m", "48m", "--memory-swap=48m", "--runtime", runtime]
    outcome = workshop.fail(*flags, dockerfile=f"FROM busybox\nRUN {HUNGRY}\n")

    assert "killed for lack of memory: 48 MiB allowed" in outcome.message
    assert folders_of(workshop.root) == []


# ── processes, processors ────────────────────────────────────────────────────────────────────────────────


@holds("pids")
def test_a_step_that_may_start_no_more_processes_is_told_so(workshop: Workshop) -> None:
    many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done; wait"
    outcome = workshop.fail("--pids-limit=5", dockerfile=f"FROM busybox\nRUN {many}\n")

    assert re.search(
        r"no new process could be started, \w+( times)?: 5 allowed \(--pids-limit\)$", outcome.message
    )


@holds("memory", "pids", "cpu")
def test_limits_are_in_the_step_s_own_cgroup(running: tuple[Workshop, subprocess.Popen[str]]) -> None:
    workshop, process = running
    names = ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")

    texts = {
        name: (leaf / name).read_text().strip()
        for leaf in leaves_of(workshop)
        for name in names
        if (leaf / name).exists()
    }

    assert texts == {
        "memory.limit_in_bytes": str(64 * MIB), "pids.max": "20", "cpu.cfs_quota_us": "50000",
    } or texts == {"memory.max": str(64 * MIB), "pids.max": "20", "cpu.max": "50000 100000"}  # fmt: skip
    stop(process, signal.SIGINT, 60)
    assert folders_of(workshop.root) == []


@holds("cpu")
def test_a_quota_slows_a_step_down(pybuild: Pybuild, context: Path) -> None:
    """Half a second of work at a tenth of a processor: the wall clock has at least to show half of that."""
    lay(context, "FROM busybox\nRUN timeout 2 sh -c 'while :; do :; done'; true\n")

    done = pybuild("build", "--progress=rawjson", "--cpus=0.1", context)

    used = next(e for e in reversed(events_of(done.stderr)) if e["event"] == "finished" and e["cpu_seconds"])
    assert used["cpu_seconds"] < 1


@holds("cpuset")
def test_a_step_has_the_processors_that_it_is_given(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN grep Cpus_allowed_list /proc/self/status\n")

    assert said(pybuild, context, "--cpuset-cpus=0", "--cpuset-mems=0") == ["Cpus_allowed_list:\t0"]


@holds("memory")
def test_a_step_sees_its_own_cgroup_as_the_root_of_all(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN cut -d: -f3 /proc/self/cgroup | sort -u; ls /sys/fs/cgroup | wc -l\n")

    assert said(pybuild, context, "-m", "64m")[0] == "/"


@holds("memory")
def test_steps_lie_below_the_parent_that_was_asked_for(workshop: Workshop) -> None:
    name = f"pybuild-test-{os.getpid()}"
    parents = [Path(h.folder(f"/{name}/below")) for h in read_hierarchies()]
    workshop.dockerfile("FROM busybox\nRUN sleep 1000\n")
    try:
        process = workshop.start(f"--cgroup-parent=/{name}/below", workshop.context)
        workshop.wait_until(lambda: leaves_of(workshop))
        assert {leaf.parent.parent for leaf in leaves_of(workshop)} <= set(parents)
        stop(process, signal.SIGINT, 60)
        assert [
            child for parent in parents if parent.exists() for child in parent.iterdir() if child.is_dir()
        ] == []
    finally:
        for parent in parents:
            for folder in (parent, parent.parent):
                with contextlib.suppress(OSError):
                    folder.rmdir()


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_whose_time_is_up_is_stopped_with_all_that_it_started(workshop: Workshop) -> None:
    step = "trap '' TERM INT; echo started; setsid sleep 1000 & sleep 1001"
    begun = time.monotonic()

    outcome = workshop.fail("--step-timeout=3s", dockerfile=f"FROM busybox\nRUN {step}\n")

    assert outcome.message.endswith("was stopped after 3s (--step-timeout)")
    assert "| started" in outcome.err
    assert time.monotonic() - begun < 60
    assert workshop.processes() == []


def test_each_step_has_the_whole_time(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN sleep 2.5\nRUN sleep 2.5; echo done\n")

    assert said(pybuild, context, "--step-timeout=4.8s") == ["done"]


# ── what is told, and what is left ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("flags", [[], pytest.param(["-m", "256m"], marks=holds("memory"))])
def test_what_a_step_used_is_in_its_last_event(flags: list[str], pybuild: Pybuild, context: Path) -> None:
    lay(
        context,
        "FROM busybox\nRUN dd if=/dev/zero of=/f bs=1M count=24 conv=fsync; head -c 50m /f | md5sum\n",
    )

    done = pybuild("build", "--progress=rawjson", *flags, context)

    last = [event for event in events_of(done.stderr) if event["event"] == "finished"]
    (used,) = (event for event in last if event["cpu_seconds"])
    assert 0 < used["cpu_seconds"] < 60
    assert MIB < used["peak_memory"] <= 256 * MIB
    assert used["bytes_written"] >= 24 * MIB
    assert all(event["peak_memory"] == 0 for event in last if event is not used)


@holds("memory", "pids", "cpu")
def test_no_limit_is_in_a_key(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo one > /one\n")
    assert steps_run(pybuild, context) != []

    limits = [
        "-m",
        "64m",
        "--cpus=0.5",
        "--pids-limit=9",
        "--step-timeout=9s",
        "--cgroup-parent=x",
        "-o",
        "out",
    ]
    assert steps_run(pybuild, context, *limits, cwd=context.parent) == []


@holds("memory", "pids", "cpu")
def test_what_a_killed_build_leaves_goes_with_the_next_one(
    running: tuple[Workshop, subprocess.Popen[str]],
) -> None:
    """The next one has no limits itself."""
    workshop, process = running
    left = folders_of(workshop.root)
    process.kill()
    process.wait()
    assert left
    assert all(folder.is_dir() for folder in left)

    workshop.check_usable()

    assert not [folder for folder in left if folder.exists()]
    assert folders_of(workshop.root) == []


@holds("memory")
def test_a_living_build_keeps_what_is_its_own(running: tuple[Workshop, subprocess.Popen[str]]) -> None:
    workshop, process = running
    (workshop.folder / "other").write_text("FROM busybox\nRUN echo other\n")

    other = workshop.run("-m", "64m", "-f", workshop.folder / "other", workshop.context)

    assert other.status == 0
    assert process.poll() is None
    assert all((leaf / "cgroup.procs").read_text() for leaf in leaves_of(workshop))
    stop(process, signal.SIGINT, 60)


@pytest.fixture
def rootless() -> Iterator[Rootless]:
    if not has_user_namespaces():
        pytest.skip("user namespaces are refused here")
    user = Rootless()
    lay(user.context, f"FROM base\nRUN {HUNGRY}\n")
    yield user
    user.close()


def test_a_user_who_may_make_no_cgroups_is_told_what_to_do(rootless: Rootless) -> None:
    lay(rootless.context, "FROM scratch\nRUN true\n")
    doctor = rootless.run("doctor")
    if re.search(r"yes +cgroups", doctor.stdout):
        pytest.skip("cgroups belong to every user here")

    done = rootless.build("single-uid", "-m", "64m", "--pids-limit=9", check=False)

    assert done.returncode == 1
    assert "error: RUN steps cannot have --memory and --pids-limit here: " in done.stderr
    assert re.search("^hint: run pybuild as root", done.stderr, re.MULTILINE)
    assert re.search(r"no +cgroups +none can be made here", doctor.stdout)


@holds("memory")
@pytest.mark.parametrize("rung", ["userns", "single-uid"])
def test_a_user_to_whom_cgroups_are_given_has_limits(
    rootless: Rootless, rung: str, busybox_layout: Path
) -> None:
    name = f"pybuild-test-{os.getpid()}"
    given = [Path(hierarchy.folder(f"/{name}")) for hierarchy in read_hierarchies()]
    run(["cp", "-a", busybox_layout, rootless.folder / "base"])
    flags = ["--build-context", f"base=oci-layout://{rootless.folder}/base:1", f"--cgroup-parent=/{name}"]
    try:
        for folder in given:
            folder.mkdir()
            run(["chown", "-R", str(UID), folder])
        if read_hierarchies()[0].version == 2:
            pytest.skip("v2 moves no process into a cgroup from outside of what was delegated")
        done = rootless.build(rung, *flags, "-m", "32m", "--memory-swap=32m", check=False)
    finally:
        for folder in given:
            folder.rmdir()

    assert "exit code: 137: killed for lack of memory: 32 MiB allowed, peak 3" in done.stderr


# ── the kernel's own v2 ──────────────────────────────────────────────────────────────────────────────────


def unified() -> str:
    """Where a hierarchy of v2 is mounted, whatever controllers it has; "" where none is."""
    lines = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return next((left.split(" ")[4] for left, right in lines if right.startswith("cgroup2 ")), "")


@pytest.mark.skipif(not os.access(unified() or "/none", os.W_OK), reason="no v2 to write to is mounted")
def test_v2_kills_what_a_dead_build_left_running() -> None:
    folders = BuildFolders.make([unified()])
    leaf = Path(folders.folders[0], "1", "below")
    leaf.mkdir(parents=True)
    child = subprocess.Popen(["sleep", "1000"])
    (leaf / "cgroup.procs").write_text(str(child.pid))
    sweep([unified()])
    assert child.poll() is None, "it is held"

    for lock in folders._locks:
        os.close(lock)
    folders._locks.clear()
    sweep([unified()])

    assert child.wait(60) == -signal.SIGKILL
    assert not os.path.exists(folders.folders[0])


@pytest.fixture
def controller() -> Iterator[str]:
    """One that v2's root gives to its children, for as long as the test lasts."""
    if not os.access(unified() or "/none", os.W_OK):
        pytest.skip("no v2 to write to is mounted")
    top = Path(unified(), "cgroup.subtree_control")
    given, there = (path.read_text().split() for path in (top, top.with_name("cgroup.controllers")))
    if not there:
        pytest.skip("v2 has no controllers here")
    if given:
        yield given[0]
        return
    top.write_text(f"+{there[0]}")
    yield there[0]
    with contextlib.suppress(OSError):
        top.write_text(f"-{there[0]}")


def test_v2_gives_a_step_its_leaf_in_a_delegated_cgroup_whose_processes_move(
    controller: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With whatever controller there is: the kernel lets no cgroup have both processes and such children."""
    name = f"/pybuild-test-{os.getpid()}"
    own = Path(f"{unified()}{name}")
    hierarchy = Hierarchy(unified(), name, 2, given := frozenset([controller]))
    own.mkdir()
    child = subprocess.Popen(["sleep", "1000"])
    try:
        (own / "cgroup.procs").write_text(str(child.pid))
        os.setxattr(own, "user.delegate", b"1")

        site = find_site(given, "", [hierarchy])
        folders = BuildFolders.make(site.parents)
        give_down(folders.folders[0], given)
        joined = _join_in_child(f"{site.path}{folders.name}/1", hierarchy, monkeypatch)

        assert (own / "pybuild.host/cgroup.procs").read_text().split() == [str(child.pid)]
        assert joined == f"0::{name}/{folders.name}/1"
        assert given <= {*(Path(folders.folders[0]) / "1/cgroup.controllers").read_text().split()}
        folders.remove()
        assert sorted(path.name for path in own.iterdir() if path.is_dir()) == ["pybuild.host"]
    finally:
        child.kill()
        child.wait()
        for folder in (own / "pybuild.host", own):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _join_in_child(path: str, hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a process of its own is in after `cgroups.join`: its line of /proc/self/cgroup."""
    monkeypatch.setattr(cgroups, "read_hierarchies", lambda: [hierarchy])
    monkeypatch.setitem(cgroups.STATISTICS, 2, tuple(hierarchy.controllers))
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            cgroups.join({"cgroupsPath": path, "resources": {}})
            os.write(theirs, Path("/proc/self/cgroup").read_bytes())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(pid, 0)
    with open(ours, encoding="ascii") as told:
        return next(line for line in told.read().splitlines() if line.startswith("0::"))

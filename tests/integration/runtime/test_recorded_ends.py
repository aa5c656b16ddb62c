"""How steps with a supervisor end, whoever ends first."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.recorded import Steps, write_accounts
from tests.support.namespaces import has_user_namespaces
from tests.support.processes import comm, command_line, descendants, is_alive
from tests.support.singleid import OUTER_PROC, SingleId

pytestmark = pytest.mark.skipif(not has_user_namespaces(), reason="no user namespace can be made here")


@pytest.fixture
def single() -> Iterator[SingleId]:
    program = SingleId()
    yield program
    program.close()


@pytest.fixture
def steps(single: SingleId, base: Path, tmp_path: Path) -> Steps:
    root = tmp_path / "root"
    root.mkdir()
    write_accounts(root)
    return Steps(single, (base, root), tmp_path)


def supervisors(single: SingleId) -> list[int]:
    """The supervisors of steps below the program, and the dead that it has not looked at."""
    return [pid for pid in descendants(single.process.pid, dead=True) if comm(pid) == "pybuild-owners"]


def started_supervisor(single: SingleId) -> int:
    for _ in range(3000):
        if found := supervisors(single):
            return found[0]
        time.sleep(0.01)
    raise AssertionError(f"none: {[command_line(pid) for pid in descendants(single.process.pid)]}")


LOOP = "while :; do touch /tmp/f; chown 5 /tmp/f; stat /tmp/f > /dev/null; done"


def test_a_step_ends_with_its_supervisor_and_is_told_to_have(steps: Steps) -> None:
    steps.single.send(spec=steps.spec(LOOP))
    os.kill(started_supervisor(steps.single), signal.SIGKILL)
    told = steps.single.receive()
    assert told["error"] == (
        "the process that records the owners of a step's files has ended (killed by signal 9)"
    )
    assert supervisors(steps.single) == []
    assert steps.says("touch /f; chown 5 /f; stat -c %u /f") == ["5"]


def test_a_supervisor_ends_with_its_step(steps: Steps) -> None:
    busy = "sh -c 'while :; do stat /tmp > /dev/null; done'"
    steps.single.send(spec=steps.spec(f"{busy} & {busy} & sleep 0.1; kill -9 $!; exit 3"))
    assert steps.single.receive()["code"] == 3
    assert supervisors(steps.single) == []


def test_all_ends_with_the_builder(steps: Steps) -> None:
    steps.single.send(spec=steps.spec(LOOP))
    supervisor = started_supervisor(steps.single)
    family = descendants(steps.single.process.pid)
    pidfd = os.pidfd_open(supervisor)
    steps.single.process.kill()
    steps.single.process.wait()
    for _ in range(3000):
        if has_ended(pidfd) and not any(is_alive(pid) for pid in family):
            break
        time.sleep(0.01)
    assert has_ended(pidfd)
    assert not [pid for pid in family if is_alive(pid)]
    os.close(pidfd)


def has_ended(pidfd: int) -> bool:
    """Whether the process is gone, or waits to be reaped."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def test_two_steps_have_a_supervisor_each(base: Path, tmp_path: Path) -> None:
    pair = SingleId(), SingleId()
    try:
        for number, single in enumerate(pair):
            root = tmp_path / f"root{number}"
            root.mkdir()
            write_accounts(root)
            steps = Steps(single, (base, root), tmp_path / f"root{number}")
            single.send(spec=steps.spec(f"touch /f; chown {number + 5} /f; sleep 0.1; stat -c %u /f"))
        assert [single.receive()["out"] for single in pair] == [["5"], ["6"]]
    finally:
        for single in pair:
            single.close()


@pytest.fixture
def in_outer_proc(base: Path, tmp_path: Path) -> Iterator[Steps]:
    root = tmp_path / "root"
    root.mkdir()
    write_accounts(root)
    single = SingleId(OUTER_PROC)
    yield Steps(single, (base, root), tmp_path)
    single.close()


def test_in_an_outer_proc_nobody_reaches_the_builders_files(in_outer_proc: Steps, tmp_path: Path) -> None:
    """The supervisor may look into the builder's /proc/PID, and a step asks it to."""
    (tmp_path / "canary").touch()
    builder = in_outer_proc.single.process.pid
    command = f"""
    test -d /proc/{builder} && echo seen; ln -s /proc/self/root {tmp_path.name}
    other=/proc/{builder}
    for root in $other/root $other/cwd/../../../../../.. /proc/self/root$other/root; do
        chown 5 $root{tmp_path}/canary; stat $root{tmp_path}/canary; mkdir $root{tmp_path}/made
        su app -c "touch $root{tmp_path}/new; mkdir $root{tmp_path}/made; ln -s x $root{tmp_path}/link"
        ln -s $root{tmp_path} /l; chown 5 /l/canary; su app -c 'mkdir /l/made; touch /l/new'; rm /l
    done
    """
    told = in_outer_proc.run(command)
    assert told["out"] == ["seen"], told
    assert {path.name for path in tmp_path.iterdir()} == {"canary", "root", "upper1", "work1"}
    assert os.stat(tmp_path / "canary").st_uid == os.geteuid()
    assert not os.listxattr(tmp_path / "canary")


def test_a_process_is_found_in_another_proc_by_its_numbers_there() -> None:
    script = "import os; from builder.runtime.ownership import procfs; os.chdir('/proc'); "
    script += "print(procfs._search(os.getpid()) == procfs.foreign_number(os.getpid()) == os.getpid())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"

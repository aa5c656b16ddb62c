"""Stopping a build: it ends soon, says so by its exit status, and leaves nothing behind."""

from __future__ import annotations

import glob
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.machine import needs_root
from tests.support.slowregistry import slow_registry
from tests.support.workshop import DEFAULT_SIGNALS, Outcome, Workshop, find_process, finish, stop

pytestmark = [pytest.mark.root, needs_root()]

SOON = 30.0  # seconds: one is usual and five the promise, but this machine may be busy
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
Process = subprocess.Popen[str]


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_running_step_is_stopped(workshop: Workshop, number: signal.Signals, status: int) -> None:
    workshop.dockerfile(
        "FROM busybox AS one\nRUN trap '' INT TERM HUP; (sleep 4712.5 & sleep 4712.5); true\n"
        "FROM busybox\nRUN --mount=type=cache,target=/c sleep 4712.5\nCOPY --from=one / /one\n"
    )
    process = workshop.start("-t", "never:1", workshop.context)
    workshop.wait_until(lambda: find_process("sleep 4712.5"))

    outcome = stop(process, number, SOON)

    assert outcome.status == status
    assert outcome.message == "interrupted"
    assert "never:1" not in workshop.names()
    workshop.check_clean()
    workshop.check_usable()


def test_a_copy_of_many_files_is_stopped(workshop: Workshop) -> None:
    make_many(workshop, 3_000)  # a disk that is told of each one's end needs seconds for more
    workshop.dockerfile("FROM busybox\nCOPY many /many\nRUN sleep 4716.5\n")
    process = workshop.start(workshop.context)
    workshop.wait_until(lambda: glob.glob(f"{workshop.root}/ingest/*/layer/*/many/*"))

    outcome = stop(process, signal.SIGINT, SOON)

    assert outcome.status == 130
    workshop.check_clean()
    workshop.check_usable()


def test_reading_a_large_context_is_stopped(workshop: Workshop) -> None:
    make_many(workshop, 12_000)
    workshop.dockerfile("FROM scratch\nCOPY many /many\n")
    process = workshop.start(workshop.context)
    workshop.wait_until(lambda: "load build context" in read_some(process))

    outcome = stop(process, signal.SIGTERM, SOON)

    assert outcome.status in (143, 0)  # it may just have been done
    workshop.check_clean()
    workshop.check_usable()


def make_many(workshop: Workshop, count: int) -> None:
    for number in range(count):
        if number % 500 == 0:
            (workshop.context / f"many/{number // 500}").mkdir(parents=True)
        (workshop.context / f"many/{number // 500}/{number}").write_bytes(b"%d\n" % number)


def read_some(process: Process) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.parametrize(("number", "status"), SIGNALS[:2])
def test_a_pull_is_stopped(
    empty_workshop: Workshop, busybox_layout: Path, number: signal.Signals, status: int
) -> None:
    workshop = empty_workshop
    manifest = json.loads((busybox_layout / "index.json").read_bytes())["manifests"][0]["digest"]
    with slow_registry(busybox_layout, manifest) as slow:
        workshop.dockerfile(f"FROM {slow.host}/base:1\nRUN true\n")
        process = workshop.start(workshop.context)
        assert slow.trickling.wait(60)

        outcome = stop(process, number, SOON)

    assert outcome.status == status
    workshop.check_clean()
    workshop.build("--build-context", f"{slow.host}/base:1=oci-layout://{busybox_layout}")


def test_an_export_is_stopped_and_nothing_of_it_stays(workshop: Workshop) -> None:
    target = workshop.folder / "out"
    target.mkdir()
    workshop.dockerfile("FROM busybox\nRUN head -c 100000000 /dev/urandom > /big\n")
    workshop.build()

    for kind in ("oci", "docker", "tar", "local"):
        outcome = stop_export(workshop, kind, target)

        assert outcome.status == 130
        assert list(target.iterdir()) == []
        workshop.check_clean()
    workshop.check_usable()


def stop_export(workshop: Workshop, kind: str, target: Path) -> Outcome:
    """Stop one that writes `target`/it. Where it is whole before it is told, another one is begun."""
    for _ in range(20):
        process = workshop.start("-o", f"type={kind},dest={target}/it", workshop.context)
        workshop.wait_until(lambda: list(target.iterdir()))
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        outcome = stop(process, signal.SIGCONT, SOON)
        if not (target / "it").exists():
            return outcome
        assert os.listdir(target) == ["it"]
        subprocess.run(["rm", "-r", target / "it"], check=True)
    raise AssertionError(f"no export of type={kind} was met at work")


def test_a_compression_that_takes_minutes_is_stopped(workshop: Workshop) -> None:
    workshop.dockerfile("FROM busybox\nRUN head -c 60000000 /dev/urandom | base64 -w 0 > /big\n")
    workshop.build()
    output = f"type=oci,dest={workshop.folder}/it,compression=zstd,compression-level=22"
    process = workshop.start("-o", output, workshop.context)
    workshop.wait_until(lambda: any(name.startswith("blob-") for name in workshop.ingest()))

    outcome = stop(process, signal.SIGINT, SOON)

    assert outcome.status == 130
    assert outcome.message == "interrupted"  # it has put things away itself, and was not cut off
    workshop.check_clean()
    workshop.check_usable()


def test_a_second_signal_ends_it_at_once(workshop: Workshop) -> None:
    workshop.dockerfile("FROM busybox\nRUN sleep 4713.5\n")
    process = workshop.start(workshop.context)
    workshop.wait_until(lambda: find_process("sleep 4713.5"))

    process.send_signal(signal.SIGINT)
    outcome = stop(process, signal.SIGINT, SOON)

    assert outcome.status == 130
    assert workshop.processes() == []
    assert workshop.mounts() == []
    workshop.check_usable()


def test_ctrl_c_on_a_terminal_reaches_the_build_and_its_steps_end(workshop: Workshop) -> None:
    workshop.dockerfile("FROM busybox\nRUN sleep 4714.5\n")
    with on_terminal(workshop) as (process, leader):
        workshop.wait_until(lambda: find_process("sleep 4714.5"))

        os.write(leader, b"\x03")
        shown = drain(leader)

    assert process.wait(SOON) == 130
    assert shown.rstrip().endswith(b"interrupted")
    assert b"Traceback" not in shown
    workshop.check_clean()
    workshop.check_usable()


def test_a_closed_terminal_ends_the_build(workshop: Workshop) -> None:
    workshop.dockerfile("FROM busybox\nRUN sleep 4715.5\n")
    with on_terminal(workshop) as (process, _):
        workshop.wait_until(lambda: find_process("sleep 4715.5"))

    assert process.wait(SOON) == 129
    workshop.check_clean()
    workshop.check_usable()


@contextmanager
def on_terminal(workshop: Workshop) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A build in a session of its own on a terminal, which is closed at the end of the block."""
    leader, follower = pty.openpty()
    command = [*DEFAULT_SIGNALS, "setsid", "--ctty", *workshop.command(workshop.context)]
    command[command.index("--progress=plain")] = "--progress=tty"
    environment = {**workshop.environment(), "TERM": "xterm"}
    with open(follower, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    try:
        yield process, leader
    finally:
        os.close(leader)


def drain(leader: int) -> bytes:
    shown = b""
    while True:
        try:
            shown += os.read(leader, 65536)
        except OSError:  # EIO: nobody has the other end open any more
            return shown


def test_a_reader_of_the_progress_that_goes_away_does_not_end_the_build(workshop: Workshop) -> None:
    """By default Python holds text back that it could not write, and minds at its end."""
    workshop.dockerfile("FROM busybox\nRUN for i in $(seq 200); do echo $i; done; echo made > /it\n")
    words = ("-t", "made:1", "--iidfile", workshop.folder / "id", workshop.context)
    process = workshop.start(*words, env={"PYTHONUNBUFFERED": ""})
    assert process.stderr is not None
    process.stderr.readline()

    process.stderr.close()

    assert process.wait(60) == 0
    assert process.stdout is not None
    process.stdout.close()
    assert workshop.names()["made:1"] == (workshop.folder / "id").read_text()
    workshop.check_clean()


def test_an_archive_for_a_pipe_that_goes_away_fails(workshop: Workshop) -> None:
    workshop.dockerfile("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\n")
    process = workshop.start("-o", "type=oci,dest=-", workshop.context, stdout=subprocess.PIPE)
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 1)

    process.stdout.close()
    process.stdout = None
    outcome = finish(process)

    assert outcome.status != 0
    assert outcome.message == "writing standard output failed: broken pipe"
    workshop.check_clean()
    workshop.check_usable()


def test_waiting_for_another_process_is_stopped(workshop: Workshop) -> None:
    workshop.dockerfile("FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked sleep 4717.5\n")
    (workshop.folder / "other").write_text(
        "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked echo other\n"
    )
    before = said(workshop, "started")
    first = workshop.start(workshop.context)
    workshop.wait_until(lambda: find_process("sleep 4717.5"))
    same = workshop.start(workshop.context)
    other = workshop.start("-f", workshop.folder / "other", workshop.context)
    workshop.wait_until(lambda: said(workshop, "waiting") == 1 and said(workshop, "started") == before + 2)

    assert stop(same, signal.SIGINT, SOON).status == 130
    assert stop(other, signal.SIGTERM, SOON).status == 143
    assert find_process("sleep 4717.5")
    assert stop(first, signal.SIGINT, SOON).status == 130
    workshop.check_clean()


def said(workshop: Workshop, tag: str) -> int:
    """How many builds have said so, by their records."""
    records = workshop.root.glob("builds/*/events.jsonl")
    return sum(f'"{tag}"' in path.read_text() for path in records)

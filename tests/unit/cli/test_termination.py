"""Signals before a build is under way: in a process of its own each."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import cli
from tests.support.alarms import wait_for_alarm, wait_for_sleep

HELD = """
import os, signal, sys
sys.path.insert(0, {checkout!r})
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from builder.commands.termination import hold_signals
held = hold_signals()
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), {number})
from builder.commands.drive import drive
from builder.errors import Interrupted

class Reader:
    interval = 0

async def work():
    print("begun")

try:
    drive(work(), Reader(), held)
except Interrupted as error:
    print(held, error.exit_code)
"""

IN_A_CALLBACK = """
import os, sys, time, weakref
sys.path.insert(0, {checkout!r})
from builder import cli

class Thing:
    pass

def callback(_reference):
    os.kill(os.getpid(), {number})
    time.sleep(0.001)  # here it is raised

def run(words, environ):
    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    time.sleep(300)
    return 0

cli._run = run
cli.unwind_on_signals()
cli.script()
"""

WHILE_LOADING = """
import os, sys, time
sys.path.insert(0, {checkout!r})
from builder import cli

def run(words, environ):
    sys.path.insert(0, {folder!r})
    import extension
    time.sleep(300)
    return 0

cli._run = run
cli.unwind_on_signals()
cli.script()
"""
EXTENSION = "import os, time; os.kill(os.getpid(), {number}); time.sleep(0.05); print('loaded')"

OBEYING = """
import os, signal, sys, time
sys.path.insert(0, {checkout!r})
from builder import cli, stop
from builder.commands import termination
from builder.commands.termination import stop_on_signals

termination.HEED_SECONDS = termination.GRACE_SECONDS = 300

def interrupt():
    os.kill(os.getpid(), {number})
    print("told", flush=True)

def hasten():
    left, again = signal.getitimer(signal.ITIMER_REAL)
    if left:
        signal.setitimer(signal.ITIMER_REAL, 0.01, again)

def heeds():
    interrupt()
    while True:
        stop.check()

def waits():
    interrupt()
    hasten()
    time.sleep(300)

def is_told_twice():
    interrupt()
    os.kill(os.getpid(), {number})

def tidies(work):
    try:
        work()
    finally:
        hasten()
        time.sleep(0.5)
        print("tidied", flush=True)

def heeds_and_tidies():
    tidies(heeds)

def is_told_twice_and_tidies():
    tidies(is_told_twice)

def is_told_while_it_tidies():
    try:
        heeds()
    finally:
        os.kill(os.getpid(), {number})
        print("lives on", flush=True)

def finds_nothing():
    interrupt()

def is_done():
    interrupt()
    return "done"

def run(words, environ):
    print(stop_on_signals({work}))
    stop.check()
    return 0

cli._run = run
cli.script()
"""

BEHIND_ALL_WORK = """
import os, sys
sys.path.insert(0, {checkout!r})
from builder import cli

def run(words, environ):
    print("done")
    return 0

cli._run = run
cli._settle_progress = lambda: os.kill(os.getpid(), {number})
cli.unwind_on_signals()
cli.script()
"""

BEFORE_IT_IS_TOLD = """
import os, sys
sys.path.insert(0, {checkout!r})
from builder import cli

def run(words, environ):
    os.kill(os.getpid(), {number})

def interrupt(number):
    cli.leave_soon = leave_soon
    os.kill(os.getpid(), {number})

cli._run = run
leave_soon, cli.leave_soon = cli.leave_soon, interrupt
cli.unwind_on_signals()
cli.script()
"""

UNHEARD = """
import os, signal, sys, time
sys.path.insert(0, {checkout!r})
from builder import cli
from builder.commands import termination

real = signal.setitimer

def set_alarm(which, seconds, again=0.0):
    real(which, again if seconds else 0, again)  # as if the first were not heard

def run(words, environ):
    error = KeyboardInterrupt()
    try:
        termination._raise_soon(error)
        time.sleep(300)
    except KeyboardInterrupt as raised:
        print(raised is error, signal.getitimer(signal.ITIMER_REAL))
    return 0

cli._run = run
signal.setitimer = set_alarm
cli.script()
"""

INTERRUPTED = """
import os, sys, time
sys.path.insert(0, {checkout!r})
from builder import cli
from builder.commands import termination

def run(words, environ):
    print("ready", flush=True)
    {work}
    return 0

cli._run = run
termination.GRACE_SECONDS = {grace}
cli.unwind_on_signals()
cli.script()
"""


def interrupted(stderr: int, *, grace: float = 300.0, work: str = "time.sleep(300)") -> subprocess.Popen[str]:
    """A command that does what can be ended anywhere; it has begun, and waits."""
    script = INTERRUPTED.format(checkout=str(Path(cli.__file__).parents[1]), grace=grace, work=work)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=stderr, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_for_sleep(process.pid)
    return process


def ended(script: str, **fields: object) -> subprocess.CompletedProcess[str]:
    """A process that has done one of these scripts, with its fields filled in."""
    text = script.format(checkout=str(Path(cli.__file__).parents[1]), **fields)
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """A pipe that takes nothing more, and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1 << 12))
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("number", "status"), [(1, 129), (2, 130), (15, 143)])
def test_whatever_signal_ends_a_command_one_line_says_so(number: int, status: int) -> None:
    with interrupted(subprocess.PIPE) as process:
        process.send_signal(number)

        assert process.communicate(timeout=60)[1] == "error: interrupted\n"
        assert process.returncode == status


@pytest.mark.parametrize(("number", "status"), [(1, 129), (2, 130), (15, 143)])
@pytest.mark.parametrize("work", ["time.sleep(300)", "raise cli.BuildError('it failed')"])
def test_a_command_ends_though_nobody_reads_what_it_tells(
    full_pipe: int, work: str, number: int, status: int
) -> None:
    with interrupted(full_pipe, grace=0.1, work=work) as process:
        process.send_signal(number)

        assert process.wait(timeout=60) == status


def test_a_second_signal_ends_who_waits_to_tell_of_the_first(full_pipe: int) -> None:
    with interrupted(full_pipe) as process:
        process.send_signal(2)
        wait_for_alarm(process.pid)  # two that are there at the same time are one

        process.send_signal(2)

        assert process.wait(timeout=60) == 130


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143)])
def test_a_signal_that_comes_while_modules_load_ends_the_build_before_it_begins(
    number: int, status: int
) -> None:
    done = ended(HELD, number=number)

    assert (done.stdout, done.stderr) == (f"[{number}] {status}\n", "")


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143)])
def test_a_signal_that_comes_where_nothing_can_be_raised_is_not_lost(number: int, status: int) -> None:
    done = ended(IN_A_CALLBACK, number=number)

    assert done.returncode == status
    assert "ignored" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "status"), [(1, 129), (2, 130), (15, 143)])
def test_a_module_that_is_loaded_is_loaded_whole_before_a_signal_ends_a_command(
    tmp_path: Path, number: int, status: int
) -> None:
    (tmp_path / "extension.py").write_text(EXTENSION.format(number=number))
    done = ended(WHILE_LOADING, folder=str(tmp_path))

    assert (done.returncode, done.stdout, done.stderr) == (status, "loaded\n", "error: interrupted\n")


def test_an_alarm_that_is_not_heard_comes_again_until_it_is() -> None:
    done = ended(UNHEARD)

    assert (done.returncode, done.stdout, done.stderr) == (0, "True (0.0, 0.0)\n", "")


@pytest.mark.parametrize(("number", "status", "said"), [(2, 130, "error: interrupted\n"), (15, 143, "")])
def test_a_signal_when_all_is_done_is_no_defect(number: int, status: int, said: str) -> None:
    done = ended(BEHIND_ALL_WORK, number=number)

    assert (done.returncode, done.stdout, done.stderr) == (status, "done\n", said)


@pytest.mark.parametrize(("number", "status", "said"), [(2, 130, "error: interrupted\n"), (15, 143, "")])
def test_a_second_signal_before_the_first_is_told_of_is_no_defect(
    number: int, status: int, said: str
) -> None:
    done = ended(BEFORE_IT_IS_TOLD, number=number)

    assert (done.returncode, done.stdout, done.stderr) == (status, "", said)


@pytest.mark.parametrize("work", ["heeds", "waits", "is_told_twice", "finds_nothing"])
@pytest.mark.parametrize(("number", "status"), [(1, 129), (2, 130), (15, 143)])
def test_a_signal_tells_work_to_stop_and_unwinds_what_does_not(work: str, number: int, status: int) -> None:
    done = ended(OBEYING, work=work, number=number)

    assert (done.returncode, done.stdout, done.stderr) == (status, "told\n", "error: interrupted\n")


@pytest.mark.parametrize("work", ["heeds_and_tidies", "is_told_twice_and_tidies"])
def test_what_is_put_away_takes_its_time(work: str) -> None:
    done = ended(OBEYING, work=work, number=15)

    assert (done.returncode, done.stdout, done.stderr) == (143, "told\ntidied\n", "error: interrupted\n")


def test_a_second_signal_ends_what_is_put_away() -> None:
    done = ended(OBEYING, work="is_told_while_it_tidies", number=2)

    assert (done.returncode, done.stdout) == (130, "told\n")


def test_what_is_done_before_it_stops_is_done() -> None:
    done = ended(OBEYING, work="is_done", number=2)

    assert (done.returncode, done.stdout, done.stderr) == (0, "told\ndone\n", "")

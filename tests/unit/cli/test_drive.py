"""Signals that end a build: each test drives a coroutine in a process of its own."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from builder import cli
from tests.support.alarms import wait_for_alarm, wait_for_sleep

SCRIPT = """
import asyncio, os, sys, time
sys.path.insert(0, {checkout!r})
from builder import cli
from builder.commands import build, drive
from builder.errors import BuildError

class Reader:
    interval = {interval}
    ticks = 0
    def emit(self, event): pass
    def tick(self, now): Reader.ticks += 1
    def close(self): print("closed", flush=True)

async def work():
{body}

def run(parsed, environ):
    reader = Reader()
    try:
        print("result", drive.drive(work(), reader), reader.ticks > 0)
        return 0
    finally:
        reader.close()

drive.GRACE_SECONDS = {grace}
drive.AT_ONCE_SECONDS = {at_once}
build.COMMAND = build.COMMAND.but(run=run)
{before}
sys.exit(cli.main(["."]))
"""
POLITE = """
try:
    print("ready", flush=True)
    await asyncio.sleep(300)
finally:
    print("cleaned", flush=True)
"""
STUBBORN = """
while True:
    try:
        print("ready", flush=True)
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        print("no", flush=True)
"""
HELD_UP = """
_reader, writer = os.pipe()
print("ready", flush=True)
while True:
    os.write(writer, bytes(4096))
"""
TWICE_AT_ONCE = """
real = drive.signal.setitimer
def set_alarm(which, seconds, again):
    if seconds == drive.GRACE_SECONDS:
        os.kill(os.getpid(), 2)
    real(which, seconds, again)
drive.signal.setitimer = set_alarm
"""
UNHEARD = """
import _thread, threading
# As if it came just before the loop waits.
threading.Timer(0.1, _thread.interrupt_main, [15]).start()
await asyncio.sleep(300)
"""
FAILING = """
try:
    print("ready", flush=True)
    await asyncio.sleep(300)
except asyncio.CancelledError:
    raise BuildError("the step was killed")
"""


def start(
    body: str,
    *,
    ignore_hangup: bool = False,
    grace: float = 300.0,
    at_once: float = 300.0,
    before: str = "",
    interval: float = 0.01,
) -> subprocess.Popen[str]:
    """`before`: what is run when all is loaded."""
    script = SCRIPT.format(
        checkout=str(Path(cli.__file__).parents[1]),
        body=textwrap.indent(body.strip(), "    "),
        grace=grace,
        at_once=at_once,
        interval=interval,
        before=before,
    )
    if ignore_hangup:
        script = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + script
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == word + "\n"


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_result_comes_back_while_the_reader_gets_its_ticks() -> None:
    body = "while not Reader.ticks:\n    await asyncio.sleep(0.01)\nreturn 7"

    assert finish(start(body)) == (0, "result 7 True\nclosed\n", "")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_cancels_the_build_which_cleans_up(number: signal.Signals, status: int) -> None:
    process = start(POLITE)
    wait_for(process, "ready")

    process.send_signal(number)

    assert finish(process) == (status, "cleaned\nclosed\n", "error: interrupted\n")


def test_where_no_more_files_can_be_opened_one_line_says_so() -> None:
    """Not the event loop, which would complain about itself, and about work that it was never given."""
    begun = start("return 7", before="import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))")

    status, out, err = finish(begun)

    assert (status, out) == (1, "closed\n")
    told, hint = err.splitlines()
    assert told == "error: too many open files"
    assert hint.startswith("hint: raise the limit of open files")


def test_what_steps_say_when_they_are_cancelled_is_not_the_outcome() -> None:
    process = start(FAILING)
    wait_for(process, "ready")

    process.send_signal(signal.SIGINT)

    assert finish(process) == (130, "closed\n", "error: interrupted\n")


def test_a_second_signal_ends_the_process_at_once() -> None:
    process = start(STUBBORN)
    wait_for(process, "ready")
    process.send_signal(signal.SIGINT)
    wait_for(process, "no")

    process.send_signal(signal.SIGINT)

    status, out, _ = finish(process)
    assert status == 130
    assert out.endswith("closed\n")


def test_a_build_that_cannot_stop_is_ended_all_the_same() -> None:
    process = start(STUBBORN, grace=0.1)
    wait_for(process, "ready")

    process.send_signal(signal.SIGTERM)

    assert finish(process)[0] == 143


def test_a_build_that_tells_somebody_who_does_not_read_is_ended() -> None:
    """Not only by SIGKILL, though the event loop itself is what waits."""
    process = start(HELD_UP, grace=0.1)
    wait_for(process, "ready")
    wait_for_sleep(process.pid)

    process.send_signal(signal.SIGTERM)

    assert finish(process)[0] == 143


def test_a_second_signal_ends_what_waits_for_a_reader_at_once() -> None:
    process = start(HELD_UP, at_once=0.1)
    wait_for(process, "ready")
    wait_for_sleep(process.pid)
    process.send_signal(signal.SIGINT)
    wait_for_alarm(process.pid)  # two that are there at the same time are one

    process.send_signal(signal.SIGINT)

    assert finish(process)[0] == 130


def test_a_second_signal_while_the_first_is_taken_is_one() -> None:
    process = start(HELD_UP, at_once=0.1, before=TWICE_AT_ONCE)
    wait_for(process, "ready")
    wait_for_sleep(process.pid)

    process.send_signal(signal.SIGINT)

    assert finish(process)[0] == 130


@pytest.mark.parametrize("interval", [0, 300])
def test_a_signal_just_before_the_loop_waits_is_heard_soon(interval: float) -> None:
    assert finish(start(UNHEARD, interval=interval)) == (143, "closed\n", "error: interrupted\n")


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    process = start('print("ready", flush=True)\nawait asyncio.sleep(0.3)\nreturn 1', ignore_hangup=True)
    wait_for(process, "ready")

    process.send_signal(signal.SIGHUP)

    assert finish(process)[0] == 0


def test_a_defect_is_told_in_one_line() -> None:
    status, out, err = finish(start('raise KeyError("x")'))

    assert (status, out) == (1, "closed\n")
    assert err == (
        "error: pybuild itself went wrong: KeyError: 'x'\n"
        "hint: this is a defect of pybuild; --debug shows where it is\n"
    )

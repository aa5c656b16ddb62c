"""Signals before a build is under way: in a process of its own each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from builder import cli

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
    time.sleep(30)
    return 0

cli._run = run
cli.unwind_on_sigterm()
cli.script()
"""


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143)])
def test_a_signal_that_comes_while_modules_load_ends_the_build_before_it_begins(
    number: int, status: int
) -> None:
    script = HELD.format(checkout=str(Path(cli.__file__).parents[1]), number=number)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == (f"[{number}] {status}\n", "")


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143)])
def test_a_signal_that_comes_where_nothing_can_be_raised_is_not_lost(number: int, status: int) -> None:
    script = IN_A_CALLBACK.format(checkout=str(Path(cli.__file__).parents[1]), number=number)

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )

    assert done.returncode == status
    assert "ignored" not in done.stderr
    assert "Traceback" not in done.stderr

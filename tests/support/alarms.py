"""How far a process is that is sent signals: Python may hear one that comes between its last look for signals
and a system call that waits no sooner than that call is over, and two that it has not heard yet are one.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.support.processes import status

SECONDS = 60.0


def wait_for_sleep(pid: int) -> None:
    """Until the process waits in a system call, which a signal interrupts."""
    _wait(lambda: status(pid).get("State", "").startswith("S"), f"process {pid} does not wait for anything")


def wait_for_alarm(pid: int) -> None:
    """Until the process has set an alarm, as it does where it hears a signal, and waits again."""
    _wait(lambda: _handles(pid, signal.SIGALRM), f"process {pid} has set no alarm")
    wait_for_sleep(pid)


def _wait(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


def _handles(pid: int, number: int) -> bool:
    return bool(int(status(pid).get("SigCgt", "0"), 16) >> (number - 1) & 1)

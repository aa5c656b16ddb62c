"""The command, again and again: each time in a process of its own that tells how much memory it took.

`python watched.py SECONDS` loads what the command loads, reads requests from standard input, a line of JSON
each, and forks for each: so a run costs no start. SECONDS is what every clock that bounds a wait is set to, 0
to leave them. A request is {"words": [...], "folder": ...}; standard input is the folder's file `in`, its
output goes to `out` and `err`, and the peak of its resident set (VmHWM of proc(5)), in bytes, to `peak`. The
answer is its exit status, or less than 0 where it had to be killed.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

CEILING = 120  # seconds that a run may take
LOADED = (
    "builder.cli",
    "builder.build",
    "builder.worker",
    "builder.commands.build",
    "builder.commands.images",
    "builder.commands.fsck",
    "builder.commands.transfers",
    "builder.images.downloads",
    "builder.images.uploads",
    "builder.oci.connections",
    "builder.oci.registry",
    "builder.oci.push",
    "builder.ui.diagnostics",
)
# Every constant by which somebody waits for a registry, in the modules that read it.
CLOCKS = (
    ("builder.oci.clients", "READ_SECONDS"),
    ("builder.oci.clients", "CONNECT_SECONDS"),
    ("builder.oci.transport", "CONNECT_SECONDS"),
    ("builder.oci.transport", "READ_SECONDS"),
    ("builder.oci.registry", "SMALL_SECONDS"),
    ("builder.oci.registry", "CURIOSITY_SECONDS"),
    ("builder.oci.access", "SMALL_SECONDS"),
    ("builder.oci.taglist", "SMALL_SECONDS"),
    ("builder.oci.answers", "SAID_SECONDS"),
    ("builder.oci.patience", "HEAD_SECONDS"),
    ("builder.oci.patience", "SLOW_SECONDS"),
    ("builder.oci.patience", "PATIENCE"),
)
PAUSE = ("builder.oci.answers", "FIRST_PAUSE", 0.01)


def hurry(seconds: float) -> None:
    for module, name, value in [*((*clock, seconds) for clock in CLOCKS), PAUSE]:
        loaded = importlib.import_module(module)
        if not hasattr(loaded, name):
            raise SystemExit(f"{module} has no clock {name} any more")
        setattr(loaded, name, value)


def tell(report: Path) -> None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            report.write_text(str(int(line.split()[1]) << 10))


def become(words: list[str], folder: Path) -> NoReturn:
    """Be the command, in a process that was forked for it."""
    for number, name, flags in (
        (0, "in", os.O_RDONLY),
        (1, "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, "err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(folder / name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the other was read from
    Path("/proc/self/clear_refs").write_text("5")  # the peak of what it was forked from
    atexit.register(tell, folder / "peak")
    sys.argv = ["pybuild", *words]
    from builder.cli import script

    script()


def run(words: list[str], folder: Path) -> int:
    """The exit status of a run, minus a signal's number where it did not end by itself."""
    child = os.fork()
    if child == 0:
        become(words, folder)
    end = time.monotonic() + CEILING
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def serve(seconds: float) -> None:
    for name in LOADED:
        importlib.import_module(name)
    if seconds:
        hurry(seconds)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        print(run(request["words"], Path(request["folder"])), flush=True)


if __name__ == "__main__":
    serve(float(sys.argv[1]))

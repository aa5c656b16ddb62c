"""The zygote where there are no namespaces: every step has a minder, which leaves no process of it behind.

The one idea: a minder is the subreaper (prctl(2)) of all that its step starts, so orphans become its
children; when the step's first process has ended, or a kill is asked for, it kills its descendants until it
has no child any more, and only then ends as that process did. It ends so, too, when the builder does.

The step is forked from the minder and becomes its command as in every sandbox (`init`). Its protocol is the
zygote's.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import socket

from builder import libc
from builder.runtime import zygote
from builder.runtime.chroot.root import Furnished
from builder.runtime.failure import Failure, because
from builder.runtime.rootfs import ROOTFS_ANNOTATION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SIGNALS = {signal.SIGTERM, signal.SIGCHLD}


def main() -> NoReturn:
    """Serve until the builder is gone."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.set_name("pybuild-chroot")
    libc.close_range(zygote.CONTROL + 1)
    os.setsid()
    os.chdir("/")
    with socket.socket(fileno=zygote.CONTROL) as control:
        server = _Server(control)
        gc.freeze()
        server.serve()
        server.end()
    os._exit(0)


class _Server(zygote.Server):
    def end(self) -> None:
        """Kill all steps, and wait for their minders."""
        for _, pid in self.steps.values():
            os.kill(pid, signal.SIGTERM)
        for _, pid in self.steps.values():
            os.waitpid(pid, 0)

    def _fork_step(self, descriptors: list[int], channel: int) -> int:
        server = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # a kill may come before the minder waits for it
        try:
            pid = os.fork()
            if pid == 0:
                self._mind(server, descriptors)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return pid

    def _kill(self, number: int) -> None:
        for step, pid in self.steps.values():
            if step == number:
                os.kill(pid, signal.SIGTERM)

    def _mind(self, server: int, descriptors: list[int]) -> NoReturn:
        """The minder's life."""
        status = 125
        try:
            libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGTERM)
            libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if os.getppid() == server:
                status = self._run(descriptors)
        except Failure as failure:
            os.write(descriptors[3], failure.encode())
        except OSError as error:
            os.write(descriptors[3], because("namespace", "cannot start the step", error).encode())
        finally:
            _end_as(status)

    def _run(self, descriptors: list[int]) -> int:
        """The raw status of the step's first process."""
        own = os.open(f"/proc/self/fd/{descriptors[0]}", os.O_RDONLY)  # the step reads the same file
        document, _ = zygote.read_payload(own)
        os.close(own)
        spec = json.loads(document)
        described = json.loads(spec["annotations"][ROOTFS_ANNOTATION])
        furnished = Furnished(described["upper"], described["work"])
        try:
            furnished.furnish(spec["mounts"])
            step = os.fork()
            if step == 0:
                self._become_step(descriptors, -1)
            return _wait(step)
        finally:
            _kill_descendants()
            furnished.clear()


def _wait(step: int) -> int:
    """The raw status of the step's end, however it comes about. Orphans are reaped on the way."""
    while True:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:
            os.kill(step, signal.SIGKILL)
            return os.waitpid(step, 0)[1]
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == step:
                    return status
                if pid == 0:
                    break


def _kill_descendants() -> None:
    """Until there is none. Who forks meanwhile is found the next time."""
    while True:
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _descendants() -> set[int]:
    """All processes below this one, by /proc (proc(5))."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue  # it has ended
    found, new = set[int](), {os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _end_as(status: int) -> NoReturn:
    """End as a process did whose raw status this is."""
    code = os.waitstatus_to_exitcode(status) if status != 125 else 125
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = -code
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), number)
    os._exit(code if code >= 0 else 125)

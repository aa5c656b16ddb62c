"""Processes that unpack the layers of base images while those come, as many as there are processors.

A worker is a fresh interpreter and not a fork of the builder: it can be started beside threads, and shares no
memory with it (no environment, no credentials). It starts with the first layer that is worth it and ends with
the builder; one whose work is not wanted any more is killed, so when `unpack` is over nobody writes below its
folder. What it is told, and tells, is in `worker`.

Must never know: where blobs come from, what becomes of the layers.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

from builder import plainjson, stop
from builder.snapshots.worker import CONTROL, END, LONGEST
from builder.store.growing import PAUSE, CutShort
from builder.value import Value

if TYPE_CHECKING:
    from builder.store.growing import Growing

MOST = 4  # processes
WORTH = 2 << 20  # bytes of a blob: a smaller one is unpacked by the time that a process has started

_START = "import sys; sys.path[:] = {!r}; from builder.snapshots.worker import main; main()"
_FLAGS = ("-I", "-S", "-X", "utf8")


class Unpacked(Value):
    """What became of a blob. size: the room that its folder takes; settled: whether all its entries are."""

    diff_id: str
    size: int
    settled: bool


class Workers:
    """The workers of one builder. Calls are for threads; `close` is for when none is left in a call."""

    def __init__(self) -> None:
        self._most = min(MOST, len(os.sched_getaffinity(0)))
        self._change = threading.Condition()
        self._idle: list[_Worker] = []
        self._free = self._most

    def are_worth(self, size: int) -> bool:
        """Whether a blob of so many bytes is unpacked sooner by them: not by one beside nobody else."""
        return size >= WORTH and self._most > 1

    def unpack(self, growing: Growing, job: dict[str, object], claim: int) -> Unpacked:
        """Have a blob unpacked to job["tree"] and its index written into job["folder"], while `claim` (a
        descriptor) is held.

        Raises CutShort where it does not come to a good end, OSError where there can be no worker, Stopped.
        """
        worker = self._take()
        try:
            answer = worker.unpack(growing, job, claim)
        except BaseException:
            worker.kill()
            raise
        else:
            with self._change:
                self._idle.append(worker)
        finally:
            with self._change:
                self._free += 1
                self._change.notify()
        if answer is None:
            raise CutShort("a layer could not be unpacked")
        return answer

    def close(self) -> None:
        """End them."""
        with self._change:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()

    def _take(self) -> _Worker:
        """One that does nothing, when there is one; so many at a time, and no more."""
        with self._change:
            while not self._free:
                self._change.wait(PAUSE)
                stop.check()
            self._free -= 1
            if self._idle:
                return self._idle.pop()
        try:
            return _Worker()
        except OSError:
            with self._change:
                self._free += 1
                self._change.notify()
            raise


class _Worker:
    """One process, and our end of the socketpair to it. Raises OSError where it cannot be started."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._pid = _spawn(theirs.fileno())
            except OSError:
                self._channel.close()
                raise
        self._channel.settimeout(PAUSE)

    def unpack(self, growing: Growing, job: dict[str, object], claim: int) -> Unpacked | None:
        """See Workers.unpack; None where it did not go well. Raises CutShort, Stopped, OSError."""
        descriptors = [growing.fileno(), claim]
        try:
            socket.send_fds(self._channel, [plainjson.dumps(job).encode("ascii")], descriptors)
            at = 0
            while (size := growing.wait_beyond(at)) is not None:
                at = size
                self._tell(b"%d" % size)
            self._tell(END)
            return self._answer()
        except (ConnectionError, ValueError) as error:
            raise CutShort("the process that unpacks a layer is gone") from error

    def _tell(self, message: bytes) -> None:
        while True:
            stop.check()
            try:
                self._channel.send(message)
            except TimeoutError:
                continue  # it has much to do
            return

    def _answer(self) -> Unpacked | None:
        while True:
            stop.check()
            try:
                answer = plainjson.loads(self._channel.recv(LONGEST))
            except TimeoutError:
                continue
            return Unpacked(**answer) if answer else None

    def kill(self) -> None:
        """End it, and wait until it has."""
        self._channel.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _spawn(control: int) -> int:
    """The pid of a new worker, in a process group of its own: what is typed at the terminal is not for it."""
    actions = [
        (os.POSIX_SPAWN_DUP2, control, CONTROL),
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]
    program = "/proc/self/exe"
    argv = [os.readlink(program), *_FLAGS, "-c", _START.format([os.path.abspath(path) for path in sys.path])]
    # the dynamic loader's paths are all that a Python may need of the environment to start at all
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return os.posix_spawn(
        program, argv, environment, file_actions=actions, setpgroup=0, setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD),
    )  # fmt: skip

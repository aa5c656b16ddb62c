"""The zygote: a small process from which steps are forked, so that a RUN pays no interpreter start.

It is started once a build (`spawn`), is process 1 of a PID namespace of its own, and serves one
socketpair (SOCK_SEQPACKET, one JSON object a message) until its other end closes:

    -> {"run": ID}     with the descriptors payload, stdout, stderr, errors; and result (see below)
    <- {"id": ID, "pid": PID}     or {"id": ID, "failed": TEXT, "errno": ERRNO}, and nothing more
    -> {"kill": ID}
    <- {"id": ID, "status": RAW, "maxrss": KIB, "cpu": SECONDS, "read": BLOCKS, "written": BLOCKS}
                               and "supervisor": RAW with a result; a block has 512 bytes

A payload (a memfd: it is on no disk) is one line of JSON, {"spec": LENGTH, "files": [[NAME, LENGTH], ...]},
then those bytes one after another. PID is the host's; RAW is as waitpid(2) has it. A fifth descriptor
asks for a supervisor of owners (`ownership`), a process beside the step, which writes its result there.

Invariant: no step outlives it. Each step is process 1 of a PID namespace inside the zygote's, so the
kernel kills all of them when the zygote ends, however it ends; and it ends when the builder does, by
end-of-file or by PR_SET_PDEATHSIG. It knows no builder, and opens no file but the payload.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import select
import signal
import socket

from builder import libc
from builder.runtime import init, profile, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CONTROL = 3  # the descriptor of our end of the socketpair
_DESCRIPTORS = 5


def main() -> NoReturn:
    """Serve until the builder is gone; the caller has made this process 1 of a PID namespace."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.set_name("pybuild-zygote")
    libc.close_range(CONTROL + 1)
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 ignores it then
    with socket.socket(fileno=CONTROL) as control:
        zygote = Server(control)
        gc.freeze()
        zygote.serve()
    os._exit(0)


class Server:
    """What serves the socketpair; `_fork_step` and `_kill` are all that knows of namespaces."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.steps: dict[int, tuple[int, int]] = {}  # pidfd -> (id, pid)
        self.supervisors: dict[int, tuple[int, int]] = {}  # the same
        self.ends: dict[int, dict[str, Any]] = {}  # id -> what is told when step and supervisor have ended
        self.programs: dict[bytes, bytes] = {}
        section = profile.default_section(profile.CAPABILITIES, platform.machine())
        if section is not None:
            self.programs[init.filter_key(section)] = seccomp.assemble(section)

    def serve(self) -> None:
        """Until end-of-file."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor != self.control.fileno():
                    self._reap(descriptor)
                elif not self._receive():
                    return

    def _receive(self) -> bool:
        message, ancillary, _, _ = self.control.recvmsg(
            4096, socket.CMSG_SPACE(_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            return False
        descriptors = [
            int.from_bytes(data[start : start + 4], "little")
            for level, kind, data in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for start in range(0, len(data) - len(data) % 4, 4)
        ]
        request = json.loads(message)
        try:
            if "run" in request:
                self._start(request["run"], descriptors)
            else:
                self._kill(request["kill"])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, number: int, descriptors: list[int]) -> None:
        channel, supervisor = -1, -1
        try:
            if len(descriptors) == _DESCRIPTORS:
                channel, supervisor = self._start_supervisor(*descriptors)
            pid = self._fork_step(descriptors, channel)
        except OSError as error:
            if supervisor >= 0:
                self._abandon(supervisor)
            self._tell({"id": number, "failed": error.strerror, "errno": error.errno})
            return
        finally:
            if channel >= 0:
                os.close(channel)
        self.ends[number] = {"id": number}
        if supervisor >= 0:
            self._watch(self.supervisors, supervisor, number)
        self._tell({"id": number, "pid": _host_pid(self._watch(self.steps, pid, number))})

    def _fork_step(self, descriptors: list[int], channel: int) -> int:
        """The pid of a new process that becomes the step, as process 1 of a PID namespace."""
        libc.unshare(libc.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_step(descriptors, channel)
        finally:
            libc.setns(self.namespace, libc.CLONE_NEWPID)
        return pid

    def _watch(self, processes: dict[int, tuple[int, int]], pid: int, number: int) -> int:
        pidfd = os.pidfd_open(pid)
        processes[pidfd] = number, pid
        self.poll.register(pidfd, select.POLLIN)
        return pidfd

    def _start_supervisor(
        self, payload: int, _stdout: int, stderr: int, _errors: int, result: int
    ) -> tuple[int, int]:
        """(the step's end of the socketpair, pid)."""
        from builder.runtime.ownership import supervisor  # kept from the first step that asks for it

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            try:
                pid = os.fork()
            except OSError:
                theirs.close()
                raise
            if pid == 0:
                try:
                    theirs.close()
                    # a description of its own: the step reads the same file
                    own = os.open(f"/proc/self/fd/{payload}", os.O_RDONLY)
                    document, files = read_payload(own)
                    supervisor.run(ours, json.loads(document), files, stderr, result)
                finally:
                    os._exit(125)
        return theirs.detach(), pid

    def _abandon(self, supervisor: int) -> None:
        os.kill(supervisor, signal.SIGKILL)
        os.waitpid(supervisor, 0)

    def _become_step(self, descriptors: list[int], channel: int) -> NoReturn:
        payload, stdout, stderr, errors = descriptors[:4]
        try:
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            init.run(lambda: read_payload(payload), errors, programs=self.programs, supervisor=channel)
        finally:
            os._exit(125)

    def _kill(self, number: int) -> None:
        for step, pid in (*self.steps.values(), *self.supervisors.values()):
            if step == number:
                os.kill(pid, signal.SIGKILL)

    def _reap(self, pidfd: int) -> None:
        self.poll.unregister(pidfd)
        os.close(pidfd)
        if pidfd in self.supervisors:
            number, pid = self.supervisors.pop(pidfd)
            _, status = os.waitpid(pid, 0)
            self.ends[number]["supervisor"] = status
            self._kill(number)  # a step cannot go on without; after its end there is none
        else:
            number, pid = self.steps.pop(pidfd)
            _, status, usage = os.wait4(pid, 0)
            cpu = usage.ru_utime + usage.ru_stime
            self.ends[number] |= {
                "status": status, "maxrss": usage.ru_maxrss, "cpu": cpu,
                "read": usage.ru_inblock, "written": usage.ru_oublock,
            }  # fmt: skip
        if not any(step == number for step, _ in (*self.steps.values(), *self.supervisors.values())):
            self._tell(self.ends.pop(number))

    def _tell(self, fact: dict[str, Any]) -> None:
        self.control.send(json.dumps(fact).encode())


def _host_pid(pidfd: int) -> int:
    """The pid as /proc shows it, which is the host's."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
        for line in file:
            if line.startswith(b"Pid:"):
                return int(line[4:])
    return 0


def write_payload(document: bytes, files: dict[str, bytes]) -> int:
    """A memfd as described above."""
    index = {"spec": len(document), "files": [[name, len(content)] for name, content in files.items()]}
    payload = os.memfd_create("pybuild-step", os.MFD_CLOEXEC)
    for part in (json.dumps(index).encode() + b"\n", document, *files.values()):
        view = memoryview(part)
        while view:
            view = view[os.write(payload, view) :]
    os.lseek(payload, 0, os.SEEK_SET)
    return payload


def read_payload(payload: int) -> tuple[bytes, dict[str, bytes]]:
    """The spec and the files of a payload."""
    with open(payload, "rb", closefd=False) as file:
        index = json.loads(file.readline())
        document = file.read(index["spec"])
        return document, {name: file.read(length) for name, length in index["files"]}

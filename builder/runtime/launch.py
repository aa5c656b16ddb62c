"""The builder's side of the runtime: run a spec, stream its output, never leave a process behind.

The one idea: `run` is a block. However it is left (the command ended, the caller was cancelled, a reader
of the output raised), the step's PID namespace is dead and its process reaped before the block is left.

Output is read by the task that runs the step and handed on before more is read, so a slow reader slows
the command down, and nothing is held but one unfinished line per stream.

It knows no images, layers or caches; what it mounts and forbids is the spec's business.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

from builder.errors import BuildError, SandboxError, StepFailed, raising_limit
from builder.runtime import failure as failures
from builder.runtime import outcome
from builder.runtime.failure import Failure
from builder.runtime.ownership.handover import ANNOTATION
from builder.runtime.probe import probe
from builder.runtime.spawn import Zygote, start_zygote
from builder.runtime.spec import RuntimeSpec, encode
from builder.runtime.zygote import write_payload
from builder.value import Value

OnLine = Callable[[int, bytes], None]
OnTerminal = Callable[[int], None]

LONGEST_LINE = 65536
_PATIENCE = 5.0  # seconds; a killed process can be held up in the kernel, but not the builder with it
_LAST_WORDS = 1 << 20  # what is read of a stream after the step's end, at most: a pipe holds no more


class ExitStatus(Value):
    """How a step ended. `code` is its exit code, or 128 + `signal` where that killed it (0: none did).

    `max_rss`: bytes, of its largest process; `cpu_seconds`: of its processes that were waited for.
    `bytes_read`, `bytes_written`: from and to disks, by the same processes.
    `owners`: (user, group) by path relative to the root, of files whose owner only its supervisor knows
    (symlinks and the like, where owners are recorded); of no meaning after a failure.
    """

    code: int
    signal: int
    max_rss: int
    cpu_seconds: float
    bytes_read: int = 0
    bytes_written: int = 0
    owners: Mapping[str, tuple[int, int]] = {}


class Runtime:
    """A running zygote, and the steps that it has started. Use `start`, and `close` when all is done."""

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._steps: dict[int, _Step] = {}
        self._last = 0
        self._lost = False
        asyncio.get_running_loop().add_reader(zygote.control, self._receive)

    @classmethod
    def start(cls, zygote: Zygote | None = None) -> Runtime:
        """Take over a zygote (or start one); call it in the main thread, in a running event loop.

        Raises SandboxError, with what to do, where this machine or user cannot run steps.
        """
        if zygote is None:
            reason = probe()
            if reason is not None:
                raise reason
            try:
                zygote = start_zygote()
            except PermissionError as error:
                raise SandboxError(
                    "RUN needs this Python's executable, which this user may not open by its path",
                    hint="install Python and pybuild in folders that this user may enter",
                ) from error
            except OSError as error:
                raise SandboxError(
                    f"cannot start a process for RUN: {error.strerror}", hint=raising_limit(error.errno)
                ) from error
        return cls(zygote)

    async def run(
        self,
        spec: RuntimeSpec,
        on_line: OnLine,
        files: Mapping[str, bytes] | None = None,
        *,
        as_lines: bool = True,
        on_terminal: OnTerminal | None = None,
    ) -> ExitStatus:
        """Run the spec's command to its end; `on_line(stream, line)` gets its output without newlines.

        Stream 1 is standard output, 2 standard error; a line longer than LONGEST_LINE comes in pieces. Not
        `as_lines`, output comes in pieces just as it was written. `files` are the bytes of the spec's
        SecretFile mounts. A command with a terminal has no output: `on_terminal` gets a descriptor of the
        pty's master, which it closes.
        Raises SandboxError where the sandbox could not be made, StepFailed (126, 127) where the command
        could not be run, BuildError where the spec's mounts, limits or working folder are at fault.
        """
        if self._lost:
            raise _lost()
        step = _Step(supervised=ANNOTATION in spec.annotations, as_lines=as_lines, on_terminal=on_terminal)
        self._last += 1
        number = self._last
        try:
            self._send(number, spec, files or {}, step)
            self._steps[number] = step
            try:
                await step.follow(on_line)
            finally:
                await self._settle(number, step)
            return step.result()
        finally:
            self._steps.pop(number, None)
            step.close()

    async def close(self) -> None:
        """End the zygote, and with it whatever still runs."""
        asyncio.get_running_loop().remove_reader(self._zygote.control)
        self._zygote.control.close()
        self._lose()
        await _wait_for_end(self._zygote.pid)
        self._zygote.release()

    def _send(self, number: int, spec: RuntimeSpec, files: Mapping[str, bytes], step: _Step) -> None:
        payload = write_payload(encode(spec), dict(files))
        try:
            descriptors = [payload, *step.take_child_ends(), *step.result_file]
            try:
                socket.send_fds(self._zygote.control, [json.dumps({"run": number}).encode()], descriptors)
            finally:
                for descriptor in descriptors[1:4]:
                    os.close(descriptor)
        except OSError as error:
            raise _lost() from error
        finally:
            os.close(payload)

    async def _settle(self, number: int, step: _Step) -> None:
        """Kill what is left of the step, and wait for its end, even if cancelled meanwhile."""
        if step.ended.done():
            return
        try:
            self._zygote.control.send(json.dumps({"kill": number}).encode())
        except OSError:
            return  # the zygote is gone, and its steps with it
        loop = asyncio.get_running_loop()
        deadline, cancelled = loop.time() + _PATIENCE, False
        while not step.ended.done() and loop.time() < deadline:
            try:
                await asyncio.wait({step.ended}, timeout=deadline - loop.time())
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    def _receive(self) -> None:
        try:
            message = self._zygote.control.recv(4096, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            message = b""
        if not message:
            asyncio.get_running_loop().remove_reader(self._zygote.control)
            self._lose()
            return
        fact = json.loads(message)
        step = self._steps.get(fact["id"])
        if step is not None:
            step.learn(fact)

    def _lose(self) -> None:
        self._lost = True
        for step in self._steps.values():
            step.learn({"failed": "", "errno": 0})


class _Step:
    """One run: its pipes, and what the zygote said of it."""

    def __init__(self, *, supervised: bool, as_lines: bool, on_terminal: OnTerminal | None) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.pid = 0
        self._wake = asyncio.Event()
        self._pipes: dict[int, _Stream] = {}
        self._child_ends: list[int] = []
        self._on_terminal = on_terminal
        self._sends_terminal = -1  # the socket that stands for stream 1 then
        for stream in (1, 2, 0):
            ours, theirs = os.pipe() if stream != 1 or on_terminal is None else _socketpair()
            os.set_blocking(ours, False)
            self._pipes[ours] = _Stream(stream, as_lines=as_lines)
            self._child_ends.append(theirs)
        if on_terminal is not None:
            self._sends_terminal = next(iter(self._pipes))
        self.result_file = [os.memfd_create("pybuild-owners", os.MFD_CLOEXEC)] if supervised else []
        self._ready: list[int] = []
        self._failure = next(reversed(self._pipes.values()))

    def take_child_ends(self) -> list[int]:
        """The write ends (stdout, stderr, errors); the caller closes them."""
        ends, self._child_ends = self._child_ends, []
        return ends

    def learn(self, fact: dict[str, Any]) -> None:
        """Take a message of the zygote."""
        if "pid" in fact:
            self.pid = fact["pid"]
        elif not self.ended.done():
            self.ended.set_result(fact)
            self._wake.set()

    async def follow(self, on_line: OnLine) -> None:
        """Hand output on until the step has ended and all of it was read."""
        for pipe in self._pipes:
            self._arm(pipe)
        while not self.ended.done():
            await self._wake.wait()
            self._wake.clear()
            ready, self._ready = self._ready, []
            for pipe in ready:
                self._read(pipe, on_line)
        # every process that could write is dead, so what a pipe holds now is all there will be
        for pipe, stream in self._pipes.items():
            before = stream.total
            while self._read(pipe, on_line, wait=False) and stream.total - before < _LAST_WORDS:
                pass
            stream.finish(on_line)

    def _arm(self, pipe: int) -> None:
        asyncio.get_running_loop().add_reader(pipe, self._on_ready, pipe)

    def _on_ready(self, pipe: int) -> None:
        asyncio.get_running_loop().remove_reader(pipe)
        self._ready.append(pipe)
        self._wake.set()

    def _read(self, pipe: int, on_line: OnLine, *, wait: bool = True) -> bool:
        """Read once; whether anything came. Waiting for more begins before it is handed on: in what is
        written meanwhile, each pipe keeps its turn."""
        if pipe == self._sends_terminal:
            self._take_terminal()
            return False
        try:
            chunk = os.read(pipe, LONGEST_LINE)
        except BlockingIOError:
            chunk = None
        if wait and chunk != b"":
            self._arm(pipe)
        self._pipes[pipe].feed(chunk or b"", on_line)
        return bool(chunk)

    def _take_terminal(self) -> None:
        """Hand on the terminal that came, if one came."""
        with socket.socket(fileno=os.dup(self._sends_terminal)) as end:
            try:
                _, terminals, _, _ = socket.recv_fds(end, 64, 1)
            except BlockingIOError:
                return
        for terminal in terminals:
            os.set_inheritable(terminal, False)
            if self._on_terminal is not None:
                self._on_terminal(terminal)

    def close(self) -> None:
        """Close the pipes."""
        loop = asyncio.get_running_loop()
        for pipe in self._pipes:
            loop.remove_reader(pipe)
            os.close(pipe)
        for descriptor in (*self._child_ends, *self.result_file):
            os.close(descriptor)

    def result(self) -> ExitStatus:
        """How it ended; raises as `Runtime.run` tells."""
        fact = self.ended.result()
        if "failed" in fact:
            raise _unstarted(fact["failed"], fact["errno"]) if fact["failed"] else _lost()
        if fact.get("supervisor"):
            raise _unsupervised(fact["supervisor"])
        if told := bytes(self._failure.rest):
            ended = outcome.decode(told)
            if ended is None:
                raise _error_of(failures.decode(told))
            fact = {**fact, **ended}
        code = os.waitstatus_to_exitcode(fact["status"])
        return ExitStatus(
            code=code if code >= 0 else 128 - code,
            signal=max(-code, 0),
            max_rss=fact["maxrss"] * 1024,
            cpu_seconds=fact["cpu"],
            bytes_read=fact["read"] * 512,
            bytes_written=fact["written"] * 512,
            owners=self._owners(),
        )

    def _owners(self) -> dict[str, tuple[int, int]]:
        if not self.result_file:
            return {}
        size = os.fstat(self.result_file[0]).st_size
        told = json.loads(os.pread(self.result_file[0], size, 0) or b"{}")
        return {path: (uid, gid) for path, (uid, gid) in told.get("owners", {}).items()}


class _Stream:
    """Cuts bytes into lines, if asked to. Stream 0 is the pipe for a failure: it is kept whole in `rest`."""

    def __init__(self, number: int, *, as_lines: bool) -> None:
        self.number = number
        self.as_lines = as_lines
        self.rest = b""
        self.total = 0

    def feed(self, chunk: bytes, on_line: OnLine) -> None:
        self.total += len(chunk)
        if self.number == 0:
            self.rest += chunk
            return
        if not self.as_lines:
            if chunk:
                on_line(self.number, chunk)
            return
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            self._hand_on(line, on_line)
        while len(self.rest) >= LONGEST_LINE:
            on_line(self.number, self.rest[:LONGEST_LINE])
            self.rest = self.rest[LONGEST_LINE:]

    def finish(self, on_line: OnLine) -> None:
        """Hand on a last line that has no newline."""
        if self.number and self.rest:
            on_line(self.number, self.rest)
            self.rest = b""

    def _hand_on(self, line: bytes, on_line: OnLine) -> None:
        for start in range(0, len(line) or 1, LONGEST_LINE):
            on_line(self.number, line[start : start + LONGEST_LINE])


def _socketpair() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


async def _wait_for_end(pid: int) -> None:
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(_PATIENCE):
            await ended.wait()
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    _reap(pid)


def _reap(pid: int) -> None:
    os.waitpid(pid, 0)


def _unstarted(reason: str, number: int) -> SandboxError:
    return SandboxError(f"cannot start a process: {reason}", hint=raising_limit(number))


def _lost() -> SandboxError:
    return SandboxError(
        "the process that starts RUN steps has ended",
        hint="it may have been killed for lack of memory; see the kernel's log (dmesg)",
    )


def _unsupervised(status: int) -> SandboxError:
    code = os.waitstatus_to_exitcode(status)
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return SandboxError(f"the process that records the owners of a step's files has ended ({how})")


def _error_of(failure: Failure) -> BuildError:
    """Whose fault a failure is."""
    match failure.step:
        case "exec":
            status = 127 if failure.errno == errno.ENOENT else 126
            return StepFailed(failure.text, status=status, errno=failure.errno)
        case "mount":
            return BuildError(failure.text, code="mount-failed")
        case "cwd":
            return BuildError(failure.text, code="workdir")
        case "cgroup":
            return SandboxError(
                failure.text, code="cgroup", hint="`pybuild doctor` tells which limits can be set here"
            )
        case "runtime":
            return SandboxError(
                failure.text, code="runtime", hint="without --runtime, steps are run by pybuild itself"
            )
        case "limit":
            return BuildError(
                failure.text,
                code="ulimit",
                hint="this machine or user has a lower hard limit (see ulimit -H)",
            )
        case _:
            return SandboxError(failure.text, hint="`pybuild doctor` tells what this machine lacks")

"""The supervisor of a step with a single id: answers its questions about owners until it has ended.

A process of its own, forked by the zygote for one step: outside the step's PID namespace, so that nothing
in there can reach it, and in the same user namespace. The step's process 1 hands it, before it becomes the
command, the listener of its filter and its root (`handover`). From then on the supervisor lives in that
root; it holds no name of the host, one descriptor of a /proc, and the step's standard error for what it
has to say. It answers one call after another, never waits for anybody but the listener, and ends when
the last process under the filter has; a signal can interrupt a call (EINTR) before it was taken up here, but
not afterwards (from Linux 5.19 on). At its end it writes what it remembers, as one JSON object

    {"owners": {PATH: [UID, GID], ...}}     paths relative to the root, of what holds no record itself

Nothing here is a wall. What is emulated are names: the step's processes all have the one id, and all that
they could do to one another by lying to the supervisor, they could do without. See seccomp_unotify(2).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys

from builder import libc
from builder.runtime import syscalls
from builder.runtime.ownership import handover, layouts, procfs
from builder.runtime.ownership.creation import Creation
from builder.runtime.ownership.credentials import Credentials, credentials_of
from builder.runtime.ownership.identity import Identity
from builder.runtime.ownership.lineage import Lineage
from builder.runtime.ownership.owners import Owners
from builder.runtime.ownership.peers import Peers
from builder.runtime.ownership.permissions import Permissions
from builder.runtime.ownership.records import Records
from builder.runtime.ownership.targets import ANSWERED, Call, LeftToKernel, Targets, Unanswerable
from builder.runtime.process import capability_mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any, NoReturn

    from builder.runtime.ownership.identity import Handler

_RECEIVE, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_SYNC_WAKE_UP = 1
_EMPTY = bytes(layouts.NOTIFICATION.size)
_X32_BIT = 0x40000000

_TABLES = {layouts.AUDIT_AARCH64: syscalls.AARCH64, layouts.AUDIT_I386: syscalls.I386}
_SUFFIXES = {layouts.AUDIT_I386: " of 32-bit programs"}


def run(
    channel: socket.socket, spec: Mapping[str, Any], files: Mapping[str, bytes], stderr: int, result: int
) -> NoReturn:
    """Be the supervisor; never returns. `result`: where the JSON is written."""
    status = 1
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)  # what came with the step may be secret
        libc.set_name("pybuild-owners")
        os.dup2(stderr, 2)
        proc, foreign = procfs.open_proc()
        _close_all_but(channel.fileno(), proc, result)
        handed = handover.receive(channel)
        if handed is not None:
            listener, root = handed
            owners = _supervise(Targets(listener, proc, root, foreign=foreign), spec, files)
            os.write(result, json.dumps({"owners": owners}).encode())
        status = 0
    finally:
        if status:  # said on the step's standard error, before the builder says that this has ended
            sys.excepthook(*sys.exc_info())
        os._exit(status)


def _supervise(
    targets: Targets, spec: Mapping[str, Any], files: Mapping[str, bytes]
) -> Mapping[str, tuple[int, int]]:
    described = handover.described(spec)
    records = Records(targets.exchange, handover.known_owners(described, files))
    initial = _initial(spec["process"], described)
    identity = Identity(targets, Lineage(initial), records)
    mounts = described.get("mounts", ())
    supervisor = Supervisor(targets, identity, records, os.uname().machine, mounts)
    supervisor.serve()
    return records.final()


def _initial(process: Mapping[str, Any], described: Mapping[str, Any]) -> Credentials:
    user = process["user"]
    held = capability_mask(described.get("capabilities", ()))
    bounding = capability_mask(process.get("capabilities", {}).get("bounding", ()))
    ambient = capability_mask(described.get("ambient", ()))
    groups = tuple(user.get("additionalGids", ()))
    return credentials_of(user["uid"], user["gid"], groups, held, bounding, ambient)


class Supervisor:
    """Answers the calls of one listener. `mounts`: as `handover` has it."""

    def __init__(
        self,
        targets: Targets,
        identity: Identity,
        records: Records,
        machine: str,
        mounts: Iterable[str] = (),
    ) -> None:
        self._targets = targets
        self._owners = Owners(targets, identity, records)
        self._permissions = Permissions(targets, identity, records, mounts)
        self._peers = Peers(targets, identity.lineage)
        self._creation = Creation(targets, identity, records, self._permissions)
        self._identity = identity
        self._handlers = self._by_number(machine)
        self._told: set[str] = set()

    @property
    def numbers(self) -> Collection[tuple[int, int]]:
        """(architecture, number) of the calls that have an answer here."""
        return self._handlers.keys()

    def serve(self) -> None:
        """Until no process is left under the filter."""
        listener = self._targets.listener
        try:
            fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError as error:  # before Linux 6.6: slower, and nothing else
            if error.errno not in (errno.EINVAL, errno.ENOTTY):
                raise
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while True:
            for _, events in poll.poll():
                if events & select.POLLIN:
                    self._answer_one()
                elif events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                    return

    def _answer_one(self) -> None:
        listener = self._targets.listener
        try:
            asked = fcntl.ioctl(listener, _RECEIVE, _EMPTY)
            number, pid, _, call, audit, _, *args = layouts.NOTIFICATION.unpack(asked)
            value, error, flags = self._answer(Call(number, pid, call, audit, args))
            if value != ANSWERED:
                fcntl.ioctl(listener, _SEND, layouts.RESPONSE.pack(number, value, error, flags))
        except OSError as gone:
            # ENOENT: killed or interrupted while it waited; nobody is there to hear the answer
            if gone.errno not in (errno.ENOENT, errno.EINTR):
                raise

    def _answer(self, call: Call) -> tuple[int, int, int]:
        """(value, negative errno, flags) of the response; or ANSWERED as the value."""
        handler = self._handlers.get((call.audit, call.number))
        if handler is None:
            self._say(call, "with a single user id")
            return 0, -errno.ENOSYS, 0
        try:
            if self._targets.foreign:
                call.name = self._targets.name_of(call.pid)
            value = handler(call) if self._targets.rooted else self._targets.in_root_of(call, handler)
        except (FileNotFoundError, LeftToKernel):
            # of what is not there the kernel says why, or finds it where we cannot
            return 0, 0, layouts.CONTINUE
        except OSError as error:
            if isinstance(error, Unanswerable):
                self._say(call, error.why)
            return 0, -(error.errno or errno.EIO), 0
        return (0, 0, layouts.CONTINUE) if value is None else (value, 0, 0)

    def _say(self, call: Call, why: str) -> None:
        """Say once what cannot be answered."""
        names = _TABLES.get(call.audit, syscalls.X86_64)
        known = {number: name for name, number in names.items()}
        name = known.get(call.number & ~_X32_BIT, str(call.number)) + _SUFFIXES.get(call.audit, "")
        if name not in self._told:
            self._told.add(name)
            line = f"pybuild: the system call {name} cannot be answered {why}\n"
            os.write(2, line.encode())

    # --- which handler answers which number ---

    def _by_number(self, machine: str) -> dict[tuple[int, int], Handler]:
        native = {
            **self._identity.handlers(),
            **self._owners.handlers(),
            **self._creation.handlers(),
            **self._permissions.handlers(),
            **self._peers.handlers(),
            **self._identity.handlers_of_process(),
        }
        if machine == "aarch64":
            return _numbered(layouts.AUDIT_AARCH64, syscalls.AARCH64, native, 0)
        short = {
            **native,
            **self._identity.handlers(short=True),
            **{f"{name}32": handler for name, handler in self._identity.handlers().items()},
            **self._owners.handlers_of_i386(),
            **self._identity.handlers_of_i386(),
            "socketcall": lambda call: self._peers.socketcall(call, native["bind"]),
        }
        return {
            **_numbered(layouts.AUDIT_X86_64, syscalls.X86_64, native, 0),
            **_numbered(layouts.AUDIT_X86_64, syscalls.X32, native, _X32_BIT),
            **_numbered(layouts.AUDIT_I386, syscalls.I386, short, 0),
        }


def _numbered(
    audit: int, numbers: Mapping[str, int], handlers: Mapping[str, Handler], offset: int
) -> dict[tuple[int, int], Handler]:
    return {(audit, numbers[name] + offset): handler for name, handler in handlers.items() if name in numbers}


def _close_all_but(*kept: int) -> None:
    first = 3
    for descriptor in sorted(kept):
        if descriptor > first:
            libc.close_range(first, descriptor - 1)
        first = descriptor + 1
    libc.close_range(first)

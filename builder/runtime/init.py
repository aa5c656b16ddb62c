"""The runtime: one OCI runtime-spec in, one process in namespaces out. A program, not a library.

How a start goes. A parent (the zygote, or `main` below) makes a new PID namespace and forks; the child
is process 1 of that namespace and calls `run`. It leaves the other namespaces that the spec names,
builds its root filesystem (`rootfs`), gives up what it must not have (`process`), and turns into the
command by execve(2): the command itself is process 1, so its end ends every process of the step.

What goes wrong before execve is written as one JSON object (`failure`) to a close-on-exec pipe; end of
file without a word means that the command runs. Nothing else is ever said.

By hand:  python -I -S builder/runtime/init.py SPEC.json
prints such an object to standard error and ends with status 125, or ends as the command did.

It imports ctypes, fcntl, json, os, signal, sys and its own siblings only: this is what each RUN pays.
Invariant: when execve runs, no descriptor above 2, no ignored signal and no environment of the
builder's is left, and /proc/self/exe of this program lay on a read-only mount (`sealed`), so that a
command like /proc/self/exe cannot reach the host's Python for writing (as in CVE-2019-5736).
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys

if not __package__:  # run as a file
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from builder import libc
from builder.runtime import cgroups, process, rootfs, sealed, seccomp
from builder.runtime.failure import Failure, because

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

_NAMESPACES = {
    "mount": libc.CLONE_NEWNS,
    "ipc": libc.CLONE_NEWIPC,
    "uts": libc.CLONE_NEWUTS,
    "network": libc.CLONE_NEWNET,
    "cgroup": libc.CLONE_NEWCGROUP,
    "pid": 0,  # made by the parent, before it forked
}
_FOREIGN = "org.pybuild.runtime"  # the annotation of a spec that another runtime carries out (`foreign`)


def run(
    load: Callable[[], tuple[bytes, Mapping[str, bytes]]],
    errors: int,
    lifeline: int = -1,
    programs: Mapping[bytes, bytes] | None = None,
    supervisor: int = -1,
) -> NoReturn:
    """Become the command of a spec; never returns.

    This process is process 1 of a new PID namespace, with streams 1 and 2 as the command shall have them.
    `load` gives the spec and the bytes of its `x-file` mounts; `errors` is the pipe for a failure,
    `lifeline` a pipe whose other end only the parent holds; `programs` are filters assembled before, by
    `filter_key`; `supervisor` is the socket to who answers for owners, where the spec asks for that.
    """
    pipe = _Pipe(errors)
    failure = Failure("spec", 0, "the sandbox broke off while it was being set up")
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        _check_parent(lifeline)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)  # until execve: no crash may write secrets to a disk
        document, files = load()
        _become_command(json.loads(document), files, pipe, programs or {}, supervisor)
    except Failure as known:
        failure = known
    except OSError as error:
        failure = because("namespace", "cannot set up the sandbox", error)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        failure = Failure("spec", 0, f"the spec cannot be understood: {error!r}")
    finally:
        os.write(pipe.descriptor, failure.encode())
        os._exit(125)


class _Pipe:
    """Where a failure is written."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def settle(self, kept: int = -1) -> int:
        """Make it the lowest descriptor above the streams, and with `kept` the only one; where that is now.

        What is open now shows the host's folders. So this comes before the working folder is entered, or
        WORKDIR /proc/self/fd/N would be a way out (CVE-2024-21626).
        """
        lowest = 3
        if kept >= 0:
            kept = fcntl.fcntl(kept, fcntl.F_DUPFD_CLOEXEC, lowest + 1)
        if self.descriptor != lowest:
            os.dup2(self.descriptor, lowest)
            self.descriptor = lowest
        os.set_inheritable(lowest, False)
        if kept < 0:
            libc.close_range(lowest + 1)
            return -1
        if kept > lowest + 1:
            os.dup2(kept, lowest + 1, inheritable=False)
        libc.close_range(lowest + 2)
        return lowest + 1


def _become_command(
    spec: Mapping[str, Any],
    files: Mapping[str, bytes],
    pipe: _Pipe,
    programs: Mapping[bytes, bytes],
    supervisor: int,
) -> NoReturn:
    os.umask(0)
    os.setsid()
    process.reset_signals()
    cgroups.join(spec["linux"])
    if _FOREIGN in spec.get("annotations", {}) and not spec["process"].get("terminal"):
        from builder.runtime.foreign import parent

        pipe.settle()
        parent.run(spec, files, pipe.descriptor)
    _leave_namespaces(spec)
    rootfs.enter(spec, files)
    supervisor = pipe.settle(supervisor)
    command = spec["process"]
    process.set_limits(command.get("rlimits", ()))
    if supervisor < 0:
        process.become(command, _filter_of(spec, programs))
    else:
        process.become_recorded(command, _filter_of(spec, programs), supervisor)
    process.execute(command)


def _check_parent(lifeline: int) -> None:
    """End if the parent ended before PR_SET_PDEATHSIG was in force."""
    if lifeline < 0:
        return
    os.set_blocking(lifeline, False)
    try:
        os.read(lifeline, 1)
    except BlockingIOError:
        return
    os._exit(125)


def _leave_namespaces(spec: Mapping[str, Any]) -> None:
    namespaces = spec["linux"]["namespaces"]
    paths = {namespace["type"]: namespace["path"] for namespace in namespaces if namespace.get("path")}
    kinds = [namespace["type"] for namespace in namespaces if not namespace.get("path")]
    unknown = [kind for kind in kinds if kind not in _NAMESPACES]
    if unknown or paths.keys() - {"network"}:
        raise Failure(
            "spec", 0, f"namespaces cannot be joined, nor made of type {', '.join(unknown) or 'path'}"
        )
    flags = 0
    for kind in kinds:
        flags |= _NAMESPACES[kind]
    if paths:
        _join_network(paths["network"])
    _unshare(flags)
    if "network" in kinds:
        try:
            libc.raise_loopback()
        except OSError as error:
            what = "cannot switch on the loopback device of a step's own network, which takes CAP_NET_ADMIN"
            raise because("namespace", what, error) from error
    if spec.get("hostname"):
        try:
            libc.sethostname(spec["hostname"])
        except OSError as error:
            raise because("namespace", f"cannot set the host name {spec['hostname']}", error) from error
    try:
        libc.join_new_keyring()
    except OSError:  # no keyrings in this kernel, or a quota: the filter refuses keyctl anyway
        return


def _join_network(path: str) -> None:
    try:
        network = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        libc.setns(network, libc.CLONE_NEWNET)
        os.close(network)
    except OSError as error:
        raise because("namespace", "cannot join the step's network", error) from error


def _unshare(flags: int) -> None:
    """A cgroup namespace is taken where the kernel grants it, the others must be."""
    try:
        libc.unshare(flags)
    except OSError as error:
        if not flags & libc.CLONE_NEWCGROUP:
            raise because("namespace", "cannot make namespaces", error) from error
        _unshare(flags & ~libc.CLONE_NEWCGROUP)


def _filter_of(spec: Mapping[str, Any], programs: Mapping[bytes, bytes]) -> bytes | None:
    section = spec["linux"].get("seccomp")
    if section is None:
        return None
    return programs.get(filter_key(section)) or seccomp.assemble(section)


def filter_key(section: Mapping[str, Any]) -> bytes:
    """What names a section's assembled filter in `programs`."""
    return json.dumps(section).encode()


def main(arguments: list[str]) -> int:
    """Run the spec in the file that is the only argument; the exit status is the command's."""
    if len(arguments) != 1:
        sys.stderr.write("usage: init.py SPEC.json\n")
        return 2
    sealed.ensure()
    with open(arguments[0], "rb") as file:
        document = file.read()
    errors, child_errors = os.pipe()
    lifeline, held = os.pipe()
    libc.unshare(libc.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os.close(held)
        os.close(errors)
        run(lambda: (document, {}), child_errors, lifeline)
    os.close(child_errors)
    told = os.read(errors, 65536)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if told:
        sys.stderr.write(told.decode() + "\n")
        return 125
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The process above a foreign runtime: mounts all it can, has the container made, and waits for its end.

It is process 1 of the step's PID namespace, and the container's first is that of one within. So the end of
this process, however it comes, is the end of the runtime and of the container; and the runtime's state, with
its log, the config.json and the bytes of secrets, lies in memory that only this mount namespace sees, and
goes with it.

The container is created and started, not "run": so its command is our child once the runtime has made it, and
how it ended is known, a signal too. Until it is started, whatever comes on standard error is the runtime's
own word, which is also in its log; from then on it is the command's, and is handed on.

Invariant: the runtime makes no cgroup, nor changes one: it is told so, or they are read-only for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select

from builder import libc
from builder.runtime import outcome
from builder.runtime.failure import Failure, because
from builder.runtime.foreign import config
from builder.runtime.foreign.messages import failure_of
from builder.runtime.foreign.nodev import close_devices
from builder.runtime.mounts import attach, new_filesystem
from builder.runtime.rootfs import RootFilesystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

ANNOTATION = "org.pybuild.runtime"  # JSON {"name": NAME, "path": PROGRAM, "flags": [...]}
_ID = "step"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_PIECE = 65536
_CGROUPS = "/sys/fs/cgroup"
_BESIDE_V1 = f"{_CGROUPS}/unified"


def run(spec: Mapping[str, Any], files: Mapping[str, bytes], errors: int) -> NoReturn:
    """Have the spec's command run by the runtime that it names; never returns. Raises Failure.

    Streams 1 and 2 are the command's; through `errors` goes how it ended. Nothing else is open.
    """
    _leave_namespaces(spec)
    runtime = json.loads(spec["annotations"][ANNOTATION])
    root = _Root(spec, files)
    terminal = bool(spec["process"].get("terminal"))
    container = _Container(runtime, _make_bundle(root), closed=root.closed, terminal=terminal)
    status, usage = container.run()
    os.write(errors, outcome.encode(status, usage))
    os._exit(0)


def _leave_namespaces(spec: Mapping[str, Any]) -> None:
    """Those that the container's are made in, or that what is mounted here shows: the network and cgroups."""
    network = config.network_of(spec)
    try:
        if network:
            libc.setns(os.open(network, os.O_RDONLY | os.O_CLOEXEC), libc.CLONE_NEWNET)
        libc.unshare(libc.CLONE_NEWNS | (libc.CLONE_NEWNET if network == "" else 0))
        with contextlib.suppress(OSError):  # taken where the kernel grants it, as by `init`
            libc.unshare(libc.CLONE_NEWCGROUP)
        libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
        if network == "":
            libc.raise_loopback()
    except OSError as error:
        raise because("namespace", "cannot make namespaces", error) from error


class _Root(RootFilesystem):
    """The root filesystem with all mounts but the runtime's own: where those go, there is an empty folder
    that nothing can be mounted in."""

    def tree_of(self, mount: Mapping[str, Any]) -> int | None:
        if config.is_runtimes_own(mount):
            attributes = libc.MOUNT_ATTR_RDONLY | libc.MOUNT_ATTR_NODEV
            return new_filesystem("tmpfs", [("size", "4k"), ("mode", "755")], attributes)
        return super().tree_of(mount)


def _make_bundle(root: _Root) -> str:
    """The folder with config.json. Raises Failure."""
    spec = root.spec
    if spec["root"].get("readonly"):
        raise Failure("spec", 0, "a read-only root is not available with another runtime")
    root.mount_root()
    for mount in spec.get("mounts", ()):
        root.lay(mount)
    for number, device in enumerate(spec["linux"].get("devices", ())):
        root.add_device(device, number)
    try:
        folder = root.stage.make_folder("bundle")
        with open(f"{folder}/config.json", "xb") as file:
            file.write(_encode(config.plain_config(spec, root.root_path, libc.capabilities()[1])))
        # standard input, which a runtime may give to the command's user: the step's own node
        null = libc.clone_tree(root.kernel["/dev"], "null")
        _cover(libc.openat2(libc.AT_FDCWD, os.devnull, os.O_PATH), null)
        _renew_proc()
        _protect_cgroups()
    except OSError as error:
        raise because("root", "cannot prepare for another runtime", error) from error
    return folder


def _encode(plain: Mapping[str, Any]) -> bytes:
    """JSON has no bytes that are not UTF-8; a runtime would replace them."""
    try:
        return json.dumps(plain, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        broken = os.fsencode(error.object[max(error.start - 20, 0) : error.end])
        raise Failure("spec", 0, f"another runtime can be given UTF-8 only, not {broken!r}") from error


def _renew_proc() -> None:
    """A /proc of this PID namespace, in which the runtime finds what it starts."""
    attributes = libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NOEXEC | libc.MOUNT_ATTR_NODEV
    tree = new_filesystem("proc", [], attributes)
    _cover(libc.openat2(libc.AT_FDCWD, "/proc", os.O_PATH), tree)


def _protect_cgroups() -> None:
    """Cgroups read-only: runc leaves alone what it may not write to, once told that it has not all rights.

    v2 beside v1 is out of sight, as crun refuses to run on a machine that has both.
    """
    if not os.path.isdir(_CGROUPS):
        return
    place = libc.openat2(libc.AT_FDCWD, _CGROUPS, os.O_PATH)
    tree = libc.clone_tree(place, recursive=True)
    libc.mount_setattr(tree, libc.MOUNT_ATTR_RDONLY, recursive=True)
    _cover(place, tree)
    if os.path.isdir(_BESIDE_V1):
        nothing = new_filesystem("tmpfs", [("size", "4k")], libc.MOUNT_ATTR_RDONLY)
        _cover(libc.openat2(libc.AT_FDCWD, _BESIDE_V1, os.O_PATH), nothing)


def _cover(place: int, tree: int) -> None:
    attach(tree, place)
    os.close(tree)


class _Container:
    """The one container of the step, by a runtime {"name", "path", "flags"}.

    closed: no device can be opened in it; terminal: stream 1 is the socket that its terminal is sent over.
    """

    def __init__(self, runtime: Mapping[str, Any], bundle: str, *, closed: bool, terminal: bool) -> None:
        self.closed = closed
        self.terminal = terminal
        self.name = runtime["name"]
        self.path = runtime["path"]
        self.log = f"{bundle}/log"
        self.pid_file = f"{bundle}/pid"
        self.bundle = bundle
        flags = ["--root", f"{bundle}/state", "--log", self.log, "--log-format", "json"]
        self.command = [self.path, *flags, *runtime["flags"]]
        self.null = os.open(os.devnull, os.O_RDWR)

    def run(self) -> tuple[int, Any]:
        """(status, usage) of the command, as wait4(2) has them."""
        heard, said = os.pipe()
        self._create(said)
        os.close(said)
        pid = self._read_pid()
        os.set_blocking(heard, False)
        _read(heard)  # warnings of the runtime
        if self.closed:
            close_devices(pid)
        self._call("start", out=self.null, err=self.null)
        ended = os.pidfd_open(pid)
        _hand_on(heard, ended)
        while True:
            found, status, usage = os.wait4(-1, 0)
            if found == pid:
                return status, usage

    def _create(self, said: int) -> None:
        words = ["create", "--bundle", self.bundle, "--pid-file", self.pid_file]
        if not self.terminal:
            self._call(*words, out=1, err=said)
            return
        from builder.runtime import terminals

        with terminals.expected(self.bundle) as listener:
            self._call(*words, "--console-socket", terminals.SOCKET, out=self.null, err=said)
            try:
                terminals.pass_on(listener)
            except OSError as error:
                raise because("runtime", f"{self.name} create: it sent no terminal", error) from error

    def _read_pid(self) -> int:
        try:
            with open(self.pid_file, encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError) as error:
            raise Failure("runtime", 0, f"{self.name} create: it told of no container's process") from error

    def _call(self, *words: str, out: int, err: int) -> None:
        """Have the runtime do something. Raises Failure."""
        pid = os.fork()
        if pid == 0:
            self._become([*self.command, *words, _ID], out, err)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            raise failure_of(self.name, words[0], self._read_log(), code)

    def _become(self, argv: list[str], out: int, err: int) -> NoReturn:
        """Not by posix_spawn(3), which leaves two signals ignored, and so they would be for the command."""
        try:
            for stream, source in enumerate((self.null, out, err)):
                os.dup2(source, stream)
            os.chdir(self.bundle)  # where the socket for a terminal has a short name
            os.execve(self.path, argv, _ENVIRONMENT)
        finally:
            os._exit(127)

    def _read_log(self) -> bytes:
        try:
            with open(self.log, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""


def _hand_on(heard: int, ended: int) -> None:
    """Pass on what comes on standard error until the container has ended, and what is left of it then."""
    poll = select.poll()
    poll.register(heard, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        piece = _read(heard) if heard in ready else b""
        if heard in ready and piece == b"" and ended not in ready:
            poll.unregister(heard)  # the command has closed it
        _write(piece or b"")
        if ended in ready and not piece:
            return


def _read(descriptor: int) -> bytes | None:
    """A piece, b"" at the end, None where there is none now."""
    try:
        return os.read(descriptor, _PIECE)
    except BlockingIOError:
        return None


def _write(piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(2, view) :]

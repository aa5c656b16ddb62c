"""A network of its own for a step: a namespace, and a helper (pasta, slirp4netns) that connects it.

The one idea: the namespace is made here, in a thread that ends, and lives as long as its descriptor. A helper
of the machine, started outside of the step, joins it and passes on what the step sends as sockets of this
user; so no rights are needed, and the step's process finds its network ready. The host's own loopback and
the address where clouds hand out credentials cannot be reached through it.

A helper ends with its step, and with the builder, however that ends: a shell beside it waits for the end of
a pipe. It has START_LIMIT seconds to begin. Must never know: steps, specs. See pasta(1), slirp4netns(1),
network_namespaces(7) and rtnetlink(7).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from builder import libc
from builder.errors import SandboxError
from builder.fs import ownership
from builder.stop import check as check_stop

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

START_LIMIT = 5.0  # seconds
PASTA, SLIRP = "pasta", "slirp4netns"
PACKAGES = {PASTA: "passt", SLIRP: "slirp4netns"}
NAMESERVERS = {PASTA: "169.254.1.1", SLIRP: "10.0.2.3"}  # what the helper passes on to the host's own
TUN = "/dev/net/tun"

_BLOCKED = ("169.254.169.254", "fd00:ec2::254")  # where clouds hand out credentials
_LOWEST = 16  # for descriptors that the shell hands on: above its own
_POLL = 0.01  # seconds
_END_LIMIT = 2.0  # seconds
# ends the helper at the end of standard input, and ends with the helper, whose number may be another's then
_KEEPER = (
    'exec 3<&0 </dev/null; "$@" 3<&- & h=$!; { read -r x <&3; kill -9 $h; } 2>/dev/null & wait $h; '
    "kill $! 2>/dev/null"
)


def refuse_missing(helper: str) -> None:
    """Raise SandboxError, with what to do, where the helper cannot work."""
    if shutil.which(helper) is None:
        raise SandboxError(
            f"--network {helper}: {helper} is not installed",
            code="network-helper",
            hint=f"install it: apt-get install {PACKAGES[helper]}",
        )
    if not os.path.exists(TUN):
        raise SandboxError(
            f"--network {helper}: there is no {TUN}, which it needs",
            code="network-helper",
            hint="as root: modprobe tun; or start the container with --device /dev/net/tun",
        )
    if not os.access(TUN, os.R_OK | os.W_OK):
        raise SandboxError(
            f"--network {helper}: {TUN} cannot be opened by this user",
            code="network-helper",
            hint=f"as root: chmod 666 {TUN}",
        )


class StepNetwork:
    """The network of one step. path: its namespace, as this /proc has it; nameserver: for resolv.conf."""

    def __init__(self, helper: str) -> None:
        self.nameserver = NAMESERVERS[helper]
        self._helper = helper
        self._namespace = _in_thread(_make_namespace)
        self.path = f"/proc/{os.getpid()}/fd/{self._namespace}"
        self._said = os.memfd_create("pybuild-network", os.MFD_CLOEXEC)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the helper and wait until it has connected the namespace. Blocking.

        Raises SandboxError where it ends, or does not begin within START_LIMIT.
        """
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "sh", *self._command()],
                stdin=subprocess.PIPE,
                stdout=self._said,
                stderr=self._said,
                pass_fds=(self._namespace,),
                start_new_session=True,
            )
        except OSError as error:
            raise self._refusal(f"it cannot be started: {error.strerror}") from error
        self._await()

    def close(self) -> None:
        """End the helper, and let the namespace go. Blocking for a moment."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_END_LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for descriptor in (self._namespace, self._said):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _command(self) -> list[str]:
        # its own descriptor: another process's /proc/PID/fd is closed to who has given up rights
        namespace = f"/proc/self/fd/{self._namespace}"
        if self._helper == SLIRP:
            settings = ["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"]
            return [SLIRP, *settings, namespace, "tap0"]
        closed = [word for flag in ("-t", "-u", "-T", "-U") for word in (flag, "none")]
        # as root of the machine it would become nobody, who may not enter the namespace
        user = ["--runas", "0:0"] if ownership.of_process() == ownership.REAL else []
        return [PASTA, "--foreground", "--config-net", "--no-map-gw", "--quiet", *closed, *user,
                "--dns-forward", NAMESERVERS[PASTA], "--netns-only", "--netns", namespace]  # fmt: skip

    def _await(self) -> None:
        """Until there is a way out of the namespace; then block what must not be reached."""
        deadline = time.monotonic() + START_LIMIT
        while not _in_thread(self._is_connected):
            check_stop()
            assert self._process is not None
            if self._process.poll() is not None:
                raise self._refusal(f"{self._helper} has ended: {self._last_words() or 'without a word'}")
            if time.monotonic() > deadline:
                words = self._last_words()
                raise self._refusal(
                    f"{self._helper} has not connected the step within {START_LIMIT:g} seconds"
                    + (f"; it said: {words}" if words else "")
                )
            time.sleep(_POLL)

    def _is_connected(self) -> bool:
        """Asked in a thread of its own, which enters the namespace."""
        libc.setns(self._namespace, libc.CLONE_NEWNET)
        if not _has_default_route():
            return False
        for address in _BLOCKED:
            _add_blackhole(address)
        return True

    def _refusal(self, message: str) -> SandboxError:
        hint = "leave out --network for the host's network, or take --network none"
        return SandboxError(f"--network {self._helper}: {message}", code="network-helper", hint=hint)

    def _last_words(self) -> str:
        text = os.pread(self._said, 1 << 16, 0).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and "syslog" not in line]
        return lines[-1][:200] if lines else ""


def _make_namespace() -> int:
    """A descriptor of a new network namespace with a loopback device."""
    libc.unshare(libc.CLONE_NEWNET)
    libc.raise_loopback()
    opened = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        return fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
    finally:
        os.close(opened)


def _has_default_route() -> bool:
    """Whether this thread's network has a way out; see proc_net(5)."""
    with open("/proc/thread-self/net/route", encoding="ascii") as file:
        rows = [line.split() for line in file][1:]
    return any(row[1] == "00000000" and row[7] == "00000000" for row in rows if len(row) > 7)


_RTM_NEWROUTE, _REQUEST, _ACK, _CREATE, _REPLACE = 24, 0x1, 0x4, 0x400, 0x100
_TABLE_MAIN, _BOOT, _UNIVERSE, _BLACKHOLE, _RTA_DST = 254, 3, 0, 6, 1


def _add_blackhole(address: str) -> None:
    """Drop what goes to an address, in this thread's network. Without IPv6 there is nothing to drop."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if family == socket.AF_INET6 and not os.path.exists("/proc/thread-self/net/if_inet6"):
        return
    packed = socket.inet_pton(family, address)
    route = struct.pack(
        "=BBBBBBBBI", family, len(packed) * 8, 0, 0, _TABLE_MAIN, _BOOT, _UNIVERSE, _BLACKHOLE, 0
    )
    body = route + struct.pack("=HH", 4 + len(packed), _RTA_DST) + packed
    flags = _REQUEST | _ACK | _CREATE | _REPLACE
    message = struct.pack("=IHHII", 16 + len(body), _RTM_NEWROUTE, flags, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as link:
        link.send(message)
        answer = link.recv(4096)
    status = -int(struct.unpack_from("=i", answer, 16)[0])
    if status and family == socket.AF_INET:
        raise OSError(status, f"cannot block {address}: {os.strerror(status)}")


def _in_thread(work: Callable[[], T]) -> T:
    """The result of `work` in a thread that ends with it, whatever namespaces it enters."""
    results: list[T] = []
    errors: list[BaseException] = []

    def live() -> None:
        try:
            results.append(work())
        except (OSError, SandboxError) as error:
            errors.append(error)

    thread = threading.Thread(target=live, name="step-network")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]

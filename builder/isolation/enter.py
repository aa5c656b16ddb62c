"""Becoming root of a user namespace, with as many ids as this user may have.

The one idea: the process that builds enters the namespace itself, before it has threads, and from then on
does all that root does: store, layers, mounts, steps. A child that stays outside writes the maps: with its
own rights where it has them (root without CAP_SYS_ADMIN, as in containers), else by newuidmap(1) and
newgidmap(1). Where neither works, the map has one id, and owners are recorded (`fs.ownership`).

A mount namespace is made with it, as mounts belong to the user namespace that made it. What cannot be
entered leaves the process as it was. Must never know: builds, requests, stores.
"""

from __future__ import annotations

import errno
import os
import signal

from builder import libc
from builder.errors import SandboxError
from builder.fs.ownership import read_map
from builder.isolation import idmaps
from builder.isolation.rungs import SINGLE_UID, USERNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.isolation.idmaps import Row

_CAP_SETGID, _CAP_SETUID, _CAP_SETFCAP = 1 << 6, 1 << 7, 1 << 31
_PROGRAMS = {"uid": "newuidmap", "gid": "newgidmap"}
_PATIENCE = 10  # seconds for newuidmap, which may ask a directory service


class MapsRefused(Exception):
    """A range of ids cannot be had; the text says why, `remedy` what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def enter(wanted: str) -> tuple[str, MapsRefused | None]:
    """Enter a user namespace and be root in it.

    `wanted`: USERNS (a range of ids, or an error), SINGLE_UID, or "auto" for the first that works. Returns
    the rung, and why it is not a better one. Raises SandboxError; where the kernel refuses namespaces,
    nothing has changed. This process must have a single thread.
    """
    _check_root()
    maps, refused = None, None
    if wanted != SINGLE_UID:
        try:
            maps = _Maps()
        except MapsRefused as reason:
            refused = reason
            if wanted == USERNS:
                raise _as_error(reason) from reason
    _try_in_child()
    uid, gid = os.geteuid(), os.getegid()
    helper = _Helper(maps) if maps is not None else None
    try:
        libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
    except OSError as error:
        if helper is not None:
            helper.dismiss()
        raise _no_namespaces(error) from error
    if helper is not None:
        refused = helper.write()
        if refused is not None and wanted == USERNS:
            raise _as_error(refused)
    if helper is None or refused is not None:
        _write_single(uid, gid)
    _become_root()
    return (USERNS if helper is not None and refused is None else SINGLE_UID), refused


def _check_root() -> None:
    """Since Linux 5.12 root's id can be mapped only by who could give files capabilities; see
    user_namespaces(7). Asked before, as a namespace without a map cannot be left again."""
    if os.geteuid() == 0 and not libc.capabilities()[0] & _CAP_SETFCAP:
        raise SandboxError(
            "this root lacks CAP_SETFCAP, without which it cannot be mapped into a user namespace",
            code="isolation",
            hint="start the container with --cap-add SETFCAP, or as another user: --user 1000 "
            "(in Kubernetes runAsUser: 1000)",
        )


class _Maps:
    """How the maps will be written. Raises MapsRefused where it is plain that they cannot be."""

    def __init__(self) -> None:
        self.direct = os.geteuid() == 0 and _may_map()
        if self.direct:
            self.rows = {kind: idmaps.identity_rows(read_map(kind)) for kind in _PROGRAMS}
            if idmaps.count_of(self.rows["uid"]) < 2:
                raise MapsRefused("this namespace has a single id itself", "start it with a range of ids")
            return
        if libc.prctl(libc.PR_GET_NO_NEW_PRIVS):
            reason = "no_new_privs is set, under which newuidmap gets no rights"
            remedy = "start the container without no-new-privileges (allowPrivilegeEscalation: true)"
            raise MapsRefused(reason, remedy)
        import shutil

        for program in _PROGRAMS.values():
            if shutil.which(program) is None:
                raise MapsRefused(f"{program} is not installed", "install it: apt-get install uidmap")
        self.rows = {"uid": _own_rows("uid", os.getuid()), "gid": _own_rows("gid", os.getgid())}

    def write(self, pid: int) -> None:
        """Write both maps of the process. Raises MapsRefused, OSError."""
        for kind, rows in self.rows.items():
            if self.direct:
                with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as file:
                    file.write(idmaps.as_text(rows))
                continue
            _call(_PROGRAMS[kind], pid, rows)


def _own_rows(kind: str, own: int) -> list[Row]:
    """This user's map, by /etc/subuid or /etc/subgid. Raises MapsRefused where there is no range."""
    path, uid = f"/etc/sub{kind}", os.getuid()
    name = _user_name(uid)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 20)
    except OSError:
        text = ""
    ranges = idmaps.subordinate_ranges(text, {name, str(uid)})
    if not ranges:
        remedy = f"as root: usermod --add-sub{kind}s 100000-165535 {name}"
        if name == str(uid):  # usermod knows users with a name only
            remedy = f"as root: echo {name}:100000:65536 >> {path}"
        raise MapsRefused(f"{path} has no range of ids for {name}", remedy)
    return idmaps.rows_of(own, ranges)


def _user_name(uid: int) -> str:
    from pwd import getpwuid

    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _call(program: str, pid: int, rows: list[Row]) -> None:
    import subprocess

    command = [program, str(pid), *idmaps.as_arguments(rows)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, encoding="utf-8", errors="replace", timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise MapsRefused(f"{program} did not answer in {_PATIENCE} seconds", "see why it hangs") from None
    if done.returncode:
        told = done.stderr.strip().splitlines()
        remedy = (
            f"{program} must be set-uid root or have the file capability: setcap cap_set{program[3:6]}+ep"
        )
        raise MapsRefused(told[0] if told else f"{program} failed", f"{remedy} $(command -v {program})")


class _Helper:
    """A child outside of the namespace that writes the maps when it is told to."""

    def __init__(self, maps: _Maps) -> None:
        ours, theirs = os.pipe(), os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours[1])
            os.close(theirs[0])
            _serve(maps, parent, ours[0], theirs[1])
        os.close(ours[0])
        os.close(theirs[1])
        self._ask, self._answer = ours[1], theirs[0]

    def write(self) -> MapsRefused | None:
        """Have the maps written; why not, where they are not."""
        os.write(self._ask, b"1")
        answer = b""
        while part := os.read(self._answer, 4096):
            answer += part
        self.dismiss()
        if answer == b"done":
            return None
        reason, _, remedy = answer.decode("utf-8", "replace").partition("\0")
        return MapsRefused(reason or "the maps of ids could not be written", remedy)

    def dismiss(self) -> None:
        """End the child."""
        os.close(self._ask)
        os.close(self._answer)
        os.waitpid(self.pid, 0)


def _serve(maps: _Maps, parent: int, ask: int, answer: int) -> None:
    """The child's life: wait for the word, write, answer, end; nothing of the parent's runs in it."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.read(ask, 1):
            try:
                maps.write(parent)
                os.write(answer, b"done")
            except MapsRefused as refused:
                os.write(answer, f"{refused}\0{refused.remedy}".encode())
            except OSError as error:
                os.write(answer, f"the map of ids cannot be written: {error.strerror}\0".encode())
    finally:
        os._exit(0)


def _may_map() -> bool:
    effective = libc.capabilities()[0]
    return bool(effective & _CAP_SETUID and effective & _CAP_SETGID)


def _write_single(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _try_in_child() -> None:
    """Raise SandboxError where a user namespace can be had, but not used: one cannot be left again.

    AppArmor of some systems takes all rights away in it, and /proc may be read-only.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _use_namespace()
            status = 0
        except OSError as error:
            status = error.errno or 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        number = status if status > 0 else errno.EPERM
        raise _no_namespaces(OSError(number, os.strerror(number)))


def _use_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
    _write_single(uid, gid)
    _become_root()


def _become_root() -> None:
    """Be root in a namespace that has its maps; mounts made in it stay in it."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    libc.mount("", "/", "", libc.MS_REC | libc.MS_SLAVE)


def _as_error(refused: MapsRefused) -> SandboxError:
    return SandboxError(
        f"no range of ids can be had: {refused}", code="isolation", hint=refused.remedy or None
    )


def _no_namespaces(error: OSError) -> SandboxError:
    """Why unshare(2) refuses a user namespace, as far as it can be told from here."""
    remedy = "see `pybuild doctor`"
    for path, bad, text in _SETTINGS:
        if _read(path) == bad:
            remedy = text
            break
    else:
        if error.errno in (errno.EROFS, errno.ENOENT):
            remedy = "/proc must be mounted, and not read-only"
        elif error.errno in (errno.EPERM, errno.EACCES):
            remedy = _FILTERED if _read_status("Seccomp") == "2" else _FORBIDDEN
    return SandboxError(
        f"the kernel refuses user namespaces ({_reason(error)})", code="isolation", hint=remedy
    )


_FILTERED = (
    "a container's seccomp profile forbids it, most likely: start that container with "
    "--security-opt seccomp=unconfined, or in Kubernetes with seccompProfile: {type: Unconfined}"
)
_FORBIDDEN = "a security module of the kernel, or a chroot around this process, forbids it"
_SETTINGS = (
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "as root: sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "as root: sysctl -w user.max_user_namespaces=15000"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0)


def _read_status(name: str) -> str:
    """A field of /proc/self/status; see proc(5)."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
            rows = (line.partition(":") for line in file)
            return next((value.strip() for field, _, value in rows if field == name), "")
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(64).strip()
    except OSError:
        return ""

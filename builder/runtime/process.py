"""What the step's process is and may do once it is inside its root: limits, identity, filter, command.

The order is the point, and each line says why it stands where it stands. After `become` the process
holds no descriptor of the host but its three streams and the pipe for errors. Knows no builder.
"""

from __future__ import annotations

import errno
import os
import signal
import stat

from builder import libc
from builder.runtime.failure import Failure, because

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

# in the order of linux/capability.h
CAPABILITY_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
)
_BITS = {f"CAP_{name}": 1 << bit for bit, name in enumerate(CAPABILITY_NAMES.split(" "))}

# in the order of asm-generic/resource.h
LIMIT_NAMES = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
)
_LIMITS = {f"RLIMIT_{name}": number for number, name in enumerate(LIMIT_NAMES.split(" "))}


def set_limits(limits: Iterable[Mapping[str, Any]]) -> None:
    """Apply OCI rlimits; one above what this machine grants is a failure that says so."""
    for limit in limits:
        name = limit["type"]
        if name not in _LIMITS:
            raise Failure("limit", 0, f"unknown resource limit {name}")
        try:
            libc.set_limit(_LIMITS[name], limit["soft"], limit["hard"])
        except OSError as error:
            what = f"cannot set the ulimit {name[7:].lower()} to {limit['soft']}:{limit['hard']}"
            raise because("limit", what, error) from error


def reset_signals() -> None:
    """Default dispositions and no blocked signal: ignored ones would survive execve(2).

    The interpreter looked at all when it began, so what it takes for default is.
    """
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(number) != signal.SIG_DFL:
            libc.default_signal(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def become(process: Mapping[str, Any], program: bytes | None) -> None:
    """Take the spec's identity. `program`: the system call filter, or None."""
    user = process["user"]
    _check_ids(user)
    _give_streams(user["uid"], terminal=bool(process.get("terminal")))
    reachable = _prepare(process)
    if program is not None:  # no_new_privs is off, so this needs CAP_SYS_ADMIN, which goes below
        try:
            libc.load_filter(program)
        except OSError as error:
            raise _not_loaded(error) from error
    _switch_user(user, process.get("capabilities", {}))
    _finish(process, reachable=reachable)


def become_recorded(process: Mapping[str, Any], program: bytes | None, supervisor: int) -> None:
    """Take the spec's identity where there is a single id: in the eyes of the supervisor alone.

    This process stays who it is. `supervisor`: the socket that the filter's listener is sent over; from
    then on calls wait for that process, so what is needed has been imported before.
    """
    from builder.runtime.ownership import handover

    _check_ids(process["user"])
    reachable = _prepare(process)
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    try:
        if program is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        root = handover.open_root()
        handover.send(supervisor, libc.load_notifying_filter(program), root)
    except OSError as error:
        raise _not_loaded(error) from error
    _finish(process, reachable=reachable)  # of capabilities, execve(2) leaves root the bounding set


def _prepare(process: Mapping[str, Any]) -> bool:
    """What is done with all rights; whether the working folder is entered already."""
    os.umask(process["user"].get("umask", 0o022))
    reachable = _enter(process["cwd"], may_fail=True)
    if process.get("noNewPrivileges"):
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    _drop_bounding(capability_mask(process.get("capabilities", {}).get("bounding", ())))
    return reachable


def _finish(process: Mapping[str, Any], *, reachable: bool) -> None:
    if not reachable:  # as in runc: root's rights or the user's, whichever opens the folder
        _enter(process["cwd"], may_fail=False)
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of credentials has cleared it


def _not_loaded(error: OSError) -> Failure:
    return because("seccomp", "cannot load the system call filter", error)


def _check_ids(user: Mapping[str, Any]) -> None:
    """An id that the kernel would cut to 32 bits is another user's, maybe root's (CVE-2024-40635)."""
    for number in (user["uid"], user["gid"], *user.get("additionalGids", ())):
        if not 0 <= number < (1 << 32) - 1:
            what = f"cannot become user {user['uid']}:{user['gid']}: {number} is not a user or group id"
            raise Failure("identity", errno.EINVAL, what)


def capability_mask(names: Iterable[str]) -> int:
    """The bits of capabilities like "CAP_CHOWN"."""
    mask = 0
    for name in names:
        if name not in _BITS:
            raise Failure("identity", 0, f"unknown capability {name}")
        mask |= _BITS[name]
    return mask


def _give_streams(uid: int, *, terminal: bool) -> None:
    """Let the user reopen /dev/stdout and /dev/stderr, which are pipes, or a terminal, that root made."""
    if terminal:
        os.fchown(0, uid, -1)
        return
    for stream in (1, 2):
        if stat.S_ISFIFO(os.fstat(stream).st_mode):
            os.fchown(stream, uid, -1)


def _enter(folder: str, *, may_fail: bool) -> bool:
    try:
        _change_to(folder)
    except OSError as error:
        if may_fail and error.errno == errno.EACCES:
            return False
        reason = (error.strerror or "").lower()
        raise Failure(
            "cwd", error.errno or 0, f"cannot enter the working folder {folder}: {reason}"
        ) from error
    if not os.getcwd().startswith("/"):  # "(unreachable)/...": outside the root, through some descriptor
        raise Failure("cwd", errno.EPERM, f"the working folder {folder} lies outside the container")
    return True


def _change_to(folder: str) -> None:
    """Make it where it is missing: it may lie in a mount, a cache for one, that hides the image's."""
    try:
        os.chdir(folder)
    except FileNotFoundError:
        os.makedirs(folder, 0o755, exist_ok=True)
        os.chdir(folder)


def _drop_bounding(keep: int) -> None:
    for bit in range(64):
        if keep >> bit & 1:
            continue
        try:
            libc.prctl(libc.PR_CAPBSET_DROP, bit)
        except OSError as error:
            if error.errno == errno.EINVAL:  # past the last capability of this kernel
                return
            if error.errno == errno.EPERM and not libc.prctl(libc.PR_CAPBSET_READ, bit):
                continue  # it is gone already
            if error.errno == errno.EPERM and libc.prctl(libc.PR_GET_NO_NEW_PRIVS):
                return  # no execve(2) can gain one then: capabilities(7)
            raise because("identity", "cannot drop a capability", error) from error


def _switch_user(user: Mapping[str, Any], capabilities: Mapping[str, Any]) -> None:
    try:
        libc.prctl(libc.PR_SET_KEEPCAPS, 1)
        _set_groups(user)
        os.setresgid(user["gid"], user["gid"], user["gid"])
        os.setresuid(user["uid"], user["uid"], user["uid"])
        libc.prctl(libc.PR_SET_KEEPCAPS, 0)
        _set_capabilities(capabilities)
    except OSError as error:
        what = f"cannot become user {user['uid']}:{user['gid']}"
        raise because("identity", what, error) from error


def _set_groups(user: Mapping[str, Any]) -> None:
    """Root of a container without CAP_SETGID stays in its groups."""
    try:
        os.setgroups(user.get("additionalGids", ()))
    except PermissionError:
        if user["uid"] != os.geteuid():
            raise


def _set_capabilities(capabilities: Mapping[str, Any]) -> None:
    permitted = capability_mask(capabilities.get("permitted", ())) & libc.capabilities()[1]
    effective = capability_mask(capabilities.get("effective", ())) & permitted
    inheritable = capability_mask(capabilities.get("inheritable", ())) & permitted
    ambient = capability_mask(capabilities.get("ambient", ())) & inheritable
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    libc.set_capabilities(effective, permitted, inheritable)
    for bit in range(ambient.bit_length()):
        if ambient >> bit & 1:
            libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_RAISE, bit)


def execute(process: Mapping[str, Any]) -> NoReturn:
    """Run the command in place of this program. Raises Failure at step "exec" if it cannot be run."""
    argv = process["args"]
    env = dict(entry.split("=", 1) for entry in process.get("env", ()) if "=" in entry)
    if not argv or not argv[0]:
        raise Failure("exec", errno.ENOENT, "there is no command to run")
    name = argv[0]
    path = name if "/" in name else _find(name, env.get("PATH", ""))
    try:
        os.execve(path, argv, env)
    except OSError as error:
        raise Failure("exec", error.errno or 0, f"cannot run {name}: {_explain(path, error)}") from error


def _find(name: str, search: str) -> str:
    """The first executable of that name on the path, as execvp(3) finds it; but none by way of the working
    folder, as in runc."""
    refused = ""
    for folder in search.split(":"):
        path = f"{folder or '.'}/{name}"
        if os.access(path, os.X_OK, effective_ids=True) and not os.path.isdir(path):
            if not folder.startswith("/"):
                told = f"cannot run {name}: PATH finds it in a folder that is not absolute ({folder or '.'})"
                raise Failure("exec", errno.EACCES, told)
            return path
        refused = refused or (path if os.path.isfile(path) else "")
    if refused:
        raise Failure("exec", errno.EACCES, f"cannot run {name}: {refused} is not executable")
    raise Failure("exec", errno.ENOENT, f"cannot run {name}: not found in PATH ({search or 'empty'})")


def _explain(path: str, error: OSError) -> str:
    if error.errno == errno.ENOENT and os.path.exists(path):
        return "its interpreter (of the #! line, or the dynamic loader) is not there"
    if error.errno == errno.ENOEXEC:
        return "it has no #! line, or is a program for another platform"
    if error.errno == errno.EACCES and os.path.isdir(path):
        return "it is a folder"
    return (error.strerror or "").lower()

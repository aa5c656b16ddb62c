"""Bindings to Linux system calls that Python does not have, each declared once.

The one idea: a call either does what its name says or raises OSError with the call's name and path, so
no caller looks at return values. Arguments are checked by ctypes; constants stand beside the call that
takes them (their meaning: the man page of that name). Kernel 5.12 has all of these.

It knows nothing of containers, layers or images, imports only ctypes and os (a step's process starts
through it), and holds no state.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

_ARM64 = os.uname().machine == "aarch64"
_LIBC = ctypes.CDLL(None, use_errno=True)
_INT, _UINT, _LONG, _ULONG = ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_ulong
_TEXT, _POINTER = ctypes.c_char_p, ctypes.c_void_p


def _bind(name: str, *arguments: type) -> Callable[..., int]:
    function = _LIBC[name]  # a new object at each indexing, so that argument types are not shared
    function.restype = _INT
    function.argtypes = list(arguments)
    return function


def _bind_number(number: int, *arguments: type) -> Callable[..., int]:
    function = _LIBC["syscall"]
    function.restype = _LONG
    function.argtypes = [_LONG, *arguments]

    def call(*values: object) -> int:
        result: int = function(number, *values)
        return result

    return call


def _check(result: int, call: str, path: str | bytes | None = None) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", path)
    return result


def _bytes(path: str | bytes) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("a path holds a NUL byte")
    return encoded


# --- paths: openat2(2), statfs(2) ------------------------------------------------------------------

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
O_PATH = os.O_PATH

_openat2 = _bind_number(437, _INT, _TEXT, _POINTER, _ULONG)


def openat2(folder: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """A new descriptor (always close-on-exec) of `path` below the open folder; see openat2(2)."""
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        result = _openat2(folder, _bytes(path), ctypes.addressof(how), ctypes.sizeof(how))
        if result == -1 and ctypes.get_errno() == 11:  # EAGAIN: a rename raced a "..": openat2(2) says retry
            continue
        return _check(result, "openat2", path)


OVERLAYFS_MAGIC = 0x794C7630
CGROUP2_MAGIC = 0x63677270
PROC_MAGIC = 0x9FA0

_statfs = _bind("statfs", _TEXT, _POINTER)
_fstatfs = _bind("fstatfs", _INT, _POINTER)


def filesystem_type(path: str) -> int:
    """The magic number of the filesystem that `path` lies on; see statfs(2)."""
    answer = (_LONG * 32)()
    _check(_statfs(_bytes(path), ctypes.addressof(answer)), "statfs", path)
    return int(answer[0]) & 0xFFFFFFFF


def filesystem_type_of(descriptor: int) -> int:
    """The same of an open file."""
    answer = (_LONG * 32)()
    _check(_fstatfs(descriptor, ctypes.addressof(answer)), "fstatfs")
    return int(answer[0]) & 0xFFFFFFFF


# --- namespaces: unshare(2), setns(2) --------------------------------------------------------------

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_unshare = _bind("unshare", _INT)
_setns = _bind("setns", _INT, _INT)
_sethostname = _bind("sethostname", _TEXT, ctypes.c_size_t)


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags` for new ones."""
    _check(_unshare(flags), "unshare")


def setns(namespace: int, kind: int) -> None:
    """Enter the namespace that the descriptor names."""
    _check(_setns(namespace, kind), "setns")


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    encoded = name.encode()
    _check(_sethostname(encoded, len(encoded)), "sethostname")


# --- mounts: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2) -----

MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_NODIRATIME = 0x80

_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CREATE = 0, 1, 6
_CLOEXEC_1 = 1  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
_OPEN_TREE_CLONE = 1
_MOVE_FROM_EMPTY, _MOVE_TO_EMPTY = 0x04, 0x40

_mount = _bind("mount", _TEXT, _TEXT, _TEXT, _ULONG, _TEXT)
_umount2 = _bind("umount2", _TEXT, _INT)
_pivot_root = _bind_number(41 if _ARM64 else 155, _TEXT, _TEXT)
_open_tree = _bind_number(428, _INT, _TEXT, _UINT)
_move_mount = _bind_number(429, _INT, _TEXT, _INT, _TEXT, _UINT)
_fsopen = _bind_number(430, _TEXT, _UINT)
_fsconfig = _bind_number(431, _INT, _UINT, _TEXT, _TEXT, _INT)
_fsmount = _bind_number(432, _INT, _UINT, _UINT)
_mount_setattr = _bind_number(442, _INT, _TEXT, _UINT, _POINTER, _ULONG)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """The old mount(2), for propagation and for kernels whose overlayfs is not fully in the new API."""
    result = _mount(_bytes(source), _bytes(target), kind.encode(), flags, _bytes(data))
    _check(result, f"mount {kind}" if kind else "mount", target)


def umount(target: str, flags: int = 0) -> None:
    """See umount2(2)."""
    _check(_umount2(_bytes(target), flags), "umount2", target)


def pivot_root(new: str, old: str) -> None:
    """See pivot_root(2); (".", ".") is its documented use without a folder for the old root."""
    _check(_pivot_root(_bytes(new), _bytes(old)), "pivot_root", new)


def fsopen(kind: str) -> int:
    """A descriptor to configure a new filesystem with; raises ENODEV for an unknown kind."""
    return _check(_fsopen(kind.encode(), _CLOEXEC_1), f"fsopen {kind}")


def fsconfig_string(configuration: int, key: str, value: str) -> None:
    """Set a parameter (at most 255 bytes)."""
    result = _fsconfig(configuration, _FSCONFIG_SET_STRING, key.encode(), _bytes(value), 0)
    _check(result, f"fsconfig {key}", value)


def fsconfig_flag(configuration: int, key: str) -> None:
    """Set a parameter that has no value."""
    _check(_fsconfig(configuration, _FSCONFIG_SET_FLAG, key.encode(), None, 0), f"fsconfig {key}")


def fsconfig_create(configuration: int) -> None:
    """Make the filesystem as configured; raises with the kernel's own explanation where it left one."""
    if _fsconfig(configuration, _FSCONFIG_CREATE, None, None, 0) == -1:
        number = ctypes.get_errno()
        said = _complaint(configuration)
        raise OSError(number, f"fsconfig create: {said or os.strerror(number)}")


def _complaint(configuration: int) -> str:
    try:
        return os.read(configuration, 1024).decode(errors="replace").strip()
    except OSError:
        return ""


def fsmount(configuration: int, attributes: int = 0) -> int:
    """A detached mount of the filesystem made, as a descriptor of its root."""
    return _check(_fsmount(configuration, _CLOEXEC_1, attributes), "fsmount")


def clone_tree(folder: int, path: str = "", *, recursive: bool = False) -> int:
    """A detached bind mount of `path` below the open folder ("": of the open file or folder itself)."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    flags |= 0 if path else AT_EMPTY_PATH
    return _check(_open_tree(folder, _bytes(path), flags), "open_tree", path or None)


def move_mount(tree: int, target: int) -> None:
    """Attach a detached mount on the file or folder that `target` is a descriptor of."""
    result = _move_mount(tree, b"", target, b"", _MOVE_FROM_EMPTY | _MOVE_TO_EMPTY)
    _check(result, "move_mount")


def mount_setattr(tree: int, attributes: int, *, clear: int = 0, recursive: bool = False) -> None:
    """Set MOUNT_ATTR_* on the mount whose root `tree` is a descriptor of."""
    request = (ctypes.c_uint64 * 4)(attributes, clear, 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    result = _mount_setattr(tree, b"", flags, ctypes.addressof(request), ctypes.sizeof(request))
    _check(result, "mount_setattr")


# --- the process: prctl(2), capset(2), sigaction(2), seccomp(2), close_range(2), prlimit(2), keyctl(2)

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
CLOSE_RANGE_CLOEXEC = 4

_prctl = _bind("prctl", _INT, _ULONG, _ULONG, _ULONG, _ULONG)
_capset = _bind("capset", _POINTER, _POINTER)
_capget = _bind("capget", _POINTER, _POINTER)
_seccomp = _bind_number(277 if _ARM64 else 317, _UINT, _UINT, _POINTER)
_close_range = _bind_number(436, _UINT, _UINT, _UINT)
_prlimit = _bind("prlimit", _INT, _INT, _POINTER, _POINTER)
_keyctl = _bind_number(219 if _ARM64 else 250, _INT, _POINTER)

_CAPABILITY_VERSION_3 = 0x20080522


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    """See prctl(2)."""
    return _check(_prctl(option, argument, second, 0, 0), "prctl")


def set_name(name: str) -> None:
    """Name this process for `ps` (15 bytes)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _check(_prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0), "prctl")


def capabilities() -> tuple[int, int, int]:
    """This process's (effective, permitted, inheritable) sets, as bit masks."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _check(_capget(ctypes.addressof(header), ctypes.addressof(data)), "capget")
    return data[0] | data[3] << 32, data[1] | data[4] << 32, data[2] | data[5] << 32


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Set them; see capset(2)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (effective, permitted, inheritable)
    low, high = [mask & 0xFFFFFFFF for mask in sets], [mask >> 32 for mask in sets]
    data = (ctypes.c_uint32 * 6)(*low, *high)
    _check(_capset(ctypes.addressof(header), ctypes.addressof(data)), "capset")


_rt_sigaction = _bind_number(134 if _ARM64 else 13, _INT, _POINTER, _POINTER, ctypes.c_size_t)
_default_action = (ctypes.c_uint64 * 4)()  # SIG_DFL, no flags, empty mask
_default_address = ctypes.addressof(_default_action)


def default_signal(number: int) -> None:
    """Give a signal its default disposition, also those that the C library keeps for itself."""
    _check(_rt_sigaction(number, _default_address, None, 8), "rt_sigaction")


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", _POINTER))


def load_filter(program: bytes) -> None:
    """Put this process under a seccomp filter: classic BPF, 8 bytes an instruction.

    Without no_new_privs it needs CAP_SYS_ADMIN. Speculation stays as it is (SPEC_ALLOW), as in runc.
    """
    spec_allow = 4
    _load_filter(program, spec_allow)


def load_notifying_filter(program: bytes) -> int:
    """The same for a filter that asks: the listener, see seccomp_unotify(2).

    A call that is asked about is, from Linux 5.19 on, interrupted only by what kills.
    """
    spec_allow, new_listener, wait_killable = 4, 8, 32
    try:
        return _load_filter(program, spec_allow | new_listener | wait_killable)
    except OSError as error:
        if error.errno != 22:  # EINVAL: an older kernel
            raise
    return _load_filter(program, spec_allow | new_listener)


def _load_filter(program: bytes, flags: int) -> int:
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_program = _FilterProgram(len(program) // 8, ctypes.addressof(buffer))
    set_mode_filter = 1
    return _check(_seccomp(set_mode_filter, flags, ctypes.addressof(filter_program)), "seccomp")


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close descriptors (or mark them close-on-exec with CLOSE_RANGE_CLOEXEC)."""
    _check(_close_range(first, last, flags), "close_range")


def set_limit(resource: int, soft: int, hard: int) -> None:
    """Set a resource limit of this process; 2**64 - 1 is "unlimited"."""
    limit = (ctypes.c_uint64 * 2)(soft, hard)
    _check(_prlimit(0, resource, ctypes.addressof(limit), None), "prlimit")


def join_new_keyring() -> None:
    """Leave the session keyring for a new, empty one."""
    join_session_keyring = 1
    _check(_keyctl(join_session_keyring, None), "keyctl")


# --- the loopback device: netdevice(7) -------------------------------------------------------------

_socket = _bind("socket", _INT, _INT, _INT)
_ioctl = _bind("ioctl", _INT, _ULONG, _POINTER)


def raise_loopback() -> None:
    """Switch on `lo` in this network namespace."""
    inet, datagram, get_flags, set_flags, up = 2, 2, 0x8913, 0x8914, 1
    device = _check(_socket(inet, datagram | os.O_CLOEXEC, 0), "socket")
    try:
        request = ctypes.create_string_buffer(b"lo", 40)
        _check(_ioctl(device, get_flags, ctypes.addressof(request)), "ioctl", "lo")
        request[16] = bytes([request[16][0] | up])
        _check(_ioctl(device, set_flags, ctypes.addressof(request)), "ioctl", "lo")
    finally:
        os.close(device)


# --- files: syncfs(2) ------------------------------------------------------------------------------

_syncfs = _bind("syncfs", _INT)


def sync_filesystem(descriptor: int) -> None:
    """Flush the filesystem that the open file lies on; see syncfs(2)."""
    _check(_syncfs(descriptor), "syncfs")


# --- other processes: process_vm_readv(2), pidfd_getfd(2); stat(2) as the kernel writes it ---------

_process_vm_readv = _bind("process_vm_readv", _INT, _POINTER, _ULONG, _POINTER, _ULONG, _ULONG)
_process_vm_writev = _bind("process_vm_writev", _INT, _POINTER, _ULONG, _POINTER, _ULONG, _ULONG)
_pidfd_getfd = _bind_number(438, _INT, _INT, _UINT)
_newfstatat = _bind_number(79 if _ARM64 else 262, _INT, _TEXT, _POINTER, _INT)
_statx = _bind_number(291 if _ARM64 else 332, _INT, _TEXT, _INT, _UINT, _POINTER)


class Exchange:
    """A buffer that memory of other processes and the kernel's structures pass through, made once."""

    SIZE = 1 << 16

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(self.SIZE)
        self._address = ctypes.addressof(self._buffer)
        self._ours = (ctypes.c_uint64 * 2)(self._address, 0)
        self._theirs = (ctypes.c_uint64 * 2)()
        self._vectors = ctypes.addressof(self._ours), ctypes.addressof(self._theirs)

    def read(self, pid: int, address: int, length: int) -> bytes:
        """Memory of a process, at most SIZE bytes; fewer where a page ends and the next cannot be read."""
        ours, theirs = self._vectors
        self._ours[1] = self._theirs[1] = min(length, self.SIZE)
        self._theirs[0] = address
        count = _check(_process_vm_readv(pid, ours, 1, theirs, 1, 0), "process_vm_readv")
        return ctypes.string_at(self._address, count)

    def write(self, pid: int, address: int, content: bytes) -> None:
        """Write to the memory of a process, at most SIZE bytes; raises EFAULT where it may not write."""
        ours, theirs = self._vectors
        ctypes.memmove(self._address, content, len(content))
        self._ours[1] = self._theirs[1] = len(content)
        self._theirs[0] = address
        count = _check(_process_vm_writev(pid, ours, 1, theirs, 1, 0), "process_vm_writev")
        if count < len(content):
            raise OSError(14, "process_vm_writev: Bad address")

    def stat(self, path: bytes, flags: int) -> bytes:
        """`struct stat` of this machine; `flags` as in fstatat(2), `path` from the working folder."""
        _check(_newfstatat(AT_FDCWD, path, self._address, flags), "newfstatat", path)
        return ctypes.string_at(self._address, 144)

    def statx(self, path: bytes, flags: int, mask: int) -> bytes:
        """`struct statx`."""
        _check(_statx(AT_FDCWD, path, flags, mask, self._address), "statx", path)
        return ctypes.string_at(self._address, 256)


def take_descriptor(pidfd: int, number: int) -> int:
    """A duplicate (close-on-exec) of a descriptor of another process; see pidfd_getfd(2)."""
    return _check(_pidfd_getfd(pidfd, number, 0), "pidfd_getfd")

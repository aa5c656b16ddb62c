"""Answers to the calls about who a process is: get*id, set*id, groups, capabilities, and execve.

Handlers take a Call and return its value, or None to let the kernel answer, or raise the OSError that the
process gets. See credentials(7), execve(2), capget(2).

The process's real capabilities stay as they are, whoever it believes to be and whatever it gives up: they
are what lets one id do with the files of the step what all of its users may. So nothing protects emulated
users from one another; the step's outer wall is the kernel's, and the bounding set is part of that.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from builder.runtime.ownership import credentials as rules
from builder.runtime.ownership.layouts import narrow, widen
from builder.runtime.ownership.rules import PR_CAP_AMBIENT, PR_GET_KEEPCAPS, ROOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.runtime.ownership.credentials import Credentials
    from builder.runtime.ownership.lineage import Lineage
    from builder.runtime.ownership.records import Records
    from builder.runtime.ownership.targets import Call, Targets

    Handler = Callable[[Call], int | None]

_S_ISUID, _S_ISGID = 0o4000, 0o2000
_CAPABILITY_WORDS = {0x19980330: 1, 0x20071026: 2, 0x20080522: 2}  # by version of the structure
_AMBIENT_CLEAR_ALL = 4
_CAPABILITIES = 41  # as many as Linux 6.x has
_NO_LIMIT = (1 << 64) - 1

# name -> (its rule, how many ids it takes)
_SETTERS: Mapping[str, tuple[Callable[..., Credentials], int]] = {
    "setuid": (rules.setuid, 1),
    "setgid": (rules.setgid, 1),
    "setreuid": (rules.setreuid, 2),
    "setregid": (rules.setregid, 2),
    "setresuid": (rules.setresuid, 3),
    "setresgid": (rules.setresgid, 3),
}
# name -> index in Credentials
_GETTERS = {"getuid": 0, "geteuid": 1, "getgid": 4, "getegid": 5}


class Identity:
    """Answers for processes of one step."""

    def __init__(self, targets: Targets, lineage: Lineage, records: Records) -> None:
        self._targets = targets
        self.lineage = lineage
        self._records = records

    def handlers(self, *, short: bool = False) -> dict[str, Handler]:
        """By name of the call. `short`: ids have 16 bits, as in the old calls of i386."""
        width, read = (narrow, widen) if short else (_same, _same)
        handlers: dict[str, Handler] = {}
        for name, index in _GETTERS.items():
            handlers[name] = self._getter(index, width)
        for name, (change, count) in _SETTERS.items():
            handlers[name] = self._setter(change, count, read)
        handlers["setfsuid"] = self._fs_setter(rules.setfsuid, 3, read, width)
        handlers["setfsgid"] = self._fs_setter(rules.setfsgid, 7, read, width)
        element = struct.Struct("<H") if short else struct.Struct("<I")
        handlers["getresuid"] = self._three_getter(0, element, width)
        handlers["getresgid"] = self._three_getter(4, element, width)
        handlers["getgroups"] = lambda call: self._get_groups(call, element, width)
        handlers["setgroups"] = lambda call: self._set_groups(call, element)
        return handlers

    def handlers_of_process(self) -> dict[str, Handler]:
        """Those that have nothing to do with the width of ids."""
        return {
            "execve": self.execve,
            "execveat": self.execveat,
            **dict.fromkeys(ROOTS, self.change_root),
            "capget": self.capget,
            "capset": self.capset,
            "prctl": self.prctl,
            "getrlimit": self.getrlimit,
            "setrlimit": self.setrlimit,
            "prlimit64": self.prlimit64,
        }

    def handlers_of_i386(self) -> dict[str, Handler]:
        """Those that i386 has another structure for."""
        return {"getrlimit": self.getrlimit_short, "ugetrlimit": self.getrlimit_short}

    def of(self, call: Call) -> Credentials:
        """The credentials of the calling process."""
        return self.lineage.of(call.pid, call.name)

    # --- ids ---

    def _getter(self, index: int, width: Callable[[int], int]) -> Handler:
        def get(call: Call) -> int:
            return width(self.lineage.of(call.pid, call.name)[index])  # type: ignore[arg-type]

        return get

    def _three_getter(self, first: int, element: struct.Struct, width: Callable[[int], int]) -> Handler:
        def get(call: Call) -> int:
            held = self.of(call)[first : first + 3]
            for address, number in zip(call.args, held, strict=False):
                self._targets.write(call, address, element.pack(width(number)))  # type: ignore[arg-type]
            return 0

        return get

    def _setter(self, change: Callable[..., Credentials], count: int, read: Callable[[int], int]) -> Handler:
        def set_(call: Call) -> int:
            held = self.of(call)
            self._become(
                call, held, change(held, *(read(number & 0xFFFFFFFF) for number in call.args[:count]))
            )
            return 0

        return set_

    def _fs_setter(
        self,
        change: Callable[[Credentials, int], Credentials],
        index: int,
        read: Callable[[int], int],
        width: Callable[[int], int],
    ) -> Handler:
        def set_(call: Call) -> int:
            held = self.of(call)
            self._become(call, held, change(held, read(call.id_at(0))))
            return width(held[index])  # type: ignore[arg-type]

        return set_

    def _become(self, call: Call, before: Credentials, after: Credentials) -> None:
        if after != before:
            self._targets.check(call)
            self.lineage.set(call.pid, after)

    def _get_groups(self, call: Call, element: struct.Struct, width: Callable[[int], int]) -> int:
        groups = self.of(call).groups
        room = call.folder(0)
        if room < 0 or 0 < room < len(groups):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if room:
            self._targets.write(call, call.args[1], b"".join(element.pack(width(group)) for group in groups))
        return len(groups)

    def _set_groups(self, call: Call, element: struct.Struct) -> int:
        held = self.of(call)
        count = call.id_at(0)
        if not held.effective & rules.CAP_SETGID:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if count > rules.MOST_GROUPS:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        content = b"".join(
            self._targets.read(call, call.args[1] + start, min(4096, count * element.size - start))
            for start in range(0, count * element.size, 4096)
        )
        groups = tuple(number for (number,) in element.iter_unpack(content))
        self._become(call, held, rules.setgroups(held, groups))
        return 0

    # --- programs ---

    def execve(self, call: Call) -> None:
        """Note what the process becomes with the program; the kernel executes it."""
        path, follow = self._targets.find(call, call.args[0])
        self._execute(call, path, follow=follow)

    def execveat(self, call: Call) -> None:
        """The same for execveat(2)."""
        path, follow = self._targets.find_at(call, call.folder(0), call.args[1], call.args[4])
        self._execute(call, path, follow=follow)

    def _execute(self, call: Call, path: bytes, *, follow: bool) -> None:
        status = os.stat(path, follow_symlinks=follow)
        held = self.of(call)
        mode, owner, group = 0, 0, 0
        bits = status.st_mode & (_S_ISUID | _S_ISGID)
        if bits and stat.S_ISREG(status.st_mode) and self._counts(call, path):
            record = self._records.of(path, follow=follow)
            mode = status.st_mode
            owner, group = (0, 0) if record is None else (record.uid, record.gid)
        after = rules.executed(held, mode, owner, group)
        if after != held:
            self._targets.check(call)
            self.lineage.expect(call.pid, held, after, (status.st_dev, status.st_ino))

    def _counts(self, call: Call, path: bytes) -> bool:
        """Whether a set-id bit of the file has an effect: not on scripts, nosuid mounts, or if given up."""
        if os.statvfs(path).f_flag & os.ST_NOSUID or self._targets.status(call.name, b"NoNewPrivs") == b"1":
            return False
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(file, 2) != b"#!"
        finally:
            os.close(file)

    def change_root(self, call: Call) -> None:
        """From now on files are looked for in each process's own root."""
        self._targets.rooted = False

    # --- capabilities and limits ---

    def prctl(self, call: Call) -> int:
        """PR_SET_KEEPCAPS, PR_GET_KEEPCAPS and PR_CAP_AMBIENT, see prctl(2)."""
        held = self.of(call)
        if call.id_at(0) == PR_CAP_AMBIENT:
            return self._ambient(call, held, call.args[1], call.args[2])
        if call.id_at(0) == PR_GET_KEEPCAPS:
            return int(held.keeps)
        if call.args[1] > 1:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._become(call, held, held._replace(keeps=bool(call.args[1])))
        return 0

    def _ambient(self, call: Call, held: Credentials, what: int, number: int) -> int:
        bit = 1 << number if number < _CAPABILITIES else 0
        if any(call.args[3:5]) or (not bit if what != _AMBIENT_CLEAR_ALL else number):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        match what:
            case 1:  # PR_CAP_AMBIENT_IS_SET
                return int(bool(held.ambient & bit))
            case 2:  # PR_CAP_AMBIENT_RAISE
                after = rules.raise_ambient(held, bit)
            case 3:  # PR_CAP_AMBIENT_LOWER
                after = held._replace(ambient=held.ambient & ~bit)
            case 4:
                after = held._replace(ambient=0)
            case _:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._become(call, held, after)
        return 0

    def capget(self, call: Call) -> int | None:
        """The process's own; of other processes the kernel tells what they really have."""
        version, pid = struct.unpack("<Ii", self._targets.read(call, call.args[0], 8))
        if version not in _CAPABILITY_WORDS or not call.args[1]:
            return None
        if pid and pid != int(self._targets.status(call.name, b"NSpid").split()[-1]):
            return None
        held = self.of(call)
        sets = held.effective, held.permitted, held.inheritable
        words = [mask >> shift & 0xFFFFFFFF for shift in (0, 32) for mask in sets]
        content = struct.pack("<6I", *words)[: 12 * _CAPABILITY_WORDS[version]]
        self._targets.write(call, call.args[1], content)
        return 0

    def capset(self, call: Call) -> int | None:
        """What is given up here is given up in the eyes of the supervisor alone."""
        (version,) = struct.unpack("<I", self._targets.read(call, call.args[0], 4))
        if version not in _CAPABILITY_WORDS:
            return None
        raw = self._targets.read(call, call.args[1], 12 * _CAPABILITY_WORDS[version])
        low, high = struct.unpack("<3I", raw[:12]), struct.unpack("<3I", raw[12:] or bytes(12))
        sets = [first | second << 32 for first, second in zip(low, high, strict=True)]
        held = self.of(call)
        self._become(call, held, rules.capset(held, *sets))
        return 0

    def getrlimit(self, call: Call) -> int:
        """getrlimit(2) of the limit that carries the credentials: it was never set."""
        self._targets.write(call, call.args[1], struct.pack("<QQ", _NO_LIMIT, _NO_LIMIT))
        return 0

    def getrlimit_short(self, call: Call) -> int:
        """The same for i386."""
        self._targets.write(call, call.args[1], struct.pack("<II", _NO_LIMIT >> 32, _NO_LIMIT >> 32))
        return 0

    def setrlimit(self, call: Call) -> int:
        """It has no effect, as in any kernel of this century."""
        return 0

    def prlimit64(self, call: Call) -> int:
        """Both of it, see prlimit(2)."""
        if call.args[3]:
            self._targets.write(call, call.args[3], struct.pack("<QQ", _NO_LIMIT, _NO_LIMIT))
        return 0


def _same(number: int) -> int:
    return number

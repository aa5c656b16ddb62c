"""Programs of other machines: what this kernel runs them with, and what a sandbox must have for that.

binfmt_misc (Documentation/admin-guide/binfmt-misc.rst) starts an interpreter, as a rule qemu-user, for files
that begin as a handler says. With the flag F the kernel holds the interpreter open since it was registered,
and a sandbox needs nothing; without, the interpreter is looked up in the sandbox's own root, and must be
brought there. Handlers are found by the header that a program of the architecture has, whatever they are
called. Reads only.
"""

from __future__ import annotations

import os
import struct

from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER = "/proc/sys/fs/binfmt_misc"
PACKAGES = "qemu-user-static binfmt-support"
# Architecture in OCI's words -> (bits, byte order, e_machine) of its programs (elf(5), elf.h).
MACHINES = {
    "386": (32, "<", 3),
    "amd64": (64, "<", 62),
    "arm": (32, "<", 40),
    "arm64": (64, "<", 183),
    "armbe": (32, ">", 40),
    "arm64be": (64, ">", 183),
    "loong64": (64, "<", 258),
    "mips": (32, ">", 8),
    "mipsle": (32, "<", 8),
    "mips64": (64, ">", 8),
    "mips64le": (64, "<", 8),
    "ppc": (32, ">", 20),
    "ppc64": (64, ">", 21),
    "ppc64le": (64, "<", 21),
    "riscv64": (64, "<", 243),
    "s390x": (64, ">", 22),
    "sparc64": (64, ">", 43),
}
ELF64, PT_INTERP, MOST_HEADERS = 2, 3, 256
_LARGEST = 1 << 16


class Handler(Value):
    """A handler of binfmt_misc that is enabled. offset, magic, mask: what files must begin like."""

    name: str
    interpreter: str
    flags: str
    offset: int
    magic: bytes
    mask: bytes

    @property
    def is_held(self) -> bool:
        """Whether the kernel holds the interpreter, wherever a program's root is."""
        return "F" in self.flags

    def takes(self, head: bytes) -> bool:
        """Whether a file that begins so is given to it."""
        part = head[self.offset : self.offset + len(self.magic)]
        return len(part) == len(self.magic) and all(
            (byte & mask) == (wanted & mask)
            for byte, wanted, mask in zip(part, self.magic, self.mask, strict=True)
        )


class Emulation(Value):
    """How programs of an architecture run here.

    handlers: those that take them; bring: (path, file) of each interpreter that must be at a path of the
    sandbox, and where it is on this machine; problem: why it will not work, "" where nothing is known
    against it.
    """

    handlers: tuple[Handler, ...] = ()
    bring: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def emulation_of(architecture: str, folder: str = FOLDER) -> Emulation:
    """How programs of a foreign architecture run here."""
    head = program_head(architecture)
    if head is None:
        return Emulation(problem="no emulator is known for it")
    handlers = tuple(handler for handler in read_handlers(folder) if handler.takes(head))
    if not handlers:
        return Emulation(problem="no emulator is registered for it in binfmt_misc")
    problems = [problem for handler in handlers if (problem := _problem(handler))]
    wanted = {h.interpreter: os.path.realpath(h.interpreter) for h in handlers if not h.is_held}
    return Emulation(
        handlers=handlers,
        bring=tuple((path, file) for path, file in wanted.items() if os.path.isfile(file)),
        problem=problems[0] if problems else "",
    )


def program_head(architecture: str) -> bytes | None:
    """How a program of the architecture begins; None for one that is not known."""
    if architecture not in MACHINES:
        return None
    bits, order, machine = MACHINES[architecture]
    head = b"\x7fELF" + bytes((bits // 32, 1 if order == "<" else 2, 1)) + bytes(9)
    return (head + struct.pack(f"{order}HHI", 2, machine, 1)).ljust(64, b"\0")


def emulated_platforms(handlers: Sequence[Handler]) -> list[str]:
    """The platforms whose programs one of the handlers takes, as linux/arm64."""
    heads = {architecture: program_head(architecture) or b"" for architecture in MACHINES}
    return [f"linux/{name}" for name, head in heads.items() if any(one.takes(head) for one in handlers)]


def read_handlers(folder: str = FOLDER) -> list[Handler]:
    """All handlers that are enabled, by magic numbers; none where binfmt_misc cannot be seen."""
    if _read(os.path.join(folder, "status")).strip() != "enabled":
        return []
    names = sorted(set(os.listdir(folder)) - {"register", "status"})
    found = (_handler(name, _read(os.path.join(folder, name))) for name in names)
    return [handler for handler in found if handler is not None]


def _handler(name: str, text: str) -> Handler | None:
    """What the file of a handler says; None for one that is disabled, or goes by the ends of names."""
    lines = text.splitlines()
    fields = {key.rstrip(":"): value for key, _, value in (line.partition(" ") for line in lines)}
    try:
        magic = bytes.fromhex(fields["magic"])
        mask = bytes.fromhex(fields.get("mask", "ff" * len(magic)))
        offset = int(fields.get("offset", "0"))
        interpreter = fields["interpreter"]
    except (KeyError, ValueError):
        return None
    if "enabled" not in lines or len(mask) != len(magic) or not interpreter.startswith("/"):
        return None
    return Handler(name, interpreter, fields.get("flags", ""), offset, magic, mask)


def _problem(handler: Handler) -> str:
    """What is wrong with a handler's interpreter, as far as can be seen from here."""
    path = handler.interpreter
    if not os.path.isfile(path):
        return "" if handler.is_held else f"its emulator {path} is not there"
    if needs_loader(path):
        return f"its emulator {path} is linked dynamically, and a step's root has not what it loads"
    return ""


def needs_loader(path: str) -> bool:
    """Whether a program is one that the kernel starts by another, its loader (PT_INTERP)."""
    try:
        with open(path, "rb") as file:
            return PT_INTERP in list(_segments(file.read(_LARGEST)))
    except (OSError, struct.error, IndexError):
        return False


def _segments(head: bytes) -> Iterator[int]:
    """The types of an ELF program's segments."""
    if head[:4] != b"\x7fELF":
        return
    order = "<" if head[5] == 1 else ">"
    if head[4] == ELF64:
        (start,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
    else:
        (start,) = struct.unpack_from(f"{order}I", head, 28)
        size, count = struct.unpack_from(f"{order}HH", head, 42)
    for number in range(min(count, MOST_HEADERS)):
        yield struct.unpack_from(f"{order}I", head, start + number * size)[0]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST)
    except OSError:
        return ""

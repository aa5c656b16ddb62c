"""What a step can see and do, whole: a probe inside a RUN, and no difference to what is written here.

Asked as root, and on the rungs without root, where every difference is written here, and told in README.md.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from builder.runtime import spec, syscalls
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root
from tests.support.machinecode import program
from tests.support.namespaces import has_user_namespaces
from tests.support.rootless import Rootless

pytestmark = [
    pytest.mark.root,
    needs_root(),
    needs("busybox"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the probe's programs are of x86-64 and i386"),
]

DOCKERFILE = """\
FROM busybox
COPY probe /probe
RUN mkdir -m 777 /out && echo app:x:1000:1000::/home/app:/bin/sh >> /etc/passwd
ENV MASKED="{masked}"
RUN ["/bin/sh", "/probe/look", "/out/root"]
USER app
RUN ["/bin/sh", "/probe/look", "/out/user"]
"""

EPERM, EFAULT, EINVAL, ENOSYS = -1, -14, -22, -38
NEWUSER, X32 = 0x10000000, 0x40000000
# What no step may do, by name and arguments. Some of them no capability guards: the filter alone does.
REFUSED: list[tuple[str, tuple[int, ...]]] = [
    ("mount", (0,) * 5), ("umount2", (0, 0)), ("pivot_root", (0, 0)), ("unshare", (NEWUSER,)),
    ("unshare", (0,)), ("setns", (0, 0)), ("clone", (NEWUSER | 17, 0, 0, 0, 0)), ("keyctl", (0, 0)),
    ("add_key", (0,) * 5), ("request_key", (0,) * 4), ("bpf", (0,) * 3), ("perf_event_open", (0,) * 5),
    ("userfaultfd", (0,)), ("open_by_handle_at", (0,) * 3), ("kexec_load", (0,) * 4),
    ("init_module", (0,) * 3), ("finit_module", (0,) * 3), ("delete_module", (0, 0)), ("reboot", (0,) * 3),
    ("swapon", (0, 0)), ("swapoff", (0,)), ("io_uring_setup", (1, 0)), ("io_uring_enter", (0,) * 5),
    ("io_uring_register", (0,) * 4), ("clock_settime", (0, 0)), ("settimeofday", (0, 0)),
    ("fsopen", (0, 0)), ("move_mount", (0,) * 5), ("open_tree", (0,) * 3), ("mount_setattr", (0,) * 5),
    ("acct", (0,)), ("quotactl", (0,) * 4), ("iopl", (3,)), ("ioperm", (0,) * 3), ("syslog", (3, 0, 0)),
    ("lookup_dcookie", (0,) * 3), ("uselib", (0,)), ("ustat", (0, 0)), ("sysfs", (3, 0, 0)),
    ("_sysctl", (0,)), ("move_pages", (0,) * 5), ("migrate_pages", (0,) * 4), ("kcmp", (1, 1, 0, 0, 0)),
    ("process_madvise", (0,) * 5), ("pidfd_getfd", (0,) * 3), ("vhangup", ()),
    ("personality", (0x0400000,)), ("socket", (38, 5, 0)), ("socket", (40, 1, 0)),
]  # fmt: skip
ALLOWED: list[tuple[str, tuple[int, ...], int]] = [
    ("personality", (0xFFFFFFFF,), 0), ("ptrace", (0,) * 4, 0), ("clone3", (0, 0), ENOSYS),
    ("mincore", (1, 0, 0), EINVAL),
]  # fmt: skip
WIDE = [("socket", (38 | 1 << 32, 5, 0))]  # registers that i386 has not
UNKNOWN = 4000
TABLES = {"x86_64": (syscalls.X86_64, 0), "i386": (syscalls.I386, 0), "x32": (syscalls.X32, X32)}

CAPABILITIES = "00000000a80425fb"
CLOSED = "rw,nosuid,nodev,noexec,relatime"
READONLY = "ro,nosuid,nodev,noexec,relatime"
NODE = "node rw,nosuid,relatime"


def nodes(owner: str = "0:0") -> dict[str, str]:
    numbers = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
    return {f"device /dev/{name}": f"character special file 666 {owner} {n}" for name, n in numbers.items()}


BASELINE: dict[str, str] = {
    "pid": "1",
    "process": "1",
    "files": "0:/dev/null 1:pipe 2:pipe",
    "folder": "/",
    "umask": "0022",
    "hostname": "buildkitsandbox",
    "terminal": "not a tty",
    "env HOME": "/root",
    "env PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "status Uid": "0 0 0 0",
    "status Gid": "0 0 0 0",
    "status Groups": "0",
    "status TracerPid": "0",
    "status NSpid": "1",
    "status SigBlk": "0" * 16,
    "status CapInh": "0" * 16,
    "status CapPrm": CAPABILITIES,
    "status CapEff": CAPABILITIES,
    "status CapBnd": CAPABILITIES,
    "status CapAmb": "0" * 16,
    "status NoNewPrivs": "0",
    "status Seccomp": "2",
    "status Seccomp_filters": "1",
    **{f"namespace {kind}": "new" for kind in ("mnt", "pid", "ipc", "uts", "cgroup")},
    **{f"namespace {kind}": "the builder's" for kind in ("net", "user", "time")},
    "limits": "the builder's",
    "mount /": "overlay rw,nodev,relatime",
    "mount /proc": f"proc {CLOSED}",
    "mount /dev": "tmpfs rw,nosuid,nodev size=65536k,mode=755",
    "mount /dev/pts": "devpts rw,nosuid,noexec,relatime gid=5,mode=620,ptmxmode=666",
    "mount /dev/shm": f"tmpfs {CLOSED} size=65536k",
    "mount /dev/mqueue": f"mqueue {CLOSED}",
    "mount /sys": f"sysfs {READONLY}",
    "mount /sys/fs/cgroup": f"cgroup {READONLY}",
    "mount /etc/hosts": f"file {READONLY}",
    "mount /etc/resolv.conf": f"file {READONLY}",
    **{f"mount /dev/{name}": NODE for name in ("null", "zero", "full", "random", "urandom", "tty")},
    **nodes(),
    "device /dev/fd": "-> /proc/self/fd",
    "device /dev/stdin": "-> /proc/self/fd/0",
    "device /dev/stdout": "-> /proc/self/fd/1",
    "device /dev/stderr": "-> /proc/self/fd/2",
    "device /dev/ptmx": "-> pts/ptmx",
    "device /dev/pts": "directory 755 0:0 0:0",
    "device /dev/shm": "directory 1777 0:0 0:0",
    "device /dev/mqueue": "directory 1777 0:0 0:0",
    "device /dev/pts/ptmx": "character special file 666 0:0 5:2",
    "opens": "null zero full random urandom",
    "made": "/made /dev/made /dev/shm/made",
    **{f"masked {path}": "closed" for path in spec.MASKED_PATHS},
    **{f"mask {path}": "read-only" for path in spec.READONLY_PATHS},
    "writes": "/proc/self/oom_score_adj",
    "label current": "the builder's",
    "oom": "the builder's",
    "keys": "",
    "hosts": "127.0.0.1 localhost buildkitsandbox|::1 localhost ip6-localhost ip6-loopback|",
    "resolv": "the builder's",
    "calls": "",
    "calls32": "",
}
FOR_USERS = {
    "env HOME": "/home/app",
    "status Uid": "1000 1000 1000 1000",
    "status Gid": "1000 1000 1000 1000",
    "status Groups": "1000",
    "status CapPrm": "0" * 16,
    "status CapEff": "0" * 16,
    "made": "",
}
# A user namespace, and what the kernel does not grant its root: nodes are the machine's own, and no new
# ones can be made.
OF_USER_NAMESPACES = {"namespace user": "new", **nodes("65534:65534")}
WITHOUT_ROOT = {
    "userns": OF_USER_NAMESPACES | {"made": ""},
    "single-uid": OF_USER_NAMESPACES
    | {
        "mount /dev/pts": "devpts rw,nosuid,noexec,relatime mode=620,ptmxmode=666",  # there is no group 5
        "status Groups": "",  # setgroups is denied; the supervisor answers getgroups
        # new nodes are files, whose kind is recorded
        "opens": "null zero full random urandom /made /dev/made /dev/shm/made",
    },
}
# To the kernel the users of a step are its root; the supervisor tells them apart.
USERS_WITHOUT_ROOT = {
    "userns": {},
    "single-uid": {
        "status Uid": "0 0 0 0",
        "status Gid": "0 0 0 0",
        "status CapPrm": CAPABILITIES,
        "status CapEff": CAPABILITIES,
        "opens": BASELINE["opens"],
    },
}


@pytest.fixture
def probe(tmp_path: Path, busybox_layout: Path) -> Iterator[Path]:
    """A context with the probe, that everybody may read."""
    folder = Path(tempfile.mkdtemp(prefix="probe-"))
    folder.chmod(0o755)
    context = folder / "context"
    (context / "probe").mkdir(parents=True)
    shutil.copyfile(CHECKOUT / "tests/support/look.sh", context / "probe/look")
    for name, machine in (("calls64", "x86_64"), ("calls32", "i386")):
        calls = [(number, arguments) for _, number, arguments, _ in calls_of(machine)]
        (context / "probe" / name).write_bytes(program(machine, calls))
        (context / "probe" / name).chmod(0o755)
    (context / "Dockerfile").write_text(DOCKERFILE.format(masked=" ".join(spec.MASKED_PATHS)))
    shutil.copytree(busybox_layout, folder / "busybox")
    yield folder
    shutil.rmtree(folder)


def calls_of(machine: str) -> list[tuple[str, int, tuple[int, ...], int]]:
    """(name, number, arguments, what must come of it) of a program's calls, those of x32 among x86-64's."""
    found = [("newer than known", UNKNOWN, (), ENOSYS)]
    for arch in ("x86_64", "x32") if machine == "x86_64" else ("i386",):
        table, offset = TABLES[arch]
        rows = [(name, arguments, EPERM) for name, arguments in REFUSED]
        rows += [(name, arguments, EPERM) for name, arguments in (WIDE if machine == "x86_64" else ())]
        rows += ALLOWED if not offset else []
        found += [
            (f"{arch} {name}", table[name] + offset, arguments, answer)
            for name, arguments, answer in rows
            if name in table
        ]
    return found


def build(folder: Path, *flags: str) -> list[str]:
    context = folder / "context"
    named = f"busybox=oci-layout://{folder / 'busybox'}:1"
    return ["build", "--progress=plain", "--no-cache", "--build-context", named, *flags, str(context)]


def seen(text: str) -> dict[str, str]:
    """What the probe wrote, without what is another on every machine or in every run."""
    found: dict[str, str] = {"limits": "the builder's"}
    mounts: list[str] = []
    groups: list[tuple[int, int]] = []  # where a range begins: (outside, inside)
    own = {
        line[:26].strip(): line[26:].split() for line in Path("/proc/self/limits").read_text().splitlines()
    }
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "env":
            variable, _, value = value.partition("=")
            if variable not in ("MASKED", "PWD", "SHLVL"):
                found[f"env {variable}"] = value
        elif name == "status":
            field, _, value = value.partition(":")
            if f"status {field}" in BASELINE:
                found[f"status {field}"] = " ".join(value.split())
        elif name == "namespace":
            kind, identity = value.split()
            same = identity == os.readlink(f"/proc/self/ns/{kind}")
            found[f"namespace {kind}"] = "the builder's" if same else "new"
        elif name == "limit":
            if own.get(value[:26].strip()) != value[26:].split():
                found["limits"] = value
        elif name == "mount":
            mounts.append(value)
        elif name == "group":
            inside, outside, _ = map(int, value.split())
            groups.append((outside, inside))
        elif name in ("device", "masked", "label"):
            thing, _, value = value.partition(" ")
            found[f"{name} {thing}"] = value.strip()
        elif name in ("opens", "made", "writes"):
            found[name] = f"{found.get(name, '')} {value}".strip()
        elif name in ("calls", "calls32"):
            found[name] = wrong_answers("x86_64" if name == "calls" else "i386", value)
        else:
            found[name] = value.strip()
    for line in reachable(mounts):
        found |= mount_of(line, groups)
    return settled(found)


def reachable(mounts: list[str]) -> list[str]:
    """Those that no other lies over."""
    rows = [line.split() for line in mounts]
    places = {row[0]: row[4] for row in rows}
    over = {row[1]: row[0] for row in rows if places.get(row[1]) == row[4]}
    return [line for line, row in zip(mounts, rows, strict=True) if over.get(row[1], row[0]) == row[0]]


def settled(found: dict[str, str]) -> dict[str, str]:
    """Values that are to be the builder's own."""
    own = {
        "label current": own_label(),
        "oom": Path("/proc/self/oom_score_adj").read_text().strip(),
        "resolv": subprocess.run(
            ["md5sum", "/etc/resolv.conf"], capture_output=True, text=True, check=True
        ).stdout.split()[0] + "  -",
    }  # fmt: skip
    for name, value in own.items():
        if found.get(name) == value.strip():
            found[name] = "the builder's"
    found.pop("label apparmor/current", None)
    found["files"] = re.sub(r"pipe:\[\d+\]", "pipe", found["files"])
    # those of the shell that asks: its script, and the pipe that it reads the answer from
    found["files"] = re.sub(r" (10:/probe/look|3:pipe)\b", "", found["files"])
    for name in ("made", "opens"):
        found.setdefault(name, "")
    for path in spec.READONLY_PATHS:  # one that this kernel has not needs no mount
        mount = found.pop(f"mount {path}", None)
        closed = mount is None or mount.split()[1].startswith("ro,")
        there = os.path.isdir(path) and mount is None
        found[f"mask {path}"] = "read-only" if closed and not there else f"open {mount}"
    return found


def own_label() -> str:
    """What a security module calls this process; "" without one (EINVAL)."""
    try:
        return Path("/proc/self/attr/current").read_text().strip("\0\n")
    except OSError:
        return ""


def mount_of(line: str, groups: list[tuple[int, int]]) -> dict[str, str]:
    """One line of mountinfo(5), which tells groups as the machine numbers them."""
    fields, _, filesystem = line.partition(" - ")
    _, _, _, _, place, options, *_ = fields.split()
    kind, _, settings = filesystem.split()
    if place in spec.MASKED_PATHS:
        return {}  # its being closed is asked for
    start, first = max((row for row in groups if row[0] <= group_of(settings)), default=(0, 0))
    settings = settings.replace(f"gid={group_of(settings)}", f"gid={group_of(settings) - start + first}")
    wanted = [word for word in settings.split(",") if re.match("size|mode|gid=[1-9]|ptmxmode", word)]
    shown = " ".join([kind, options, ",".join(wanted)]).strip()
    if place == "/":
        shown = f"{kind} {options}"
    elif place in ("/etc/hosts", "/etc/resolv.conf"):
        shown = f"file {options}"
    elif place == "/sys/fs/cgroup":
        shown = f"cgroup {options}"
    elif place.startswith("/dev/") and place[5:] in ("null", "zero", "full", "random", "urandom", "tty"):
        shown = f"node {options}"
    return {f"mount {place}": shown}


def group_of(settings: str) -> int:
    found = re.search(r"\bgid=(\d+)", settings)
    return int(found[1]) if found else 0


def wrong_answers(machine: str, text: str) -> str:
    """The calls of the program that got another answer than they must."""
    answers = [int(word) for word in text.split()]
    calls = calls_of(machine)
    if len(answers) != len(calls):
        return f"{len(answers)} answers to {len(calls)} calls"
    pairs = zip(calls, answers, strict=True)
    return ", ".join(f"{name}{args}: {got}" for (name, _, args, wanted), got in pairs if got != wanted)


def differences(wanted: dict[str, str], found: dict[str, str]) -> dict[str, str]:
    """What is another: "-" stands for what is missing."""
    names = sorted({*wanted, *found})
    return {name: found.get(name, "-") for name in names if found.get(name) != wanted.get(name)}


def test_a_step_of_root_sees_the_baseline_and_nothing_else(probe: Path, tmp_path: Path) -> None:
    Pybuild(tmp_path / "store")(*build(probe, "-o", f"type=local,dest={tmp_path / 'out'}"))

    found = {user: seen((tmp_path / "out/out" / user).read_text()) for user in ("root", "user")}

    assert differences(BASELINE, found["root"]) == {}
    assert differences(BASELINE | FOR_USERS, found["user"]) == {}


@needs("unshare", "setpriv", "newuidmap")
@pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")
@pytest.mark.parametrize("rung", ["userns", "single-uid"])
def test_without_root_a_step_differs_where_it_is_written(probe: Path, rung: str) -> None:
    with closing(Rootless()) as user:
        out = user.home / "out"
        user.run(*build(probe, "--isolation", rung, "-o", f"type=local,dest={out}"))
        found = {name: seen((out / "out" / name).read_text()) for name in ("root", "user")}

    assert differences(BASELINE | WITHOUT_ROOT[rung], found["root"]) == {}
    written = BASELINE | FOR_USERS | WITHOUT_ROOT[rung] | USERS_WITHOUT_ROOT[rung] | {"made": ""}
    assert differences(written, found["user"]) == {}


# What a step of root sees by another runtime.
BY_RUNTIME: dict[str, dict[str, str]] = {
    "runc": {},
    # libseccomp answers calls that it does not know as it answers forbidden ones
    "crun": dict.fromkeys(("calls", "calls32"), "newer than known(): -1"),
}
USERS_BY_RUNTIME = {"runc": {}, "crun": {"device /dev/null": "character special file 666 1000:1000 1:3"}}


@pytest.mark.parametrize("runtime", [pytest.param(name, marks=needs(name)) for name in BY_RUNTIME])
def test_by_another_runtime_a_step_differs_where_it_is_written(
    probe: Path, tmp_path: Path, runtime: str
) -> None:
    to = ["--runtime", runtime, "-o", f"type=local,dest={tmp_path / 'out'}"]
    Pybuild(tmp_path / "store")(*build(probe, *to))

    found = {user: seen((tmp_path / "out/out" / user).read_text()) for user in ("root", "user")}

    assert differences(BASELINE | BY_RUNTIME[runtime], found["root"]) == {}
    written = BASELINE | FOR_USERS | BY_RUNTIME[runtime] | USERS_BY_RUNTIME[runtime]
    assert differences(written, found["user"]) == {}

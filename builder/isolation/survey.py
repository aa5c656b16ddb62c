"""What works on this machine, by trying it: each rung in a child of its own, which leaves nothing behind.

`survey` is asked by a person (`pybuild doctor`) or a script, never by a build, which takes the first rung
that works (`choose`). A finding that says no says why, and which command or setting would change it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

from builder.errors import SandboxError
from builder.isolation.choose import check_chroot, stand
from builder.isolation.emulators import PACKAGES, emulated_platforms, read_handlers
from builder.isolation.rungs import RUNGS, Isolation, Weakening, about, weakenings
from builder.runtime.foreign.choice import find_installed
from builder.runtime.probe import probe
from builder.value import Value

_LONGEST = 1 << 16


class Finding(Value):
    """One thing that may work here. remedy: the command or setting that would make it work, or ""."""

    name: str
    works: bool
    detail: str = ""
    remedy: str = ""


class Survey(Value):
    """What was found. rung: the one that builds take here, "" for none; weaker: what it lacks."""

    rung: str
    weaker: tuple[Weakening, ...]
    rungs: tuple[Finding, ...]
    further: tuple[Finding, ...]


def survey(store: str) -> Survey:
    """Try all rungs. `store`: the store's folder, on whose file system layers would lie."""
    tried = {rung: _in_child(partial(_try_rung, rung, store)) for rung in RUNGS}
    rung = next((rung for rung, found in tried.items() if found["works"]), "")
    weaker: tuple[Weakening, ...] = ()
    if rung:
        weaker = weakenings(Isolation(**tried[rung]["isolation"]))
    rows = tuple(Finding(name, row["works"], row["detail"], row["remedy"]) for name, row in tried.items())
    return Survey(rung, weaker, rows, (_find_chroot(store), *(check() for check in _FURTHER)))


def to_json(found: Survey) -> dict[str, Any]:
    """The survey as plain data: {"rung", "weaker": [...], "rungs": [...], "further": [...]}."""
    return {
        "rung": found.rung,
        "weaker": [dict(vars(row)) for row in found.weaker],
        "rungs": [dict(vars(row)) for row in found.rungs],
        "further": [dict(vars(row)) for row in found.further],
    }


def _try_rung(rung: str, store: str) -> dict[str, Any]:
    """Get onto a rung, and see what a step would meet there."""
    try:
        standing = stand(rung, store)
    except SandboxError as error:
        return _row(rung, works=False, detail=error.message, remedy=error.hint or "")
    refused = probe()
    if refused is not None:
        return _row(rung, works=False, detail=refused.message, remedy=refused.hint or "")
    isolation = standing.isolation
    return _row(rung, works=True, detail=about(rung), isolation=isolation)


def _row(
    rung: str, *, works: bool, detail: str, remedy: str = "", isolation: Isolation | None = None
) -> dict[str, Any]:
    found = dict(vars(isolation or Isolation(rung)))
    return {"works": works, "detail": detail, "remedy": remedy, "isolation": found}


def _in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `work` in a forked process, as what it does cannot be taken back in this one."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            os.write(theirs, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    told = b""
    while len(told) < _LONGEST and (part := os.read(ours, _LONGEST)):
        told += part
    os.close(ours)
    os.waitpid(child, 0)
    if not told:
        return _row("", works=False, detail="the trial broke off")
    row: dict[str, Any] = json.loads(told)
    return row


def _find_chroot(store: str) -> Finding:
    try:
        check_chroot(store)
    except SandboxError as error:
        return Finding("chroot", False, error.message, error.hint or "")
    return Finding("chroot", True, "no isolation; only where it is asked for, with --isolation chroot")


def _find_seccomp() -> Finding:
    works = os.path.exists("/proc/sys/kernel/seccomp/actions_avail")
    return Finding(
        "seccomp",
        works,
        "system calls are filtered" if works else "this kernel filters no system calls",
        "" if works else "a kernel with CONFIG_SECCOMP_FILTER",
    )


def _find_cgroups() -> Finding:
    from builder.isolation.cgroups import FLAGS, MOUNT, REMEDIES, controllers_here

    version, held = controllers_here()
    flags = [flag for name, flag in FLAGS.items() if name in held]
    lacking = [flag for name, flag in FLAGS.items() if name not in held]
    if not version:
        return Finding("cgroups", False, "none are mounted: limits on RUN steps are refused", MOUNT)
    if not flags:
        detail = f"none can be made here (v{version}): {', '.join(lacking)} are refused"
        return Finding("cgroups", False, detail, REMEDIES[version])
    without = f"; not for {', '.join(lacking)}" if lacking else ""
    remedy = REMEDIES[version] if lacking else ""
    return Finding("cgroups", True, f"v{version}, for {', '.join(flags)}{without}", remedy)


def _find_network_helpers() -> Finding:
    names = [name for name in ("pasta", "slirp4netns") if shutil.which(name)]
    if names:
        return Finding("rootless network", True, f"{' and '.join(names)} installed, for --network {names[0]}")
    return Finding(
        "rootless network",
        False,
        "neither pasta nor slirp4netns is installed; steps have the host's network, or none",
        "apt-get install passt",
    )


def _find_security_modules() -> Finding:
    modules = [name for name, path in _MODULES if os.path.isdir(path)]
    return Finding("security modules", bool(modules), ", ".join(modules) or "neither AppArmor nor SELinux")


def _find_runtimes() -> Finding:
    names = list(find_installed())
    return Finding(
        "OCI runtimes", bool(names), f"{', '.join(names)}, for --runtime" if names else "none, none needed"
    )


def _find_emulators() -> Finding:
    names = emulated_platforms(read_handlers())
    if names:
        return Finding("other platforms", True, f"RUN steps for {', '.join(names)} are emulated")
    remedy = f"apt-get install {PACKAGES}"
    return Finding("other platforms", False, "no emulator is registered in binfmt_misc", remedy)


_MODULES = (("AppArmor", "/sys/kernel/security/apparmor"), ("SELinux", "/sys/fs/selinux"))
_FURTHER = (
    _find_seccomp,
    _find_cgroups,
    _find_network_helpers,
    _find_security_modules,
    _find_runtimes,
    _find_emulators,
)

"""Which labels the machine's security modules have for steps: an AppArmor profile, SELinux contexts.

Looked for once a build, and told to nobody: where there is no module, or nothing in it that is meant for
containers, steps run without, as they do in BuildKit. Only root's steps get one. Who is confined already,
as inside of a container, stays under that label: it may not give another.
"""

from __future__ import annotations

import os
import re

from builder.value import Value

# Those that are loaded where containers are run, the machine's own choice for this program first.
PROFILES = ("pybuild-default", "docker-default", "cri-containerd.apparmor.d", "crio-default")
_CONTAINERS_PROFILE = re.compile(r"containers-default-[0-9.]+$")
_LOADED = re.compile(r"(\S+) \(enforce\)")
_LINE = re.compile(r'\s*(\w+)\s*=\s*"?([^"\s]*)"?\s*')


class Labels(Value):
    """apparmor: a profile's name; selinux: the command's context, files: that of its files; or ""."""

    apparmor: str = ""
    selinux: str = ""
    files: str = ""


def detect(machine: str = "/") -> Labels:
    """The labels for steps; `machine` is the folder in which sys, proc and etc are."""
    return Labels(_profile(machine), *_contexts(machine))


def _profile(machine: str) -> str:
    """The profile that is loaded and enforced, where this process itself is under none."""
    if not _read(machine, "sys/module/apparmor/parameters/enabled").startswith("Y"):
        return ""
    own = _read(machine, "proc/self/attr/apparmor/current") or _read(machine, "proc/self/attr/current")
    if own != "unconfined":
        return ""
    text = _read(machine, "sys/kernel/security/apparmor/profiles")
    loaded = [found[1] for line in text.splitlines() if (found := _LOADED.fullmatch(line))]
    known = [name for name in PROFILES if name in loaded]
    return next(iter([*known, *filter(_CONTAINERS_PROFILE.match, loaded)]), "")


def _contexts(machine: str) -> tuple[str, str]:
    """What the machine's policy has for containers (container-selinux's lxc_contexts), without categories:
    steps share caches."""
    if not _read(machine, "sys/fs/selinux/enforce"):
        return "", ""
    kind = _settings(_read(machine, "etc/selinux/config")).get("SELINUXTYPE", "targeted")
    if "/" in kind:
        return "", ""
    given = _settings(_read(machine, f"etc/selinux/{kind}/contexts/lxc_contexts"))
    process, files = given.get("process", ""), given.get("file", "")
    own = _read(machine, "proc/self/attr/current")
    if not process or not files or _type(own) == _type(process):
        return "", ""
    return process, files


def _type(context: str) -> str:
    """The type in user:role:type:level."""
    return ":".join(context.split(":")[2:3])


def _settings(text: str) -> dict[str, str]:
    return {found[1]: found[2] for line in text.splitlines() if (found := _LINE.fullmatch(line))}


def _read(machine: str, path: str) -> str:
    """The text of a small file of the kernel's or of its settings; "" where it cannot be read."""
    try:
        with open(os.path.join(machine, path), encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).strip("\0\n ")
    except OSError:
        return ""

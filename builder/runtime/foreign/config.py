"""From our spec to a plain config.json that any OCI runtime understands. Pure.

What can be mounted before the container is there has been, on the root filesystem that the runtime is given
(`parent`). What needs the container's own namespaces is the runtime's: /proc, terminals, message queues.

Rules for devices and cgroups are left out: the leaf of a step is joined before, with its limits, and no
device can be opened because nothing is mounted so that one could (`nodev`).
See https://github.com/opencontainers/runtime-spec/blob/main/config.md.
"""

from __future__ import annotations

from builder.runtime.process import capability_mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_RUNTIMES_OWN = ("proc", "devpts", "mqueue")
_NETWORK = "network"
_FAMILIES = 64  # more than Linux has kinds of sockets
_LEFT_OUT = ("devices", "resources", "cgroupsPath")


def is_runtimes_own(mount: Mapping[str, Any]) -> bool:
    """Whether a mount is left to the runtime."""
    return mount["type"] in _RUNTIMES_OWN


def network_of(spec: Mapping[str, Any]) -> str | None:
    """The step's network: None for the one that is here, "" for a new one, else the path of its namespace.

    It is entered before, and the container has the runtime's.
    """
    for namespace in spec["linux"]["namespaces"]:
        if namespace["type"] == _NETWORK:
            return str(namespace.get("path") or "")
    return None


def plain_config(spec: Mapping[str, Any], root: str, held: int) -> dict[str, Any]:
    """config.json for a root filesystem on which all else is mounted already.

    root: its absolute path; held: the capabilities of this process, as bits: a runtime fails where it should
    give others. That /dev is a bind, of itself, keeps runtimes from filling it.
    """
    command = dict(spec["process"])
    command["capabilities"] = {
        name: [one for one in names if capability_mask([one]) & held]
        for name, names in command.get("capabilities", {}).items()
    }
    dev = {"destination": "/dev", "type": "bind", "source": f"{root}/dev", "options": ["rbind", "nosuid"]}
    return {
        "ociVersion": spec["ociVersion"],
        "process": command,
        "root": {"path": root},
        "hostname": spec.get("hostname", ""),
        "mounts": [dev, *(mount for mount in spec.get("mounts", ()) if is_runtimes_own(mount))],
        "linux": _plain_linux(spec["linux"]),
    }


def _plain_linux(linux: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in linux.items() if name not in _LEFT_OUT}
    plain["namespaces"] = [one for one in linux["namespaces"] if one["type"] != _NETWORK]
    if section := linux.get("seccomp"):
        rules = [narrow for rule in section["syscalls"] for narrow in _narrowed(rule)]
        plain["seccomp"] = {**section, "syscalls": rules}
    return plain


def _narrowed(rule: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """libseccomp compares whole registers, and the kernel takes a socket's family from the lower half: so
    socket(AF_ALG | 1 << 32) would be "above 40". The families that may be there are named instead."""
    match rule:
        case {"names": ["socket"], "args": [{"index": 0, "op": "SCMP_CMP_GT", "value": last}]}:
            argument = {"index": 0, "op": "SCMP_CMP_EQ"}
            return [{**rule, "args": [{**argument, "value": n}]} for n in range(last + 1, _FAMILIES)]
    return [rule]

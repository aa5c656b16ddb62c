"""RuntimeSpec: the subset of the OCI runtime-spec's config.json that we write, and the default sandbox.

The one idea: a step's sandbox is plain data, decided here by a pure function and carried out elsewhere
(by `init`, or by any OCI runtime once the root filesystem is mounted). `encode` gives valid config.json.

Three things go beyond the OCI runtime-spec, so that the builder itself never mounts anything:

- the annotation `org.pybuild.rootfs`, JSON {"lower": [bottom first], "upper": DIR, "work": DIR,
  "nodev": BOOL}: `init` mounts that overlay on `root.path` (which is then only a place to mount on);
- mounts of type "overlay" may repeat `lowerdir+=DIR` (top first, as the kernel has it), and "overlay" and
  "bind" may have `x-subpath=PATH`, resolved inside the mounted tree;
- a mount of type "tmpfs" with `x-file=NAME` is one file, whose bytes travel beside the spec, never in it.

It knows no layers, images or Dockerfiles, and does no I/O. Invariant: the bytes of a secret's file are in
no spec, and no spec is written to a disk.
See https://github.com/opencontainers/runtime-spec/blob/main/config.md.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from typing import Any

import msgspec

from builder.errors import BuildError
from builder.runtime.devicenodes import DeviceNode, DeviceRule, device_rules, insecure_devices
from builder.runtime.profile import CAPABILITIES, FURTHER_CAPABILITIES, default_section

ROOTFS_ANNOTATION = "org.pybuild.rootfs"

# containerd's, and so BuildKit's. Docker's daemon masks /proc/interrupts and each processor's
# thermal_throttle besides, against spying on other containers: a mount per processor in every step.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

DEFAULT_SHM_SIZE = 64 << 20
DEFAULT_HOSTNAME = "buildkitsandbox"
UNLIMITED = (1 << 64) - 1

_LIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc"),
    *("rss", "rtprio", "rttime", "sigpending", "stack", "as"),
)


class _Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What all parts of config.json have."""


class User(_Document, frozen=True):
    """Whom the command runs as."""

    uid: int
    gid: int
    umask: int
    additional_gids: tuple[int, ...] = ()


class CapabilitySets(_Document, frozen=True):
    """Names as "CAP_CHOWN"."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(_Document, frozen=True):
    """`type` as "RLIMIT_NOFILE"; UNLIMITED stands for "unlimited"."""

    type: str
    soft: int
    hard: int


class Box(_Document, frozen=True):
    """A terminal's size, in characters."""

    height: int
    width: int


class Process(_Document, frozen=True):
    """The command and who it is. `terminal`: its streams are a new terminal, of `console_size`."""

    user: User
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    capabilities: CapabilitySets
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    terminal: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    console_size: Box | None = None


class Root(_Document, frozen=True):
    """The root filesystem; with ROOTFS_ANNOTATION the folder that it is mounted on."""

    path: str
    readonly: bool = False


class Mount(_Document, frozen=True):
    """One mount; options as in the OCI runtime-spec and above."""

    destination: str
    type: str
    source: str
    options: tuple[str, ...] = ()


class Namespace(_Document, frozen=True):
    """A namespace of this type: a new one, or that at `path`."""

    type: str
    path: str = ""


class Memory(_Document, frozen=True):
    """Bytes; `swap` is memory and swap together, -1 without a limit."""

    limit: int = 0
    swap: int = 0


class Cpu(_Document, frozen=True):
    """`quota` and `period` in microseconds; `cpus` and `mems` as "0-2,4"."""

    shares: int = 0
    quota: int = 0
    period: int = 0
    cpus: str = ""
    mems: str = ""


class Pids(_Document, frozen=True):
    """How many processes and threads there may be."""

    limit: int


class Resources(_Document, frozen=True):
    """Limits for the command's cgroup."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None


class Linux(_Document, frozen=True):
    """What is Linux's own. `seccomp`: a profile resolved for the command's capabilities."""

    namespaces: tuple[Namespace, ...]
    devices: tuple[DeviceNode, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    seccomp: dict[str, Any] | None = None
    mount_label: str = ""


class RuntimeSpec(_Document, frozen=True):
    """A config.json. Built by `sandbox_spec`; `encode` makes the bytes."""

    oci_version: str
    process: Process
    root: Root
    hostname: str
    mounts: tuple[Mount, ...]
    linux: Linux
    annotations: dict[str, str] = {}


class Bind(msgspec.Struct, frozen=True, tag="bind"):
    """A file, folder or socket of the host at `target`; with `subpath`, that path inside the folder."""

    target: str
    source: str
    subpath: str = ""
    readonly: bool = True
    options: tuple[str, ...] = ()


class Tmpfs(msgspec.Struct, frozen=True, tag="tmpfs"):
    """Memory at `target`; `size` in bytes, 0 for the kernel's default. Without a mode it has that of the
    folder that it lies on, as with runc, and 1777 where there is none."""

    target: str
    size: int = 0
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    options: tuple[str, ...] = ()


class Overlay(msgspec.Struct, frozen=True, tag="overlay"):
    """A snapshot (folders, bottom first), or the path `subpath` inside it, at `target`.

    Not `readonly`: writes go to `upper` and `work` (the caller's folders, thrown away by the caller), or
    to memory where these are not given.
    """

    target: str
    lower: tuple[str, ...]
    subpath: str = ""
    readonly: bool = True
    upper: str = ""
    work: str = ""


class SecretFile(msgspec.Struct, frozen=True, tag="secret"):
    """A read-only file in memory; its bytes are handed to the runtime beside the spec, under `name`.

    It can be run where `mode` says so.
    """

    target: str
    name: str
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


class HostMount(msgspec.Struct, frozen=True, tag="host"):
    """A mount as another specification has it: `kind` is bind or tmpfs, options as in the runtime-spec."""

    target: str
    kind: str
    source: str
    options: tuple[str, ...] = ()


MountSpec = Bind | Tmpfs | Overlay | SecretFile | HostMount


_KNOWN = msgspec.json.Decoder(Resources)  # before threads decode it; see oci.spec


def encode(spec: RuntimeSpec) -> bytes:
    """config.json. Bytes that are not UTF-8 (surrogate escapes) become JSON escapes."""
    try:
        return msgspec.json.encode(spec)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(spec)).encode()


def decode(document: bytes) -> RuntimeSpec:
    """The spec of such bytes; raises msgspec.ValidationError where it is none."""
    return msgspec.json.decode(document, type=RuntimeSpec)


def sandbox_spec(
    *,
    lower: Sequence[str],
    upper: str,
    work: str,
    argv: Sequence[str],
    env: Sequence[tuple[str, str]],
    cwd: str,
    uid: int = 0,
    gid: int = 0,
    groups: Sequence[int] = (),
    mounts: Sequence[MountSpec] = (),
    devices: Sequence[DeviceNode] = (),
    network: str = "host",
    insecure: bool = False,
    hostname: str = "",
    rlimits: Sequence[Rlimit] = (),
    shm_size: int = 0,
    readonly_root: bool = False,
    masked_paths: Sequence[str] = MASKED_PATHS,
    readonly_paths: Sequence[str] = READONLY_PATHS,
    no_new_privileges: bool = False,
    machine: str = "",
) -> RuntimeSpec:
    """The sandbox of one RUN.

    `lower`: absolute folders of the layers, bottom first (none: an empty root); `upper`: the folder that
    gets the changes; `work`: an empty folder beside it. `mounts` are laid in the order given, after the
    sandbox's own; of `devices` each can be opened at its path. `network` is "host" or "none". `insecure`:
    every capability of the builder's for any user, no seccomp filter, no masked paths, all devices open.
    """
    _check_paths(lower, upper, work, cwd)
    seccomp = None if insecure else default_section(CAPABILITIES, machine or platform.machine())
    process = Process(
        user=User(uid=uid, gid=gid, umask=0o022, additional_gids=tuple(groups)),
        args=tuple(argv),
        env=tuple(f"{name}={value}" for name, value in env),
        cwd=cwd,
        capabilities=_capabilities(insecure),
        rlimits=tuple(rlimits),
        no_new_privileges=no_new_privileges,
    )
    rootfs = {"lower": list(lower), "upper": upper, "work": work, "nodev": not insecure}
    return RuntimeSpec(
        oci_version="1.0.2",
        process=process,
        root=Root(path=upper, readonly=readonly_root),
        hostname=hostname or DEFAULT_HOSTNAME,
        mounts=(*_own_mounts(shm_size or DEFAULT_SHM_SIZE, insecure), *_laid(mounts, insecure)),
        linux=Linux(
            namespaces=_namespaces(network),
            devices=tuple(devices),
            masked_paths=() if insecure else tuple(masked_paths),
            readonly_paths=() if insecure else tuple(readonly_paths),
            resources=None if insecure else Resources(devices=device_rules(devices)),
            seccomp=seccomp,
        ),
        annotations={ROOTFS_ANNOTATION: json.dumps(rootfs)},
    )


def with_insecure_devices(spec: RuntimeSpec, loops: int) -> RuntimeSpec:
    """The spec of an insecure step, with the devices that such a step has besides those asked for."""
    own = {device.path for device in spec.linux.devices}
    more = tuple(device for device in insecure_devices(loops) if device.path not in own)
    linux = msgspec.structs.replace(spec.linux, devices=(*spec.linux.devices, *more))
    return msgspec.structs.replace(spec, linux=linux)


def is_insecure(spec: RuntimeSpec) -> bool:
    """Whether the step was granted all rights."""
    return not spec.linux.masked_paths


def with_labels(spec: RuntimeSpec, *, apparmor: str = "", selinux: str = "", files: str = "") -> RuntimeSpec:
    """The spec, with labels of security modules: the command's, and SELinux's for the files made for it."""
    process = msgspec.structs.replace(spec.process, apparmor_profile=apparmor, selinux_label=selinux)
    linux = msgspec.structs.replace(spec.linux, mount_label=files)
    return msgspec.structs.replace(spec, process=process, linux=linux)


def with_outer_proc(spec: RuntimeSpec) -> RuntimeSpec:
    """The spec, with the /proc around it instead of a new one, for where the kernel refuses that."""
    mounts = tuple(
        msgspec.structs.replace(mount, options=(*mount.options, "x-outer")) if mount.type == "proc" else mount
        for mount in spec.mounts
    )
    return msgspec.structs.replace(spec, mounts=mounts)


def with_outer_hostname(spec: RuntimeSpec) -> RuntimeSpec:
    """The spec without a host name, for where the kernel grants none."""
    return msgspec.structs.replace(spec, hostname="")


def resources_of(limits: dict[str, Any]) -> Resources:
    """Such a section from plain data, names as in config.json. Raises msgspec.ValidationError."""
    return msgspec.convert(limits, Resources)


def with_cgroup(spec: RuntimeSpec, path: str, limits: Resources) -> RuntimeSpec:
    """The spec, in a cgroup of its own with these limits; rules for devices stay. `path` as in `cgroups`."""
    resources = spec.linux.resources or Resources()
    resources = msgspec.structs.replace(resources, memory=limits.memory, cpu=limits.cpu, pids=limits.pids)
    linux = msgspec.structs.replace(spec.linux, cgroups_path=path, resources=resources)
    return msgspec.structs.replace(spec, linux=linux)


def with_network(spec: RuntimeSpec, path: str) -> RuntimeSpec:
    """The spec, in the network namespace that the path names."""
    kinds = [namespace for namespace in spec.linux.namespaces if namespace.type != "network"]
    linux = msgspec.structs.replace(spec.linux, namespaces=(*kinds, Namespace(type="network", path=path)))
    return msgspec.structs.replace(spec, linux=linux)


def parse_ulimit(text: str) -> Rlimit:
    """ "nofile=1024:2048" or "nofile=1024"; -1 is unlimited. Raises BuildError for anything else."""
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        numbers = [int(value, 10) for value in (soft, hard or soft)]
    except ValueError:
        numbers = [-2]
    if name not in _LIMITS or min(numbers) < -1:
        raise BuildError(
            f"cannot understand the ulimit {text!r}", code="ulimit", hint="write it as nofile=1024:2048"
        )
    first, last = (UNLIMITED if number == -1 else number for number in numbers)
    if first > last:
        raise BuildError(f"the ulimit {text!r} has a soft limit above its hard limit", code="ulimit")
    return Rlimit(type=f"RLIMIT_{name.upper()}", soft=first, hard=last)


def _capabilities(insecure: bool) -> CapabilitySets:
    """Those of any user: what execve(2) leaves to a plain one is none, but for the ambient ones. Until then
    they are held, so that a program is found and opened with them, as with runc."""
    bounding = CAPABILITIES + FURTHER_CAPABILITIES if insecure else CAPABILITIES
    handed_on = bounding if insecure else ()
    return CapabilitySets(
        bounding=bounding, effective=bounding, permitted=bounding, inheritable=handed_on, ambient=handed_on
    )


def _check_paths(lower: Sequence[str], upper: str, work: str, cwd: str) -> None:
    for path in (*lower, upper, work, cwd):
        if not path.startswith("/"):
            raise ValueError(f"a sandbox needs absolute paths, not {path!r}")


def _namespaces(network: str) -> tuple[Namespace, ...]:
    kinds = ["mount", "pid", "ipc", "uts", "cgroup"]
    if network == "none":
        kinds.append("network")
    elif network != "host":
        raise ValueError(f"unknown network {network!r}")
    return tuple(Namespace(type=kind) for kind in kinds)


def _own_mounts(shm_size: int, insecure: bool) -> tuple[Mount, ...]:
    """What every container has: containerd's defaults, without a tmpfs on /run (as BuildKit)."""
    closed = ("nosuid", "noexec", "nodev")
    access = "rw" if insecure else "ro"
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    own = (
        ("/proc", "proc", "proc", closed),
        ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        ("/dev/pts", "devpts", "devpts", pts),
        ("/dev/shm", "tmpfs", "shm", (*closed, "mode=1777", f"size={shm_size}")),
        ("/dev/mqueue", "mqueue", "mqueue", closed),
        ("/sys", "sysfs", "sysfs", (*closed, access)),
        ("/sys/fs/cgroup", "cgroup", "cgroup", (*closed, "relatime", access)),
    )
    return tuple(Mount(destination=d, type=t, source=s, options=o) for d, t, s, o in own)


def _laid(mounts: Sequence[MountSpec], insecure: bool) -> tuple[Mount, ...]:
    """The caller's mounts. Outside insecure steps no device can be opened through them."""
    devices = () if insecure else ("nodev",)
    return tuple(_mount(mount, devices) for mount in mounts)


def _mount(mount: MountSpec, devices: tuple[str, ...]) -> Mount:
    match mount:
        case Bind():
            options = ["rbind", "ro" if mount.readonly else "rw", *devices, *mount.options]
            kind, source = "bind", mount.source
        case Tmpfs():
            options = [*devices, *mount.options, *_ownership(mount)]
            options += [f"size={mount.size}"] if mount.size else []
            kind = source = "tmpfs"
        case SecretFile():
            run = ["noexec"] if not mount.mode & 0o111 else []
            options = ["ro", "nosuid", *run, "nodev", *_ownership(mount), f"x-file={mount.name}"]
            kind = source = "tmpfs"
        case Overlay():
            options = [*devices, *_overlay(mount)]
            kind = source = "overlay"
        case HostMount():
            options, kind, source = [*mount.options, *devices], mount.kind, mount.source
    if isinstance(mount, Bind | Overlay) and mount.subpath:
        options.append(f"x-subpath={mount.subpath}")
    return Mount(destination=mount.target, type=kind, source=source, options=tuple(options))


def _ownership(mount: Tmpfs | SecretFile) -> list[str]:
    mode = [] if mount.mode is None else [f"mode={mount.mode:o}"]
    return [*mode, f"uid={mount.uid}", f"gid={mount.gid}"]


def _overlay(mount: Overlay) -> list[str]:
    options = ["ro" if mount.readonly else "rw"]
    options += [f"lowerdir+={folder}" for folder in reversed(mount.lower)]
    if mount.upper and not mount.readonly:
        options += [f"upperdir={mount.upper}", f"workdir={mount.work}"]
    return options

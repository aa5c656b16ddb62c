"""What a RUN step finds besides its filesystem: hosts, resolv.conf, variables, mounts in order, limits.

Pure: decides what is to be there; the worker puts it there. Names and addresses follow BuildKit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from builder.errors import BuildError
from builder.ops.exec import BindMount, CacheMount, Exec, Mount, SecretMount, SshMount
from builder.runtime import spec
from builder.snapshots.snapshot import FIFO, SYMLINK
from builder.snapshots.tree import TooManyLinks, Tree

# Always there once a container ran, and kept: the runtime mounts on them (as runc leaves them).
KEPT_MOUNT_POINTS = ("proc", "dev", "sys")
HOSTNAME = "buildkitsandbox"
DEFAULT_NAMESERVERS = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def hosts_file(op: Exec) -> bytes:
    """The text of /etc/hosts (hosts(5)): localhost, the step's own name, and the hosts asked for."""
    name = op.hostname or HOSTNAME
    lines = [f"127.0.0.1\tlocalhost {name}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{host}" for host, address in op.hosts]
    return ("\n".join(lines) + "\n").encode()


def hostname_file(op: Exec) -> bytes:
    """The text of /etc/hostname (hostname(5))."""
    return f"{op.hostname or HOSTNAME}\n".encode()


def resolv_conf(machine: bytes | None, nameserver: str = "") -> bytes:
    """The text of /etc/resolv.conf (resolv.conf(5)): the machine's, as the step shares its network; or that
    of a network of the step's own, whose nameserver passes on what it is asked to the machine's."""
    if nameserver:
        others = (line for line in (machine or b"").splitlines() if not line.startswith(b"nameserver"))
        return b"\n".join([b"nameserver " + nameserver.encode(), *others]) + b"\n"
    return machine if machine is not None else DEFAULT_NAMESERVERS.encode()


def environment(op: Exec, added: Mapping[str, str], home: str) -> list[tuple[str, str]]:
    """All variables of the process, in order; a later one of a name replaces the former.

    Proxy variables, and those added (secrets, and what devices bring) come in here, and only here. HOME is
    the user's where none is set, or an empty one.
    """
    variables = dict(op.env)
    variables.update(op.proxy)
    variables.update(added)
    variables["HOME"] = variables.get("HOME") or home
    return list(variables.items())


def mount_stubs(tree: Tree, targets: Iterable[str]) -> list[str]:
    """The paths that mounting on these targets makes, as they are missing in the tree.

    Parents first. They are no part of the layer unless something was written there.
    """
    stubs: dict[str, None] = {}
    for target in targets:
        try:
            resolved = tree.resolve(target)
        except TooManyLinks:
            continue  # nothing can be mounted there, as the runtime will say
        if resolved == ".":
            continue
        parts = resolved.split("/")
        for length in range(1, len(parts) + 1):
            path = "/".join(parts[:length])
            if tree.get(path) is None and path not in KEPT_MOUNT_POINTS:
                stubs[path] = None
    return list(stubs)


def owners_without_record(tree: Tree) -> dict[str, tuple[int, int]]:
    """Whose those paths are, of others than root, that can hold no record of it (see `fs.ownership`)."""
    return {
        path: (node.entry.uid, node.entry.gid)
        for path, node in tree.nodes.items()
        if node.entry.kind in (SYMLINK, FIFO) and (node.entry.uid or node.entry.gid)
    }


def resolve_source(tree: Tree, mount: BindMount | CacheMount) -> str:
    """The path that a mount shows, symlinks followed; it may be that nothing is there."""
    try:
        return tree.resolve(mount.source)
    except TooManyLinks as error:
        raise BuildError(
            f"too many symbolic links on the way to '{mount.source}'", code="link-loop"
        ) from error


def sorted_by_depth(mounts: Sequence[Mount]) -> list[Mount]:
    """Mounts with shallow targets first, then by their targets, but secrets and agents as written and after
    the others; of two on one target the last one counts."""
    by_target: dict[object, Mount] = {}
    for number, mount in enumerate(mounts):
        target = getattr(mount, "target", None)
        key = target.rstrip("/") if target is not None else number
        by_target.pop(key, None)
        by_target[key] = mount
    return sorted(by_target.values(), key=_place)


def _place(mount: Mount) -> tuple[int, bool, str]:
    target, late = mount.target or "", isinstance(mount, SecretMount | SshMount)
    return target.count("/"), late, "" if late else target


def limits_of(op: Exec, open_files: tuple[int, int] | None) -> list[spec.Rlimit]:
    """The limits asked for; of open files else those that the builder began with."""
    limits = [spec.parse_ulimit(text) for text in op.ulimits]
    if open_files is not None and not any(limit.type == "RLIMIT_NOFILE" for limit in limits):
        soft, hard = (spec.UNLIMITED if number < 0 else number for number in open_files)
        limits.append(spec.Rlimit(type="RLIMIT_NOFILE", soft=soft, hard=hard))
    return limits


def merged_mounts(
    own: Sequence[spec.MountSpec], asked: Sequence[spec.MountSpec], devices: Mapping[str, spec.HostMount]
) -> list[spec.MountSpec]:
    """All mounts in order: a device's replaces who has its target, and lies among what was asked for."""
    if not devices:
        return [*own, *asked]
    targets = {mount.target for mount in devices.values()}
    kept = [mount for mount in asked if mount.target.rstrip("/") not in targets]
    among = sorted([*kept, *devices.values()], key=lambda mount: mount.target.rstrip("/").count("/"))
    return [*(mount for mount in own if mount.target not in targets), *among]

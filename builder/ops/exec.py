"""The exec op: RUN."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

import msgspec

from builder.digest import Digest, of_bytes
from builder.ops.worker import Worker
from builder.snapshots.snapshot import Snapshot


class BindMount(msgspec.Struct, frozen=True, tag="bind"):
    """Path `source` of input number `input`, at `target`; writes (if allowed) are thrown away."""

    input: int
    source: str
    target: str
    readonly: bool = True


class CacheMount(msgspec.Struct, frozen=True, tag="cache"):
    """A folder that outlives the build. `input`: what it starts with (None: an empty folder)."""

    id: str
    target: str
    sharing: str = "shared"
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    input: int | None = None
    source: str = "/"
    readonly: bool = False


class TmpfsMount(msgspec.Struct, frozen=True, tag="tmpfs"):
    """Memory; `size` in bytes, 0 for the kernel's default."""

    target: str
    size: int = 0
    readonly: bool = False


class SecretMount(msgspec.Struct, frozen=True, tag="secret"):
    """A secret as a file at `target` and/or in the variable `env`; its value is in no key."""

    id: str
    target: str | None
    env: str | None = None
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    required: bool = False


class SshMount(msgspec.Struct, frozen=True, tag="ssh"):
    """A forwarded agent socket."""

    id: str
    target: str | None
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    required: bool = False


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


class Device(msgspec.Struct, frozen=True):
    """A device by a name that CDI gives it. `granted`: whoever asked for the build has named it."""

    name: str
    required: bool = False
    granted: bool = False


class Exec(msgspec.Struct, frozen=True, tag=True):
    """RUN on input 0. `env` is the whole environment in order; proxy variables are not part of the key.

    argv is complete (the shell included); cwd is absolute; user as in USER; network is "default",
    "host" or "none"; security "sandbox" or "insecure"; hosts are (name, address), names in lower case;
    ulimits are "name=soft:hard"; shm_size is bytes, 0 for the default.
    """

    limited: ClassVar[bool] = True  # counts against --jobs
    writes: ClassVar[bool] = True

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str = ""
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[str, ...] = ()
    shm_size: int = 0
    hostname: str = ""
    platform: str = ""
    proxy: tuple[tuple[str, str], ...] = ()
    devices: tuple[Device, ...] = ()

    def plain(self) -> list[Any] | None:
        """See graph.op."""
        return [
            "exec", 2, list(self.argv), _digest(self.env), self.cwd, self.user,
            msgspec.to_builtins(self.mounts), self.network, self.security, [list(h) for h in self.hosts],
            list(self.ulimits), self.shm_size, self.hostname, self.platform,
            *([[device.name, device.required] for device in self.devices]),
        ]  # fmt: skip

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.execute(self, inputs[0], tuple(inputs))


def _digest(env: tuple[tuple[str, str], ...]) -> Digest:
    """An environment by a digest: there may be thousands of RUNs, each with thousands of variables.

    No name and no value of one holds a NUL.
    """
    return of_bytes("\0".join(chain.from_iterable(env)).encode("utf-8", "surrogatepass"))

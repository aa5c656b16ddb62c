"""From a step's spec to the spec of the same step where there is only a single id.

Pure. Changed are: the filter, which asks about owners; the capabilities of a command that is not root's,
which stay (see `identity`); and the owners of mounts in memory, which become part of the annotation.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping

import msgspec

from builder.runtime.ownership.handover import ANNOTATION
from builder.runtime.ownership.rules import notifying_section
from builder.runtime.profile import ARCHITECTURES
from builder.runtime.spec import Mount, RuntimeSpec


def with_recorded_owners(spec: RuntimeSpec, machine: str = "") -> RuntimeSpec:
    """The spec, with owners recorded by a supervisor instead of set."""
    owners: dict[str, tuple[int, int]] = {}
    mounts = tuple(_without_owners(mount, owners) for mount in spec.mounts)
    believed = spec.process.capabilities
    all_held = {"effective": believed.bounding, "permitted": believed.bounding}
    held = msgspec.structs.replace(believed, **all_held, inheritable=(), ambient=())
    kept = [mount.destination for mount in spec.mounts if mount.type in ("bind", "overlay")]
    kept_on = believed.permitted if spec.process.user.uid == 0 else believed.ambient  # by execve(2)
    believes = {"capabilities": kept_on, "ambient": believed.ambient}
    told = {"owners": owners, "mounts": kept, **believes}
    architectures = list(ARCHITECTURES[machine or platform.machine()])
    reading = "CAP_DAC_OVERRIDE" not in kept_on
    section = notifying_section(spec.linux.seccomp, architectures, reading=reading)
    return msgspec.structs.replace(
        spec,
        process=msgspec.structs.replace(spec.process, capabilities=held),
        mounts=mounts,
        linux=msgspec.structs.replace(spec.linux, seccomp=section),
        annotations={**spec.annotations, ANNOTATION: json.dumps(told)},
    )


def _without_owners(mount: Mount, owners: dict[str, tuple[int, int]]) -> Mount:
    """The mount without the options uid= and gid=, noted in `owners` where they name others than root."""
    if mount.type != "tmpfs":
        return mount
    told = dict(option.partition("=")[::2] for option in mount.options)
    owner = int(told.get("uid") or 0), int(told.get("gid") or 0)
    if any(owner) or "x-file" in told:  # what is known of a secret guards it (`permissions`)
        owners[mount.destination] = owner
    kept = tuple(option for option in mount.options if not option.startswith(("uid=", "gid=")))
    return msgspec.structs.replace(mount, options=kept)


def table(owners: Mapping[str, tuple[int, int]]) -> bytes:
    """The file TABLE of a step's files: whose symlinks and the like of the layers below are."""
    return json.dumps({path: list(owner) for path, owner in owners.items()}).encode()

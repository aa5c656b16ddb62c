"""What a user can ask for, as frozen data. Made by the CLI (or a caller in Python), read by `build`.

Everything is checked and normalised by who makes it; paths are as typed, relative to the working folder.
On the path of a fully cached build: nothing heavy is imported.
"""

from __future__ import annotations

from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class OutputSpec(Value):
    """One `--output`. type: oci, docker, tar, local, image (the store); dest None: where the type implies.

    dest "-" is standard output. attrs holds the remaining attributes (name, compression,
    compression-level, force-compression, rewrite-timestamp, tar, ...), checked by the exporter.
    """

    type: str
    dest: str | None = None
    attrs: Mapping[str, str] = {}


class SecretSpec(Value):
    """One `--secret`: exactly one of file and env names where its value is."""

    id: str
    file: str | None = None
    env: str | None = None


class StepLimits(Value):
    """What each RUN step may use. 0 and "" are no limit; no key of the cache knows of any.

    memory, memory_swap: bytes (the latter memory and swap together, -1 without a limit); cpu_period,
    cpu_quota: microseconds; cpu_shares: 2 to 262144; cpuset_cpus, cpuset_mems: as "0-2,4"; pids:
    processes and threads; cgroup_parent: where the steps' cgroups are made; timeout: seconds.
    """

    memory: int = 0
    memory_swap: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    cgroup_parent: str = ""
    timeout: float = 0.0


class SshSpec(Value):
    """One `--ssh`: the socket of an agent, or files with private keys."""

    id: str
    paths: tuple[str, ...]


class CacheFrom(Value):
    """One `--cache-from`. type: registry (`ref`, normalised) or local (`src`: an image layout's folder, in
    which `digest`, else `tag` names the cache).

    mounts: the ids of the cache mounts that may be taken from it; mounts_max: bytes of each.
    """

    type: str
    ref: str = ""
    src: str = ""
    tag: str = ""
    digest: str = ""
    mounts: tuple[str, ...] = ()
    mounts_max: int = 0


class CacheTo(Value):
    """One `--cache-to`. type: registry (`ref`, normalised), local (`dest`, `tag`) or inline (in the image).

    mode: min (what the target's layers came of) or max (all steps); compression: gzip, zstd or none, level
    None is its default, force: for layers that have another, too. reset: remove what nothing in the folder
    needs any more. mounts: the ids of cache mounts that go along; mounts_max: bytes of each.
    """

    type: str
    ref: str = ""
    dest: str = ""
    tag: str = ""
    mode: str = "min"
    compression: str = "gzip"
    level: int | None = None
    force: bool = False
    ignore_error: bool = False
    reset: bool = False
    mounts: tuple[str, ...] = ()
    mounts_max: int = 0


class AttestSpec(Value):
    """Which attestations are asked for. sbom: a list of what is in the image; provenance: how it was built.

    mode: min or max; version: v1 or v0.2 of SLSA's predicate; builder_id, reproducible: what it says besides;
    filename: its file in tar and local outputs, where there is none if inline_only. complete_materials: all
    that the build is made of must be known by digest. referrers: attestations refer to images from beside
    (OCI 1.1), and are not in an index with them.
    """

    sbom: bool = False
    provenance: bool = False
    mode: str = "max"
    version: str = "v1"
    builder_id: str = ""
    filename: str = "provenance.json"
    reproducible: bool = False
    inline_only: bool = False
    complete_materials: bool = False
    referrers: bool = False

    @property
    def is_any(self) -> bool:
        """Whether there is anything to be told."""
        return self.sbom or self.provenance


class BuildRequest(Value):
    """One build as asked for.

    context: a folder, an address (see compiler.remotes), or "-" for standard input: an archive or a
    Dockerfile. dockerfile: None is `Dockerfile` in the context, "-" standard input, else a path or a URL; of
    a context that is no folder, a relative path is one in it. build_args map None to "from the
    environment"; of proxies each counts that build_args do not have. contexts: NAME (as docker normalises it)
    -> a folder, an address, `oci-layout://…` or `docker-image://…`.
    platform: `os/architecture[/variant]`, or several with commas between them, "" is the machine's.
    one_as_several: what is made for one platform has the form of what is made for several.
    add_hosts: (name, address).
    shm_size: bytes, 0 is the default. ulimits: "name=soft:hard". allow: entitlements, with those that
    `network` implies. network_helper: the program that connects steps, "" for the host's own network.
    cdi_spec_dirs: folders of CDI specifications, () those of BuildKit. root: the store's
    folder; root_flag: --root as it was given. jobs 0 is the default.
    isolation: one of isolation.rungs.CHOICES; require_isolation: "full" or "". runtime: name or path of an
    OCI runtime that carries steps out, "" for our own. reproducible: files are never newer than
    SOURCE_DATE_EPOCH (or compiler.epoch.DEFAULT), and steps of equal output are equal to those on them.
    sign: the file of the key that signs the image, "" for none.
    annotations: attributes of all outputs that are images. squash: what they have above the base is one
    layer.
    locked: what can be locked must be in the Dockerfile's lock file; unlocked: that has no say, as with pull;
    offline: no connection is opened but by steps. own_epoch: SOURCE_DATE_EPOCH is what build_args have, and
    not what the environment has.
    """

    context: str
    root: str
    dockerfile: str | None = None
    tags: tuple[str, ...] = ()
    build_args: Mapping[str, str | None] = {}
    proxies: Mapping[str, str] = {}
    target: str = ""
    labels: Mapping[str, str] = {}
    contexts: Mapping[str, str] = {}
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    load: bool = False
    push: bool = False
    platform: str = ""
    one_as_several: bool = False
    pull: bool = False
    network: str = "default"
    network_helper: str = ""
    add_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()
    secrets: tuple[SecretSpec, ...] = ()
    ssh: tuple[SshSpec, ...] = ()
    allow: tuple[str, ...] = ()
    cdi_spec_dirs: tuple[str, ...] = ()
    iidfile: str | None = None
    metadata_file: str | None = None
    jobs: int = 0
    hostname: str = ""
    isolation: str = "auto"
    runtime: str = ""
    require_isolation: str = ""
    root_flag: str = ""
    limits: StepLimits = StepLimits()
    cache_from: tuple[CacheFrom, ...] = ()
    cache_to: tuple[CacheTo, ...] = ()
    reproducible: bool = False
    annotations: Mapping[str, str] = {}
    squash: bool = False
    attests: AttestSpec = AttestSpec()
    sign: str = ""
    locked: bool = False
    offline: bool = False
    unlocked: bool = False
    own_epoch: bool = False

    @property
    def platforms(self) -> tuple[str, ...]:
        """What is built for, in the order asked for: at least one, "" being the machine's own."""
        return tuple(self.platform.split(","))

    @property
    def multi_platform(self) -> bool:
        """Whether what is made has the form of what is made for several platforms."""
        return self.one_as_several or len(self.platforms) > 1

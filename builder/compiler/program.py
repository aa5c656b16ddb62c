"""What the compiler is given and what it returns, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from builder.compiler.lock import LockFile
from builder.digest import Digest
from builder.errors import BuildError
from builder.graph.definition import Definition, Vertex
from builder.oci.spec import History, ImageConfig, Platform
from builder.ops.source import Git, Http
from builder.text import Location, Span


class ImageRequest(msgspec.Struct, frozen=True):
    """A base image that the compiler must know before it can go on.

    locator: a normalised reference ("docker.io/library/debian:12"), or "oci-layout://NAME" for the
    named context NAME; location: where the Dockerfile asks for it; hint: what may have been meant, if it is
    not there (a stage with a name much like it). Two that differ in the last two alone are equal.
    """

    locator: str
    platform: Platform
    location: Location | None = None
    hint: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageRequest) and self._asked == other._asked

    def __hash__(self) -> int:
        return hash(self._asked)

    @property
    def _asked(self) -> tuple[str, Platform]:
        return self.locator, self.platform


class BaseImage(msgspec.Struct, frozen=True):
    """What the compiler must know of a base image: its manifest's digest and its config. named: the digest of
    what its name means, the index that it was chosen from, if it was; "" where that is not known."""

    digest: Digest
    config: ImageConfig
    named: str = ""


class NamedContext(msgspec.Struct, frozen=True):
    """`--build-context NAME=VALUE`, by kind: "local" (a folder), "image" (value: a reference), "layout",
    "remote" (value: an address)."""

    kind: str
    value: str


class CompileOptions(msgspec.Struct, frozen=True):
    """All that a compile depends on besides the text and the bases.

    build_platform is the machine's; platform what is built for, platform_given whether somebody asked for
    it (then the image says so whatever its base says), several_platforms whether the build is for others, too
    (then labels tell the platform). no_cache: all vertices; the filter
    names stages. source_date_epoch: from the environment (a build arg of that name wins). entitlements
    are those granted by --allow. shm_size in bytes (0: default); ulimits as "name=soft:hard".
    all_stages: lower those that the target does not need too, to find out what is wrong with them.
    context_is_folder: the build context is a folder of the user's, whose owners do not count;
    reproducible: files are never newer than the time of SOURCE_DATE_EPOCH, which has a default then;
    context_epoch: the time of a context that has one, in seconds; source_times: what is known of the times
    that compiling asked for; lock_file: what addresses are pinned by.
    """

    build_platform: Platform
    platform: Platform
    target: str = ""
    build_args: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    contexts: dict[str, NamedContext] = msgspec.field(default_factory=dict)
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    network: str = "default"
    add_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()
    entitlements: frozenset[str] = frozenset()
    source_date_epoch: int | None = None
    hostname: str = ""
    platform_given: bool = False
    several_platforms: bool = False
    all_stages: bool = False
    context_is_folder: bool = True
    reproducible: bool = False
    context_epoch: int | None = None
    source_times: Mapping[Git | Http, int | None] = msgspec.field(default_factory=dict)
    lock_file: LockFile = LockFile()


class Warning(msgspec.Struct, frozen=True):
    """A finding that does not stop the build; `excerpt` is the text there, a few lines of it."""

    rule: str
    message: str
    span: Span
    excerpt: tuple[str, ...] = ()


class Program(msgspec.Struct, frozen=True):
    """A compiled Dockerfile.

    target is the vertex whose snapshot is the image's filesystem. config is complete but for
    `rootfs` and the times. history (the config's too) has one entry without `empty_layer` per layer of the
    snapshot; entries without `created` are this build's. source_date_epoch in seconds; epoch_fetched: another
    time may stand at its address tomorrow. base_layers, base_entries: how many of the layers, and of the
    history's entries, from the beginning, are those of the image that the target's stage stands on.
    addresses: what is fetched and the Dockerfile does not pin, as it has it, with the place that asks for it.
    """

    definition: Definition
    target: Digest
    config: ImageConfig
    history: tuple[History, ...]
    warnings: tuple[Warning, ...] = ()
    source_date_epoch: int | None = None
    epoch_fetched: bool = False
    base_layers: int = 0
    base_entries: int = 0
    addresses: Mapping[Git | Http, Location | None] = msgspec.field(default_factory=dict)


class Programs(msgspec.Struct, frozen=True):
    """What a build makes: a program for each platform, in the order asked for.

    definition: the vertices of all of them, equal ones once. warnings: each once.
    """

    each: tuple[Program, ...]
    definition: Definition
    warnings: tuple[Warning, ...]

    @property
    def targets(self) -> tuple[Digest, ...]:
        """The vertices whose snapshots are the images' filesystems, one for each program."""
        return tuple(program.target for program in self.each)

    @property
    def source_date_epoch(self) -> int | None:
        """The time of all of them, in seconds."""
        return self.each[0].source_date_epoch

    def reached(self) -> list[Vertex]:
        """What the targets reach, in topological order."""
        return self.definition.reached(*self.targets)


def together(programs: Sequence[Program]) -> Programs:
    """The programs of one Dockerfile for several platforms. Raises BuildError where their times differ."""
    definition = Definition(latest=programs[0].definition.latest)
    for program in programs:
        definition.take(program.definition)
    times = {(program.source_date_epoch, program.definition.latest) for program in programs}
    if len(times) > 1:
        raise BuildError(
            "SOURCE_DATE_EPOCH is not the same for all platforms",
            code="source-date-epoch",
            hint="build them one by one, or give them one with --build-arg SOURCE_DATE_EPOCH=SECONDS",
        )
    return Programs(tuple(programs), definition, united([program.warnings for program in programs]))


def united(found: Iterable[Iterable[Warning]]) -> tuple[Warning, ...]:
    """The findings for several platforms as one row: each as often as one of them has it at most."""
    told: dict[Warning, int] = {}
    row: list[Warning] = []
    for findings in found:
        own: dict[Warning, int] = {}
        for finding in findings:
            own[finding] = own.get(finding, 0) + 1
            if own[finding] > told.get(finding, 0):
                told[finding] = own[finding]
                row.append(finding)
    return tuple(row)


class Missing(msgspec.Struct, frozen=True):
    """The base images to resolve, and the times of what is at addresses, before compiling again."""

    images: tuple[ImageRequest, ...]
    times: tuple[Git | Http, ...] = ()

"""What a user can ask for, as frozen data. Made by the CLI (or a caller in Python), read by `build`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One `--output`. type: oci, docker, tar, local, image (the store); dest None: where the type implies.

    dest "-" is standard output. attrs holds the remaining attributes (name, compression,
    compression-level, force-compression, rewrite-timestamp, tar, ...), checked by the exporter.
    """

    type: str
    dest: str | None = None
    attrs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """One `--secret`: exactly one of file and env names where its value is."""

    id: str
    file: Path | None = None
    env: str | None = None


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build as asked for.

    context: a folder, or "-" for standard input (a Dockerfile, or later a tar). dockerfile: None is
    `Dockerfile` in the context, "-" standard input. build_args map None to "from the environment".
    contexts: NAME -> the value as typed. platform "" is the machine's. jobs 0 is the default.
    """

    context: str
    root: Path
    dockerfile: str | None = None
    tags: tuple[str, ...] = ()
    build_args: dict[str, str | None] = field(default_factory=dict)
    target: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    contexts: dict[str, str] = field(default_factory=dict)
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    load: bool = False
    platform: str = ""
    pull: bool = False
    network: str = "default"
    add_hosts: tuple[str, ...] = ()
    shm_size: str = ""
    ulimits: tuple[str, ...] = ()
    secrets: tuple[SecretSpec, ...] = ()
    allow: tuple[str, ...] = ()
    iidfile: Path | None = None
    metadata_file: Path | None = None
    jobs: int = 0
    hostname: str = ""

"""What a program was made of: base images, files and repositories fetched, and contexts of the user's.

An image is known by the digest of what its name means, as BuildKit has it: an index's, where it is one of
several platforms; a file by its own; a repository by a commit. What is at an address that nobody pinned was
learned while the build ran (`Fetched`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from builder.attest.purl import image_url, layout_url
from builder.attest.redaction import Redactor
from builder.digest import Digest, hex_of, parse
from builder.graph.definition import Vertex
from builder.oci import reference
from builder.ops.exec import Exec, SecretMount, SshMount
from builder.ops.source import Git, Http, Image, Local

LAYOUT = "oci-layout://"

# What was found at the address of a vertex: the digest of a file, or the id of a commit.
Fetched = Mapping[Digest, str]


class Chosen(NamedTuple):
    """What an image was chosen for, and the digest of what its name means: an index, or itself ("")."""

    platform: str = ""
    named: str = ""


# By an image's locator and its digest.
Choices = Mapping[tuple[str, str], Chosen]


class Material(msgspec.Struct, frozen=True):
    """A thing by its address, and its digest by algorithm (none where it is not known)."""

    uri: str
    digest: dict[str, str]


class Materials(msgspec.Struct, frozen=True):
    """All that went into a build. locals: names of contexts; secrets, ssh: id -> whether it may be missing;
    network: whether a step could reach one."""

    dependencies: tuple[Material, ...]
    locals: tuple[str, ...]
    secrets: dict[str, bool]
    ssh: dict[str, bool]
    network: bool

    @property
    def is_complete(self) -> bool:
        """Whether all of it is known by digest: files of the user's are not."""
        return not self.locals and all(material.digest for material in self.dependencies)


def gather(reached: Iterable[Vertex], fetched: Fetched, choices: Choices, redactor: Redactor) -> Materials:
    """The materials of the vertices that a target needs, sorted by kind and address."""
    images: dict[str, Material] = {}
    others: dict[str, Material] = {}
    names: set[str] = set()
    secrets: dict[str, bool] = {}
    ssh: dict[str, bool] = {}
    network = False
    for vertex in reached:
        match vertex.op:
            case Image() as op:
                images.setdefault(*_keyed(_image(op, choices.get((op.locator, op.digest), Chosen()))))
            case Git() as op:
                others.setdefault(*_keyed(_repository(op, fetched.get(vertex.digest, ""), redactor)))
            case Http() as op:
                others.setdefault(*_keyed(_file(op, fetched.get(vertex.digest, ""), redactor)))
            case Local() as op:
                names.add(op.name)
            case Exec() as op:
                network = network or op.network != "none"
                _note_mounts(op, secrets, ssh)
    dependencies = [*(images[uri] for uri in sorted(images)), *(others[uri] for uri in sorted(others))]
    return Materials(tuple(dependencies), tuple(sorted(names)), secrets, ssh, network)


def address_of(op: Git | Http, *, folder: bool = True) -> str:
    """Where something is fetched from: a repository, however it was written, with ref and folder behind a #,
    or without the folder. Credentials are for who shows it to take out."""
    if isinstance(op, Http):
        return op.url
    fragment = op.ref or op.checksum
    if op.subdir and folder:
        fragment += f":{op.subdir}"
    return op.remote + (f"#{fragment}" if fragment else "")


def digest_set(text: str) -> dict[str, str]:
    """A digest, or a commit's id, by its algorithm; {} for none."""
    if text.startswith("sha256:"):
        return {"sha256": text.removeprefix("sha256:")}
    return {"sha256" if len(text) == 64 else "sha1": text} if text else {}


def _keyed(material: Material) -> tuple[str, Material]:
    return material.uri, material


def _image(op: Image, chosen: Chosen) -> Material:
    named = chosen.named or op.digest
    digest = {"sha256": hex_of(parse(named))}
    if op.locator.startswith(LAYOUT):
        return Material(layout_url(op.locator.removeprefix(LAYOUT), named, chosen.platform), digest)
    return Material(image_url(reference.parse(op.locator), chosen.platform), digest)


def _repository(op: Git, commit: str, redactor: Redactor) -> Material:
    return Material(redactor.text(address_of(op, folder=False)), digest_set(op.commit or commit))


def _file(op: Http, digest: str, redactor: Redactor) -> Material:
    return Material(redactor.text(address_of(op)), digest_set(op.checksum or digest))


def _note_mounts(op: Exec, secrets: dict[str, bool], ssh: dict[str, bool]) -> None:
    for mount in op.mounts:
        if isinstance(mount, SecretMount | SshMount):
            known = secrets if isinstance(mount, SecretMount) else ssh
            known[mount.id] = known.get(mount.id, True) and not mount.required

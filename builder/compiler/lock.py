"""A lock file: what the names in a Dockerfile led to when somebody wrote that down. Pure.

`<Dockerfile>.lock` is JSON, sorted, so that the same content is the same bytes:

    {"version": 1,
     "platforms": ["linux/amd64"],                          what was locked for
     "images": {"docker.io/library/debian:12": {"linux/amd64": "sha256:…"}},   a manifest for each platform
     "urls": {"https://host/file": "sha256:…"},             of the bytes
     "git": {"https://host/repo.git#v1": {"commit": "…", "ref": "refs/tags/v1", "tag": "…"}}}

Names are what variables, defaults and named contexts came to. `ref` is the full ref that the name was, and
`tag` the id of the annotated tag on the way to the commit. What a Dockerfile pins itself (a digest, a
checksum, a commit) is not in it, and neither are credentials of addresses. What is pinned by it has the key
that it would have had, had the Dockerfile said so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from builder.compiler.created_by import valid
from builder.compiler.remotes import BAD_REF, redact
from builder.digest import Digest
from builder.errors import BuildError, DockerfileError
from builder.oci.platform import parse as parse_platform
from builder.oci.spec import Platform
from builder.ops.source import COMMIT, Git, Http
from builder.text import Location

VERSION = 1
LAYOUT = "oci-layout://"
MACHINE = ("linux", "amd64", "")  # what a platform may leave out, of which nothing is used here
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
COMMAND = "`pybuild lock` writes it anew"


class Commit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a ref of a git repository led; see the module."""

    commit: str
    ref: str = ""
    tag: str = ""


class Lock(msgspec.Struct, frozen=True):
    """What is locked: images by locator and platform, files by URL, commits by remote and ref."""

    platforms: tuple[str, ...] = ()
    images: Mapping[str, Mapping[str, str]] = {}
    urls: Mapping[str, str] = {}
    git: Mapping[str, Commit] = {}

    def image(self, locator: str, platform: Platform) -> Digest | None:
        """The manifest that an image's name meant for a platform."""
        digest = self.images.get(valid(locator), {}).get(str(platform))
        return Digest(digest) if digest is not None else None

    def address(self, op: Git | Http) -> str | Commit | None:
        """What was at an address: a file's digest, or a commit."""
        return self.urls.get(address_name(op)) if isinstance(op, Http) else self.git.get(address_name(op))

    def entries(self) -> dict[tuple[str, str, str], str]:
        """All of it as (kind, name, platform) -> what people are shown."""
        found = {
            ("image", name, platform): digest
            for name, by_platform in self.images.items()
            for platform, digest in by_platform.items()
        }
        found |= {("url", name, ""): digest for name, digest in self.urls.items()}
        return found | {("git", name, ""): commit.commit for name, commit in self.git.items()}


class Change(NamedTuple):
    """What another lock has instead of `before` ("": nothing). kind: image, url or git."""

    kind: str
    name: str
    platform: str
    before: str
    after: str


class LockFile(msgspec.Struct, frozen=True):
    """The lock that goes with a Dockerfile: its name, and what it holds, None where there is none.

    required: whatever it can have must be in it.
    """

    name: str = ""
    lock: Lock | None = None
    required: bool = False

    def refusal(self, what: str, location: Location | None) -> DockerfileError:
        """The error that something is not in the lock file, though it must be."""
        return DockerfileError(
            f"{what} is not in {self.name}, and --locked was given",
            code="not-locked",
            location=location,
            hint="`pybuild lock` adds it",
        )

    def lacking(self, addresses: Mapping[Git | Http, Location | None]) -> list[tuple[str, Location | None]]:
        """Of these addresses what a lock that is there does not have: what people call it, and its place."""
        lock = self.lock
        if lock is None:
            return []
        return [(address_name(op), at) for op, at in addresses.items() if lock.address(op) is None]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    platforms: tuple[str, ...]
    images: dict[str, dict[str, str]] = {}
    urls: dict[str, str] = {}
    git: dict[str, Commit] = {}


class _Numbered(msgspec.Struct, frozen=True):
    version: int


def parse(text: str, name: str) -> Lock:
    """Read a lock file. Raises BuildError for one that is damaged, or of a later version."""
    try:
        number = msgspec.json.decode(text, type=_Numbered).version
        if number > VERSION:
            raise BuildError(
                f"{name} has version {number}; this pybuild knows up to {VERSION}",
                code="bad-lock",
                hint="use a newer pybuild, or remove the file and run `pybuild lock`",
            )
        document = msgspec.json.decode(text, type=_Document)
        lock = Lock(document.platforms, document.images, document.urls, document.git)
        _check(lock)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        hint = "remove it, and `pybuild lock` writes a new one"
        raise BuildError(f"{name} is no lock file: {error}", code="bad-lock", hint=hint) from error
    return lock


def _check(lock: Lock) -> None:
    """Raise ValueError for what cannot be a platform, or a digest or a commit: these go into names of files
    and to git."""
    for text in lock.platforms:
        parse_platform(text, MACHINE)
    for (kind, name, _), value in lock.entries().items():
        if kind != "git" and not DIGEST.fullmatch(value):
            raise ValueError(f"{value!r} is no digest ({name})")
    for name, found in lock.git.items():
        if not COMMIT.fullmatch(found.commit) or not (found.tag == "" or COMMIT.fullmatch(found.tag)):
            raise ValueError(f"{found.tag or found.commit!r} is no commit ({name})")
        if found.ref and (not found.ref.startswith("refs/") or BAD_REF.search(found.ref)):
            raise ValueError(f"{found.ref!r} is no ref ({name})")


def render(lock: Lock) -> str:
    """The text of a lock file: the same for the same lock."""
    document = _Document(
        VERSION,
        tuple(sorted(set(lock.platforms))),
        {name: dict(sorted(lock.images[name].items())) for name in sorted(lock.images)},
        dict(sorted(lock.urls.items())),
        dict(sorted(lock.git.items())),
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def changes(before: Lock, after: Lock) -> list[Change]:
    """What differs, by kind and name."""
    was, now = before.entries(), after.entries()
    return [
        Change(*key, was.get(key, ""), now.get(key, ""))
        for key in sorted(was.keys() | now.keys(), key=lambda key: (key[0] != "image", key))
        if was.get(key) != now.get(key)
    ]


def merged(before: Lock, after: Lock) -> Lock:
    """The later lock with what only the earlier one has."""
    names = [*before.images, *after.images]
    return Lock(
        (*before.platforms, *after.platforms),
        {name: {**before.images.get(name, {}), **after.images.get(name, {})} for name in names},
        {**before.urls, **after.urls},
        {**before.git, **after.git},
    )


# ── what goes by it ──────────────────────────────────────────────────────────────────────────────────────


def is_lockable(locator: str) -> bool:
    """Whether an image's name may mean another image tomorrow, and not just here."""
    return not locator.startswith(LAYOUT) and "@" not in locator


def address_name(op: Git | Http) -> str:
    """What an address is called in a lock file, and to people."""
    text = op.url if isinstance(op, Http) else f"{op.remote}#{op.ref}".rstrip("#")
    return valid(redact(text))


def is_pinned(op: Git | Http) -> bool:
    """Whether an address says what must be there."""
    return bool(op.checksum) if isinstance(op, Http) else op.commit is not None


def pinned(lock: Lock | None, op: Git | Http) -> Git | Http:
    """The op as the lock has it: of the content that was there; as it is where the lock does not tell.

    Raises ValueError where the Dockerfile says something else of the content.
    """
    found = lock.address(op) if lock is not None and not is_pinned(op) else None
    if isinstance(op, Http):
        return replace(op, checksum=found, locked=True) if isinstance(found, str) else op
    if not isinstance(found, Commit):
        return op
    if not any(name.startswith(op.checksum) for name in (found.commit, found.tag) if name):
        raise ValueError(f"{address_name(op)} is {found.commit} in the lock file, not {op.checksum}")
    return replace(
        op, checksum=found.commit, by_commit=True, found_ref=found.ref, found_tag=found.tag, locked=True
    )


class Addresses(msgspec.Struct):
    """The addresses that a compile came to, each pinned as the lock has it.

    met: those that the Dockerfile does not pin, as it has them, with the place where it asks for each.
    """

    file: LockFile = LockFile()
    met: dict[Git | Http, Location | None] = msgspec.field(default_factory=dict)

    def pin(self, op: Git | Http, location: Location | None) -> Git | Http:
        """What is to be fetched for an address. Raises DockerfileError where the lock does not have it, and
        must, or has something else than the Dockerfile says.
        """
        if is_pinned(op):
            return op
        self.met.setdefault(op, location)
        if self.file.required and (self.file.lock is None or self.file.lock.address(op) is None):
            raise self.file.refusal(address_name(op), location)
        try:
            return pinned(self.file.lock, op)
        except ValueError as error:
            hint = f"{self.file.name} is out of date: {COMMAND}"
            raise DockerfileError(str(error), code="lock-differs", location=location, hint=hint) from error

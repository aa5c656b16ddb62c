"""References: names of images as people type them, normalised as docker does (distribution/reference).

`debian` is docker.io/library/debian:latest, `localhost/x` and `host.tld/x` name a registry, and what is
both tagged and digested means the digest. `familiar` goes the other way: the shortest text that means the
same. Pure, and on the cached path.
"""

from __future__ import annotations

from builder import digest as digests
from builder.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.digest import Digest

DOCKER_HUB = "docker.io"
_HUB_NAMES = (DOCKER_HUB, "index.docker.io")
DEFAULT_TAG = "latest"
MAX_NAME = 255  # of registry and repository together, as docker has it
_MAX_TEXT = MAX_NAME + 1 + 128 + 1 + 80

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(?::[0-9]{{1,5}})?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*"
MAX_TAG = 128


class InvalidReference(ImageError, ValueError):
    """A text that names no image."""

    code = "invalid-reference"


class Reference:
    """A normalised reference; it has a tag or a digest, or both."""

    __slots__ = ("digest", "registry", "repository", "tag")

    def __init__(self, registry: str, repository: str, tag: str | None, digest: Digest | None) -> None:
        self.registry = registry
        self.repository = repository
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What to ask a registry for: the digest where there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def familiar_name(self) -> str:
        """`name` as people write it, but never such that it would be read as another registry's."""
        if self.registry != DOCKER_HUB:
            return self.name
        rest = self.repository.removeprefix("library/")
        if "/" in rest:
            return self.name if _is_registry(self.repository.partition("/")[0]) else self.repository
        return rest

    def familiar(self) -> str:
        """The shortest text that means the same, its tag spelled out: `debian:latest`."""
        return self.familiar_name() + self._suffix()

    def without_digest(self) -> Reference:
        """The tagged name alone (`latest` where there is only a digest)."""
        return Reference(self.registry, self.repository, self.tag or DEFAULT_TAG, None)

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def __str__(self) -> str:
        return self.name + self._suffix()

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse(text: str) -> Reference:
    """The reference that `text` means. Raises InvalidReference (an ImageError and a ValueError)."""
    if not text:
        raise InvalidReference("an image reference is empty")
    if len(text) > _MAX_TEXT:
        raise InvalidReference(f"image reference {_shown(text)} is too long")
    if "://" in text:
        raise InvalidReference(
            f"image reference {_shown(text)} is a URL", hint=f"write {_shown(text.partition('://')[2])}"
        )
    rest, at, digest_text = text.partition("@")
    digest = _parse_digest(text, digest_text) if at else None
    registry, path = _split(rest)
    repository, colon, tag = path.partition(":")
    if not at and len(rest) == 64 and digests.HEX.issuperset(rest):
        raise InvalidReference(
            f"image reference {rest} cannot be 64 hexadecimal digits", hint=f"write NAME@sha256:{rest[:12]}…"
        )
    _check(text, registry, repository)
    if colon and not is_tag(tag):
        raise InvalidReference(
            f"tag {_shown(tag)} of image reference {_shown(text)} is not valid",
            hint="a tag has up to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'",
        )
    if not colon and digest is None:
        return Reference(registry, repository, DEFAULT_TAG, None)
    return Reference(registry, repository, tag if colon else None, digest)


def _split(text: str) -> tuple[str, str]:
    """Registry and the rest."""
    first, slash, rest = text.partition("/")
    registry, path = (first, rest) if slash and _is_registry(first) else (DOCKER_HUB, text)
    if registry in _HUB_NAMES:
        registry = DOCKER_HUB
        if "/" not in path:
            path = "library/" + path
    return registry, path


def _is_registry(first: str) -> bool:
    """Whether the part before the first slash is a registry: docker.io's users have neither dot nor colon."""
    return first == "localhost" or "." in first or ":" in first or first != first.lower()


def _check(text: str, registry: str, repository: str) -> None:
    if len(registry) + 1 + len(repository) > MAX_NAME:
        raise InvalidReference(
            f"image reference {_shown(text)} has a name of more than {MAX_NAME} characters"
        )
    if registry != DOCKER_HUB and not _is_host(registry):
        raise InvalidReference(f"registry {_shown(registry)} of image reference {_shown(text)} is not valid")
    if _is_repository(repository):
        return
    lowered = repository.lower()
    if lowered != repository and _is_repository(lowered):
        typed = repository.removeprefix("library/")
        raise InvalidReference(
            f"image reference {_shown(text)} must be in lower case",
            hint=f"write {text.replace(typed, typed.lower(), 1)}",
        )
    raise InvalidReference(
        f"image reference {_shown(text)} is not valid",
        hint="a name has lower-case letters and digits, with '.', '_', '__' or '-' between them, and '/'",
    )


def is_host(text: str) -> bool:
    """HOST, HOST:PORT, or an IPv6 address in brackets."""
    return len(text) <= MAX_NAME and _matches(_HOST, text)


def is_tag(text: str) -> bool:
    """Letters, digits, `_`, `.` and `-`, not beginning with the last two."""
    plain = text.replace("_", "a").replace(".", "a").replace("-", "a")
    return plain.isascii() and plain.isalnum() and text[0] not in ".-" and len(text) <= MAX_TAG


def _is_host(text: str) -> bool:
    """Labels between dots, or an address in brackets, and maybe a port; names need no `re`."""
    host, colon, port = text.partition(":")
    words = host.replace("-", ".").split(".")
    if all(word.isalnum() and word.isascii() for word in words):
        return not colon or (len(port) < 6 and port.isascii() and port.isdecimal())
    return _matches(_HOST, text)


def _is_repository(text: str) -> bool:
    """Components between slashes; names with a single separator between their words need no `re`."""
    words = text.replace("/", "-").replace(".", "-").replace("_", "-").split("-")
    if all(word.isalnum() and word.isascii() and word == word.lower() for word in words):
        return True
    return _matches(_REPOSITORY, text)


def _matches(pattern: str, text: str) -> bool:
    import re

    return re.fullmatch(pattern, text) is not None


def _parse_digest(text: str, digest: str) -> Digest:
    try:
        return digests.parse(digest)
    except ValueError:
        raise InvalidReference(
            f"digest {_shown(digest)} of image reference {_shown(text)} is not valid",
            hint="only sha256:<64 hexadecimal digits> is known",
        ) from None


def _shown(text: str) -> str:
    """Foreign text, fit for a message: quoted where it is odd, and not endless."""
    shortened = text if len(text) <= 300 else text[:297] + "…"
    return shortened if shortened.isprintable() and " " not in shortened and shortened else repr(shortened)

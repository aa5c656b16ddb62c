"""What an address stands for: a git repository, a file on the web, or neither. Pure text, no look-ups.

    https://host/owner/repo.git#ref:folder       http and https are git where the path ends in .git
    ssh://git@host/repo  git://host/repo  git@host:owner/repo
    https://host/repo.git?branch=dev&subdir=docs the same in a query; see QUERY
    github.com/owner/repo                        only as a context: as a source it is a path
    https://host/file.txt                        anything else on the web is a file

No other protocol is git's here: `file://` and git's remote helpers (`ext::`) would reach into this machine,
and what begins with a dash would be an option to git (CVE-2017-1000117, CVE-2019-13139).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from builder.compiler import paths
from builder.errors import BuildError
from builder.ops.source import COMMIT, Git, Http

if TYPE_CHECKING:
    from urllib.parse import SplitResult

WEB = ("http://", "https://")
GIT_SCHEMES = ("http", "https", "ssh", "git")
SCHEME = re.compile(r"([A-Za-z0-9]+)://")
SCP = re.compile(r"([A-Za-z0-9_-]+)@([A-Za-z0-9.-]+):([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
# git-check-ref-format(1), and what begins as an option would.
BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(?:/|$)|[/.]$|^[-/]|^@$")
HEX = re.compile(r"[0-9a-fA-F]{1,64}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
PATH_MARKS = "/%:@!$&'()*+,;=~-._"
SWITCHES = ("keep-git-dir", "submodules", "fetch-by-commit")
QUERY = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime", *SWITCHES)
TRUTH = {
    **dict.fromkeys(("", "1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
UNNAMED = "__unnamed__"  # a file whose URL has no last name, as the reference calls it
USERINFO = re.compile(r"""\b(https?://)[^/?#\s"'@]*(?:@[^/?#\s"'@]*)*@""", re.IGNORECASE)
PASSWORD = re.compile(r"""\b((?:ssh|git)://[^/?#\s"':@]*):[^/?#\s"']*@""", re.IGNORECASE)


class AddressError(ValueError):
    """An address that means a repository or a file, and cannot be right."""


class Repository(msgspec.Struct, frozen=True):
    """The address of a git repository: how it is fetched.

    keep_git_dir: None where the address does not say. pathlike: it could be a folder's name as well.
    """

    op: Git
    keep_git_dir: bool | None = None
    pathlike: bool = False


def parse_repository(text: str) -> Repository | None:
    """The repository that an address names; None where it names none. Raises AddressError."""
    if text.startswith("github.com/"):
        return replace(_from_url("https://" + text), pathlike=True)
    if scheme := SCHEME.match(text):
        if scheme[1].lower() not in GIT_SCHEMES:
            return None
        is_web = scheme[1].lower() in ("http", "https")
        return None if is_web and not _split(text).path.endswith(".git") else _from_url(text)
    if text.startswith(("./", "../")) or not (scp := SCP.fullmatch(text)):
        return None
    user, host, path, query, fragment = scp.groups(default="")
    if user.startswith("-") or host.startswith("-") or path.startswith("-"):
        raise AddressError(f"{text} has a part that begins with a dash")
    return _repository(f"{user}@{host}:{path}", query, fragment)


def is_remote(text: str) -> bool:
    """Whether a text is an address, be it a wrong one."""
    try:
        return text.startswith(WEB) or parse_repository(text) is not None
    except AddressError:
        return True


def read_source(text: str) -> Repository | Http | None:
    """What a source of ADD or COPY means: None is a path. Raises AddressError."""
    repository = None if text.startswith("github.com/") else parse_repository(text)
    return repository or (read_file(text) if text.startswith(WEB) else None)


def read_file(text: str, filename: str = "") -> Http:
    """A file on the web; called `filename`, else as its URL ends. Raises AddressError."""
    from urllib.parse import unquote

    parts = _split(text)
    last = unquote(parts.path, errors="surrogateescape").rstrip("/").rpartition("/")[2]
    if last in ("", ".", "..") or CONTROL.search(last):
        last = UNNAMED
    return Http(text, filename or last)


def read_context(text: str) -> Git | Http:
    """How a context at an address is fetched; a file is called `context`. Raises BuildError."""
    try:
        repository = parse_repository(text)
        if repository is None:
            return read_file(text, "context")
        return msgspec.structs.replace(repository.op, keep_git_dir=bool(repository.keep_git_dir))
    except AddressError as error:
        raise BuildError(f"context {redact(text)}: {error}", code="bad-address") from error


def redact(text: str) -> str:
    """A text without the credentials of the addresses in it: `https://***@host/`."""
    if "://" not in text:
        return text
    return PASSWORD.sub(r"\1:***@", USERINFO.sub(r"\1***@", text))


def check_commit_prefix(text: str) -> str:
    """The beginning of a commit's id. Raises AddressError."""
    if not HEX.fullmatch(text):
        raise AddressError(f"checksum {text} is not the id of a commit, nor its beginning")
    return text.lower()


def _split(text: str) -> SplitResult:
    """The parts of a URL (RFC 3986) that names a host. Raises AddressError."""
    from urllib.parse import urlsplit

    shown = redact(text)
    if CONTROL.search(text):
        raise AddressError(f"{shown!r} holds control characters")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise AddressError(f"{shown} is not a URL: {error}") from error
    if not host:
        raise AddressError(f"{shown} names no host")
    if host.startswith("-") or (parts.username or "").startswith("-"):
        raise AddressError(f"{shown} has a part that begins with a dash")
    return parts


def _from_url(text: str) -> Repository:
    from urllib.parse import quote, unquote

    parts = _split(text)
    remote = f"{parts.scheme}://{parts.netloc}{quote(parts.path, PATH_MARKS)}"
    return _repository(remote, parts.query, unquote(parts.fragment))


def _repository(remote: str, query: str, fragment: str) -> Repository:
    ref, _, subdir = fragment.partition(":")
    asked = _Asked(ref, paths.clean(subdir)[1:])
    for name, value in _read_query(query).items():
        asked.take(name, value)
    return asked.settle(remote)


def _read_query(query: str) -> Mapping[str, str]:
    from urllib.parse import parse_qsl

    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
        if name not in QUERY:
            raise AddressError(f"the query has {name!r}, which means nothing; it can have {', '.join(QUERY)}")
        if name in found:
            raise AddressError(f"the query has {name!r} more than once")
        if not value and name not in SWITCHES:
            raise AddressError(f"the query has no value for {name!r}")
        found[name] = value
    return found


class _Asked(msgspec.Struct):
    """What fragment and query ask for, as it is gathered."""

    ref: str
    subdir: str
    branch: str = ""
    tag: str = ""
    checksum: str = ""
    mtime: str = "checkout"
    switches: dict[str, bool] = msgspec.field(default_factory=dict)

    def take(self, name: str, value: str) -> None:
        match name:
            case "ref":
                self.ref = _agreed("refs", self.ref, value)
            case "branch":
                self.branch = "refs/heads/" + value.removeprefix("refs/heads/")
            case "tag":
                self.tag = "refs/tags/" + value.removeprefix("refs/tags/")
            case "subdir":
                self.subdir = _agreed("subdirs", self.subdir, paths.clean(value)[1:])
            case "checksum" | "commit":
                self.checksum = _agreed("checksums", self.checksum, check_commit_prefix(value))
            case "mtime" if value in ("checkout", "commit"):
                self.mtime = value
            case _ if value in TRUTH and name in SWITCHES:
                self.switches[name] = TRUTH[value]
            case _:
                raise AddressError(f"{name} cannot be {value!r}")

    def settle(self, remote: str) -> Repository:
        ref = self.ref
        for named in (self.tag, self.branch):
            ref = _agreed("refs", ref, named) if named else ref
        if ref and BAD_REF.search(ref):
            raise AddressError(f"{ref!r} is not the name of a ref")
        by_commit = self.switches.get("fetch-by-commit", False)
        if by_commit and not COMMIT.fullmatch(self.checksum) and not COMMIT.fullmatch(ref):
            raise AddressError("fetch-by-commit needs the whole id of a commit as checksum")
        op = Git(
            remote,
            ref,
            self.subdir,
            self.checksum,
            submodules=self.switches.get("submodules", True),
            commit_times=self.mtime == "commit",
            by_commit=by_commit,
        )
        return Repository(op, self.switches.get("keep-git-dir"))


def _agreed(what: str, one: str, other: str) -> str:
    if one and one != other:
        raise AddressError(f"there are two {what}: {one} and {other}")
    return other

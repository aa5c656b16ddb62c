"""`RUN --mount=…`: comma-separated options to a typed value.

The text is one CSV record (RFC 4180, as BuildKit reads it) of `key=value` fields. Values may hold variables,
but for `from`, which is read before anything is known; so `source_name` reads that alone, and `parse_mount`
the rest, with a function that expands a value. Nothing here knows stages, images or folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
KEYS = (
    "type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw",
    "required", "size", "id", "sharing", "mode", "uid", "gid", "env",
)  # fmt: skip
SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
MAX_ID = 2**32 - 1
MAX_SIZE = float(2**63)


class MountError(ValueError):
    """A mount option is wrong; `word` is what nobody knows in it, if anything, `known` what it may be."""

    def __init__(self, message: str, word: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.word = word
        self.known = known


class MountOptions(msgspec.Struct, frozen=True):
    """A mount as the Dockerfile has it, values expanded; "" and None are what was not said.

    kind: one of KINDS; source is the path in what `origin` (`from=`) names; size in bytes; mode, uid and
    gid only for cache, secret and ssh; env: the variable of a secret.
    """

    kind: str = "bind"
    origin: str = ""
    source: str = ""
    target: str = ""
    readonly: bool | None = None
    required: bool = False
    size: int = 0
    id: str = ""
    sharing: str = ""
    env: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def source_name(text: str) -> str:
    """The value of `from`, as written, or "". Raises MountError where the text is no CSV, or empty."""
    if not text:
        raise MountError("it says nothing")
    found = ""
    for field in split_fields(text):
        key, separator, value = field.partition("=")
        if separator and key.lower() == "from":
            found = value
    return found


def parse_mount(text: str, expand: Callable[[str], str]) -> MountOptions:
    """The mount that the text tells. Raises MountError, and what `expand` raises."""
    mount = MountOptions()
    for field in split_fields(text):
        key, separator, value = field.partition("=")
        key = key.lower()
        mount = _set(mount, key, expand(value)) if separator else _switch_on(mount, key, field)
    _check(mount)
    if mount.readonly is None:
        return replace(mount, readonly=mount.kind not in ("cache", "tmpfs"))
    return mount


def _switch_on(mount: MountOptions, key: str, field: str) -> MountOptions:
    """A key without a value."""
    match key:
        case "readonly" | "ro":
            return replace(mount, readonly=True)
        case "readwrite" | "rw":
            return replace(mount, readonly=False)
        case "required":
            return replace(mount, required=_only_for(mount, key, ("secret", "ssh")))
    if key not in KEYS:
        raise MountError(f"mount option {field!r} is not known", key, KEYS)
    raise MountError(f"mount option {field!r} needs a value: {field}=…")


def _set(mount: MountOptions, key: str, value: str) -> MountOptions:
    match key:
        case "type":
            return replace(mount, kind=_one_of(value, KINDS, "mount type"))
        case "from":
            return replace(mount, origin=value)
        case "source" | "src":
            return replace(mount, source=value)
        case "target" | "dst" | "destination":
            return replace(mount, target=value)
        case "readonly" | "ro":
            return replace(mount, readonly=_boolean(key, value))
        case "readwrite" | "rw":
            return replace(mount, readonly=not _boolean(key, value))
        case "required":
            _only_for(mount, key, ("secret", "ssh"))
            return replace(mount, required=_boolean(key, value))
        case "size":
            _only_for(mount, key, ("tmpfs",))
            return replace(mount, size=parse_size(value))
        case "id":
            return replace(mount, id=value)
        case "sharing":
            return replace(mount, sharing=_one_of(value, SHARINGS, "sharing"))
        case "mode":
            return replace(mount, mode=_number(key, value, 8))
        case "uid":
            return replace(mount, uid=_number(key, value, 10))
        case "gid":
            return replace(mount, gid=_number(key, value, 10))
        case "env":
            return replace(mount, env=value)
    raise MountError(f"mount option {key!r} is not known", key, KEYS)


def _check(mount: MountOptions) -> None:
    if mount.kind in ("bind", "tmpfs"):
        for key, value in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
            if value is not None:
                raise MountError(f"a {mount.kind} mount takes no {key}")
    if mount.sharing and mount.kind != "cache":
        raise MountError(f"a {mount.kind} mount takes no sharing")
    if mount.kind == "secret":
        if mount.origin:
            raise MountError("a secret mount takes no from")
        if not (mount.source or mount.target or mount.id):
            raise MountError("a secret mount needs an id, a source or a target")
        if mount.source and mount.id:
            raise MountError("a secret mount takes an id or a source, not both")
    if mount.kind == "ssh" and mount.source:
        raise MountError("an ssh mount takes no source")


def _only_for(mount: MountOptions, key: str, kinds: tuple[str, ...]) -> bool:
    if mount.kind not in kinds:
        raise MountError(f"a {mount.kind} mount takes no {key}")
    return True


def _one_of(value: str, known: tuple[str, ...], what: str) -> str:
    if value.lower() not in known:
        raise MountError(f"{what} {value!r} is not known: it is one of {', '.join(known)}", value, known)
    return value.lower()


def _boolean(key: str, value: str) -> bool:
    if value not in TRUE | FALSE:
        raise MountError(f"mount option {key} is true or false, not {value!r}")
    return value in TRUE


def _number(key: str, value: str, base: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if not value or len(value) > 16 or value.strip(digits):
        raise MountError(f"mount option {key}={value} is no number of base {base}")
    number = int(value, base)
    if number > MAX_ID:
        raise MountError(f"mount option {key}={value} is too large")
    return number


def parse_size(text: str) -> int:
    """Bytes from `512`, `64m`, `1.5GiB`; units count in 1024. Raises MountError."""
    found = SIZE.fullmatch(text)
    size = float(found[1]) * 1024 ** UNITS[(found[2] or "").lower()] if found else MAX_SIZE
    if size >= MAX_SIZE:
        raise MountError(f"size {text!r} is no number of bytes, such as 64m or 1g")
    return int(size)


def split_fields(text: str) -> Iterator[str]:
    """The fields of one CSV record. Raises MountError where quotes do not pair."""
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted(text, position + 1)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field, position = text[position:end], end
            if '"' in field:
                raise MountError(f"mount {text!r} has a quote inside an unquoted field")
        yield field
        if position >= len(text):
            return
        position += 1


def _quoted(text: str, start: int) -> tuple[str, int]:
    """A quoted field from behind its first quote; two quotes stand for one."""
    parts, position = [], start
    while True:
        end = text.find('"', position)
        if end < 0:
            raise MountError(f"mount {text!r} has a quote that is not closed")
        parts.append(text[position:end])
        if not text.startswith('"', end + 1):
            break
        parts.append('"')
        position = end + 2
    if end + 1 < len(text) and text[end + 1] != ",":
        raise MountError(f"mount {text!r} has more behind a closed quote")
    return "".join(parts), end + 1

"""Owners: what --chown, WORKDIR's user and USER mean, given the texts of /etc/passwd and /etc/group.

Two lookups that differ on purpose, as in BuildKit. COPY and WORKDIR are lenient: an unknown user is root,
an unknown group the user's own, a bare number is uid and gid. RUN is strict: an unknown name is an error, a
number is looked up, and names bring their supplementary groups.

Pure: the caller reads the files (`find` says which entry of a tree) and bounds them by MAX_SIZE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from builder.errors import BuildError
from builder.snapshots.snapshot import FILE
from builder.snapshots.tree import Node, TooManyLinks, Tree

PASSWD, GROUP = "/etc/passwd", "/etc/group"
MAX_SIZE = 10 << 20
UNCHANGED = 0xFFFFFFFF  # -1, which chown(2) takes for "as it is": of what was just made, root
SIGNED = re.compile(r"[+-]?[0-9]{1,20}\Z")
NUMBER = re.compile(r"[+-]?[0-9]{1,1000}\Z")  # of a file: what is out of range must not pass for none
UNSIGNED = re.compile(r"[0-9]{1,20}\Z")


class User(msgspec.Struct, frozen=True):
    """Who a RUN is: `groups` are all groups, the primary one included."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find(tree: Tree, path: str) -> Node | None:
    """The file at PASSWD or GROUP in a tree, symlinks followed inside it; None where there is none.

    Raises BuildError where it is no regular file or too large to be one of those.
    """
    try:
        node = tree.nodes.get(tree.resolve(path))
    except TooManyLinks as error:
        raise BuildError(f"too many symbolic links on the way to {path}", code="link-loop") from error
    if node is None:
        return None
    if node.entry.kind != FILE:
        raise BuildError(f"{path} is not a regular file", code="bad-user-file")
    if node.entry.size > MAX_SIZE:
        raise BuildError(f"{path} is larger than {MAX_SIZE >> 20} MiB", code="bad-user-file")
    return node


def resolve_chown(
    text: str, passwd: bytes | None, group: bytes | None, *, nowhere: bool = False
) -> tuple[int, int]:
    """The uid and gid that `user[:group]` means for COPY, ADD and WORKDIR.

    passwd, group: the files' contents, None where they are not there. nowhere: there is no filesystem to
    look names up in (an empty `FROM scratch`, or --link); then a name is an error.
    """
    user, colon, wanted = text.partition(":")
    uid = gid = 0
    number = _lenient(user)
    if number is not None:
        uid = gid = number
    elif nowhere:
        raise _no_names(user, text)
    else:
        for fields in _rows(passwd):
            if fields[0] == user:
                uid, gid = _id(fields, 2, PASSWD), _id(fields, 3, PASSWD)
                break
    if colon:
        number = _lenient(wanted)
        if number is not None:
            gid = number
        elif nowhere:
            raise _no_names(wanted, text)
        else:
            gid = next((_id(row, 2, GROUP) for row in _rows(group) if row[0] == wanted), gid)
    return uid if uid != UNCHANGED else 0, gid if gid != UNCHANGED else 0


def needs_files(text: str) -> bool:
    """Whether `resolve_chown` looks into a file for this text."""
    user, _, group = text.partition(":")
    return _lenient(user) is None or _lenient(group) is None


def resolve_user(text: str, passwd: bytes | None, group: bytes | None) -> User:
    """Who USER `text` is for a RUN; "" is root. Raises BuildError for a name that is not known."""
    user, wanted, *_ = [*(text or "0").split(":"), ""]
    fast = _strict(user), _strict(wanted) if wanted else None
    if fast[0] is not None and fast[1] is not None:
        uid, gid = _in_range(fast[0], user), _in_range(fast[1], wanted)
        return User(uid, gid, (gid,), _home(passwd, uid))
    number = int(user) if SIGNED.match(user) else None
    row = next((r for r in _rows(passwd) if _is_user(r, user, number)), None)
    if row is not None:
        uid, gid = _id(row, 2, PASSWD), _id(row, 3, PASSWD)
    elif number is not None:
        uid, gid = _in_range(number, user), 0
    elif user:
        raise BuildError(f"user '{user}' is not in {PASSWD} of the image", code="unknown-user")
    else:
        uid = gid = 0
    if wanted:
        gid = _wanted_group(wanted, group)
        groups = [gid]
    else:
        groups = [gid, *_supplementary(row[0], group)] if row is not None else [gid]
    return User(uid, gid, tuple(dict.fromkeys(groups)), _home(passwd, uid))


def _wanted_group(wanted: str, group: bytes | None) -> int:
    number = int(wanted) if SIGNED.match(wanted) else None
    for row in _rows(group):
        if (number is not None and _number(row, 2) == number) or (number is None and row[0] == wanted):
            return _id(row, 2, GROUP)
    if number is None:
        raise BuildError(f"group '{wanted}' is not in {GROUP} of the image", code="unknown-group")
    return _in_range(number, wanted)


def _supplementary(name: str, group: bytes | None) -> list[int]:
    return [_id(row, 2, GROUP) for row in _rows(group) if len(row) > 3 and name in row[3].split(",")]


def _is_user(row: list[str], user: str, number: int | None) -> bool:
    if not user:
        return _number(row, 2) == 0
    return _number(row, 2) == number if number is not None else row[0] == user


def _home(passwd: bytes | None, uid: int) -> str:
    row = next((r for r in _rows(passwd) if len(r) > 2 and _number(r, 2) == uid), None)
    if row is None:
        return "/"
    return row[5] if len(row) > 5 else ""


def _rows(text: bytes | None) -> Iterator[list[str]]:
    """The lines of a passwd or group file (passwd(5), group(5)) in fields; blank lines are skipped."""
    for line in (text or b"").split(b"\n"):
        if line := line.strip():
            yield line.decode("utf-8", "surrogateescape").split(":")


def _number(fields: list[str], index: int) -> int:
    """A numeric field; what is none counts as 0, as the C library has it."""
    text = fields[index] if index < len(fields) else ""
    return int(text) if NUMBER.match(text) else 0


def _id(fields: list[str], index: int, path: str) -> int:
    """An id that a line of the file gives. Raises BuildError for a number that no id can be."""
    number = _number(fields, index)
    if not 0 <= number < 1 << 32:
        raise BuildError(
            f"'{fields[0]}' has the id {fields[index]} in {path} of the image, which is out of range",
            code="unknown-user",
        )
    return number


def _lenient(text: str) -> int | None:
    """The id that a --chown part is by itself; 2^31 and more is a name, and "" is root."""
    if text in ("", "root"):
        return 0
    if SIGNED.match(text) and -(1 << 31) <= int(text) < 1 << 31:
        return int(text) & 0xFFFFFFFF
    return None


def _strict(text: str) -> int | None:
    if text == "root":
        return 0
    return int(text) if UNSIGNED.match(text) and int(text) < 1 << 32 else None


def _in_range(number: int, text: str) -> int:
    if not 0 <= number < 1 << 31:
        raise BuildError(f"user or group id '{text}' is out of range", code="unknown-user")
    return number


def _no_names(name: str, text: str) -> BuildError:
    return BuildError(
        f"cannot look up '{name}' of '{text}': there are no files yet to look names up in",
        code="unknown-user",
        hint="use numbers, such as 1000:1000",
    )

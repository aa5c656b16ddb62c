"""What a step's process 1 and its supervisor agree on: the annotation, the table, and the two descriptors.

The annotation `org.pybuild.ownership` of a spec asks for a supervisor. It is one JSON object,
{"capabilities": [NAME, ...], "ambient": [NAME, ...], "owners": {PATH: [UID, GID], ...},
"mounts": [PATH, ...]}: what the command believes to hold, absolute paths in the root that belong to others
(mounts of the step), and mounts whose files have records as those of the root have. What symlinks and the
like of the layers below belong to comes with the step's files, under the name TABLE, as such an object of
paths, because it can be long; it may be absent.

process 1 sends one byte with two descriptors, the listener and its root, over the socketpair that the
zygote made; end of file instead means that no step came to be.
"""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ANNOTATION = "org.pybuild.ownership"
TABLE = "ownership"

_WORD = 4


def described(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The annotation's object."""
    told: dict[str, Any] = json.loads(spec["annotations"][ANNOTATION])
    return told


def known_owners(described: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, tuple[int, int]]:
    """Owners known before the step begins, by absolute path."""
    owners = {**json.loads(files.get(TABLE, b"{}")), **described.get("owners", {})}
    return {"/" + path.lstrip("/"): (int(uid), int(gid)) for path, (uid, gid) in owners.items()}


def open_root() -> int:
    """A descriptor of the root that this process has, to hand over: opened before calls wait."""
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def send(channel: int, listener: int, root: int) -> None:
    """Hand the listener over, and the root. Imports and opens nothing: calls wait by now."""
    content = listener.to_bytes(_WORD, "little") + root.to_bytes(_WORD, "little")
    with socket.socket(fileno=channel) as end:
        end.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, content)])
    os.close(root)
    os.close(listener)


def receive(channel: socket.socket) -> tuple[int, int] | None:
    """(listener, root) from process 1; None where it has ended without."""
    with channel:
        message, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(2 * _WORD), socket.MSG_CMSG_CLOEXEC)
    if not message or not ancillary:
        return None
    content = ancillary[0][2]
    return int.from_bytes(content[:_WORD], "little"), int.from_bytes(content[_WORD:], "little")

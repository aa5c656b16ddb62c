"""What kept a sandbox from starting, as data: it crosses from the step's process to the builder as JSON.

`step` is one of a closed set, so that the builder knows whose fault it is:

    spec      the spec cannot be understood      mount    a mount of the spec (`text` names its target)
    namespace a namespace was not granted        limit    a resource limit
    root      the root filesystem                cwd      the working folder
    identity  user, groups, capabilities         exec     the command
    seccomp   the system call filter            cgroup   its cgroup, or a limit there
    runtime   another runtime failed

`errno` is 0 where no system call failed. `text` is for people: lower case, naming the thing.
"""

from __future__ import annotations

import json


class Failure(Exception):
    """See the module."""

    def __init__(self, step: str, errno: int, text: str) -> None:
        super().__init__(text)
        self.step = step
        self.errno = errno
        self.text = text

    def encode(self) -> bytes:
        """One JSON object."""
        return json.dumps({"step": self.step, "errno": self.errno, "text": self.text}).encode()


def decode(document: bytes) -> Failure:
    """The failure that such bytes tell of; a step that died while it wrote is one too."""
    try:
        told = json.loads(document)
        return Failure(str(told["step"]), int(told["errno"]), str(told["text"]))
    except (ValueError, KeyError, TypeError):
        return Failure("spec", 0, "the sandbox broke off while it was being set up")


def because(step: str, doing: str, error: OSError) -> Failure:
    """The failure of a system call while `doing` something."""
    return Failure(step, error.errno or 0, f"{doing}: {error.strerror or error}")

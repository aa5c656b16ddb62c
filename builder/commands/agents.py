"""The values of --ssh: `ID`, `ID=SOCKET` or `ID=KEY,…` as docker buildx takes them.

Loaded only where the flag is given.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from builder.errors import UsageError
from builder.request import SshSpec

DEFAULT = "default"
SOCKET = "SSH_AUTH_SOCK"


def agents(values: Iterable[str], environ: Mapping[str, str]) -> tuple[SshSpec, ...]:
    """The agents asked for, each id once. Raises UsageError."""
    found: dict[str, SshSpec] = {}
    for text in values:
        spec = _agent(text, environ)
        if spec.id in found:
            raise UsageError(f"--ssh {text}: {spec.id} is given twice")
        found[spec.id] = spec
    return tuple(found.values())


def _agent(text: str, environ: Mapping[str, str]) -> SshSpec:
    name, _, paths = text.partition("=")
    named = tuple(paths.split(",")) if paths else (environ.get(SOCKET, ""),)
    if named == ("",):
        raise UsageError(
            f"--ssh {text}: {SOCKET} is not set, so there is no agent",
            hint=f"start one with ssh-agent and ssh-add, or name a key: --ssh {name or DEFAULT}=FILE",
        )
    sockets = [_is_socket(text, path) for path in named]
    if any(sockets) and len(sockets) > 1:
        raise UsageError(
            f"--ssh {text}: an agent's socket stands alone", hint="give keys and each agent ids of their own"
        )
    return SshSpec(id=name or DEFAULT, paths=named)


def _is_socket(text: str, path: str) -> bool:
    """Whether it is an agent's socket; else it must be a file that can be read."""
    try:
        mode = os.stat(path).st_mode
        is_usable = stat.S_ISSOCK(mode) or (stat.S_ISREG(mode) and os.access(path, os.R_OK))
    except (OSError, ValueError):
        raise UsageError(f"--ssh {text}: {path or 'nothing'} is not there") from None
    if not is_usable:
        raise UsageError(f"--ssh {text}: {path} is neither an agent's socket nor a file that can be read")
    return stat.S_ISSOCK(mode)

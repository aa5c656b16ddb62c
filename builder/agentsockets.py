"""The sockets of a step's ssh mounts: one for each, with its owner and mode, as long as the step runs.

They lie in a folder of ROOT/ingest, and the agents are asked by the builder itself (`agents.forward`), so a
step has no way to the user's own socket.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from builder.agents.agent import Agents
from builder.errors import BuildError
from builder.fs.owning import Owning
from builder.fs.rooted import open_root, opened
from builder.ops.exec import Mount, SshMount
from builder.store.ingest import IngestFolder


async def open_sockets(
    agents: Agents, mounts: Iterable[Mount], root: str, stack: contextlib.AsyncExitStack
) -> dict[SshMount, str]:
    """The path of each ssh mount's socket, until the stack is closed; without an agent a mount has none.

    Raises BuildError where an agent is required and was not given, or a key cannot be read.
    """
    wanted = {mount: agents.get(mount.id) for mount in mounts if isinstance(mount, SshMount)}
    for mount, agent in wanted.items():
        if agent is None and mount.required:
            raise BuildError(
                f"ssh agent {mount.id} is required and was not given",
                code="ssh",
                hint=f"pass it with --ssh {mount.id}, --ssh {mount.id}=SOCKET or --ssh {mount.id}=KEY",
            )
    given = {mount: agent for mount, agent in wanted.items() if agent is not None}
    if not given:
        return {}
    from builder.agents.forward import forwarded

    folder = stack.enter_context(IngestFolder(root)).path
    sockets = {}
    for number, (mount, agent) in enumerate(given.items()):
        name = f"agent-{number}"
        path = await stack.enter_async_context(forwarded(agent, folder, name, mount.mode & 0o777))
        with opened(open_root(folder)) as fd:
            Owning().give_at(fd, name, mount.target or path, mount.uid, mount.gid)
        sockets[mount] = path
    return sockets


def owners_of(sockets: Iterable[SshMount]) -> dict[str, tuple[int, int]]:
    """Whose the sockets are, by target, where that can only be written down (see `fs.ownership`)."""
    return {mount.target: (mount.uid, mount.gid) for mount in sockets if mount.target}

"""What git's ssh asks: the agent that a build was given under the id `default`.

The user's own is told by its path, as git is no step; keys get a socket in ROOT/ingest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from builder.agents.agent import DEFAULT, Agents, UsersAgent
from builder.agents.forward import MAX_PATH, forwarded
from builder.errors import BuildError
from builder.store.ingest import IngestFolder


@asynccontextmanager
async def socket_for(remote: str, agents: Agents, root: str, otherwise: str = "") -> AsyncIterator[str]:
    """The socket (SSH_AUTH_SOCK) for a repository at `remote`, while the block lasts.

    It is `otherwise` where no agent was given, and "" where the repository is not reached by ssh. Raises
    BuildError where keys cannot be read, or the store's path is too long for a socket.
    """
    if not _is_by_ssh(remote):
        yield ""
        return
    agent = agents.get(DEFAULT)
    if agent is None or isinstance(agent, UsersAgent):
        yield otherwise if agent is None else agent.path
        return
    with IngestFolder(root) as folder:
        async with forwarded(agent, folder.path, "agent") as path:
            if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH:
                raise BuildError(
                    f"the store's path is too long for a socket with keys: {root}",
                    code="path-too-long",
                    hint="add the keys to an agent with ssh-add, and pass that with --ssh default",
                )
            yield path


def _is_by_ssh(remote: str) -> bool:
    scheme, is_url, _ = remote.partition("://")
    return not is_url or scheme.lower() == "ssh"

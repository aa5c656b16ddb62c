"""The git program, run so that nothing but its arguments decides what it does.

No configuration, hooks, prompts or helpers of this machine take part, and of protocols only those that
reach over the network: what `file://` or a remote helper (`ext::`) would do, it would do on this machine
(CVE-2022-39253). What comes from a server and is shown to people loses its control characters
(CVE-2024-52005). Credentials travel in the environment, where other users cannot read them.

A git that is no longer wanted is ended with all that it started. Must never know: layers, what is fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from builder.compiler.remotes import redact
from builder.errors import BuildError

PROTOCOLS = "https:http:ssh:git"
MAX_OUTPUT = 64 << 20  # bytes: the refs of a very large repository
MAX_TOLD = 64 << 10
SSH = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout=30 -o "
NO_KEY = re.compile(r"permission denied \([a-z,-]*publickey", re.IGNORECASE)  # as ssh says it
NO_KEY_HINT = "pass an agent or a key that the server knows: --ssh default or --ssh default=KEY"
PASSED_ON = (
    "PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "all_proxy", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
)  # fmt: skip
SETTINGS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null", "core.autocrlf=false", "core.symlinks=true", "core.logAllRefUpdates=false",
    "advice.detachedHead=false", "init.defaultBranch=master", "gc.auto=0", "maintenance.auto=false",
    "credential.helper=", "fetch.recurseSubmodules=false", "submodule.recurse=false",
    "transfer.bundleURI=false", "http.lowSpeedLimit=1", "http.lowSpeedTime=60",
)  # fmt: skip


class GitFailed(BuildError):
    """Git ended badly; `said` is what it had to say, without control characters."""

    code = "git-failed"

    def __init__(self, what: str, said: str) -> None:
        hint = NO_KEY_HINT if NO_KEY.search(said) else None
        super().__init__(f"{what}: {reason_of(said)}", hint=hint)
        self.said = said


@dataclass(frozen=True, slots=True)
class GitCommand:
    """Git with a home of its own. `settings` (name, value) may hold secrets; ssh_agent: its socket, if any.

    known_hosts: a file with the hosts' keys, to which those of new hosts are added.
    """

    home: str
    known_hosts: str
    settings: tuple[tuple[str, str], ...] = ()
    ssh_agent: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    async def run(
        self,
        what: str,
        *arguments: str,
        folder: str | None = None,
        git_dir: str | None = None,
        work_tree: str | None = None,
        local: bool = False,
    ) -> bytes:
        """Run git; what it wrote to its standard output.

        what: told in the error, "fetching x". local: from one folder of ours to another. Raises GitFailed,
        or BuildError where there is no git.
        """
        program = shutil.which("git", path=self.environment.get("PATH", os.defpath))
        if program is None:
            hint = "install git, or fetch the files beforehand"
            raise BuildError(f"{what}: there is no git program", code="no-git", hint=hint)
        command = [program, *(word for setting in SETTINGS for word in ("-c", setting)), *arguments]
        environment = self._environment(git_dir, work_tree, local=local)
        process = await _start(command, folder or self.home, environment)
        assert process.stdout is not None
        assert process.stderr is not None
        told = asyncio.ensure_future(_read_tail(process.stderr))
        try:
            output = await _read_all(process.stdout, what)
            said = _plain(await told)
            status = await process.wait()
        finally:
            await _end(process)
            told.cancel()
        if status:
            raise GitFailed(what, said)
        return output

    def _environment(self, git_dir: str | None, work_tree: str | None, *, local: bool) -> dict[str, str]:
        given = self.environment
        made = {name: given[name] for name in PASSED_ON if name in given}
        if "GIT_SSL_CAINFO" not in made and "SSL_CERT_FILE" in given:
            made["GIT_SSL_CAINFO"] = given["SSL_CERT_FILE"]
        made |= {
            "LC_ALL": "C",
            "HOME": self.home,
            "XDG_CONFIG_HOME": self.home,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": "file" if local else PROTOCOLS,
            "GIT_SSH_COMMAND": SSH + shlex.quote(f'UserKnownHostsFile="{self.known_hosts}"'),
            "GIT_CEILING_DIRECTORIES": os.path.dirname(self.home),  # the store may lie in a work tree
            "GIT_CONFIG_COUNT": str(len(self.settings)),
        }
        for number, (name, value) in enumerate(self.settings):
            made |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        optional = {"GIT_DIR": git_dir, "GIT_WORK_TREE": work_tree, "SSH_AUTH_SOCK": self.ssh_agent}
        return made | {name: value for name, value in optional.items() if value}


def reason_of(said: str) -> str:
    """What of git's words tells best why it failed: its errors, else what the server said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("fatal:", "error:"))]
    told = errors or [line for line in lines if line.startswith("remote:")] or lines[-1:]
    text = "; ".join(dict.fromkeys(line.partition(": ")[2] or line for line in told[:3]))
    return redact(text[:1000]) or "git ended without a word"


def _plain(data: bytes) -> str:
    text = data.decode("utf-8", "replace").replace("\r", "\n")
    return "".join(char for char in text if char == "\n" or char.isprintable())


async def _start(
    command: Sequence[str], folder: str, environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start a program in a session of its own.

    A cancellation that comes meanwhile takes effect when it has started: asyncio would end the program alone,
    not what it has started, and then wait for all who hold its pipes.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=environment,
            start_new_session=True,
            umask=0o022,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise


async def _read_all(stream: asyncio.StreamReader, what: str) -> bytes:
    chunks, size = [], 0
    while chunk := await stream.read(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_OUTPUT:
            raise BuildError(f"{what}: git tells more than {MAX_OUTPUT >> 20} MiB", code="too-large")
    return b"".join(chunks)


async def _read_tail(stream: asyncio.StreamReader) -> bytes:
    """The end of what is written, all of it being read."""
    tail = b""
    while chunk := await stream.read(1 << 16):
        tail = (tail + chunk)[-MAX_TOLD:]
    return tail


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process that was not waited for, and its helpers, which are in a session of their own."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

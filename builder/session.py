"""Going into what a failed step left: a shell or a command there, at once or later.

The one idea: it is the same step again. Its op, with another command, is made ready as for a build, on what
it ran on and, as one more layer, what it changed; so root, user, environment, mounts, network and isolation
are its own. What is done there is thrown away: the failed step stays as it was left. Secrets and agents are
those that are given now, if any.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from builder.compiler.program import Program, together
from builder.errors import BuildError, StepFailed
from builder.failed import FailedStep, held
from builder.graph.definition import About, Definition, Vertex
from builder.isolation.rungs import CHROOT
from builder.oci.spec import ImageConfig
from builder.ops.exec import BindMount, Exec, SecretMount, SshMount
from builder.parts import open_parts
from builder.prepare import Texts
from builder.runtime.console import with_terminal
from builder.snapshots.snapshot import FILE
from builder.snapshots.tree import TooManyLinks
from builder.step import Step

if TYPE_CHECKING:
    from builder.digest import Digest
    from builder.parts import Parts
    from builder.request import BuildRequest
    from builder.runtime.console import Console
    from builder.sandboxes import Sandboxes
    from builder.snapshots.tree import Tree
    from builder.sources.image import ImageSource
    from builder.store.root import Store

    OnOutput = Callable[[int, bytes], None]

SHELLS = ("/bin/bash", "/bin/sh")  # before and after the stage's own


async def enter_after(
    error: StepFailed,
    parts: Parts,
    kept: FailedStep,
    console: Console,
    introduce: Callable[[StepFailed, str], None],
) -> None:
    """Open the shell at once, once it is introduced; what stands against it is told with the error."""
    try:
        with held(parts.store, kept):
            _check_terminal(parts)
            shell = find_shell(parts, kept)
            introduce(error, shell)
            proxy = parts.failures.proxy if parts.failures is not None else ()
            await enter(parts, kept, (shell,), console, proxy=proxy)
    except BuildError as trouble:
        error.notes = (*error.notes, f"no shell could be opened: {trouble.message}")


async def enter(
    parts: Parts,
    kept: FailedStep,
    argv: Sequence[str],
    console: Console | None,
    on_output: OnOutput | None = None,
    proxy: Sequence[tuple[str, str]] = (),
) -> int:
    """Run a command in what the failed step left, with a terminal if there is a console.

    Its exit status, 128 + the signal where one killed it. `on_output(stream, bytes)` gets what it writes
    without a terminal; `proxy` are the proxy variables. Raises BuildError as a step does, and StepFailed
    where the command cannot be run.
    """
    if console is not None:
        _check_terminal(parts)
    op = msgspec.structs.replace(kept.op, argv=tuple(argv), proxy=tuple(proxy))
    inputs = tuple(kept.input(number) for number in range(len(kept.inputs)))
    step = Step(parts, _vertex(op, kept), op, kept.snapshot, inputs, again=True)
    runtime = parts.sandboxes.start()
    async with contextlib.AsyncExitStack() as stack:
        _, prepared = await step.get_ready(stack)
        spec = prepared.spec
        if parts.sandboxes.limited:
            spec, leaf = await parts.thread(parts.sandboxes.confine, spec)
            stack.callback(leaf.remove)
        ignore: OnOutput = lambda _stream, _bytes: None  # noqa: E731 - one line says it
        if console is None:
            status = await runtime.run(spec, on_output or ignore, prepared.secrets, as_lines=False)
        else:
            spec = with_terminal(spec, *console.size(), os.environ.get("TERM", ""))
            lent = stack.enter_context(console.lent())
            status = await runtime.run(spec, ignore, prepared.secrets, on_terminal=lent.take)
    return status.code


def _check_terminal(parts: Parts) -> None:
    """Raise BuildError where steps can have none."""
    if parts.sandboxes.isolation.rung == CHROOT:
        raise BuildError(
            "a chroot alone cannot give a terminal",
            code="no-terminal",
            hint="`pybuild debug -- COMMAND` runs a command there without one",
        )


def withheld(kept: FailedStep, secrets: Mapping[str, bytes], agents: Sequence[str]) -> list[str]:
    """What of the step's is not there any more: secrets and agents that nobody gives now; as lines."""
    lines = []
    for mount in kept.op.mounts:
        if isinstance(mount, SecretMount) and mount.id not in secrets:
            where = mount.target or f"${mount.env}"
            lines.append(f"secret {mount.id} ({where}) was not kept; --secret id={mount.id},... gives it")
        elif isinstance(mount, SshMount) and mount.id not in agents:
            lines.append(f"ssh agent {mount.id} is not there; --ssh {mount.id} gives it")
    lines += [f"/{path} held a secret, which was taken out" for path in kept.redacted]
    return list(dict.fromkeys(lines))


# ── the shell ────────────────────────────────────────────────────────────────────────────────────────────


def find_shell(parts: Parts, kept: FailedStep) -> str:
    """The first shell that is there: bash, the stage's SHELL, sh. Blocking; raises BuildError."""
    tree = parts.layers.tree(kept.snapshot)
    wanted = (SHELLS[0], kept.shell, SHELLS[1])
    for shell in wanted:
        for path in _places(shell, kept.op):
            if _is_program(parts, kept, tree, path):
                return path
    names = ", ".join(dict.fromkeys(name for name in wanted if name))
    raise BuildError(
        f"there is no shell in what the step left (looked for {names})",
        code="no-shell",
        hint="`pybuild debug --diff` shows what the step changed, `pybuild debug -- COMMAND` runs a program",
    )


def _places(shell: str, op: Exec) -> list[str]:
    """Where a shell may be, as absolute paths: one without a slash is looked for in PATH."""
    if not shell or shell.startswith("/"):
        return [shell] if shell else []
    if "/" in shell:
        return [os.path.join(op.cwd, shell)]
    search = dict(op.env).get("PATH", "")
    return [os.path.join(folder, shell) for folder in search.split(":") if folder.startswith("/")]


def _is_program(parts: Parts, kept: FailedStep, tree: Tree, path: str) -> bool:
    """Whether the step finds a file there that can be executed: in its root, or in what it has mounted."""
    mounts = [mount for mount in kept.op.mounts if isinstance(mount, BindMount)]
    over = [mount for mount in mounts if (path + "/").startswith(mount.target.rstrip("/") + "/")]
    try:
        if over:
            mount = max(over, key=lambda mount: len(mount.target))
            tree = parts.layers.tree(kept.input(mount.input))
            path = os.path.join(tree.resolve(mount.source), path[len(mount.target.rstrip("/")) + 1 :])
        entry = tree.get(tree.resolve(path))
    except TooManyLinks:
        return False
    return entry is not None and entry.kind == FILE and bool(entry.mode & 0o111)


# ── later ────────────────────────────────────────────────────────────────────────────────────────────────


def is_whole(parts: Parts, kept: FailedStep) -> bool:
    """Whether all layers are there, in a form that this rung can use."""
    return all(
        parts.layers.exists(s) for s in (kept.snapshot, *(kept.input(n) for n in range(len(kept.inputs))))
    )


@contextlib.asynccontextmanager
async def opened_parts(
    store: Store, request: BuildRequest, images: ImageSource, sandboxes: Sandboxes
) -> AsyncIterator[Parts]:
    """The parts of a build that builds nothing: its request says which secrets and devices there are."""
    programs = together([Program(Definition(), _nothing(), ImageConfig("", ""), ())])
    texts = Texts("", "", None, None)
    async with open_parts(request, store, texts, images, programs, sandboxes, lambda _event: None) as parts:
        yield parts


def _nothing() -> Digest:
    from builder.digest import of_bytes

    return of_bytes(b"")


def _vertex(op: Exec, kept: FailedStep) -> Vertex:
    return Vertex(_nothing(), op, None, (), About(kept.label, shell=kept.shell))

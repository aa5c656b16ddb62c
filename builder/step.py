"""One RUN step: from an Exec and its snapshots to a sandbox, and from what it changed to a layer.

Decided here: who the user is, what is mounted where, which variables there are. Carried out by the runtime,
in a process of its own; the layer store then makes the changes a layer. Mount points that had to be made
are told to it, so that they do not become part of the image.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from builder import stepfiles, stepplatform, stepusage
from builder.agentsockets import open_sockets, owners_of
from builder.digest import of_value
from builder.errors import BuildError, MissingPath, StepFailed
from builder.events import Log, Warned
from builder.ops.exec import BindMount, CacheMount, Exec, Mount, SecretMount, SshMount, TmpfsMount
from builder.runtime import spec
from builder.runtime.ownership.handover import TABLE
from builder.runtime.ownership.request import table
from builder.snapshots import graft, owners
from builder.snapshots.accounts import read_accounts
from builder.snapshots.clamp import Clamp
from builder.snapshots.edit import COPY
from builder.snapshots.snapshot import FILE, Entry, Snapshot
from builder.snapshots.unpack import no_content, write_tree
from builder.stepcaches import StepCaches
from builder.stepfiles import resolve_source
from builder.store.failure import full_disk_hint, told_as

if TYPE_CHECKING:
    from builder.graph.definition import Vertex
    from builder.isolation.emulators import Emulation
    from builder.parts import Parts
    from builder.runtime.launch import ExitStatus, Runtime
    from builder.runtime.leaves import Usage
    from builder.snapshots.changes import Stub
    from builder.snapshots.edit import Edit
    from builder.snapshots.owners import User
    from builder.snapshots.tree import Tree

TAIL_LINES = 30  # of a failed step's output, kept for its error
TIMED_OUT = 124  # as timeout(1) has it


async def run_step(
    parts: Parts, vertex: Vertex, op: Exec, below: Snapshot, inputs: tuple[Snapshot, ...]
) -> Snapshot:
    """Run the step over `below`; the snapshot with its layer on top.

    Raises StepFailed where the command fails, SandboxError where it cannot be run at all.
    """
    runtime = parts.sandboxes.start()
    clamp = Clamp.since_now(parts.latest)
    step = Step(parts, vertex, op, below, inputs)
    async with contextlib.AsyncExitStack() as stack:
        edit, prepared = await step.get_ready(stack)
        try:
            status = await step.run(runtime, prepared, stack)
            if status.code or status.signal:
                step.owners = status.owners
                raise step.failure(status)
        except StepFailed as error:
            await step.keep(edit, prepared.stubs, error)
            raise
        commit = functools.partial(parts.layers.commit, clamp=clamp)
        return (*below, await parts.thread(commit, edit, below, prepared.stubs, status.owners))


class Prepared(msgspec.Struct, frozen=True):
    """A step that is ready to run."""

    spec: spec.RuntimeSpec
    secrets: dict[str, bytes]
    stubs: Sequence[Stub]


class Step:
    """A step under way. `caches`: its cache mounts; `sockets`: those of its ssh mounts; `emulation`: how
    another machine's programs run; `tail`: the end of its output; `usage`: what its cgroup counted, if it had
    one; `owners`: those that a failed command's ExitStatus tells; `again`: it goes on where a failed one
    ended, in what that had.
    """

    def __init__(
        self,
        parts: Parts,
        vertex: Vertex,
        op: Exec,
        below: Snapshot,
        inputs: tuple[Snapshot, ...],
        *,
        again: bool = False,
    ) -> None:
        self.parts = parts
        self.vertex = vertex
        self.op = op
        self.below = below
        self.inputs = inputs
        self.caches = StepCaches(parts, op, inputs)
        self.sockets: dict[SshMount, str] = {}
        self.emulation: Emulation | None = None
        self.tail: list[str] = []
        self.usage: Usage | None = None
        self.owners: Mapping[str, tuple[int, int]] = {}
        self.again = again

    async def get_ready(self, stack: contextlib.AsyncExitStack) -> tuple[Edit, Prepared]:
        """Hold and make all that the step needs; the stack lets it go."""
        parts = self.parts
        await self.caches.hold(stack)
        self.sockets = await open_sockets(parts.agents, self.op.mounts, parts.store.folder, stack)
        return await parts.thread(self.begin, stack)

    async def keep(self, edit: Edit, stubs: Sequence[Stub], error: StepFailed) -> None:
        """Keep what the failed step left, for who wants to look around there; nothing on a full disk."""
        parts, failures = self.parts, self.parts.failures
        if failures is None or full_disk_hint(parts.store.folder):
            return
        ran_on = (self.below, self.inputs)
        step = failures.describe(
            self.vertex.about, self.op, *ran_on, edit.id, parts.sandboxes.isolation.rung, error
        )
        await failures.keep(
            step,
            error,
            lambda: parts.thread(self._leave, edit, stubs),
        )

    def _leave(self, edit: Edit, stubs: Sequence[Stub]) -> tuple[str, ...]:
        """Make what the failed step left a layer, but for the values of its secrets; the paths that held
        one. Blocking."""
        from builder.fs.redaction import TooMuch, take_out

        given = self.parts.secrets
        ids = {mount.id for mount in self.op.mounts if isinstance(mount, SecretMount)}
        try:
            held = take_out(edit.upper, [given[name] for name in ids & given.keys()])
        except TooMuch as error:
            raise BuildError("too much to look through for secrets", code="not-kept") from error
        self.parts.layers.commit(edit, self.below, stubs, self.owners, as_it_is=True)
        return held

    def begin(self, stack: contextlib.AsyncExitStack) -> tuple[Edit, Prepared]:
        """Make the folders that the step writes into, and all the rest. They are the stack's before anybody
        else has them: who waits for this may be cancelled meanwhile. Blocking."""
        edit = self.parts.layers.edit(self.below, self.parts.sandboxes.isolation.snapshotter)
        stack.callback(edit.discard)
        edit.put_away = self.parts.tidying.later
        return edit, self.prepare(edit, stack)

    def prepare(self, edit: Edit, stack: contextlib.AsyncExitStack) -> Prepared:
        """Decide on the whole sandbox, and make what it mounts. Blocking."""
        parts, op = self.parts, self.op
        refuse_impossible(op)
        tree = parts.layers.tree(self.below)
        user = owners.resolve_user(op.user, *read_accounts(parts.layers, tree))
        secrets: dict[str, bytes] = {}
        devices = parts.devices.edits(op.devices, uid=user.uid, gid=user.gid)
        variables: dict[str, str] = {}
        laid = [self._mount(m, edit.place, secrets, variables) for m in stepfiles.sorted_by_depth(op.mounts)]
        network = parts.sandboxes.make_network(op.network)
        if network is not None:
            stack.callback(network.close)
            network.start()
        self.emulation = stepplatform.find_emulation(op, parts.sandboxes.isolation.rung)
        own = stepplatform.mounts_of(self.emulation)
        own += self._own_files(edit.place, network.nameserver if network else "")
        mounts = stepfiles.merged_mounts(own, [mount for mount in laid if mount is not None], devices.mounts)
        self._make_cwd(edit, tree, user)
        hostname = [] if self.again else self._lay_hostname(edit, tree)
        sandbox = spec.sandbox_spec(
            lower=self.parts.layers.lower(self.below) if edit.copied is None else (),
            upper=str(edit.upper),
            work=str(edit.work),
            argv=op.argv,
            env=stepfiles.environment(op, variables | devices.env, user.home),
            cwd=op.cwd,
            uid=user.uid,
            gid=user.gid,
            groups=[*dict.fromkeys([*user.groups, *devices.groups])],
            mounts=mounts,
            devices=[*devices.nodes.values()],
            network="none" if op.network == "none" else "host",
            insecure=op.security == "insecure",
            hostname=op.hostname or stepfiles.HOSTNAME,
            rlimits=stepfiles.limits_of(op, parts.open_files),
            shm_size=op.shm_size,
        )
        targets = [*(mount.target for mount in mounts), *devices.nodes]
        stubs: list[Stub] = [*stepfiles.mount_stubs(tree, targets), *hostname]
        if parts.sandboxes.records_owners:
            secrets[TABLE] = table(stepfiles.owners_without_record(tree) | owners_of(self.sockets))
        return Prepared(parts.sandboxes.fit(sandbox, network), secrets, stubs)

    async def run(self, runtime: Runtime, prepared: Prepared, stack: contextlib.AsyncExitStack) -> ExitStatus:
        """Run the sandbox to its end, or for as long as it may. What it used is kept for its last event.

        Raises StepFailed where its time was up, and else as `Runtime.run` does.
        """
        sandboxes, limits = self.parts.sandboxes, self.parts.limits
        sandbox, leaf = prepared.spec, None
        if sandboxes.limited:
            sandbox, leaf = await self.parts.thread(sandboxes.confine, sandbox)
            stack.callback(leaf.remove)
        status: ExitStatus | None = None
        try:
            async with asyncio.timeout(limits.timeout or None) as clock:
                status = await runtime.run(sandbox, self.on_line, prepared.secrets)
        except StepFailed as error:
            raise stepplatform.explained(error, self.op, self.emulation) from error
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise self.timeout(limits.timeout) from error
        finally:
            self.usage = leaf.usage() if leaf is not None else None
            self.parts.used[self.vertex.digest] = stepusage.figures(status, self.usage)
        if not status.code and (told := stepusage.met_limits(status, self.usage, limits)):
            self._warn(f"process {shown(self.op.argv)} went well all the same{told}")
        return status

    def _warn(self, message: str) -> None:
        location = self.vertex.about.location
        line = location.span.line if location else 0
        self.parts.emit(Warned(time=time.time(), message=message, line=line))

    def failure(self, status: ExitStatus) -> StepFailed:
        """The error for a command that ended badly."""
        tail, hint = tuple(self.tail), full_disk_hint(self.parts.store.folder)
        code = stepusage.exit_code(status, self.usage)
        if status.signal and not stepusage.lacked_memory(status, self.usage):
            how = f"was killed by {signal_name(status.signal)}"
        else:
            how = f"did not complete successfully: exit code: {code}"
        why = stepusage.met_limits(status, self.usage, self.parts.limits)
        return StepFailed(f"process {shown(self.op.argv)} {how}{why}", status=code, tail=tail, hint=hint)

    def timeout(self, seconds: float) -> StepFailed:
        """The error for a command that was stopped as its time was up."""
        told = f"process {shown(self.op.argv)} was stopped after {stepusage.shown_seconds(seconds)}"
        return StepFailed(f"{told} (--step-timeout)", status=TIMED_OUT, tail=tuple(self.tail))

    def on_line(self, stream: int, line: bytes) -> None:
        """Make an event of a line of output."""
        text = line.decode("utf-8", "replace")
        self.tail.append(text)
        del self.tail[:-TAIL_LINES]
        self.parts.emit(Log(time=time.time(), vertex=self.vertex.digest, stream=stream, line=text))

    def _own_files(self, folder: str, nameserver: str) -> Iterator[spec.MountSpec]:
        """/etc/hosts and /etc/resolv.conf."""
        try:
            with open("/etc/resolv.conf", "rb") as file:
                machine: bytes | None = file.read()
        except OSError:
            machine = None
        texts = {
            "hosts": stepfiles.hosts_file(self.op),
            "resolv.conf": stepfiles.resolv_conf(machine, nameserver),
        }
        for name, text in texts.items():
            path = os.path.join(folder, name)
            with open(path, "xb") as file:
                file.write(text)
            os.chmod(path, 0o644)
            self.parts.sandboxes.label(path)
            yield spec.Bind(target=f"/etc/{name}", source=path, options=("nosuid", "noexec", "nodev"))

    def _mount(
        self,
        mount: Mount,
        folder: str,
        secrets: dict[str, bytes],
        variables: dict[str, str],
    ) -> spec.MountSpec | None:
        """What the runtime is told of a mount; None where there is nothing to mount."""
        match mount:
            case BindMount():
                return self._bind(mount, folder)
            case CacheMount():
                return self.caches.lay(mount)
            case TmpfsMount():
                options = ("nosuid", "ro") if mount.readonly else ("nosuid",)
                return spec.Tmpfs(target=mount.target, size=mount.size, options=options)
            case SecretMount():
                return self._secret(mount, secrets, variables)
            case SshMount():
                return self._socket(mount)

    def _socket(self, mount: SshMount) -> spec.Bind | None:
        if mount not in self.sockets or mount.target is None:
            return None
        closed = ("nosuid", "noexec")
        return spec.Bind(target=mount.target, source=self.sockets[mount], readonly=False, options=closed)

    def _bind(self, mount: BindMount, folder: str) -> spec.Overlay | spec.Bind:
        snapshot = self.inputs[mount.input]
        tree = self.parts.layers.tree(snapshot)
        path = resolve_source(tree, mount)
        if path != "." and tree.get(path) is None:
            raise MissingPath(f"the source {mount.source} of the mount at {mount.target} is not there")
        writable = os.path.join(folder, f"rw-{mount.input}-{of_value(mount.target)[7:19]}")
        if self.parts.sandboxes.isolation.snapshotter == COPY:
            return self._bind_copy(mount, snapshot, path, writable)
        if not mount.readonly:
            for name in ("upper", "work"):
                os.makedirs(os.path.join(writable, name))
        return spec.Overlay(
            target=mount.target,
            lower=tuple(self.parts.layers.lower(snapshot)),
            subpath="" if path == "." else path,
            readonly=mount.readonly,
            upper="" if mount.readonly else os.path.join(writable, "upper"),
            work="" if mount.readonly else os.path.join(writable, "work"),
        )

    def _bind_copy(self, mount: BindMount, snapshot: Snapshot, path: str, new: str) -> spec.Bind:
        """The same without an overlay: a single layer where it lies in the store, or a copy in `new`."""
        layers, source = self.parts.layers, new
        if mount.readonly and self.op.security != "insecure" and layers.is_plain(snapshot):
            source, inside = str(layers.unpacked(snapshot[0])), path
        else:
            inside = layers.copy(new, layers.tree(snapshot), path)
        subpath = "" if inside == "." else inside
        return spec.Bind(target=mount.target, source=source, subpath=subpath, readonly=mount.readonly)

    def _secret(
        self, mount: SecretMount, secrets: dict[str, bytes], variables: dict[str, str]
    ) -> spec.SecretFile | None:
        value = self.parts.secrets.get(mount.id)
        if value is None and mount.required:
            raise BuildError(
                f"secret {mount.id} is required and was not given",
                code="secret-missing",
                hint=f"pass it with --secret id={mount.id},src=FILE or --secret id={mount.id},env=NAME",
            )
        if mount.env is not None:
            if b"\0" in (value or b""):
                raise BuildError(
                    f"secret {mount.id} holds a NUL byte, which the variable {mount.env} cannot",
                    code="secret",
                    hint="mount it as a file: leave env out",
                )
            variables[mount.env] = (value or b"").decode("utf-8", "surrogateescape")
        if value is None or mount.target is None:
            return None
        name = f"secret-{len(secrets)}"
        secrets[name] = value
        return spec.SecretFile(
            target=mount.target, name=name, mode=mount.mode & 0o777, uid=mount.uid, gid=mount.gid
        )

    def _make_cwd(self, edit: Edit, tree: Tree, user: User) -> None:
        """Make the working folder where the image lacks it, as the user's; it stays in the layer."""
        entries = graft.plan_dir(self.op.cwd, tree, (user.uid, user.gid), time.time_ns())
        if entries:
            with told_as(self.parts.store.folder, "making the working folder"):
                write_tree(edit.upper, entries, no_content)

    def _lay_hostname(self, edit: Edit, tree: Tree) -> list[Entry]:
        """Make /etc/hostname where the image has none. It is no mount: a step that writes to it means the
        image, as with BuildKit, which has no such file; left as it was, it is not in the layer.
        """
        data = stepfiles.hostname_file(self.op)
        try:
            entries = graft.plan_file("etc/hostname", tree, data, time.time_ns())
        except BuildError:  # /etc is a file, or a circle of links: the image's own affair
            return []
        if entries:
            with told_as(self.parts.store.folder, "laying /etc/hostname"):
                write_tree(edit.upper, entries, lambda _entry: io.BytesIO(data))
        return [entry for entry in entries if entry.kind == FILE]


def signal_name(number: int) -> str:
    """`signal 9 (SIGKILL)`; those without a name have their number alone."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def refuse_impossible(op: Exec) -> None:
    """Raise BuildError for what a Dockerfile may say and no kernel can do."""
    if not op.argv:
        raise BuildError("RUN has no command", code="empty-command")
    if not all(name for name, _ in op.env):
        raise BuildError("a variable of RUN has no name: an ENV above it is empty", code="empty-name")


def shown(argv: Sequence[str]) -> str:
    """A command for messages, in quotes, its arguments separated by spaces."""
    return '"' + " ".join(argv) + '"'

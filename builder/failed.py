"""Failed steps, kept: what is needed to go where a RUN failed and look around.

    ROOT/builds/ID/failed.json     the step (`FailedStep`): its op, what it ran on, and its changes as a layer

The file holds a sum of itself, and is a lease: the layers that it names are not to be removed while it is
there. Its own ones, that no record of the cache will ever name, go with it: the failed step's changes, just
as it left them, and contexts that it had mounted. It is written before they have their names, so whatever
dies leaves nothing unnamed.
Who uses a lease holds its folder's lock (flock) shared; who removes it, alone.

Kept are the last few, and no more bytes than a bound but for the newest. No secret's value, no proxy's and
no socket is in here. Knows nothing of running.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from builder.errors import BuildError, StepFailed
from builder.fs.whole import write_whole
from builder.ops.exec import Exec, SecretMount, SshMount
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import LayerId, Snapshot
from builder.solver.cache import sealed, unsealed
from builder.store.root import Store

if TYPE_CHECKING:
    from builder.graph.definition import About
    from builder.request import BuildRequest

FILE = "failed.json"
KEPT_STEPS = 10
KEPT_BYTES = 4 << 30
_FORMAT = 2


class FailedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step that failed.

    build: its build's id; time: of the failure, in seconds; place: "Dockerfile:7"; status: 128 + the
    signal, where one killed it. shell: the first word of the stage's SHELL, or "". below, inputs: as the
    step had them; layer: what it changed; adopted: layers made of contexts, for it alone; redacted: paths
    where a secret's value was taken out. rung: of
    isolation.rungs. size: bytes of the lease's own layers. allow and what follows: as the request had them.
    """

    build: str
    time: float
    label: str
    place: str
    message: str
    status: int
    op: Exec
    shell: str
    below: tuple[str, ...]
    inputs: tuple[tuple[str, ...], ...]
    layer: str
    rung: str
    adopted: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()
    size: int = 0
    allow: tuple[str, ...] = ()
    cdi_spec_dirs: tuple[str, ...] = ()
    network_helper: str = ""
    runtime: str = ""
    format: int = _FORMAT

    @property
    def snapshot(self) -> Snapshot:
        """What the step left: its layer on those that it ran on."""
        return tuple(LayerId(layer) for layer in (*self.below, self.layer))

    def input(self, number: int) -> Snapshot:
        """What input `number` of the op is."""
        return tuple(LayerId(layer) for layer in self.inputs[number])


class Failures:
    """Where one build keeps its failed step: the first that fails, if it is what the build fails of.

    build: the folder of the build's record. proxy: the proxy variables of the last step that failed.
    """

    def __init__(self, store: Store, build: str, request: BuildRequest) -> None:
        self.store = store
        self.build = os.path.basename(build)
        self.request = request
        self.kept: FailedStep | None = None
        self.error: StepFailed | None = None
        self.proxy: tuple[tuple[str, str], ...] = ()
        self._folder = build
        self._one = asyncio.Lock()

    def describe(
        self,
        about: About,
        op: Exec,
        below: Snapshot,
        inputs: tuple[Snapshot, ...],
        layer: LayerId,
        rung: str,
        error: StepFailed,
    ) -> FailedStep:
        """A step of this build, which failed now, in words that hold no secret."""
        self.proxy = op.proxy
        return FailedStep(
            build=self.build,
            time=time.time(),
            label=about.label,
            place=str(about.location) if about.location else "",
            message=error.message,
            status=error.status,
            op=reenterable(op),
            shell=about.shell,
            below=below,
            inputs=inputs,
            layer=layer,
            rung=rung,
            allow=self.request.allow,
            cdi_spec_dirs=self.request.cdi_spec_dirs,
            network_helper=self.request.network_helper,
            runtime=self.request.runtime,
        )

    async def keep(
        self, step: FailedStep, error: StepFailed, commit: Callable[[], Awaitable[tuple[str, ...]]]
    ) -> None:
        """Keep a step, whose changes `commit` makes the layer that it names; it tells what it took out.

        Where that cannot be done (the disk may be full), nothing is kept and nothing is said.
        """
        async with self._one:
            if self.kept is not None:
                return
            self.kept, self.error = step, error
            try:
                _write(self._folder, step)
                self.kept = msgspec.structs.replace(step, redacted=await commit())
            except (BuildError, OSError):
                self.drop()
            except BaseException:
                self.drop()
                raise

    def finish(self, layers: LayerStore) -> FailedStep | None:
        """Make what was kept fit for later, when all else of the build has ended; None where somebody has
        removed it meanwhile. Blocking."""
        if self.kept is None:
            return None
        try:
            with held(self.store, self.kept):
                self.kept = _adopted(self.kept, layers)
                _write(self._folder, self.kept)
        except (BuildError, OSError):
            self.drop()
        return self.kept

    def drop(self) -> None:
        """Keep nothing. Blocking."""
        step, self.kept, self.error = self.kept, None, None
        if step is not None:
            _remove(self.store, self._folder, step)


def reenterable(op: Exec) -> Exec:
    """The op without what is not kept: proxies are gone, secrets and agents may be missing."""
    mounts = tuple(
        msgspec.structs.replace(mount, required=False) if isinstance(mount, SecretMount | SshMount) else mount
        for mount in op.mounts
    )
    return msgspec.structs.replace(op, mounts=mounts, proxy=())


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────


def kept_steps(store: Store) -> list[FailedStep]:
    """All of them, the newest first."""
    found = (_read(folder) for folder in _folders(store))
    return sorted((step for step in found if step is not None), key=lambda step: step.time, reverse=True)


def find(store: Store, build: str = "") -> FailedStep:
    """The failed step of the build whose id begins so; of any build, the last. Raises BuildError."""
    steps = kept_steps(store)
    hint = "`pybuild debug --list` shows what is kept" if steps else None
    named = [step for step in steps if step.build.startswith(build)]
    if not named:
        what = f"build {build} has no failed step that is kept" if build else "no failed step is kept"
        raise BuildError(what, code="nothing-failed", hint=hint)
    if build and len(named) > 1:
        raise BuildError(f"{build} begins the ids of {len(named)} builds", code="ambiguous-build", hint=hint)
    return named[0]


@contextlib.contextmanager
def held(store: Store, step: FailedStep) -> Iterator[None]:
    """Keep the step from being removed while the block lasts. Raises BuildError where it is gone."""
    folder = os.path.join(store.folder, "builds", step.build)
    lock = _lock(folder, fcntl.LOCK_SH)
    try:
        if lock < 0 or _read(folder) is None:
            raise BuildError(f"the failed step of build {step.build} was just removed", code="nothing-failed")
        yield
    finally:
        if lock >= 0:
            os.close(lock)


# ── how it goes ──────────────────────────────────────────────────────────────────────────────────────────


def forget(store: Store, build: str) -> bool:
    """Remove the failed step of a build, if it has one; False where somebody uses it."""
    folder = os.path.join(store.folder, "builds", build)
    step = _read(folder)
    if step is None:
        return True
    lock = _lock(folder, fcntl.LOCK_EX)
    if lock < 0:
        return False
    try:
        _remove(store, folder, step)
    finally:
        os.close(lock)
    return True


def forget_surplus(store: Store) -> None:
    """Remove those beyond the bounds, the oldest first."""
    total = 0
    for number, step in enumerate(kept_steps(store)):
        total += step.size
        if number and (number >= KEPT_STEPS or total > KEPT_BYTES):
            forget(store, step.build)


def _remove(store: Store, folder: str, step: FailedStep) -> None:
    layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs)
    with contextlib.suppress(BuildError, OSError):  # what stays is tried again while the file is there
        for layer in (step.layer, *step.adopted):
            layers.delete(LayerId(layer))
        os.unlink(os.path.join(folder, FILE))


def _adopted(step: FailedStep, layers: LayerStore) -> FailedStep:
    """The step with contexts, which are layers of this process alone, made layers of its own."""
    own: dict[str, LayerId] = {}
    for layer in {layer for snapshot in step.inputs for layer in snapshot}:
        if layers.is_lent(LayerId(layer)):
            own[layer] = layers.adopt(LayerId(layer))
    inputs = tuple(tuple(own.get(layer, layer) for layer in snapshot) for snapshot in step.inputs)
    size = sum(
        entry.size for layer in (step.layer, *own.values()) for entry in layers.entries(LayerId(layer))
    )
    return msgspec.structs.replace(step, inputs=inputs, adopted=tuple(own.values()), size=size)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────


def _folders(store: Store) -> list[str]:
    top = os.path.join(store.folder, "builds")
    try:
        return [os.path.join(top, name) for name in os.listdir(top)]
    except FileNotFoundError:
        return []


def _lock(folder: str, operation: int) -> int:
    """A descriptor that holds the folder's lock, or -1."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def _write(folder: str, step: FailedStep) -> None:
    """Write the file whole, by one rename."""
    write_whole(os.path.join(folder, FILE), sealed(FILE, msgspec.to_builtins(step)))


def _read(folder: str) -> FailedStep | None:
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            step = msgspec.convert(unsealed(FILE, file.read()), FailedStep)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # damaged, or of another version
        return None
    return step if step.format == _FORMAT and step.build == os.path.basename(folder) else None

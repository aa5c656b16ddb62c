"""The runtime of one build: started when the first step needs it, on the rung that the build stands on.

Its process takes as long to start as a program to compile, so it can be started beforehand, beside that.
Here a build's demands on isolation are held against what there is.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from builder.errors import SandboxError, raising_limit
from builder.events import Warned
from builder.fs.ownership import RECORDED, of_process
from builder.isolation.labels import Labels, detect
from builder.isolation.loops import loops
from builder.isolation.rungs import CHROOT, NONE, ROOT, Isolation, require_full, weakenings
from builder.limits import share_open_files

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.isolation.choose import Standing
    from builder.isolation.network import StepNetwork
    from builder.isolation.stepgroups import StepGroups
    from builder.runtime.foreign.choice import Foreign
    from builder.runtime.launch import Runtime
    from builder.runtime.leaves import Leaf
    from builder.runtime.spawn import Zygote
    from builder.runtime.spec import RuntimeSpec


RUN_LINE = r"(?im)^[ \t]*RUN[ \t]"


def is_likely(dockerfile: str) -> bool:
    """Whether a build of this text is likely to have steps to run."""
    return re.search(RUN_LINE, dockerfile) is not None


def start_early(isolation: Isolation) -> Zygote | None:
    """Begin to start the process for steps, where nothing stands against it; call it in the main thread."""
    from builder.runtime.probe import probe
    from builder.runtime.spawn import start_zygote

    if isolation.rung in (CHROOT, NONE) or probe() is not None:
        return None
    try:
        return start_zygote()
    except OSError:
        return None


class Sandboxes:
    """What runs the steps of a build.

    standing: where the build stands, None for root's own place; full: whether
    anything less than full isolation is refused; network: the build's --network; helper: the program that
    gives steps a network of their own, "" for the host's; groups: what holds its
    limits on steps; runtime: name or path of an OCI runtime that carries them out, "" for our own;
    zygote: the process for steps, where it was started early.
    """

    def __init__(
        self,
        emit: Emit,
        standing: Standing | None,
        *,
        full: bool = False,
        network: str = "",
        helper: str = "",
        groups: StepGroups | None = None,
        runtime: str = "",
        zygote: Zygote | None = None,
    ) -> None:
        self.isolation = standing.isolation if standing is not None else Isolation(ROOT)
        self._refused = standing.refused if standing is not None else None
        self._emit = emit
        self._full = full
        self._network = network
        self._helper = helper
        self._groups = groups if groups is not None and groups.wanted else None
        self._zygote = zygote
        if zygote is not None:
            share_open_files(zygote.pid)
        self._runtime: Runtime | None = None
        self._labels: Labels | None = None
        self._wanted = runtime
        self._foreign: Foreign | None = None

    def expect(self) -> None:
        """Begin to start the process, as a step is likely to come; what stands against it, `start` tells.

        Call it in the main thread.
        """
        if self._zygote is None:
            self._zygote = start_early(self.isolation)

    def start(self) -> Runtime:
        """The runtime; call it in the main thread, in the running loop. What is weaker than it should be
        is told once.

        Raises SandboxError, with what to do, where this machine or user cannot run steps, or only weaker
        ones than are asked for.
        """
        if self._runtime is None:
            from builder.runtime.launch import Runtime

            if (reason := self._reason()) is not None:
                raise reason
            if self._full:
                require_full(self.isolation, host_network=self._network != "none" and not self._helper)
            if self.isolation.rung == CHROOT and (self._helper or self._wanted):
                flag = f"--network {self._helper}" if self._helper else "--runtime"
                message = f"{flag} needs namespaces, and --isolation chroot has none"
                raise SandboxError(message, code="isolation")
            if self._helper:
                from builder.isolation.network import refuse_missing

                refuse_missing(self._helper)
            if self._groups is not None:
                self._groups.check()
            if self._wanted:
                self._foreign = self._find_foreign()
            if self.isolation.rung == CHROOT:
                self._zygote = self._start_without_namespaces()
            self._runtime = Runtime.start(self._zygote)
            for weakening in weakenings(self.isolation):
                self._emit(Warned(time=time.time(), message=weakening.line))
        return self._runtime

    @property
    def records_owners(self) -> bool:
        """Whether steps have a single id, so that owners are recorded beside the files."""
        return self.isolation.rung not in (NONE, CHROOT) and of_process() == RECORDED

    def make_network(self, mode: str) -> StepNetwork | None:
        """A network of its own for a step of that --network, not connected yet; None where it has none."""
        if mode != "default" or not self._helper:
            return None
        from builder.isolation.network import StepNetwork

        return StepNetwork(self._helper)

    def fit(self, spec: RuntimeSpec, network: StepNetwork | None = None) -> RuntimeSpec:
        """A step's sandbox, as it can be had on this rung."""
        if self.isolation.rung == CHROOT:
            from builder.runtime.chroot.request import with_chroot

            return with_chroot(spec)
        if network is not None:
            from builder.runtime.spec import with_network

            spec = with_network(spec, network.path)
        if self.isolation.outer_proc:
            from builder.runtime.spec import with_outer_proc

            spec = with_outer_proc(spec)
        if self.isolation.outer_hostname:
            from builder.runtime.spec import with_outer_hostname

            spec = with_outer_hostname(spec)
        if self.records_owners:
            from builder.runtime.ownership.request import with_recorded_owners

            spec = with_recorded_owners(spec)
        from builder.runtime.spec import is_insecure, with_insecure_devices, with_labels

        if is_insecure(spec):  # and under no label
            if self.isolation.rung == ROOT:
                spec = with_insecure_devices(spec, loops())
        elif (own := self.labels) != Labels():
            spec = with_labels(spec, apparmor=own.apparmor, selinux=own.selinux, files=own.files)
        if self._foreign is not None:
            from builder.runtime.foreign.choice import with_runtime

            spec = with_runtime(spec, self._foreign)
        return spec

    @property
    def labels(self) -> Labels:
        """What security modules call this build's steps."""
        if self._labels is None:
            self._labels = detect() if self.isolation.rung == ROOT else Labels()
        return self._labels

    def label(self, path: str) -> None:
        """Let steps use a file or folder of the store that is shown to them as it is, under SELinux."""
        if self.labels.files:
            os.setxattr(path, "security.selinux", os.fsencode(self.labels.files))

    @property
    def limited(self) -> bool:
        """Whether steps have limits that a cgroup holds."""
        return self._groups is not None

    def confine(self, spec: RuntimeSpec) -> tuple[RuntimeSpec, Leaf]:
        """A limited step's sandbox within its limits, and the cgroup that holds them; the caller removes
        that. Blocking; raises SandboxError."""
        from builder.runtime.spec import resources_of, with_cgroup

        assert self._groups is not None
        path, leaf = self._groups.leaf()
        return with_cgroup(spec, path, resources_of(self._groups.resources)), leaf

    async def close(self) -> None:
        """End the runtime, and with it whatever still runs."""
        if self._runtime is None and self._zygote is not None:
            from builder.runtime.launch import Runtime

            self._runtime = Runtime.start(self._zygote)
        if self._runtime is not None:
            await self._runtime.close()
        if self._groups is not None:
            self._groups.close()

    def _find_foreign(self) -> Foreign:
        """The runtime asked for. Raises SandboxError where it is not there, or of no use on this rung."""
        from builder.runtime.foreign.choice import find_runtime

        lacking = ""
        if self.records_owners:
            lacking = "owners of files are emulated here, which only pybuild's own runtime does"
        elif self.isolation.outer_proc:
            lacking = "it needs a new /proc, and that is refused here"
        if lacking:
            raise SandboxError(
                f"--runtime {self._wanted} cannot be used with --isolation {self.isolation.rung}: {lacking}",
                code="runtime",
                hint="without --runtime, steps are run by pybuild itself",
            )
        return find_runtime(self._wanted)

    def _start_without_namespaces(self) -> Zygote:
        from builder.runtime.spawn import start_zygote

        try:
            return start_zygote(chroot=True)
        except OSError as error:
            raise SandboxError(
                f"cannot start a process for RUN: {error.strerror}", hint=raising_limit(error.errno)
            ) from error

    def _reason(self) -> SandboxError | None:
        """Why there is no rung to run steps on."""
        if self.isolation.rung != NONE:
            return None
        told = self._refused
        return SandboxError(
            f"RUN cannot be run here: {told.reason}" if told else "RUN cannot be run here",
            code="isolation",
            hint=told.remedy if told and told.remedy else "`pybuild doctor` tells what this machine lacks",
        )

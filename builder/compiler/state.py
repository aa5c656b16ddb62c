"""The state of a stage between two instructions, frozen. Pure.

Every instruction has one, and they are all kept: so what grows as instructions come (variables, labels, the
history) is in tables and chains, which share what has not changed; `settled` makes an image's config of them.

Invariant: `layers` is how many layers the snapshot of `head` will have, as far as the compiler knows; the
history may be short of them (an image without history), and `settle_history` makes it fit at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from builder.compiler import paths, systems
from builder.compiler.chain import Chain
from builder.compiler.program import BaseImage
from builder.compiler.table import Table
from builder.compiler.variables import Variables
from builder.digest import Digest
from builder.oci.spec import Empty, History, ImageConfig, Platform, RootFS, RunConfig

COMMENT = "pybuild.dockerfile.v1"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StageState(msgspec.Struct, frozen=True):
    """What a stage has come to.

    head: the vertex with its filesystem. image: config, author and platform of the image so far, without what
    is kept apart: its history, and what instructions add to (env, labels, exposed ports, volumes, triggers).
    variables: what words and RUN see (ENV and ARG, in the order they were set). exports: the names that ENV
    has set; the others stand in the config as the base has them. args: the ARGs so far, for the history's
    sake. told: the characters of the history that are this build's. steps: how many labels were
    numbered. own_cmd: whether a CMD stands in this stage, which an ENTRYPOINT then keeps. base_layers,
    base_entries: how many of the layers, and of the history's entries, are a base image's.
    """

    head: Digest
    image: ImageConfig
    platform: Platform
    variables: Variables = Variables()
    env: Table[str] = Table()
    exports: Table[None] = Table()
    labels: Table[str] = Table()
    ports: Table[Empty] = Table()
    volumes: Table[Empty] = Table()
    triggers: Chain[str] = Chain()
    history: Chain[History] = Chain()
    layers: int = 0
    args: Table[None] = Table()
    told: int = 0
    steps: int = 0
    own_cmd: bool = False
    base_layers: int = 0
    base_entries: int = 0

    @property
    def config(self) -> RunConfig:
        """How the image runs."""
        return self.image.config

    @property
    def folder(self) -> str:
        """The working folder, clean and absolute."""
        return paths.clean(systems.slashed(self.image.config.working_dir, self.platform.os))

    def configured(self, **changes: Any) -> StageState:
        """The state with some fields of `config` changed."""
        config = replace(self.image.config, **changes)
        return replace(self, image=replace(self.image, config=config))

    def noted(self, text: str) -> StageState:
        """The state with a history entry for what made no layer."""
        entry = History(created_by=text, comment=COMMENT, empty_layer=True)
        return replace(self, history=self.history.added(entry), told=self.told + len(text))

    def grown(self, head: Digest, text: str) -> StageState:
        """The state with one more layer, and its history entry."""
        history = self.history.added(History(created_by=text, comment=COMMENT))
        return replace(self, head=head, layers=self.layers + 1, history=history, told=self.told + len(text))

    def assigned(self, name: str, value: str) -> StageState:
        """The state with a variable set."""
        return replace(self, variables=self.variables.assigned(name, value))

    def exported(self, name: str, value: str) -> StageState:
        """The state with a variable set, for what the image runs too."""
        key, _, rest = f"{name}={value}".partition("=")
        return replace(
            self,
            variables=self.variables.assigned(name, value),
            env=self.env.put(key, rest),
            exports=self.exports.put(key, None),
        )

    def settled(self) -> ImageConfig:
        """The config of an image that is what the stage has come to, without a history."""
        base = self.image.config
        config = replace(
            base,
            env=tuple(self._entries(base.env)),
            labels=dict(self.labels.pairs()) or base.labels,
            exposed_ports=dict(self.ports.pairs()) or base.exposed_ports,
            volumes=dict(self.volumes.pairs()) or base.volumes,
            on_build=tuple(self.triggers) or None,
        )
        return replace(self.image, config=config)

    def _entries(self, base: tuple[str, ...]) -> Iterator[str]:
        """The variables of the image: what ENV has set where the base has the name first, or at the end."""
        seen = set()
        for entry in base:
            name = entry.partition("=")[0]
            is_set = name in self.exports and name not in seen
            seen.add(name)
            yield f"{name}={self.env[name]}" if is_set else entry
        yield from (f"{name}={value}" for name, value in self.env.pairs() if name not in seen)


def from_scratch(head: Digest, platform: Platform) -> StageState:
    """The state above nothing."""
    env = () if platform.os == systems.WINDOWS else (f"PATH={DEFAULT_PATH}",)
    config = RunConfig(env=env, working_dir="/")
    image = ImageConfig(
        platform.architecture,
        platform.os,
        variant=platform.variant,
        os_version=platform.os_version,
        config=config,
    )
    return _begun(StageState(head, image, platform))


def from_folder(head: Digest, platform: Platform, *, bare: bool) -> StageState:
    """The state above a folder, which is one layer; `bare`: it has no config at all."""
    state = replace(from_scratch(head, platform), layers=1)
    return replace(state.configured(working_dir="", env=()), env=Table()) if bare else state


def from_image(head: Digest, base: BaseImage, platform: Platform) -> StageState:
    """The state above an image: its config without the triggers, its history."""
    layers = len(base.config.rootfs.diff_ids)
    image = replace(
        base.config,
        created="",
        rootfs=RootFS(),
        history=(),
        config=replace(base.config.config, on_build=None),
    )
    history = Chain(base.config.history)
    state = StageState(head, image, platform, history=history, layers=layers)
    return _begun(replace(state, base_layers=layers, base_entries=len(base.config.history)))


def _begun(state: StageState) -> StageState:
    """The state with what its image's config has."""
    config = state.image.config
    env = (entry.partition("=") for entry in config.env)
    return replace(
        state,
        env=Table((name, value) for name, _, value in env),
        labels=Table((config.labels or {}).items()),
        ports=Table((config.exposed_ports or {}).items()),
        volumes=Table((config.volumes or {}).items()),
    )


def from_stage(parent: StageState) -> StageState:
    """The state above another stage; its triggers do not carry over, its CMD is no longer the stage's own."""
    return replace(parent, steps=0, own_cmd=False, triggers=Chain())


def opened(state: StageState) -> StageState:
    """The state as a stage's first instruction meets it: a PATH (Windows has its own), the config's
    variables, an absolute folder. Raises ValueError for a folder of Windows that is on another drive."""
    env, system = state.env, state.platform.os
    if system != systems.WINDOWS and "PATH" not in env:
        env = env.put("PATH", DEFAULT_PATH)
    state = replace(state, env=env, variables=state.variables.opened(env))
    folder = state.config.working_dir
    if not folder or (folder[0] == "/" and system != systems.WINDOWS):
        return state
    # as if it were a WORKDIR of this text: one that is relative is so to itself
    return state.configured(
        working_dir=systems.native(systems.working_folder(folder, folder, system), system)
    )


def settle_history(history: Iterable[History], layers: int) -> tuple[History, ...]:
    """A history with exactly one non-empty entry per layer.

    What a base image's history lacks is added at the end, what it has too many is called empty, as BuildKit
    does when it writes an image.
    """
    settled: list[History] = []
    left = layers
    for entry in history:
        if not entry.empty_layer:
            if left == 0:
                entry = replace(entry, empty_layer=True)
            else:
                left -= 1
        settled.append(entry)
    return (*settled, *(History(comment=COMMENT) for _ in range(left)))

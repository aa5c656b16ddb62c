"""The state of a stage between two instructions, frozen. Pure.

Invariant: `layers` is how many layers the snapshot of `head` will have, as far as the compiler knows; the
history may be short of them (an image without history), and `settle_history` makes it fit at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from builder.compiler import paths
from builder.compiler.program import BaseImage
from builder.digest import Digest
from builder.oci.spec import History, ImageConfig, Platform, RootFS, RunConfig

COMMENT = "pybuild.dockerfile.v1"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StageState(msgspec.Struct, frozen=True):
    """What a stage has come to.

    head: the vertex with its filesystem. image: config, author and platform of the image so far; its
    history is kept apart. variables: what words and RUN see (ENV and ARG, in the order they were set).
    args: the ARGs so far, for the history's sake. steps: how many labels were numbered. own_cmd: whether a
    CMD stands in this stage, which an ENTRYPOINT then keeps.
    """

    head: Digest
    image: ImageConfig
    platform: Platform
    variables: Mapping[str, str]
    history: tuple[History, ...] = ()
    layers: int = 0
    args: tuple[str, ...] = ()
    steps: int = 0
    own_cmd: bool = False

    @property
    def config(self) -> RunConfig:
        """How the image runs."""
        return self.image.config

    @property
    def folder(self) -> str:
        """The working folder, clean and absolute."""
        return paths.clean(self.image.config.working_dir)

    def configured(self, **changes: Any) -> StageState:
        """The state with some fields of `config` changed."""
        config = replace(self.image.config, **changes)
        return replace(self, image=replace(self.image, config=config))

    def noted(self, text: str) -> StageState:
        """The state with a history entry for what made no layer."""
        entry = History(created_by=text, comment=COMMENT, empty_layer=True)
        return replace(self, history=(*self.history, entry))

    def grown(self, head: Digest, text: str) -> StageState:
        """The state with one more layer, and its history entry."""
        entry = History(created_by=text, comment=COMMENT)
        return replace(self, head=head, layers=self.layers + 1, history=(*self.history, entry))

    def assigned(self, name: str, value: str) -> StageState:
        """The state with a variable set."""
        variables = {key: old for key, old in self.variables.items() if key != name}
        variables[name] = value
        return replace(self, variables=variables)


def from_scratch(head: Digest, platform: Platform) -> StageState:
    """The state above nothing."""
    config = RunConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/")
    image = ImageConfig(
        platform.architecture,
        platform.os,
        variant=platform.variant,
        os_version=platform.os_version,
        config=config,
    )
    return StageState(head, image, platform, {})


def from_folder(head: Digest, platform: Platform, *, bare: bool) -> StageState:
    """The state above a folder, which is one layer; `bare`: it has no config at all."""
    state = replace(from_scratch(head, platform), layers=1)
    return state.configured(env=(), working_dir="") if bare else state


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
    return StageState(head, image, platform, {}, base.config.history, layers)


def from_stage(parent: StageState) -> StageState:
    """The state above another stage; its triggers do not carry over, its CMD is no longer the stage's own."""
    return replace(parent, steps=0, own_cmd=False).configured(on_build=None)


def opened(state: StageState) -> StageState:
    """The state as a stage's first instruction meets it: a PATH, the config's variables, a clean folder."""
    if state.image.os != "windows" and not any(entry.startswith("PATH=") for entry in state.config.env):
        state = state.configured(env=(*state.config.env, f"PATH={DEFAULT_PATH}"))
    variables = dict(state.variables)
    for entry in state.config.env:
        name, _, value = entry.partition("=")
        variables.pop(name, None)
        variables[name] = value
    state = replace(state, variables=variables)
    folder = state.config.working_dir
    return state.configured(working_dir=paths.clean(folder)) if folder and folder[0] != "/" else state


def settle_history(history: tuple[History, ...], layers: int) -> tuple[History, ...]:
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

"""One instruction lowered: (state, instruction) -> state. Pure.

Which function an instruction goes to, and what it takes from. Everything else is in the family's module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from builder.compiler import copies, metadata, runs
from builder.compiler.lowering import Lowering, Origin
from builder.compiler.sources import Source
from builder.compiler.state import StageState
from builder.dockerfile.ast import (
    Add,
    AnyInstruction,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)

LABELLED = (Run, Copy, Add, Workdir)


def lower(
    lowering: Lowering,
    state: StageState,
    step: AnyInstruction,
    sources: tuple[Source | None, ...],
    find: Callable[[Source, AnyInstruction], Origin],
) -> StageState:
    """The state after an instruction.

    `sources` is what it takes from (see sources.sources_of), `find` gives the vertex of one. Raises
    DockerfileError.
    """
    match step:
        case Run():
            origins = [None if source is None else find(source, step) for source in sources]
            return runs.lower_run(lowering, state, step, origins)
        case Copy() | Add():
            source = sources[0] if sources else None
            origin = lowering.context() if source is None else find(source, step)
            return copies.lower_copy(lowering, state, step, origin)
        case Workdir():
            return copies.lower_workdir(lowering, state, step)
        case From():
            return state
        case _:
            return _lower_metadata(lowering, state, step)


def _lower_metadata(
    lowering: Lowering,
    state: StageState,
    step: Env | Arg | Label | Expose | Volume | User | Cmd | Entrypoint | Healthcheck | Stopsignal | Shell
    | Onbuild | Maintainer,
) -> StageState:  # fmt: skip
    match step:
        case Env():
            return metadata.lower_env(lowering, state, step)
        case Arg():
            return metadata.lower_arg(lowering, state, step)
        case Label():
            return metadata.lower_label(lowering, state, step)
        case Expose():
            return metadata.lower_expose(lowering, state, step)
        case Volume():
            return metadata.lower_volume(lowering, state, step)
        case User():
            return metadata.lower_user(lowering, state, step)
        case Cmd():
            return metadata.lower_cmd(lowering, state, step)
        case Entrypoint():
            return metadata.lower_entrypoint(lowering, state, step)
        case Healthcheck():
            return metadata.lower_healthcheck(lowering, state, step)
        case Stopsignal():
            return metadata.lower_stopsignal(lowering, state, step)
        case Shell():
            return metadata.lower_shell(lowering, state, step)
        case Onbuild():
            return metadata.lower_onbuild(lowering, state, step)
        case Maintainer():
            return metadata.lower_maintainer(lowering, state, step)
    assert_never(step)

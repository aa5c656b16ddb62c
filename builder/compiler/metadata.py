"""The instructions that change what is known of an image and make no layer. Pure.

One function each: (lowering, state, instruction) -> state. The history is told what was done.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from builder.compiler import created_by, ports, scope
from builder.compiler.growth import check_variable, check_variables
from builder.compiler.healthchecks import read_healthcheck
from builder.compiler.lowering import Lowering
from builder.compiler.nearest import meant
from builder.compiler.state import StageState
from builder.dockerfile.ast import (
    Arg,
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Pair,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
)
from builder.dockerfile.blanks import SPACE
from builder.oci.spec import Empty

DEFAULT_SHELL = ("/bin/sh", "-c")
WINDOWS_SHELL = ("cmd", "/S", "/C")
# signal(7); the names that images use, without SIG.
SIGNALS = frozenset({
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    *(f"RTMIN+{n}" for n in range(1, 16)), *(f"RTMAX-{n}" for n in range(1, 15)),
})  # fmt: skip


def lower_env(lowering: Lowering, state: StageState, step: Env) -> StageState:
    """ENV: every value sees the variables from before the line."""
    pairs = _expand_pairs(lowering, state, step, step.pairs)
    for name, value in pairs:
        lowering.bound(step, check_variable, name, value)
        state = state.exported(name, value)
    lowering.bound(step, check_variables, state.variables)
    return state.noted(_pairs_text("ENV", pairs))


def lower_arg(lowering: Lowering, state: StageState, step: Arg) -> StageState:
    """ARG: a build argument's value, else the default, else the global value of the name."""
    told = []
    for pair, value in arg_values(lowering, state, step):
        if value is not None and pair.name not in scope.SILENT:
            lowering.bound(step, check_variable, pair.name, value)
            lowering.bound(step, lowering.growth.add, len(value))
            state = state.assigned(pair.name, value)
        state = replace(state, args=state.args.put(pair.name, None))
        told.append(pair.name if value is None else f"{pair.name}={value}")
    lowering.bound(step, check_variables, state.variables)
    return state.noted("ARG " + " ".join(told))


def arg_values(lowering: Lowering, state: StageState, step: Arg) -> Iterator[tuple[Pair, str | None]]:
    """The names of an ARG and what they come to (None: nothing); each default sees the names to its left."""
    for pair in step.pairs:
        value = _arg_value(lowering, state, step, pair)
        yield pair, value
        if value is not None and pair.name not in scope.SILENT:
            state = state.assigned(pair.name, value)


def _arg_value(lowering: Lowering, state: StageState, step: Arg, pair: Pair) -> str | None:
    given = lowering.options.build_args.get(pair.name)
    if given is not None:
        return given
    if pair.value is not None:
        return lowering.expand(pair.value, state, step)
    return lowering.globals.get(pair.name)


def lower_label(lowering: Lowering, state: StageState, step: Label) -> StageState:
    """LABEL."""
    pairs = _expand_pairs(lowering, state, step, step.pairs)
    labels = state.labels.with_all(pairs)
    return replace(state, labels=labels).noted(_pairs_text("LABEL", pairs))


def _expand_pairs(
    lowering: Lowering, state: StageState, step: Env | Label, pairs: tuple[Pair, ...]
) -> list[tuple[str, str]]:
    return [
        (lowering.expand(pair.name, state, step), lowering.expand(pair.value or "", state, step))
        for pair in pairs
    ]


def _pairs_text(keyword: str, pairs: list[tuple[str, str]]) -> str:
    return " ".join([keyword, *(f"{name}={value}" for name, value in pairs)])


def lower_expose(lowering: Lowering, state: StageState, step: Expose) -> StageState:
    """EXPOSE: ranges are spelled out."""
    location = lowering.location(step)
    exposed: list[str] = []
    for word in sorted(step.ports):
        for text in scope.expand_words(word, lowering.counted(state), lowering.escape, location):
            try:
                exposed += ports.read_port(text)
            except ValueError as error:
                raise lowering.fault(step, str(error), "bad-port") from error
    known = state.ports.with_all((port, Empty()) for port in exposed)
    return replace(state, ports=known).noted("EXPOSE " + created_by.plain_list(exposed))


def lower_volume(lowering: Lowering, state: StageState, step: Volume) -> StageState:
    """VOLUME."""
    paths = lowering.expand_all(tuple(path.strip(SPACE) for path in step.paths), state, step)
    if not all(paths):
        raise lowering.fault(step, "VOLUME has an empty path", "empty-volume")
    volumes = state.volumes.with_all((path, Empty()) for path in paths)
    return replace(state, volumes=volumes).noted("VOLUME " + created_by.plain_list(paths))


def lower_user(lowering: Lowering, state: StageState, step: User) -> StageState:
    """USER: kept as it is; who that is shows when something runs."""
    user = lowering.expand(step.user, state, step)
    return state.configured(user=user).noted(f"USER {user}")


def lower_cmd(lowering: Lowering, state: StageState, step: Cmd) -> StageState:
    """CMD."""
    argv = with_shell(lowering, state, step, step.command)
    state = replace(state, own_cmd=True).configured(cmd=argv or None, args_escaped=True)
    return state.noted("CMD " + created_by.quoted_list(argv))


def lower_entrypoint(lowering: Lowering, state: StageState, step: Entrypoint) -> StageState:
    """ENTRYPOINT: clears a CMD that was not set in this stage."""
    argv = with_shell(lowering, state, step, step.command)
    cmd = state.config.cmd if state.own_cmd else None
    return state.configured(entrypoint=argv or None, cmd=cmd).noted(
        "ENTRYPOINT " + created_by.quoted_list(argv)
    )


def with_shell(
    lowering: Lowering, state: StageState, step: Run | Cmd | Entrypoint, command: Command
) -> tuple[str, ...]:
    """The argument vector of a command: the shell form goes to the SHELL, which each one repeats."""
    if not command.shell:
        return command.words
    shell = shell_of(state)
    lowering.bound(step, lowering.growth.add, sum(map(len, shell)))
    return (*shell, " ".join(command.words))


def shell_of(state: StageState) -> tuple[str, ...]:
    """The SHELL in force."""
    return state.config.shell or (WINDOWS_SHELL if state.image.os == "windows" else DEFAULT_SHELL)


def lower_healthcheck(lowering: Lowering, state: StageState, step: Healthcheck) -> StageState:
    """HEALTHCHECK: the last one counts whole."""
    check = read_healthcheck(step)
    return state.configured(healthcheck=check).noted(created_by.healthcheck_text(check))


def lower_stopsignal(lowering: Lowering, state: StageState, step: Stopsignal) -> StageState:
    """STOPSIGNAL: a number but 0, or a name with or without SIG."""
    signal = lowering.expand(step.signal, state, step)
    name = signal.upper().removeprefix("SIG")
    digits = signal.removeprefix("-").removeprefix("+")
    is_number = digits.isascii() and digits.isdecimal() and len(digits) < 10 and int(digits) != 0
    if not is_number and name not in SIGNALS:
        near = meant(signal.upper(), [f"SIG{known}" for known in sorted(SIGNALS)])
        raise lowering.fault(step, f"signal {signal!r} is not known", "bad-signal", near)
    return state.configured(stop_signal=signal).noted(f"STOPSIGNAL {signal}")


def lower_shell(lowering: Lowering, state: StageState, step: Shell) -> StageState:
    """SHELL."""
    return state.configured(shell=step.words).noted("SHELL " + created_by.plain_list(step.words))


def lower_maintainer(lowering: Lowering, state: StageState, step: Maintainer) -> StageState:
    """MAINTAINER: not expanded."""
    image = replace(state.image, author=step.name)
    return replace(state, image=image).noted(f"MAINTAINER {step.name}")


def lower_onbuild(lowering: Lowering, state: StageState, step: Onbuild) -> StageState:
    """ONBUILD: kept as written, for stages and images that stand on this one; not in the history."""
    return replace(state, triggers=state.triggers.added(step.trigger))

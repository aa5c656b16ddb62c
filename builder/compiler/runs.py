"""RUN: the command, its environment, its mounts. Pure.

Input 0 of the vertex is what the command runs on; each mount that shows files of somewhere else has an
input of its own. What a mount shows of a folder or of another stage counts by its content, an image by its
digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from builder.compiler import created_by, paths, scope
from builder.compiler.flags import texts
from builder.compiler.lowering import Lowering, Origin
from builder.compiler.metadata import with_shell
from builder.compiler.nearest import meant
from builder.compiler.sources import FromScratch
from builder.compiler.state import StageState
from builder.dockerfile import mounts
from builder.dockerfile.ast import Command, Heredoc, Run
from builder.dockerfile.heredocs import read_marker
from builder.dockerfile.mounts import MountError, MountOptions
from builder.graph.definition import Input
from builder.graph.selection import Selection
from builder.ops.exec import BindMount, CacheMount, Exec, Mount, SecretMount, SshMount, TmpfsMount

SCRIPTS = "/dev/pipes"
SECRETS = "/run/secrets"
AGENTS = "/run/buildkit/ssh_agent"
SOCKET_VARIABLE = "SSH_AUTH_SOCK"


@dataclass(frozen=True, slots=True)
class Mounting:
    """A mount, and the input that it needs (its number is one that the mount knows)."""

    mount: Mount
    input: Input | None = None


def lower_run(
    lowering: Lowering, state: StageState, step: Run, origins: Sequence[Origin | None]
) -> StageState:
    """RUN; `origins` tells for each `--mount` where its `from` leads (None: it has none)."""
    if texts(step, "device"):
        raise lowering.fault(step, "RUN --device comes with a later version", "not-supported-yet")
    script = _script(state, step)
    argv = with_shell(state, _command(step, script))
    if not argv:
        raise lowering.fault(step, "RUN has no command", "empty-command")
    inputs = [Input(state.head)]
    mountings: list[Mount] = []
    if script is not None:
        folder = lowering.inline_file(_file_name(lowering, step, script), script.text, "755")
        mountings.append(BindMount(1, "/", SCRIPTS))
        inputs.append(Input(folder))
    for text, origin in zip(texts(step, "mount"), origins, strict=True):
        options = _parse_mount(lowering, state, step, text)
        agents = sum(isinstance(mount, SshMount) for mount in mountings)
        mounting = _mounting(lowering, state, step, options, origin, len(inputs), agents)
        mountings.append(mounting.mount)
        inputs += [mounting.input] if mounting.input else []
    op = _exec(lowering, state, step, argv, tuple(mountings))
    lowering.refuse_nul(step, *argv, op.cwd, op.user, *(text for entry in op.env for text in entry))
    head, grown = lowering.add(op, tuple(inputs), state, step, _label(step))
    return grown.grown(head, created_by.run_text(argv, state.args, state.variables))


def _exec(
    lowering: Lowering, state: StageState, step: Run, argv: tuple[str, ...], mountings: tuple[Mount, ...]
) -> Exec:
    options = lowering.options
    variables = dict(state.variables)
    for mount in mountings:
        if isinstance(mount, SshMount):
            variables.setdefault(SOCKET_VARIABLE, mount.target or "")
    return Exec(
        argv,
        tuple(variables.items()),
        state.folder,
        user=state.config.user,
        mounts=mountings,
        network=_network(lowering, step),
        security=_security(lowering, step),
        hosts=tuple((name.lower(), address) for name, address in options.add_hosts),
        ulimits=options.ulimits,
        shm_size=options.shm_size,
        hostname=options.hostname or options.build_args.get(scope.HOSTNAME, ""),
        platform=str(state.platform),
        proxy=scope.proxy_variables(options.build_args),
    )


def _network(lowering: Lowering, step: Run) -> str:
    asked = step.flag("network") or "default"
    if asked == "default":
        return lowering.options.network
    if asked == "host" and lowering.options.network != "host":
        _need(lowering, step, "network.host", "--network=host")
    return asked


def _security(lowering: Lowering, step: Run) -> str:
    asked = step.flag("security") or "sandbox"
    if asked == "insecure":
        _need(lowering, step, "security.insecure", "--security=insecure")
    return asked


def _need(lowering: Lowering, step: Run, entitlement: str, flag: str) -> None:
    if entitlement not in lowering.options.entitlements:
        raise lowering.fault(
            step,
            f"RUN {flag} needs the entitlement {entitlement}, which is not granted",
            "not-entitled",
            f"grant it with --allow {entitlement}",
        )


# ---- the command ----


def _script(state: StageState, step: Run) -> Heredoc | None:
    """The heredoc that is a program of its own: it is all there is, and begins with a shebang."""
    lone = _lone_heredoc(step)
    if lone is not None and lone.text.startswith("#!") and state.image.os != "windows":
        return lone
    return None


def _lone_heredoc(step: Run) -> Heredoc | None:
    if not step.command.shell or len(step.heredocs) != 1:
        return None
    return step.heredocs[0] if read_marker(" ".join(step.command.words).strip()) else None


def _command(step: Run, script: Heredoc | None) -> Command:
    """The command with its heredocs: a lone one is what the shell is told, others the shell reads itself."""
    if not step.heredocs or not step.command.shell:
        return step.command
    if script is not None:
        return Command((f"{SCRIPTS}/{script.name}",), shell=True)
    lone = _lone_heredoc(step)
    if lone is not None:
        return Command((lone.text,), shell=True)
    bodies = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in step.heredocs)
    return Command((" ".join(step.command.words) + bodies,), shell=True)


def _file_name(lowering: Lowering, step: Run, script: Heredoc) -> str:
    if script.name in ("", ".", "..") or "/" in script.name:
        raise lowering.fault(
            step, f"heredoc {script.name!r} cannot be the name of a file", "bad-heredoc-name"
        )
    return script.name


def _label(step: Run) -> str:
    """The text as written (its variables are the shell's), with the first line of a lone heredoc."""
    lone = _lone_heredoc(step)
    if lone is None:
        return step.original
    lines = lone.text.strip().splitlines() or [""]
    return f"{step.original} ({lines[0]}{'...' if len(lines) > 1 else ''})"


# ---- the mounts ----


def _parse_mount(lowering: Lowering, state: StageState, step: Run, text: str) -> MountOptions:
    try:
        return mounts.parse_mount(text, lambda value: lowering.expand(value, state, step))
    except MountError as error:
        hint = meant(error.key, mounts.KEYS) if error.key else None
        raise lowering.fault(step, str(error), "bad-mount", hint) from error


def _mounting(
    lowering: Lowering,
    state: StageState,
    step: Run,
    options: MountOptions,
    origin: Origin | None,
    number: int,
    agents: int,
) -> Mounting:
    """The mount that the options mean; `number` is that of its input, `agents` counts ssh mounts before."""
    match options.kind:
        case "secret":
            return Mounting(_secret(state, options))
        case "ssh":
            return Mounting(_ssh(state, options, agents))
    target = paths.join(state.folder, options.target)
    if target == "/":
        raise lowering.fault(step, f"a {options.kind} mount needs a target below /", "bad-mount")
    source = paths.clean(options.source)
    match options.kind:
        case "tmpfs":
            return Mounting(TmpfsMount(target, options.size))
        case "cache":
            return _cache(options, target, source, origin, number)
    shown = origin or lowering.context()
    mount = BindMount(number, source, target, readonly=options.readonly is not False)
    return Mounting(mount, _shown_input(shown, source))


def _shown_input(origin: Origin, source: str) -> Input:
    if origin.is_image or isinstance(origin.source, FromScratch):
        return Input(origin.vertex)
    return Input(origin.vertex, Selection((source,), owners=not origin.is_folder, wildcards=False))


def _cache(options: MountOptions, target: str, source: str, origin: Origin | None, number: int) -> Mounting:
    filled = origin is not None and not isinstance(origin.source, FromScratch)
    mount = CacheMount(
        id=options.id or _cache_id(options.target),
        target=target,
        sharing=options.sharing or "shared",
        mode=0o755 if options.mode is None else options.mode,
        uid=options.uid or 0,
        gid=options.gid or 0,
        input=number if filled else None,
        source=source,
        readonly=options.readonly is True,
    )
    return Mounting(mount, _shown_input(origin, source) if origin is not None and filled else None)


def _cache_id(target: str) -> str:
    """A cache without an id goes by its target, as the Dockerfile names it."""
    cleaned = paths.clean(target)
    return cleaned if target.startswith("/") else cleaned[1:]


def _secret(state: StageState, options: MountOptions) -> SecretMount:
    name = options.source or options.id or paths.base_name(options.target)
    target = options.target
    if not target and options.env is None:
        target = f"{SECRETS}/{paths.base_name(name)}"
    return SecretMount(
        id=name,
        target=paths.join(state.folder, target) if target else None,
        env=name if options.env == "" else options.env,
        mode=0o400 if options.mode is None else options.mode,
        uid=options.uid or 0,
        gid=options.gid or 0,
        required=options.required,
    )


def _ssh(state: StageState, options: MountOptions, agents: int) -> SshMount:
    target = options.target or f"{AGENTS}.{agents}"
    return SshMount(
        id=options.id or "default",
        target=paths.join(state.folder, target),
        mode=0o600 if options.mode is None else options.mode,
        uid=options.uid or 0,
        gid=options.gid or 0,
        required=options.required,
    )

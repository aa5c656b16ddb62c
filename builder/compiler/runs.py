"""RUN: the command, its environment, its mounts. Pure.

Input 0 of the vertex is what the command runs on; each mount that shows files of somewhere else has an
input of its own. What a mount shows counts by its content.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from builder.compiler import created_by, paths, scope
from builder.compiler.copies import check_file_name
from builder.compiler.entitlements import device_grants
from builder.compiler.flags import texts
from builder.compiler.lowering import Lowering, Origin
from builder.compiler.metadata import with_shell
from builder.compiler.nearest import meant
from builder.compiler.sources import FromScratch
from builder.compiler.state import StageState
from builder.dockerfile import mounts
from builder.dockerfile.ast import Command, Heredoc, Run
from builder.dockerfile.devices import parse_device
from builder.dockerfile.heredocs import is_marker
from builder.dockerfile.mounts import MountError, MountOptions
from builder.graph.definition import Input
from builder.graph.selection import Selection
from builder.ops.exec import BindMount, CacheMount, Device, Exec, Mount, SecretMount, SshMount, TmpfsMount

SCRIPTS = "/dev/pipes"
SECRETS = "/run/secrets"
AGENTS = "/run/buildkit/ssh_agent"
SOCKET_VARIABLE = "SSH_AUTH_SOCK"
MAX_TOLD = 4 * 2**20  # characters of a history, from which on no RUN repeats all ARGs there


def lower_run(
    lowering: Lowering, state: StageState, step: Run, origins: Sequence[Origin | None]
) -> StageState:
    """RUN; `origins` tells for each `--mount` where its `from` leads (None: it has none)."""
    script = _script(state, step)
    argv = with_shell(lowering, state, step, _command(step, script))
    mounting = Mounting(lowering, state, step, [Input(state.head)])
    if script is not None:
        mounting.add_script(script)
    for text, origin in zip(texts(step, "mount"), origins, strict=True):
        mounting.add(_parse_mount(lowering, state, step, text), origin)
    op = _exec(lowering, state, step, argv, tuple(mounting.mounts))
    lowering.refuse_nul(step, *argv, op.cwd, op.user, *state.variables.with_nul())
    inputs = tuple(mounting.inputs)
    head, grown = lowering.add(op, inputs, state, step, _label(step))
    return grown.grown(head, _history_text(state, argv))


def _history_text(state: StageState, argv: tuple[str, ...]) -> str:
    """What the history tells of it: the ARGs with their values too, unless it is very long already."""
    if state.told < MAX_TOLD:
        return created_by.run_text(argv, state.args, state.variables)
    return created_by.run_text(argv, (), {})


def _exec(
    lowering: Lowering, state: StageState, step: Run, argv: tuple[str, ...], mountings: tuple[Mount, ...]
) -> Exec:
    options = lowering.options
    lowering.bound(step, lowering.growth.list, state.variables)
    lowering.bound(step, lowering.growth.add, len(state.config.user))
    env = state.variables.pairs()
    agent = next((mount for mount in mountings if isinstance(mount, SshMount)), None)
    if agent is not None and SOCKET_VARIABLE not in state.variables:
        env = (*env, (SOCKET_VARIABLE, agent.target or ""))
    return Exec(
        argv,
        env,
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
        devices=_devices(lowering, step),
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


def _devices(lowering: Lowering, step: Run) -> tuple[Device, ...]:
    """The devices asked for; who grants one under another name has granted it."""
    asked = texts(step, "device")
    if not asked:
        return ()
    aliases = device_grants(lowering.options.entitlements).aliases
    devices = []
    for options in map(parse_device, asked):  # they have been looked at when they were parsed
        alias = aliases.get(options.name)
        devices.append(Device(alias or options.name, options.required, granted=alias is not None))
    return tuple(devices)


def _need(lowering: Lowering, step: Run, entitlement: str, flag: str) -> None:
    if entitlement not in lowering.options.entitlements:
        raise lowering.fault(
            step,
            f"RUN {flag} needs the entitlement {entitlement}, which is not granted",
            "not-entitled",
            f"grant it with --allow {entitlement}",
            flag=flag.partition("=")[0].removeprefix("--"),
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
    return step.heredocs[0] if is_marker(" ".join(step.command.words).strip()) else None


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
        hint = meant(error.word, error.known)
        raise lowering.fault(step, str(error), "bad-mount", hint, flag="mount", value=text) from error


class Mounting(msgspec.Struct):
    """The mounts of one RUN as they are gathered, and the inputs that they need."""

    lowering: Lowering
    state: StageState
    step: Run
    inputs: list[Input]
    mounts: list[Mount] = msgspec.field(default_factory=list)
    agents: int = 0

    def add_script(self, script: Heredoc) -> None:
        """A heredoc that is a program, where the command finds it."""
        check_file_name(self.lowering, self.step, script.name)
        folder = self.lowering.inline_file(script.name, script.text, "755")
        self.mounts.append(BindMount(self._need(Input(folder)), "/", SCRIPTS))

    def add(self, options: MountOptions, origin: Origin | None) -> None:
        """A `--mount`; `origin` is where its `from` leads. Raises DockerfileError."""
        match options.kind:
            case "secret":
                self.mounts.append(_secret(self.state, options))
            case "ssh":
                self.mounts.append(_ssh(self.state, options, self.agents))
                self.agents += 1
            case "tmpfs":
                self.mounts.append(TmpfsMount(self._target(options), options.size, options.readonly is True))
            case "cache":
                self.mounts.append(self._cache(options, origin))
            case _:
                self.mounts.append(self._bind(options, origin or self.lowering.context()))

    def _need(self, needed: Input) -> int:
        self.inputs.append(needed)
        return len(self.inputs) - 1

    def _target(self, options: MountOptions) -> str:
        target = paths.join(self.state.folder, options.target)
        if target == "/":
            message = f"a {options.kind} mount needs a target below /"
            raise self.lowering.fault(self.step, message, "bad-mount")
        return target

    def _bind(self, options: MountOptions, origin: Origin) -> BindMount:
        target, source = self._target(options), paths.clean(options.source)
        number = self._need(_shown_input(origin, source))
        return BindMount(number, source, target, readonly=options.readonly is not False)

    def _cache(self, options: MountOptions, origin: Origin | None) -> CacheMount:
        target, source = self._target(options), paths.clean(options.source)
        number = None
        # With an owner or a mode of its own, and no source, a cache starts empty, whatever `from` says.
        fresh = source == "/" and (options.mode, options.uid, options.gid) != (None, None, None)
        if origin is not None and not fresh and not isinstance(origin.source, FromScratch):
            number = self._need(_shown_input(origin, source))
        return CacheMount(
            id=options.id or _cache_id(options.target),
            target=target,
            sharing=options.sharing or "shared",
            mode=0o755 if options.mode is None else options.mode,
            uid=options.uid or 0,
            gid=options.gid or 0,
            input=number,
            source=source,
            readonly=options.readonly is True,
        )


def _shown_input(origin: Origin, source: str) -> Input:
    if isinstance(origin.source, FromScratch):
        return Input(origin.vertex)
    return Input(origin.vertex, Selection((source,), owners=not origin.is_folder, wildcards=False))


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

"""A request as the record of its build keeps it, so that the same can be built again.

Paths are absolute in it. What is nobody's business is not: values of build arguments and secrets, and the
credentials of addresses; `lacks` says of what somebody would have to give them once more. What only says
where the image goes, how the build is shown, or how fast it is, is left out. On the path of a fully cached
build.
"""

from __future__ import annotations

import os

from builder import prepare
from builder.delivery import specs_of
from builder.errors import BuildError
from builder.request import BuildRequest, OutputSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PLAIN = (
    "target", "platform", "network", "hostname", "shm_size", "reproducible", "locked", "isolation", "runtime",
    "squash", "annotations",
)  # fmt: skip
LISTS = ("ulimits", "allow", "cdi_spec_dirs")
KEPT_ARGS = {prepare.EPOCH, prepare.MULTI_PLATFORM}
GIVEN = ("build-arg", "secret", "ssh")
HIDDEN = "***"
LAYOUT = "oci-layout://"
STDIN = "-"
NO_STDIN = "put that into a folder or a file, and name the CONTEXT with the flags that it was built with"


def told_of(request: BuildRequest, environ: Mapping[str, str]) -> dict[str, Any]:
    """All that a record says of what was asked: for people and, as `again`, for who does it once more."""
    return {
        "context": _shown(request.context),
        "folder": os.path.realpath(request.context) if os.path.isdir(request.context) else "",
        "dockerfile": _shown(request.dockerfile or "") or None,
        "tags": list(request.tags),
        "target": request.target,
        "platform": request.platform,
        "build_args": sorted(request.build_args),
        "secrets": sorted(secret.id for secret in request.secrets),
        "ssh": sorted(agent.id for agent in request.ssh),
        "again": plain_of(request, environ),
    }


def plain_of(request: BuildRequest, environ: Mapping[str, str]) -> dict[str, Any]:
    """A request as plain JSON data."""
    args = prepare.build_args(request, environ)
    return {
        "context": _absolute(request.context),
        "dockerfile": _dockerfile(request),
        "contexts": {name: _absolute(value) for name, value in request.contexts.items()},
        "labels": dict(request.labels),
        "add_hosts": [list(host) for host in request.add_hosts],
        "outputs": [[spec.type, dict(spec.attrs)] for spec in specs_of(request)],
        "unlocked": request.pull,
        "one_as_several": request.one_as_several,
        "epoch": args.get(prepare.EPOCH),
        "build-arg": sorted((args.keys() & request.build_args.keys()) - KEPT_ARGS),
        "secret": sorted(secret.id for secret in request.secrets),
        "ssh": sorted(agent.id for agent in request.ssh),
        **{name: getattr(request, name) for name in PLAIN},
        **{name: list(getattr(request, name)) for name in LISTS},
    }


def _absolute(text: str) -> str:
    """A path as it is found from any folder; an address without its credentials."""
    if text.startswith(LAYOUT):
        return LAYOUT + os.path.abspath(text.removeprefix(LAYOUT))
    return os.path.abspath(text) if text != STDIN and os.path.exists(text) else _shown(text)


def _dockerfile(request: BuildRequest) -> str | None:
    """The Dockerfile that was named; in a context that is no folder it is a path of that."""
    typed = request.dockerfile
    if not typed:
        return None
    return _absolute(typed) if prepare.has_folder(request) else _shown(typed)


def _shown(text: str) -> str:
    """A path as it is, an address without its credentials."""
    if "://" not in text:
        return text
    from builder.compiler.remotes import redact

    return redact(text)


def request_of(plain: Mapping[str, Any], given: BuildRequest) -> BuildRequest:
    """The request of a record; `given` has the store, and what a record does not keep.

    Raises BuildError where that is not enough, or the record is damaged.
    """
    try:
        kept: dict[str, Any] = {name: plain[name] for name in PLAIN}
        kept |= {name: tuple(plain[name]) for name in LISTS}
        asked = BuildRequest(
            context=str(plain["context"]),
            root=given.root,
            root_flag=given.root_flag,
            dockerfile=plain["dockerfile"],
            contexts={**plain["contexts"], **given.contexts},
            labels=plain["labels"],
            add_hosts=tuple((name, address) for name, address in plain["add_hosts"]),
            outputs=tuple(OutputSpec(kind, None, attrs) for kind, attrs in plain["outputs"]),
            build_args=_args(plain, given),
            unlocked=plain.get("unlocked") is True,
            one_as_several=plain.get("one_as_several") is True,
            own_epoch=True,
            proxies=given.proxies,
            secrets=given.secrets,
            ssh=given.ssh,
            offline=given.offline,
            jobs=given.jobs,
            network_helper=given.network_helper,
            **kept,
        )
        lacking = _lacking(plain, given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildError(
            "the record of its build does not tell how it was asked for",
            code="no-build",
            hint="name its CONTEXT, with the flags that it was built with",
        ) from error
    is_gone = STDIN in (asked.dockerfile, asked.context)
    if is_gone:
        lacking.insert(0, "what came on standard input")
    if lacking:
        raise BuildError(
            f"the record of its build does not keep {', '.join(lacking)}",
            code="not-recorded",
            hint=NO_STDIN if is_gone else "give that again, by the flags that it was built with",
        )
    if os.path.isabs(asked.context) and not os.path.exists(asked.context):
        raise BuildError(
            f"the context {asked.context} of its build is not there any more",
            code="context",
            hint="name its CONTEXT where it is now, with the flags that it was built with",
        )
    return asked


def _args(plain: Mapping[str, Any], given: BuildRequest) -> dict[str, str | None]:
    """The build args that are given, and those of the record."""
    found = {name: value for name, value in given.build_args.items() if name not in KEPT_ARGS}
    if plain["epoch"] is not None:
        found[prepare.EPOCH] = plain["epoch"]
    if plain.get("one_as_several") is True:
        found[prepare.MULTI_PLATFORM] = "1"
    return found


def completed(typed: BuildRequest, plain: Mapping[str, Any], environ: Mapping[str, str]) -> BuildRequest:
    """A request that was typed, with a record's outputs and time, where it has none of its own; the lock file
    has its say as it had then, and so has what asked for the form of several platforms."""
    outputs, epoch = plain.get("outputs"), plain.get("epoch")
    typed = typed.but(unlocked=plain.get("unlocked") is True and not typed.locked)
    if plain.get("one_as_several") is True:
        args = {**typed.build_args, prepare.MULTI_PLATFORM: "1"}
        typed = typed.but(one_as_several=True, build_args=args)
    if isinstance(epoch, str) and prepare.EPOCH not in prepare.build_args(typed, environ):
        typed = typed.but(build_args={**typed.build_args, prepare.EPOCH: epoch})
    if typed.outputs or not isinstance(outputs, list):
        return typed
    try:
        return typed.but(outputs=tuple(OutputSpec(kind, None, attrs) for kind, attrs in outputs))
    except (TypeError, ValueError):
        return typed


def _lacking(plain: Mapping[str, Any], given: BuildRequest) -> list[str]:
    """What was given to the build, and is not given now, as it is typed."""
    there = {
        "build-arg": set(given.build_args),
        "secret": {secret.id for secret in given.secrets},
        "ssh": {agent.id for agent in given.ssh},
    }
    found = [f"--{kind} {name}" for kind in GIVEN for name in plain[kind] if name not in there[kind]]
    addresses = {"the context": plain["context"], "the Dockerfile": plain["dockerfile"] or ""}
    addresses |= {
        f"--build-context {name}": text
        for name, text in plain["contexts"].items()
        if name not in given.contexts
    }
    found += [f"the credentials of {what}" for what, text in addresses.items() if HIDDEN in text]
    return found

"""How an image was built: the SLSA provenance predicates v1 and v0.2, with BuildKit's build types and fields.

    https://slsa.dev/spec/v1.1/provenance, https://slsa.dev/spec/v0.2/provenance

`min` tells materials, times and the request without build args, labels and the names of secrets; `max` tells
those too, with the definition and the Dockerfile's text. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from builder import __version__
from builder.attest.materials import Materials
from builder.attest.redaction import HIDDEN, Redactor
from builder.attest.steps import Steps
from builder.compiler.secretnames import sounds_secret
from builder.graph.definition import Vertex

V1, V02 = "https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"
TYPE_V1 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
TYPE_V02 = "https://mobyproject.org/buildkit@v1"
FRONTEND = "dockerfile.v0"
PRIVATE_ARGS = ("build-arg:", "label:")  # what `min` leaves out

Json = dict[str, Any]


class Invocation(msgspec.Struct, frozen=True):
    """What a build was asked for, and when.

    context: "" for a folder, else its address; context_digest: of what was there, by algorithm. args: the
    options as BuildKit calls them ("build-arg:NAME", "label:NAME", "target", …). began, ended: seconds.
    builder_platform: this machine's. locals: contexts that are the user's folders, the Dockerfile's too.
    """

    id: str
    began: float
    ended: float
    dockerfile_name: str
    dockerfile: str
    context: str
    context_digest: dict[str, str]
    args: Mapping[str, str]
    locals: tuple[str, ...]
    builder_platform: str


class Wanted(msgspec.Struct, frozen=True):
    """Which provenance is asked for. mode: "min" or "max"; version: "v1" or "v0.2"."""

    mode: str = "max"
    version: str = "v1"
    builder_id: str = ""
    reproducible: bool = False


def predicate_type(wanted: Wanted) -> str:
    """What the predicate is called in a statement."""
    return V02 if wanted.version == "v0.2" else V1


def predicate(
    wanted: Wanted,
    invocation: Invocation,
    materials: Materials,
    reached: Sequence[Vertex],
    layers: Sequence[Json],
    redactor: Redactor,
) -> Json:
    """The predicate. reached: what the target needs, in topological order; layers: descriptors."""
    request, all_args = _request(wanted, invocation, materials, redactor)
    complete = materials.is_complete and not invocation.locals
    metadata: Json = {
        "invocationId": invocation.id,
        "startedOn": _time(invocation.began),
        "finishedOn": _time(invocation.ended),
        "buildkit_metadata": {},
    }
    if complete and not materials.network:
        metadata["buildkit_hermetic"] = True
    metadata["buildkit_completeness"] = {"request": all_args, "resolvedDependencies": complete}
    if wanted.reproducible:
        metadata["buildkit_reproducible"] = True
    internal: Json = {"builderPlatform": invocation.builder_platform}
    if wanted.mode == "max":
        steps = Steps(reached, redactor)
        internal = {"buildConfig": steps.config(), **internal}
        metadata["buildkit_metadata"] = _max_metadata(steps, invocation, layers)
    source: Json = {"path": redactor.text(invocation.dockerfile_name)}
    if invocation.context:
        source = {"uri": redactor.text(invocation.context), "digest": invocation.context_digest, **source}
    told: Json = {
        "buildDefinition": {
            "buildType": TYPE_V1,
            "resolvedDependencies": [msgspec.to_builtins(one) for one in materials.dependencies],
            "externalParameters": {"configSource": source, "request": request},
            "internalParameters": internal,
        },
        "runDetails": {
            "builder": {"id": wanted.builder_id, "version": {"pybuild": __version__}},
            "metadata": metadata,
        },
    }
    return _older(told) if wanted.version == "v0.2" else told


def for_metadata(told: Json) -> Json:
    """A predicate of either version as buildx's metadata files have it: v0.2, without steps and metadata."""
    older = _older(told) if "buildDefinition" in told else told
    return {name: value for name, value in older.items() if name not in ("buildConfig", "metadata")}


def _request(
    wanted: Wanted, invocation: Invocation, materials: Materials, redactor: Redactor
) -> tuple[Json, bool]:
    """The request, and whether it is all told."""
    args = {name: _argument(name, value, redactor) for name, value in sorted(invocation.args.items())}
    told: Json = {"frontend": FRONTEND}
    hidden = HIDDEN in args.values()
    if wanted.mode == "min":
        kept = {name: value for name, value in args.items() if not name.startswith(PRIVATE_ARGS)}
        hidden = hidden or len(kept) < len(args)
        args = kept
    else:
        for name, known in (("secrets", materials.secrets), ("ssh", materials.ssh)):
            if known:
                told[name] = [_mounted(id_, optional) for id_, optional in sorted(known.items())]
    if args:
        told["args"] = args
    names = sorted({*invocation.locals, *materials.locals})
    if names:
        told["locals"] = [{"name": name} for name in names]
    return told, not hidden


def _argument(name: str, value: str, redactor: Redactor) -> str:
    kind, _, variable = name.partition(":")
    if kind == "build-arg" and value and sounds_secret(variable):
        return HIDDEN
    return redactor.text(value)


def _mounted(name: str, optional: bool) -> Json:
    return {"id": name, "optional": True} if optional else {"id": name}


def _max_metadata(steps: Steps, invocation: Invocation, layers: Sequence[Json]) -> Json:
    told: Json = {"source": steps.source(invocation.dockerfile_name, invocation.dockerfile)}
    if found := steps.layers(layers):
        told["layers"] = found
    return told


def _older(told: Json) -> Json:
    """The same as a predicate of SLSA v0.2."""
    definition, details = told["buildDefinition"], told["runDetails"]
    external, internal = definition["externalParameters"], dict(definition["internalParameters"])
    metadata = details["metadata"]
    source = dict(external["configSource"])
    source["entryPoint"] = source.pop("path")
    older: Json = {
        "builder": {"id": details["builder"]["id"]},
        "buildType": TYPE_V02,
        "materials": definition["resolvedDependencies"],
        "invocation": {
            "configSource": source,
            "parameters": external["request"],
            "environment": {"platform": internal["builderPlatform"]},
        },
    }
    if "buildConfig" in internal:
        older["buildConfig"] = internal["buildConfig"]
    older["metadata"] = {
        "buildInvocationID": metadata["invocationId"],
        "buildStartedOn": metadata["startedOn"],
        "buildFinishedOn": metadata["finishedOn"],
        "completeness": {
            "parameters": metadata["buildkit_completeness"]["request"],
            "environment": True,
            "materials": metadata["buildkit_completeness"]["resolvedDependencies"],
        },
        "reproducible": metadata.get("buildkit_reproducible", False),
        "https://mobyproject.org/buildkit@v1#metadata": metadata["buildkit_metadata"],
    }
    if metadata.get("buildkit_hermetic"):
        older["metadata"]["https://mobyproject.org/buildkit@v1#hermetic"] = True
    return older


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

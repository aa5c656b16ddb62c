"""SLSA provenance as BuildKit's: what it was made of, what was asked for, and nothing that is secret."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

from builder.attest.materials import Chosen, gather
from builder.attest.provenance import V02, V1, Invocation, Wanted, for_metadata, predicate, predicate_type
from builder.attest.redaction import Redactor, secrets_in
from builder.compiler.program import Program
from builder.ops.source import Git, Http
from tests.support.compiling import compile_text

CANARY = "canary-value-1"
EVERYTHING = """\
# syntax=docker/dockerfile:1
FROM busybox AS build
ARG TOKEN
ARG PLAIN
ADD https://me:pw@example.org/a.txt /a.txt
ADD https://example.org/x.git#main /x
RUN --mount=type=secret,id=key --mount=type=ssh --mount=type=cache,target=/c --network=none \\
    make $TOKEN
FROM debian:12
COPY --from=build /out /in
COPY <<EOT /note
text
EOT
WORKDIR /srv
COPY . .
"""


def provenance(
    text: str,
    *,
    layers: list[dict[str, Any]] | None = None,
    named: str = "",
    args: dict[str, str] | None = None,
    locals_: tuple[str, ...] = ("context", "dockerfile"),
    fetched: dict[type, str] | None = None,
    **wanted: Any,
) -> dict[str, Any]:
    """The predicate of a Dockerfile; fetched: what was found at addresses, by the kind of op; named: what
    names of images mean."""
    program = compile_text(text, build_args=args or {}, platform_given=True)
    reached = program.definition.reached(program.target)
    options = {f"build-arg:{name}": value for name, value in (args or {}).items()}
    redactor = Redactor(secrets_in(args or {}))
    found = {vertex.digest: (fetched or {}).get(type(vertex.op), "") for vertex in reached}
    told = predicate(
        Wanted(**wanted),
        Invocation(
            id="one",
            began=1_700_000_000.0,
            ended=1_700_000_001.5,
            dockerfile_name="Dockerfile",
            dockerfile=text,
            context="",
            context_digest={},
            args={**options, "label:a": "b", "target": "x"},
            locals=locals_,
            builder_platform="linux/amd64",
        ),
        gather(reached, found, _choices(program, named), redactor),
        reached,
        layers or [],
        redactor,
    )
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(told))
    return decoded


def _choices(program: Program, named: str) -> dict[tuple[str, str], Chosen]:
    return {
        (vertex.op.locator, vertex.op.digest): Chosen("linux/amd64", named)
        for vertex in program.definition
        if hasattr(vertex.op, "locator")
    }


def test_materials_are_known_by_address_and_digest() -> None:
    told = provenance(EVERYTHING, fetched={Git: "a" * 40, Http: "sha256:" + "b" * 64})

    found = told["buildDefinition"]["resolvedDependencies"]
    assert [material["uri"] for material in found] == [
        "pkg:docker/busybox@latest?platform=linux%2Famd64",
        "pkg:docker/debian@12?platform=linux%2Famd64",
        "https://***@example.org/a.txt",
        "https://example.org/x.git#main",
    ]
    assert [list(material["digest"]) for material in found] == [["sha256"], ["sha256"], ["sha256"], ["sha1"]]


def test_an_image_of_several_platforms_is_known_by_its_index() -> None:
    index = "sha256:" + "1d" * 32

    told = provenance("FROM debian:12\nCOPY a /a\n", named=index)

    (material,) = told["buildDefinition"]["resolvedDependencies"]
    assert material == {
        "uri": "pkg:docker/debian@12?platform=linux%2Famd64",
        "digest": {"sha256": "1d" * 32},
    }


def test_metadata_files_have_the_form_that_buildx_writes_there_whatever_the_version() -> None:
    told = [for_metadata(provenance(EVERYTHING, version=version)) for version in ("v1", "v0.2")]

    assert told[0] == told[1]
    assert told[0]["buildType"] == "https://mobyproject.org/buildkit@v1"
    assert told[0]["invocation"]["configSource"] == {"entryPoint": "Dockerfile"}
    assert sorted(told[0]) == ["buildType", "builder", "invocation", "materials"]


def test_the_shape_is_that_of_slsa_v1_with_buildkits_fields() -> None:
    told = provenance(EVERYTHING, builder_id="https://ci.example.org/1", reproducible=True)

    definition, details = told["buildDefinition"], told["runDetails"]
    assert definition["buildType"].endswith("docs/attestations/slsa-definitions.md")
    assert definition["externalParameters"]["configSource"] == {"path": "Dockerfile"}
    assert definition["internalParameters"]["builderPlatform"] == "linux/amd64"
    assert details["builder"]["id"] == "https://ci.example.org/1"
    metadata = details["metadata"]
    assert (metadata["invocationId"], metadata["startedOn"]) == ("one", "2023-11-14T22:13:20.000000Z")
    assert metadata["finishedOn"] > metadata["startedOn"]
    assert metadata["buildkit_completeness"] == {"request": True, "resolvedDependencies": False}
    assert metadata["buildkit_reproducible"] is True
    assert "buildkit_hermetic" not in metadata
    assert predicate_type(Wanted()) == V1


def test_max_tells_of_steps_their_lines_and_the_dockerfile() -> None:
    told = provenance(EVERYTHING, args={"PLAIN": "value"})

    config = told["buildDefinition"]["internalParameters"]["buildConfig"]
    steps = {step["id"]: step for step in config["llbDefinition"]}
    kinds = [next(iter(step["op"]["Op"])) for step in steps.values() if "op" in step]
    assert set(kinds) == {"source", "exec", "file"}
    runs = [step["op"]["Op"]["exec"] for step in steps.values() if "exec" in step.get("op", {}).get("Op", {})]
    (run,) = runs
    assert run["meta"]["args"][-1] == "make $TOKEN"
    assert "PLAIN=value" in run["meta"]["env"]
    assert [mount.get("mountType", 0) for mount in run["mounts"]] == [0, 1, 2, 3]
    assert run["network"] == 2
    assert list(steps)[-1] == f"step{len(steps) - 1}"
    assert set(config["digestMapping"].values()) == set(list(steps)[:-1])
    source = told["runDetails"]["metadata"]["buildkit_metadata"]["source"]
    assert base64.b64decode(source["infos"][0]["data"]).decode() == EVERYTHING.replace("me:pw@", "***@")
    first = min(place["locations"][0]["ranges"][0]["start"]["line"] for place in source["locations"].values())
    assert first == 2
    request = told["buildDefinition"]["externalParameters"]["request"]
    assert request["secrets"] == [{"id": "key", "optional": True}]
    assert request["ssh"] == [{"id": "default", "optional": True}]
    assert request["args"] == {"build-arg:PLAIN": "value", "label:a": "b", "target": "x"}


def test_repositories_are_told_however_their_address_is_written() -> None:
    told = provenance("FROM scratch\nADD git@host.x:me/a.git#v1 /a\nADD https://u:p@host.x/b.git /b\n")

    steps = told["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"]
    sources = [
        step["op"]["Op"]["source"]["identifier"]
        for step in steps
        if "source" in step.get("op", {}).get("Op", {})
    ]
    assert sources == ["git://git@host.x:me/a.git#v1", "git://***@host.x/b.git"]
    uris = [one["uri"] for one in told["buildDefinition"]["resolvedDependencies"]]
    assert uris == ["git@host.x:me/a.git#v1", "https://***@host.x/b.git"]


def test_min_leaves_out_args_labels_secrets_and_steps() -> None:
    told = provenance(EVERYTHING, args={"PLAIN": "value"}, mode="min")

    request = told["buildDefinition"]["externalParameters"]["request"]
    assert request == {
        "frontend": "dockerfile.v0",
        "args": {"target": "x"},
        "locals": [{"name": "context"}, {"name": "dockerfile"}],
    }
    assert "buildConfig" not in told["buildDefinition"]["internalParameters"]
    assert told["runDetails"]["metadata"]["buildkit_metadata"] == {}
    assert told["runDetails"]["metadata"]["buildkit_completeness"]["request"] is False
    assert len(told["buildDefinition"]["resolvedDependencies"]) == 4


def test_secrets_are_nowhere_in_it() -> None:
    text = EVERYTHING.replace("make $TOKEN", f"make {CANARY} https://u:{CANARY}@host/?sig={CANARY}")

    told = provenance(text + f"ENV PLAIN2=x{CANARY}y\nRUN true\n", args={"TOKEN": CANARY})

    assert CANARY not in json.dumps(told)
    data = told["runDetails"]["metadata"]["buildkit_metadata"]["source"]["infos"][0]["data"]
    assert CANARY not in base64.b64decode(data).decode()
    assert told["buildDefinition"]["externalParameters"]["request"]["args"]["build-arg:TOKEN"] == "***"
    assert told["runDetails"]["metadata"]["buildkit_completeness"]["request"] is False


def test_a_build_of_pinned_things_without_a_network_is_hermetic() -> None:
    told = provenance("FROM busybox\nRUN --network=none true\n", locals_=())

    metadata = told["runDetails"]["metadata"]
    assert metadata["buildkit_hermetic"] is True
    assert metadata["buildkit_completeness"]["resolvedDependencies"] is True


def test_each_step_of_the_image_has_the_layers_so_far() -> None:
    layers = [{"digest": name, "size": 1, "mediaType": "t"} for name in ("base", "run", "copy")]

    told = provenance("FROM busybox\nRUN true\nCOPY . /x\n", layers=layers)

    found = told["runDetails"]["metadata"]["buildkit_metadata"]["layers"]
    assert sorted([row["digest"] for row in rows] for (rows,) in found.values()) == [
        ["base"],
        ["base", "run"],
        ["base", "run", "copy"],
    ]


def test_the_older_version_says_the_same() -> None:
    told = provenance(EVERYTHING, version="v0.2", args={"PLAIN": "value"})

    assert told["buildType"] == "https://mobyproject.org/buildkit@v1"
    assert told["builder"] == {"id": ""}
    assert told["invocation"]["configSource"] == {"entryPoint": "Dockerfile"}
    assert told["invocation"]["parameters"]["args"]["build-arg:PLAIN"] == "value"
    assert told["invocation"]["environment"] == {"platform": "linux/amd64"}
    assert told["metadata"]["completeness"] == {"parameters": True, "environment": True, "materials": False}
    assert len(told["materials"]) == 4
    assert "source" in told["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]
    assert told["buildConfig"]["llbDefinition"]
    assert predicate_type(Wanted(version="v0.2")) == V02

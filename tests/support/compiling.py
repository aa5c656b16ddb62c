"""Compiling texts in tests: a dict of known images, the real parser, nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from builder.compiler.compile import Visit
from builder.compiler.compile import compile as compile_dockerfile
from builder.compiler.program import BaseImage, CompileOptions, ImageRequest, Missing, NamedContext, Program
from builder.digest import of_bytes
from builder.dockerfile.ast import Dockerfile
from builder.dockerfile.parser import parse
from builder.graph.definition import Vertex
from builder.oci.spec import History, ImageConfig, Platform, RootFS, RunConfig
from builder.text import SourceText

MACHINE = Platform("amd64", "linux")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def image(name: str = "base", *, layers: int = 1, architecture: str = "amd64", **config: Any) -> BaseImage:
    """An image with this `config` object and so many layers, named by a digest of its own."""
    document = ImageConfig(
        architecture,
        "linux",
        config=RunConfig(**({"env": (PATH,), "cmd": ("sh",)} | config)),
        rootfs=RootFS(diff_ids=tuple(of_bytes(f"{name}{n}".encode()) for n in range(layers))),
        history=tuple(History(created="1970-01-01T00:00:00Z", created_by=name) for _ in range(layers)),
    )
    return BaseImage(of_bytes(name.encode()), document)


BASES = {"docker.io/library/busybox:latest": image("busybox"), "docker.io/library/debian:12": image("debian")}


def compile_text(
    text: str,
    *,
    bases: dict[str, BaseImage] | None = None,
    contexts: dict[str, NamedContext] | None = None,
    **options: Any,
) -> Program:
    """The program of a Dockerfile; images are found by their locators, whatever the platform."""
    images = BASES | (bases or {})
    asked = replace(CompileOptions(MACHINE, MACHINE), contexts=contexts or {}, **options)
    known: dict[ImageRequest, BaseImage] = {}
    dockerfile = parse(SourceText("Dockerfile", text))
    while True:
        outcome = compile_dockerfile(dockerfile, asked, known)
        if isinstance(outcome, Program):
            return outcome
        assert not set(outcome.images) & set(known)
        known |= {request: images[request.locator] for request in outcome.images}


def visits_of(dockerfile: Dockerfile) -> list[Visit]:
    """Every instruction of a Dockerfile that compiles, with the state that it met."""
    known: dict[ImageRequest, BaseImage] = {}
    while True:
        visits: list[Visit] = []
        outcome = compile_dockerfile(dockerfile, CompileOptions(MACHINE, MACHINE), known, visits)
        if isinstance(outcome, Program):
            return visits
        known |= {request: BASES[request.locator] for request in outcome.images}


def compile_once(text: str, **options: Any) -> Program | Missing:
    """What one compile with nothing known gives."""
    asked = replace(CompileOptions(MACHINE, MACHINE), **options)
    return compile_dockerfile(parse(SourceText("Dockerfile", text)), asked, {})


def ops(program: Program) -> list[object]:
    """The ops of the definition, in order."""
    return [vertex.op for vertex in program.definition]


def vertex_of(program: Program, label: str) -> Vertex:
    """The vertex whose label holds this text."""
    found = [vertex for vertex in program.definition if label in vertex.about.label]
    assert found, [vertex.about.label for vertex in program.definition]
    return found[-1]


def config_of(program: Program) -> dict[str, Any]:
    """The `config` object as JSON has it."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(program.config.config))
    return found

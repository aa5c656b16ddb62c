"""A Dockerfile for several platforms: what is shared, what steps are called, which bases are asked for."""

from __future__ import annotations

import pytest

from builder.compiler.platforms import shown
from builder.compiler.program import Missing, Program, Programs, Warning, together, united
from builder.errors import BuildError, DockerfileError
from builder.graph.definition import Definition
from builder.oci.spec import Platform
from builder.ops.exec import Exec
from builder.ops.files import Copy, MakeDir
from builder.text import Span
from tests.support.compiling import compile_once, compile_text, image

AMD64, ARM64, ARM = Platform("amd64", "linux"), Platform("arm64", "linux"), Platform("arm", "linux", "v7")
CROSS = """\
FROM --platform=$BUILDPLATFORM busybox AS build
WORKDIR /src
RUN fetch
ARG TARGETARCH
RUN make $TARGETARCH
FROM debian:12
COPY --from=build /src/out /
RUN install
"""


def compile_for(text: str, *platforms: Platform, **options: object) -> Programs:
    return together(
        [
            compile_text(
                text,
                bases={"docker.io/library/debian:12": image(f"debian-{platform}")},
                platform=platform,
                platform_given=True,
                several_platforms=len(platforms) > 1,
                **options,
            )
            for platform in platforms
        ]
    )


def labels(programs: Programs) -> list[str]:
    return [v.about.label for v in programs.reached() if not v.about.internal]


def test_what_platforms_have_in_common_is_one_vertex() -> None:
    programs = compile_for(CROSS, AMD64, ARM64)

    runs = [vertex.op for vertex in programs.reached() if isinstance(vertex.op, Exec)]
    assert [(op.argv[-1], op.platform) for op in runs] == [
        ("fetch", "linux/amd64"),
        ("make $TARGETARCH", "linux/amd64"),
        ("install", "linux/amd64"),
        ("make $TARGETARCH", "linux/amd64"),
        ("install", "linux/arm64"),
    ]
    assert len(set(programs.targets)) == 2


def test_steps_tell_their_platform_and_what_they_cross_compile_for() -> None:
    programs = compile_for(CROSS, AMD64, ARM64)

    assert labels(programs) == [
        "[linux/amd64 build 1/4] FROM docker.io/library/busybox:latest",
        "[linux/amd64 build 2/4] WORKDIR /src",
        "[linux/amd64 build 3/4] RUN fetch",
        "[linux/amd64 build 4/4] RUN make $TARGETARCH",
        "[linux/amd64 stage-1 1/3] FROM docker.io/library/debian:12",
        "[linux/amd64 stage-1 2/3] COPY --from=build /src/out /",
        "[linux/amd64 stage-1 3/3] RUN install",
        "[linux/amd64->arm64 build 4/4] RUN make $TARGETARCH",
        "[linux/arm64 stage-1 1/3] FROM docker.io/library/debian:12",
        "[linux/arm64 stage-1 2/3] COPY --from=build /src/out /",
        "[linux/arm64 stage-1 3/3] RUN install",
    ]


def test_one_platform_is_not_worth_a_word() -> None:
    (first, *_) = labels(compile_for(CROSS, ARM64))

    assert first == "[build 1/4] FROM docker.io/library/busybox:latest"


@pytest.mark.parametrize(
    ("own", "variables", "text"),
    [
        (AMD64, {}, "linux/amd64"),
        (ARM, {"TARGETARCH": "arm", "TARGETVARIANT": "v7"}, "linux/arm/v7"),
        (AMD64, {"TARGETARCH": "arm", "TARGETVARIANT": "v6"}, "linux/amd64->arm/v6"),
        (AMD64, {"TARGETPLATFORM": "linux/arm64"}, "linux/amd64->arm64"),
        (AMD64, {"TARGETOS": "windows"}, "linux/amd64->windows/amd64"),
        (AMD64, {"TARGETPLATFORM": "no such thing"}, "linux/amd64"),
        (AMD64, {"TARGETVARIANT": ""}, "linux/amd64"),
    ],
)
def test_a_platform_is_shown_as_buildkit_does(own: Platform, variables: dict[str, str], text: str) -> None:
    assert shown(own, variables) == text


def test_a_base_is_asked_for_by_platform() -> None:
    asked = [compile_once(CROSS, platform=platform) for platform in (AMD64, ARM64)]

    wanted = [
        [(r.locator.rpartition("/")[2], str(r.platform)) for r in missing.images]
        for missing in asked
        if isinstance(missing, Missing)
    ]
    assert wanted == [
        [("busybox:latest", "linux/amd64"), ("debian:12", "linux/amd64")],
        [("busybox:latest", "linux/amd64"), ("debian:12", "linux/arm64")],
    ]


def test_a_finding_of_all_platforms_is_told_once() -> None:
    program = compile_text("FROM busybox\n")
    finding = Warning("Rule", "something", Span(1))
    several = [Program(program.definition, program.target, program.config, (), (finding,)) for _ in range(2)]

    assert together(several).warnings == (finding,)
    assert united([(finding,), (finding, finding)]) == (finding, finding)


def test_platforms_of_different_times_are_refused() -> None:
    program = compile_text("FROM busybox\n")
    several = [
        Program(Definition(), program.target, program.config, (), source_date_epoch=time) for time in (1, 2)
    ]

    with pytest.raises(BuildError, match="not the same for all platforms"):
        together(several)


def test_an_image_for_windows_has_its_own_paths_and_no_path_variable() -> None:
    text = "# escape=`\nFROM scratch\nWORKDIR C:/app\nCOPY .\\a b\\\nWORKDIR sub\n"

    program = compile_text(text, platform=Platform("amd64", "windows"), platform_given=True)

    ops = [vertex.op for vertex in program.definition.vertices.values()]
    assert [op.path for op in ops if isinstance(op, MakeDir)] == ["/app", "/app/sub"]
    (copy,) = (op for op in ops if isinstance(op, Copy))
    assert (copy.dest, [item.pattern for item in copy.items]) == ("/app/b/", ["/a"])
    assert (program.config.config.working_dir, program.config.config.env) == ("\\app\\sub", ())
    assert [entry.created_by for entry in program.config.history][::2] == ["WORKDIR /app", "WORKDIR /app/sub"]


def test_a_base_whose_folder_is_on_another_drive_is_told_of_at_its_from() -> None:
    bases = {"docker.io/library/base:latest": image(working_dir="D:\\x")}

    with pytest.raises(DockerfileError, match="base image's working folder: D:/x is not on") as caught:
        compile_text("ARG A\nFROM base\n", platform=Platform("amd64", "windows"), bases=bases)
    assert caught.value.location.span.line == 2


def test_what_lies_on_another_drive_of_windows_is_told_at_its_line() -> None:
    for step in ("WORKDIR D:/x", "COPY a D:/x", "COPY D:/x a"):
        with pytest.raises(DockerfileError, match="is not on the system drive") as caught:
            compile_text(f"FROM scratch\n{step}\n", platform=Platform("amd64", "windows"))
        assert caught.value.location.span.line == 2

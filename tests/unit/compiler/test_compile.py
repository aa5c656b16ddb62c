"""Compiling: a Dockerfile, options and known images to a program."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.compiler.program import Missing, NamedContext, Program
from builder.errors import BuildError, DockerfileError
from builder.graph.selection import Selection
from builder.oci.spec import Platform, encode
from builder.ops.exec import BindMount, CacheMount, Device, Exec, SecretMount, SshMount, TmpfsMount
from builder.ops.files import Copy, InlineItem, MakeDir, Merge, PathItem
from builder.ops.source import Image, Local, Scratch
from tests.support.compiling import (
    PATH,
    compile_once,
    compile_text,
    config_of,
    image,
    ops,
    vertex_of,
)


def fails(text: str, **options: object) -> BuildError:
    with pytest.raises(BuildError) as caught:
        compile_text(text, **options)  # type: ignore[arg-type]
    return caught.value


def line_of(error: BuildError) -> int:
    assert error.location is not None
    return error.location.span.line


def the_copy(program: Program) -> Copy:
    return next(op for op in ops(program) if isinstance(op, Copy))


def the_run(program: Program) -> Exec:
    return next(op for op in ops(program) if isinstance(op, Exec))


def selection_of(program: Program, label: str) -> Selection:
    select = vertex_of(program, label).inputs[1].select
    assert select is not None
    return select


# ---- base images ----


def test_an_unknown_image_is_asked_for_at_its_line() -> None:
    outcome = compile_once("ARG V=12\nFROM debian:$V\nRUN true\n")

    assert isinstance(outcome, Missing)
    assert [request.locator for request in outcome.images] == ["docker.io/library/debian:12"]
    assert [str(request.location) for request in outcome.images] == ["Dockerfile:2"]


def test_all_images_are_asked_for_at_once_and_each_one_once() -> None:
    outcome = compile_once(
        "FROM debian:12 AS a\nFROM debian:12\nCOPY --from=busybox /a /a\nCOPY --from=a /b /b\n"
        "RUN --mount=from=alpine,target=/m true\n"
    )

    assert isinstance(outcome, Missing)
    assert [request.locator for request in outcome.images] == [
        "docker.io/library/debian:12",
        "docker.io/library/busybox:latest",
        "docker.io/library/alpine:latest",
    ]


def test_images_of_stages_that_nothing_needs_are_not_asked_for() -> None:
    outcome = compile_once("FROM nowhere AS unused\nCOPY --from=nothing / /\nFROM scratch\n")

    assert isinstance(outcome, Program)


def test_an_image_is_known_per_platform() -> None:
    outcome = compile_once(
        "FROM --platform=$BUILDPLATFORM debian AS a\nFROM debian\nCOPY --from=a / /\n",
        platform=Platform("aarch64", "linux"),
    )

    assert isinstance(outcome, Missing)
    assert [str(request.platform) for request in outcome.images] == ["linux/amd64", "linux/arm64"]


def test_the_triggers_of_an_image_may_need_another_one() -> None:
    bases = {"docker.io/library/parent:latest": image("parent", on_build=("COPY --from=busybox /a /a",))}

    program = compile_text("FROM parent\n", bases=bases)

    assert [type(op) for op in ops(program)] == [Image, Image, Copy]
    assert vertex_of(program, "COPY").about.label == "[2/2] ONBUILD COPY --from=busybox /a /a"


def test_a_base_without_layers_is_scratch() -> None:
    program = compile_text("FROM bare\n", bases={"docker.io/library/bare:latest": image("bare", layers=0)})

    assert [type(op) for op in ops(program)] == [Scratch]


def test_a_base_with_too_little_history_gets_entries_for_its_layers() -> None:
    base = image("odd", layers=3)
    short = type(base)(base.digest, type(base.config)("amd64", "linux", rootfs=base.config.rootfs))

    program = compile_text("FROM odd\nRUN true\n", bases={"docker.io/library/odd:latest": short})

    assert [entry.empty_layer for entry in program.history] == [False] * 4


# ---- stages ----


def test_only_what_the_target_needs_is_in_the_definition() -> None:
    program = compile_text(
        "FROM busybox AS a\nRUN one\nFROM busybox AS b\nRUN two\nFROM a\nRUN three\nFROM b\nRUN four\n",
        target="A",
    )

    assert [vertex.about.label for vertex in program.definition] == [
        "[a 1/2] FROM docker.io/library/busybox:latest",
        "[a 2/2] RUN one",
    ]


def test_a_stage_is_found_by_name_in_any_case_by_number_and_before_an_image() -> None:
    program = compile_text(
        "FROM busybox AS Build\nRUN one\nFROM scratch\n"
        "COPY --from=BUILD /a /a\nCOPY --from=0 /a /b\nCOPY --from=busybox /c /c\n"
    )

    built = vertex_of(program, "RUN one").digest
    assert vertex_of(program, "/a /a").inputs[1].of == built
    assert vertex_of(program, "/a /b").inputs[1].of == built
    assert isinstance(program.definition[vertex_of(program, "/c /c").inputs[1].of].op, Image)


def test_of_two_stages_with_one_name_from_means_the_one_above_and_copy_the_last() -> None:
    program = compile_text(
        "FROM busybox AS twin\nRUN one\nFROM twin AS twin\nRUN two\nFROM twin\nCOPY --from=twin /a /b\n"
    )

    copy = vertex_of(program, "COPY")
    assert copy.inputs[0].of == copy.inputs[1].of == vertex_of(program, "RUN two").digest


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("FROM scratch AS a\nCOPY --from=b /a /a\nFROM scratch AS b\nFROM a\n", 2),
        ("FROM scratch AS a\nCOPY --from=A /a /a\n", 2),
        ("FROM scratch\nCOPY --from=0 /a /a\n", 2),
        ("FROM scratch\nCOPY --from=3 /a /a\n", 2),
        ("FROM scratch AS a\nRUN --mount=from=0,target=/m true\n", 2),
        ("FROM scratch AS a\nARG B=b\nCOPY --from=$B / /\n", 3),
        ("FROM scratch AS a\nRUN --mount=from=$B,target=/m true\n", 2),
        ("FROM scratch\nFROM SCRATCH\n", 2),
        ("FROM scratch AS base\nFROM BASE\n", 2),
        ("FROM scratch:\n", 1),
        ("FROM $NOTHING\n", 1),
        ("FROM --platform=$NOTHING scratch\n", 1),
        ("FROM --platform=a/b/c/d scratch\n", 1),
        ("FROM scratch AS 1st\n", 1),
        ("ARG A=1\nRUN true\nFROM scratch\n", 2),
        ("FROM scratch AS unused\nCOPY --from=Bad / /\nFROM scratch\n", 2),
        ("FROM scratch AS unused\nRUN --mount= true\nFROM scratch\n", 2),
        ("FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /\nFROM scratch\n", 4),
    ],
)
def test_a_wrong_source_is_an_error_at_its_line(text: str, line: int) -> None:
    assert line_of(fails(text)) == line


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch AS unused\nRUN --mount=type=tape,target=/x true\nFROM scratch\n",
        "FROM scratch AS unused\nWORKDIR ${A!}\nFROM scratch\n",
        "FROM scratch AS unused\nCOPY --chmod=99 a b\nEXPOSE http\nFROM scratch\n",
        "FROM scratch AS unused\nCOPY --from=later /a /a\nFROM scratch AS later\n",
    ],
)
def test_a_stage_that_nothing_needs_is_not_lowered(text: str) -> None:
    assert [type(op) for op in ops(compile_text(text))] == [Scratch]


def test_a_target_must_be_a_stage_and_is_no_number() -> None:
    error = fails("FROM scratch AS build\nFROM scratch AS final\n", target="biuld")

    assert "'biuld'" in error.message
    assert error.hint == "did you mean build?"
    assert "stages are build, final" in (
        fails("FROM scratch AS build\nFROM scratch AS final\n", target="0").hint or ""
    )


def test_a_dockerfile_without_stages_is_an_error() -> None:
    assert fails("ARG A=1\n").code == "no-stage"


def test_a_child_stage_inherits_what_its_parent_came_to() -> None:
    program = compile_text(
        'FROM busybox AS base\nARG A=1\nENV B=2\nWORKDIR /w\nUSER app\nCMD ["c"]\nONBUILD ENV C=$A\n'
        "FROM base\nWORKDIR x\nRUN true\n"
    )

    run = the_run(program)
    assert run.cwd == "/w/x"
    assert run.user == "app"
    assert dict(run.env) | {"A": "1", "B": "2", "C": "1"} == dict(run.env)
    assert config_of(program) == {
        "User": "app",
        "Env": [PATH, "B=2", "C=1"],
        "Cmd": ["c"],
        "WorkingDir": "/w/x",
        "ArgsEscaped": True,
    }


# ---- triggers ----


def test_triggers_of_a_stage_run_first_in_its_child_and_are_not_handed_on() -> None:
    program = compile_text(
        "FROM busybox AS base\nONBUILD RUN trigger\nRUN base\nFROM base AS child\nRUN own\nFROM child\n"
    )

    runs = [op.argv[-1] for op in ops(program) if isinstance(op, Exec)]
    assert runs == ["base", "trigger", "own"]
    assert "OnBuild" not in config_of(program)


def test_triggers_are_kept_as_written_for_whom_it_may_concern() -> None:
    program = compile_text("FROM scratch\nONBUILD RUN   echo  a\nONBUILD NOSUCH thing\n")

    assert config_of(program)["OnBuild"] == ["RUN   echo  a", "NOSUCH thing"]
    assert program.history == ()


@pytest.mark.parametrize(
    "trigger", ["NOSUCH thing", "COPY --nosuch a b", "COPY --from=9 a b", "WORKDIR ${A!}", "SHELL []"]
)
def test_a_wrong_trigger_is_an_error_at_the_from_that_uses_it(trigger: str) -> None:
    error = fails(f"FROM scratch AS base\nONBUILD {trigger}\n\nFROM base\n")

    assert line_of(error) == 4


# ---- names and values ----


def test_from_sees_global_arguments_only() -> None:
    text = "ARG BASE=busybox\nFROM ${BASE} AS one\nARG NEXT=one\nFROM ${NEXT:-debian:12}\n"

    program = compile_text(text)

    assert [op.locator for op in ops(program) if isinstance(op, Image)] == ["docker.io/library/debian:12"]


def test_a_stage_sees_a_global_argument_only_if_it_names_it() -> None:
    program = compile_text(
        "ARG V=global\nARG W=w-$V\nFROM scratch\nLABEL before=$V\nARG V\nARG W\nLABEL after=$V,$W\n"
    )

    assert config_of(program)["Labels"] == {"before": "", "after": "global,w-global"}


def test_a_build_argument_wins_over_defaults_and_is_taken_as_it_is() -> None:
    program = compile_text(
        "ARG A=global\nFROM scratch\nARG A=${}\nLABEL a=$A\n", build_args={"A": '$X "q"', "B": "unseen"}
    )

    assert config_of(program)["Labels"] == {"a": '$X "q"'}


def test_an_arg_below_an_env_wins_in_later_lines_but_not_in_the_config() -> None:
    program = compile_text(
        "FROM busybox\nENV A=env\nARG A\nRUN true\nLABEL a=$A\n", build_args={"A": "given"}
    )

    assert dict(the_run(program).env)["A"] == "given"
    assert config_of(program)["Labels"] == {"a": "given"}
    assert "A=env" in config_of(program)["Env"]


def test_an_env_line_sees_the_values_from_before_it_and_keeps_its_place() -> None:
    program = compile_text("FROM busybox\nENV A=1 B=2\nENV A=x B=$A C=3\nENV PATH=/x:$PATH\n")

    assert config_of(program)["Env"] == [f"PATH=/x:{PATH[5:]}", "A=x", "B=1", "C=3"]


def test_platform_arguments_need_an_arg_but_in_from() -> None:
    program = compile_text(
        "FROM scratch AS s-arm64\nFROM s-$TARGETARCH\nLABEL none=$TARGETARCH\n"
        "ARG TARGETPLATFORM TARGETVARIANT BUILDPLATFORM TARGETSTAGE\n"
        "LABEL t=$TARGETPLATFORM v=${TARGETVARIANT+set} b=$BUILDPLATFORM s=$TARGETSTAGE\n",
        platform=Platform("aarch64", "linux"),
    )

    assert config_of(program)["Labels"] == {
        "none": "",
        "t": "linux/arm64",
        "v": "set",
        "b": "linux/amd64",
        "s": "default",
    }
    assert program.config.architecture == "arm64"


def test_proxies_reach_run_in_both_spellings_and_are_no_variables() -> None:
    program = compile_text(
        "FROM busybox\nRUN true\nLABEL a=$HTTP_PROXY\n", build_args={"HTTP_PROXY": "p", "no_proxy": "n"}
    )

    run = the_run(program)
    assert dict(run.proxy) == {"HTTP_PROXY": "p", "http_proxy": "p", "NO_PROXY": "n", "no_proxy": "n"}
    assert "HTTP_PROXY" not in dict(run.env)
    assert config_of(program)["Labels"] == {"a": ""}


def test_source_date_epoch_is_a_build_argument_or_a_global_default() -> None:
    text = "ARG SOURCE_DATE_EPOCH=5\nFROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL e=$SOURCE_DATE_EPOCH\n"

    assert compile_text(text).source_date_epoch == 5
    assert compile_text(text, source_date_epoch=7).source_date_epoch == 7
    program = compile_text(text, source_date_epoch=7, build_args={"SOURCE_DATE_EPOCH": "9"})
    assert program.source_date_epoch == 9
    assert config_of(program)["Labels"] == {"e": "9"}
    assert "yesterday" in fails(text, build_args={"SOURCE_DATE_EPOCH": "yesterday"}).message


def test_an_error_in_a_variable_is_placed() -> None:
    error = fails('FROM scratch\nLABEL a=b\nLABEL c="${NOPE?give a value}"\n')

    assert isinstance(error, DockerfileError)
    assert line_of(error) == 3
    assert "NOPE" in error.message
    assert "give a value" in error.message


# ---- metadata ----


def test_a_scratch_image_has_a_path_and_a_working_folder() -> None:
    program = compile_text("FROM scratch\n")

    assert config_of(program) == {"Env": [PATH], "WorkingDir": "/"}
    assert program.history == ()


def test_a_base_without_a_path_is_given_one() -> None:
    bases = {"docker.io/library/x:latest": image("x", env=("A=1",))}

    assert config_of(compile_text("FROM x\n", bases=bases))["Env"] == ["A=1", PATH]


def test_entrypoint_clears_the_cmd_of_what_is_below_but_not_of_its_own_stage() -> None:
    below = compile_text('FROM busybox\nENTRYPOINT ["e"]\n')
    own = compile_text('FROM busybox\nCMD ["c"]\nENTRYPOINT e x\n')

    assert "Cmd" not in config_of(below)
    assert config_of(own)["Cmd"] == ["c"]
    assert config_of(own)["Entrypoint"] == ["/bin/sh", "-c", "e x"]


def test_the_shell_form_goes_to_the_shell_but_healthcheck_does_not() -> None:
    program = compile_text(
        'FROM busybox\nSHELL ["/bin/bash", "-c"]\nRUN a  b\nCMD c\n'
        "HEALTHCHECK --interval=1m30s --retries=2 CMD check it\n"
    )

    assert the_run(program).argv == ("/bin/bash", "-c", "a  b")
    assert config_of(program)["Cmd"] == ["/bin/bash", "-c", "c"]
    assert config_of(program)["Healthcheck"] == {
        "Test": ["CMD-SHELL", "check it"],
        "Interval": 90_000_000_000,
        "Retries": 2,
    }


def test_labels_of_the_options_win() -> None:
    program = compile_text("FROM scratch\nLABEL a=file b=file\n", labels={"b": "option"})

    assert config_of(program)["Labels"] == {"a": "file", "b": "option"}


@pytest.mark.parametrize(
    "line",
    [
        "EXPOSE 65536",
        "EXPOSE 80/http",
        "STOPSIGNAL SIGNOTHING",
        "STOPSIGNAL 0",
        "VOLUME $NOTHING",
        "HEALTHCHECK --interval=30 CMD true",
        "HEALTHCHECK --retries=-1 CMD true",
        "COPY --link=maybe a b",
        "COPY --chown a b",
        "COPY --from=0 --from=0 a b",
        "RUN --network=wifi true",
        "RUN --security=lax true",
        "RUN --device=gpu,cpu true",
        "COPY --chmod=1999 a b",
        "COPY --chmod=17777 a b",
        "COPY --chmod=u+q a b",
        "COPY --exclude=a[ d x",
        "COPY http://host/a b",
        "COPY git@host:a/b.git b",
        "ADD --checksum=sha256:00 a b",
        "ADD --checksum=sha512:00 http://host/a b",
        "ADD --checksum=sha256:00 http://host/a.git b",
        "ADD http://host/a.git?what=is b",
        "ADD http://host/a.git#-x b",
        "ADD http:///a b",
    ],
)
def test_what_cannot_be_is_an_error_at_its_line(line: str) -> None:
    assert line_of(fails(f"FROM busybox\nLABEL a=b\n{line}\n")) == 3


def test_history_tells_what_was_done_in_the_style_that_tools_know() -> None:
    program = compile_text(
        'FROM busybox\nARG A=1\nENV E=1\nLABEL l=1 m="2 3"\nMAINTAINER me\nEXPOSE 2 1\nVOLUME /v\n'
        'USER root\nSTOPSIGNAL 9\nHEALTHCHECK NONE\nONBUILD RUN true\nCMD ["c"]\nWORKDIR /\nWORKDIR /w\n'
        "RUN make\nCOPY --chown=1 a b/\nCOPY <<EOF x\nEOF\n"
    )

    told = [(entry.created_by, entry.empty_layer) for entry in program.history[1:]]
    assert told == [
        ("ARG A=1", True),
        ("ENV E=1", True),
        ("LABEL l=1 m=2 3", True),
        ("MAINTAINER me", True),
        ("EXPOSE [1/tcp 2/tcp]", True),
        ("VOLUME [/v]", True),
        ("USER root", True),
        ("STOPSIGNAL 9", True),
        (
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            True,
        ),
        ('CMD ["c"]', True),
        ("WORKDIR /", True),
        ("WORKDIR /w", False),
        ("RUN |1 A=1 /bin/sh -c make # buildkit", False),
        ("COPY --chown=1 a b/ # buildkit", False),
        ("COPY <<EOF x # buildkit", False),
    ]
    assert program.config.author == "me"
    assert program.config.history == program.history


def test_a_platform_that_was_asked_for_is_the_images() -> None:
    arm = Platform("arm64", "linux")

    asked = compile_text("FROM busybox\n", platform=arm, platform_given=True)
    implied = compile_text("FROM --platform=linux/arm64 busybox\n")

    assert asked.config.architecture == "arm64"
    assert implied.config.architecture == "amd64"


@pytest.mark.parametrize(
    ("steps", "env"),
    [
        ("LABEL a=b", ("A=1", "A=2", "BARE", "PATH=/p")),
        ("ENV NEW=$A", ("A=1", "A=2", "BARE", "PATH=/p", "NEW=2")),
        ("ENV A=9\nENV BARE=", ("A=9", "A=2", "BARE=", "PATH=/p")),
        ("ENV BARE=x\nFROM base\nENV Z=1 A=2", ("A=2", "A=2", "BARE=x", "PATH=/p", "Z=1")),
    ],
)
def test_the_variables_of_a_base_stand_as_they_did_but_for_those_that_env_sets(
    steps: str, env: tuple[str, ...]
) -> None:
    odd = image("odd", env=("A=1", "A=2", "BARE", "PATH=/p"))
    program = compile_text(f"FROM odd AS base\n{steps}\n", bases={"docker.io/library/odd:latest": odd})

    assert program.config.config.env == env


@pytest.mark.parametrize("name", ["", "docker/dockerfile:1", " docker.io/docker/dockerfile:1.7-labs opts"])
def test_a_build_argument_may_ask_for_this_very_frontend(name: str) -> None:
    program = compile_text("FROM scratch\nLABEL a=b\n", build_args={"BUILDKIT_SYNTAX": name})

    assert program.config == compile_text("FROM scratch\nLABEL a=b\n").config


def test_a_build_argument_that_asks_for_another_frontend_is_an_error() -> None:
    error = fails("FROM scratch\n", build_args={"BUILDKIT_SYNTAX": "example.com/frontend:2 opts"})

    assert "the frontend example.com/frontend:2 of BUILDKIT_SYNTAX" in error.message


@pytest.mark.parametrize(
    ("written", "port"),
    [
        ("[::1]:8080:80", "80/tcp"),
        ("::ffff:1.2.3.4:8080:80", "80/tcp"),
        ("[1.2.3.4]::80", "80/tcp"),
        ("1.2.3.4:1-9:80/UDP", "80/udp"),
    ],
)
def test_a_port_may_stand_behind_an_address(written: str, port: str) -> None:
    assert config_of(compile_text(f"FROM busybox\nEXPOSE {written}\n"))["ExposedPorts"] == {port: {}}


@pytest.mark.parametrize(
    "written",
    ["::8080:80", "::::80:80", "1::2::3:80:80", "[::1:80:80", "::1]:80:80", "fe80::1%eth0:80:80",
     "1.2.3:80:80", "01.2.3.4:80:80", "host:80:80"],
)  # fmt: skip
def test_a_port_behind_what_is_no_address_is_an_error(written: str) -> None:
    assert line_of(fails(f"FROM busybox\nEXPOSE {written}\n")) == 2


# ---- WORKDIR and COPY ----


@pytest.mark.parametrize(
    ("before", "after"), [("", "/"), ("WORKDIR /a/\n", "/a/"), ("WORKDIR /a//b/.\n", "/a//b/.")]
)
def test_a_workdir_that_comes_out_empty_is_the_one_before_as_it_was_written(before: str, after: str) -> None:
    program = compile_text(f"FROM scratch\n{before}WORKDIR $NOTHING\n")

    assert config_of(program)["WorkingDir"] == after
    assert program.history[-1].created_by == f"WORKDIR {after}"


def test_workdir_adds_up_and_belongs_to_the_user() -> None:
    program = compile_text("FROM busybox\nUSER app\nWORKDIR a\nWORKDIR ./b//c/\nWORKDIR ../d\nWORKDIR /\n")

    made = [op for op in ops(program) if isinstance(op, MakeDir)]
    assert made == [MakeDir("/a", "app"), MakeDir("/a/b/c", "app"), MakeDir("/a/b/d", "app")]
    assert config_of(program)["WorkingDir"] == "/"


def test_copy_selects_what_counts_of_the_context() -> None:
    program = compile_text("FROM busybox\nWORKDIR /w\nCOPY --exclude=*.md src/ go.mod ./ \n")

    copy = vertex_of(program, "COPY")
    assert copy.op == Copy((PathItem(1, "/src"), PathItem(1, "/go.mod")), "/w/", excludes=("*.md",))
    assert copy.inputs[1].select == Selection(("/src", "/go.mod"), ("*.md",), owners=False)
    assert program.definition[copy.inputs[1].of].op == Local("context")
    assert program.definition[copy.inputs[1].of].about.internal


def test_owners_and_modes_count_where_they_are_kept() -> None:
    text = "FROM busybox AS a\nRUN true\nFROM busybox\nCOPY --from=a {} /a /a\n"

    def counts(flags: str) -> tuple[bool, bool]:
        select = selection_of(compile_text(text.format(flags)), "COPY")
        return select.owners, select.modes

    assert counts("") == (True, True)
    assert counts("--chown=app") == (False, True)
    assert counts("--chmod=644") == (True, False)
    assert counts("--chmod=u+x") == (True, True)


def test_add_unpacks_unless_told_not_to() -> None:
    assert the_copy(compile_text("FROM scratch\nADD a.tar /\n")).unpack
    assert not the_copy(compile_text("FROM scratch\nADD --unpack=false a.tar /\n")).unpack
    assert not the_copy(compile_text("FROM scratch\nCOPY a.tar /\n")).unpack


def test_link_lays_the_files_on_nothing_and_merges_them() -> None:
    program = compile_text("FROM busybox\nRUN make\nCOPY --link a /x/\n")

    merge = program.definition[program.target]
    copy = program.definition[merge.inputs[1].of]
    assert merge.op == Merge()
    assert merge.inputs[0].of == vertex_of(program, "RUN make").digest
    assert isinstance(copy.op, Copy)
    assert copy.op.link
    assert isinstance(program.definition[copy.inputs[0].of].op, Scratch)


def test_chmod_switches_link_off() -> None:
    program = compile_text("FROM busybox\nCOPY --link --chmod=644 a /x/\n")

    assert not any(isinstance(op, Merge) for op in ops(program))
    assert not the_copy(program).link


def test_parents_keep_their_pivot() -> None:
    program = compile_text("FROM scratch\nCOPY --parents ./a/./b/*.c ./x/y /d/\n")

    assert the_copy(program).parents
    assert selection_of(program, "COPY") == Selection(("/a/./b/*.c", "/x/y"), parents=True, owners=False)


@pytest.mark.parametrize(
    ("source", "pattern"),
    [
        ("/a//b", "/a/b"), ("//a", "/../a"), ("/../a", "/../a"), ("/a/../../b", "/../b"), ("../a", "/a"),
        ("a/.//b", "/a/./b"), ("a/.///b", "/a/./../b"), ("a/./../b", "/a/./b"), ("a/.//../b", "/a/./../b"),
    ],
)  # fmt: skip
def test_what_is_absolute_below_the_pivot_of_parents_stays_as_it_leads_out(source: str, pattern: str) -> None:
    program = compile_text(f"FROM scratch\nCOPY --parents {source} /d/\n")

    assert selection_of(program, "COPY").patterns == (pattern,)


def test_heredocs_are_files_after_all_paths_with_their_variables_filled_in() -> None:
    program = compile_text(
        "FROM scratch\nARG A=1\nCOPY <<x b <<-'y' /d/\n$A \"$A\" '$A' \\$A\nx\n\t$A\n\ty\n"
    )

    assert the_copy(program).items == (
        PathItem(1, "/b"),
        InlineItem("x", "1 \"1\" '1' $A\n"),
        InlineItem("y", "$A\n"),
    )


def test_a_copy_of_heredocs_alone_takes_from_nothing() -> None:
    program = compile_text("FROM scratch\nCOPY <<EOF /a\nx\nEOF\n")

    assert len(vertex_of(program, "COPY").inputs) == 1


@pytest.mark.hostile("CVE-2025-62725")
@pytest.mark.parametrize("name", ["a/b", "..", ".", "../x", "/etc/passwd"])
def test_a_heredocs_name_is_a_file_name(name: str) -> None:
    for instruction in (f"COPY <<{name} /d/\nx", f"ADD <<'{name}' /d/\nx", f"RUN <<{name}\n#!/bin/sh\nx"):
        error = fails(f"FROM busybox\n{instruction}\n{name}\n")
        assert (line_of(error), error.code) == (2, "bad-heredoc-name")


# ---- RUN ----


def test_run_has_its_whole_environment() -> None:
    program = compile_text(
        'FROM busybox\nARG A=1\nENV B=2\nWORKDIR /w\nUSER app\nRUN --network=none ["a", "$B"]\n',
        add_hosts=(("Other", "10.0.0.1"),),
        ulimits=("nofile=1:2",),
        shm_size=99,
        build_args={"BUILDKIT_SANDBOX_HOSTNAME": "kit"},
    )

    assert the_run(program) == Exec(
        ("a", "$B"),
        (("PATH", PATH[5:]), ("A", "1"), ("B", "2")),
        "/w",
        user="app",
        network="none",
        hosts=(("other", "10.0.0.1"),),
        ulimits=("nofile=1:2",),
        shm_size=99,
        hostname="kit",
        platform="linux/amd64",
    )


def test_a_lone_heredoc_is_told_to_the_shell() -> None:
    run = the_run(compile_text("FROM busybox\nRUN <<-EOF\n\techo a\n\tEOF\n"))

    assert run.argv == ("/bin/sh", "-c", "echo a\n")


def test_a_lone_heredoc_with_a_shebang_is_a_program() -> None:
    program = compile_text("FROM busybox\nRUN <<run.py\n#!/usr/bin/python3\nprint(1)\nrun.py\n")

    run = vertex_of(program, "RUN")
    assert isinstance(run.op, Exec)
    assert run.op.argv == ("/bin/sh", "-c", "/dev/pipes/run.py")
    assert run.op.mounts == (BindMount(1, "/", "/dev/pipes"),)
    script = program.definition[run.inputs[1].of]
    assert script.op == Copy((InlineItem("run.py", "#!/usr/bin/python3\nprint(1)\n"),), "/", chmod="755")
    assert run.about.label == "[2/2] RUN <<run.py (#!/usr/bin/python3...)"


def test_other_heredocs_are_the_shells_own() -> None:
    run = the_run(compile_text("FROM busybox\nRUN cat <<A > /a && cat <<-B\none\nA\n\ttwo\nB\n"))

    assert run.argv[-1] == "cat <<A > /a && cat <<-B\none\nA\n\ttwo\nB"


def test_every_mount_has_its_input() -> None:
    program = compile_text(
        "FROM busybox AS src\nRUN one\nFROM busybox\nWORKDIR /w\nRUN --mount=target=ctx,source=./d/.. "
        "--mount=from=src,source=/f,target=/f --mount=from=busybox,target=/b,rw "
        "--mount=type=cache,target=/c,from=src,source=/seed,mode=0700 --mount=type=cache,target=/e/../d "
        "--mount=type=tmpfs,target=/t,size=1k --mount=type=secret,id=s --mount=type=secret,id=e,env=E "
        "--mount=type=secret,target=x/y,uid=5 --mount=type=ssh two\n"
    )

    run = vertex_of(program, "RUN --mount")
    assert isinstance(run.op, Exec)
    assert run.op.mounts == (
        BindMount(1, "/", "/w/ctx"),
        BindMount(2, "/f", "/f"),
        BindMount(3, "/", "/b", readonly=False),
        CacheMount("/c", "/c", mode=0o700, input=4, source="/seed"),
        CacheMount("/d", "/d"),
        TmpfsMount("/t", 1024),
        SecretMount("s", "/run/secrets/s"),
        SecretMount("e", None, env="E"),
        SecretMount("y", "/w/x/y", uid=5),
        SshMount("default", "/run/buildkit/ssh_agent.0"),
    )
    assert dict(run.op.env)["SSH_AUTH_SOCK"] == "/run/buildkit/ssh_agent.0"
    context, stage, base, seed = run.inputs[1:]
    assert context.select == Selection(("/",), owners=False, wildcards=False)
    assert stage.select == Selection(("/f",), wildcards=False)
    assert base.select == Selection(("/",), wildcards=False)
    assert (seed.of, seed.select) == (stage.of, Selection(("/seed",), wildcards=False))


@pytest.mark.parametrize(
    ("mount", "word"),
    [
        ("type=tape,target=/x", "tape"),
        ("type=tmpfs,target=/", "target"),
        ("type=cache", "target"),
        ("type=cache,tragte=/x", "tragte"),
        ("type=bind,target=${A!}", "A"),
    ],
)
def test_a_wrong_mount_is_an_error_at_its_run(mount: str, word: str) -> None:
    error = fails(f"FROM busybox\nRUN --mount={mount} true\n")

    assert line_of(error) == 2
    assert word in error.message


def test_a_cache_with_an_owner_starts_empty_unless_a_source_is_named() -> None:
    text = "FROM busybox AS src\nFROM busybox\nRUN --mount=type=cache,target=/c,from=src{} true\n"

    def seeded(options: str) -> bool:
        mount = the_run(compile_text(text.format(options))).mounts[0]
        assert isinstance(mount, CacheMount)
        return mount.input is not None

    assert [seeded(o) for o in ("", ",source=/s,uid=1", ",uid=1", ",mode=700")] == [True, True, False, False]


def test_variables_are_expanded_in_mounts() -> None:
    program = compile_text(
        "FROM busybox\nARG KIND=cache\nENV T=/t\nRUN --mount=type=$KIND,target=${T}/x,id=${I:-i} true\n"
    )

    assert the_run(program).mounts == (CacheMount("i", "/t/x"),)


def test_devices_are_asked_for_by_the_names_that_they_have_or_were_granted_under() -> None:
    text = "FROM busybox\nRUN --device=v.com/c=a,required --device=gpu --device=$X true\n"
    allow = frozenset({"device=v.com/c=b,alias=gpu"})

    assert the_run(compile_text(text)).devices == (Device("v.com/c=a", True), Device("gpu"), Device("$X"))
    granted = the_run(compile_text(text, entitlements=allow)).devices
    assert granted == (Device("v.com/c=a", True), Device("v.com/c=b", granted=True), Device("$X"))


@pytest.mark.parametrize(
    ("flag", "entitlement"),
    [("--network=host", "network.host"), ("--security=insecure", "security.insecure")],
)
@pytest.mark.hostile("CVE-2024-23653")
def test_what_must_be_granted_names_the_flag_that_grants_it(flag: str, entitlement: str) -> None:
    text = f"FROM busybox\nRUN {flag} true\n"

    error = fails(text)

    assert entitlement in error.message
    assert error.hint == f"grant it with --allow {entitlement}"
    assert the_run(compile_text(text, entitlements=frozenset({entitlement})))


# ---- named contexts ----


def test_a_named_folder_is_a_source_a_mount_and_a_base() -> None:
    contexts = {"extra": NamedContext("local", "/somewhere")}
    program = compile_text(
        "FROM extra AS based\nLABEL a=b\nFROM busybox\nCOPY --from=extra /d /1\n"
        "RUN --mount=from=extra,target=/m true\nCOPY --from=based /d /2\n",
        contexts=contexts,
    )

    folder = vertex_of(program, "[context extra]").digest
    assert vertex_of(program, "/d /1").inputs[1].of == folder
    assert not selection_of(program, "/d /1").owners
    based = vertex_of(program, "FROM extra")
    assert [item.of for item in based.inputs][1] == folder
    assert isinstance(based.op, Copy)


def test_a_base_that_is_a_folder_is_one_layer() -> None:
    program = compile_text("FROM extra\nCOPY a /a\n", contexts={"extra": NamedContext("local", "/x")})

    assert [entry.empty_layer for entry in program.history] == [False, False]
    assert config_of(program) == {"Env": [PATH], "WorkingDir": "/"}


@pytest.mark.parametrize("name", ["busybox", "docker.io/library/busybox", "busybox:latest"])
def test_a_named_image_stands_in_for_an_image(name: str) -> None:
    outcome = compile_once("FROM busybox:latest\n", contexts={name: NamedContext("image", "debian:12")})

    assert isinstance(outcome, Missing)
    assert [request.locator for request in outcome.images] == ["docker.io/library/debian:12"]


def test_a_named_layout_is_asked_for_by_its_name() -> None:
    outcome = compile_once("FROM busybox\n", contexts={"busybox": NamedContext("layout", "/dir")})

    assert isinstance(outcome, Missing)
    assert [request.locator for request in outcome.images] == ["oci-layout://busybox"]


def test_a_context_with_a_stages_name_stands_in_for_it_by_number_too() -> None:
    program = compile_text(
        "FROM busybox AS build\nRUN false\nFROM scratch\nCOPY --from=0 /f /f\nCOPY --from=build /g /g\n",
        contexts={"build": NamedContext("local", "/prebuilt")},
    )

    assert [type(op) for op in ops(program)] == [Local, Scratch, Copy, Copy]


def test_scratch_cannot_be_replaced() -> None:
    program = compile_text("FROM scratch\n", contexts={"scratch": NamedContext("local", "/x")})

    assert [type(op) for op in ops(program)] == [Scratch]


# ---- the definition ----


def test_steps_are_numbered_and_named_by_their_stage() -> None:
    program = compile_text("FROM busybox AS a\nRUN one\nFROM a\nWORKDIR /\nWORKDIR /w\nCOPY ${X:-a} b\n")

    assert [vertex.about.label for vertex in program.definition if not vertex.about.internal] == [
        "[a 1/2] FROM docker.io/library/busybox:latest",
        "[a 2/2] RUN one",
        "[stage-1 1/3] WORKDIR /w",
        "[stage-1 2/3] COPY a b",
    ]


def test_steps_without_cache_are_those_of_the_named_stages() -> None:
    text = "FROM busybox AS a\nRUN one\nFROM a AS B\nRUN two\n"

    def marked(**options: object) -> list[str]:
        program = compile_text(text, **options)  # type: ignore[arg-type]
        return [v.about.label[-3:] for v in program.definition if v.about.no_cache]

    assert marked() == []
    assert marked(no_cache_filter=("b",)) == ["two"]
    assert marked(no_cache=True) == ["one", "two"]


def test_equal_steps_of_two_stages_are_one_vertex() -> None:
    program = compile_text(
        "FROM busybox AS a\nRUN same\nFROM busybox AS b\nRUN same\nFROM a\nCOPY --from=b /x /y\n"
    )

    assert sum(isinstance(op, Exec) for op in ops(program)) == 1


def test_names_comments_and_places_are_in_no_digest() -> None:
    one = compile_text("FROM busybox AS one\nRUN a\nFROM one\nCOPY --from=one /a /b\n")
    two = compile_text("# a comment\nFROM   busybox as two\n\n\nRUN a\nFROM two\nCOPY --from=0 /a /b\n")

    assert one.target == two.target


def test_a_thousand_steps_and_a_thousand_stages_are_no_deeper_than_one() -> None:
    steps = compile_text("FROM busybox\n" + "".join(f"RUN {n}\n" for n in range(1500)))
    stages = compile_text(
        "FROM busybox AS s0\n"
        + "".join(f"FROM s{n} AS s{n + 1}\nCOPY --from=s{n} /a /{n}\n" for n in range(700))
    )

    assert len(steps.definition.vertices) == 1501
    assert len(stages.history) == 701


LINES = st.sampled_from(
    ["ARG A=1", "ENV B=$A", "RUN make", "COPY a b", "COPY --from=base /a /", "WORKDIR w", "USER $B",
     "LABEL l=${A:-x}", "EXPOSE 80", "RUN --mount=from=base,target=/m x", "ONBUILD RUN y", "CMD z"]
)  # fmt: skip


VALUES = st.text(st.characters(exclude_characters="\0"), max_size=3)  # no program can be given a NUL


@settings(max_examples=30)
@given(st.lists(LINES, max_size=8), st.dictionaries(st.sampled_from("AB"), VALUES))
def test_compiling_twice_gives_the_same(lines: list[str], args: dict[str, str]) -> None:
    text = "\n".join(["FROM busybox AS base", "RUN first", "FROM base", *lines])

    one, two = (compile_text(text, build_args=args) for _ in range(2))

    assert one.target == two.target
    assert list(one.definition.vertices) == list(two.definition.vertices)
    assert one.config == two.config
    assert sum(not entry.empty_layer for entry in one.history) == 1 + sum(
        line.startswith(("RUN", "COPY", "WORKDIR")) for line in [*lines, "RUN first"]
    )


def test_what_is_not_utf_8_reaches_the_command_but_not_the_config() -> None:
    program = compile_text(
        'FROM busybox\nRUN echo \udcff\nCMD ["\udcfe"]\nMAINTAINER \udcfd\n', labels={"a": "\udcff"}
    )

    assert the_run(program).argv[-1] == "echo \udcff"
    assert config_of(program)["Cmd"] == ["\ufffd"]
    assert encode(program.config)
    assert vertex_of(program, "RUN").about.label.encode()


@pytest.mark.parametrize(
    "line", ["RUN a\0b", "WORKDIR /a\0", "COPY a\0 b", "COPY --chown=\0 a b", "ENV A=\0\nRUN true"]
)
@pytest.mark.hostile("Python traps")
def test_a_nul_is_refused_before_the_kernel_is_asked(line: str) -> None:
    assert fails(f"FROM busybox\n{line}\n").code == "nul-character"


@pytest.mark.parametrize(
    "text",
    [f"COPY --from={'9' * 5000} a b", "COPY --from=\u0660 a b"],
)
@pytest.mark.hostile("Python traps")
def test_odd_names_are_errors(text: str) -> None:
    assert line_of(fails(f"FROM busybox\n{text}\n")) == 2


@pytest.mark.parametrize("digits", ["9" * 5000, "\u0663", "\u00b2", "1_0"])
@pytest.mark.parametrize("text", [
    "COPY --chmod={} a b", "EXPOSE {}", "EXPOSE 1-{}", "HEALTHCHECK --retries={} CMD x",
    "HEALTHCHECK --interval={}s CMD x", "RUN --mount=type=tmpfs,target=/x,size={} x", "STOPSIGNAL {}",
    "RUN --mount=type=cache,target=/x,uid={} x", "RUN --mount=type=cache,target=/x,mode={} x",
])  # fmt: skip
@pytest.mark.hostile("Python traps")
def test_what_python_takes_for_a_number_or_not_at_all_is_an_error(text: str, digits: str) -> None:
    """int() refuses thousands of digits with an error of its own, and takes those of every script."""
    assert line_of(fails(f"FROM busybox\n{text.format(digits)}\n")) == 2


WORDS = st.text(alphabet="ab$\\{}:-=,/. <\"'[]@!0\0\udcff~`", max_size=12)
TEXTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["FROM", "RUN", "RUN --mount=", "COPY", "COPY --from=", "COPY --chmod=", "ADD", "ENV A=",
             "ARG A=",
             "LABEL", "EXPOSE", "VOLUME", "USER", "WORKDIR", "HEALTHCHECK --interval=", "STOPSIGNAL",
             "ONBUILD", "FROM --platform=", "COPY --exclude=", "SHELL", "CMD"]
        ),
        WORDS,
        WORDS,
    ),
    max_size=6,
)  # fmt: skip


@pytest.mark.hostile("CVE-2024-23650")
@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_any_text_gives_a_program_or_an_error_for_people(lines: list[tuple[str, str, str]]) -> None:
    text = "FROM scratch AS a\n" + "".join(f"{keyword} {one} {two}\n" for keyword, one, two in lines)

    with contextlib.suppress(BuildError):
        outcome = compile_once(text + "FROM a\n")
        assert isinstance(outcome, Missing) or encode(outcome.config)

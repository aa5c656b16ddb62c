"""Rules about what instructions do."""

from __future__ import annotations

import pytest
from msgspec import structs
from msgspec.structs import replace

from builder.compiler.program import NamedContext
from tests.support.checking import findings, found, lines_of
from tests.support.compiling import image


@pytest.mark.parametrize(
    ("step", "count"),
    [
        ("LABEL a=$NO", 1),
        ("LABEL a=$NO b=$NEVER", 2),
        ("LABEL a=$NO$NO", 1),
        ("LABEL $NO=a", 1),
        ("LABEL a='$NO' b=\\$NO", 0),
        ("LABEL a=${NO:-x} b=${NO+x}", 2),
        ("LABEL a=${SET:-$NO}", 1),
        ("LABEL a=$SET b=$DECLARED c=$PATH", 0),
        ("ENV A=$NO:x", 1),
        ("ENV A=1 B=$A", 1),
        ("ARG A=$NO", 1),
        ("ARG A=1 B=$A", 0),
        ("ARG GIVEN=$NO", 0),
        ("WORKDIR /$NO", 1),
        ("USER u$NO", 1),
        ("VOLUME /a$NO", 1),
        ('VOLUME ["/a$NO", "/$NEVER"]', 2),
        ("STOPSIGNAL 9$NO", 1),
        ("EXPOSE 80$NO", 0),
        ("COPY $NO a$NO /$NO", 3),
        ("COPY --chown=$NO --chmod=${NEVER:-644} a /a", 2),
        ("COPY --exclude=$NO a /a", 0),
        ("COPY <<EOF /a\n$NO $NEVER\nEOF", 2),
        ("COPY <<'EOF' /a\n$NO\nEOF", 0),
        ("ADD a$NO /a", 1),
        ("RUN --mount=type=cache,target=/$NO echo $NO", 1),
        ("RUN --mount=type=secret,id=$NO,target=/a$NO echo", 2),
        ("RUN <<EOF\n$NO\nEOF", 0),
        ('CMD ["$NO"]', 0),
        ("ONBUILD LABEL a=$NO", 0),
    ],
)
def test_variables_that_are_not_set(step: str, count: int) -> None:
    text = f"FROM busybox\nARG DECLARED\nARG GIVEN\nENV SET=1\n{step}\n"

    assert lines_of("UndefinedVar", text, build_args={"GIVEN": "1"}) == [5] * count


def test_predefined_arguments_need_a_declaration() -> None:
    assert lines_of(
        "UndefinedVar", "FROM scratch\nLABEL a=$TARGETARCH\nARG TARGETARCH\nLABEL a=$TARGETARCH\n"
    ) == [2]


def test_a_variable_that_was_meant_is_told() -> None:
    assert (
        "did you mean VERSION?"
        in findings("FROM scratch\nARG VERSION\nENV VERSION=1\nLABEL a=$VERSON\n")[0].message
    )


@pytest.mark.parametrize(
    ("step", "is_found"),
    [("ENV A b", True), ("env A b c=d", True), ("ENV A=b", False), ("LABEL A b", True), ("LABEL A=b", False)],
)
def test_pairs_without_an_equals_sign(step: str, is_found: bool) -> None:
    assert bool(lines_of("LegacyKeyValueFormat", f"FROM scratch\n{step}\n")) is is_found


@pytest.mark.parametrize(
    ("name", "is_found"),
    [
        ("TOKEN", True), ("GITHUB_TOKEN", True), ("token_of_mine", True), ("apiKey", True),
        ("Db_Password", True),
        ("AUTH", True), ("credentials", True), ("A_KEY_B", True),
        ("TOKENIZER", False), ("MONKEY", False), ("author", False), ("api-key", False),
        ("PUBLIC_KEY", False), ("PASSWORD_FILE", False), ("TOKEN_VERSION", False),
    ],
)  # fmt: skip
def test_names_that_sound_like_secrets(name: str, is_found: bool) -> None:
    for step in (f"ARG {name}", f"ENV {name}=x"):
        assert bool(lines_of("SecretsUsedInArgOrEnv", f"FROM scratch\n{step}\n")) is is_found
    assert not found(f"ARG {name}=x\nFROM scratch\nLABEL {name}=y\n")


def test_the_first_workdir_is_absolute() -> None:
    assert lines_of("WorkdirRelativePath", "FROM scratch\nWORKDIR a\nWORKDIR b\n") == [2]
    assert lines_of("WorkdirRelativePath", "FROM scratch\nWORKDIR /a\nWORKDIR b\n") == []
    assert lines_of("WorkdirRelativePath", "FROM scratch\nENV A=/a\nWORKDIR $A\n") == []
    assert lines_of("WorkdirRelativePath", "FROM scratch\nARG A=a\nWORKDIR $A/b\n") == [3]


def test_a_workdir_of_the_base_image_does_not_count_but_one_of_a_stage_does() -> None:
    bases = {"docker.io/library/busybox:latest": image("busybox", working_dir="/srv")}
    text = "FROM busybox AS a\nWORKDIR x\nFROM a AS b\nFROM b\nWORKDIR y\nFROM busybox\nWORKDIR z\n"

    assert lines_of("WorkdirRelativePath", text, bases=bases) == [2, 7]


def test_windows_has_drives() -> None:
    linux = image("w")
    bases = {"docker.io/library/w:latest": replace(linux, config=structs.replace(linux.config, os="windows"))}

    assert (
        lines_of("WorkdirRelativePath", "FROM --platform=windows/amd64 w\nWORKDIR C:/a\n", bases=bases) == []
    )
    assert (
        lines_of(
            "WorkdirRelativePath", "# escape=`\nFROM --platform=windows/amd64 w\nWORKDIR \\a\n", bases=bases
        )
        == []
    )
    assert lines_of("WorkdirRelativePath", "FROM --platform=windows/amd64 w\nWORKDIR a\n", bases=bases) == [2]


def test_commands_in_shell_form() -> None:
    text = "FROM scratch\nCMD a b\nENTRYPOINT a\nRUN --network=none a\nHEALTHCHECK CMD a\n"

    assert lines_of("JSONArgsRecommended", text) == [2, 3]
    assert lines_of("JSONArgsRecommended", 'FROM scratch\nCMD ["a"]\nENTRYPOINT []\n') == []
    assert lines_of("JSONArgsRecommended", "FROM scratch\nCMD ['a']\n") == [2]


def test_the_shell_form_is_fine_with_a_shell_of_ones_own() -> None:
    bases = {"docker.io/library/busybox:latest": image("busybox", shell=("sh", "-e"))}

    assert lines_of("JSONArgsRecommended", 'FROM scratch\nSHELL ["sh", "-c"]\nCMD a\n') == []
    assert lines_of("JSONArgsRecommended", "FROM busybox\nCMD a\n", bases=bases) == []


def test_what_counts_only_once_names_the_earlier_ones() -> None:
    text = (
        'FROM scratch\nCMD ["a"]\nHEALTHCHECK NONE\nCMD ["b"]\nUSER a\nUSER b\nHEALTHCHECK CMD a\nCMD ["c"]\n'
        'FROM scratch\nCMD ["d"]\n'
    )

    assert lines_of("MultipleInstructionsDisallowed", text) == [2, 3, 4]


def test_ports() -> None:
    text = "FROM scratch\nEXPOSE 80/TCP\nEXPOSE 80/tcp 8080:80 127.0.0.1:81:81\nENV P=90/Udp\nEXPOSE $P\n"

    assert lines_of("ExposeProtoCasing", text) == [2, 5]
    assert lines_of("ExposeInvalidFormat", text) == [3, 3]


@pytest.mark.parametrize(
    ("ignore", "step", "is_found"),
    [
        ("a\n", "COPY a /", True),
        ("a\n", "ADD a /", True),
        ("a\n", "COPY ./a/ /", True),
        ("a\n", "COPY a/b/c /", True),
        ("a\n", "COPY b /", False),
        ("a\n", "COPY --from=other a /", False),
        ("*.txt\n", "COPY a.txt /", True),
        ("*.txt\n", "COPY *.txt /", True),
        ("*.txt\n!b.txt\n", "COPY a.txt /", False),
        ("*\n", "COPY . /", True),
        ("**/*\n", "COPY / /", True),
        ("a\n", "COPY . /", False),
        ("a\n", "COPY <<a /b\na\n", False),
        ("", "COPY a /", False),
    ],
)
def test_sources_that_the_ignore_file_leaves_out(ignore: str, step: str, is_found: bool) -> None:
    text = f"FROM scratch AS other\nFROM scratch\n{step}\n"

    assert bool(lines_of("CopyIgnoredFile", text, ignore=ignore)) is is_found


def test_a_trigger_is_looked_at_where_it_runs() -> None:
    text = "FROM scratch AS a\nONBUILD CMD run\nONBUILD LABEL b c\n# check=skip=all\nFROM a\nCMD run\n"

    assert found(text) == [
        "5 JSONArgsRecommended",
        "5 LegacyKeyValueFormat",
        "5 MultipleInstructionsDisallowed",
        "6 JSONArgsRecommended",
    ]


def test_stages_that_the_target_does_not_need_are_looked_at_only_without_a_target() -> None:
    text = "FROM scratch AS a\nCMD run\nFROM scratch AS b\nCMD run\nFROM scratch\n"

    assert found(text) == ["2 JSONArgsRecommended", "4 JSONArgsRecommended"]
    assert found(text, target="b") == ["4 JSONArgsRecommended"]
    assert found(text, all_stages=False) == []


def test_an_instruction_that_fails_is_looked_at_up_to_there_and_nothing_behind_it() -> None:
    text = "FROM scratch\nENV A b\nLABEL a=$NO b=${A!x} c=$NEVER\nCMD run\n"

    assert found(text) == ["2 LegacyKeyValueFormat", "3 UndefinedVar"]
    assert found("FROM scratch\nENV A b\nSTOPSIGNAL what\nCMD run\n") == ["2 LegacyKeyValueFormat"]


def test_an_argument_is_told_as_a_secret_though_its_default_is_wrong_but_none_behind_it() -> None:
    text = "FROM scratch\nARG A=1 KEY=${A!} TOKEN=1\nENV SECRET=${A!}\n"

    assert found(text) == ["2 SecretsUsedInArgOrEnv"]


def test_a_modifier_that_is_none_is_told_with_the_variable_in_front_of_its_colon() -> None:
    assert lines_of("UndefinedVar", "FROM scratch\nLABEL a=${NO:x}\n") == [2]
    assert lines_of("UndefinedVar", "FROM scratch\nLABEL a=${NO!x}\n") == []


def test_ports_are_looked_at_up_to_one_that_is_wrong() -> None:
    assert found("FROM scratch\nEXPOSE 80:80 8002-8001\n") == []
    assert found("FROM scratch\nEXPOSE 80:80 9002-9001\n") == ["2 ExposeInvalidFormat"]
    assert found("FROM scratch\nEXPOSE 80:80 ${A!}\n") == []


def test_a_heredoc_that_is_no_source_is_not_looked_at() -> None:
    assert lines_of("UndefinedVar", "FROM scratch\nCOPY << A /d/\n$NO\nA\n") == []


def test_a_run_of_an_empty_array_is_no_error_before_it_runs() -> None:
    assert found("FROM busybox\nRUN []\nCMD a\n") == ["3 JSONArgsRecommended"]


def test_mounts_are_looked_at_up_to_the_option_that_is_wrong() -> None:
    wrong = "FROM busybox\nRUN --mount=type=cache,target=$A,uid=x,id=$B --mount=target=$C x\n"

    assert lines_of("UndefinedVar", wrong) == [2]
    assert lines_of("UndefinedVar", wrong.replace("uid=x", "uid=1")) == [2, 2, 2]


def test_sources_behind_a_wrong_mode_are_not_looked_at() -> None:
    text = "FROM scratch\nCOPY --chmod={} a /\n"

    assert lines_of("CopyIgnoredFile", text.format("644"), ignore="a") == [2]
    assert lines_of("CopyIgnoredFile", text.format("9"), ignore="a") == []


def test_a_stage_that_a_context_stands_in_for_is_looked_at_among_all_stages() -> None:
    text = "FROM scratch AS b\nCMD x\nWORKDIR rel\nFROM b\nWORKDIR y\n"
    contexts = {"b": NamedContext("local", "/b")}

    assert found(text, contexts=contexts) == ["2 JSONArgsRecommended", "3 WorkdirRelativePath"]
    assert found(text, contexts=contexts, target="b") == []

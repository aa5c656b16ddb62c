"""Whole Dockerfiles to syntax trees: the forms of each instruction, and what is refused where."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile import ast
from builder.dockerfile.parser import KEYWORDS, parse, parse_trigger
from builder.errors import DockerfileError
from builder.text import Location, SourceText, Span


def read(text: str) -> tuple[ast.AnyInstruction, ...]:
    return parse(SourceText("Dockerfile", text)).instructions


def one(line: str) -> ast.AnyInstruction:
    return read(f"FROM a\n{line}\n")[1]


def refusal(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        read(text)
    return caught.value


def shell(text: str) -> ast.Command:
    return ast.Command((text,), shell=True)


def array(*words: str) -> ast.Command:
    return ast.Command(words, shell=False)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("from  a:1 aS Bc.d-e_1", "name", "bc.d-e_1"),
        ("FROM a:1", "image", "a:1"),
        ("FROM as as as", "image", "as"),
        ("RUN  echo  'a  b' ", "command", shell("echo  'a  b'")),
        ("RUN", "command", shell("")),
        ('RUN ["a", "b c"]', "command", array("a", "b c")),
        ('RUN ["a"] && b', "command", shell('["a"] && b')),
        (r'CMD ["c:\dir"]', "command", shell(r'["c:\dir"]')),
        ("CMD []", "command", array()),
        ("ENTRYPOINT -- --x", "command", shell("--x")),
        ('SHELL [ "a" , \t"b" ]', "words", ("a", "b")),
        ("HEALTHCHECK none", "command", None),
        ("HEALTHCHECK --odd NONE", "command", None),
        ("HEALTHCHECK --interval=3s cmd curl x", "command", shell("curl x")),
        ('HEALTHCHECK CMD ["curl"]', "command", array("curl")),
        ("COPY a b /c", "sources", ("a", "b")),
        ('ADD ["a b", "c d"]', "dest", "c d"),
        ("COPY a --chown=1 /c", "sources", ("a", "--chown=1")),
        ("COPY -- --a /c", "sources", ("--a",)),
        ("VOLUME /a /b", "paths", ("/a", "/b")),
        ('VOLUME ["/a", " /b "]', "paths", ("/a", "/b")),
        ("EXPOSE 80\v81/udp  $P", "ports", ("80", "81/udp", "$P")),
        ("USER a b", "user", "a b"),
        ("WORKDIR /a b", "path", "/a b"),
        ("STOPSIGNAL --odd 9", "signal", "9"),
        ("MAINTAINER a <b>", "name", "a <b>"),
        ("ONBUILD  run  x  ", "trigger", "run  x  "),
    ],
)
def test_an_instruction_has_its_parts(line: str, field: str, value: object) -> None:
    assert getattr(one(line), field) == value


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        (
            "ENV A=1 B=\"x y\" C='z w' D=a\\ b E=",
            [("A", "1"), ("B", '"x y"'), ("C", "'z w'"), ("D", "a\\ b"), ("E", "")],
        ),
        ("ENV A one  two=3", [("A", "one  two=3")]),
        ('ENV "A=b" c=d', [('"A', 'b"'), ("c", "d")]),
        ("LABEL a.b/c=d=e", [("a.b/c", "d=e")]),
        ("LABEL a=1\u00a0b=2", [("a", "1"), ("b", "2")]),
        ("LABEL a=x\\\\\\", [("a", "x\\\\")]),
        ('LABEL a="open quote b=c', [("a", '"open quote b=c')]),
        ("ARG A B=c D=", [("A", None), ("B", "c"), ("D", "")]),
        ("ARG --odd A='x y'", [("A", "'x y'")]),
    ],
)
def test_pairs(line: str, pairs: list[tuple[str, str | None]]) -> None:
    instruction = one(line)

    assert isinstance(instruction, ast.Env | ast.Label | ast.Arg)
    assert [(pair.name, pair.value) for pair in instruction.pairs] == pairs


def test_the_legacy_form_is_known() -> None:
    found = [one(line) for line in ("ENV A b", "ENV A=b", "LABEL a b=c")]

    assert [isinstance(step, ast.Env | ast.Label) and step.legacy for step in found] == [True, False, True]


def test_flags_lose_their_quotes_and_keep_their_places() -> None:
    text = 'FROM a\nCOPY --chown="7":\'8\' \\\n  --li"nk" --exclude=a\\ b --exclude= a /b\n'
    flags = read(text)[1].flags

    assert [(flag.name, flag.value) for flag in flags] == [
        ("chown", "7:8"), ("link", None), ("exclude", "a b"), ("exclude", ""),
    ]  # fmt: skip
    assert flags[1].span == Span(3, 2, 3, 10)


def test_every_flag_is_taken() -> None:
    flags = {
        "FROM --platform=a b": 1,
        "RUN --mount=a --mount=b --network=none --security=insecure --device=a x": 5,
        "COPY --from=a --chown=b --chmod=c --link=TRUE --parents=false --exclude=d --exclude=e a b": 7,
        "ADD --chown=b --chmod=c --link --checksum=d --keep-git-dir --unpack=false --exclude=e a b": 7,
        "HEALTHCHECK --interval=1s --timeout=1s --start-period=1s --start-interval=1s --retries=1 CMD x": 5,
    }
    assert {line: len(one(line).flags) for line in flags} == flags


def test_the_escape_character_reaches_flags_and_pairs() -> None:
    text = '# escape=`\nFROM a\nCOPY --chown=a`"b\\c a /b\nENV A=b` c\\ D=`\ne\n'
    _, copy, env = read(text)

    assert copy.flags[0].value == 'a"b\\c'
    assert isinstance(env, ast.Env)
    assert [(pair.name, pair.value) for pair in env.pairs] == [("A", "b` c\\"), ("D", "e")]


def test_all_that_instructions_have_in_common() -> None:
    text = "FROM a\n# above\n  run --network=none \\\n\n  cat <<EOF # x\nbody\nEOF\n"
    run = read(text)[1]

    assert run.keyword == "RUN"
    assert run.original == "run --network=none   cat <<EOF # x"
    assert run.span == Span(3, 0, 7)
    assert run.comments == ("above",)
    assert run.gaps == (4,)
    assert run.flag("network") == "none"
    assert [heredoc.text for heredoc in run.heredocs] == ["body\n"]


def test_heredocs_stand_among_the_sources_as_their_markers() -> None:
    copy = one("COPY <<a.txt <<-'B' /d/\n1\na.txt\n\t2\n\tB")

    assert isinstance(copy, ast.Copy)
    assert copy.sources == ("<<a.txt", "<<-'B'")
    assert [(found.marker, found.text, found.expand) for found in copy.heredocs] == [
        ("<<a.txt", "1\n", True),
        ("<<-'B'", "2\n", False),
    ]


@pytest.mark.parametrize("line", ["CMD cat <<EOF", "ENV A=<<EOF", 'RUN ["a", "<<EOF"]', "ONBUILD CMD <<EOF"])
def test_other_forms_have_no_heredocs(line: str) -> None:
    assert one(line).heredocs == ()


def test_onbuild_keeps_the_heredocs_of_its_trigger() -> None:
    onbuild = one("onbuild copy <<-EOF /x\n\ta\n\tEOF")

    assert isinstance(onbuild, ast.Onbuild)
    assert onbuild.trigger == "copy <<-EOF /x\n\ta\nEOF"


@pytest.mark.parametrize("line", ["ONBUILD FROB x", "ONBUILD COPY a", "ONBUILD RUN --odd x", "ONBUILD ENV"])
def test_most_faults_of_a_trigger_wait_for_its_use(line: str) -> None:
    assert isinstance(one(line), ast.Onbuild)


def test_directives_are_kept() -> None:
    dockerfile = parse(SourceText("d", "# syntax=docker/dockerfile:1\n# escape=`\nFROM a\n"))

    assert [(found.name, found.value) for found in dockerfile.directives] == [
        ("syntax", "docker/dockerfile:1"),
        ("escape", "`"),
    ]
    assert dockerfile.escape == "`"


def test_args_may_stand_before_the_first_from() -> None:
    assert [found.keyword for found in read("ARG A=b\nFROM $A\n")] == ["ARG", "FROM"]


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("FORM a", "unknown-instruction", "FORM"),
        ("FROM\u00a0a", "unknown-instruction", "FROM"),
        ("FROM", "incomplete", "FROM"),
        ("FROM a AS", "incomplete", "FROM"),
        ("FROM a b", "syntax", "'b'"),
        ("FROM a AS b # c", "syntax", "# c"),
        ("FROM a AS 1st", "bad-stage-name", "1st"),
        ("COPY a", "incomplete", "COPY"),
        ('ADD ["a"]', "incomplete", "ADD"),
        ("COPY a <<EOF\nEOF", "bad-destination", "COPY"),
        ("RUN <<${X:-a b}\nEOF", "bad-heredoc", "heredoc"),
        ('CMD ["a", 5]', "mixed-array", "CMD"),
        ("HEALTHCHECK CMD [null]", "mixed-array", "HEALTHCHECK"),
        ("SHELL [1]", "mixed-array", "SHELL"),
        ("SHELL sh -c", "syntax", "SHELL"),
        ("SHELL []", "incomplete", "SHELL"),
        ("VOLUME []", "incomplete", "VOLUME"),
        ('VOLUME ["/a", ""]', "empty-word", "VOLUME"),
        ("HEALTHCHECK", "incomplete", "HEALTHCHECK"),
        ("HEALTHCHECK CMD", "incomplete", "HEALTHCHECK"),
        ("HEALTHCHECK CMD []", "incomplete", "HEALTHCHECK"),
        ("HEALTHCHECK NONE x", "syntax", "'x'"),
        ("HEALTHCHECK curl", "syntax", "curl"),
        ("ENV", "incomplete", "ENV"),
        ("ENV A", "no-value", "ENV"),
        ("ENV A=b c", "no-equals", "'c'"),
        ("ENV A=b =c", "empty-word", "ENV"),
        ("ARG =c", "empty-word", "ARG"),
        ("COPY --form=x a b", "unknown-flag", "--form"),
        ("WORKDIR --parents /a", "unknown-flag", "--parents"),
        ("COPY --link=maybe a b", "bad-flag", "--link"),
        ("COPY --link= a b", "bad-flag", "--link"),
        ("COPY --chown a b", "bad-flag", "--chown"),
        ("COPY --chown=a --chown=b a b", "bad-flag", "--chown"),
        ("RUN --network=wifi x", "bad-flag", "wifi"),
        ("RUN --security=lax x", "bad-flag", "lax"),
        ("HEALTHCHECK --retries=x CMD a", "bad-flag", "--retries"),
        ("HEALTHCHECK --interval=5 CMD a", "bad-flag", "--interval"),
        ("HEALTHCHECK --timeout=1us CMD a", "bad-flag", "--timeout"),
        ('RUN --mount=type=b\\"ind x', "bad-flag", "--mount"),
        ('COPY ["a",1]', "mixed-array", "COPY"),
        ('ADD --link ["a",null]', "mixed-array", "ADD"),
        ("ENV --foo=bar A=b c", "no-equals", "'c'"),
        ("ONBUILD", "incomplete", "ONBUILD"),
        ("ONBUILD ONBUILD RUN x", "bad-trigger", "ONBUILD"),
        ("onbuild from a", "bad-trigger", "FROM"),
        ("ONBUILD MAINTAINER a", "bad-trigger", "MAINTAINER"),
        ('ONBUILD CMD ["a", 1]', "mixed-array", "CMD"),
        ("ONBUILD ENV A", "no-value", "ENV"),
        ("ONBUILD LABEL a=b c", "no-equals", "'c'"),
        ("RUN <<EOF\nx", "unterminated-heredoc", "<<EOF"),
        ("\\", "unknown-instruction", ""),
    ],
)
def test_what_is_wrong_is_refused_at_its_line(line: str, code: str, word: str) -> None:
    error = refusal(f"# c\nFROM a AS b\n\n{line}\n")

    assert error.code == code
    assert word in error.message
    assert error.location is not None
    assert error.location.span.line == 4


@pytest.mark.parametrize("keyword", sorted(set(KEYWORDS) - {"RUN", "CMD", "ENTRYPOINT"}))
def test_an_instruction_without_words_tells_its_usage(keyword: str) -> None:
    error = refusal(f"FROM a\n{keyword}\n")

    assert (error.code, error.hint and error.hint.startswith(f"usage: {keyword} ")) == ("incomplete", True)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("FORM a", "did you mean FROM?"),
        ("entripoint x", "did you mean ENTRYPOINT?"),
        ("COPY --form=x a b", "did you mean --from?"),
        ("RUN --mounts=x a", "did you mean --mount?"),
        ("XYZZY", None),
    ],
)
def test_the_nearest_name_is_the_hint(line: str, hint: str | None) -> None:
    assert refusal(f"FROM a\n{line}\n").hint == hint


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "no instructions"),
        ("\n \n# x\n", 3, "no instructions"),
        ("ARG A\n", 1, "no FROM"),
        ("ARG A\nRUN x\nFROM a\n", 2, "before the first FROM"),
    ],
)
def test_a_dockerfile_has_a_stage(text: str, line: int, message: str) -> None:
    error = refusal(text)

    assert message in error.message
    assert error.location is not None
    assert error.location.span.line == line


WHERE = Location(SourceText("Dockerfile", "FROM a\nFROM b\n"), Span(2))


def test_a_trigger_is_placed_where_it_is_used() -> None:
    copy = parse_trigger("COPY --chown=1 <<EOF /x\n$A\nEOF", "\\", WHERE)

    assert isinstance(copy, ast.Copy)
    assert copy.heredocs[0].content == "$A\n"
    assert {copy.span, copy.flags[0].span, copy.heredocs[0].span} == {Span(2)}


@pytest.mark.parametrize(
    "trigger", ["FROB x", "FROM a", "", "RUN a\nRUN b", "COPY a", "RUN <<E", "RUN --odd x"]
)
def test_a_bad_trigger_is_refused_where_it_is_used(trigger: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_trigger(trigger, "\\", WHERE)

    assert caught.value.location == WHERE


@pytest.mark.parametrize(
    "text",
    [
        "RUN " + "[" * 60_000,
        "CMD " + '["a", ' * 10_000,
        "ENV A=" + '"' * 60_001,
        "ENV A=" + "${a:-" * 12_000,
        "COPY " + "--x=" * 15_000,
        "COPY " + "--x " * 15_000,
        "EXPOSE " + "1 " * 30_000,
        "ONBUILD " * 8_000,
    ],
)
def test_long_and_deep_lines_give_a_tree_or_a_refusal(text: str) -> None:
    try:
        read(f"FROM a\n{text}\n")
    except DockerfileError as error:
        assert error.location is not None  # noqa: PT017


PIECES = st.sampled_from(
    [*KEYWORDS, *KEYWORDS, "FROM a\n", "\n", "\n", " ", " ", " ", "\\\n", "\\", "`", "#", "# escape=`\n",
     "--", "--a=b", "=", "a", "b=c", '"', "'", "[", "]", '["a"]', "[1]", "<<", "<<E", "E\n", "$", "${", "}",
     "\ufeff", "\r", "\t", "\x00", "\x1c", "\u00a0", "\udcff", "é", "NONE", "CMD", "AS"]
)  # fmt: skip


def test_what_is_wrong_in_a_continued_line_names_where_that_begins_too() -> None:
    error = refusal("FROM a\nCOPY \\\n  --chown=x \\\n  --form=b a b\n")

    assert error.location is not None
    assert (error.location.span.line, error.location.begins) == (4, 2)
    assert str(error.location) == "Dockerfile:4 (begins at line 2)"


@pytest.mark.parametrize(
    ("line", "start", "end", "hint"),
    [
        ("  RNU x", 2, 5, "did you mean RUN?"),
        ("FROM a foo", 7, 10, "usage: FROM [--platform=PLATFORM] IMAGE [AS NAME]"),
        ("HEALTHCHECK CDM x", 12, 17, "did you mean CMD?"),
        ("RUN --network=non x", 4, 17, "did you mean none?"),
    ],
)
def test_what_is_wrong_is_pointed_at_and_what_was_meant_is_told(
    line: str, start: int, end: int, hint: str
) -> None:
    error = refusal(f"FROM a\n{line}\n")

    assert error.location is not None
    assert error.location.span == Span(2, start, 2, end)
    assert error.hint is not None
    assert error.hint.startswith(hint)


def test_a_health_check_of_an_empty_word_is_one() -> None:
    check = one('HEALTHCHECK CMD [""]')

    assert isinstance(check, ast.Healthcheck)
    assert check.command == array("")


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_any_text_gives_a_tree_or_a_refusal_with_a_place(text: str) -> None:
    for source in (text, f"FROM a\n{text}"):
        try:
            dockerfile = parse(SourceText("Dockerfile", source))
        except DockerfileError as error:
            assert error.location is not None  # noqa: PT017
            assert 1 <= error.location.span.line <= source.count("\n") + 1  # noqa: PT017
        else:
            assert all(found.span.line <= found.span.last_line for found in dockerfile.instructions)


NAMES = st.text(st.sampled_from("abc_1.é"), min_size=1)
VALUES = st.text(st.characters(exclude_characters="\n\r\\\"'", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(NAMES, VALUES), min_size=1))
def test_quoted_pairs_come_back(pairs: list[tuple[str, str]]) -> None:
    line = " ".join(f'{name}="{value}"' for name, value in pairs)
    env = one(f"ENV {line}")

    assert isinstance(env, ast.Env)
    assert [(pair.name, pair.value) for pair in env.pairs] == [(name, f'"{value}"') for name, value in pairs]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_arrays_come_back(words: list[str]) -> None:
    cmd = one(f"CMD {json.dumps(words)}")
    assert isinstance(cmd, ast.Cmd)
    assert cmd.command == array(*words)

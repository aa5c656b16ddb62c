"""Any text ends in a tree or in an error with a place, in work that grows as the text does."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.checks.documents import Report, findings_document
from builder.checks.find import Subject, find
from builder.checks.outline import read_outline
from builder.compiler import growth, runs, sources
from builder.compiler.compile import Visit
from builder.compiler.compile import compile as compile_dockerfile
from builder.compiler.nearest import MOST, nearest
from builder.compiler.program import CompileOptions, ImageRequest, Missing
from builder.dockerfile import parse, words
from builder.dockerfile.ast import AnyInstruction, Run
from builder.dockerfile.lines import MAX_LINE
from builder.dockerfile.parser import Reading, read
from builder.dockerfile.words import MAX_NESTING, WordError
from builder.errors import BuildError, DockerfileError
from builder.graph.view import FORMATS, View
from builder.text import Location, SourceText
from tests.support.compiling import BASES, MACHINE, compile_text, visits_of

START = "FROM busybox\n"


def lines_of(text: str) -> list[str]:
    return text.removeprefix("\ufeff").split("\n")


def fails(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    return caught.value


# Any text

KEYWORDS = st.sampled_from(
    ["FROM ", "RUN ", "COPY ", "ADD ", "ENV ", "LABEL ", "ARG ", "ONBUILD ", "HEALTHCHECK ", "VOLUME ",
     "SHELL ", "# escape=`\n", "# check=", "#", "\n", "\\\n", "`\n", "\r\n", "\ufeff", "FROM a\n", "--mount=",
     "--from=", "--chmod=", '["', '"]', "<<E", "\nE\n", "<<-'E'", "'", '"', "${a:-", "}", "$", "\\", " ",
     "\t", "=", "a", "\0", "\udcff", "\x85", "\u2028", "\x1c", "[" * 2000, "${a:-" * 99, "9" * 5000]
)  # fmt: skip
TEXTS = st.lists(KEYWORDS | st.text(max_size=4), max_size=30).map("".join)


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.booleans())
def test_any_text_is_a_tree_or_an_error_placed_in_it(text: str, begun: bool) -> None:
    text = f"FROM a\n{text}" if begun else text
    lines = lines_of(text)
    try:
        tree = parse(text)
    except DockerfileError as error:
        spans = [error.location.span] if error.location and error.location.source.text == text else []
    else:
        spans = [step.span for step in tree.instructions]
        spans += [flag.span for step in tree.instructions for flag in step.flags]
        spans += [directive.span for directive in tree.directives]
    assert spans
    for span in spans:
        last = span.end_line or span.line
        assert 1 <= span.line <= last <= len(lines)
        assert 0 <= span.column <= len(lines[span.line - 1]) + text.startswith("\ufeff")


LINES = st.lists(
    st.sampled_from(
        [
            "FROM busybox",
            "FROM scratch AS s",
            "FROM s",
            "RUN",
            "COPY",
            "ADD",
            "ENV",
            "ARG",
            "LABEL",
            "EXPOSE",
            "VOLUME",
            "USER",
            "WORKDIR",
            "CMD",
            "HEALTHCHECK",
            "STOPSIGNAL",
            "SHELL",
            "ONBUILD RUN",
            "ONBUILD COPY",
        ]
    ),
    max_size=6,
)
WORDS = st.sampled_from(
    [
        "a",
        "$A",
        "${A:-b}",
        "${A##*x}",
        "${A//x/y}",
        "A=b",
        "A=$A$A",
        "--from=s",
        "--from=0",
        "/",
        "..",
        "[a",
        "'q'",
        "--mount=type=cache,target=/x",
        "--mount=type=secret,id=a,env=B",
        "--platform=$TARGETPLATFORM",
        "--chmod=u+x",
        '["a", "b"]',
        "http://a/b",
        "https://[",
        "git@github.com:a/b.git#x:y",
        "80/tcp",
        "1-70000",
        "9" * 20,
        "NONE",
        "SIGTERM",
        "x" * 300,
        "<<E\nb\nE",
        "/./",
        "\0",
        "\r",
        "\f",
        "\x85",
        "\u2028",
        "\udcff",
        "\ud800",
        "\ufeff",
    ]
)
ODD = st.lists(
    st.sampled_from(["a", "A", "/", ":", "$A", "${", "\0", "\r", "\x85", "\u2028", "\udcff"]), max_size=4
).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    LINES, st.data(), ODD, st.sampled_from(["A", "SOURCE_DATE_EPOCH", "TARGETPLATFORM", "HTTP_PROXY"]), ODD
)
def test_what_can_be_parsed_is_compiled_and_told_or_an_error(
    starts: list[str], data: st.DataObject, target: str, name: str, value: str
) -> None:
    words = [" ".join([start, *data.draw(st.lists(WORDS, max_size=4))]) for start in starts]
    reading = read(SourceText("Dockerfile", START + "\n".join(words)))
    options = CompileOptions(MACHINE, MACHINE, target=target, build_args={name: value}, all_stages=True)
    visits: list[Visit] = []
    known = {request: BASES[request.locator] for request in requests_of(reading, options)}
    with contextlib.suppress(BuildError):
        compile_dockerfile(reading.dockerfile(), options, known, visits)

    findings = find(Subject(reading, options, known, visits))

    assert all(1 <= found.span.line <= found.span.last_line <= 100 for found in findings)
    json.dumps(findings_document(Report(reading.source, findings))).encode()


def requests_of(reading: Reading, options: CompileOptions) -> list[ImageRequest]:
    """The images of a Dockerfile that are among those of the tests."""
    try:
        outcome = compile_dockerfile(reading.dockerfile(), options, {})
    except BuildError:
        return []
    return [item for item in outcome.images if item.locator in BASES] if isinstance(outcome, Missing) else []


# Sizes

LONG = [
    ("instructions of 10 MB", START + f"RUN echo {'word ' * 12_000}\n" * 170, 170),
    ("comments", "# a comment\n" * (10 << 20 >> 4) + START, 0),
    ("a heredoc of 10 MB", f"{START}RUN <<E\n" + "a line of the body\n" * (10 << 20 >> 4) + "E\n", 1),
    ("a joined line of 1 MB", f"{START}RUN a\\\n" + ("x" * 70 + " \\\n") * 15_000 + "end\n", 1),
    ("a joined line of blanks", f"{START}RUN a\\\n" + (" " * 70 + " \\\n") * 15_000 + "end\n", 1),
    ("a joined line of words", f"{START}COPY a\\\n" + ("x" * 70 + " \\\n") * 15_000 + "end\n", 1),
    ("a joined array", f'{START}RUN ["a"' + (',"' + "x" * 70 + '"\\\n') * 15_000 + "]\n", 1),
    ("a joined ENV", f"{START}ENV a=1\\\n" + (" b=" + "x" * 700 + "\\\n") * 1500 + "\n", 1),
    ("a quote over 1 MB", f'{START}ENV a="' + ("x" * 70 + " \\\n") * 15_000 + '"\n', 1),
    ("empty lines within a line", f"{START}RUN a \\\n" + "\n" * 100_000 + " b\n", 1),
    ("a trigger of 1 MB", f"{START}ONBUILD RUN a\\\n" + ("x" * 70 + " \\\n") * 15_000 + "end\n", 1),
    ("10,000 heredocs of a line", START + "RUN " + "".join(f"<<E{n} \\\n" for n in range(10_000)) + "cat\n"
     + "".join(f"b\nE{n}\n" for n in range(10_000)), 1),
    ("deep brackets", f"{START}RUN " + "[" * 60_000 + "\n", 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "count"), [row[1:] for row in LONG], ids=[row[0] for row in LONG])
def test_a_large_text_is_read(text: str, count: int) -> None:
    assert len(parse(text).instructions) == 1 + count


def test_ten_thousand_heredocs_are_read() -> None:
    tree = parse(START + "".join(f"COPY <<E{n} /f\nbody {n}\nE{n}\n" for n in range(10_000)))

    assert [step.heredocs[0].content for step in tree.instructions[1:]] == [
        f"body {n}\n" for n in range(10_000)
    ]


def test_ten_thousand_stages_are_read_and_compiled() -> None:
    text = (
        "".join(f"FROM busybox AS s{n}\nRUN x\n" for n in range(10_000)) + "FROM s9999\nCOPY --from=s0 a b\n"
    )

    program = compile_text(text)

    assert len(program.definition.reached(program.target)) == 3


def test_a_stage_in_a_row_of_thousands_is_no_deeper_than_one() -> None:
    text = "FROM busybox AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\nRUN {n}\n" for n in range(3000))

    assert len(compile_text(text).history) == 3001


@pytest.mark.parametrize("start", ["RUN ", "# ", "", "RUN <<E\n"])
@pytest.mark.parametrize("char", ["x", "é"])
def test_a_line_of_64_kib_is_an_error_at_it(start: str, char: str) -> None:
    line = char * (MAX_LINE // len(char.encode()))

    error = fails(f"{START}{start}{line}\nE\n")

    assert error.code == "line-too-long"
    assert error.location is not None
    assert error.location.span.line == 2 + start.count("\n")
    parse(f"{START}RUN {line[: len(line) - 5]}\n")


# Nesting and growth


@pytest.mark.parametrize("opening", ["${a:-", "${a-", "${a:+", "${a:?", "${a#", "${a/", '${a:-"'])
def test_nesting_ends_before_the_stack_does(opening: str) -> None:
    close = "}" if '"' not in opening else '"}'

    with pytest.raises(WordError):
        words.expand(opening * 10_000 + "b" + close * 10_000, {"a": "x"})
    with pytest.raises(WordError):
        words.expand(opening * 10_000, {})


def test_nesting_within_its_bound_is_read() -> None:
    assert words.expand("${a:-" * MAX_NESTING + "b" + "}" * MAX_NESTING, {}) == "b"


@pytest.mark.hostile("Dockerfile")
@pytest.mark.parametrize(
    "double", ["ENV a=$a$a\n", "ENV a=${a/x/$a$a}\n", "ARG a=$a$a\n", "LABEL x=1\nENV a=$a$a$a\n"]
)
def test_variables_that_double_are_an_error_and_no_flood(double: str) -> None:
    with pytest.raises(DockerfileError, match="variable a is longer than 128 KiB") as caught:
        compile_text(f"{START}ENV a=xxxxxxxx\n" + double * 60)
    assert caught.value.location is not None
    assert 10 <= caught.value.location.span.line <= 40


@pytest.mark.hostile("Dockerfile")
def test_arguments_above_the_first_stage_that_double_are_an_error() -> None:
    with pytest.raises(DockerfileError, match="variable a is longer than 128 KiB"):
        compile_text("ARG a=xxxxxxxx\n" + "ARG a=$a$a\n" * 60 + START)


@pytest.mark.hostile("Dockerfile")
@pytest.mark.parametrize(
    "line",
    ["LABEL l{}=$a\n", "VOLUME /$a/{}\n", "USER $a\n", "STOPSIGNAL ${{a##*}}9\n", "ARG g\n", "RUN {}\n",
     "CMD {}\n", "ENV b=${{a##*y}}\n", "COPY a{} $a\n", "COPY <<E /{}\n$a\nE\n", "EXPOSE ${{a##*}}{}\n"],
)  # fmt: skip
def test_few_lines_do_not_become_a_flood_together(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "MAX_ADDED", 100_000)
    start = f"ARG g={'x' * 5000}\n{START}ENV a={'x' * 5000}\n"
    start += f'USER {"u" * 5000}\nSHELL ["{"s" * 5000}"]\n'
    compile_text(start + line.format(1) * 3)

    with pytest.raises(DockerfileError, match="more than") as caught:
        compile_text(start + "".join(line.format(number + 1) for number in range(100)))

    assert caught.value.location is not None
    assert 10 < caught.value.location.span.line <= 5 + 40 * line.count("\n")


@pytest.mark.hostile("Dockerfile")
def test_the_environments_of_all_runs_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "MAX_LISTED", 1000)
    variables = "".join(f"ENV a{number}=b\n" for number in range(40))
    compile_text(START + variables + "RUN x\n" * 100)

    with pytest.raises(DockerfileError, match="hold more than 1000 variables"):
        compile_text(START + variables + "".join(f"ARG b{number}=c\nRUN x\n" for number in range(100)))


def test_a_variable_is_as_long_as_a_program_can_be_given() -> None:
    lines = "".join(f"ARG p{number}={'x' * 30_000}\n" for number in range(4))
    whole = "${p0}${p1}${p2}${p3}"

    program = compile_text(f"{START}{lines}ENV a={whole}{'y' * (growth.MAX_VARIABLE - 120_000 - 3)}\n")
    assert len(program.config.config.env[-1]) == growth.MAX_VARIABLE - 1
    with pytest.raises(DockerfileError, match="longer than 128 KiB"):
        compile_text(f"{START}{lines}ENV a={whole}{'y' * (growth.MAX_VARIABLE - 120_000 - 2)}\n")
    with pytest.raises(DockerfileError, match="longer than 128 KiB"):
        compile_text(f"{START}{lines}ENV a={whole}{'é' * 5540}\n")
    compile_text(f"{START}{lines}LABEL a={whole}{whole}\n")


def test_variables_are_as_long_together_as_a_program_can_be_given() -> None:
    line = f"ENV a{{}}={'x' * 60_000}\n"

    compile_text(START + "".join(line.format(number) for number in range(100)))
    with pytest.raises(DockerfileError, match="variables are longer than 6 MiB"):
        compile_text(START + "".join(line.format(number) for number in range(110)))


def test_a_working_folder_is_a_path_that_there_can_be() -> None:
    compile_text(START + "WORKDIR abcdefg\n" * 500)
    with pytest.raises(DockerfileError, match="longer than 4095 bytes"):
        compile_text(START + "WORKDIR abcdefg\n" * 600)


def test_a_very_long_history_repeats_no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MAX_TOLD", 1000)

    history = compile_text(START + "".join(f"ARG a{number}=b\nRUN x\n" for number in range(100))).history

    assert history[2].created_by == "RUN |1 a0=b /bin/sh -c x # buildkit"
    assert history[-1].created_by == "RUN /bin/sh -c x # buildkit"


def test_a_pattern_has_a_bound() -> None:
    assert words.expand("${a#" + "?" * 4096 + "}", {"a": "x"}) == "x"
    with pytest.raises(WordError, match="longer than 4096"):
        words.expand("${a#" + "?" * 4097 + "}", {"a": "x"})


@pytest.mark.hostile("Dockerfile")
def test_nesting_in_a_dockerfile_is_an_error_at_its_line() -> None:
    with pytest.raises(DockerfileError, match="nested more than") as caught:
        compile_text(f"{START}ENV a=" + "${a:-" * 5000 + "b" + "}" * 5000 + "\n")
    assert caught.value.location is not None
    assert caught.value.location.span.line == 2


# Growth, counted in calls: no clock is asked


def calls(work: Callable[[], Any]) -> int:
    """How many functions, of Python and of C, some work calls."""
    count = 0

    def note(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # what other tests left behind may call something when it goes
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def names(count: int) -> str:
    return "".join(f"FROM busybox AS stage{n}\nRUN x\n" for n in range(count))


GROWING: dict[str, Callable[[int], str]] = {
    "instructions": lambda n: START + "RUN a $b\n" * n,
    "comments": lambda n: "# c\n" * n + START,
    "continuations": lambda n: f"{START}RUN a" + " b \\\n" * n + "\n",
    "words": lambda n: f"{START}COPY" + " b \\\n" * n + "c\n",
    "pairs": lambda n: f"{START}ENV" + " b=c \\\n" * n + "c=d\n",
    "strings": lambda n: f'{START}RUN ["a"' + ',"b" \\\n' * n + "]\n",
    "flags": lambda n: f"{START}RUN" + " --mount=type=tmpfs,target=/x \\\n" * n + " a\n",
    "heredocs": lambda n: START + "COPY <<E /a\nb\nE\n" * n,
    "heredocs of a line": lambda n: f"{START}RUN" + " <<E \\\n" * n + "\n" + "a\nE\n" * n,
    "arrows": lambda n: f"{START}RUN " + "<<< << \\\n" * n + "\n",
    "quotes": lambda n: f"{START}ENV a=" + "\"a\"'b'\\\n" * n + "\n",
    "escapes": lambda n: f"{START}ENV a=" + "\\a\\b\\\n" * n + "\n",
    "triggers": lambda n: START + "ONBUILD RUN a\n" * n,
    "stages": names,
    "wrong lines": lambda n: START + "RUM a\n" * n,
}


@pytest.mark.parametrize("kind", GROWING)
def test_twice_the_text_is_twice_the_work(kind: str) -> None:
    text = GROWING[kind]
    parse(START)

    def reading(size: int) -> Callable[[], None]:
        def read() -> None:
            try:
                parse(text(size))
            except DockerfileError:
                return

        return read

    assert calls(reading(400)) < 2.6 * calls(reading(200))


COMPILED: dict[str, Callable[[int], str]] = {
    "stages": names,
    "stages in a row": lambda n: (
        "FROM busybox AS s0\n" + "".join(f"FROM s{i} AS s{i + 1}\n" for i in range(n))
    ),
    "sources": lambda n: names(n) + START + "".join(f"COPY --from=stage{i} a b\n" for i in range(n)),
    "unused names": lambda n: names(n) + "FROM stagg\n" * n + START,
    "steps": lambda n: START + "".join(f"RUN {i}\n" for i in range(n)),
    "arguments": lambda n: "".join(f"ARG a{i}=b\n" for i in range(n)) + START,
    "triggers": lambda n: (
        "FROM busybox AS a\n" + "".join(f"ONBUILD RUN {i}\n" for i in range(n)) + "FROM a\n"
    ),
    "heredocs": lambda n: f"{START}COPY" + " <<E \\\n" * n + " /d/\n" + "a\nE\n" * n,
}


@pytest.mark.parametrize("kind", COMPILED)
def test_twice_the_stages_are_twice_the_work(kind: str) -> None:
    text = COMPILED[kind]
    compile_text(START)

    def compiling(size: int) -> Callable[[], object]:
        def work() -> None:
            try:
                compile_text(text(size))
            except (BuildError, KeyError):  # the images of these tests are few
                return

        return work

    assert calls(compiling(400)) < 2.6 * calls(compiling(200))


KEPT: dict[str, Callable[[int], str]] = {
    "stages in a row": lambda n: (
        "FROM busybox AS s0\n"
        + "".join(f"FROM s{i} AS s{i + 1}\nENV a{i}=b\nARG b{i}=c\nLABEL c{i}=d\n" for i in range(n))
    ),
    "variables": lambda n: START + "".join(f"ENV a{i}=b\n" for i in range(n)),
    "arguments": lambda n: START + "".join(f"ARG a{i}=b\n" for i in range(n)),
    "labels": lambda n: START + "".join(f"LABEL a{i}=b\n" for i in range(n)),
    "ports": lambda n: START + "".join(f"EXPOSE {i + 1}\n" for i in range(n)),
    "volumes": lambda n: START + "".join(f"VOLUME /v{i}\n" for i in range(n)),
    "triggers": lambda n: START + "".join(f"ONBUILD RUN {i}\n" for i in range(n)),
    "history": lambda n: START + "".join(f"CMD {i}\n" for i in range(n)),
    "agents": lambda n: (
        START + "RUN" + "".join(f" --mount=type=ssh,target=/a{i} \\\n" for i in range(n)) + " x\n"
    ),
    "empty stages on many variables": lambda n: (
        "FROM busybox AS s0\n"
        + "".join(f"ENV a{i}=b\n" for i in range(n))
        + "".join(f"FROM s{i} AS s{i + 1}\nUSER u\n" for i in range(n))
    ),
}


@pytest.mark.parametrize("kind", KEPT)
def test_four_times_the_instructions_take_little_more_than_four_times_the_memory(kind: str) -> None:
    """Of every instruction its state is kept, which is where copies would pile up."""

    def taken(size: int) -> int:
        dockerfile = parse(KEPT[kind](size))
        tracemalloc.start()
        try:
            visits = visits_of(dockerfile)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            del visits

    taken(100)
    assert taken(2000) < 6.5 * taken(500)


TOLD: dict[str, Callable[[int], str]] = {
    "findings of one instruction": lambda n: (
        f"{START}LABEL x=" + "".join(f"$a{i}\\\n" for i in range(n)) + "\n"
    ),
    "comments of one ARG": lambda n: (
        "# a0 b\n" * n + "ARG " + " \\\n".join(f"a{i}" for i in range(n)) + "\n" + START + "RUN x\n"
    ),
    "stages below many arguments": lambda n: (
        "".join(f"ARG a{i}=b\n" for i in range(n))
        + names(n)
        + "FROM busybox\n"
        + "".join(f"COPY --from=stage{i} a b\n" for i in range(n))
    ),
    "stages with arguments made of each other": lambda n: (
        "ARG a0=b\n"
        + "".join(f"ARG a{i + 1}=$a{i}\n" for i in range(n))
        + "FROM busybox AS stage\n"
        + "".join(f"FROM stage AS stage\nARG a{i}\n" for i in range(n))
    ),
    "copies from one stage": lambda n: (
        f"FROM busybox AS a\n{START}" + "".join(f"COPY --from=a f{i} g\n" for i in range(n))
    ),
    "inherited arguments": lambda n: "".join(
        f"FROM busybox AS stage{i}\n" if not i else f"FROM stage{i - 1} AS stage{i}\nARG a{i}=$b\n"
        for i in range(n)
    ),
}


def test_each_mount_is_placed_without_a_look_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: SourceText, step: AnyInstruction, *flag: str) -> Location:
        assert not flag or not isinstance(step, Run), "a search through all flags"
        return Location(source, step.span)

    monkeypatch.setattr(sources, "place", refuse)

    compile_text(START + "RUN" + " --mount=type=tmpfs,target=/x" * 9 + " a\n")


@pytest.mark.parametrize("kind", TOLD)
def test_what_is_told_of_twice_the_text_is_twice_the_work(kind: str) -> None:
    def telling(size: int) -> Callable[[], None]:
        reading = read(SourceText("Dockerfile", TOLD[kind](size)))
        dockerfile = reading.dockerfile()
        visits = visits_of(dockerfile)
        view = View(compile_text(dockerfile.source.text).definition, [visits[-1].state.head])
        options = CompileOptions(MACHINE, MACHINE)

        def tell() -> None:
            findings = find(Subject(reading, options, {}, visits))
            findings_document(Report(dockerfile.source, findings))
            read_outline(dockerfile, options, visits)
            for show in FORMATS.values():
                show(view)

        return tell

    telling(20)()
    assert calls(telling(600)) < 2.6 * calls(telling(300))


def test_among_very_many_names_none_is_near() -> None:
    names = [f"stage{n}" for n in range(MOST)]

    assert nearest("stag", names) == "stage0"
    assert nearest("stag", [*names, "more"]) is None
    assert nearest("x" * 100, ["x" * 101]) is None

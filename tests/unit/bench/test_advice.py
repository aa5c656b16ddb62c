"""Which order of a Dockerfile would do better, over contexts and seconds that are made up."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from builder.bench.advice import Advice, Change, advise
from builder.bench.model import Model, model_of
from builder.bench.order import Subject
from builder.bench.parts import Part, find_parts
from builder.compiler.compile import Visit
from builder.compiler.compile import compile as compile_dockerfile
from builder.compiler.program import CompileOptions, ImageRequest, Missing
from builder.dockerfile.parser import parse
from builder.snapshots.snapshot import FILE, FOLDER, Entry, LayerId
from builder.snapshots.tree import Tree
from builder.text import SourceText
from tests.support.compiling import BASES, MACHINE

FILES = {
    "requirements.txt": "flask\n",
    "package.json": "{}",
    "package-lock.json": "{}",
    "src/a.py": "",
    "src/b.py": "",
    "docs/x": "",
}
CHANGES = (Change("src/", "src/a.py", 50.0), Change("requirements.txt", "requirements.txt", 50.0))


def tree_of(files: Mapping[str, str]) -> Tree:
    entries: dict[str, Entry] = {".": Entry(".", FOLDER, 0o755)}
    for path in sorted(files):
        folders = path.split("/")[:-1]
        for depth in range(len(folders)):
            name = "/".join(folders[: depth + 1])
            entries.setdefault(name, Entry(name, FOLDER, 0o755))
        entries[path] = Entry(path, FILE, 0o644, size=len(files[path]))
    return Tree().plus(LayerId("context"), entries.values())


def subject_of(text: str, files: Mapping[str, str], args: Mapping[str, str] = {}) -> Subject:
    dockerfile = parse(SourceText("Dockerfile", text))
    known: dict[ImageRequest, object] = {}
    while True:
        visits: list[Visit] = []
        options = CompileOptions(MACHINE, MACHINE, build_args=dict(args))
        outcome = compile_dockerfile(dockerfile, options, known, visits)  # type: ignore[arg-type]
        if not isinstance(outcome, Missing):
            return Subject(dockerfile, tuple(visits), outcome, tree_of(files), lambda path: files[path])
        known |= {request: BASES[request.locator] for request in outcome.images}


def seconds_of(subject: Subject) -> dict[tuple[str, str], float]:
    """Every RUN takes 20 s but for those that sleep, which take 1 s; all else takes nothing."""
    model = model_of(subject.program, subject.tree, {})
    return {
        (step.stage, step.name): 1.0 if "sleep" in step.name else 20.0
        for step in model.steps
        if step.name.startswith("RUN")
    }


def advice_on(text: str, files: Mapping[str, str] = FILES, changes: tuple[Change, ...] = CHANGES) -> Advice:
    subject = subject_of(text, files)
    return advise(subject, lambda other, args: subject_of(other, files, args), seconds_of(subject), changes)


def model(text: str, files: Mapping[str, str] = FILES) -> Model:
    subject = subject_of(text, files)
    return model_of(subject.program, subject.tree, seconds_of(subject))


def test_what_a_package_manager_reads_is_copied_first() -> None:
    advice = advice_on(
        "FROM debian:12\nWORKDIR /app\n# all of it\nCOPY . .\nRUN pip install -r requirements.txt\nRUN make\n"
    )

    assert advice.text == (
        "FROM debian:12\nWORKDIR /app\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
        "# all of it\nCOPY . .\nRUN make\n"
    )
    (suggestion,) = advice.suggestions
    assert suggestion.lines == (4, 5)
    assert [(s.part, s.before, s.after) for s in suggestion.savings] == [("src/", 40.0, 20.0)]
    assert suggestion.text == (
        "line 4 `COPY . .` stands before line 5 `RUN pip install -r requirements.txt`: copy requirements.txt "
        "first, move it below line 5: would save 20 s of 50 s for changes in src/"
    )


def test_what_reads_nothing_of_the_project_goes_first() -> None:
    advice = advice_on(
        "FROM debian:12\nCOPY --chown=7 src /app/src\nENV A=b\nRUN apt-get update && apt-get install -y gcc\n"
    )

    assert advice.text == (
        "FROM debian:12\nENV A=b\nRUN apt-get update && apt-get install -y gcc\nCOPY --chown=7 src /app/src\n"
    )


def test_several_copies_give_way_one_after_the_other() -> None:
    advice = advice_on(
        "FROM debian:12\nWORKDIR /app\nCOPY docs docs\nCOPY src src\nCOPY requirements.txt ./\n"
        "RUN pip install -r requirements.txt\n",
        changes=(*CHANGES, Change("docs/", "docs/x", 50.0)),
    )

    assert len(advice.suggestions) == 2
    lines = advice.text.splitlines()
    assert lines.index("RUN pip install -r requirements.txt") < lines.index("COPY docs docs")
    assert lines.index("RUN pip install -r requirements.txt") < lines.index("COPY src src")
    assert lines.index("COPY requirements.txt ./") < lines.index("RUN pip install -r requirements.txt")


def test_one_move_goes_below_all_that_can_go_up() -> None:
    advice = advice_on(
        "FROM debian:12\nWORKDIR /app\nCOPY --chown=1:1 . /app\nRUN apt-get install -y gcc\nUSER 1\n"
        "RUN npm ci\nRUN npm run build\n"
    )

    assert len(advice.suggestions) == 1
    assert advice.text == (
        "FROM debian:12\nWORKDIR /app\nCOPY --chown=1:1 package.json package-lock.json /app/\n"
        "RUN apt-get install -y gcc\nUSER 1\nRUN npm ci\nCOPY --chown=1:1 . /app\nRUN npm run build\n"
    )


def test_further_requirements_are_copied_where_they_are_looked_for() -> None:
    files = {**FILES, "deps/all.txt": "-r more/x.txt\n", "deps/more/x.txt": "flask\n"}

    advice = advice_on("FROM debian:12\nWORKDIR /app\nCOPY . ./\nRUN pip install -r deps/all.txt\n", files)

    assert "COPY deps/all.txt ./deps/\nCOPY deps/more/x.txt ./deps/more/\nRUN pip" in advice.text


def test_names_with_blanks_are_quoted() -> None:
    files = {**FILES, "my deps.txt": "flask\n"}

    advice = advice_on("FROM debian:12\nWORKDIR /app\nCOPY . .\nRUN pip install -r 'my deps.txt'\n", files)

    assert 'COPY ["my deps.txt", "./"]\nRUN pip' in advice.text


KEPT = {
    "an unknown program": "COPY . .\nRUN make deps\n",
    "an unknown program before": "COPY . .\nRUN ./prepare\nRUN pip install -r requirements.txt\n",
    "a variable that is set on the way": "COPY . ./$V/\nARG V=x\nRUN apt-get install -y gcc\n",
    "a folder that is gone to on the way": "COPY . .\nWORKDIR /other\nRUN apt-get install -y gcc\n",
    "a folder of the system's": "COPY . /etc/\nRUN apt-get install -y gcc\n",
    "the root": "COPY . /\nRUN apt-get install -y gcc\n",
    "a stage": "COPY --from=busybox /bin /app/\nRUN apt-get install -y gcc\n",
    "a volume on the way": "COPY . .\nVOLUME /app\nRUN apt-get install -y gcc\n",
    "a bind mount": "COPY . .\nRUN --mount=type=bind,target=/x apt-get install -y gcc\n",
    "another shell": 'COPY . .\nSHELL ["/bin/busybox", "sh"]\nRUN apt-get install -y gcc\n',
    "another file at the same place": "COPY . /app\nCOPY docs/x /app/src/a.py\nRUN apt-get install -y gcc\n",
    "what is short anyway": "COPY . .\nRUN sleep 0\nRUN make\n",
    "nothing that changes": "COPY docs docs\nRUN apt-get install -y gcc\n",
    "parents": "COPY --parents src /app/\nRUN apt-get install -y gcc\n",
    "a heredoc": "COPY <<A /app/a\nx\nA\nRUN apt-get install -y gcc\n",
}


@pytest.mark.parametrize("why", KEPT)
def test_what_could_mean_something_else_stays(why: str) -> None:
    advice = advice_on("FROM debian:12\nWORKDIR /app\nARG V\n" + KEPT[why])

    assert (advice.suggestions, advice.text) == ((), "")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"package.json": '{"scripts": {"postinstall": "x"}}'}, "a script that runs at install"),
        ({"node_modules/a/b": ""}, "holds what the command writes"),
    ],
)
def test_what_speaks_against_a_move_is_told(files: Mapping[str, str], said: str) -> None:
    advice = advice_on("FROM debian:12\nWORKDIR /app\nCOPY . .\nRUN npm ci\n", {**FILES, **files})

    assert advice.suggestions == ()
    assert [(said in refused.reason, refused.run.span.line) for refused in advice.refused] == [(True, 4)]


def test_a_manifest_that_came_before_is_looked_at_too() -> None:
    files = {**FILES, "package.json": '{"scripts": {"postinstall": "x"}}'}

    advice = advice_on(
        "FROM debian:12\nWORKDIR /app\nCOPY package.json ./\nCOPY src src\nRUN npm ci\n", files
    )

    assert advice.suggestions == ()


# ── arguments ────────────────────────────────────────────────────────────────────────────────────────────

OF_SHA = (Change("ARG SHA", "", 50.0, argument="SHA"),)


def test_an_argument_goes_below_the_steps_that_do_not_use_it() -> None:
    advice = advice_on(
        "FROM debian:12\nARG SHA\nENV A=b\nRUN apt-get install -y gcc\nRUN pip install flask\nLABEL v=$SHA\n"
        "RUN make\n",
        changes=OF_SHA,
    )

    assert advice.text == (
        "FROM debian:12\nENV A=b\nRUN apt-get install -y gcc\nRUN pip install flask\nARG SHA\nLABEL v=$SHA\n"
        "RUN make\n"
    )
    (suggestion,) = advice.suggestions
    assert [(s.part, s.before, s.after) for s in suggestion.savings] == [("ARG SHA", 60.0, 20.0)]


@pytest.mark.parametrize(
    "steps",
    [
        "ARG SHA\nENV V=$SHA\nRUN apt-get install -y gcc\n",
        "ARG SHA\nRUN echo ${SHA} && apt-get install -y gcc\n",
        "ARG SHA\nRUN make\nRUN apt-get install -y gcc\n",
        "RUN apt-get install -y gcc\nARG SHA\n",
        "ARG SHA\nCOPY <<A /a\n$SHA\nA\nRUN apt-get install -y gcc\n",
    ],
)
def test_an_argument_that_may_be_used_stays(steps: str) -> None:
    assert advice_on("FROM debian:12\n" + steps, changes=OF_SHA).suggestions == ()


# ── what runs again ──────────────────────────────────────────────────────────────────────────────────────

STAGES = (
    "FROM debian:12 AS one\nCOPY src /src\nRUN one\nFROM debian:12 AS two\nRUN two\n"
    "FROM debian:12\nCOPY --from=one /x /\nCOPY --from=two /y /\nRUN three\n"
)


def test_a_change_runs_what_takes_it_and_what_stands_on_that() -> None:
    found = model(STAGES).rerun("src/a.py")

    assert [step.name for step in found] == ["COPY src /src", "RUN one", "COPY --from=one /x /",
                                             "COPY --from=two /y /", "RUN three"]  # fmt: skip


def test_what_was_seen_to_be_spared_spares_what_stands_on_it() -> None:
    found = model(STAGES).rerun("src/a.py", frozenset(["COPY --from=one /x /"]))

    assert [step.name for step in found] == ["COPY src /src", "RUN one"]


def test_what_can_run_side_by_side_takes_as_long_as_the_longest_chain() -> None:
    stages = model(STAGES)

    assert stages.takes(stages.cold()) == 40.0
    assert stages.takes([]) == 0.0


def test_a_file_that_no_step_takes_runs_nothing() -> None:
    assert model(STAGES).rerun("docs/x") == []


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────


def test_parts_are_what_lies_at_the_top_and_a_file_stands_for_each() -> None:
    files = {**FILES, "src/logo.png": "", "src/0-special.py": "", "empty/x": ""}
    subject = subject_of("FROM debian:12\nCOPY src/0-special.py /\nCOPY src /src\n", files)
    found = find_parts(subject.tree, model_of(subject.program, subject.tree, {}), lambda p: p.endswith(".py"))

    assert Part("src/", 4, "src/a.py") in found
    assert Part("requirements.txt", 1, "requirements.txt") in found
    assert [part.name for part in found] == sorted(part.name for part in found)


def test_a_folder_without_files_is_a_part_without_a_file() -> None:
    tree = Tree().plus(LayerId("x"), [Entry(".", FOLDER, 0o755), Entry("empty", FOLDER, 0o755)])

    assert find_parts(tree, Model([]), lambda _path: True) == (Part("empty/", 0, ""),)

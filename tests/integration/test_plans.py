"""Plans and accounts, from the command line: what a plan says is what the build then does, and why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import needs_root
from tests.support.workshop import Outcome, Workshop

pytestmark = [pytest.mark.root, needs_root()]

Change = Callable[[Workshop], object]
STAGES = (
    "FROM busybox AS build\nARG MODE=fast\nENV KIND=production\nCOPY src /src\nRUN cat /src/* > /made\n"
    "FROM busybox\nCOPY --from=build /made /made\nRUN wc -c /made > /count\n"
)

ONE = "FROM busybox\nARG MODE=fast\nENV KIND=production TOKEN=hunter2\nCOPY src /src\nRUN ls /src\n"


def planned(workshop: Workshop, *words: str) -> dict[str, Any]:
    """The document of a plan."""
    outcome = workshop.build("--plan", "--format", "json", *words)
    document: dict[str, Any] = json.loads(outcome.out)
    return document


def states(document: dict[str, Any]) -> dict[str, str]:
    """Instruction -> state."""
    return {step["label"].partition("] ")[2]: step["state"] for step in document["steps"]}


def reasons(document: dict[str, Any]) -> dict[str, list[str]]:
    """Instruction -> texts of its reasons, of those that have some."""
    return {
        step["label"].partition("] ")[2]: [reason["text"] for reason in step["reasons"]]
        for step in document["steps"]
        if step["reasons"]
    }


def why(workshop: Workshop, *words: str) -> dict[str, list[str]]:
    return reasons(planned(workshop, *words))


def did(outcome: Outcome) -> dict[str, str]:
    """Vertex -> what the events of a build tell of it, the last word counting."""
    told: dict[str, str] = {}
    for line in outcome.err.splitlines():
        event = json.loads(line)
        if event["event"] in ("started", "cached"):
            told[event["vertex"]] = event["event"]
    return told


def explained(workshop: Workshop, *words: str | os.PathLike[str]) -> Outcome:
    """`pybuild explain`, which is no build."""
    done = subprocess.run(
        [sys.executable, "-m", "builder", "explain", "--root", workshop.root, *words],
        capture_output=True, text=True, check=False, env=workshop.environment(), cwd=workshop.folder,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def fill(workshop: Workshop, dockerfile: str = STAGES) -> None:
    workshop.write("src/a", "a")
    workshop.write("src/b", "b")
    workshop.build(dockerfile=dockerfile)


@pytest.fixture(scope="module")
def one_built(tmp_path_factory: pytest.TempPathFactory, busybox_seed: Path) -> Iterator[Workshop]:
    """One whose store has a build of ONE. Plans change nothing there, so it serves many tests."""
    with closing(Workshop(tmp_path_factory.mktemp("one"), busybox_seed)) as workshop:
        fill(workshop, ONE)
        yield workshop


@pytest.fixture
def filled(one_built: Workshop) -> Workshop:
    """The same with its context as it was built."""
    shutil.rmtree(one_built.context)
    one_built.context.mkdir()
    one_built.write("src/a", "a")
    one_built.write("src/b", "b")
    one_built.dockerfile(ONE)
    return one_built


def edit(workshop: Workshop, was: str, now: str) -> None:
    text = (workshop.context / "Dockerfile").read_text()
    assert was in text
    workshop.dockerfile(text.replace(was, now))


# ── a plan agrees with the build ─────────────────────────────────────────────────────────────────────────

BASE = "FROM busybox\n"
CASES: dict[str, tuple[str, Change, tuple[str, ...]]] = {
    "nothing": (STAGES, lambda w: None, ()),
    "a file changed": (STAGES, lambda w: w.write("src/a", "A"), ()),
    "a file that gives the same output": (
        STAGES.replace("cat /src/*", "cat /src/* | wc -c"),
        lambda w: w.write("src/a", "A"),
        (),
    ),
    "a command changed": (STAGES, lambda w: edit(w, "cat /src/*", "cat /src/a"), ()),
    "an inserted line": (STAGES, lambda w: edit(w, "COPY src", "RUN echo new\nCOPY src"), ()),
    "a line at the end": (STAGES, lambda w: edit(w, "RUN wc -c", "RUN true\nRUN wc -c"), ()),
    "an argument": (STAGES, lambda w: None, ("--build-arg", "MODE=slow")),
    "another target": (STAGES, lambda w: None, ("--target", "build")),
    "no cache": (STAGES, lambda w: None, ("--no-cache",)),
    "no cache of a stage": (STAGES, lambda w: None, ("--no-cache-filter", "build")),
    "reproducible, for the first time": (STAGES, lambda w: None, ("--reproducible",)),
    "two equal stages": (
        BASE + "RUN echo 1 > /1\nFROM busybox\nRUN echo 1 > /1\nCOPY src /\n",
        lambda w: w.write("src/a", "A"),
        (),
    ),
    "a linked copy": (
        BASE + "RUN echo 1\nCOPY --link src /x\nRUN ls /x\n",
        lambda w: edit(w, "echo 1", "echo 2"),
        (),
    ),
    "a mounted folder": (
        BASE + "RUN --mount=type=bind,source=src,target=/m cat /m/a > /a\n",
        lambda w: w.write("src/b", "B"),
        (),
    ),
    "a script": (
        BASE + "RUN <<EOF\n#!/bin/sh\necho 1 > /a\nEOF\n",
        lambda w: edit(w, "echo 1", "echo 2"),
        (),
    ),
    "a mount of a stage": (
        "FROM busybox AS one\nCOPY src/a /a\nFROM busybox\nRUN --mount=from=one,target=/one cat /one/a\n",
        lambda w: w.write("src/a", "A"),
        (),
    ),
    "an ignored file": (BASE + "COPY . /\n", lambda w: w.write(".dockerignore", "src/a\n"), ()),
    "an exception": (BASE + "COPY --exclude=*a src /\n", lambda w: w.write("src/a", "A"), ()),
    "a stage on a stage": (
        "FROM busybox AS one\nCOPY src /\nFROM one AS two\nRUN ls\nFROM two\nRUN true\n",
        lambda w: w.write("src/a", "A"),
        (),
    ),
    "scratch": ("FROM scratch\nCOPY src /\nCOPY <<a /b\n1\na\n", lambda w: edit(w, "\n1\n", "\n2\n"), ()),
    "an onbuild": (
        "FROM busybox AS one\nONBUILD COPY src /\nFROM one\nRUN true\n",
        lambda w: w.write("src/a", "A"),
        (),
    ),
    "a stage whose output nobody takes whole": (
        "FROM busybox AS one\nCOPY src /src\nRUN echo same > /same\nFROM busybox AS two\n"
        "COPY --from=one /same /same\nRUN cat /same\nFROM busybox\nCOPY --from=two /same /\nRUN true\n",
        lambda w: w.write("src/a", "A"),
        (),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_plan_says_what_the_build_then_does(workshop: Workshop, name: str) -> None:
    dockerfile, change, words = CASES[name]
    fill(workshop, dockerfile)
    change(workshop)

    plan = planned(workshop, *words)
    events = did(workshop.build(*words, "--progress=rawjson"))

    for step in plan["steps"]:
        done = events.get(step["digest"])
        allowed = {"hit": ("cached",), "miss": ("started",), "depends": ("started", "cached")}
        assert done in allowed[step["state"]], (step["label"], step["state"], done)
        assert (step["state"] == "hit") == (not step["reasons"])
    assert planned(workshop, *words)["summary"]["hits"] == len(plan["steps"]) or "--no-cache" in " ".join(
        words
    )


def test_a_plan_of_a_reproducible_build_says_what_may_be_spared(workshop: Workshop) -> None:
    text = "FROM busybox\nRUN echo 1; echo same > /same\nRUN cat /same\nRUN echo end\n"
    workshop.build("--reproducible", dockerfile=text)
    edit(workshop, "echo 1", "echo 2")

    plan = planned(workshop, "--reproducible")
    events = did(workshop.build("--reproducible", "--progress=rawjson"))

    assert [step["state"] for step in plan["steps"]] == ["hit", "miss", "depends", "depends"]
    assert [events[step["digest"]] for step in plan["steps"]] == ["cached", "started", "cached", "cached"]
    assert planned(workshop, "--reproducible")["summary"]["misses"] == 0


def test_a_plan_of_a_new_store_says_what_the_build_then_does(workshop: Workshop) -> None:
    workshop.write("src/a", "a")
    workshop.dockerfile(STAGES)

    plan = planned(workshop)
    events = did(workshop.build("--progress=rawjson"))

    assert {step["state"] for step in plan["steps"]} == {"miss", "depends"}
    assert {events[step["digest"]] for step in plan["steps"]} == {"started"}


def test_a_plan_runs_and_writes_nothing(workshop: Workshop) -> None:
    fill(workshop)
    workshop.write("src/a", "A")
    before = store_of(workshop)

    outcome = workshop.build("--plan", "-t", "planned:1", "--iidfile", str(workshop.folder / "id"))

    assert store_of(workshop) == before
    assert not (workshop.folder / "id").exists()
    assert "planned:1" not in workshop.names()
    assert outcome.err == ""


def store_of(workshop: Workshop) -> set[str]:
    """The store's files, but for locks and what was hashed."""
    paths = {str(path.relative_to(workshop.root)) for path in workshop.root.rglob("*")}
    return {path for path in paths if not path.startswith(("locks", "cache/stat", "cache/http"))}


# ── the reasons ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "step", "told"),
    [
        (lambda w: edit(w, "=production", "=test"), "RUN ls /src", "RUN: env KIND was production, is test"),
        (lambda w: edit(w, "ENV KIND", "ENV MORE=1 KIND"), "RUN ls /src", "RUN: env MORE was not set, is 1"),
        (
            lambda w: edit(w, "KIND=production ", ""),
            "RUN ls /src",
            "RUN: env KIND was production, is not set",
        ),
        (
            lambda w: edit(w, "hunter2", "hunter3"),
            "RUN ls /src",
            "RUN: env TOKEN changed (its value is not shown)",
        ),
        (
            lambda w: edit(w, "ls /src", "ls -l /src"),
            "RUN ls -l /src",
            "RUN: command was ls /src, is ls -l /src",
        ),
        (lambda w: edit(w, "RUN ls", "USER 7\nRUN ls"), "RUN ls /src", "RUN: user was none, is 7"),
        (
            lambda w: edit(w, "RUN ls", 'SHELL ["/bin/ash","-ec"]\nRUN ls'),
            "RUN ls /src",
            'RUN: shell was ["/bin/sh", "-c"], is ["/bin/ash", "-ec"]',
        ),
        (
            lambda w: edit(w, "RUN ls", "RUN --network=none ls"),
            "RUN --network=none ls /src",
            "RUN: network was default, is none",
        ),
        (
            lambda w: edit(w, "RUN ls", "RUN --mount=type=cache,target=/c ls"),
            "RUN --mount=type=cache,target=/c ls /src",
            "RUN: --mount type=cache,target=/c is new",
        ),
        (
            lambda w: edit(w, "RUN ls", "RUN --mount=type=secret,id=s ls"),
            "RUN --mount=type=secret,id=s ls /src",
            "RUN: --mount type=secret,target=/run/secrets/s is new",
        ),
        (lambda w: w.write("src/a", "A"), "COPY src /src", "COPY src: 1 of 2 files changed: src/a"),
        (lambda w: w.write("src/c", "c"), "COPY src /src", "COPY src: 1 of 3 files added: src/c"),
        (lambda w: (w.context / "src/a").unlink(), "COPY src /src", "COPY src: 1 of 2 files removed: src/a"),
        (
            lambda w: (w.context / "src/a").chmod(0o755),
            "COPY src /src",
            "COPY src: mode of src/a was 644, is 755",
        ),
        (
            lambda w: ((w.context / "src/a").unlink(), (w.context / "src/a").symlink_to("b")),
            "COPY src /src",
            "COPY src: kind of src/a was file, is symlink",
        ),
        (
            lambda w: w.write(".dockerignore", "# one\n\nsrc/a\n"),
            "COPY src /src",
            "COPY src: file src/a hidden by .dockerignore:3",
        ),
        (
            lambda w: edit(w, "COPY src /src", "COPY src /other"),
            "COPY src /other",
            "COPY: destination was /src, is /other",
        ),
        (
            lambda w: edit(w, "COPY src", "COPY --chown=7 src"),
            "COPY --chown=7 src /src",
            "COPY: --chown was none, is 7",
        ),
        (
            lambda w: edit(w, "COPY src", "COPY --chmod=700 src"),
            "COPY --chmod=700 src /src",
            "COPY: --chmod was none, is 700",
        ),
        (
            lambda w: edit(w, "COPY src /src", "COPY src/a /src"),
            "COPY src/a /src",
            "COPY: sources were src, are src/a",
        ),
        (
            lambda w: edit(w, "COPY src", "COPY --exclude=a src"),
            "COPY --exclude=a src /src",
            "COPY: --exclude was none, is a",
        ),
        (
            lambda w: edit(w, "RUN ls", "WORKDIR /new\nRUN ls"),
            "WORKDIR /new",
            "WORKDIR: no earlier record of this step",
        ),
        (lambda w: edit(w, "RUN ls", "WORKDIR /new\nRUN ls"), "RUN ls /src", "stands on step 3, which runs"),
    ],
)
def test_a_plan_names_what_is_different(filled: Workshop, change: Change, step: str, told: str) -> None:
    change(filled)

    assert told in why(filled)[step]


def test_what_is_no_longer_hidden_is_told(workshop: Workshop) -> None:
    workshop.write(".dockerignore", "src/a\n")
    fill(workshop, ONE)
    (workshop.context / ".dockerignore").unlink()

    assert why(workshop)["COPY src /src"] == ["COPY src: file src/a no longer hidden by .dockerignore:1"]


def test_a_file_that_is_mounted_is_told(workshop: Workshop) -> None:
    fill(workshop, "FROM busybox\nRUN --mount=source=src,target=/m ls /m\n")
    workshop.write("src/b", "B")

    assert list(why(workshop).values()) == [["RUN --mount /m: 1 of 2 files changed: src/b"]]


def test_a_build_argument_is_told_and_one_of_a_secret_name_is_not(workshop: Workshop) -> None:
    text = "FROM busybox\nARG MODE=fast\nARG API_KEY\nRUN true\n"
    fill_words = ("--build-arg", "API_KEY=sesame1")
    workshop.build(*fill_words, dockerfile=text)

    plan = workshop.build("--plan", "--build-arg", "API_KEY=sesame2", "--build-arg", "MODE=slow")

    assert "RUN: env MODE was fast, is slow" in plan.out
    assert "RUN: env API_KEY changed (its value is not shown)" in plan.out
    assert "sesame" not in plan.out
    kept = [path for path in (workshop.root / "cache/parts").rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert b"sesame" not in zlib.decompress(path.read_bytes())


def test_values_of_secrets_occur_nowhere(workshop: Workshop) -> None:
    secret = workshop.write("token", "open-sesame")
    text = "FROM busybox\nRUN --mount=type=secret,id=token,env=TOKEN true\n"
    words = ("--secret", f"id=token,src={secret}")
    workshop.build(*words, dockerfile=text)
    edit(workshop, " true", " false || true")

    plan = workshop.build("--plan", *words)

    assert "RUN: command was true, is false || true" in plan.out
    assert "open-sesame" not in plan.out


def test_another_base_image_is_told_by_digest(workshop: Workshop) -> None:
    workshop.build("-t", "base:1", dockerfile="FROM busybox\nRUN echo 1 > /1\n")
    workshop.dockerfile("FROM base:1\nRUN echo on base\n")
    workshop.build()
    workshop.write("other", "FROM busybox\nRUN echo 2 > /1\n")
    workshop.build("-t", "base:1", "-f", str(workshop.context / "other"))

    found = why(workshop)

    (told,) = {text for texts in found.values() for text in texts if "base image" in text}
    assert told.startswith("base image digest changed from sha256:")


def test_another_name_of_a_base_image_is_told(workshop: Workshop) -> None:
    workshop.build("-t", "base:1", dockerfile="FROM busybox\nRUN echo 1 > /1\n")
    workshop.build(dockerfile="FROM busybox\nRUN echo on base\n")
    edit(workshop, "FROM busybox", "FROM base:1")

    told = [text for texts in why(workshop).values() for text in texts]

    name = "docker.io/library/"
    assert f"base image was {name}busybox:latest, is {name}base:1" in told


def test_a_step_whose_record_was_removed_says_so(workshop: Workshop) -> None:
    fill(workshop, ONE)
    for path in (workshop.root / "cache/records").rglob("*"):
        if path.is_file() and b"RUN ls" in path.read_bytes():
            path.unlink()

    assert why(workshop) == {"RUN ls /src": ["RUN: its record is gone: pruned"]}


def test_a_step_whose_layers_were_removed_says_so(workshop: Workshop) -> None:
    fill(workshop, ONE)
    (record,) = [
        path for path in (workshop.root / "cache/records").rglob("*")
        if path.is_file() and b"RUN ls" in path.read_bytes()
    ]  # fmt: skip
    layer = json.loads(record.read_bytes().splitlines()[0])["layers"][-1]
    (workshop.root / "layers" / layer).rename(workshop.folder / "gone")

    assert why(workshop) == {"RUN ls /src": ["RUN: its record's layers are gone: pruned"]}


def test_a_step_that_is_forced_names_the_flag(workshop: Workshop) -> None:
    fill(workshop)

    all_forced = why(workshop, "--no-cache")
    one_forced = why(workshop, "--no-cache-filter", "build")

    assert all_forced["COPY src /src"] == ["runs because of --no-cache"]
    assert one_forced["COPY src /src"] == ["runs because of --no-cache-filter"]
    assert one_forced["COPY --from=build /made /made"] == ["depends on the output of step 3"]


def test_a_change_on_one_branch_is_measured_by_that_branch(workshop: Workshop) -> None:
    for number in range(9):
        workshop.write(f"src/{number}", "main")
    fill(workshop, ONE)
    for number in range(9):
        workshop.write(f"src/{number}", "branch")
    workshop.build()
    for number in range(9):
        workshop.write(f"src/{number}", "main")
    workshop.build()
    workshop.write("src/7", "main, changed")

    assert why(workshop)["COPY src /src"] == ["COPY src: 1 of 11 files changed: src/7"]


def test_a_step_on_one_that_is_in_the_cache_tells_what_is_different_there(workshop: Workshop) -> None:
    fill(workshop, ONE)
    workshop.write("src/a", "A")
    edit(workshop, "RUN ls", "RUN echo other\nRUN ls")
    workshop.build()
    workshop.dockerfile(ONE.replace("ls /src", "ls -l /src"))

    assert why(workshop)["RUN ls -l /src"][0] == "RUN: command was ls /src, is ls -l /src"


def test_a_renamed_stage_keeps_its_past(workshop: Workshop) -> None:
    fill(workshop)
    edit(workshop, "AS build", "AS compile")
    edit(workshop, "--from=build", "--from=compile")
    workshop.write("src/a", "A")

    assert why(workshop)["COPY src /src"] == ["COPY src: 1 of 2 files changed: src/a"]


def test_a_copy_of_the_folder_is_near_too(workshop: Workshop) -> None:
    """A checkout in another folder, as CI has it each time."""
    fill(workshop, ONE)
    other = workshop.folder / "other"
    subprocess.run(["cp", "-a", workshop.context, other], check=True)
    (other / "src/a").write_text("A")

    outcome = workshop.run("--plan", other)

    assert "COPY src: 1 of 2 files changed: src/a" in outcome.out


def test_another_platform_is_told(workshop: Workshop) -> None:
    text = "FROM scratch\nCOPY src /src\nRUN true\n"
    workshop.write("src/a", "a")
    workshop.dockerfile(text)
    workshop.fail("--platform", "linux/amd64")

    told = why(workshop, "--platform", "linux/arm64")["RUN true"]

    assert told == ["RUN: platform was linux/amd64, is linux/arm64"]


# ── what if ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_path_that_is_assumed_counts_as_changed(workshop: Workshop) -> None:
    fill(workshop)

    plan = planned(workshop, "--assume", "src/a")

    assert reasons(plan)["COPY src /src"] == ["COPY src: 1 of 2 files changed: src/a"]
    assert states(plan)["COPY --from=build /made /made"] == "depends"
    assert planned(workshop)["summary"]["misses"] == 0


@pytest.mark.parametrize(
    ("assumed", "told"),
    [
        (["src"], "COPY src: 2 of 2 files changed: src/a, src/b"),
        (["src/*"], "COPY src: 2 of 2 files changed: src/a, src/b"),
        (["**/b"], "COPY src: 1 of 2 files changed: src/b"),
        (["./src/../src/b"], "COPY src: 1 of 2 files changed: src/b"),
        (["src/new/x.py"], "COPY src: 1 of 3 files added: src/new/x.py"),
        (["src/a", "src/b"], "COPY src: 2 of 2 files changed: src/a, src/b"),
    ],
)
def test_what_can_be_assumed(filled: Workshop, assumed: list[str], told: str) -> None:
    assert why(filled, *(word for path in assumed for word in ("--assume", path)))["COPY src /src"] == [told]


@pytest.mark.parametrize(
    ("assumed", "note"),
    [
        ("notes", "--assume notes: no step takes it"),
        ("src/x.log", "--assume src/x.log: hidden by .dockerignore:1"),
        ("lib/*.py", "--assume lib/*.py: nothing that a step takes matches"),
    ],
)
def test_what_changes_nothing_is_noted(filled: Workshop, assumed: str, note: str) -> None:
    filled.write(".dockerignore", "**/*.log\n")
    filled.write("notes", "n")

    plan = planned(filled, "--assume", assumed)

    assert plan["summary"]["misses"] == 0
    assert plan["notes"] == [note]


def test_what_is_assumed_is_forgotten(workshop: Workshop) -> None:
    fill(workshop)
    planned(workshop, "--assume", "src")

    assert "all 5 steps cached" in workshop.build().err


# ── builds that were done ────────────────────────────────────────────────────────────────────────────────


def test_the_last_build_is_explained(workshop: Workshop) -> None:
    fill(workshop)
    workshop.write("src/a", "A")
    plan = planned(workshop)
    workshop.build()

    document = json.loads(explained(workshop, "--format", "json").out)

    assert document["kind"] == "build"
    assert document["outcome"] == "built"
    assert reasons(document)["COPY src /src"] == ["COPY src: 1 of 2 files changed: src/a"]
    planned_misses = [step["digest"] for step in plan["steps"] if step["state"] == "miss"]
    ran = [step["digest"] for step in document["steps"] if step["state"] == "miss"]
    assert set(planned_misses) <= set(ran)
    assert all(step["seconds"] is not None for step in document["steps"])


def test_a_build_that_found_all_in_the_cache_is_explained_as_its_plan_was(workshop: Workshop) -> None:
    fill(workshop)
    plan = planned(workshop)
    assert "all 5 steps cached" in workshop.build("-t", "again").err

    document = json.loads(explained(workshop, "--format", "json", "-t", "again").out)

    assert document["outcome"] == "built"
    assert set(states(document).values()) == {"hit"}
    assert reasons(document) == {}
    assert document["notes"] == []
    told = ("digest", "label", "state", "key", "inputs")
    assert [[step[name] for name in told] for step in document["steps"]] == [
        [step[name] for name in told] for step in plan["steps"]
    ]
    assert json.loads(explained(workshop, "--format", "json").out) == document
    assert explained(workshop).out.endswith("5 steps: 5 cached\n")


def test_an_output_that_fails_is_explained_where_all_was_cached(workshop: Workshop, tmp_path: Path) -> None:
    fill(workshop)
    workshop.fail("-o", f"type=oci,dest={tmp_path}/no/such/folder/app.tar")

    assert ": failed\n" in explained(workshop).out


def test_builds_are_found_by_folder_dockerfile_tag_target_and_id(workshop: Workshop) -> None:
    workshop.write("src/a", "a")
    workshop.build("-t", "one:1", dockerfile=ONE)
    workshop.write("second", STAGES)
    workshop.build("-t", "two:1", "-f", str(workshop.context / "second"), "--target", "build")
    ids = sorted(os.listdir(workshop.root / "builds"))[-2:]

    def found(*words: str | os.PathLike[str]) -> str:
        outcome = explained(workshop, "--format", "json", *words)
        assert outcome.status == 0, outcome.err
        return str(json.loads(outcome.out)["build"])

    assert found("-t", "one:1") == found("-t", "one:1", workshop.context) == found(ids[0]) == ids[0]
    assert found() == found(workshop.context) == found("--target", "build") == ids[1]
    assert found("-f", str(workshop.context / "second")) == ids[1]


def test_a_build_that_failed_is_explained(workshop: Workshop) -> None:
    fill(workshop, ONE)
    edit(workshop, "RUN ls /src", "RUN ls /nowhere\nRUN true")
    workshop.fail()

    text = explained(workshop).out

    assert "failed  [3/4] RUN ls /nowhere" in text
    assert "RUN: command was ls /src, is ls /nowhere" in text
    assert ": failed\n" in text


def test_no_build_is_one_clear_message(workshop: Workshop) -> None:
    for words in (("-t", "none:1"), ("nothing",), ("./nowhere/at/all",)):
        outcome = explained(workshop, *words)

        assert (outcome.status, outcome.out) == (1, "")
        assert "recorded" in outcome.message


def test_a_build_without_kept_parts_is_told_without_reasons(workshop: Workshop) -> None:
    fill(workshop)
    subprocess.run(["rm", "-r", workshop.root / "cache/parts"], check=True)

    outcome = explained(workshop)

    assert outcome.status == 0
    assert "note: what its keys were made of is not kept" in outcome.out
    assert "ran  " in outcome.out


def test_damaged_parts_are_no_parts(workshop: Workshop) -> None:
    fill(workshop)
    for path in (workshop.root / "cache/parts").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:40])
    workshop.write("src/a", "A")

    assert why(workshop)["COPY src /src"] == ["COPY: no earlier record of this step"]
    assert explained(workshop).status == 0


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--assume", "a"), "--assume is for --plan"),
        (("--format", "json"), "--format is for --plan"),
        (("--plan", "--format", "xml"), "--format xml: no such format"),
        (("--plan", "--check"), "--plan and --check cannot be used together"),
        (("--plan", "--assume", "../x"), "--assume ../x: it is not in the context"),
        (("--plan", "--assume", "[x"), "--assume [x: not a pattern: [x"),
    ],
)
def test_what_does_not_go_together_is_refused(
    workshop: Workshop, words: tuple[str, ...], message: str
) -> None:
    outcome = workshop.fail(*words, dockerfile="NO DOCKERFILE\n")

    assert (outcome.status, outcome.message) == (2, message)


def test_a_plan_of_what_cannot_be_built_is_the_builds_error(workshop: Workshop) -> None:
    workshop.dockerfile("FROM scratch\nCOPY nowhere /\n")

    planned_error = workshop.run("--plan", workshop.context)
    error = workshop.run(workshop.context)

    assert planned_error.status == error.status == 1
    assert planned_error.message == error.message == "source '/nowhere' not found"


def test_a_cached_build_leaves_no_parts_behind(workshop: Workshop) -> None:
    fill(workshop)
    before = {p: p.stat().st_mtime_ns for p in (workshop.root / "cache/parts").rglob("*")}

    workshop.build()

    assert {p: p.stat().st_mtime_ns for p in (workshop.root / "cache/parts").rglob("*")} == before
    assert isinstance(before, dict)
    assert Path(workshop.root / "cache/parts").is_dir()


ODD = {
    "no steps": "FROM scratch\n",
    "a label alone": "FROM scratch\nLABEL a=b\n",
    "equal heredocs": "FROM scratch\nCOPY <<a <<a /x/\n1\na\n2\na\n",
    "a stage that is one": "FROM busybox AS a\nFROM a AS b\nFROM b\n",
    "an image to copy from": "FROM scratch\nCOPY --from=busybox /bin/busybox /\n",
    "a base by argument": "ARG BASE=busybox\nFROM ${BASE}\nRUN true\n",
    "all mounts": (
        "FROM busybox AS a\nFROM busybox\nRUN --mount=type=tmpfs,target=/t --mount=type=cache,target=/c "
        "--mount=type=cache,id=x,target=/d,from=a,source=/etc --mount=type=bind,from=a,target=/a,rw true\n"
    ),
    "empty commands": 'FROM busybox\nRUN ["true"]\nRUN <<EOF\nEOF\nSHELL ["/bin/ash", "-c"]\nRUN :\n',
    "wildcards that match nothing": "FROM scratch\nCOPY Dockerfile none* /\n",
    "parents": "FROM scratch\nCOPY --parents ./src/./a* Dockerf*le /\n",
    "characters": (
        "FROM busybox\nENV NAME='\x1b[31m\u202e \u00e9'\nRUN echo '\x1b[2J' # \u202e\n"
        'COPY ["src/a", "/\u00e9 b"]\n'
    ),
    "a long line": f"FROM busybox\nRUN true {'x' * 50_000}\n",
    "many variables": "FROM busybox\n" + "".join(f"ENV V{n}={n}\n" for n in range(300)) + "RUN true\n",
    "links of links": "FROM busybox\nCOPY --link src/a /a\nCOPY --link src/b /b\nRUN ls /a /b\n",
    "a diamond": (
        "FROM busybox AS a\nRUN echo > /1\nFROM a AS b\nRUN echo > /2\nFROM a AS c\nRUN echo > /3\n"
        "FROM scratch\nCOPY --from=b /1 /2 /\nCOPY --from=c /3 /\n"
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_a_plan_of_an_odd_dockerfile_holds(workshop: Workshop, name: str) -> None:
    workshop.write("src/a", "a")
    workshop.write("src/b", "b")
    workshop.dockerfile(ODD[name])

    before = planned(workshop)
    events = did(workshop.build("--progress=rawjson"))
    after = workshop.build("--plan")
    assumed = planned(workshop, "--assume", ".", "--no-cache")

    assert {step["digest"] for step in before["steps"] if step["state"] == "miss"} <= set(events)
    assert "0 misses" in after.out
    assert len(assumed["steps"]) == len(before["steps"])
    assert "\x1b" not in after.out

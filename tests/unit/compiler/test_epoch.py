"""SOURCE_DATE_EPOCH: whose time it is, what is asked for, and where it then has a value."""

from __future__ import annotations

import pytest

from builder.compiler.epoch import DEFAULT
from builder.compiler.program import Missing, NamedContext, Program
from builder.errors import BuildError
from builder.oci.image import rfc3339
from builder.ops.source import Git, Http
from tests.support.compiling import compile_once

TAIL = "FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL e=$SOURCE_DATE_EPOCH\n"
FILE = Http("http://h/a.tar", "a.tar")
CONTEXTS = {
    "web": NamedContext("remote", "http://h/a.tar"),
    "repo": NamedContext("remote", "https://h/r.git#dev:sub"),
    "folder": NamedContext("local", "/somewhere"),
    "image": NamedContext("image", "busybox"),
}
AT_WEB = Http("http://h/a.tar", "context")
AT_REPO = Git("https://h/r.git", "dev", "sub")


def told(outcome: Program | Missing) -> tuple[int | None, str | None, bool]:
    assert isinstance(outcome, Program)
    labels = outcome.config.config.labels or {}
    return outcome.source_date_epoch, labels.get("e"), outcome.epoch_fetched


@pytest.mark.parametrize(
    ("head", "source"),
    [
        ("FROM scratch AS src\nADD http://h/a.tar /\n", FILE),
        ("FROM scratch AS SRC\nARG B=h\nADD http://$B/a.tar /\n", FILE),
        ("ARG B=h\nFROM scratch AS src\nARG B\nADD http://$B/a.tar /\n", FILE),
        ("ARG NONE=scratch\nFROM $NONE AS src\nADD http://h/a.tar /\n", FILE),
        ("FROM scratch AS src\nADD https://h/r.git#dev:sub /\n", AT_REPO),
        (
            "FROM scratch AS src\nADD --keep-git-dir https://h/r.git /\n",
            Git("https://h/r.git", keep_git_dir=True),
        ),
        (
            f"FROM scratch AS src\nADD --checksum=sha256:{'0' * 64} http://h/a.tar /\n",
            Http("http://h/a.tar", "a.tar", f"sha256:{'0' * 64}"),
        ),
    ],
)
def test_a_stage_that_only_fetches_has_the_time_of_what_it_fetches(head: str, source: Git | Http) -> None:
    text = "ARG SOURCE_DATE_EPOCH=src\n" + head + TAIL

    assert compile_once(text) == Missing((), (source,))
    assert told(compile_once(text, source_times={source: 7})) == (7, "7", True)
    assert told(compile_once(text, source_times={source: None})) == (None, "", True)
    assert told(compile_once(text, build_args={"SOURCE_DATE_EPOCH": "9"})) == (9, "9", False)


@pytest.mark.parametrize(("name", "source"), [("web", AT_WEB), ("repo", AT_REPO)])
@pytest.mark.parametrize("given", [True, False])
def test_a_named_context_has_its_time(name: str, source: Git | Http, given: bool) -> None:
    text = TAIL if given else f"ARG SOURCE_DATE_EPOCH={name}\n{TAIL}"
    args = {"SOURCE_DATE_EPOCH": name} if given else {}

    assert compile_once(text, contexts=CONTEXTS, build_args=args) == Missing((), (source,))
    known = compile_once(text, contexts=CONTEXTS, build_args=args, source_times={source: 7})
    assert told(known) == (7, "7", True)


@pytest.mark.parametrize("name", ["folder", "image"])
def test_folders_and_images_have_none(name: str) -> None:
    outcome = compile_once(TAIL, contexts=CONTEXTS, build_args={"SOURCE_DATE_EPOCH": name})

    assert told(outcome) == (None, "", False)


def test_a_named_context_comes_before_a_stage_and_the_build_s_own_before_both() -> None:
    text = "FROM scratch AS web\nADD http://h/b /\nFROM scratch AS context\nADD http://h/c /\n" + TAIL

    asked = compile_once(text, contexts=CONTEXTS, build_args={"SOURCE_DATE_EPOCH": "web"})
    own = compile_once(text, build_args={"SOURCE_DATE_EPOCH": "context"}, context_epoch=5)

    assert asked == Missing((), (AT_WEB,))
    assert told(own) == (5, "5", True)
    assert told(compile_once("ARG SOURCE_DATE_EPOCH=context\n" + TAIL, context_epoch=5)) == (5, "5", True)


def test_without_a_time_an_arg_has_its_default() -> None:
    text = "FROM scratch\nARG SOURCE_DATE_EPOCH=3\nLABEL e=$SOURCE_DATE_EPOCH\n"

    assert told(compile_once(text, build_args={"SOURCE_DATE_EPOCH": "context"})) == (None, "3", True)
    assert told(compile_once(text, build_args={"SOURCE_DATE_EPOCH": ""})) == (None, "3", False)


@pytest.mark.parametrize(
    ("stage", "line", "said"),
    [
        ("FROM busybox AS src\nADD http://h/a /\n", 2, "it must be FROM scratch"),
        ("FROM scratch AS src\n", 2, "it must have an ADD"),
        ("FROM scratch AS src\nCOPY http://h/a /\n", 3, "it may have ARGs and one ADD"),
        ("FROM scratch AS src\nADD http://h/a /\nADD http://h/b /\n", 4, "it may have ARGs and one ADD"),
        ("FROM scratch AS src\nADD http://h/a /\nENV a=b\n", 4, "it may have ARGs and one ADD"),
        ("FROM scratch AS src\nADD http://h/a http://h/b /\n", 3, "one source"),
        ("FROM scratch AS src\nADD <<E /f\nx\nE\n", 3, "one source"),
        ("FROM scratch AS src\nADD file /\n", 3, "of a URL or a git repository"),
        ("FROM scratch AS src\nADD --checksum=x http://h/a /\n", 3, "not the checksum of a file"),
        ("FROM scratch AS src\nADD http:///a /\n", 3, "names no host"),
    ],
)
def test_a_stage_that_does_more_has_no_time(stage: str, line: int, said: str) -> None:
    with pytest.raises(BuildError) as caught:
        compile_once("ARG SOURCE_DATE_EPOCH=src\n" + stage + TAIL)

    assert said in caught.value.message
    assert caught.value.location is not None
    assert caught.value.location.span.line == line
    if caught.value.code == "bad-source-date-epoch":
        assert caught.value.notes == (("Dockerfile:2: the stage begins here",) if line > 2 else ())


@pytest.mark.parametrize("value", ["soon", "1.5", "1e9", "0x10"])
def test_what_is_no_time_is_an_error(value: str) -> None:
    with pytest.raises(BuildError, match=f"SOURCE_DATE_EPOCH is '{value}'"):
        compile_once(TAIL, build_args={"SOURCE_DATE_EPOCH": value})


def test_a_reproducible_build_has_a_time_that_no_step_is_told() -> None:
    outcome = compile_once('FROM scratch\nARG SOURCE_DATE_EPOCH\nRUN ["true"]\n', reproducible=True)

    assert isinstance(outcome, Program)
    assert (outcome.source_date_epoch, outcome.definition.latest) == (DEFAULT, DEFAULT)
    assert "SOURCE_DATE_EPOCH" not in repr(outcome.definition[outcome.target].op)


def test_a_time_that_is_given_is_that_of_a_reproducible_build() -> None:
    outcome = compile_once(TAIL, reproducible=True, build_args={"SOURCE_DATE_EPOCH": "7"})

    assert isinstance(outcome, Program)
    assert (outcome.source_date_epoch, outcome.definition.latest) == (7, 7)


def test_files_are_as_new_as_they_are_where_only_the_image_is_given_a_time() -> None:
    outcome = compile_once(TAIL, build_args={"SOURCE_DATE_EPOCH": "7"})

    assert isinstance(outcome, Program)
    assert (outcome.source_date_epoch, outcome.definition.latest) == (7, None)


@pytest.mark.parametrize("seconds", [-62135596800, -1, 0, 253402300799])
def test_a_time_of_the_calendar_is_taken(seconds: int) -> None:
    assert told(compile_once(TAIL, build_args={"SOURCE_DATE_EPOCH": str(seconds)}))[0] == seconds
    assert rfc3339(seconds)


@pytest.mark.parametrize("seconds", [-62135596801, 253402300800, -(10**18) + 1, 10**18 - 1])
def test_a_time_that_documents_cannot_have_is_refused(seconds: int) -> None:
    """Be it told, or that of a commit, whose author may have written any."""
    with pytest.raises(BuildError, match="in no year from 1 to 9999") as caught:
        compile_once(TAIL, build_args={"SOURCE_DATE_EPOCH": str(seconds)})
    assert caught.value.code == "bad-source-date-epoch"
    with pytest.raises(BuildError, match="in no year from 1 to 9999"):
        compile_once(
            TAIL,
            contexts=CONTEXTS,
            build_args={"SOURCE_DATE_EPOCH": "repo"},
            source_times={AT_REPO: seconds},
        )

"""Addresses as text, and what ADD and named contexts become of them."""

from __future__ import annotations

import pytest

from builder.compiler.program import NamedContext
from builder.compiler.remotes import (
    AddressError,
    is_remote,
    parse_repository,
    read_context,
    read_source,
    redact,
)
from builder.errors import BuildError, DockerfileError
from builder.graph.selection import Selection
from builder.ops.files import Copy, PathItem
from builder.ops.source import Git, Http
from tests.support.compiling import compile_text, ops, vertex_of

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://host/a.git", Git("https://host/a.git")),
        ("http://host:8080/o/a%20b.git#v1", Git("http://host:8080/o/a%20b.git", "v1")),
        ("https://host/a.git#:docs/../x/", Git("https://host/a.git", subdir="x")),
        ("https://host/a.git#release/1.2:/docs//en", Git("https://host/a.git", "release/1.2", "docs/en")),
        ("https://host/a.git?ref=v1&subdir=/d", Git("https://host/a.git", "v1", "d")),
        ("https://host/a.git?tag=v1", Git("https://host/a.git", "refs/tags/v1")),
        ("https://host/a.git?branch=refs/heads/x#refs/heads/x", Git("https://host/a.git", "refs/heads/x")),
        ("https://host/a.git?commit=ABC", Git("https://host/a.git", checksum="abc")),
        ("https://host/a.git?submodules=0", Git("https://host/a.git", submodules=False)),
        ("https://host/a.git?mtime=commit", Git("https://host/a.git", commit_times=True)),
        (f"https://host/a.git?fetch-by-commit&checksum={SHA}#main",
         Git("https://host/a.git", "main", checksum=SHA, by_commit=True)),
        ("https://u:p@host/a.git", Git("https://u:p@host/a.git")),
        ("HTTPS://host/a.git", Git("https://host/a.git")),
        ("git@host:o/a", Git("git@host:o/a")),
        ("git@host:o/a.git?subdir=x#v1:x", Git("git@host:o/a.git", "v1", "x")),
        ("ssh://git@host:22/a", Git("ssh://git@host:22/a")),
        ("git://host/a#v1", Git("git://host/a", "v1")),
    ],
)  # fmt: skip
def test_the_address_of_a_repository_says_what_is_fetched(address: str, expected: Git) -> None:
    found = parse_repository(address)

    assert found is not None
    assert found.op == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://host/", "https://host/a", "https://host/a.git/", "https://host/a.git.bar", "./a.git",
        "../a.git", "a.git", "host/a.git", "/a.git", "docker-image://a", "c:/a", "user name@host:a", "a@b",
    ],
)  # fmt: skip
def test_what_is_no_repository_is_none(text: str) -> None:
    assert parse_repository(text) is None


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("invalid=1", "the query has 'invalid', which means nothing"),
        ("ref=a&ref=b", "has 'ref' more than once"),
        ("ref=", "has no value for 'ref'"),
        ("tag", "has no value for 'tag'"),
        ("ref=a#b", "two refs: b and a"),
        ("tag=a&branch=b", "two refs: refs/tags/a and refs/heads/b"),
        ("ref=a&tag=a", "two refs: a and refs/tags/a"),
        ("subdir=a#:b", "two subdirs: b and a"),
        ("checksum=a&commit=b", "two checksums"),
        ("checksum=xyz", "checksum xyz is not the id of a commit"),
        ("mtime=now", "mtime cannot be 'now'"),
        ("keep-git-dir=maybe", "keep-git-dir cannot be 'maybe'"),
        ("fetch-by-commit&checksum=abc", "needs the whole id"),
    ],
)
def test_an_address_that_contradicts_itself_is_an_error(query: str, message: str) -> None:
    with pytest.raises(AddressError, match=message):
        parse_repository(f"https://host/a.git?{query}")


def test_a_path_on_github_is_a_context_and_no_source() -> None:
    assert read_context("github.com/o/r#v1") == Git("https://github.com/o/r", "v1")
    assert read_source("github.com/o/r") is None
    assert is_remote("github.com/o/r")


def test_a_file_on_the_web_is_called_context_where_it_is_one() -> None:
    assert read_context("https://host/a/b.tar") == Http("https://host/a/b.tar", "context")
    assert read_source("https://host/a/b.tar") == Http("https://host/a/b.tar", "b.tar")


@pytest.mark.parametrize(
    "address", ["https://", "http://[::1/a", "https://host:x/a", "https://ho st\x00/a", "http:///a"]
)
def test_what_cannot_be_a_url_is_told(address: str) -> None:
    with pytest.raises(BuildError, match=r"^context "):
        read_context(address)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ADD https://u:p@host/a b", "ADD https://***@host/a b"),
        ('["https://tok@host/a","HTTP://u:p@ss@h"]', '["https://***@host/a","HTTP://***@h"]'),
        ("ssh://git@host/a ssh://u:p@host/a", "ssh://git@host/a ssh://u:***@host/a"),
        ("https://host/a@b?c=d@e", "https://host/a@b?c=d@e"),
        ("git@host:a", "git@host:a"),
    ],
)
def test_credentials_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_sources_of_all_kinds_have_inputs_of_their_own() -> None:
    program = compile_text("FROM scratch\nADD a http://h/x[1] b https://h/r.git http://h/x[1] /d/\n")

    vertex = vertex_of(program, "ADD")
    assert vertex.op == Copy(
        (
            PathItem(1, "/a"), PathItem(2, "/x[1]", wildcards=False, unpack=False), PathItem(1, "/b"),
            PathItem(3, "/", wildcards=False), PathItem(4, "/x[1]", wildcards=False, unpack=False),
        ),
        "/d/",
        unpack=True,
    )  # fmt: skip
    assert vertex.inputs[1].select == Selection(("/a", "/b"), owners=False)
    assert vertex.inputs[2].select == Selection(("/x[1]",), wildcards=False)
    assert vertex.inputs[3].select == Selection(("/",), wildcards=False)
    assert vertex.inputs[2].of == vertex.inputs[4].of
    assert [op for op in ops(program) if isinstance(op, Git | Http)] == [
        Http("http://h/x[1]", "x[1]"), Git("https://h/r.git")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("ADD http://h/x /x", False),
        (f"ADD --checksum=sha256:{'0' * 64} http://h/x /x", True),
        ("ADD https://h/r.git#v1 /x", False),
        (f"ADD https://h/r.git#{SHA} /x", True),
        (f"ADD --checksum={SHA[:5]} https://h/r.git#{SHA} /x", True),
        (f"ADD --checksum=fff https://h/r.git#{SHA} /x", False),
        (f"ADD --checksum={SHA} https://h/r.git#v1 /x", False),
        (f"ADD https://h/r.git?fetch-by-commit&checksum={SHA}#v1 /x", True),
    ],
)
def test_only_what_is_pinned_has_a_key_of_its_own(line: str, known: bool) -> None:
    program = compile_text(f"FROM scratch\n{line}\n")

    (vertex,) = [vertex for vertex in program.definition if isinstance(vertex.op, Git | Http)]
    assert (vertex.op_digest is not None) == known


def test_where_a_pinned_commit_comes_from_is_no_part_of_its_key() -> None:
    assert Git("https://a/r.git", SHA).plain() == Git("git@b:r", SHA, checksum=SHA[:7]).plain()
    kept = [Git(remote, SHA, keep_git_dir=True).plain() for remote in ("https://a/r.git", "git@b:r")]
    assert kept[0] != kept[1]


@pytest.mark.parametrize(
    ("flag", "query", "expected"),
    [("", "", False), ("--keep-git-dir ", "", True), ("", "?keep-git-dir", True),
     ("--keep-git-dir=true ", "?keep-git-dir=1", True), ("--keep-git-dir=false ", "", False)],
)  # fmt: skip
def test_flag_and_query_say_whether_the_git_dir_is_kept(flag: str, query: str, expected: bool) -> None:
    (op,) = [
        op
        for op in ops(compile_text(f"FROM scratch\nADD {flag}https://h/r.git{query} /x\n"))
        if isinstance(op, Git)
    ]

    assert op.keep_git_dir == expected


@pytest.mark.parametrize(
    "line",
    [
        "ADD --keep-git-dir=false https://h/r.git?keep-git-dir /x",
        f"ADD --checksum={SHA} https://h/r.git?checksum=abc /x",
        f"ADD --checksum=sha256:{'0' * 64} http://h/a http://h/b /x/",
        f"ADD --checksum=sha256:{'0' * 64} http://h/a f /x/",
        f"ADD --checksum=sha256:{'0' * 64} f /x/",
        f"ADD --checksum=sha256:{'A' * 64} http://h/a /x",
        f"ADD --checksum=sha384:{'0' * 96} http://h/a /x",
        "COPY https://h/r.git /x",
        "COPY git@h:r /x",
    ],
)
def test_what_does_not_go_together_is_an_error_at_its_line(line: str) -> None:
    with pytest.raises(BuildError) as caught:
        compile_text(f"FROM scratch\n\n{line}\n")
    assert caught.value.location is not None
    assert caught.value.location.span.line == 3


def test_a_named_context_at_an_address_stands_in_for_stages_and_images() -> None:
    contexts = {
        "base": NamedContext("remote", "https://h/r.git#v1"),
        "web": NamedContext("remote", "http://h/f"),
    }

    program = compile_text(
        "FROM base\nCOPY --from=web . /w/\nRUN --mount=from=web,target=/m true\n", contexts=contexts
    )

    assert {op for op in ops(program) if isinstance(op, Git | Http)} == {
        Git("https://h/r.git", "v1"), Http("http://h/f", "context")
    }  # fmt: skip
    assert vertex_of(program, "[context web] load http://h/f").about.internal


def test_labels_and_history_show_no_password() -> None:
    program = compile_text("FROM scratch\nARG T=hunter2\nADD https://u:$T@h/a https://u:$T@h/r.git /x/\n")

    labels = [vertex.about.label for vertex in program.definition]
    assert not [label for label in labels if "hunter2" in label]
    assert program.history[-1].created_by.startswith("ADD https://***@h/a https://***@h/r.git /x/")


def test_owners_of_a_context_that_is_no_folder_are_meant() -> None:
    text = "FROM scratch\nCOPY a /\n"

    def owners(*, folder: bool) -> bool:
        select = vertex_of(compile_text(text, context_is_folder=folder), "COPY").inputs[1].select
        assert select is not None
        return select.owners

    assert (owners(folder=True), owners(folder=False)) == (False, True)


def test_the_contexts_time_is_the_builds_where_that_is_asked_for() -> None:
    text = "FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL e=$SOURCE_DATE_EPOCH\n"

    timed = compile_text(text, build_args={"SOURCE_DATE_EPOCH": "context"}, context_epoch=7)
    untimed = compile_text(text, build_args={"SOURCE_DATE_EPOCH": "context"})

    assert (timed.source_date_epoch, timed.config.config.labels) == (7, {"e": "7"})
    assert (untimed.source_date_epoch, untimed.config.config.labels) == (None, {"e": ""})


def test_a_named_context_whose_address_means_nothing_fails_at_who_uses_it() -> None:
    contexts = {"g": NamedContext("remote", "https://h/r.git?nope=1")}

    compile_text("FROM scratch\nCOPY a /\n", contexts=contexts)
    with pytest.raises(DockerfileError, match="nope") as caught:
        compile_text("FROM scratch\nCOPY --from=g a /\n", contexts=contexts)

    assert caught.value.location is not None
    assert caught.value.location.span.line == 2


def test_a_name_with_a_digest_is_that_of_a_context_with_that_digest() -> None:
    name = "base@sha256:" + "0" * 64
    contexts = {name: NamedContext("remote", "http://h/f")}

    program = compile_text(f"FROM scratch\nCOPY --from={name} f /\n", contexts=contexts)

    assert Http("http://h/f", "context") in ops(program)

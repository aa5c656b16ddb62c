"""ADD of URLs and git repositories, and contexts that are no folder, by the whole command."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.support.contexts import events_of, lay
from tests.support.images import read_archive
from tests.support.machine import CHECKOUT, Pybuild, needs
from tests.support.web import WHEN, Answer, Asked, Repository, Web

TIME = "Wed, 15 Nov 2023 00:00:00 GMT"
SECONDS = 1_700_006_400


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with Web(tmp_path / "repositories").running() as web:
        yield web


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(tmp_path / "store")


@pytest.fixture
def repo(web: Web, tmp_path: Path) -> Repository:
    return Repository(web, tmp_path / "work")


Made = dict[str, tarfile.TarInfo]


def make(
    pybuild: Pybuild,
    *words: str | os.PathLike[str],
    stdin: bytes | None = None,
    env: dict[str, str] | None = None,
) -> Made:
    """Build to a tar; its members by name."""
    out = pybuild.root.parent / "out.tar"
    if stdin is not None:  # bytes that are no text
        return _make_from(pybuild, stdin, out, *words)
    pybuild("build", "--progress=plain", "-o", f"type=tar,dest={out}", *words, env=env)
    return members(out)


def _make_from(pybuild: Pybuild, data: bytes, out: Path, *words: str | os.PathLike[str]) -> Made:
    file = pybuild.root.parent / "stdin"
    file.write_bytes(data)
    done = piped(pybuild, file, "-o", f"type=tar,dest={out}", *words)
    assert done[0] == 0, done[1]
    return members(out)


def piped(pybuild: Pybuild, stdin: Path, *words: str | os.PathLike[str]) -> tuple[int, str]:
    """Build with a file as standard input; the exit status, and standard error."""
    command = [sys.executable, "-m", "builder", "build", "--progress=plain", *words]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(pybuild.root)}
    with stdin.open("rb") as file:
        done = subprocess.run(command, stdin=file, env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def members(archive: Path) -> Made:
    with tarfile.open(archive) as file:
        found = {member.name: member for member in file}
        for member in found.values():
            if member.isfile():
                opened = file.extractfile(member)
                assert opened is not None
                member.pax_headers["text"] = opened.read().decode()
    return found


def text(member: tarfile.TarInfo) -> str:
    return member.pax_headers["text"]


def fails(pybuild: Pybuild, *words: str | os.PathLike[str]) -> str:
    done = pybuild("build", "--progress=plain", *words, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr


def tar_of(*rows: tuple[str, str] | tarfile.TarInfo) -> bytes:
    """A tar of (name, text) pairs, or of members without bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for row in rows:
            member = row if isinstance(row, tarfile.TarInfo) else tarfile.TarInfo(row[0])
            data = b"" if isinstance(row, tarfile.TarInfo) else row[1].encode()
            member.size, member.mtime = len(data), SECONDS
            file.addfile(member, io.BytesIO(data))
    return out.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


# ── ADD of files on the web ──────────────────────────────────────────────────────────────────────────────


def test_files_of_the_web_stand_beside_those_of_the_context(
    pybuild: Pybuild, web: Web, context: Path
) -> None:
    web.answers["/dl/a%5B1%5D.txt"] = Answer(b"web", headers={"Last-Modified": TIME})
    lay(context, f"FROM scratch\nADD f {web.url}/dl/a%5B1%5D.txt <<EOF /x/\ndoc\nEOF\n", {"f": "file"})

    made = make(pybuild, context)

    assert {name: text(made[name]) for name in ("x/f", "x/a[1].txt", "x/EOF")} == {
        "x/f": "file", "x/a[1].txt": "web", "x/EOF": "doc\n"
    }  # fmt: skip
    fetched = made["x/a[1].txt"]
    assert (fetched.mode, fetched.uid, fetched.mtime) == (0o600, 0, SECONDS)


def test_an_archive_of_the_web_is_unpacked_only_where_that_is_asked_for(
    pybuild: Pybuild, web: Web, context: Path
) -> None:
    archive = gzip.compress(tar_of(("inside", "x")))
    web.answers["/a.tgz"] = Answer(archive)
    lay(
        context,
        f"FROM scratch\nADD {web.url}/a.tgz /as/\nADD --unpack {web.url}/a.tgz /un/\n"
        f"ADD a.tgz {web.url}/a.tgz /both/\nADD --unpack=false a.tgz /file/\n",
    )
    (context / "a.tgz").write_bytes(archive)

    names = set()
    out = pybuild.root.parent / "out.tar"
    pybuild("build", "-o", f"type=tar,dest={out}", context)
    with tarfile.open(out) as file:
        names = set(file.getnames())

    assert names == {
        "as",
        "as/a.tgz",
        "un",
        "un/inside",
        "both",
        "both/inside",
        "both/a.tgz",
        "file",
        "file/a.tgz",
    }


def test_owner_mode_link_and_exclude_hold_for_them_too(
    pybuild: Pybuild, web: Web, context: Path, repo: Repository
) -> None:
    web.answers["/a"] = Answer(b"a")
    repo.commit({"one.txt": "1", "two.md": "2"})
    lay(
        context,
        f"FROM scratch\nADD --link --chown=5:6 {web.url}/a /p/\n"
        f"ADD --chmod=640 --exclude=*.md {repo.url} /q\n",
    )

    made = make(pybuild, context)

    assert (made["p/a"].uid, made["p/a"].gid, made["p/a"].mode) == (5, 6, 0o600)
    assert made["q/one.txt"].mode == 0o640
    assert "q/two.md" not in made


def test_what_is_the_same_is_cached_and_what_is_not_is_built(
    pybuild: Pybuild, web: Web, context: Path
) -> None:
    web.answers["/a"] = Answer(b"1", headers={"ETag": '"1"'})
    lay(context, f"FROM scratch\nADD {web.url}/a /a\nCOPY f /f\n", {"f": "f"})

    def steps() -> list[str]:
        found = events_of(pybuild("build", "--progress=rawjson", "-t", "app", context).stderr)
        planned = next(event for event in found if event["event"] == "planned")
        labels = {row["digest"]: row["label"] for row in planned["vertices"]}
        return [
            labels[event["vertex"]].rpartition("] ")[2][:4] for event in found if event["event"] == "started"
        ]

    assert steps().count("ADD ") == 1
    asked = len(web.asked)
    assert "ADD " not in steps()
    assert len(web.asked) == asked + 1  # it is asked for all the same
    web.answers["/a"] = Answer(b"2", headers={"ETag": '"2"'})
    assert "ADD " in steps()


def test_with_a_checksum_a_cached_build_asks_nobody(pybuild: Pybuild, web: Web, context: Path) -> None:
    web.answers["/a"] = Answer(b"hello")
    sha = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    lay(context, f"FROM scratch\nARG SUM={sha}\nADD --checksum=$SUM {web.url}/a /a\n")
    pybuild("build", "-t", "app", context)
    asked = len(web.asked)

    again = pybuild("build", "--progress=rawjson", "-t", "app", context)

    assert len(web.asked) == asked
    assert not [event for event in events_of(again.stderr) if event["event"] == "started"]


def test_a_file_that_is_not_there_is_an_error_at_its_line(pybuild: Pybuild, web: Web, context: Path) -> None:
    lay(context, f"FROM scratch\n\nADD {web.url}/none /x\n")

    said = fails(pybuild, context)

    assert "/none: the server answers 404" in said
    assert "Dockerfile:3" in said


def test_a_stage_that_nobody_needs_fetches_nothing(pybuild: Pybuild, web: Web, context: Path) -> None:
    lay(context, f"FROM scratch AS x\nADD {web.url}/none /x\nFROM scratch\nCOPY f /\n", {"f": "f"})

    make(pybuild, context)

    assert web.asked == []


@pytest.mark.hostile("CVE-2023-26054")
def test_passwords_are_in_no_history_event_or_record(
    pybuild: Pybuild, web: Web, context: Path, repo: Repository
) -> None:
    """CVE-2023-26054."""
    web.answers["/a"] = Answer(b"a")
    repo.commit({"f": "f"})
    with_password = web.url.replace("//", "//user:hunter2@")
    lay(
        context,
        f"FROM scratch\nARG U={with_password}\nADD $U/a /a\nADD --keep-git-dir {with_password}/repo.git /r\n",
    )
    out = pybuild.root.parent / "image.tar"

    done = pybuild(
        "build", "--progress=rawjson", "-o", f"type=oci,compression=uncompressed,dest={out}", context
    )

    # The ARG is the user's own choice, and its value is part of the history as everywhere.
    assert "hunter2" not in done.stderr
    blobs = [path for path in pybuild.root.rglob("*") if path.is_file() and path.parts[-2] != "sha256"]
    assert not [path for path in blobs if b"hunter2" in path.read_bytes() and "programs" not in path.parts]
    with tarfile.open(out) as file:
        for member in file:
            opened = file.extractfile(member)
            if opened is not None and (data := opened.read()).startswith(b"{") and b'"history"' in data:
                rows = json.loads(data)["history"]
                assert not [
                    row for row in rows if "hunter2" in row["created_by"] and "ADD" in row["created_by"]
                ]


# ── contexts ─────────────────────────────────────────────────────────────────────────────────────────────


@needs("git")
def test_a_repository_is_a_context(pybuild: Pybuild, repo: Repository) -> None:
    repo.commit({"Dockerfile": "FROM scratch\nCOPY . /x/\n", ".dockerignore": "a\n", "a": "1", "b": "!2"})

    made = make(pybuild, repo.url)

    assert sorted(made) == ["x", "x/.dockerignore", "x/Dockerfile", "x/a", "x/b"]
    assert made["x/b"].mode == 0o755


@needs("git")
def test_ref_and_folder_choose_and_the_dockerfile_is_looked_for_there(
    pybuild: Pybuild, repo: Repository
) -> None:
    repo.commit({"Dockerfile": "FROM nope\n"})
    repo.commit(
        {
            "app/dockerfile": "FROM scratch\nCOPY a /\n",
            "app/a": "dev",
            "app/b/other": "FROM scratch\nCOPY a /o\n",
        },
        branch="dev",
    )

    assert text(make(pybuild, f"{repo.url}#dev:app")["a"]) == "dev"
    assert text(make(pybuild, "-f", "b/other", f"{repo.url}?branch=dev&subdir=app")["o"]) == "dev"


@needs("git")
def test_with_a_build_time_files_have_the_commits(pybuild: Pybuild, repo: Repository) -> None:
    repo.commit(
        {
            "Dockerfile": "FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL e=$SOURCE_DATE_EPOCH\nCOPY a /\n",
            "a": "1",
        }
    )

    dated = pybuild.root.parent / "dated.tar"
    pybuild("build", "--build-arg", "SOURCE_DATE_EPOCH=0", "-o", f"type=oci,dest={dated}", repo.url)
    assert read_archive(dated, pybuild.root.parent / "dated").layers[-1]["a"].mtime == WHEN
    assert make(pybuild, "--no-cache", repo.url)["a"].mtime > WHEN + 10**6
    out = pybuild.root.parent / "image"
    pybuild(
        "build", "--build-arg", "SOURCE_DATE_EPOCH=context", "-o", f"type=oci,tar=false,dest={out}", repo.url
    )
    configs = [
        json.loads(path.read_bytes())
        for path in (out / "blobs" / "sha256").iterdir()
        if path.read_bytes()[:1] == b"{"
    ]
    (config,) = [config for config in configs if "history" in config]
    assert config["config"]["Labels"] == {"e": str(WHEN)}
    assert config["created"] == "2023-11-14T22:13:20Z"


def created(pybuild: Pybuild, *words: str | os.PathLike[str]) -> str:
    """The time that an image says of itself."""
    out = pybuild.root.parent / "created.tar"
    pybuild("build", "--progress=plain", "-o", f"type=oci,dest={out}", *words)
    return str(read_archive(out, pybuild.root.parent / f"created-{os.urandom(4).hex()}").config["created"])


@needs("git")
def test_a_build_s_time_can_be_that_of_what_is_fetched(
    pybuild: Pybuild, web: Web, repo: Repository, context: Path
) -> None:
    repo.commit({"Dockerfile": "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\nCOPY a /\n", "a": "1"})
    web.answers["/f"] = Answer(b"web", headers={"Last-Modified": TIME})
    web.answers["/a.tar.gz"] = Answer(gzip.compress(tar_of(("a", "1"))))
    web.answers["/plain"] = Answer(b"web")
    lay(context, f"ARG SOURCE_DATE_EPOCH=it\nFROM scratch AS it\nADD {web.url}/a.tar.gz /\nFROM scratch\n")
    by_stage = created(pybuild, context)
    lay(context, "ARG SOURCE_DATE_EPOCH=it\nFROM scratch\nLABEL a=b\n")

    assert created(pybuild, repo.url) == "2023-11-14T22:13:20Z"
    assert by_stage == "2023-11-15T00:00:00Z"
    assert created(pybuild, "--build-context", f"it={web.url}/f", context) == "2023-11-15T00:00:00Z"
    assert created(pybuild, "--build-context", f"it={repo.url}", context) == "2023-11-14T22:13:20Z"
    assert created(pybuild, "--build-context", f"it={web.url}/plain", context) > "2024"


@needs("git")
def test_the_git_dir_of_a_context_is_kept_by_a_build_argument(pybuild: Pybuild, repo: Repository) -> None:
    commit = repo.commit({"Dockerfile": "FROM scratch\nCOPY .git/HEAD /\n"})

    assert ".git/HEAD" in fails(pybuild, repo.url)
    made = make(pybuild, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", repo.url)
    assert text(made["HEAD"]) == f"{commit}\n"


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["plain", "gz", "bz2", "xz", "zstd"],
)
@pytest.mark.parametrize("by_url", [False, True], ids=["stdin", "url"])
def test_an_archive_is_a_context(
    pybuild: Pybuild, web: Web, pack: Callable[[bytes], bytes], by_url: bool
) -> None:
    owned = tarfile.TarInfo("fifo")
    owned.type, owned.uid, owned.mode = tarfile.FIFOTYPE, 7, 0o4751
    rows = ("Dockerfile", "FROM scratch\nCOPY . /x/\n"), (".dockerignore", "a\n"), ("d/a", "1"), owned
    archive = pack(tar_of(*rows))
    web.answers["/c"] = Answer(archive)

    made = make(pybuild, f"{web.url}/c") if by_url else make(pybuild, "-", stdin=archive)

    assert sorted(made) == ["x", "x/.dockerignore", "x/Dockerfile", "x/d", "x/d/a", "x/fifo"]
    assert (made["x/fifo"].uid, made["x/fifo"].mode) == (7, 0o4751)
    assert made["x/d/a"].mtime == SECONDS


def test_the_same_archive_again_is_cached(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "c.tar").write_bytes(tar_of(("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "1")))

    first = piped(pybuild, tmp_path / "c.tar", "-t", "app", "-")
    second = piped(pybuild, tmp_path / "c.tar", "-t", "app", "-")

    assert (first[0], second[0]) == (0, 0)
    assert "CACHED" in second[1]


def test_a_dockerfile_by_url_is_a_context_of_one_file(pybuild: Pybuild, web: Web, context: Path) -> None:
    dockerfile = "FROM scratch\nCOPY . /x/\n"
    web.answers["/any"] = Answer(dockerfile.encode())

    assert sorted(make(pybuild, f"{web.url}/any")) == ["x", "x/context"]
    lay(context, None, {"f": "f"})
    assert sorted(make(pybuild, "-f", f"{web.url}/any", context)) == ["x", "x/f"]


@needs("git")
def test_a_dockerfile_may_come_from_elsewhere_than_a_fetched_context(
    pybuild: Pybuild, repo: Repository, tmp_path: Path, web: Web
) -> None:
    repo.commit({"a": "1"})
    (tmp_path / "mine").write_text("FROM scratch\nCOPY a /b\n")
    web.answers["/mine"] = Answer(b"FROM scratch\nCOPY a /d\n")

    assert text(make(pybuild, "-f", tmp_path / "mine", repo.url)["b"]) == "1"
    assert text(make(pybuild, "-f", f"{web.url}/mine", repo.url)["d"]) == "1"
    assert text(make(pybuild, "-f", "-", repo.url, stdin=b"FROM scratch\nCOPY a /c\n")["c"]) == "1"


@pytest.mark.hostile("CVE-2026-44517")
def test_the_dockerfile_of_an_archive_is_found_inside_it_or_not_at_all(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    """CVE-2026-44517."""
    (tmp_path / "host").write_text("FROM scratch\nLABEL from=host\n")
    hostile = [
        link("Dockerfile", str(tmp_path / "host")),
        link("up", "../../../../../../../../.."),
        link("l", "l"),
    ]
    (tmp_path / "c.tar").write_bytes(
        tar_of(*hostile, ("real/df", "FROM scratch\nCOPY real /r/\n"), link("in", "/real"))
    )

    for flags in ([], ["-f", f"up{tmp_path}/host"], ["-f", "l"], ["-f", "../host"]):
        status, said = piped(pybuild, tmp_path / "c.tar", *flags, "-")
        assert status == 1
        assert "is not in the context" in said
    assert "r/df" in make(pybuild, "-f", "in/df", "-", stdin=(tmp_path / "c.tar").read_bytes())


@pytest.mark.parametrize(
    ("data", "words", "said"),
    [
        (tar_of(("a", "1")), ["-"], "Dockerfile Dockerfile is not in the context"),
        (gzip.compress(b"FROM scratch\n"), ["-"], "standard input is compressed, and no archive"),
        (tar_of(("a", "1" * 5000))[:3000], ["-"], "archive"),
        (b"", ["-"], "has no instructions"),
        (b"FROM scratch\n", ["-f", "x", "-"], "standard input is no archive"),
        (b"FROM scratch\nCOPY a /\n", ["-"], "source '/a' not found"),
        (b"FROM scratch\n", ["-f", "-", "-"], "cannot both come from standard input"),
    ],
)
def test_what_cannot_be_on_standard_input_is_told(
    pybuild: Pybuild, tmp_path: Path, data: bytes, words: list[str], said: str
) -> None:
    (tmp_path / "stdin").write_bytes(data)

    status, err = piped(pybuild, tmp_path / "stdin", *words)

    assert status in (1, 2)
    assert said in err


def test_a_dockerfile_alone_on_standard_input_has_an_empty_folder_as_its_context(pybuild: Pybuild) -> None:
    dockerfile = b"FROM scratch\nCOPY . /x\nADD . /y/\nCOPY a* /z/\nWORKDIR /w\n"

    assert {"w", "x", "y"} <= set(make(pybuild, "-", stdin=dockerfile)) <= {"w", "x", "y", "z"}


@needs("git")
def test_named_contexts_can_be_anything_that_is_remote(
    pybuild: Pybuild, web: Web, repo: Repository, context: Path
) -> None:
    repo.commit({"a": "1", "d/b": "2"})
    web.answers["/f.tar"] = Answer(tar_of(("x", "1")))
    lay(context, "FROM base\nCOPY --from=src d /d/\nCOPY --from=web . /w/\nFROM src\nCOPY --from=0 / /all/\n")

    made = make(
        pybuild, "--build-context", f"base={repo.url}#main:d", "--build-context", f"src={repo.url}",
        "--build-context", f"web={web.url}/f.tar", context,
    )  # fmt: skip

    assert {"a", "d/b", "all/b", "all/d/b", "all/w/context"} <= set(made)
    assert made["all/w/context"].mode == 0o600


def test_a_named_folder_may_be_called_context(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM scratch\nCOPY --from=context a /x\nCOPY a /y\n", {"a": "main"})
    lay(tmp_path / "other", None, {"a": "other"})

    for _ in range(2):
        made = make(pybuild, "--build-context", f"context={tmp_path}/other", context)
        assert (text(made["x"]), text(made["y"])) == ("other", "main")
        pybuild("build", "-t", "app", "--build-context", f"context={tmp_path}/other", context)


def test_a_folder_comes_before_an_address_of_its_name(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "github.com" / "o" / "r", "FROM scratch\nCOPY f /\n", {"f": "f"})
    out = tmp_path / "out.tar"

    pybuild("build", "-o", f"type=tar,dest={out}", "github.com/o/r", cwd=tmp_path)

    assert "f" in members(out)


@needs("git")
def test_calls_know_fetched_contexts(pybuild: Pybuild, repo: Repository) -> None:
    repo.commit({"Dockerfile": "FROM scratch AS one\nCOPY a /\n", "a": "1"})

    assert (
        json.loads(pybuild("build", "--call=targets,format=json", repo.url).stdout)["targets"][0]["name"]
        == "one"
    )
    assert pybuild("build", "--call=graph", repo.url).stdout


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ("https://host/a.git?nope=1", "the query has 'nope'"),
        ("https://host/a.git#--upload-pack=x", "is not the name of a ref"),
        ("git@-x:a", "begins with a dash"),
        ("http://127.0.0.1:1/a.tar", "cannot be fetched"),
        ("file:///etc/x.git", "is not there"),
        ("ext::sh", "is not there"),
    ],
)
def test_contexts_that_cannot_be_are_refused(pybuild: Pybuild, context: str, said: str) -> None:
    assert said in fails(pybuild, context)


def test_nothing_is_left_of_a_build_whose_fetch_failed(pybuild: Pybuild, web: Web, context: Path) -> None:
    web.answers["/a"] = Answer(b"hello")
    lay(context, f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {web.url}/a /a\n")

    assert f"not sha256:{'0' * 64}" in fails(pybuild, context)

    assert list((pybuild.root / "ingest").iterdir()) == []
    assert list((pybuild.root / "layers").iterdir()) == []


def test_one_url_is_fetched_once_for_all_that_name_it(pybuild: Pybuild, web: Web, context: Path) -> None:
    def answer(_: Asked) -> Answer:
        return Answer(str(len(web.asked)).encode())

    web.answers["/a"] = answer
    lay(
        context,
        f"FROM scratch AS x\nADD {web.url}/a /a\nFROM scratch\nCOPY --from=x /a /b\nADD {web.url}/a /c\n",
    )

    made = make(pybuild, context)

    assert text(made["b"]) == text(made["c"]) == "1"

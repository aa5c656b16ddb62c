"""Git repositories, served by git's own server on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from builder.compiler.remotes import AddressError, parse_repository
from builder.errors import BuildError, MissingPath
from builder.ops.source import Git
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, FOLDER, SYMLINK, Entry, LayerId
from builder.solver.cache import Cache
from builder.sources import git
from builder.sources.gitcommand import GitCommand, GitFailed, reason_of
from builder.sources.gitcredentials import credentials, without_credentials
from builder.sources.shelf import Shelf
from builder.store.root import open_store
from tests.support.machine import needs, run
from tests.support.processes import is_alive
from tests.support.web import WHEN, Answer, Repository, Web

pytestmark = needs("git")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with Web(tmp_path / "repositories").running() as web:
        yield web


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a repository and its work tree lie, to be copied."""
    folder = tmp_path_factory.mktemp("seed")
    with Web(folder / "repositories").running() as web:
        seed = Repository(web, folder / "work")
        seed.commit({"a": "1\n", "bin/run": "!go\n", "l": "-> a", "d/e/f": "f\n"}, "v1")
    return folder


@pytest.fixture
def repo(web: Web, seed: Path, tmp_path: Path) -> Repository:
    shutil.copytree(seed / "work", tmp_path / "work", symlinks=True)
    shutil.copytree(seed / "repositories", web.repositories, symlinks=True)
    return Repository.there(web, tmp_path / "work")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    store = open_store(tmp_path / "root")
    layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs)
    return Shelf(store.folder, layers, Cache(os.path.join(store.folder, "cache"), layers.exists))


def op_of(address: str) -> Git:
    found = parse_repository(address)
    assert found is not None
    return msgspec.structs.replace(found.op, keep_git_dir=bool(found.keep_git_dir))


async def layer_of(shelf: Shelf, address: str) -> LayerId:
    return (await git.fetch(shelf, op_of(address)))[0]


async def tree_of(shelf: Shelf, address: str) -> dict[str, Entry]:
    return {entry.path: entry for entry in shelf.layers.entries(await layer_of(shelf, address))}


async def texts_of(shelf: Shelf, address: str) -> dict[str, str]:
    """The files, by path, with their texts."""
    layer = await layer_of(shelf, address)
    texts = {}
    for entry in shelf.layers.entries(layer):
        if entry.kind == FILE:
            with shelf.layers.open(layer, entry) as file:
                texts[entry.path] = file.read().decode(errors="replace")
    return texts


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_files_are_roots_with_plain_modes_and_without_git_dir(shelf: Shelf, repo: Repository) -> None:
    before = os.umask(0o077)
    try:
        tree = await tree_of(shelf, repo.url)
    finally:
        os.umask(before)

    assert {path: (entry.kind, entry.mode) for path, entry in tree.items()} == {
        ".": (FOLDER, 0o755), "a": (FILE, 0o644), "bin": (FOLDER, 0o755), "bin/run": (FILE, 0o755),
        "d": (FOLDER, 0o755), "d/e": (FOLDER, 0o755), "d/e/f": (FILE, 0o644), "l": (SYMLINK, 0o777),
    }  # fmt: skip
    assert {(entry.uid, entry.gid, entry.xattrs) for entry in tree.values()} == {(0, 0, ())}
    assert tree["l"].link == "a"


async def test_a_branch_a_tag_and_a_commit_are_found(shelf: Shelf, repo: Repository) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.commit({"a": "2\n"})
    repo.commit({"a": "3\n"}, branch="dev")
    repo.git("tag", "-a", "-m", "an annotated one", "v3")
    repo.publish()

    expected = {
        "": "2", "#main": "2", "#dev": "3", "#v1": "1", "#v3": "3", "#refs/heads/dev": "3", "#heads/dev": "3",
        "#refs/tags/v1": "1", "?branch=dev": "3", "?tag=v3": "3", "?ref=v1": "1", f"#{first}": "1",
    }  # fmt: skip

    found = {suffix: (await texts_of(shelf, repo.url + suffix))["a"].strip() for suffix in expected}

    assert found == expected


async def test_a_branch_comes_before_a_tag_of_its_name(shelf: Shelf, repo: Repository) -> None:
    repo.commit({"a": "branch\n"}, branch="both")
    repo.git("tag", "both", "main")
    repo.publish()

    assert (await texts_of(shelf, f"{repo.url}#both"))["a"] == "branch\n"
    assert (await texts_of(shelf, f"{repo.url}?tag=both"))["a"] == "1\n"


async def test_a_commit_that_no_ref_leads_to_can_be_asked_for(shelf: Shelf, repo: Repository) -> None:
    lost = repo.commit({"a": "lost\n"})
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.publish()
    run(["git", "config", "uploadpack.allowAnySHA1InWant", "true"], cwd=repo.bare)

    assert (await texts_of(shelf, f"{repo.url}#{lost}"))["a"] == "lost\n"


async def test_an_older_commit_is_found_where_the_server_gives_refs_only(
    shelf: Shelf, repo: Repository, web: Web
) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.commit({"a": "2\n"})
    web.dumb = True

    assert (await texts_of(shelf, f"{repo.url}#main"))["a"] == "2\n"
    assert (await texts_of(shelf, f"{repo.url}#{first}"))["a"] == "1\n"


async def test_a_subdir_is_the_folder_with_this_name(shelf: Shelf, repo: Repository) -> None:
    assert list(await tree_of(shelf, f"{repo.url}#main:d")) == [".", "e", "e/f"]
    assert list(await tree_of(shelf, f"{repo.url}?subdir=/d/./e/")) == [".", "f"]
    assert "a" in await tree_of(shelf, f"{repo.url}#:../..")


@pytest.mark.hostile("CVE-2026-33748")
async def test_a_subdir_never_leads_through_a_link(shelf: Shelf, repo: Repository, tmp_path: Path) -> None:
    """CVE-2026-33748."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("secret")
    repo.commit({"out": f"-> {tmp_path}/host", "up": "-> ../../..", "in": "-> d", "d/deep": "-> ../out"})

    for subdir in ("out", "up", "in", "d/deep", "in/e", "up/etc"):
        with pytest.raises(BuildError, match="is no folder: there is a link on the way"):
            await layer_of(shelf, f"{repo.url}#:{subdir}")
    with pytest.raises(BuildError, match="there is a file on the way"):
        await layer_of(shelf, f"{repo.url}#:a")
    for subdir in ("nope", "a%00b", ".git", ".git/hooks"):
        with pytest.raises(MissingPath, match=r"has no folder|cannot have a folder"):
            await layer_of(shelf, f"{repo.url}#:{subdir}")


async def test_links_in_the_files_are_files_like_others(shelf: Shelf, repo: Repository) -> None:
    repo.commit({"etc": "-> /etc", "d/up": "-> ../../../../etc/passwd"})

    tree = await tree_of(shelf, repo.url)

    assert (tree["etc"].kind, tree["etc"].link) == (SYMLINK, "/etc")
    assert tree["d/up"].link == "../../../../etc/passwd"


async def test_files_have_the_time_of_the_commit_where_that_is_asked_for(
    shelf: Shelf, repo: Repository
) -> None:
    tree = await tree_of(shelf, f"{repo.url}?mtime=commit")
    folder = shelf.layers.unpacked(await layer_of(shelf, f"{repo.url}?mtime=commit"))

    assert {entry.mtime for entry in tree.values()} == {WHEN * 10**9}
    assert {os.lstat(folder / path).st_mtime_ns for path in tree} == {WHEN * 10**9}
    assert (await tree_of(shelf, repo.url))["a"].mtime > (WHEN + 10**6) * 10**9


async def test_a_kept_git_dir_is_of_that_commit_alone(shelf: Shelf, repo: Repository) -> None:
    commit = repo.commit({"a": "2\n"}, "v2")

    layer = await layer_of(shelf, f"{repo.url}?keep-git-dir&tag=v2")

    folder = shelf.layers.unpacked(layer)
    told = run(["git", "-c", "safe.directory=*", "-C", folder, "log", "--format=%H %D"]).stdout
    assert told in (f"{commit} {more}HEAD, tag: v2\n" for more in ("", "grafted, "))
    assert (folder / ".git" / "HEAD").read_text() == f"{commit}\n"
    config = (folder / ".git" / "config").read_text()
    assert f"url = {repo.url}\n" in config
    assert not (folder / ".git" / "FETCH_HEAD").exists()
    assert not (folder / ".git" / "objects" / "info" / "alternates").exists()
    assert str(shelf.root) not in config


async def test_with_a_subdir_no_git_dir_is_kept(shelf: Shelf, repo: Repository) -> None:
    assert list(await tree_of(shelf, f"{repo.url}?keep-git-dir=true#main:d")) == [".", "e", "e/f"]


@pytest.mark.hostile("CVE-2022-24765", "CVE-2022-39253")
async def test_attributes_and_settings_of_the_machine_take_no_part(
    shelf: Shelf, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2022-39253, CVE-2022-24765: nothing of this machine runs, and nothing of it comes in."""
    home = tmp_path / "home"
    (home / "hooks").mkdir(parents=True)
    for hook in ("post-checkout", "reference-transaction"):
        (home / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {home}/ran\n")
        (home / "hooks" / hook).chmod(0o755)
    (home / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {home}/hooks\n[filter "evil"]\n\tsmudge = touch {home}/ran; cat\n'
        f'[url "file://{repo.bare}"]\n\tinsteadOf = {repo.url}\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'url.file://{repo.bare}.insteadOf={repo.url}'")
    repo_commit = {".gitattributes": "* filter=evil\n"}
    monkeypatch.delenv("GIT_DIR")
    repo.commit(repo_commit)
    monkeypatch.setenv("GIT_DIR", str(home))

    assert (await texts_of(shelf, f"{repo.url}?keep-git-dir"))["a"] == "1\n"
    assert not (home / "ran").exists()


async def test_a_repository_around_the_store_takes_no_part(tmp_path: Path, repo: Repository) -> None:
    run(["git", "init", "-q", tmp_path])
    run(["git", "config", "url.http://127.0.0.1:1/.insteadOf", repo.url], cwd=tmp_path)
    store = open_store(tmp_path / "inside")
    layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs)
    shelf = Shelf(store.folder, layers, Cache(os.path.join(store.folder, "cache"), layers.exists))

    assert "a" in await tree_of(shelf, repo.url)


# ── again ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_ref_is_asked_for_each_time_and_its_commit_fetched_once(
    shelf: Shelf, repo: Repository, web: Web
) -> None:
    first = await layer_of(shelf, f"{repo.url}#main")
    fetched = len(web.asked)

    assert await layer_of(shelf, f"{repo.url}#main") == first
    again = web.paths()[fetched:]
    assert again
    assert len(again) < fetched

    repo.commit({"a": "2\n"})
    assert (await texts_of(shelf, f"{repo.url}#main"))["a"] == "2\n"


async def test_a_commit_that_is_here_needs_no_network(shelf: Shelf, repo: Repository, web: Web) -> None:
    commit = repo.git("rev-parse", "HEAD")
    first = await layer_of(shelf, f"{repo.url}#main")
    asked = len(web.asked)

    assert await layer_of(shelf, f"{repo.url}#{commit}") == first
    assert len(web.asked) == asked


async def test_history_that_was_rewritten_is_no_trouble(shelf: Shelf, repo: Repository) -> None:
    await layer_of(shelf, f"{repo.url}#main")
    repo.git("tag", "-f", "v1")
    repo.git("commit", "-q", "--amend", "-m", "another")
    repo.commit({"a": "rewritten\n"}, "main/x")
    repo.git("tag", "-f", "v1")
    repo.publish()

    assert (await texts_of(shelf, f"{repo.url}#v1"))["a"] == "rewritten\n"
    assert (await texts_of(shelf, f"{repo.url}#main/x"))["a"] == "rewritten\n"


async def test_a_repository_that_went_bad_here_is_made_anew(shelf: Shelf, repo: Repository) -> None:
    await layer_of(shelf, repo.url)
    (folder,) = [p for p in Path(shelf.root, "cache", "git").iterdir() if (p / "objects").is_dir()]
    shutil.rmtree(folder / "objects")
    (folder / "HEAD").write_text("nonsense")
    repo.commit({"a": "2\n"})

    assert (await texts_of(shelf, repo.url))["a"] == "2\n"


async def test_a_lock_of_a_git_that_was_killed_is_no_trouble(shelf: Shelf, repo: Repository) -> None:
    await layer_of(shelf, repo.url)
    (folder,) = [p for p in Path(shelf.root, "cache", "git").iterdir() if (p / "objects").is_dir()]
    (folder / "shallow.lock").touch()
    repo.commit({"a": "2\n"})

    assert (await texts_of(shelf, repo.url))["a"] == "2\n"


# ── what is asked for, and what is not there ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("#nope", "has no ref nope"),
        ("?tag=nope", "has no ref refs/tags/nope"),
        ("#" + "0" * 40, "has no commit 0000"),
        ("?checksum=" + "a" * 40, "is [0-9a-f]{40}, not a{40}"),
    ],
)
async def test_what_is_not_there_is_named(shelf: Shelf, repo: Repository, suffix: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        await layer_of(shelf, repo.url + suffix)
    assert list(shelf.layers.all()) == []
    assert os.listdir(os.path.join(shelf.root, "ingest")) == []


async def test_a_checksum_is_the_beginning_of_the_commits_id_or_the_tags(
    shelf: Shelf, repo: Repository
) -> None:
    repo.git("tag", "-a", "-m", "annotated", "v9")
    repo.publish()
    commit, tag = repo.git("rev-parse", "v9^{commit}"), repo.git("rev-parse", "v9")

    for checksum in (commit, commit[:7].upper(), tag, tag[:1]):
        assert "a" in await tree_of(shelf, f"{repo.url}?checksum={checksum}#v9")
    with pytest.raises(BuildError, match=f"is {commit}, not {tag[:9]}"):
        await layer_of(shelf, f"{repo.url}?checksum={tag[:9]}#main")
    with pytest.raises(BuildError, match=f"is {commit}, not {tag[:9]}"):
        await layer_of(shelf, f"{repo.url}?checksum={tag[:9]}#{commit}")


async def test_with_the_whole_id_the_ref_need_not_lead_there(
    shelf: Shelf, repo: Repository, web: Web
) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.commit({"a": "2\n"})

    texts = await texts_of(shelf, f"{repo.url}?fetch-by-commit&checksum={first}#main")

    assert texts["a"] == "1\n"


async def test_no_repository_there_is_told_in_gits_words(shelf: Shelf, web: Web) -> None:
    with pytest.raises(BuildError, match=r"looking at http://.*/none\.git: repository .* not found"):
        await layer_of(shelf, f"{web.url}/none.git")


async def test_an_empty_repository_has_no_default_branch(shelf: Shelf, web: Web, tmp_path: Path) -> None:
    Repository(web, tmp_path / "empty", "empty.git")

    with pytest.raises(BuildError, match=r"empty\.git has no default branch"):
        await layer_of(shelf, f"{web.url}/empty.git")


async def test_without_a_git_program_that_is_said(
    shelf: Shelf, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(BuildError, match="there is no git program") as caught:
        await layer_of(shelf, repo.url)
    assert caught.value.hint


# ── submodules ───────────────────────────────────────────────────────────────────────────────────────────


async def test_submodules_come_along_without_a_git_dir_of_theirs(
    shelf: Shelf, repo: Repository, web: Web, tmp_path: Path
) -> None:
    part = Repository(web, tmp_path / "part", "part.git")
    part.commit({"p": "part\n"})
    repo.git("submodule", "--quiet", "add", part.url, "sub/part")
    repo.commit({"b": "1\n"})

    assert (await texts_of(shelf, repo.url))["sub/part/p"] == "part\n"
    assert not [path for path in await tree_of(shelf, repo.url) if ".git" in path.split("/")]
    assert "sub/part/p" not in await tree_of(shelf, f"{repo.url}?submodules=false")
    kept = await tree_of(shelf, f"{repo.url}?keep-git-dir")
    assert kept["sub/part/.git"].kind == FILE
    assert list(await tree_of(shelf, f"{repo.url}#:sub")) == [".", "part", "part/p"]


@pytest.mark.hostile("CVE-2022-39253")
async def test_a_submodule_from_this_machine_is_refused(
    shelf: Shelf, repo: Repository, web: Web, tmp_path: Path
) -> None:
    """CVE-2022-39253: file:// would copy what is on this machine."""
    host = Repository(web, tmp_path / "host", "host.git")
    host.commit({"secret": "x\n"})
    repo.git("submodule", "--quiet", "add", str(host.bare), "sub")
    repo.commit()

    with pytest.raises(BuildError, match="transport 'file' not allowed"):
        await layer_of(shelf, repo.url)


# ── hostile addresses and servers ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "address",
    [
        "https://host/a.git#--upload-pack=touch x", "https://host/a.git#-x", "https://host/a.git?ref=--x",
        "https://host/a.git#a..b", "https://host/a.git#a b", "https://host/a.git#x.lock",
        "ssh://-oProxyCommand=x/a", "ssh://-x@host/a", "-x@host:a", "git@-x:a", "git@host:-x", "ssh:///a",
        "https://host/a.git?branch=-x&tag=y", "https://host/a\x00.git", "https://host/a\n.git", "git://host:99999/a",
    ],
)  # fmt: skip
@pytest.mark.hostile("CVE-2017-1000117", "CVE-2019-13139")
def test_an_address_that_would_be_an_option_is_none(address: str) -> None:
    """CVE-2017-1000117, CVE-2019-13139."""
    with pytest.raises(AddressError):
        parse_repository(address)


@pytest.mark.parametrize(
    "address", ["file:///etc", "ext::sh -c x", "/etc/x.git", "ftp://h/a.git", "fd::0", "a.git"]
)
def test_only_protocols_of_the_network_are_gits(address: str) -> None:
    assert parse_repository(address) is None


@pytest.mark.hostile("CVE-2022-39253")
async def test_git_refuses_a_local_repository_whatever_leads_there(shelf: Shelf, repo: Repository) -> None:
    for remote in (f"file://{repo.bare}", str(repo.bare), f"ext::sh -c 'touch {repo.work}/ran'"):
        with pytest.raises(BuildError, match="not allowed"):
            await git.fetch(shelf, Git(remote))
    assert not (repo.work / "ran").exists()


@pytest.mark.hostile("CVE-2023-26054")
async def test_a_password_in_an_address_is_in_no_error(shelf: Shelf, web: Web, repo: Repository) -> None:
    for address in (
        f"{web.url}/none.git",
        f"{repo.url}#none",
        f"{repo.url}#:none",
        f"{repo.url}?checksum=abcd",
    ):
        with pytest.raises(BuildError) as caught:
            await layer_of(shelf, address.replace("//", "//user:hunter2@"))
        assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
        assert "***@" in str(caught.value)


async def test_a_server_that_names_an_option_as_its_branch_gets_nothing_run(
    shelf: Shelf, web: Web, tmp_path: Path
) -> None:
    """A ref that is advertised must not become an option either."""
    sha = "1" * 40
    lines = [
        b"# service=git-upload-pack\n",
        None,
        f"{sha} HEAD\0symref=HEAD:refs/heads/--upload-pack=x agent=x\n".encode(),
        f"{sha} refs/heads/--upload-pack=touch${{IFS}}{tmp_path}/ran\n".encode(),
        None,
    ]
    body = b"".join(b"0000" if line is None else b"%04x" % (len(line) + 4) + line for line in lines)
    headers = {"Content-Type": "application/x-git-upload-pack-advertisement"}
    web.answers["/x.git/info/refs?service=git-upload-pack"] = Answer(body, headers=headers)

    with pytest.raises(BuildError):
        await layer_of(shelf, f"{web.url}/x.git")
    assert not (tmp_path / "ran").exists()


@pytest.mark.hostile("BuildKit f83dedd8d", "CVE-2017-1000117", "CVE-2019-13139")
@pytest.mark.parametrize("below", ["refs/heads/", "refs/", ""])
async def test_what_a_server_names_reaches_git_as_nothing_but_a_ref(
    shelf: Shelf, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    """Asked by the id alone the server declines, so that git is told the name that it has for it."""
    sha, evil = "1" * 40, "--upload-pack=touch x"
    refs = [f"{sha} HEAD\0symref=HEAD:{below}{evil} agent=x\n", f"{sha} refs/heads/{evil}\n"]
    lines = [b"# service=git-upload-pack\n", None, *map(str.encode, refs), None]
    advertised = {"Content-Type": "application/x-git-upload-pack-advertisement"}
    web.answers["/x.git/info/refs?service=git-upload-pack"] = Answer(packets(lines), headers=advertised)
    declined = {"Content-Type": "application/x-git-upload-pack-result"}
    web.answers["/x.git/git-upload-pack"] = Answer(
        packets([f"ERR upload-pack: not our ref {sha}\n".encode()]), headers=declined
    )
    told = tmp_path / "told"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" END >> {told}\nexec {shutil.which("git")} "$@"\n'
    )
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    with pytest.raises(BuildError):
        await layer_of(shelf, f"{web.url}/x.git")

    calls = [call.split("\n") for call in told.read_text().split("\nEND\n")]
    named = [call for call in calls if any("upload-pack" in word for word in call)]
    assert bool(named) == (below == "refs/heads/"), "the name of a branch is tried, and no other"
    for call in named:
        end = call.index("--")
        assert not [word for word in call[:end] if "upload-pack" in word]
        assert all(not word.startswith("-") for word in call[end + 1 :])


def packets(lines: list[bytes | None]) -> bytes:
    """git's packets (gitprotocol-common(5)); None is the flush between parts."""
    return b"".join(b"0000" if line is None else b"%04x" % (len(line) + 4) + line for line in lines)


@pytest.mark.hostile("CVE-2024-52005")
async def test_what_a_server_says_has_no_control_characters(shelf: Shelf, web: Web) -> None:
    """CVE-2024-52005."""
    body = b"0036ERR \x1b[2Jgone\x07 \xe2\x80\xaeexe and nothing more else\n"
    body = b"%04x" % len(body) + body[4:]
    headers = {"Content-Type": "application/x-git-upload-pack-advertisement"}
    web.answers["/x.git/info/refs?service=git-upload-pack"] = Answer(
        b"001e# service=git-upload-pack\n0000" + body, headers=headers
    )

    with pytest.raises(BuildError, match="gone") as caught:
        await layer_of(shelf, f"{web.url}/x.git")
    assert str(caught.value).isprintable()


def test_gits_errors_come_before_what_else_it_says() -> None:
    assert reason_of("warning: x\nremote: denied\nfatal: no\nerror: really") == "no; really"
    assert reason_of("hint\nremote: denied by host\n") == "denied by host"
    assert reason_of("") == "git ended without a word"
    assert "hunter2" not in reason_of("fatal: unable to access 'https://u:hunter2@host/': x")


@pytest.mark.parametrize(
    ("said", "hinted"),
    [
        ("git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.", True),
        ("git@host: Permission denied (password,publickey,keyboard-interactive).", True),
        ("fatal: unable to create: Permission denied", False),
    ],
)
def test_who_has_no_key_is_told_how_one_is_passed(said: str, hinted: bool) -> None:
    hint = GitFailed("fetching x", said).hint

    assert bool(hint and "--ssh default" in hint) == hinted


# ── credentials ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("remote", "secrets", "expected"),
    [
        ("https://host/a.git", {}, ()),
        ("https://u:p%40s@host/a.git", {},
         (("http.https://host/a.git.extraHeader", "Authorization: basic dTpwQHM="),)),
        ("https://host/a.git", {"GIT_AUTH_TOKEN": b"t\n"},
         (("http.https://host/a.git.extraHeader", "Authorization: basic eC1hY2Nlc3MtdG9rZW46dA=="),)),
        ("https://host/a.git", {"GIT_AUTH_HEADER": b"x", "GIT_AUTH_HEADER.host": b"y"},
         (("http.https://host/a.git.extraHeader", "Authorization: y"),)),
        ("https://github.com/o/a.git", {"GIT_AUTH_HEADER": b"x"},
         (("http.https://github.com/.extraHeader", "Authorization: x"),)),
        ("https://host/a.git", {"GIT_AUTH_TOKEN.other": b"t"}, ()),
        ("git@host:a", {"GIT_AUTH_TOKEN": b"t"}, ()),
    ],
)  # fmt: skip
def test_credentials_are_for_one_remote(
    remote: str, secrets: dict[str, bytes], expected: tuple[tuple[str, str], ...]
) -> None:
    assert credentials(secrets.get, remote) == expected


def test_a_password_is_no_part_of_the_address_that_git_is_told() -> None:
    assert without_credentials("https://u:p@host:1/a.git") == "https://host:1/a.git"
    assert without_credentials("https://u:p@ss@host/a.git") == "https://host/a.git"
    assert without_credentials("ssh://git@host/a") == "ssh://git@host/a"


@pytest.mark.hostile("CVE-2023-26054")
async def test_credentials_reach_the_server_and_stay_out_of_the_git_dir(
    shelf: Shelf, repo: Repository, web: Web
) -> None:
    address = repo.url.replace("//", "//user:hunter2@")

    layer = await layer_of(shelf, f"{address}?keep-git-dir")

    assert {asked.headers["Authorization"] for asked in web.asked} == {"basic dXNlcjpodW50ZXIy"}
    for entry in shelf.layers.entries(layer):
        if entry.kind == FILE:
            with shelf.layers.open(layer, entry) as file:
                assert b"hunter2" not in file.read()
    for path in Path(shelf.root, "cache").rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()


async def test_ssh_is_told_nothing_of_this_machine_and_asks_nobody(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\nenv > {tmp_path}/env\nexit 1\n')
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "SSH_AUTH_SOCK": "/mine", "SECRET": "x"}
    (tmp_path / "home").mkdir()
    plain = GitCommand(str(tmp_path / "home"), str(tmp_path / "known hosts"), environment=environment)

    with pytest.raises(BuildError):
        await plain.run("looking", "ls-remote", "--", "git@example.com:a/b.git")

    told = (tmp_path / "told").read_text().splitlines()
    assert told[:2] == ["-F", "/dev/null"]
    assert "BatchMode=yes" in told
    assert f'UserKnownHostsFile="{tmp_path}/known hosts"' in told
    variables = (tmp_path / "env").read_text()
    assert "SSH_AUTH_SOCK" not in variables
    assert "SECRET" not in variables

    agent = GitCommand(str(tmp_path / "home"), "x", ssh_agent="/mine", environment=environment)
    with pytest.raises(BuildError):
        await agent.run("looking", "ls-remote", "--", "git@example.com:a/b.git")
    assert "SSH_AUTH_SOCK=/mine\n" in (tmp_path / "env").read_text()


@pytest.mark.parametrize("when", ["while it starts", "while it runs"])
async def test_a_git_that_is_cancelled_ends_with_all_its_helpers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    program = tmp_path / "git"
    program.write_text(
        f"#!/bin/sh\nsleep 1000 & echo $! > {tmp_path}/child\necho $$ > {tmp_path}/self\nwait\n"
    )
    program.chmod(0o755)

    class Started(subprocess.Popen[bytes]):
        """Cancelled when it has a helper, before asyncio knows of it."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            while not has_line(tmp_path / "self"):
                time.sleep(0.01)
            task.cancel()

    if when == "while it starts":
        monkeypatch.setattr(subprocess, "Popen", Started)
    command = GitCommand(str(tmp_path), "x", environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    task = asyncio.ensure_future(command.run("waiting", "x"))
    if when == "while it runs":
        while not has_line(tmp_path / "self"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 60)

    for name in ("self", "child"):
        pid = int((tmp_path / name).read_text())
        for _ in range(3000):
            if not is_alive(pid):
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError(f"{name} still runs")


def has_line(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")

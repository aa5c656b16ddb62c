"""Reading a build context, and hashing it no more than once."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.snapshots.snapshot import FIFO, FILE, Entry, LayerId
from builder.sources import context
from builder.store.statcache import FINE_TICK, StatCache
from tests.support.trees import content_digest

LAYER = LayerId("context")
IS_ROOT = os.geteuid() == 0


class Leaves:
    """An ignore file by hand: what is left out, and what is taken back below that."""

    def __init__(self, out: Sequence[str], back: Sequence[str] = ()) -> None:
        self.out = out
        self.back = back

    def excludes(self, path: str) -> bool:
        return self._is_in(path, self.out) and not self._is_in(path, self.back)

    def prunes(self, folder: str) -> bool:
        return self.excludes(folder) and not any(b.startswith(folder + "/") for b in self.back)

    @staticmethod
    def _is_in(path: str, names: Sequence[str]) -> bool:
        return any(path == name or path.startswith(name + "/") for name in names)


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(*files: str, **contents: str) -> Path:
        root = tmp_path / "ctx"
        root.mkdir(exist_ok=True)
        for name in (*files, *contents):
            path = root / name
            if name.endswith("/"):
                path.mkdir(parents=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(contents.get(name, name))
            os.utime(path, ns=(10**18, 10**18))
        return root

    return make


def paths(entries: Sequence[Entry]) -> list[str]:
    return [entry.path for entry in entries]


def test_entries_are_sorted_with_the_root_first_and_belong_to_root(make: Make) -> None:
    root = make("b/z", "b.txt", "a", "b/a/x")
    (root / "b").chmod(0o2750)
    if IS_ROOT:
        os.chown(root / "a", 7, 8)

    entries = context.read(root, None)

    assert paths(entries) == [".", "a", "b", "b/a", "b/a/x", "b/z", "b.txt"]
    assert {(e.uid, e.gid) for e in entries} == {(0, 0)}
    assert entries[2].mode == 0o2750
    assert (entries[1].size, entries[1].mtime, entries[1].digest) == (1, 10**18, None)


@pytest.mark.hostile("CVE-2018-15664")
def test_links_are_told_and_never_followed(make: Make) -> None:
    root = make("d/f")
    (root / "out").symlink_to("/etc")
    (root / "in").symlink_to("d")
    (root / "loop").symlink_to("loop")

    entries = {e.path: e for e in context.read(root, None)}

    assert sorted(entries) == [".", "d", "d/f", "in", "loop", "out"]
    assert entries["out"].link == "/etc"


def test_the_folder_itself_may_be_a_link(make: Make, tmp_path: Path) -> None:
    make("a")
    (tmp_path / "link").symlink_to("ctx")

    assert paths(context.read(tmp_path / "link", None)) == [".", "a"]


def test_sockets_are_left_out_and_pipes_are_not(make: Make) -> None:
    root = make("a")
    os.mkfifo(root / "p")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "s"))

        entries = context.read(root, None)

    assert [(e.path, e.kind) for e in entries[1:]] == [("a", FILE), ("p", FIFO)]


def test_names_of_one_file_point_to_the_first(make: Make) -> None:
    root = make("d/b")
    os.link(root / "d/b", root / "d/a")
    os.link(root / "d/b", root / "d/c")

    whole = {e.path: e.hardlink for e in context.read(root, None)}
    ignored = {e.path: e.hardlink for e in context.read(root, Leaves(["d/a"]))}

    assert whole == {".": None, "d": None, "d/a": None, "d/b": "d/a", "d/c": "d/a"}
    assert ignored == {".": None, "d": None, "d/b": None, "d/c": "d/b"}


def test_what_is_left_out_is_not_looked_into(make: Make) -> None:
    root = make("a", "node_modules/m/i.js", "d/keep", "d/drop", "e/f/keep", "e/g/drop")

    entries = context.read(root, Leaves(["node_modules", "d", "e"], ["d/keep", "e/f"]))

    assert paths(entries) == [".", "a", "d", "d/keep", "e", "e/f", "e/f/keep"]


def test_a_folder_on_the_way_is_told_with_its_own_mode(make: Make) -> None:
    root = make("d/s/keep")
    (root / "d").chmod(0o700)

    entries = context.read(root, Leaves(["d"], ["d/s/keep"]))

    assert [(e.path, e.mode) for e in entries[1:3]] == [("d", 0o700), ("d/s", 0o755)]


def test_names_that_are_no_utf8_are_kept(make: Make) -> None:
    root = make()
    with open(os.path.join(os.fsencode(root), b"\xff\xfe"), "wb"):
        pass

    entries = context.read(root, None)

    assert paths(entries) == [".", "\udcff\udcfe"]
    assert context.Hasher(root).digest_of(LAYER, entries[1]) == content_digest("")


def test_a_folder_of_any_depth_is_read(make: Make) -> None:
    root = make()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)

    try:
        entries = context.read(root, None)

        assert len(entries) == 2502
        assert context.Hasher(root).digest_of(LAYER, entries[-1]) == content_digest("")
    finally:
        subprocess.run(["rm", "-rf", root / "d"], check=True)


def test_what_cannot_be_read_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="nope"):
        context.read(tmp_path / "nope", None)
    root = make("d/a")
    entry = context.read(root, None)[-1]
    (root / "d/a").unlink()
    with pytest.raises(BuildError, match="d/a"):
        context.Hasher(root).digest_of(LAYER, entry)


def test_a_folder_without_permission_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make("a/d/f")
    real = os.open

    def refuse(path: str, flags: int, *args: int, **more: int) -> int:
        if path == "d":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(BuildError, match=r"'a/d'.*permission denied") as caught:
        context.read(root, None)

    assert ".dockerignore" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["/d/a"], [".", "d", "d/a", "d/b", "e", "l", "z"]),
        (["/d"], [".", "d", "d/a", "d/b", "e", "l", "z"]),
        (["/e/*.txt"], [".", "d", "e", "e/f", "e/f/g", "l", "z"]),
        (["/l/f"], [".", "d", "e", "e/f", "e/f/g", "l", "z"]),
        (["/l*"], [".", "d", "d/a", "d/b", "e", "e/f", "e/f/g", "l", "z"]),
        (["/nope/x"], [".", "d", "e", "l", "z"]),
        (["/"], [".", "d", "d/a", "d/b", "e", "e/f", "e/f/g", "l", "z"]),
        (["/d/./a", "/z"], [".", "d", "d/a", "d/b", "e", "l", "z"]),
        ([], ["."]),
    ],
)
def test_only_what_patterns_reach_is_read(make: Make, only: list[str], expected: list[str]) -> None:
    root = make("d/a", "d/b", "e/f/g", "z")
    (root / "l").symlink_to("e")

    assert paths(context.read(root, None, only=only)) == expected


def test_links_that_a_wildcard_can_match_bring_their_targets(make: Make) -> None:
    root = make("far/away/f", "d/x", "other/y")
    (root / "d/l").symlink_to("../far/away")

    assert "far/away/f" in paths(context.read(root, None, only=["/d/l*"]))
    assert "other/y" not in paths(context.read(root, None, only=["/d/l*"]))
    assert "far/away/f" not in paths(context.read(root, None, only=["/d/l/.."]))


def test_links_in_a_circle_end(make: Make) -> None:
    root = make("d/x")
    (root / "a").symlink_to("b/c")
    (root / "b").symlink_to("a/c")

    assert "a" in paths(context.read(root, None, only=["/a/b"]))


@pytest.fixture
def cache_file(tmp_path: Path) -> Path:
    return tmp_path / "stat"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were opened to be hashed."""
    names: list[str] = []
    real = os.open

    def spy(path: str, flags: int, *args: int, **more: int) -> int:
        if flags == context.FILE_FLAGS and "dir_fd" in more:
            names.append(path)
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", spy)
    return names


def hash_all(root: Path, cache_file: Path) -> dict[str, str | None]:
    cache = StatCache(cache_file)
    entries = context.read(root, None, cache)
    context.Hasher(root, cache).fill(entries)
    cache.save()
    return {entry.path: entry.digest for entry in entries if entry.kind == FILE}


def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock be an hour later than the files."""
    real = context.time.time_ns
    monkeypatch.setattr(context.time, "time_ns", lambda: real() + 3600 * 10**9)


def wait_for_a_tick(folder: Path) -> None:
    """Until what is changed next has a later time: kernels may tell times in ticks of some milliseconds."""
    mark = folder / "tick"
    mark.touch()
    before = mark.stat().st_ctime_ns
    while mark.stat().st_ctime_ns == before:
        mark.touch()


def test_what_was_hashed_is_not_hashed_again(
    make: Make, cache_file: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rest(monkeypatch)
    root = make("a", "d/b")

    first = hash_all(root, cache_file)
    second = hash_all(root, cache_file)
    wait_for_a_tick(tmp_path)
    make("a", **{"d/b": "new"})
    third = hash_all(root, cache_file)

    assert first == second == {"a": content_digest("a"), "d/b": content_digest("d/b")}
    assert third == {"a": content_digest("a"), "d/b": content_digest("new")}
    assert opened == ["a", "b", "a", "b"]  # `make` wrote `a` anew, too


def test_a_change_that_keeps_size_and_mtime_is_seen(
    make: Make, cache_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rest(monkeypatch)
    root = make(a="one")
    hash_all(root, cache_file)

    wait_for_a_tick(tmp_path)
    make(a="two")

    assert hash_all(root, cache_file) == {"a": content_digest("two")}


def test_a_file_that_was_just_changed_is_hashed_again(
    make: Make, cache_file: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make("a")
    just_now = (root / "a").stat().st_ctime_ns + FINE_TICK  # however long it takes to come to the next line
    monkeypatch.setattr(context.time, "time_ns", lambda: just_now)

    hash_all(root, cache_file)
    hash_all(root, cache_file)

    assert opened == ["a", "a"]


def test_a_file_that_changes_between_reading_and_hashing_is_told(make: Make) -> None:
    root = make(a="one", b="one")
    entries = context.read(root, None)
    make(a="longer")
    (root / "b").unlink()
    (root / "b").symlink_to("/etc/passwd")

    with pytest.raises(BuildError, match=r"'a'.*changed"):
        context.Hasher(root).digest_of(LAYER, entries[1])
    with pytest.raises(BuildError, match="'b'"):
        context.Hasher(root).digest_of(LAYER, entries[2])


def test_a_folder_that_becomes_a_link_is_not_followed(make: Make, tmp_path: Path) -> None:
    root = make("d/passwd")
    entries = context.read(root, None)
    (root / "d/passwd").unlink()
    (root / "d").rmdir()
    (root / "d").symlink_to("/etc")

    with pytest.raises(BuildError, match="d/passwd"):
        context.Hasher(root).digest_of(LAYER, entries[-1])


@pytest.mark.hostile("CVE-2018-15664", "CVE-2025-47290")
def test_a_folder_that_moves_and_leaves_a_link_is_not_followed(make: Make, tmp_path: Path) -> None:
    """The file behind the link is the very same, so nothing but the link tells."""
    root = make("d/file")
    entries = context.read(root, None)
    (root / "d").rename(tmp_path / "moved")
    (root / "d").symlink_to(tmp_path / "moved")

    with pytest.raises(BuildError, match="d/file"):
        context.Hasher(root).digest_of(LAYER, entries[-1])


def test_many_files_are_hashed_in_threads(make: Make) -> None:
    root = make(*(f"d{n % 7}/{n}" for n in range(300)))
    entries = context.read(root, None)

    context.Hasher(root).fill(entries, threads=4)

    assert all(e.digest == content_digest(e.path) for e in entries if e.kind == FILE)


def test_an_error_in_a_thread_is_raised(make: Make) -> None:
    root = make(*(f"d/{n}" for n in range(100)))
    entries = context.read(root, None)
    (root / "d/50").write_text("changed by now")

    with pytest.raises(BuildError, match="d/50"):
        context.Hasher(root).fill(entries, threads=4)

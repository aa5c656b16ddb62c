"""The layers of COPY, ADD and WORKDIR, planned on trees."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildError, MissingPath
from builder.ops.files import InlineItem, PathItem
from builder.snapshots import graft
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, SYMLINK, WHITEOUT, Entry, LayerId
from builder.snapshots.tree import Tree
from tests.support.trees import (
    NOW,
    OLD,
    content_digest,
    device,
    entries,
    file,
    folder,
    laid_on,
    link,
    no_digest,
    paths,
    tree,
)


@dataclass(frozen=True)
class Op:
    items: tuple[PathItem | InlineItem, ...]
    dest: str
    chmod: str = ""
    unpack: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


def copy(
    sources: Tree,
    below: Tree,
    *words: str,
    owner: tuple[int, int] | None = None,
    archives: dict[str, list[Entry]] | None = None,
    touched: int | None = None,
    **options: object,
) -> list[graft.Planned]:
    """COPY words[:-1] words[-1]; a source `<<name text` is a heredoc."""
    items = tuple(
        InlineItem(*word[2:].split(" ", 1)) if word.startswith("<<") else PathItem(1, word)
        for word in words[:-1]
    )
    op = Op(items, words[-1], **options)  # type: ignore[arg-type]

    def archive(layer: LayerId, entry: Entry) -> graft.Archive | None:
        found = (archives or {}).get(entry.path)
        return graft.Archive(LayerId(entry.path), found) if found else None

    return graft.plan(
        op, below, {1: sources}, owner, now=NOW, touched=touched, digest_of=no_digest, archive=archive
    )


def test_a_file_goes_to_a_missing_destination_under_its_name() -> None:
    planned = copy(tree("a"), Tree(), "/a", "/x/y")

    assert paths(planned) == ["x", "x/y"]
    made, copied = planned[0].entry, planned[1].entry
    assert (made.kind, made.mode, made.uid, made.mtime) == (FOLDER, 0o755, 0, NOW)
    assert (copied.mode, copied.mtime, copied.digest) == (0o644, OLD, content_digest("a"))
    assert planned[1].origin == (LayerId("src"), tree("a").get("a"))


@pytest.mark.parametrize("dest", ["/x/", "/x/.", "//x///./", "/y/../x/"])
def test_a_slash_at_the_end_makes_a_folder(dest: str) -> None:
    assert paths(copy(tree("a"), Tree(), "/a", dest)) == ["x", "x/a"]


def test_an_existing_folder_takes_a_file_in_without_a_slash() -> None:
    planned = copy(tree("a"), tree(folder("tmp", 0o1777)), "/a", "/tmp")

    assert paths(planned) == ["tmp", "tmp/a"]
    assert planned[0].entry == folder("tmp", 0o1777)


def test_the_root_takes_a_file_in() -> None:
    assert paths(copy(tree("a"), Tree(), "/a", "/")) == ["a"]


def test_without_a_slash_the_last_of_several_becomes_the_file() -> None:
    planned = copy(tree("a", "b"), Tree(), "/a", "/b", "/x")

    assert [(p.entry.path, p.entry.digest) for p in planned] == [("x", content_digest("b"))]


def test_a_folders_contents_are_copied_and_its_mode_is_not() -> None:
    planned = copy(tree(folder("d", 0o700, mtime=5), folder("d/s", 0o711), "d/s/f"), Tree(), "/d", "/x/y")

    assert paths(planned) == ["x", "x/y", "x/y/s", "x/y/s/f"]
    assert (planned[1].entry.mode, planned[1].entry.mtime) == (0o755, 5)
    assert planned[2].entry.mode == 0o711


def test_the_destination_keeps_its_mode_and_folders_in_it_take_the_sources() -> None:
    below = tree(folder("x", 0o700), folder("x/s", 0o1777), "x/s/a")

    planned = copy(tree(folder("d", 0o755), folder("d/s", 0o750), "d/s/b"), below, "/d", "/x")

    assert paths(planned) == ["x", "x/s", "x/s/b"]
    assert entries(planned)["x"].mode == 0o700
    assert entries(planned)["x/s"].mode == 0o750


def test_only_what_changes_is_in_the_layer() -> None:
    below = tree("x/a/1", "x/b/2")

    planned = copy(tree("two/b/2", "two/b/3"), below, "/two", "/x/")

    assert paths(planned) == ["x", "x/b", "x/b/3"]


def test_an_identical_copy_is_an_empty_layer() -> None:
    source = tree("d/a", link("d/l", "a"), device("d/n"), folder("d/s", 0o700))
    below = laid_on(Tree(), copy(source, Tree(), "/d", "/x/"))

    assert copy(source, below, "/d", "/x/") == []


def test_folders_that_a_dangling_destination_leads_through_are_made_as_others_are() -> None:
    below = tree(link("l", "m/n"), layer="below")

    made = entries(copy(tree("f"), below, "/f", "/l", owner=(5, 6), chmod="4711"))

    assert (made["m"].mode, made["m"].uid, made["m"].gid) == (0o711, 5, 6)
    assert made["m/n"].mode == 0o4711


def times(planned: list[graft.Planned]) -> dict[str, int]:
    return {item.entry.path: item.entry.mtime for item in planned}


@pytest.mark.parametrize("touched", [None, 7])
def test_a_folder_that_contents_are_copied_into_takes_the_sources_time(touched: int | None) -> None:
    source = tree(folder("d", mtime=3), folder("d/s", mtime=4), file("d/s/a", mtime=5))
    below = tree(folder("x", 0o700, mtime=1), folder("x/s", mtime=2), layer="below")

    planned = copy(source, below, "/d", "/x", touched=touched)

    assert times(planned) == {"x": 3, "x/s": 4, "x/s/a": 5}
    assert planned[0].entry.mode == 0o700


@pytest.mark.parametrize(("touched", "expected"), [(None, 1), (7, 7)])
def test_a_folder_that_names_come_into_is_touched(touched: int | None, expected: int) -> None:
    below = tree(folder("etc", mtime=1), folder("etc/ssl", mtime=1), file("etc/f", "old"), layer="below")

    assert times(copy(tree(file("f", mtime=5)), below, "/f", "/etc/", touched=touched)) == {
        "etc": expected, "etc/f": 5,
    }  # fmt: skip
    assert times(copy(tree(file("f", mtime=5)), below, "/f", "/etc/ssl/", touched=touched)) == {
        "etc": 1, "etc/ssl": expected, "etc/ssl/f": 5,
    }  # fmt: skip


@pytest.mark.parametrize(("touched", "expected"), [(None, 1), (7, 7)])
def test_the_folders_on_the_way_to_what_patterns_take_are_touched(touched: int | None, expected: int) -> None:
    source = tree(folder("d", mtime=1), folder("d/s", mtime=1), file("d/s/a", mtime=5))
    planned = copy(source, Tree(), "/d/s/a", "/x/", parents=True, touched=touched)

    assert times(planned) == {"x": touched or NOW, "x/d": expected, "x/d/s": expected, "x/d/s/a": 5}


def test_folders_of_an_archive_have_its_times_and_the_destination_is_touched() -> None:
    inside = [folder("d", mtime=3), file("d/a", mtime=4), file("i/b", mtime=5)]
    below = tree(folder("x", mtime=1), layer="below")

    planned = copy(tree("t"), below, "/t", "/x", archives={"t": inside}, unpack=True, touched=7)

    assert times(planned) == {"x": 7, "x/d": 3, "x/d/a": 4, "x/i": 7, "x/i/b": 5}


@pytest.mark.parametrize(
    ("dest", "chmod", "mode"),
    [("/x", "go=", 0o700), ("/x", "4711", 0o4711), ("/x/", "go=", 0o755), ("/x/y", "go=", 0o700)],
)
def test_a_whole_repository_gives_the_folder_that_it_becomes_its_mode(
    dest: str, chmod: str, mode: int
) -> None:
    op = Op((PathItem(1, "/", wildcards=False),), dest, chmod=chmod, parents=True)

    planned = graft.plan(op, Tree(), {1: tree("f")}, None, now=NOW, digest_of=no_digest)

    made = entries(planned)
    assert made[dest.strip("/")].mode == mode
    assert dest.strip("/") + "/f" in made


def test_folders_made_in_a_set_group_id_folder_are_so_too_and_of_its_group() -> None:
    below = tree(folder("srv", 0o2775, 7, 50), layer="below")

    plain = entries(copy(tree("f"), below, "/f", "/srv/a/b/"))
    owned = entries(copy(tree("f"), below, "/f", "/srv/a/", owner=(5, 6), chmod="700"))
    workdir = {entry.path: entry for entry in graft.plan_dir("/srv/w", below, None, 7)}

    assert [(plain[p].mode, plain[p].uid, plain[p].gid) for p in ("srv/a", "srv/a/b")] == [
        (0o2755, 0, 50)
    ] * 2
    assert (plain["srv/a/b/f"].mode, plain["srv/a/b/f"].gid) == (0o644, 0)
    assert (owned["srv/a"].mode, owned["srv/a"].uid, owned["srv/a"].gid) == (0o2700, 5, 6)
    assert (workdir["srv/w"].mode, workdir["srv/w"].gid) == (0o2755, 50)


@pytest.mark.parametrize("dest", ["/{}", "/{}/", "/a/{}/b", "/a/../{}/c/"])
def test_a_name_that_no_filesystem_takes_is_refused(dest: str) -> None:
    whole = "é" * 127 + "x"

    assert paths(copy(tree("f"), Tree(), "/f", dest.format(whole)))
    with pytest.raises(BuildError, match="more than 255 bytes"):
        copy(tree("f"), Tree(), "/f", dest.format(whole + "y"))


def test_folders_that_an_archive_implies_in_a_set_group_id_folder_are_roots() -> None:
    below = tree(folder("srv", 0o2775, 7, 50), layer="below")

    made = entries(add([file("a/f")], below, "/srv/"))

    assert (made["srv/a"].mode, made["srv/a"].gid) == (0o2755, 0)


def test_the_folder_that_a_workdir_is_made_in_is_touched() -> None:
    below = tree(folder("srv", mtime=1), layer="below")

    made = graft.plan_dir("/srv/app", below, (0, 0), 7, 7)

    assert {entry.path: entry.mtime for entry in made} == {"srv": 7, "srv/app": 7}


def test_a_folders_time_alone_is_no_change() -> None:
    assert copy(tree(folder("d/s", mtime=9)), tree(folder("x/s", mtime=1)), "/d", "/x") == []


@pytest.mark.parametrize(
    "there", [file("f", "1", 0o600), file("f", "1", uid=1), file("f", "2"), file("f", "1", mtime=2)]
)
def test_a_file_that_differs_is_in_the_layer(there: Entry) -> None:
    assert paths(copy(tree(file("f", "1")), tree(there, layer="below"), "/f", "/")) == ["f"]


def test_bytes_are_compared_where_nothing_else_tells() -> None:
    asked: list[str] = []
    new, old = file("f", "1").replace(digest=None), file("f", "1").replace(digest=None)
    op = Op((PathItem(1, "/f"),), "/f")

    def digest_of(layer: LayerId, entry: Entry) -> str:
        asked.append(layer)
        return content_digest("1")

    planned = graft.plan(
        op,
        tree(old, layer="old"),
        {1: tree(new, layer="new")},
        None,
        now=NOW,
        digest_of=digest_of,  # type: ignore[arg-type]
    )

    assert planned == []
    assert sorted(asked) == ["new", "old"]


@pytest.mark.hostile("CVE-2018-15664")
def test_symlinked_destinations_are_followed_inside_the_tree() -> None:
    below = tree(
        link("link", "/real"), folder("real"), link("out", "../../../new"), link("lf", "real/f"),
        link("deep/in/abs", "/real"), link("deep/in/up", "../../../../../real"),
    )  # fmt: skip

    assert paths(copy(tree("a"), below, "/a", "/link/sub/")) == ["real", "real/sub", "real/sub/a"]
    assert paths(copy(tree("a"), below, "/a", "/link")) == ["real", "real/a"]
    assert paths(copy(tree("a"), below, "/a", "/out/")) == ["new", "new/a"]
    assert paths(copy(tree("a"), below, "/a", "/lf")) == ["real", "real/f"]
    assert paths(copy(tree("d/a"), below, "/d", "/link")) == ["real", "real/a"]
    for name in ("abs", "up"):
        assert paths(copy(tree("a"), below, "/a", f"/deep/in/{name}/")) == ["real", "real/a"]


def test_a_link_in_the_place_of_a_file_in_a_folder_is_replaced() -> None:
    below = tree("f", link("x/a", "/f"))

    planned = copy(tree("a"), below, "/a", "/x/")

    assert entries(planned)["x/a"].kind == FILE


@pytest.mark.parametrize(
    ("source", "below", "words"),
    [
        (tree("a"), tree("x"), ("/a", "/x/y")),
        (tree("a"), tree("x"), ("/a", "/x/")),
        (tree("d/a"), tree("x"), ("/d", "/x")),
        (tree("two/n"), tree("x/n/a"), ("/two", "/x/")),
        (tree("two/n/b"), tree("x/real/a", link("x/n", "real")), ("/two", "/x")),
        (tree(link("two/n", "z")), tree("x/n/a"), ("/two", "/x")),
        (tree("n"), tree("x/n/a"), ("/n", "/x/")),
        (tree("a"), tree(link("a", "b"), link("b", "a")), ("/a", "/a/x")),
        (tree("a/f", "b"), Tree(), ("/b", "/a", "/x")),
    ],
)
def test_files_folders_and_links_do_not_take_each_others_place(
    source: Tree, below: Tree, words: tuple[str, ...]
) -> None:
    with pytest.raises(BuildError):
        copy(source, below, *words)


def test_links_and_files_replace_each_other() -> None:
    below = tree(file("x/a", "1"), link("x/b", "a"))

    planned = copy(tree(link("d/a", "b"), file("d/b", "2")), below, "/d", "/x")

    assert [(p.entry.path, p.entry.kind) for p in planned[1:]] == [("x/a", SYMLINK), ("x/b", FILE)]


def test_chown_is_for_all_that_is_copied_and_made() -> None:
    source = tree(file("d/f", "1", uid=7), link("d/l", "f"))

    planned = copy(source, tree(folder("var")), "/d", "/var/z/w", owner=(5, 6))

    assert {p.entry.path: (p.entry.uid, p.entry.gid) for p in planned} == {
        "var": (0, 0),
        "var/z": (5, 6),
        "var/z/w": (5, 6),
        "var/z/w/f": (5, 6),
        "var/z/w/l": (5, 6),
    }


def test_owners_of_the_source_are_kept_without_chown() -> None:
    assert copy(tree(file("a", "1", uid=7, gid=8)), Tree(), "/a", "/")[0].entry.uid == 7


def test_octal_chmod_is_for_files_and_folders_but_not_for_links() -> None:
    source = tree(file("d/f", "1", 0o600), link("d/l", "f"), folder("d/s"))

    planned = entries(copy(source, Tree(), "/d", "/p/x", chmod="1604"))

    assert {path: oct(entry.mode) for path, entry in planned.items()} == {
        "p": "0o604",
        "p/x": "0o604",
        "p/x/f": "0o1604",
        "p/x/l": "0o777",
        "p/x/s": "0o1604",
    }


def test_symbolic_chmod_goes_by_each_entrys_mode_and_leaves_made_folders() -> None:
    source = tree(file("d/f", "1", 0o600), folder("d/s", 0o700))

    planned = entries(copy(source, Tree(), "/d", "/x", chmod="go+rX"))

    assert (planned["x"].mode, planned["x/f"].mode, planned["x/s"].mode) == (0o755, 0o644, 0o755)


def test_hard_links_within_a_folder_stay_links() -> None:
    source = tree(file("d/a", "1"), *(file(p, "1").replace(hardlink="d/a") for p in ("d/b", "d/sub/c")))

    planned = copy(source, Tree(), "/d", "/x")

    assert {p.entry.path: p.entry.hardlink for p in planned if p.entry.kind == FILE} == {
        "x/a": None,
        "x/b": "x/a",
        "x/sub/c": "x/a",
    }
    assert [p.origin is not None for p in planned if p.entry.kind == FILE] == [True, False, False]
    assert copy(source, laid_on(Tree(), planned), "/d", "/x") == []


def test_a_hard_link_whose_first_name_is_left_out_has_the_bytes() -> None:
    source = tree(file("d/a", "1"), file("d/b", "1").replace(hardlink="d/a"))

    excluded = copy(source, Tree(), "/d", "/", excludes=("a",))
    alone = copy(source, Tree(), "/d/b", "/d/a", "/")

    assert [(p.entry.path, p.entry.hardlink) for p in excluded] == [("b", None)]
    assert excluded[0].origin == (LayerId("src"), source.get("d/a"))
    assert [p.entry.hardlink for p in alone] == [None, None]


def test_new_names_of_an_unchanged_file_are_linked_to_each_other_only() -> None:
    names = ("d/b", "d/c")
    source = tree(file("d/a", "1"), *(file(name, "1").replace(hardlink="d/a") for name in names))

    planned = copy(source, tree(file("x/a", "1")), "/d", "/x")

    assert [(p.entry.path, p.entry.hardlink) for p in planned[1:]] == [("x/b", None), ("x/c", "x/b")]
    assert planned[1].origin == (LayerId("src"), source.get("d/a"))


def test_devices_pipes_and_capabilities_come_along() -> None:
    capability = ("security.capability", b"\1\2")
    source = tree(
        device("d/blk", BLOCK, (7, 3)),
        Entry("d/pipe", FIFO, 0o600, 0, 0, 0, OLD),
        file("d/ping", "1").replace(xattrs=(capability, ("user.note", b"hi"))),
    )

    planned = entries(copy(source, Tree(), "/d", "/x"))

    assert (planned["x/blk"].kind, planned["x/blk"].device) == (CHAR, (7, 3))
    assert planned["x/pipe"].kind == FIFO
    assert planned["x/ping"].xattrs == (capability,)


def test_a_heredoc_is_a_file_of_roots() -> None:
    planned = copy(tree("a"), Tree(), "<<one 1", "<<two ü", "/a", "/x/")

    assert paths(planned) == ["x", "x/a", "x/one", "x/two"]
    assert (planned[3].origin, planned[3].entry.mode, planned[3].entry.size) == ("ü".encode(), 0o644, 2)
    assert paths(copy(tree(), Tree(), "<<EOF 1", "/f", owner=(3, 4), chmod="600")) == ["f"]


def test_heredocs_come_after_files_of_the_same_name() -> None:
    planned = copy(tree("a"), Tree(), "<<a new", "/a", "/x/")

    assert planned[1].origin == b"new"


def test_a_wildcard_without_a_match_makes_nothing() -> None:
    assert copy(tree("a"), Tree(), "/*.nope", "/x/") == []


def test_parents_make_the_sources_folders_below_the_destination() -> None:
    source = tree(folder("a/b", 0o700), "a/b/f", "a/b/g")

    planned = copy(source, Tree(), "/a/b/f", "/out", parents=True)

    assert paths(planned) == ["out", "out/a", "out/a/b", "out/a/b/f"]
    assert planned[2].entry.mode == 0o700


def test_an_existing_folder_on_the_way_of_parents_keeps_its_owner() -> None:
    source = tree(folder("a", 0o700), "a/f")

    planned = copy(source, tree(folder("a", 0o755, 3, 4)), "/a/f", "/", parents=True, owner=(9, 9))

    assert [(p.entry.path, p.entry.mode, p.entry.uid) for p in planned] == [
        ("a", 0o700, 3),
        ("a/f", 0o644, 9),
    ]


@pytest.mark.parametrize("chmod", ["711", "u+s"])
def test_an_existing_folder_on_the_way_of_parents_takes_the_sources_mode_whatever_chmod_says(
    chmod: str,
) -> None:
    source = tree(folder("a", 0o750), "a/f", "a/g")

    planned = entries(copy(source, Tree(), "/a/f", "/a/g", "/", parents=True, chmod=chmod))

    assert planned["a"].mode == 0o750
    assert planned["a/g"].mode in (0o711, 0o4644)


def test_parents_without_attributes_of_their_own_are_made_up() -> None:
    below = Tree().plus(LayerId("x"), [file("deep/er/f", "1")])

    planned = copy(tree("a"), below, "/a", "/deep/er/f")

    assert [(p.entry.path, p.entry.kind) for p in planned] == [
        ("deep", FOLDER),
        ("deep/er", FOLDER),
        ("deep/er/f", FILE),
    ]


def test_a_missing_source_is_told() -> None:
    with pytest.raises(MissingPath, match="/nope"):
        copy(tree("a"), Tree(), "/nope", "/x")


# ── ADD ──────────────────────────────────────────────────────────────────────────────────────────────────


def add(archive: list[Entry], below: Tree, dest: str = "/x/", **options: object) -> list[graft.Planned]:
    return copy(tree("a.tar"), below, "/a.tar", dest, archives={"a.tar": archive}, unpack=True, **options)  # type: ignore[arg-type]


def test_an_archive_is_unpacked_into_a_folder_with_its_owners_and_modes() -> None:
    planned = add([folder("d", 0o1750, 5, 6), file("d/f", "f", 0o4711, 7, 8)], Tree(), "/x")

    assert paths(planned) == ["x", "x/d", "x/d/f"]
    assert (planned[1].entry.mode, planned[1].entry.gid) == (0o1750, 6)
    assert (planned[2].entry.mode, planned[2].entry.uid) == (0o4711, 7)
    assert planned[2].origin is not None
    assert planned[2].origin[0] == "a.tar"


def test_what_is_no_archive_is_copied() -> None:
    assert paths(copy(tree("a.tar"), Tree(), "/a.tar", "/x/", unpack=True)) == ["x", "x/a.tar"]


def test_an_archive_in_a_folder_is_copied() -> None:
    planned = copy(tree("d/a.tar"), Tree(), "/d", "/", unpack=True, archives={"d/a.tar": [file("f")]})

    assert paths(planned) == ["a.tar"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "../../../evil", "d/../../evil", "./evil"])
@pytest.mark.hostile("CVE-2020-10696")
def test_no_name_in_an_archive_leaves_the_destination(name: str) -> None:
    assert paths(add([file(name, "1")], Tree(), "/x/y/")) == ["x", "x/y", "x/y/evil"]


@pytest.mark.hostile("CVE-2020-10696", "BuildKit 4ed7a2ff3")
@pytest.mark.parametrize("name", ["..", "d/..", "../..", "d/../..", "/.."])
def test_a_name_in_an_archive_that_is_all_dots_is_the_destination(name: str) -> None:
    below = tree(folder("x"), "x/old")

    for entry in (folder(name, 0o700, 9, 9), link(name, "/etc"), file(name, "1")):
        assert paths(add([entry, file("f", "1")], below)) == ["x", "x/f"]


@pytest.mark.hostile("CVE-2021-29136")
def test_an_archives_root_leaves_the_destination_as_it_is() -> None:
    planned = add([folder(".", 0o700, 9, 9), file("./f", "1")], Tree())

    assert (planned[0].entry.path, planned[0].entry.mode, planned[0].entry.uid) == ("x", 0o755, 0)


@pytest.mark.hostile("CVE-2020-10696", "CVE-2026-42574", "CVE-2026-28406", "go-containerregistry #2227")
def test_links_in_an_archive_are_resolved_as_if_the_destination_were_the_root() -> None:
    below = tree("etc/passwd")

    planned = add([folder("etc"), link("out", "/etc"), file("out/f", "1")], below)

    assert paths(planned) == ["x", "x/etc", "x/etc/f", "x/out"]
    with pytest.raises(BuildError, match="out"):
        add([link("out", "/etc"), file("out/evil", "1")], below)
    with pytest.raises(BuildError, match="links"):
        add([link("a", "b"), link("b", "a"), file("a/f", "1")], below)


def test_an_archives_entry_takes_the_place_of_a_folder_with_all_in_it() -> None:
    below = tree("x/d/old", "x/d/sub/old")

    planned = add([file("d", "now a file")], below)
    again = add([file("d", "1"), folder("d"), file("d/new", "1")], below)

    assert paths(planned) == ["x", "x/d"]
    assert [(p.entry.path, p.entry.kind) for p in again] == [
        ("x", FOLDER),
        ("x/d", FOLDER),
        ("x/d/new", FILE),
        ("x/d/old", WHITEOUT),
        ("x/d/sub", WHITEOUT),
    ]
    assert sorted(laid_on(below, again).nodes) == ["x", "x/d", "x/d/new"]


def test_an_archives_folder_takes_the_place_of_a_link() -> None:
    below = tree(folder("real"), link("x/d", "/real"))

    planned = add([folder("d"), file("d/f", "1")], below)

    assert paths(planned) == ["x", "x/d", "x/d/f"]


def test_the_last_of_equal_names_counts() -> None:
    planned = add([file("f", "1"), file("h", "1").replace(hardlink="f"), file("f", "22")], Tree())

    assert [(p.entry.path, p.entry.digest, p.entry.hardlink) for p in planned[1:]] == [
        ("x/f", content_digest("22"), None),
        ("x/h", content_digest("1"), None),
    ]


@pytest.mark.hostile("CVE-2026-4360")
def test_chown_holds_for_hard_links_too() -> None:
    hard = file("hard", "").replace(hardlink="f", digest=None, size=0)

    planned = add([file("f", "1"), hard], Tree(), owner=(1, 2))

    assert [(p.entry.path, p.entry.uid, p.entry.gid) for p in planned[1:]] == [
        ("x/f", 1, 2),
        ("x/hard", 1, 2),
    ]


@pytest.mark.hostile("CVE-2026-50163")
def test_hard_links_lead_to_what_is_there_before_them() -> None:
    hard = file("hard", "", mtime=OLD + 1).replace(hardlink="f", digest=None, size=0)

    inside = add([file("f", "1"), hard], Tree())
    outside = add([hard], tree(file("x/f", "old")))

    for planned in (inside, outside):
        assert [(p.entry.path, p.entry.hardlink) for p in planned[1:]] == [("x/f", None), ("x/hard", "x/f")]
    assert outside[1].entry.digest == content_digest("old")
    for wrong in (
        [hard, file("f", "1")],
        [folder("f"), hard],
        [file("hard", "1"), hard.replace(hardlink="hard")],
    ):
        with pytest.raises(BuildError, match="hard"):
            add(wrong, Tree())


def test_chown_leaves_folders_that_an_archive_only_implies() -> None:
    planned = add([folder("d", uid=5), file("d/f", "1"), file("p/q", "1")], Tree(), owner=(1, 2), chmod="600")

    assert {p.entry.path: (p.entry.uid, p.entry.mode) for p in planned} == {
        "x": (1, 0o755),
        "x/d": (1, 0o755),
        "x/d/f": (1, 0o644),
        "x/p": (0, 0o755),
        "x/p/q": (1, 0o644),
    }


def test_devices_of_an_archive_stay_what_they_are_and_names_like_whiteouts_are_names() -> None:
    planned = add([device("blk", BLOCK, (7, 1)), file(".wh.gone", "")], tree("x/gone"))

    assert [(p.entry.path, p.entry.kind) for p in planned[1:]] == [("x/.wh.gone", FILE), ("x/blk", BLOCK)]


@pytest.mark.hostile("overlay xattrs")
@pytest.mark.parametrize("kind", [CHAR, BLOCK])
def test_a_device_that_means_a_removal_is_neither_copied_nor_unpacked(kind: str) -> None:
    """A COPY writes a block device as a character device; 0:0 would hide /etc/passwd of the base."""
    hiding = device("passwd", kind, (0, 0))

    with pytest.raises(BuildError, match="'/etc/passwd': a device 0:0"):
        copy(tree(hiding), tree("etc/passwd"), "/passwd", "/etc/")
    with pytest.raises(BuildError, match="'/x/passwd': a device 0:0"):
        add([device("passwd", CHAR, (0, 0))], Tree())


@pytest.mark.hostile("overlay xattrs")
def test_of_xattrs_in_an_archive_and_in_a_stage_only_capabilities_come_along() -> None:
    records = tuple(
        (name, b"y")
        for name in ("security.capability", "trusted.overlay.redirect", "user.overlay.metacopy", "user.x")
    )
    marked, marked_folder = file("f").replace(xattrs=records), folder("d").replace(xattrs=records)

    added = entries(add([marked, marked_folder], Tree()))
    copied = entries(copy(tree(folder("s"), marked.replace(path="s/f")), Tree(), "/s", "/x/"))

    assert [entry.xattrs for entry in (added["x/f"], added["x/d"], copied["x/f"])] == [records[:1]] * 3


@pytest.mark.hostile("BuildKit 4ed7a2ff3")
@pytest.mark.parametrize("name", ["../keep", "/../keep", "d/../../keep"])
def test_what_an_archive_takes_the_place_of_lies_in_the_destination(name: str) -> None:
    below = tree(folder("keep"), "keep/f", folder("x"), folder("x/keep"), "x/keep/old")

    planned = add([file(name, "1")], below)

    assert sorted((p.entry.path, p.entry.kind) for p in planned) == [("x", FOLDER), ("x/keep", FILE)]


@pytest.mark.hostile("CVE-2025-4517", "CVE-2025-4330", "CVE-2025-4138", "CVE-2025-4435", "CVE-2026-11940")
def test_links_whose_path_is_beyond_what_the_kernel_takes_do_not_lead_out() -> None:
    """What made Python's filters let go: a path that is too long to be resolved by the kernel at once."""
    archive: list[Entry] = []
    long, above = "d" * 247, ""
    for letter in "abcdefghijklmnop":
        archive += [folder(f"{above}{long}"), link(f"{above}{letter}", long)]
        above = f"{above}{letter}/"
    archive += [
        link(above + "l" * 254, "../" * 16),
        link("escape", above + "l" * 254 + "/../../../etc"),
        folder("etc"),
        file("escape/passwd", "1"),
        file("escape/../../up", "1"),
    ]

    planned = entries(add(archive, tree("etc/passwd")))

    assert [path for path in planned if path.endswith(("passwd", "up"))] == ["x/etc/passwd", "x/up"]
    assert {path.split("/")[0] for path in planned} == {"x"}


# ── WORKDIR ──────────────────────────────────────────────────────────────────────────────────────────────


def test_workdir_makes_what_is_missing() -> None:
    below = tree(folder("srv", 0o700, 1, 1))

    made = graft.plan_dir("/srv/app/x", below, (5, 6), NOW)

    assert [(e.path, e.mode, e.uid, e.mtime) for e in made] == [
        ("srv", 0o700, 1, OLD),
        ("srv/app", 0o755, 5, NOW),
        ("srv/app/x", 0o755, 5, NOW),
    ]
    assert graft.plan_dir("/srv", below, (5, 6), NOW) == []
    assert graft.plan_dir("/", Tree(), (5, 6), NOW) == []


def test_workdir_follows_links_and_stops_at_files() -> None:
    below = tree(link("cur", "/opt/v1"), "file")

    assert [e.path for e in graft.plan_dir("/cur/x", below, (0, 0), NOW)] == ["opt", "opt/v1", "opt/v1/x"]
    with pytest.raises(BuildError, match="/file"):
        graft.plan_dir("/file/x", below, (0, 0), NOW)


# ── in general ───────────────────────────────────────────────────────────────────────────────────────────

names = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
things = st.one_of(
    st.builds(lambda c, m: ("f", c, m), st.sampled_from("12"), st.sampled_from([0o644, 0o755])),
    st.builds(lambda t: ("l", t, 0), st.sampled_from(["a", "/b", "../c", "a/b", "/"])),
    st.builds(lambda m: ("d", "", m), st.sampled_from([0o755, 0o700])),
)


def build_tree(things: dict[str, tuple[str, str, int]], layer: str) -> Tree:
    made: dict[str, Entry] = {}
    for path, (kind, text, mode) in sorted(things.items()):
        parts = path.split("/")
        above = ["/".join(parts[:n]) for n in range(1, len(parts))]
        if any(p in made and made[p].kind != FOLDER for p in above):
            continue
        for parent in above:
            made.setdefault(parent, folder(parent))
        made[path] = {"f": file(path, text, mode), "l": link(path, text), "d": folder(path, mode)}[kind]
    # Files of equal content are names of one file, so that links are tried, too.
    first: dict[tuple[str | None, int], str] = {}
    for path, entry in made.items():
        if entry.kind == FILE and first.setdefault((entry.digest, entry.mode), path) != path:
            entry.hardlink = first[entry.digest, entry.mode]
    return Tree().plus(LayerId(layer), made.values())


@given(
    st.dictionaries(names, things, max_size=6),
    st.dictionaries(names, things, max_size=6),
    st.sampled_from(["/", "/a", "/*", "/b/c", "/[ab]"]),
    st.sampled_from(["/", "/a", "/b/", "/c/a/b"]),
    st.sampled_from(["", "600", "u+x,go-r"]),
    st.sampled_from([None, (5, 6)]),
    st.booleans(),
)
def test_a_plan_laid_down_is_done_and_whole(
    source: dict[str, tuple[str, str, int]],
    lower: dict[str, tuple[str, str, int]],
    pattern: str,
    dest: str,
    chmod: str,
    owner: tuple[int, int] | None,
    parents: bool,
) -> None:
    sources, below = build_tree(source, "src"), build_tree(lower, "low")
    try:
        planned = copy(sources, below, pattern, dest, chmod=chmod, owner=owner, parents=parents)
    except BuildError:
        return

    result = laid_on(below, planned)
    listed = [item.entry.path for item in planned]

    assert len(set(listed)) == len(listed)
    for item in planned:
        path, entry = item.entry.path, item.entry
        assert path != "."
        assert path == "/".join(p for p in path.split("/") if p not in ("", ".", ".."))
        assert "/" not in path or path.rpartition("/")[0] in listed[: listed.index(path)]
        assert "/" not in path or result.nodes[path.rpartition("/")[0]].entry.kind == FOLDER
        assert (item.origin is not None) == (entry.kind == FILE and entry.hardlink is None)
        assert entry.hardlink is None or entry.hardlink in listed[: listed.index(path)]
    try:
        again = copy(sources, result, pattern, dest, chmod=chmod, owner=owner, parents=parents)
    except BuildError:
        return  # the first copy put a file where the second finds a folder, or the like
    resets = parents and bool(chmod)  # folders on the way have chmod's mode where they are made only
    if dest.endswith("/") and pattern != "/[ab]" and not resets:
        assert [item.entry for item in again] == []


archives = st.lists(
    st.one_of(
        st.builds(
            file,
            st.sampled_from(["a", "a/b", "../a", "b", "c/d", "l/x"]),
            st.sampled_from("12"),
            st.just(0o644),
        ),
        st.builds(link, st.sampled_from(["a", "l", "c/l"]), st.sampled_from(["/", "..", "a", "/b", "l"])),
        st.builds(folder, st.sampled_from(["a", "b", "c", "./", "l"])),
        st.builds(
            lambda p, t: file(p, "").replace(hardlink=t, digest=None),
            st.sampled_from(["h", "a", "c/h"]),
            st.sampled_from(["a", "b", "../x", "l/x", "c/d"]),
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(archives, st.dictionaries(names, things, max_size=5))
def test_an_archive_touches_nothing_but_its_destination(
    archive: list[Entry], lower: dict[str, tuple[str, str, int]]
) -> None:
    below = build_tree(
        {f"x/{path}": thing for path, thing in lower.items()} | {"keep": ("f", "1", 0o600)}, "low"
    )
    try:
        planned = add(archive, below)
    except BuildError:
        return

    result = laid_on(below, planned)

    assert all(item.entry.path == "x" or item.entry.path.startswith("x/") for item in planned)
    assert result.nodes["keep"].entry == below.nodes["keep"].entry
    for path, node in result.nodes.items():
        above = path.rpartition("/")[0]
        assert not above or result.nodes[above].entry.kind == FOLDER
        if node.entry.hardlink is not None and node.layer == "new":
            first = result.nodes[node.entry.hardlink]
            assert first.layer == "new"
            assert first.entry.hardlink is None
            assert first.entry.digest == node.entry.digest

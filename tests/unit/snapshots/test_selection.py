"""What a COPY takes from a tree, and the digest of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.digest import Digest
from builder.errors import BuildError, MissingPath
from builder.graph.selection import Selection
from builder.snapshots import matches, selection
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, Entry, LayerId
from builder.snapshots.tree import Tree
from tests.support.trees import content_digest, device, file, folder, link, no_digest, tree


def select(where: Tree, *patterns: str, **options: object) -> list[tuple[str, str]]:
    found = matches.select(where, Selection(patterns, **options))  # type: ignore[arg-type]
    return [(match.path, match.name) for match in found]


def items(where: Tree, *patterns: str, excludes: tuple[str, ...] = (), parents: bool = False) -> list[str]:
    chosen = Selection(patterns, excludes, parents=parents)
    found: list[str] = []
    for match in matches.select(where, chosen):
        if match.is_folder:
            for item in matches.items(where, match, matches.patterns_of(excludes)):
                found.append(f"({item.path})" if item.carried else item.path)
        else:
            found.append(match.name)
    return found


def digest(where: Tree, *patterns: str, **options: object) -> Digest:
    return selection.digest(where, Selection(patterns, **options), no_digest)  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", ["/d/a", "d/a", "//d/./a/", "/x/../d/a", "/../d/a"])
def test_a_plain_path_is_cleaned_by_its_text(pattern: str) -> None:
    assert select(tree("d/a"), pattern) == [("d/a", "a")]


def test_the_root_is_there_even_in_an_empty_tree() -> None:
    assert select(Tree(), "/") == [(".", ".")]


def test_links_are_followed_and_the_name_stays_the_one_asked_for() -> None:
    source = tree("d/real.txt", link("l", "d/real.txt"), link("cur", "/d"), link("up", "../../../d"))

    assert select(source, "/l") == [("d/real.txt", "l")]
    assert select(source, "/cur/real.txt") == [("d/real.txt", "real.txt")]
    assert select(source, "/up") == [("d", "up")]
    assert select(source, "/l*", "/nope*") == [("d/real.txt", "l")]


def test_wildcards_match_in_the_order_of_the_tree_and_nothing_below_a_match() -> None:
    source = tree("b.txt", "a.txt", "d.txt/e.txt", "c.md", "d/e.txt", ".h.txt")

    assert [path for path, _ in select(source, "/*.txt")] == [".h.txt", "a.txt", "b.txt", "d.txt"]
    assert [path for path, _ in select(source, "/*/*.txt")] == ["d/e.txt", "d.txt/e.txt"]
    assert [path for path, _ in select(source, "/d/*")] == ["d/e.txt"]


def test_wildcards_do_not_go_through_links() -> None:
    source = tree("d/a", link("l", "d"))

    assert select(source, "/*/a") == [("d/a", "a")]
    assert select(source, "/l/*") == [("d/a", "a")]


def test_a_wildcard_without_a_match_is_no_error() -> None:
    assert select(tree("d/a"), "/*.nope", "/d/*.nope") == []


def test_a_missing_path_names_those_that_are_near() -> None:
    source = tree("src/readme.md", "src/main.py", "other/app.conf")

    with pytest.raises(MissingPath, match=r"/src/README.md") as wrong_case:
        select(source, "/src/README.md")
    with pytest.raises(MissingPath) as misspelt:
        select(source, "/src/mian.py")
    with pytest.raises(MissingPath) as elsewhere:
        select(source, "/src/app.conf")

    assert "'src/readme.md'" in (wrong_case.value.hint or "")
    assert "'src/main.py'" in (misspelt.value.hint or "")
    assert "'other/app.conf'" in (elsewhere.value.hint or "")


def test_a_missing_path_names_the_line_that_hides_it() -> None:
    with pytest.raises(MissingPath, match=r"\.dockerignore:3") as caught:
        matches.select(tree("b"), Selection(("/d/a",)), hidden_by=lambda path: ".dockerignore:3 (d)")

    assert "!d/a" in (caught.value.hint or "")


def test_a_link_to_nothing_is_missing_and_tells_where_it_leads() -> None:
    with pytest.raises(MissingPath, match="/link") as caught:
        select(tree(link("link", "../../nowhere")), "/link")

    assert "/nowhere" in caught.value.notes[0]


def test_a_circle_of_links_ends() -> None:
    with pytest.raises(BuildError, match="links"):
        select(tree(link("a", "b"), link("b", "a")), "/a/x")


def test_a_folder_before_wildcards_must_be_there() -> None:
    with pytest.raises(MissingPath, match="/nope"):
        select(tree("a"), "/nope/*.txt")


@pytest.mark.parametrize("pattern", ["/[a.txt,", "/a\\*[", "/d/[]"])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(BuildError, match="pattern") as caught:
        select(tree("d/a"), pattern)

    assert pattern in caught.value.message


def test_excludes_count_from_the_source_folder_and_never_drop_what_is_named() -> None:
    source = tree("f1.txt", "f2.md", "fd/f3.txt", "fd/x/f4.txt", "fd/sub/a")

    assert items(source, "/f*", excludes=("*.txt", "sub")) == ["f1.txt", "f2.md", "x", "x/f4.txt"]
    assert items(source, "/fd", excludes=("**/*.txt",)) == ["sub", "sub/a", "x"]


def test_an_excluded_folder_is_carried_for_what_is_taken_back() -> None:
    source = tree("d/a", "d/s/t/keep", "d/s/drop", "d/u/drop")

    assert items(source, "/d", excludes=("*", "!s/t/keep")) == ["(s)", "(s/t)", "s/t/keep"]


def test_parents_keep_the_folders_above_behind_the_pivot() -> None:
    source = tree("x/y/a.txt", "x/y/b.md", "x/z/c.txt")

    assert items(source, "/x/y/a.txt", parents=True) == ["(x)", "(x/y)", "x/y/a.txt"]
    assert items(source, "/x/./y/*.txt", parents=True) == ["(y)", "y/a.txt"]
    assert items(source, "/x/y", parents=True) == ["(x)", "x/y", "x/y/a.txt", "x/y/b.md"]
    assert items(source, "/**/c.txt", parents=True) == ["(x)", "(x/z)", "x/z/c.txt"]
    assert items(source, "/nope*", parents=True) == []


def test_parents_follow_links_before_the_pivot_only() -> None:
    source = tree("x/s/a", link("l", "x"))

    assert items(source, "/l/s/./a", parents=True) == ["a"]
    with pytest.raises(MissingPath, match="/l/s/a"):
        items(source, "/l/s/a", parents=True)


def test_a_link_as_the_pivot_of_parents_has_only_what_a_wildcard_finds() -> None:
    source = tree("x/a", link("l", "x"))

    assert items(source, "/l/./a*", parents=True) == ["a"]
    with pytest.raises(MissingPath, match="/l/a"):
        items(source, "/l/./a", parents=True)


@pytest.mark.parametrize("pattern", ["/", "/x/./", "/x/./.", "/x/\\a", "/\\x/./a", "/x/a/./b", "/x/a/./"])
def test_parents_with_nothing_below_the_pivot_or_an_escape_fail(pattern: str) -> None:
    with pytest.raises(MissingPath):
        items(tree("x/a"), pattern, parents=True)


@pytest.mark.parametrize("pattern", ["/", "/x/./"])
def test_parents_with_nothing_below_the_pivot_are_told_what_would_take_all_of_it(pattern: str) -> None:
    with pytest.raises(MissingPath) as caught:
        items(tree("x/a"), pattern, parents=True)

    assert (caught.value.hint or "").endswith("'**' is all")
    assert caught.value.notes == ()
    assert items(tree("x/a"), pattern + "**", parents=True)[-1] in ("x/a", "a")


@pytest.mark.parametrize("pattern", ["/../x", "/x/./../x"])
def test_parents_that_lead_out_find_nothing(pattern: str) -> None:
    with pytest.raises(MissingPath, match=r"/\.\./x' not found"):
        items(tree("x/a"), pattern, parents=True)

    assert items(tree("x/a"), pattern + "*", parents=True) == []


def test_parents_with_wildcards_before_the_pivot_and_nothing_behind_take_nothing() -> None:
    assert items(tree("x/a"), "/x*/./", parents=True) == []


@pytest.mark.parametrize(
    ("pattern", "options"),
    [("/**", {"parents": True}), ("/d*", {"parents": True}), ("/", {"excludes": ("zz",)})],
)
def test_links_in_the_root_that_patterns_choose_must_lead_somewhere(
    pattern: str, options: dict[str, object]
) -> None:
    source = tree("x/a", link("dangling", "nope"), link("x/deep", "nope"))

    with pytest.raises(MissingPath, match="/dangling"):
        items(source, pattern, **options)


def test_links_in_the_root_that_are_left_out_may_dangle() -> None:
    source = tree("x/a", link("dangling", "nope"))

    assert items(source, "/", excludes=("dangling",)) == ["x", "x/a"]
    assert items(source, "/x*", parents=True) == ["x", "x/a"]


def test_parents_with_a_plain_path_that_is_not_there_fail() -> None:
    with pytest.raises(MissingPath, match=r"/x/nope\.txt"):
        items(tree("x/a"), "/x/nope.txt", parents=True)
    with pytest.raises(MissingPath, match="/x/a"):
        items(tree("x/a"), "/x/a", parents=True, excludes=("x/a",))


def test_the_digest_is_that_of_what_is_written_not_of_where_it_lay() -> None:
    one = tree(folder("one", 0o700), file("one/a", "1"), layer="one")
    two = tree(folder("two", 0o755, mtime=7), file("two/a", "1", mtime=9), layer="two")

    assert digest(one, "/one") == digest(two, "/two")
    assert digest(one, "/one/a") == digest(two, "/two/a") == digest(two, "/two/*")


BASE = file("d/a", "1", 0o644, 1, 2)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace(mode=0o600),
        BASE.replace(uid=9),
        BASE.replace(gid=9),
        BASE.replace(digest=content_digest("2")),
        BASE.replace(path="d/b"),
        BASE.replace(xattrs=(("security.capability", b"\1"),)),
        BASE.replace(kind=FIFO),
        link("d/a", "1"),
        folder("d/a"),
        device("d/a"),
    ],
)
def test_the_digest_depends_on_all_that_counts(other: Entry) -> None:
    assert digest(tree(BASE), "/d") != digest(tree(other), "/d")


def test_the_digest_counts_link_targets_devices_and_names_of_one_file() -> None:
    linked = file("d/b", "1").replace(hardlink="d/a")

    assert digest(tree(link("d/l", "1")), "/d") != digest(tree(link("d/l", "2")), "/d")
    assert digest(tree(device("d/n")), "/d") != digest(tree(device("d/n", numbers=(1, 5))), "/d")
    assert digest(tree(device("d/n", BLOCK)), "/d") == digest(tree(device("d/n", CHAR)), "/d")
    assert digest(tree(file("d/a", "1"), linked), "/d") != digest(
        tree(file("d/a", "1"), file("d/b", "1")), "/d"
    )


def test_the_mode_of_a_folder_on_the_way_counts_always() -> None:
    one, two = tree(folder("a", 0o700), "a/f"), tree(folder("a", 0o755), "a/f")

    assert digest(one, "/a/f", parents=True, modes=False) != digest(two, "/a/f", parents=True, modes=False)


def test_owners_and_modes_count_only_where_they_are_kept() -> None:
    one, two = tree(file("d/a", "1", 0o600, 1, 1)), tree(file("d/a", "1", 0o644, 2, 2))

    assert digest(one, "/d", owners=False, modes=False) == digest(two, "/d", owners=False, modes=False)
    assert digest(one, "/d", owners=False) != digest(two, "/d", owners=False)


def test_other_xattrs_than_capabilities_do_not_count() -> None:
    with_note = BASE.replace(xattrs=(("user.note", b"hi"),))

    assert digest(tree(BASE), "/d") == digest(tree(with_note), "/d")


def test_a_mounts_source_is_a_path_and_counts_with_its_own_attributes() -> None:
    source = tree(folder("d[1]", 0o700), "d[1]/a", link("l", "d[1]"))
    other = tree(folder("d[1]", 0o755), "d[1]/a")

    assert digest(source, "/d[1]", wildcards=False) == digest(source, "/l", wildcards=False)
    assert digest(source, "/d[1]", wildcards=False) != digest(other, "/d[1]", wildcards=False)
    with pytest.raises(MissingPath):
        digest(source, "/nope", wildcards=False)


def test_digests_are_asked_for_once_in_the_layer_that_has_the_bytes() -> None:
    first = file("d/a", "1").replace(digest=None)
    source = tree(first, first.replace(path="d/b", hardlink="d/a"), layer="one")
    asked: list[tuple[str, str]] = []

    def digest_of(layer: LayerId, entry: Entry) -> Digest:
        asked.append((layer, entry.path))
        return Digest(content_digest("1"))

    selection.digest(source, Selection(("/d/b",)), digest_of)

    assert asked == [("one", "d/a")]
    assert selection.files(source, Selection(("/",))) == [(LayerId("one"), first)]


def test_the_bytes_of_a_hard_link_are_found_when_its_first_name_is_gone() -> None:
    lower = tree(file("a", "1"), file("b", "1").replace(hardlink="a"), layer="low")
    upper = lower.plus(LayerId("up"), [file("a", "2")])

    entry = selection.bytes_of(upper, upper.nodes["b"])

    assert (entry.path, entry.hardlink, entry.digest) == ("a", None, content_digest("1"))


def test_names_that_are_no_utf8_count() -> None:
    assert digest(tree(file("d/\udcff", "1")), "/d") != digest(tree(file("d/\udcfe", "1")), "/d")


def test_fields_cannot_be_mistaken_for_one_another() -> None:
    one = tree(link("d/a", "b\n"), link("d/c", "d"))
    two = tree(link("d/a", "b"), link("d/\nc", "d"))

    assert digest(one, "/d") != digest(two, "/d")


names = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(names, st.integers(0, 3), max_size=8), st.randoms(use_true_random=False))
def test_neither_times_nor_the_order_of_entries_count(files: dict[str, int], shuffle: random.Random) -> None:
    folders = {"/".join(path.split("/")[:n]) for path in files for n in range(1, path.count("/") + 1)}
    entries = [folder(path) for path in folders]
    entries += [file(path, str(content)) for path, content in files.items() if path not in folders]
    other = [entry.replace(mtime=shuffle.randrange(10**18)) for entry in entries]
    shuffle.shuffle(other)

    assert digest(Tree().plus(LayerId("x"), entries), "/") == digest(Tree().plus(LayerId("y"), other), "/")

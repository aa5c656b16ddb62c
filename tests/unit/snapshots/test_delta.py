"""What tells a layer from an earlier one, and what of it a small folder over the earlier one's holds."""

from __future__ import annotations

import pytest

from builder.snapshots.delta import Delta, compare, fits_over
from builder.snapshots.snapshot import CHAR, FILE, WHITEOUT, Entry
from tests.support.trees import NOW, device, file, folder, link, tree

MANY = [folder("d"), *(file(f"d/{number:03}") for number in range(100))]


def told(rows: list[Entry], earlier: list[Entry], now: int | None = None) -> Delta:
    found = compare(rows, earlier, now=now)
    assert found is not None
    return found


def small(found: Delta) -> list[str]:
    return [("-" if entry.kind == WHITEOUT else "") + entry.path for entry in found.small]


def test_equal_layers_differ_in_nothing():
    assert told([folder("d"), file("d/f")], [folder("d"), file("d/f")]).is_nothing


def test_what_changed_comes_with_the_folders_on_the_way():
    found = told(
        [folder("a"), folder("a/b"), file("a/b/f", "new"), file("a/g"), folder("c")],
        [folder("a"), folder("a/b"), file("a/b/f", "old"), file("a/g"), folder("c")],
    )

    assert small(found) == ["a", "a/b", "a/b/f"]
    assert not found.is_nothing


def test_what_is_new_is_held_and_what_is_gone_is_hidden():
    found = told([folder("a"), file("a/new")], [folder("a"), file("a/old"), folder("z"), file("z/f")])

    assert small(found) == ["a", "a/new", "-a/old", "-z"]
    assert sorted(found.removed) == ["a/old", "z"]


@pytest.mark.parametrize(
    "changed",
    [
        file("f", "other"),
        file("f", mode=0o755),
        file("f", uid=1),
        file("f", gid=1),
        file("f", mtime=7),
        file("f", xattrs=(("security.capability", b"x"),)),
    ],
)
def test_each_thing_that_a_step_can_see_makes_a_file_another(changed):
    assert small(told([changed], [file("f")])) == ["f"]


def test_a_file_whose_digest_nobody_knows_is_another():
    unknown = file("f").replace(digest=None)

    assert small(told([unknown], [file("f")])) == ["f"]
    assert small(told([file("f")], [unknown])) == ["f"]
    assert small(told([unknown], [unknown.replace()])) == ["f"]


def test_links_and_devices_are_compared_by_what_they_are():
    old = [device("c"), link("l", "a")]

    assert told([device("c"), link("l", "a")], old).is_nothing
    assert small(told([device("c", CHAR, (1, 5)), link("l", "b")], old)) == ["c", "l"]


def test_rows_that_are_the_same_are_the_earlier_ones():
    earlier = [folder("d"), file("d/f")]
    found = told([folder("d"), file("d/f"), file("d/g")], earlier)

    assert found.rows[0] is earlier[0]
    assert found.rows[1] is earlier[1]
    assert found.changed == {"d/g"}


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (folder("p"), file("p")),
        (file("p"), folder("p")),
        (link("p", "x"), file("p")),
        (file("p"), device("p")),
    ],
)
def test_what_became_another_kind_of_thing_is_no_case(now, before):
    assert compare([now], [before]) is None


def test_layers_that_remove_something_are_no_case():
    assert compare([Entry("f", WHITEOUT)], [file("g")]) is None
    assert compare([file("g")], [Entry("f", WHITEOUT), file("g")]) is None


def test_a_time_that_means_now_does_not_count():
    old = [folder("d", mtime=5), file("d/f", mtime=5)]
    new = [folder("d", mtime=NOW), file("d/f", mtime=NOW)]

    assert told(new, old, now=NOW).is_nothing
    assert small(told(new, old)) == ["d", "d/f"]
    assert small(told([folder("d", mtime=5), file("d/f", "x", mtime=6)], old, now=NOW)) == ["d", "d/f"]


def test_all_names_of_a_file_lie_in_one_folder():
    group = [file("a"), file("b", hardlink="a"), file("c", hardlink="a")]

    assert told(group, [entry.replace() for entry in group]).is_nothing
    assert small(told(group[:2], group)) == ["a", "b", "-c"]
    assert small(told(group, group[:2])) == ["a", "b", "c"]
    assert small(told([*group[:2], file("c")], group)) == ["a", "b", "c"]
    assert small(told([file("a", "new"), *group[1:]], group)) == ["a", "b", "c"]


def test_another_first_name_makes_all_names_others():
    before = [file("a"), file("b", hardlink="a"), file("c", hardlink="a")]

    assert small(told([file("b"), file("c", hardlink="b")], before)) == ["-a", "b", "c"]


def test_a_small_folder_is_worth_it_where_it_spares_most_of_the_work():
    changed = [*MANY[:-1], file("d/099", "new")]

    assert told(changed, MANY).is_worth_it
    assert not told([folder("d"), file("d/000", "new")], MANY[:2]).is_worth_it
    assert not told([folder("d"), *(file(f"d/{n:03}", "new") for n in range(100))], MANY).is_worth_it


def test_a_large_file_weighs_as_much_as_many():
    large = Entry("d/large", FILE, 0o644, size=1 << 30, digest="sha256:" + "0" * 64)

    assert not told([*MANY, large.replace(digest="sha256:" + "1" * 64)], [*MANY, large]).is_worth_it
    assert told([*MANY[:-1], file("d/099", "new"), large], [*MANY, large]).is_worth_it


def test_a_removal_fits_only_where_nothing_lies_below():
    assert fits_over(["a/f"], tree("a/g"))
    assert not fits_over(["a/g"], tree("a/g"))
    assert not fits_over(["a"], tree("a/g"))

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.snapshots.snapshot import FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry, LayerId, parent_of
from builder.snapshots.tree import TooManyLinks, Tree, resolve


def tree(*layers):
    result = Tree()
    for number, entries in enumerate(layers):
        result = result.plus(LayerId(str(number)), entries)
    return result


def paths(tree):
    return sorted(tree.nodes)


D = [Entry("d", FOLDER), Entry("d/a", FILE), Entry("d/sub", FOLDER), Entry("d/sub/b", FILE)]


def test_an_entry_lies_in_the_uppermost_layer_that_has_it():
    both = tree(D, [Entry("d", FOLDER), Entry("d/a", FILE, 0o600)])

    assert both.nodes["d/a"].layer == "1"
    assert both.nodes["d/sub/b"].layer == "0"
    assert both.get("d/a").mode == 0o600


def test_a_whiteout_takes_a_folder_with_all_that_it_holds():
    assert paths(tree(D, [Entry("d", WHITEOUT)])) == []


def test_a_whiteout_in_a_layer_does_not_speak_of_that_layer():
    assert paths(tree(D, [Entry("d", FOLDER), Entry("d", WHITEOUT), Entry("d/new", FILE)])) == ["d", "d/new"]


def test_an_opaque_folder_keeps_only_what_its_layer_gives():
    assert paths(tree(D, [Entry("d", OPAQUE), Entry("d", FOLDER), Entry("d/x", FILE)])) == ["d", "d/x"]


@pytest.mark.parametrize("kind", [FILE, SYMLINK])
def test_what_is_no_folder_takes_the_place_of_a_folder(kind):
    assert paths(tree(D, [Entry("d", kind)])) == ["d"]


def test_an_implied_folder_leaves_one_that_is_there_as_it_is():
    above = tree(D, [Entry("d", FOLDER, 0o700, implied=True), Entry("d/x", FILE)])

    assert above.nodes["d"].layer == "0"
    assert tree([Entry("d", FOLDER, 0o755, implied=True)]).nodes["d"].layer == "0"


def test_a_tree_stays_as_it_was_when_a_layer_goes_onto_it():
    below = tree(D)
    before, children = paths(below), below.children("d")

    below.plus(LayerId("x"), [Entry("d/sub", WHITEOUT), Entry("d/new", FILE)])

    assert paths(below) == before
    assert below.children("d") == children


def test_links_are_followed_inside_the_tree():
    links = tree(
        [
            Entry("run", FOLDER), Entry("var", FOLDER), Entry("var/run", SYMLINK, link="/run"),
            Entry("up", SYMLINK, link="../../../run"), Entry("chain", SYMLINK, link="var/run/"),
            Entry("loop", SYMLINK, link="loop"),
        ]
    )  # fmt: skip

    assert links.resolve("/var/run/x") == "run/x"
    assert links.resolve("up") == "run"
    assert links.resolve("up", last=False) == "up"
    assert links.resolve("chain/../var") == "var"
    assert links.resolve("../..") == "."
    with pytest.raises(TooManyLinks):
        links.resolve("loop/x")


def test_a_deep_path_is_resolved_by_few_looks():
    folder = "/".join(["d"] * 500)
    deep = tree([Entry("/".join(["d"] * depth), FOLDER) for depth in range(1, 501)])
    deep = deep.plus(LayerId("links"), [Entry(f"{folder}/link", SYMLINK, link="../../x")])
    looked = []

    def get(path):
        looked.append(path)
        return deep.get(path)

    assert resolve(f"/{folder}/new", get) == f"{folder}/new"
    assert len(looked) == 2
    assert deep.resolve(f"{folder}/link") == f"{folder[:-4]}/x"
    assert deep.resolve(f"{folder}/link", last=False) == f"{folder}/link"
    assert deep.resolve(f"{folder}/..") == folder[:-2]
    assert deep.resolve(f"{folder}/./") == folder


names = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
kinds = st.sampled_from([FILE, FOLDER, FOLDER, WHITEOUT, OPAQUE])


@st.composite
def a_layer(draw):
    """Entries of one layer: each path once (and perhaps gone before), parents there as folders."""
    found = {}
    for path, kind in draw(st.lists(st.tuples(names, kinds), max_size=6)):
        folder = path
        while (folder := parent_of(folder)) != ".":
            found.setdefault(folder, FOLDER)
            if found[folder] not in (FOLDER, OPAQUE):
                found[folder] = FOLDER
        if not any(other.startswith(path + "/") for other in found):
            found.setdefault(path, kind)
    return [Entry(path, kind) for path, kind in sorted(found.items())]


@given(st.lists(a_layer(), max_size=5), st.booleans())
def test_what_a_folder_holds_is_always_what_the_paths_say(layers, ask_early):
    result = Tree()
    for number, entries in enumerate(layers):
        result = result.plus(LayerId(str(number)), entries)
        if ask_early:
            result.children_map()

    fresh = Tree(result.nodes)
    for path in [".", *result.nodes]:
        assert result.children(path) == fresh.children(path)


def test_a_walk_gives_folders_before_what_they_hold():
    assert [entry.path for entry in tree(D).walk("d")] == ["d", "d/a", "d/sub", "d/sub/b"]
    assert [entry.path for entry in tree(D).walk("nothing")] == []

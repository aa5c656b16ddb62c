"""One layer that does what several did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.oci.image import squash_history
from builder.oci.spec import History
from builder.snapshots.snapshot import FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry, LayerId
from builder.snapshots.squash import squash
from builder.snapshots.tree import Tree

S = LayerId("squashed")


def stacked(*layers: list[Entry]) -> tuple[Tree, Tree, tuple[LayerId, ...]]:
    """The lowest layer as a tree, all of them as a tree, and the ids of the others."""
    base = Tree().plus(LayerId("0"), layers[0])
    whole, names = base, tuple(LayerId(str(number)) for number in range(1, len(layers)))
    for name, entries in zip(names, layers[1:], strict=True):
        whole = whole.plus(name, entries)
    return base, whole, names


def made(*layers: list[Entry]) -> dict[str, str]:
    entries, _ = squash(*stacked(*layers))
    return {entry.path: entry.kind for entry in entries}


BASE = [
    Entry("d", FOLDER),
    Entry("d/a", FILE),
    Entry("d/sub", FOLDER),
    Entry("d/sub/b", FILE),
    Entry("f", FILE),
]


def test_what_came_and_went_leaves_nothing() -> None:
    assert made(BASE, [Entry("new", FILE)], [Entry("new", WHITEOUT)]) == {}


def test_what_went_from_the_base_is_one_removal() -> None:
    assert made(BASE, [Entry("d", FOLDER)], [Entry("d/sub", WHITEOUT)]) == {"d": FOLDER, "d/sub": WHITEOUT}
    assert made(BASE, [Entry("d", WHITEOUT)], [Entry("x", FILE)]) == {"d": WHITEOUT, "x": FILE}


def test_what_became_another_kind_is_replaced() -> None:
    assert made(BASE, [Entry("d", FILE)], [Entry("f", FOLDER)]) == {"d": FILE, "f": FOLDER}


def test_a_folder_that_was_made_anew_has_nothing_of_the_old() -> None:
    again = [Entry("d", FOLDER, 0o700), Entry("d", OPAQUE), Entry("d/n", FILE)]

    assert made(BASE, [Entry("d", WHITEOUT)], again) == {
        "d": FOLDER, "d/a": WHITEOUT, "d/sub": WHITEOUT, "d/n": FILE,
    }  # fmt: skip


def test_links_to_a_name_that_is_gone_are_links_to_each_other() -> None:
    links = [
        Entry("a", FILE, size=3),
        Entry("b", FILE, size=3, hardlink="a"),
        Entry("c", FILE, size=3, hardlink="a"),
    ]

    entries, sources = squash(*stacked(BASE, links, [Entry("a", WHITEOUT)]))

    assert [(entry.path, entry.hardlink) for entry in entries] == [("b", None), ("c", "b")]
    assert sources["b"][1].path == "a"
    assert sources.keys() == {"b"}


PATHS = ["a", "a/b", "a/b/c", "a/d", "e", "e/f", "g"]
ENTRIES = st.builds(
    Entry,
    st.sampled_from(PATHS),
    st.sampled_from([FILE, FOLDER, SYMLINK, WHITEOUT, OPAQUE]),
    st.integers(0, 0o777),
)


def sane(entries: list[Entry]) -> list[Entry]:
    """As a layer can be: each path once (a folder may be opaque), what has others below it being a folder."""
    kinds: dict[str, Entry] = {}
    for entry in entries:
        kinds[entry.path] = entry
    kept = []
    for path, entry in sorted(kinds.items()):
        above = [kinds[p] for p in PATHS if path.startswith(f"{p}/") and p in kinds]
        if all(each.kind in (FOLDER, OPAQUE) for each in above):
            kept.append(entry)
            if entry.kind == OPAQUE:
                kept.append(Entry(path, FOLDER, entry.mode))
    present = {entry.path for entry in kept}
    parents = {p for p in PATHS for entry in kept if entry.path.startswith(f"{p}/")} - present
    return sorted([*kept, *(Entry(p, FOLDER, 0o755) for p in parents)], key=lambda entry: entry.path)


LAYERS = st.lists(st.lists(ENTRIES, max_size=6).map(sane), min_size=2, max_size=5)


@given(LAYERS)
def test_over_the_base_it_gives_what_all_gave(layers: list[list[Entry]]) -> None:
    base, whole, names = stacked(*layers)

    entries, _ = squash(base, whole, names)

    shown = base.plus(S, entries)
    assert {p: n.entry for p, n in shown.nodes.items()} == {p: n.entry for p, n in whole.nodes.items()}


def test_the_history_of_a_base_fits_its_layers_and_the_rest_made_one() -> None:
    base = [History(created="x", created_by="one"), History(created="x", created_by="env", empty_layer=True)]
    above = [
        History(created_by="RUN"),
        History(created_by="LABEL", empty_layer=True),
        History(created_by="COPY"),
    ]

    found = squash_history([*base, *above, History(comment="added as it was missing")], 2, 2, 2)

    assert [entry.empty_layer for entry in found] == [False, True, False, True, True, True, False]
    assert [entry.created_by for entry in found] == ["one", "env", "", "RUN", "LABEL", "COPY", ""]
    assert found[-1].comment == "squashed: 2 layers above the base are one"

"""What layers add, and which of their bytes nobody sees."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ImageError
from builder.images import contents
from builder.images.contents import read_contents, shown_size
from builder.images.waste import Report, grow, report
from builder.oci import layer as layers
from builder.oci.compressed import Compression
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, WHITEOUT, Entry
from builder.store.root import Store, open_store
from tests.support.archives import Member, add_image, image_of_tars, tar_of
from tests.support.layouts import LayoutMaker

FOLDER = {"type": tarfile.DIRTYPE, "mode": 0o755}


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def file(size: int, **fields: object) -> dict[str, object]:
    return {"data": bytes(size), **fields}


def reported(store: Store, layout: LayoutMaker, *layers: list[Member]) -> Report:
    add_image(store, layout, image_of_tars(layout, [tar_of(*members) for members in layers]), "app")
    return report(read_contents(store, "app"))


def wasted(found: Report) -> list[tuple[str, int, int, int, int, str]]:
    return [(w.path, w.size, w.files, w.layer, w.by, w.how) for w in found.wasted]


def test_nothing_is_wasted_where_nothing_is_hidden(store: Store, layout: LayoutMaker) -> None:
    found = reported(store, layout, [("a", file(10)), ("d", FOLDER), ("d/b", file(20))], [("c", file(5))])

    assert (found.total, found.wasted_bytes, found.efficiency) == (35, 0, 1.0)
    assert [each.size for each in found.layers] == [30, 5]
    assert [[(c.path, c.how, c.size) for c in each.changes] for each in found.layers] == [
        [("a", "added", 10), ("d", "added", 0), ("d/b", "added", 20)],
        [("c", "added", 5)],
    ]


def test_a_file_that_is_replaced_and_one_that_is_removed_are_wasted(
    store: Store, layout: LayoutMaker
) -> None:
    found = reported(
        store,
        layout,
        [("a", file(100)), ("b", file(40))],
        [("a", file(60))],
        [(".wh.a", file(0)), (".wh.b", file(0)), ("c", file(200))],
    )

    assert wasted(found) == [
        ("/a", 100, 1, 1, 2, "changed"),
        ("/a", 60, 1, 2, 3, "removed"),
        ("/b", 40, 1, 1, 3, "removed"),
    ]
    assert (found.total, found.wasted_bytes) == (400, 200)
    assert found.efficiency == 0.5
    assert [each.wasted for each in found.layers] == [140, 60, 0]


def test_a_folder_that_goes_stands_for_all_that_was_in_it(store: Store, layout: LayoutMaker) -> None:
    inside: list[Member] = [("usr", FOLDER), ("usr/doc", FOLDER)]
    inside += [(f"usr/doc/{number}", file(10)) for number in range(5)]
    found = reported(
        store, layout, inside, [("usr/doc/5", file(7))], [("usr/.wh.doc", file(0)), ("usr/keep", file(1))]
    )

    assert wasted(found) == [("/usr/doc", 50, 5, 1, 3, "removed"), ("/usr/doc", 7, 1, 2, 3, "removed")]
    assert [(c.path, c.how, c.hidden) for c in found.layers[2].changes] == [
        ("usr/doc", "removed", 57),
        ("usr/keep", "added", 0),
    ]


def test_what_an_opaque_folder_hides_is_wasted(store: Store, layout: LayoutMaker) -> None:
    found = reported(
        store,
        layout,
        [("d", FOLDER), ("d/old", file(30)), ("d/both", file(4))],
        [("d", FOLDER), ("d/.wh..wh..opq", file(0)), ("d/both", file(2))],
    )

    assert sorted(wasted(found)) == [
        ("/d/both", 4, 1, 1, 2, "changed"),
        ("/d/old", 30, 1, 1, 2, "removed"),
    ]


def test_an_opaque_folder_removes_in_the_folders_that_are_made_anew_in_it(
    store: Store, layout: LayoutMaker
) -> None:
    found = reported(
        store,
        layout,
        [("d", FOLDER), ("d/sub", FOLDER), ("d/sub/old", file(30)), ("d/sub/both", file(4))],
        [("d", FOLDER), ("d/.wh..wh..opq", file(0)), ("d/sub", FOLDER), ("d/sub/both", file(2))],
    )

    assert wasted(found) == [
        ("/d/sub/old", 30, 1, 1, 2, "removed"),
        ("/d/sub/both", 4, 1, 1, 2, "changed"),
    ]
    assert ("d/sub/old", "removed") in [(c.path, c.how) for c in found.layers[1].changes]


def test_a_folder_that_a_file_replaces_is_wasted_whole(store: Store, layout: LayoutMaker) -> None:
    found = reported(store, layout, [("d", FOLDER), ("d/a", file(3)), ("d/b", file(4))], [("d", file(1))])

    assert wasted(found) == [("/d", 7, 2, 1, 2, "changed")]


def test_a_file_with_two_names_is_wasted_with_the_last_of_them(store: Store, layout: LayoutMaker) -> None:
    linked: list[Member] = [("one", file(50)), ("two", {"type": tarfile.LNKTYPE, "linkname": "one"})]
    kept = reported(store, layout, linked, [(".wh.one", file(0))])
    gone = reported(store, layout, linked, [(".wh.one", file(0))], [(".wh.two", file(0))])

    assert (kept.total, kept.wasted_bytes) == (50, 0)
    assert (gone.total, gone.wasted_bytes) == (50, 50)
    assert shown_size(store, "app") == 0


def test_only_a_changed_mode_keeps_the_bytes_twice(store: Store, layout: LayoutMaker) -> None:
    """What `RUN chmod` does to an image, which `COPY --chmod` would not."""
    found = reported(store, layout, [("big", file(1000))], [("big", file(1000, mode=0o755))])

    assert wasted(found) == [("/big", 1000, 1, 1, 2, "changed")]
    assert shown_size(store, "app") == 1000


def test_a_folder_that_is_passed_through_is_no_change(store: Store, layout: LayoutMaker) -> None:
    found = reported(
        store,
        layout,
        [("d", FOLDER), ("d/a", file(1))],
        [("d", FOLDER), ("d/b", file(1))],
        [("d", {**FOLDER, "mode": 0o700})],
    )

    assert [[c.path for c in each.changes] for each in found.layers] == [["d", "d/a"], ["d/b"], ["d"]]


def test_the_tree_of_a_layer_sums_what_is_below(store: Store, layout: LayoutMaker) -> None:
    found = reported(
        store, layout, [("a", FOLDER), ("a/b", FOLDER), ("a/b/c", file(3)), ("a/d", file(4)), ("e", file(5))]
    )

    tree = grow(found.layers[0].changes, 3)

    assert (tree.size, tree.paths) == (12, 5)
    assert {name: below.size for name, below in tree.below.items()} == {"a": 7, "e": 5}
    assert tree.below["a"].below["b"].below["c"].size == 3
    low = grow(found.layers[0].changes, 1)
    assert {n: (b.kind, b.size, b.paths, list(b.below)) for n, b in low.below.items()} == {
        "a": ("d", 7, 4, []),
        "e": ("f", 5, 1, []),
    }


def test_an_image_without_layers_is_all_seen(store: Store, layout: LayoutMaker) -> None:
    found = reported(store, layout)

    assert (found.total, found.efficiency, list(found.layers)) == (0, 1.0, [])


def test_a_layer_that_is_not_what_the_config_says_is_refused(store: Store, layout: LayoutMaker) -> None:
    row = image_of_tars(layout, [tar_of(("a", file(1)))])
    config = layout.manifest(row)["config"]
    false = json.loads(layout.path(config["digest"]).read_text())
    false["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
    lying = layout.document(false, config["mediaType"])
    manifest = layout.manifest(row)
    add_image(store, layout, layout.document({**manifest, "config": lying}, row["mediaType"]), "app")

    with pytest.raises(ImageError, match="is not what its image says"):
        read_contents(store, "app")


def test_a_layer_that_is_not_there_is_told(store: Store, layout: LayoutMaker) -> None:
    row = add_image(store, layout, image_of_tars(layout, [tar_of(("a", file(1)))]), "app")
    store.blobs.remove(layout.manifest(row)["layers"][0]["digest"])

    with pytest.raises(ImageError, match="of app is not in the store"):
        read_contents(store, "app")


def test_a_layer_that_was_built_here_is_not_read_for_its_sizes(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer_store = LayerStore(store.root / "layers", store.blobs)
    made = layer_store.create(
        [Entry("a", FILE, size=10), Entry("gone", WHITEOUT)], lambda _: io.BytesIO(bytes(10)), unpacked=False
    )
    blob = layer_store.blob(made, Compression("none"))
    with store.blobs.open(blob.descriptor.digest) as stream:
        add_image(store, layout, image_of_tars(layout, [stream.read()]), "app")
    assert [layer.diff_id for layer in read_contents(store, "app").layers] == [blob.diff_id]

    monkeypatch.setattr(contents, "scan", None)
    quick = read_contents(store, "app", digests_wanted=False)

    assert [(e.path, e.kind, e.size) for e in quick.layers[0].entries] == [("a", FILE, 10), ("gone", "w", 0)]
    assert shown_size(store, "app") == 10
    Path(layer_store.path(made), "index").write_bytes(b"damaged")
    monkeypatch.undo()
    assert shown_size(store, "app") == 10


def test_a_layer_that_is_listed_often_is_read_once(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_image(store, layout, image_of_tars(layout, [tar_of(("a", file(10)))] * 3), "app")
    read = []

    def scan(*given: Any, **named: Any) -> Any:
        read.append(named["name"])
        return layers.scan(*given, **named)

    monkeypatch.setattr(contents, "scan", scan)
    found = report(read_contents(store, "app"))

    assert len(read) == 1
    assert wasted(found) == [("/a", 10, 1, 1, 2, "changed"), ("/a", 10, 1, 2, 3, "changed")]


@pytest.mark.parametrize(("limit", "message"), [("MAX_ENTRIES", "paths"), ("MAX_LAYERS", "layers")])
def test_what_an_image_lists_is_bounded(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    monkeypatch.setattr(contents, limit, 2)
    add_image(store, layout, image_of_tars(layout, [tar_of(("a", file(1)))] * 3), "app")

    with pytest.raises(ImageError, match=f"has more than 2 {message}"):
        read_contents(store, "app")

"""What differs between two images, each thing told apart."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from builder.digest import Digest
from builder.images.contents import read_contents
from builder.images.difference import Difference, compare
from builder.images.packages import is_database
from builder.store.root import Store, open_store
from tests.support.archives import Member, add_image, image_of_tars, tar_of
from tests.support.layouts import LayoutMaker

FOLDER = {"type": tarfile.DIRTYPE, "mode": 0o755}
CAPABILITY = "SCHILY.xattr.security.capability"
BASE: list[Member] = [("etc", FOLDER), ("etc/a", {"data": b"a"}), ("etc/b", {"data": b"b"})]


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def difference(
    store: Store,
    layout: LayoutMaker,
    one: Sequence[Sequence[Member]],
    other: Sequence[Sequence[Member]],
    *,
    times: bool = True,
    run: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
) -> Difference:
    for name, layers, config in zip(("one", "other"), (one, other), run, strict=True):
        row = image_of_tars(
            layout, [tar_of(*members) for members in layers], steps=["same"] * len(layers), **config
        )
        add_image(store, layout, row, name)
    contents = [read_contents(store, name, keep=is_database) for name in ("one", "other")]
    return compare(contents[0], contents[1], times=times)


def files(found: Difference) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(change.path, change.how, change.what) for change in found.files]


def test_an_image_is_equal_to_itself(store: Store, layout: LayoutMaker) -> None:
    found = difference(store, layout, [BASE], [BASE])

    assert found.is_empty
    assert (files(found), found.config, found.packages, found.shared) == ([], [], [], 1)


def test_paths_are_added_deleted_and_modified(store: Store, layout: LayoutMaker) -> None:
    found = difference(
        store,
        layout,
        [BASE],
        [BASE, [("etc/.wh.a", {}), ("etc/b", {"data": b"other"}), ("new", {"data": b""})]],
    )

    assert files(found) == [
        ("etc/a", "deleted", ()), ("etc/b", "modified", ("content",)), ("new", "added", ()),
    ]  # fmt: skip
    assert not found.is_empty


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({"data": b"x"}, {"data": b"y"}, ("content",)),
        ({"data": b"x"}, {"data": b"x", "mode": 0o600}, ("mode",)),
        ({"data": b"x"}, {"data": b"x", "mode": 0o4644}, ("mode",)),
        ({"data": b"x"}, {"data": b"x", "uid": 1}, ("owner",)),
        ({"data": b"x"}, {"data": b"x", "gid": 1, "mtime": 5}, ("owner", "time")),
        ({"data": b"x"}, {"data": b"x", "mtime": 5}, ("time",)),
        (
            {"data": b"x"},
            {"data": b"z", "mode": 0o600, "uid": 3, "mtime": 9},
            ("content", "mode", "owner", "time"),
        ),
        ({"data": b"x"}, FOLDER, ("kind",)),
        ({"data": b"x"}, {"type": tarfile.SYMTYPE, "linkname": "y"}, ("kind",)),
        ({"type": tarfile.SYMTYPE, "linkname": "x"}, {"type": tarfile.SYMTYPE, "linkname": "y"}, ("link",)),
        (
            {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
            {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
            ("device",),
        ),
        (
            {"data": b"x"},
            {"data": b"x", "pax_headers": {CAPABILITY: "\x01\x00\x00\x02" + "\0" * 16}},
            ("xattrs",),
        ),
    ],
)  # fmt: skip
def test_what_of_a_path_differs_is_told_apart(
    store: Store, layout: LayoutMaker, before: dict[str, Any], after: dict[str, Any], what: tuple[str, ...]
) -> None:
    found = difference(store, layout, [[("path", before)]], [[("path", after)]])

    assert files(found) == [("path", "modified", what)]


def test_times_can_be_left_out(store: Store, layout: LayoutMaker) -> None:
    later = [(name, {**fields, "mtime": 7}) for name, fields in BASE]
    found = difference(store, layout, [BASE], [later], times=False)

    assert files(found) == []
    assert found.shared == 0, "the layers' bytes are others all the same"
    assert found.is_empty


def test_what_a_later_layer_hides_differs_all_the_same_where_times_are_left_out(
    store: Store, layout: LayoutMaker
) -> None:
    other: list[Member] = [BASE[0], BASE[1], ("etc/b", {"data": b"b", "mode": 0o640})]
    later = [(name, {**fields, "mtime": 7}) for name, fields in BASE]

    found = difference(store, layout, [BASE, BASE], [other, later], times=False)

    assert files(found) == []
    assert not found.is_empty


def test_how_layers_are_cut_is_no_difference_of_files(store: Store, layout: LayoutMaker) -> None:
    found = difference(store, layout, [BASE], [BASE[:2], BASE[2:]])

    assert files(found) == []
    assert not found.is_empty
    assert (len(found.layers[0]), len(found.layers[1]), found.shared) == (1, 2, 0)


def test_layers_below_the_first_that_differs_are_shared(store: Store, layout: LayoutMaker) -> None:
    found = difference(
        store,
        layout,
        [BASE, [("x", {"data": b"1"})], [("y", {})]],
        [BASE, [("x", {"data": b"2"})], [("y", {})]],
    )

    assert found.shared == 1


def test_layers_that_two_images_share_are_read_once(store: Store, layout: LayoutMaker) -> None:
    add_image(store, layout, image_of_tars(layout, [tar_of(*BASE)]), "one")
    add_image(store, layout, image_of_tars(layout, [tar_of(*BASE), tar_of(("x", {}))]), "other")
    one = read_contents(store, "one", keep=is_database)
    store.blobs.remove(Digest(one.layers[0].descriptor.digest))

    other = read_contents(store, "other", keep=is_database, like=one)

    assert files(compare(one, other)) == [("x", "added", ())]


def test_fields_of_the_config_are_told_one_by_one(store: Store, layout: LayoutMaker) -> None:
    one = {"Env": ["A=1", "B=2"], "Labels": {"x": "1"}, "Cmd": ["/a"], "User": "me"}
    other = {
        "Env": ["A=1", "B=3", "C=4"],
        "Labels": {"y": "1"},
        "Cmd": ["/b"],
        "ExposedPorts": {"80/tcp": {}},
    }

    found = difference(store, layout, [BASE], [BASE], run=(one, other))

    assert [(c.name, c.before, c.after) for c in found.config] == [
        ("Cmd", ["/a"], ["/b"]),
        ("Env B", "2", "3"),
        ("Env C", None, "4"),
        ("ExposedPorts 80/tcp", None, {}),
        ("Labels x", "1", None),
        ("Labels y", None, "1"),
        ("User", "me", None),
    ]


# ── packages ─────────────────────────────────────────────────────────────────────────────────────────────

DPKG = b"""Package: libc6
Status: install ok installed
Version: %s
Description: GNU C Library
 Package: not this

Package: gone
Status: deinstall ok config-files
Version: 1

Package: curl
Status: install ok installed
Version: 8.5
"""
APK = b"C:Q1x=\nP:musl\nV:1.2.5-r0\n\nC:Q1y=\nP:busybox\nV:1.36-r1\n"
METADATA = b"Metadata-Version: 2.1\nName: requests\nVersion: 2.32\n\nName: of the description\n"


def test_packages_are_compared_by_their_managers(store: Store, layout: LayoutMaker) -> None:
    status = "var/lib/dpkg/status"
    site = "usr/lib/python3/site-packages/requests-2.32.dist-info/METADATA"
    one: list[Member] = [(status, {"data": DPKG % b"2.36"}), ("lib/apk/db/installed", {"data": APK})]
    other: list[Member] = [(status, {"data": DPKG % b"2.37"}), (site, {"data": METADATA})]

    found = difference(store, layout, [one], [other])

    assert [(kind, c.name, c.before, c.after) for kind, c in found.packages] == [
        ("apk", "busybox", "1.36-r1", None),
        ("apk", "musl", "1.2.5-r0", None),
        ("dpkg", "libc6", "2.36", "2.37"),
        ("python", "requests", None, "2.32"),
    ]


def test_a_database_that_a_later_layer_removes_tells_nothing(store: Store, layout: LayoutMaker) -> None:
    apk: list[Member] = [("lib/apk/db/installed", {"data": APK})]
    found = difference(store, layout, [apk], [apk, [("lib/apk/db/.wh.installed", {})]])

    assert [(c.name, c.after) for _, c in found.packages] == [("busybox", None), ("musl", None)]


def test_a_database_behind_a_link_is_found(store: Store, layout: LayoutMaker) -> None:
    """As rpm's is on many systems, and all of /lib where it is a link to usr/lib."""
    linked: list[Member] = [
        ("lib", {"type": tarfile.SYMTYPE, "linkname": "usr/lib"}),
        ("usr/lib/apk/db/installed", {"data": APK}),
    ]

    found = difference(store, layout, [[]], [linked])

    assert [(kind, c.name) for kind, c in found.packages] == [("apk", "busybox"), ("apk", "musl")]


def test_a_package_that_is_there_twice_has_both_versions(store: Store, layout: LayoutMaker) -> None:
    twice: list[Member] = [
        (f"opt/{number}/x.dist-info/METADATA", {"data": b"Name: x\nVersion: %d\n" % number})
        for number in (2, 1)
    ]

    found = difference(store, layout, [[]], [twice])

    assert [(kind, c.name, c.after) for kind, c in found.packages] == [("python", "x", "1, 2")]


def test_what_is_no_database_is_passed_over(store: Store, layout: LayoutMaker) -> None:
    odd: list[Member] = [
        ("var/lib/dpkg/status", {"data": b"\xff\xfe\0\n:\n\n\nPackage: no-version\n"}),
        ("etc/status", {"data": DPKG % b"1"}),
        ("a/node_modules/b/package.json", {"data": b"["}),
        ("bin/program", {"data": b"\x7fELF" + bytes(5000), "mode": 0o755}),
    ]

    assert difference(store, layout, [[]], [odd]).packages == []

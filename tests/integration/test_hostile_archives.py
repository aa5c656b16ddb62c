"""Layers, layouts and archives that mean harm, driven by the command: refused or contained, and named."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.oci import spec
from builder.oci import tar_header as th
from tests.support.hostilelayers import (
    archive_of,
    docker_archive,
    escaping,
    header,
    layer_in_layout,
    many,
    member,
    pax,
    sparse_bomb,
    tar_of,
    xz_of_much_memory,
    zstd_bomb,
)
from tests.support.layouts import LayoutMaker, digest_of, make_tar
from tests.support.machine import needs_root
from tests.support.surroundings import Ended, Surroundings, surroundings

pytestmark = [pytest.mark.root, needs_root()]

CAPABILITY = "SCHILY.xattr.security.capability"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """One store for all of them, so that each finds it usable after the one before."""
    with surroundings(tmp_path_factory.mktemp("hostile"), clock=0) as place:
        yield place


def build(place: Surroundings, layout: Path, step: str) -> tuple[str, ...]:
    """The words of a build that needs the base's layers: unpacked for a RUN, else only read."""
    (place.folder / "work/context/Dockerfile").write_text(f"FROM base\n{step}\n")
    return ("build", "--progress=plain", "--build-context", f"base=oci-layout://{layout}:1", "context")


def refused(place: Surroundings, layout: Path, message: str, step: str = 'RUN ["/none"]') -> Ended:
    ended = place.attack(*build(place, layout, step))
    assert re.search(message, ended.message), ended.message
    return ended


NOT_RUN = "none"  # the message of a build whose base was taken: its one step has no program to run


LAYERS: dict[str, tuple[tuple[str, ...], bytes, str]] = {
    # row ids, tar, message
    "a hard link out of the root": (
        ("CVE-2026-50163", "CVE-2007-4559"),
        tar_of(member("a", th.HARDLINK, "../../../../etc/passwd")),
        "'a' to 'etc/passwd', which it does not hold",
    ),
    "a hard link through a link": (
        ("CVE-2026-50163",),
        tar_of(member("out", th.SYMLINK, "/etc"), member("a", th.HARDLINK, "out/passwd")),
        "'a' to 'etc/passwd', which it does not hold",
    ),
    "a removal of the folder above": (
        ("containerd whiteout check",),
        tar_of(member("d/.wh...")),
        r"removes 'd/\.wh\.\.\.'",
    ),
    "a removal of the root": (("containerd whiteout check",), tar_of(member(".wh..")), r"removes '\.wh\.\.'"),
    "a link in the place of the root": (
        ("CVE-2021-29136",),
        tar_of(member("/.", th.SYMLINK, "/etc")),
        "replaces the root",
    ),
    "a device that means a removal": (
        ("overlay xattrs",),
        tar_of(member("etc/passwd", th.CHAR)),
        "device 0:0 at 'etc/passwd'",
    ),
    "links that go round": (
        ("CVE-2025-4330",),
        tar_of(member("a", th.SYMLINK, "b"), member("b", th.SYMLINK, "a"), member("a/x")),
        "link without end",
    ),
    "a file that holds files": (
        ("duplicate entries",),
        tar_of(member("f", content=b"x"), member("f/x")),
        "'f' is no folder",
    ),
    "a hard link to itself": (
        ("duplicate entries",),
        tar_of(member("f"), member("f", th.HARDLINK, "f")),
        "hard link 'f'",
    ),
    "a size below nothing": (
        ("CVE-2025-8194",),
        tar_of(pax({"size": b"-512"}) + member("f")),
        "size -512 of 'f'",
    ),
    "a size beyond all": (("PAX overrides",), tar_of(pax({"size": b"9" * 19}) + member("f")), "cut off|size"),
    "a name with a NUL": (
        ("PAX overrides", "Python traps"),
        tar_of(pax({"path": b"a\0b"}) + member("f")),
        "name 'a",
    ),
    "an owner that means none": (
        ("PAX overrides",),
        tar_of(pax({"uid": b"4294967295"}) + member("f")),
        "of 'f'",
    ),
    "a sparse link": (
        ("PAX overrides",),
        tar_of(pax({"GNU.sparse.major": b"1", "GNU.sparse.realsize": b"9"}) + member("l", th.SYMLINK, "x")),
        "sparse map for 'l'",
    ),
    "capabilities that are none": (
        ("bombs",),
        tar_of(pax({CAPABILITY: b"x" * 4096}) + member("bin/su")),
        "capabilities at 'bin/su'",
    ),
    "a header of 8 GiB": (("gh-151498",), tar_of(header("x", th.PAX, (8 << 30) - 1)), "extended header of"),
    "a tar that is cut off": (("truncation",), member("f", content=bytes(4096))[:3000], "cut off"),
    "a tar without its file": (("truncation",), pax({"path": b"f"}), "after an extended header"),
    "no tar": (("truncation",), b"no tar at all " * 100, "the archive is damaged"),
}


@pytest.mark.hostile(
    "CVE-2007-4559",
    "CVE-2026-50163",
    "containerd whiteout check",
    "CVE-2021-29136",
    "overlay xattrs",
    "CVE-2025-4330",
    "duplicate entries",
    "CVE-2025-8194",
    "PAX overrides",
    "gh-151498",
    "truncation",
)
@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_that_means_harm_is_refused_and_its_entry_named(
    place: Surroundings, tmp_path: Path, case: str
) -> None:
    _, tar, message = LAYERS[case]
    layout = layer_in_layout(tmp_path / "layout", gzip.compress(tar, mtime=0), digest_of(tar))

    refused(place, layout, message)


@pytest.mark.hostile("CVE-2007-4559", "CVE-2025-4517", "CVE-2024-12718", "CVE-2026-28406")
def test_a_layer_that_tries_every_way_out_stays_inside(place: Surroundings, tmp_path: Path) -> None:
    tar = escaping(place.folder / "canary")
    layout = layer_in_layout(tmp_path / "layout", gzip.compress(tar, mtime=0), digest_of(tar))

    refused(place, layout, NOT_RUN)


def bombs() -> dict[str, tuple[Callable[[], tuple[bytes, str]], str]]:
    """Case -> (what makes blob and media type, message)."""
    huge = {"SCHILY.xattr.user.x": b"x" * 900_000}
    plain, zstd = spec.OCI_LAYER_GZIP, spec.OCI_LAYER_ZSTD
    return {
        "zstd": (
            lambda: (zstd_bomb(5 << 30, header("zeros", size=(4 << 30) - 1024)), zstd),
            "expands to more",
        ),
        "sparse": (lambda: (gzip.compress(sparse_bomb(1 << 50)), plain), "sparse files are too large at"),
        "capabilities": (
            lambda: (many(pax({CAPABILITY: b"x" * 900_000}) + member(f"f{n}") for n in range(2)), plain),
            "capabilities at 'f0'",
        ),
        "pax": (lambda: (gzip.compress(pax(huge) * 80), plain), "extended headers are too large"),
        "paths": (lambda: (many(member(f"{n}") for n in range(140_000)), plain), "more paths, at"),
        "one path": (lambda: (gzip.compress(member("same") * 140_000, 1), plain), "more paths, at 'same'"),
        "depth": (
            lambda: (
                many(pax({"path": b"%d/" % n + b"d/" * 2000 + b"f"}) + member("f") for n in range(100)),
                plain,
            ),
            "more paths, at",
        ),
    }


@pytest.mark.hostile("CVE-2025-61728", "CVE-2025-58183", "gh-151498", "bombs")
@pytest.mark.parametrize("case", bombs())
def test_a_bomb_does_not_go_off(place: Surroundings, tmp_path: Path, case: str) -> None:
    make, message = bombs()[case]
    blob, media_type = make()
    layout = layer_in_layout(tmp_path / "layout", blob, digest_of(case.encode()), media_type)

    refused(place, layout, message, "WORKDIR /w")


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────────────


def harm_index(layout: LayoutMaker, row: dict[str, Any]) -> None:
    (layout.folder / "index.json").unlink()
    (layout.folder / "index.json").symlink_to("/etc/passwd")


def link_blob(layout: LayoutMaker, row: dict[str, Any]) -> None:
    """The very bytes, but from outside: whoever can say what a file of the machine is, could have it."""
    path = layout.path(layout.manifest(row)["layers"][0]["digest"])
    outside = layout.folder.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def link_blobs(layout: LayoutMaker, row: dict[str, Any]) -> None:
    layout.blobs.rename(layout.folder.parent / "blobs")
    layout.blobs.symlink_to(layout.folder.parent / "blobs")


def endless_blob(layout: LayoutMaker, row: dict[str, Any]) -> None:
    os.truncate(layout.path(layout.manifest(row)["layers"][0]["digest"]), 1 << 43)


def device_for_blob(layout: LayoutMaker, row: dict[str, Any]) -> None:
    path = layout.path(layout.manifest(row)["config"]["digest"])
    path.unlink()
    path.symlink_to("/dev/zero")


def fifo_for_index(layout: LayoutMaker, row: dict[str, Any]) -> None:
    (layout.folder / "index.json").unlink()
    os.mkfifo(layout.folder / "index.json")


def digest_is_path(layout: LayoutMaker, row: dict[str, Any]) -> None:
    layout.entries[0]["digest"] = "sha256:../../../../../../etc/passwd"
    layout.save()


LAYOUTS = {
    "an index elsewhere": (harm_index, "a link that leads out of the layout"),
    "a blob elsewhere": (link_blob, "a link that leads out of the layout"),
    "blobs elsewhere": (link_blobs, "a link that leads out of the layout"),
    "a blob without end": (endless_blob, "is damaged"),
    "a device for a blob": (device_for_blob, "link that leads out|no regular file"),
    "a fifo for the index": (fifo_for_index, "no regular file"),
    "a digest that is a path": (digest_is_path, "no sha256 digest"),
}


@pytest.mark.hostile("CVE-2014-9356", "CVE-2024-3727", "CVE-2023-25153", "layouts")
@pytest.mark.parametrize("case", LAYOUTS)
def test_a_layout_that_means_harm_is_refused(place: Surroundings, tmp_path: Path, case: str) -> None:
    harm, message = LAYOUTS[case]
    layout = LayoutMaker(tmp_path / "layout")
    row = layout.image([{"f": case.encode()}], tag="1")
    harm(layout, row)

    refused(place, layout.folder, message)


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────

LAYER = make_tar({"etc/hello": b"hello\n"})
MANIFEST = {"Config": "c.json", "Layers": ["layer.tar"]}


def listed(**image: Any) -> bytes:
    return json.dumps([{**MANIFEST, **image}]).encode()


def oci_archive(tmp_path: Path) -> bytes:
    layout = LayoutMaker(tmp_path / "layout")
    layout.image([{"f": b"x"}], tag="app:1")
    digest_is_path(layout, {})
    return archive_of(layout.folder)


ARCHIVES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "a config elsewhere": (lambda _: docker_archive(LAYER, Config="../../../../etc/passwd"), "lacks ../../"),
    "a layer elsewhere": (lambda _: docker_archive(LAYER, Layers=["/etc/passwd"]), "lacks /etc/passwd"),
    "a layer that is a link out": (
        lambda _: tar_of(
            member("layer.tar", th.SYMLINK, "/etc/passwd"), member("manifest.json", content=listed())
        ),
        "lacks c.json|lacks layer.tar",
    ),
    "links that go round": (
        lambda _: tar_of(member("manifest.json", th.SYMLINK, "a"), member("a", th.SYMLINK, "manifest.json")),
        "round in a circle",
    ),
    "a name that is a path": (lambda _: docker_archive(LAYER, RepoTags=["../../etc:1"]), "of the name"),
    "a name that is an option": (lambda _: docker_archive(LAYER, RepoTags=["--root=/"]), "of the name"),
    "a tag that is a path": (lambda _: docker_archive(LAYER, RepoTags=["app:../x"]), "of the name"),
    "a digest that is a path": (oci_archive, "no sha256 digest"),
    "a layer that is another": (lambda _: docker_archive(LAYER, Layers=["c.json"]), "damaged"),
    "a list without end": (
        lambda _: tar_of(member("manifest.json", content=b"[" * 900_000)),
        "manifest.json of .* is not valid",
    ),
    "a size of 8 GiB": (lambda _: header("manifest.json", size=(8 << 30) - 1) + b"[]", "cut off"),
    "an archive that is cut off": (lambda _: docker_archive(LAYER)[:2000], "cut off"),
    "gzip that is cut off": (lambda _: gzip.compress(docker_archive(LAYER))[:300], "cut off"),
    "a sparse bomb": (lambda _: sparse_bomb(1 << 50), "sparse files are too large at"),
    "a small zstd bomb": (lambda _: zstd_bomb(1 << 30, header("a", size=1000)), "no image archive"),
    "an xz bomb": (lambda _: xz_of_much_memory(docker_archive(LAYER)), "not valid xz"),
    "names without end": (
        lambda _: many(
            pax({"path": b"%06d/" % n + (b"n" * 200 + b"/") * 18 + b"f"}) + member("f") for n in range(10_000)
        ),
        "more paths|has more than|extended headers",
    ),
    "layers without end": (
        lambda _: docker_archive(LAYER, Layers=["layer.tar"] * 100_000),
        "layers, and its config",
    ),
}


@pytest.mark.hostile("CVE-2014-9358", "CVE-2023-25153", "CVE-2025-61728", "truncation", "bombs")
@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_means_harm_is_refused(place: Surroundings, tmp_path: Path, case: str) -> None:
    make, message = ARCHIVES[case]
    (tmp_path / "archive").write_bytes(make(tmp_path))

    ended = place.attack("load", "-i", tmp_path / "archive")

    assert re.search(message, ended.message), ended.message


def test_the_store_is_usable_after_all_of_it(place: Surroundings, tmp_path: Path) -> None:
    layout = LayoutMaker(tmp_path / "layout")
    layout.image([{"f": b"good"}], tag="1")
    (place.folder / "work/context/Dockerfile").write_text("FROM base\nWORKDIR /w\n")
    context = f"base=oci-layout://{layout.folder}:1"

    built = place.run("build", "--build-context", context, "-t", "good:1", "context")
    checked = place.run("fsck")

    assert built.status == 0, built.err
    assert checked.status == 0, checked.out + checked.err

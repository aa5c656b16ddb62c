"""An `--output` is understood, or refused by the attribute at fault."""

from __future__ import annotations

import pytest

from builder.errors import UsageError
from builder.exporters import parse
from builder.exporters.annotation import Annotation
from builder.oci.compressed import Compression
from builder.request import OutputSpec


def spec(kind: str, dest: str | None = None, **attrs: str) -> OutputSpec:
    return OutputSpec(
        type=kind, dest=dest, attrs={key.replace("_", "-"): value for key, value in attrs.items()}
    )


def test_names_come_from_the_tags_or_from_the_output() -> None:
    assert [n.familiar() for n in parse(spec("oci", "x"), ["a", "b:1", "a:latest"]).names] == [
        "a:latest",
        "b:1",
    ]
    assert [n.familiar() for n in parse(spec("oci", "x", name="c,d:2"), ["a"]).names] == ["c:latest", "d:2"]
    assert parse(spec("oci", "x")).names == ()


def test_attributes_are_taken_in() -> None:
    export = parse(
        spec("oci", "x", compression="zstd", compression_level="3", force_compression="true",
             rewrite_timestamp="1", oci_mediatypes="true", tar="false", **{"annotation.a.b": "c"})
    )  # fmt: skip

    assert export.compression == Compression("zstd", 3)
    assert (export.force_compression, export.rewrite_timestamp, export.folder) == (True, True, True)
    assert export.annotations == (Annotation("manifest", "", "a.b", "c"),)
    assert parse(spec("oci", "x", compression="uncompressed")).compression.kind == "none"


@pytest.mark.parametrize(
    ("output", "dest", "kind"),
    [
        (spec("oci"), "-", "oci"),
        (spec("tar"), "-", "tar"),
        (spec("docker"), None, "image"),
        (spec("docker", "x.tar"), "x.tar", "docker"),
        (spec("image"), None, "image"),
        (spec("local", "dir"), "dir", "local"),
    ],
)
def test_each_type_has_its_place(output: OutputSpec, dest: str | None, kind: str) -> None:
    export = parse(output)

    assert (export.dest, export.kind) == (dest, kind)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (spec("zip"), "'zip' is not known"),
        (spec("oci", nmae="x"), "oci has no attribute 'nmae'"),
        (spec("local", "d", compression="gzip"), "local has no attribute 'compression'"),
        (spec("tar", **{"annotation.x": "y"}), "tar has no attribute 'annotation.x'"),
        (spec("oci", **{"annotation-idx.x": "y"}), "no type 'idx'"),
        (spec("oci", **{"annotation-index[amd64.x": "y"}), "not in square brackets"),
        (spec("oci", **{"annotation-index[linux/what/x/y/z].x": "y"}), "linux/what/x/y/z"),
        (spec("oci", annotationx="y"), "no attribute 'annotationx'"),
        (spec("oci", dangling_name_prefix="x"), "no attribute 'dangling-name-prefix'"),
        (spec("image", dangling_name_prefix="x:1"), "dangling-name-prefix=x:1 has a tag"),
        (spec("local", "d", mode="move"), "mode=move"),
        (spec("tar", mode="delete"), "no attribute 'mode'"),
        (spec("local"), "needs dest="),
        (spec("local", "-"), "needs dest="),
        (spec("oci", tar="false"), "needs dest="),
        (spec("oci", compression="lzma"), "compression=lzma"),
        (spec("oci", compression_level="high"), "compression-level=high"),
        (spec("oci", compression_level="77"), "level 77"),
        (spec("oci", rewrite_timestamp="maybe"), "rewrite-timestamp=maybe"),
        (spec("oci", oci_mediatypes="no"), "oci-mediatypes=no"),
        (spec("oci", oci_mediatypes="false", compression="estargz"), "do not go together"),
        (spec("oci", compression="estargz", compression_level="10"), "level 10 of estargz"),
        (spec("image", push="true"), "needs a name"),
        (spec("oci", name="A B"), "A B"),
        (spec("oci", name="a@sha256:" + "1" * 64), "cannot be given as a name"),
        (spec("image", "x"), "has no dest"),
    ],
)
def test_what_cannot_be_done_is_refused(output: OutputSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(output)

"""Which outputs are pushed, and under which names."""

from __future__ import annotations

import pytest

from builder import exporters
from builder.delivery import wanted
from builder.digest import of_bytes
from builder.errors import UsageError
from builder.exporters import Export
from builder.request import BuildRequest, OutputSpec

NAME = "host.x/team/app:1"


def parse(kind: str, *tags: str, **attrs: str) -> Export:
    return exporters.parse(
        OutputSpec(type=kind, attrs={k.replace("_", "-"): v for k, v in attrs.items()}), tags
    )


def asked(*specs: OutputSpec, load: bool = False, push: bool = True) -> list[tuple[str, bool]]:
    request = BuildRequest(context=".", root="/x", tags=(NAME,), outputs=specs, load=load, push=push)
    return [(export.kind, export.push) for export in wanted(request)]


@pytest.mark.parametrize(
    ("kind", "attrs", "place", "pushed"),
    [
        ("registry", {}, "registry", True),
        ("image", {"push": "true"}, "image", True),
        ("image", {"push": "true", "store": "false"}, "registry", True),
        ("image", {"push": "false"}, "image", False),
        ("image", {}, "image", False),
    ],
)
def test_where_an_image_goes(kind: str, attrs: dict[str, str], place: str, pushed: bool) -> None:
    export = parse(kind, NAME, **attrs)

    assert (export.kind, export.push) == (place, pushed)


def test_names_and_ways_of_a_push() -> None:
    export = parse("image", "unused", name=f"{NAME},host.y/app", push="true", **{"registry.insecure": "true"})

    assert [str(name) for name in export.names] == [NAME, "host.y/app:latest"]
    assert (export.insecure, export.push_by_digest) == (True, False)


def test_a_switch_that_changes_nothing_is_read_all_the_same() -> None:
    assert parse("image", NAME, unpack="false").kind == "image"
    with pytest.raises(UsageError, match="unpack=maybe is neither true nor false"):
        parse("image", NAME, unpack="maybe")


def test_what_has_no_name_cannot_be_pushed() -> None:
    with pytest.raises(UsageError, match="needs a name"):
        parse("registry")
    with pytest.raises(UsageError, match="needs a name"):
        parse("image", push="true")


def test_what_is_pushed_by_digest_has_no_tag() -> None:
    export, digest = parse("image", "host.x/app", push="true", push_by_digest="true"), of_bytes(b"")
    assert export.push_by_digest
    assert export.told_names(digest) == ("host.x/app",)
    assert parse("image", "app").told_names(digest) == ("docker.io/library/app:latest",)
    with pytest.raises(UsageError, match="has a tag"):
        parse("image", NAME, push="true", push_by_digest="true")


def test_a_push_to_nowhere_is_a_contradiction() -> None:
    with pytest.raises(UsageError, match="registry is pushed"):
        parse("registry", NAME, push="false")


def test_the_flag_pushes_images_and_makes_one_where_there_is_none() -> None:
    archive = OutputSpec(type="oci", dest="x.tar")

    assert asked() == [("registry", True)]
    assert asked(archive) == [("oci", False), ("registry", True)]
    assert asked(OutputSpec(type="image"), archive) == [("image", True), ("oci", False)]
    assert asked(load=True) == [("image", False), ("registry", True)]
    assert asked(push=False) == [("image", False)]


def test_a_push_is_no_other_image() -> None:
    assert parse("registry", NAME).way == parse("image").way

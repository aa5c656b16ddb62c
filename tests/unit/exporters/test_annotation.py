"""Annotations as buildx and BuildKit write them."""

from __future__ import annotations

import pytest

from builder.errors import UsageError
from builder.exporters.annotation import Annotation, check, of_type, parse_flag, take


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("a=b", {"annotation.a": "b"}),
        ("org.example.key=v=w", {"annotation.org.example.key": "v=w"}),
        ("a=", {"annotation.a": ""}),
        ("index:a=b", {"annotation-index.a": "b"}),
        (
            "index,manifest-descriptor:a=b",
            {"annotation-index.a": "b", "annotation-manifest-descriptor.a": "b"},
        ),
        ("manifest[linux/arm64]:a:b=c", {"annotation-manifest[linux/arm64].a:b": "c"}),
    ],
)
def test_the_flag_means_attributes(text: str, attributes: dict[str, str]) -> None:
    assert parse_flag([text]) == attributes


@pytest.mark.parametrize(
    "text",
    [
        "a", "=b", "index:=b", "foo:a=b", "index,:a=b", "[linux/amd64]:a=b", "manifest[x:a=b", "a b=c",
        "a=\udcff", "\udcff=b",
    ],
)  # fmt: skip
def test_flags_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--annotation"):
        parse_flag([text])


def test_the_last_of_equal_flags_counts() -> None:
    assert parse_flag(["a=1", "a=2"]) == {"annotation.a": "2"}


def test_attributes_are_taken_out_of_the_others() -> None:
    attrs = {
        "compression": "gzip", "annotation.a.b": "1", "annotation-index-descriptor.c": "2",
        "annotation-manifest[linux/amd64].d": "3", "annotation[linux/arm/v7].e": "4", "annotations": "5",
    }  # fmt: skip

    found = take(attrs)

    assert attrs == {"compression": "gzip", "annotations": "5"}
    assert found == (
        Annotation("index-descriptor", "", "c", "2"),
        Annotation("manifest", "", "a.b", "1"),
        Annotation("manifest", "linux/amd64", "d", "3"),
        Annotation("manifest", "linux/arm/v7", "e", "4"),
    )


def test_a_platform_has_its_own_before_those_of_all() -> None:
    given = take(
        {"annotation.a": "all", "annotation[linux/arm64/v8].a": "arm", "annotation-index[linux/arm64].b": "i"}
    )

    assert of_type(given, "manifest", "linux/arm64") == {"a": "arm"}
    assert of_type(given, "manifest", "linux/amd64") == {"a": "all"}
    assert of_type(given, "index") == {"b": "i"}


@pytest.mark.parametrize(
    ("attribute", "has_index", "docker", "message"),
    [
        ("annotation-index.a", False, False, "has no index"),
        ("annotation-index-descriptor.a", False, False, "has no index"),
        ("annotation[linux/s390x].a", True, False, "linux/s390x, which is not built"),
        ("annotation-manifest-descriptor.a", False, True, "only manifests"),
    ],
)
def test_what_has_no_place_is_refused(attribute: str, has_index: bool, docker: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(take({attribute: "x"}), ["linux/amd64"], has_index=has_index, docker_types=docker)


def test_what_has_a_place_is_taken() -> None:
    given = take(
        {"annotation-index.a": "1", "annotation[linux/amd64].a": "2", "annotation-manifest-descriptor.b": "3"}
    )

    check(given, ["linux/amd64", "linux/arm64"], has_index=True, docker_types=False)
    check(take({"annotation.a": "1"}), ["linux/amd64"], has_index=False, docker_types=True)

"""SPDX documents: whole, the same for the same image, and true about licences."""

from __future__ import annotations

import pytest

from builder.attest.spdx import Evidence, Image, document
from tests.support.packages import found_in

IMAGE = Image("app:1", "sha256:" + "a" * 64, "pkg:docker/app@1", "2024-01-02T03:04:05.678Z")
FILES: dict[str, bytes | str] = {
    "etc/os-release": "ID=alpine\nVERSION_ID=3.19\n",
    "lib/apk/db/installed": "P:musl\nV:1.2\nL:MIT\nm:One <one@x>\nU:https://musl\n\nP:b\nV:2\nL:Own terms\n",
}
EVIDENCE = {"lib/apk/db/installed": Evidence("1" * 40, "2" * 64, "sha256:layer")}


def test_the_image_contains_its_packages_and_each_has_a_locator() -> None:
    told = document(IMAGE, found_in(FILES), EVIDENCE)

    assert (told["spdxVersion"], told["dataLicense"], told["SPDXID"]) == (
        "SPDX-2.3",
        "CC0-1.0",
        "SPDXRef-DOCUMENT",
    )
    assert told["creationInfo"]["created"] == "2024-01-02T03:04:05Z"
    names = {package["SPDXID"]: package["name"] for package in told["packages"]}
    assert len(names) == len(told["packages"])
    contained = [row for row in told["relationships"] if row["relationshipType"] == "CONTAINS"]
    assert [names[row["relatedSpdxElement"]] for row in contained] == ["alpine", "b", "musl"]
    assert {row["spdxElementId"] for row in contained} == {"SPDXRef-Image"}
    musl = next(package for package in told["packages"] if package["name"] == "musl")
    assert musl["externalRefs"] == [
        {
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": "pkg:apk/alpine/musl@1.2?distro=alpine-3.19",
        }
    ]
    assert (musl["supplier"], musl["licenseDeclared"]) == ("Person: One (one@x)", "MIT")


def test_the_files_that_tell_are_told_with_their_layer() -> None:
    told = document(IMAGE, found_in(FILES), EVIDENCE)

    (file,) = told["files"]
    assert (file["fileName"], file["comment"]) == ("./lib/apk/db/installed", "layerID: sha256:layer")
    assert [row["checksumValue"] for row in file["checksums"]] == ["1" * 40, "2" * 64]
    evident = [row for row in told["relationships"] if row["relationshipType"] == "OTHER"]
    assert {row["relatedSpdxElement"] for row in evident} == {file["SPDXID"]}
    assert len(evident) == 2


def test_the_same_image_gives_the_same_document_and_another_another_namespace() -> None:
    one, same = document(IMAGE, found_in(FILES), EVIDENCE), document(IMAGE, found_in(FILES), EVIDENCE)
    other = document(IMAGE, found_in({}), {})

    assert one == same
    assert one["documentNamespace"] != other["documentNamespace"]


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("MIT", "MIT"),
        ("GPL-2.0-only AND (MIT OR BSD-3-Clause)", "GPL-2.0-only AND (MIT OR BSD-3-Clause)"),
        ("GPL-2.0-or-later WITH GCC-exception-3.1", "GPL-2.0-or-later WITH GCC-exception-3.1"),
        ("GPLv2+", "NOASSERTION"),
        ("MIT BSD-3-Clause", "NOASSERTION"),
        ("AND", "NOASSERTION"),
        ("(MIT", "NOASSERTION"),
    ],
)
def test_a_licence_is_declared_where_it_is_a_term_of_spdx(text: str, declared: str) -> None:
    told = document(IMAGE, found_in({"lib/apk/db/installed": f"P:a\nV:1\nL:{text}\n"}), {})

    package = told["packages"][-1]
    assert package["licenseDeclared"] == declared
    assert ("licenseComments" in package) == (declared == "NOASSERTION")

"""Statements and the manifests that carry them, as BuildKit stores them and as OCI's artifacts."""

from __future__ import annotations

import json

from builder.attest.purl import image_url, layout_url, package_url
from builder.attest.statement import Statement, attestation_manifest, referrer
from builder.digest import of_bytes
from builder.oci.finished import Finished
from builder.oci.reference import parse

IMAGE = Finished(
    row={"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": str(of_bytes(b"m")), "size": 1,
         "platform": {"os": "linux", "architecture": "amd64"}},
    manifest_bytes=b"m", config="", config_bytes=b"", layers=(), created="", size=1,
)  # fmt: skip
TOLD = [("https://spdx.dev/Document", b'{"a":1}'), ("https://slsa.dev/provenance/v1", b'{"b":2}')]


def test_an_attestation_manifest_refers_to_its_image_from_the_index() -> None:
    carried = attestation_manifest(IMAGE, TOLD)

    assert carried.manifest.row["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert carried.manifest.row["annotations"] == {
        "vnd.docker.reference.digest": IMAGE.digest,
        "vnd.docker.reference.type": "attestation-manifest",
    }
    assert carried.manifest.is_sound()
    assert {data for _, data in TOLD} == set(carried.blobs.values())
    assert all(of_bytes(data) == digest for digest, data in carried.blobs.items())


def test_it_is_an_artifact_with_a_subject() -> None:
    document = json.loads(attestation_manifest(IMAGE, TOLD).manifest.manifest_bytes)

    assert document["artifactType"] == "application/vnd.docker.attestation.manifest.v1+json"
    assert document["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
        "data": "e30=",
    }
    assert document["subject"] == {key: IMAGE.row[key] for key in ("mediaType", "digest", "size")}
    assert [layer["annotations"] for layer in document["layers"]] == [
        {"in-toto.io/predicate-type": kind} for kind, _ in TOLD
    ]
    assert {layer["mediaType"] for layer in document["layers"]} == {"application/vnd.in-toto+json"}


def test_it_can_have_an_images_config_as_before() -> None:
    manifest = attestation_manifest(IMAGE, TOLD, artifact=False).manifest

    document, config = json.loads(manifest.manifest_bytes), json.loads(manifest.config_bytes)
    assert not {"artifactType", "subject"} & document.keys()
    assert document["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert (config["os"], config["architecture"]) == ("unknown", "unknown")
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in document["layers"]]


def test_a_referrer_has_one_statement_and_says_so_where_it_is_listed() -> None:
    carried = referrer(IMAGE, *TOLD[0])

    document = json.loads(carried.manifest.manifest_bytes)
    assert document["subject"]["digest"] == IMAGE.digest
    assert document["artifactType"] == carried.manifest.row["artifactType"] == "application/vnd.in-toto+json"
    assert len(document["layers"]) == 1
    assert carried.manifest.row["annotations"] == {"in-toto.io/predicate-type": TOLD[0][0]}


def test_a_statement_names_its_subjects() -> None:
    told = Statement("type", {"x": 1}, "file").about([("pkg:docker/app@1", "ab")])

    assert told == {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "type",
        "subject": [{"name": "pkg:docker/app@1", "digest": {"sha256": "ab"}}],
        "predicate": {"x": 1},
    }


def test_images_are_named_by_purls_as_buildkit_names_them() -> None:
    digest = "sha256:" + "a" * 64

    assert image_url(parse("debian:12"), "linux/arm64") == "pkg:docker/debian@12?platform=linux%2Farm64"
    assert image_url(parse("host.x:5000/a/b:1")) == "pkg:docker/host.x%3A5000/a/b@1"
    assert image_url(parse(f"me/app@{digest}")) == f"pkg:docker/me/app?digest={digest}"
    assert layout_url("base", digest) == f"pkg:oci/base?digest={digest}"
    assert package_url("deb", "a b", "1+2~3", qualifiers={"z": "1", "a": ""}) == "pkg:deb/a%20b@1%2B2~3?z=1"

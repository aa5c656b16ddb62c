"""What is pushed beside an image: by the referrers API, or under a tag with what is there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest

from builder.digest import Digest, of_bytes
from builder.oci import spec
from builder.oci.beside import SIGNATURES, subject_of, tag_of
from builder.oci.parcel import Parcel, pack
from builder.oci.reference import Reference
from builder.oci.referring import Referring, merge_indexes, merge_signatures
from builder.oci.transport import Transport

SUBJECT = Digest("sha256:" + "a" * 64)
WHERE = Reference("host.x", "me/app", tag_of(SUBJECT), None)
SIGNED = Reference("host.x", "me/app", tag_of(SUBJECT, SIGNATURES), None)


class Registry:
    """A registry of one repository: answers by (method, path)."""

    def __init__(self, tags: dict[str, bytes] | None = None, *, api: bool = False) -> None:
        self.tags = tags or {}
        self.api = api

    @asynccontextmanager
    async def open(
        self, _registry: str, method: str, path: str, *_: object, **__: object
    ) -> AsyncIterator[httpx.Response]:
        status, data = 404, b""
        if "/referrers/" in path:
            status = 200 if self.api else 404
        elif (found := self.tags.get(path.rpartition("/")[2])) is not None:
            status, data = 200, found
        headers = {"content-type": spec.OCI_INDEX, "docker-content-digest": of_bytes(data)}
        request = httpx.Request(method, f"http://host.x/{path}")
        yield httpx.Response(status, headers=headers, stream=httpx.ByteStream(data), request=request)


def manifest(*texts: str, **more: Any) -> bytes:
    layers = [
        {"mediaType": "t", "digest": of_bytes(text.encode()), "size": 1, "annotations": {"s": text}}
        for text in texts
    ]
    config = {"mediaType": spec.OCI_CONFIG, "digest": of_bytes(b"{}"), "size": 2}
    told = {"schemaVersion": 2, "mediaType": spec.OCI_MANIFEST, "config": config, "layers": layers}
    return json.dumps({**told, **more}).encode()


def index(*manifests: bytes) -> bytes:
    rows = [
        {"mediaType": spec.OCI_MANIFEST, "digest": of_bytes(data), "size": len(data), "artifactType": "a"}
        for data in manifests
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": spec.OCI_INDEX, "manifests": rows}).encode()


def parcel_of(root: bytes, *others: bytes) -> Parcel:
    documents = {of_bytes(data): data for data in (root, *others)}
    kind = json.loads(root)["mediaType"]
    return pack({"mediaType": kind, "digest": of_bytes(root), "size": len(root)}, documents.__getitem__)


async def planned(registry: Registry, where: Reference, parcel: Parcel) -> list[tuple[str, Parcel]]:
    found = await Referring(cast(Transport, registry)).parcels(where, parcel)
    return [(name.target, each) for name, each, _ in found]


async def test_a_registry_with_the_api_gets_the_artifacts_alone() -> None:
    one, other = manifest("one"), manifest("other")

    found = await planned(Registry(api=True), WHERE, parcel_of(index(one, other), one, other))

    assert [target for target, _ in found] == [of_bytes(one), of_bytes(other)]
    assert [parcel.root.data for _, parcel in found] == [one, other]
    assert [len(parcel.levels) for _, parcel in found] == [1, 1]
    assert of_bytes(b"one") in {blob.digest for blob in found[0][1].blobs}
    assert of_bytes(b"other") not in {blob.digest for blob in found[0][1].blobs}


async def test_another_gets_them_in_an_index_under_the_tag() -> None:
    one = manifest("one")

    (found,) = await planned(Registry(), WHERE, parcel_of(index(one), one))

    assert found == (WHERE.tag, parcel_of(index(one), one))


async def test_what_the_tag_lists_already_stays() -> None:
    ours, theirs = manifest("ours"), manifest("theirs")
    registry = Registry({WHERE.tag or "": index(theirs, ours)})

    ((_, parcel),) = await planned(registry, WHERE, parcel_of(index(ours), ours))

    rows = json.loads(parcel.root.data)["manifests"]
    assert [row["digest"] for row in rows] == [of_bytes(theirs), of_bytes(ours)]
    assert rows[0]["artifactType"] == "a"
    assert parcel.root.digest == of_bytes(parcel.root.data)
    assert [document.data for document in parcel.documents()[:-1]] == [ours]


async def test_the_signatures_of_others_stay_and_the_same_is_there_once() -> None:
    registry = Registry({SIGNED.tag or "": manifest("theirs", "ours")})

    ((_, parcel),) = await planned(registry, SIGNED, parcel_of(manifest("ours")))

    document = json.loads(parcel.root.data)
    assert [layer["annotations"] for layer in document["layers"]] == [{"s": "theirs"}, {"s": "ours"}]
    assert document["config"]["digest"] in {blob.digest for blob in parcel.blobs}


@pytest.mark.parametrize("theirs", [b"", b"[]", b"{", b'{"manifests": 1}', manifest("x")])
def test_what_is_there_and_no_index_is_replaced(theirs: bytes) -> None:
    ours = index(manifest("one"))

    assert json.loads(merge_indexes(theirs, ours)) == json.loads(ours)


def test_what_is_there_and_no_signature_is_replaced() -> None:
    data, config = merge_signatures(index(manifest("x")), manifest("ours"))

    assert len(json.loads(data)["layers"]) == 1
    assert json.loads(config)["rootfs"]["diff_ids"] == [of_bytes(b"ours")]


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        (f"app:{tag_of(SUBJECT)}", SUBJECT),
        (f"host.x:5000/a/b:{tag_of(SUBJECT, SIGNATURES)}", SUBJECT),
        (tag_of(SUBJECT), SUBJECT),
        ("app:sha256-aaaa", None),
        (f"app:{tag_of(SUBJECT)}x", None),
        (f"app:{tag_of(SUBJECT)}.zip", None),
        ("app:1", None),
        ("", None),
    ],
)
def test_a_name_tells_whether_it_is_of_what_refers_to_an_image(name: str, subject: Digest | None) -> None:
    assert subject_of(name) == subject

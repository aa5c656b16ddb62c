"""Blobs and manifests sent to a real registry: whole, in chunks, mounted; and read again by another tool."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.oci import reference, upload
from builder.oci.spec import OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from builder.oci.transport import Transport
from builder.oci.upload import Outcome, Uploader
from tests.support.layouts import digest_of, make_tar
from tests.support.machine import needs, run
from tests.support.registry import RunningRegistry, running_registry

pytestmark = [pytest.mark.peers, needs("docker-registry", "skopeo", "openssl")]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


async def send(
    where: str, data: bytes, kind: str = OCI_LAYER, mount_from: str = ""
) -> tuple[Descriptor, Outcome]:
    descriptor = Descriptor(kind, digest_of(data), len(data))
    async with Transport() as transport:
        sent = await Uploader(transport).blob(
            reference.parse(where),
            descriptor,
            lambda: io.BytesIO(data),
            lambda *_: None,
            mount_from=mount_from,
        )
    return descriptor, sent


@pytest.mark.parametrize("size", [0, 1, 100_000])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in chunks"])
async def test_a_blob_arrives(
    registry: RunningRegistry, monkeypatch: pytest.MonkeyPatch, size: int, whole: bool
) -> None:
    if not whole:
        monkeypatch.setattr(upload, "WHOLE", -1)
        monkeypatch.setattr(upload, "CHUNK", 30_000)
    data = os.urandom(size)
    where = f"{registry.host}/sent/{'whole' if whole else 'chunks'}:{size}"

    descriptor, sent = await send(where, data)
    _, again = await send(where, data)

    assert (sent, again) == (Outcome.SENT, Outcome.THERE)
    assert registry.blob(descriptor.digest).read_bytes() == data


async def test_a_blob_of_another_repository_is_mounted(registry: RunningRegistry) -> None:
    data = os.urandom(1000)
    await send(f"{registry.host}/mounted/from:1", data)

    mounted = await send(f"{registry.host}/mounted/to:1", data, mount_from="mounted/from")
    again = await send(f"{registry.host}/mounted/to:1", data)

    assert (mounted[1], again[1]) == (Outcome.MOUNTED, Outcome.THERE)


async def test_bytes_that_are_not_the_blob_are_refused(registry: RunningRegistry) -> None:
    data = b"other bytes"
    wrong = Descriptor(OCI_LAYER, digest_of(b"x"), len(data))
    async with Transport() as transport:
        with pytest.raises(Exception, match="answers 400 to blob"):
            await Uploader(transport).blob(
                reference.parse(f"{registry.host}/wrong:1"), wrong, lambda: io.BytesIO(data), lambda *_: None
            )


@pytest.mark.parametrize("tls", [False, True])
async def test_an_image_that_was_sent_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    with running_registry(tmp_path / "registry", tls=tls) as registry:
        if registry.ca is not None:
            monkeypatch.setenv("SSL_CERT_FILE", str(registry.ca))
        where, tar = f"{registry.host}/app:1", make_tar({"a": b"1"})
        config = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]},
        }
        packed = gzip.compress(tar)
        layer, _ = await send(where, packed, OCI_LAYER_GZIP)
        described, _ = await send(where, json.dumps(config).encode(), OCI_CONFIG)
        rows = [{"mediaType": d.media_type, "digest": d.digest, "size": d.size} for d in (described, layer)]
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": rows[0], "layers": rows[1:]}
        async with Transport() as transport:
            data = json.dumps(manifest).encode()
            await Uploader(transport).manifest(reference.parse(where), data, OCI_MANIFEST)

        run(["skopeo", "copy", "--src-tls-verify=false", f"docker://{where}", f"oci:{tmp_path}/copy:1"])

    assert (tmp_path / "copy/blobs/sha256" / layer.digest.removeprefix("sha256:")).read_bytes() == packed

"""An image is a function of its layers, its config and one time."""

from __future__ import annotations

import json

from builder.digest import of_bytes
from builder.oci import spec
from builder.oci.image import assemble, fit_history, index_of, rfc3339
from builder.oci.spec import Descriptor, History, ImageConfig, LayerBlob, RunConfig

CONFIG = ImageConfig("amd64", "linux", config=RunConfig(cmd=("sh",), labels={"b": "2", "a": "1"}))
WHEN = "2024-01-02T03:04:05Z"


def blob(number: int, media_type: str = spec.OCI_LAYER_GZIP) -> LayerBlob:
    annotations = {"containerd.io/uncompressed": "x"}
    return LayerBlob(
        Descriptor(media_type, of_bytes(b"blob%d" % number), number, annotations), of_bytes(b"%d" % number), 9
    )


def test_manifest_and_config_tell_of_the_same_layers() -> None:
    blobs = [blob(1), blob(2, spec.DOCKER_LAYER_GZIP)]
    history = [History(created="2000-01-01T00:00:00Z", created_by="base"), History(created_by="RUN x")]

    image = assemble(CONFIG, blobs, history, WHEN, {"k": "v"})

    manifest, config = json.loads(image.manifest_bytes), json.loads(image.config_bytes)
    assert manifest["mediaType"] == spec.OCI_MANIFEST
    assert manifest["layers"] == [
        {"mediaType": spec.OCI_LAYER_GZIP, "digest": of_bytes(b"blob1"), "size": 1},
        {"mediaType": spec.OCI_LAYER_GZIP, "digest": of_bytes(b"blob2"), "size": 2},
    ]
    assert manifest["annotations"] == {"k": "v"}
    assert manifest["config"]["digest"] == of_bytes(image.config_bytes)
    assert config["rootfs"] == {"type": "layers", "diff_ids": [of_bytes(b"1"), of_bytes(b"2")]}
    assert [entry["created"] for entry in config["history"]] == ["2000-01-01T00:00:00Z", WHEN]
    assert config["created"] == WHEN
    assert image.descriptor.digest == of_bytes(image.manifest_bytes)
    assert image.row()["platform"] == {"architecture": "amd64", "os": "linux"}
    assert image.size == len(image.manifest_bytes) + len(image.config_bytes) + 3


def test_the_same_is_the_same_to_the_byte() -> None:
    other = ImageConfig("amd64", "linux", config=RunConfig(cmd=("sh",), labels={"a": "1", "b": "2"}))

    one, two = assemble(CONFIG, [blob(1)], [History()], WHEN), assemble(other, [blob(1)], [History()], WHEN)

    assert one.manifest_bytes == two.manifest_bytes


def test_an_index_lists_its_images_with_their_platforms() -> None:
    arm = ImageConfig("arm64", "linux", variant="v8")
    images = [assemble(CONFIG, [blob(1), blob(2)], [], WHEN), assemble(arm, [blob(2)], [], WHEN)]

    index = index_of([image.finished() for image in images], {"k": "v"})

    document = json.loads(index.manifest_bytes)
    assert document["mediaType"] == index.row["mediaType"] == spec.OCI_INDEX
    assert document["manifests"] == [image.row() for image in images]
    assert document["manifests"][1]["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    assert document["annotations"] == {"k": "v"}
    assert index.digest == of_bytes(index.manifest_bytes)
    assert index.size == len(index.manifest_bytes) + sum(image.size for image in images)
    assert index.all_layers() == [blob(1).descriptor.digest, blob(2).descriptor.digest]
    assert next(iter(index.documents().values())) == index.manifest_bytes
    assert {of_bytes(data) for data in index.documents().values()} == set(index.documents())


def test_an_image_without_layers_is_valid() -> None:
    image = assemble(CONFIG, [], [], WHEN)

    assert json.loads(image.manifest_bytes)["layers"] == []
    assert json.loads(image.config_bytes)["rootfs"] == {"type": "layers", "diff_ids": []}
    assert json.loads(image.config_bytes)["created"] == WHEN


def test_history_fits_the_layers() -> None:
    full, empty = History(created_by="a"), History(created_by="e", empty_layer=True)

    assert [e.empty_layer for e in fit_history([full, empty, full], 2)] == [False, True, False]
    assert [e.empty_layer for e in fit_history([full, full], 1)] == [False, True]
    fitted = fit_history([empty], 2)
    assert [e.empty_layer for e in fitted] == [True, False, False]
    assert fitted[1].comment


def test_times_have_as_many_decimals_as_they_need() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1_700_000_000.25) == "2023-11-14T22:13:20.25Z"

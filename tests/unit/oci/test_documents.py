"""Foreign documents are believed only as far as they make one sense."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import ImageError
from builder.oci import documents, spec
from builder.oci.spec import Descriptor, Index, Manifest, Platform

D = "sha256:" + "1b" * 32
CONFIG = {"mediaType": spec.OCI_CONFIG, "digest": D, "size": 2}
LAYER = {"mediaType": spec.OCI_LAYER_GZIP, "digest": D, "size": 3}
MANIFEST = {"schemaVersion": 2, "mediaType": spec.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
INDEX = {"schemaVersion": 2, "manifests": [{"mediaType": spec.OCI_MANIFEST, "digest": D, "size": 1}]}


def parse(document: Any, media_type: str = "") -> Manifest | Index:
    return documents.parse_manifest_or_index(json.dumps(document).encode(), media_type, "app:1")


def test_a_manifest_and_an_index_are_told_apart() -> None:
    assert isinstance(parse(MANIFEST), Manifest)
    assert isinstance(parse(INDEX), Index)
    assert isinstance(parse(INDEX, spec.DOCKER_INDEX), Index)


def test_null_is_as_good_as_absent() -> None:
    manifest = parse({**MANIFEST, "layers": None, "annotations": None})

    assert isinstance(manifest, Manifest)
    assert manifest.layers == ()


@pytest.mark.parametrize(
    ("document", "media_type", "message"),
    [
        ({**MANIFEST, "manifests": []}, "", "both a manifest and an index"),
        ({"schemaVersion": 2}, "", "neither a manifest nor an index"),
        (MANIFEST, spec.OCI_INDEX, "is a manifest with the media type"),
        (INDEX, spec.OCI_MANIFEST, "is an index with the media type"),
        ({**MANIFEST, "mediaType": spec.DOCKER_MANIFEST}, spec.OCI_MANIFEST, "was announced as"),
        ({**MANIFEST, "mediaType": 3}, "", "media type 3"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "old schema 1"),
        (MANIFEST, documents.SCHEMA1_TYPES[1], "old schema 1"),
        ({**MANIFEST, "schemaVersion": 3}, "", "schema version 3"),
        ({**MANIFEST, "layers": [{**LAYER, "digest": "sha256:../../x"}]}, "", "which is no sha256 digest"),
        (
            {**MANIFEST, "layers": [{**LAYER, "digest": "sha512:" + "a" * 128}]},
            "",
            "which is no sha256 digest",
        ),
        ({**MANIFEST, "layers": [{**LAYER, "size": -1}]}, "", "the size -1"),
        ({**MANIFEST, "layers": [{**LAYER, "size": 10**30}]}, "", "not valid|size"),
        ({**MANIFEST, "layers": [{**LAYER, "size": "1"}]}, "", "not valid"),
        ({**MANIFEST, "layers": {}}, "", "not valid"),
        ({**MANIFEST, "config": []}, "", "not valid"),
        (
            {**MANIFEST, "config": {**CONFIG, "mediaType": "application/vnd.cncf.helm"}},
            "",
            "no container image",
        ),
        ([], "", "no JSON object"),
    ],
)
@pytest.mark.hostile("CVE-2021-41190", "CVE-2021-21285")
def test_what_makes_no_sense_is_refused(document: Any, media_type: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        parse(document, media_type)


@pytest.mark.hostile("CVE-2021-21285", "Python traps")
@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 9_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="JSON"):
        documents.parse_manifest_or_index(data, "", "app:1")


@pytest.mark.hostile("CVE-2023-25153")
def test_documents_have_a_limit() -> None:
    with pytest.raises(ImageError, match="more than 4 MiB"):
        documents.parse_manifest_or_index(b" " * (documents.MAX_MANIFEST + 1), "", "app:1")


@pytest.mark.hostile("CVE-2023-25153", "bombs")
@pytest.mark.parametrize("value", [b"{}", b"[]", b'"a"', b"1"])
def test_documents_of_many_small_values_are_not_built_up(value: bytes) -> None:
    """Three bytes of JSON are a hundred in memory."""
    many = b'{"architecture":"amd64","os":"linux","x":[' + (value + b",") * documents.MAX_PARTS + b"1]}"
    deep = b'{"a":[' + b"[" * documents.MAX_PARTS

    for data in (many, deep):
        with pytest.raises(ImageError, match="the config of app:1 has more than 300000 values"):
            documents.parse_config(data, "app:1")


def test_a_config_as_docker_writes_it_is_read() -> None:
    config = documents.parse_config(
        json.dumps(
            {
                "architecture": "arm64", "os": "linux", "variant": "v8", "created": None, "container": "abc",
                "config": {
                    "Hostname": "", "Env": None, "Cmd": ["a"], "Entrypoint": None, "Volumes": {"/v": {}},
                    "ExposedPorts": {"80/tcp": {}}, "OnBuild": None, "Labels": None,
                    "Healthcheck": {"Test": ["NONE"], "Interval": 1},
                },
                "rootfs": {"type": "layers", "diff_ids": None}, "history": None,
            }
        ).encode(),
        "app:1",
    )  # fmt: skip

    assert config.config.cmd == ("a",)
    assert config.config.env == ()
    assert config.rootfs.diff_ids == ()
    assert config.variant == "v8"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"architecture": "amd64", "os": ""}, "no os or no architecture"),
        ({"os": "linux"}, "not valid"),
        ({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": ["x"]}}, "no sha256 digest"),
        ({"architecture": "amd64", "os": "linux", "config": {"Cmd": "sh"}}, "not valid"),
        ({"architecture": "amd64", "os": "linux", "config": {"Env": [1]}}, "not valid"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(document: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        documents.parse_config(json.dumps(document).encode(), "app:1")


def test_layers_and_diff_ids_must_be_as_many() -> None:
    manifest = parse(MANIFEST)
    assert isinstance(manifest, Manifest)
    config = documents.parse_config(b'{"architecture":"amd64","os":"linux"}', "app:1")

    with pytest.raises(ImageError, match="has 1 layers, and its config 0"):
        documents.check_layers(manifest, config, "app:1")


def test_an_unknown_kind_of_layer_is_refused() -> None:
    with pytest.raises(ImageError, match="which is not known"):
        documents.compression_of(Descriptor("text/html", D, 1), "app:1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "os", "architecture",
        "rootfs", "history", "diff_ids", "digest", "size", "platform"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), json_values))
@pytest.mark.hostile("CVE-2021-21285")
def test_any_document_is_understood_or_refused(document: dict[str, Any]) -> None:
    for read in (
        lambda data: documents.parse_manifest_or_index(data, "", "x"),
        lambda data: documents.parse_index(data, "x"),
        lambda data: documents.parse_config(data, "x"),
    ):
        for candidate in (document, {**MANIFEST, **document}):
            with contextlib.suppress(ImageError):
                read(json.dumps(candidate).encode())


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64"], "linux/amd64"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/amd64", ["linux/386"], "linux/386"),
        ("linux/arm64", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64", ["linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], "linux/arm/v6"),
        ("linux/arm", ["linux/arm/v7"], "linux/arm/v7"),
        ("linux/riscv64", ["linux/riscv64"], "linux/riscv64"),
        ("linux/amd64", ["windows/amd64", "unknown/unknown"], None),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8.0"], "linux/arm64/v8.0"),
        ("linux/arm/v7", ["linux/armhf"], "linux/armhf"),
    ],
)
def test_the_best_platform_is_chosen(wanted: str, offered: list[str], chosen: str | None) -> None:
    from builder.oci.platform import choose

    manifests = [
        Descriptor(spec.OCI_MANIFEST, D, 1),
        *(Descriptor("", D, 1, platform=_of(p)) for p in offered),
    ]

    found = choose(manifests, _of(wanted))

    assert (str(found.platform) if found else None) == chosen


def _of(text: str) -> Platform:
    system, architecture, *variant = text.split("/")
    return Platform(architecture, system, *variant)


def test_a_variant_of_a_number_without_end_is_one_of_the_newest() -> None:
    """Python reads no number of more than 4300 digits; whose index names such a variant is foreign."""
    from builder.oci.platform import fits

    endless = Platform("amd64", "linux", "v" + "9" * 5000)

    assert fits(Platform("amd64", "linux", "v3"), endless)
    assert not fits(endless, Platform("amd64", "linux", "v3"))

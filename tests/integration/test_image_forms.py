"""The forms of images: compressions, media types, annotations, one layer; and what others make of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.contexts import lay
from tests.support.estargz import Estargz
from tests.support.images import ReadImage, read_archive, read_image
from tests.support.machine import Pybuild, needs, needs_root, run
from tests.support.peers import Podman

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

DOCKERFILE = """\
FROM busybox
COPY a /data/a
COPY large /data/large
RUN mkdir /data/d && echo new > /data/d/new && ln /data/a /data/again && rm -r /bin/vi && echo 2 > /data/two
RUN rm /data/two && echo three > /data/three && mv /data/d /data/e
LABEL x=y
CMD ["sh", "-c", "cat /data/again /data/e/new /data/three"]
"""
SAID = "content\nnew\nthree\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    files = {"a": "content\n", "large": os.urandom(5 << 20)}
    return lay(tmp_path / "context", DOCKERFILE, files)


def blob_of(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes()


def index_of(layout: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((layout / "index.json").read_text())["manifests"]
    return rows


def check_estargz(layout: Path, image: ReadImage) -> None:
    for layer in image.manifest["layers"]:
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
        Estargz(blob_of(layout, layer["digest"]), layer["annotations"])


def test_all_layers_are_estargz_where_that_is_forced(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    attributes = "tar=false,compression=estargz,force-compression=true"

    pybuild("-o", f"type=oci,dest={one},{attributes}", "-t", "a:1", context)
    pybuild("-o", f"type=oci,dest={two},{attributes}", "-t", "a:1", context)

    image = read_image(one, "1")
    check_estargz(one, image)
    assert len(image.manifest["layers"]) == 5
    assert read_image(two, "1").digest == image.digest
    large = Estargz(*_layer(one, image, 2))
    assert large.read("data/large") == (context / "large").read_bytes()
    assert "nothing is damaged" in pybuild("fsck").stdout


def _layer(layout: Path, image: ReadImage, number: int) -> tuple[bytes, dict[str, str]]:
    layer = image.manifest["layers"][number]
    return blob_of(layout, layer["digest"]), layer["annotations"]


def test_an_image_of_estargz_is_a_base_like_any(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "c", "FROM scratch\nCOPY a /a\n", {"a": "text"})
    pybuild("-o", f"type=oci,tar=false,dest={tmp_path}/base,compression=estargz", "-t", "b:1", tmp_path / "c")
    lay(tmp_path / "d", "FROM base\nCOPY b /b\n", {"b": "more"})
    flags = ["--build-context", f"base=oci-layout://{tmp_path}/base:1"]

    for kind, forced in (("estargz", ""), ("gzip", ""), ("zstd", ",force-compression=true")):
        layout = tmp_path / kind
        output = f"type=oci,tar=false,dest={layout},compression={kind}{forced}"
        pybuild("-o", output, "-t", "x:1", *flags, tmp_path / "d")

        image = read_image(layout, "1")
        assert {"a", "b", ".no.prefetch.landmark", "stargz.index.json"} <= image.tree().keys()
        first = image.manifest["layers"][0]
        same = first["digest"] == read_image(tmp_path / "base", "1").manifest["layers"][0]["digest"]
        assert (same, "annotations" in first) == (kind != "zstd", kind == "estargz")
        if kind == "estargz":
            toc = "containerd.io/snapshot/stargz/toc.digest"
            first["annotations"].setdefault("io.containers.estargz.uncompressed-size", "unknown")
            assert first["annotations"][toc].startswith("sha256:")


def test_steps_run_on_what_only_an_estargz_image_has_kept(pybuild: Pybuild, tmp_path: Path) -> None:
    """Its files for others must not come back into a layer of the store."""
    lay(
        tmp_path / "c",
        "FROM busybox AS one\nCOPY a /data/a\nFROM one\nRUN ls -A / /data > /seen\n",
        {"a": "x"},
    )
    pybuild("--target", "one", "-o", "type=image,name=kept,compression=estargz", tmp_path / "c")
    rows = [json.loads(line) for line in _blob_notes(pybuild.root)]
    (note,) = [row for row in rows if any("estargz" in key for key in row)]
    for key, blob in note.items():
        if "estargz" not in key:
            (pybuild.root / "blobs/sha256" / blob["descriptor"]["digest"][7:]).unlink()

    pybuild("-o", f"type=local,dest={tmp_path}/out", tmp_path / "c")

    seen = (tmp_path / "out/seen").read_text().split()
    assert "stargz.index.json" not in seen
    assert ".no.prefetch.landmark" not in seen
    assert (tmp_path / "out/data/a").read_text() == "x"
    assert pybuild("fsck").returncode == 0


def _blob_notes(root: Path) -> list[str]:
    return [path.read_text().splitlines()[0] for path in root.glob("layers/*/blob.json")]


@pytest.mark.peers
@needs("skopeo", "podman", "umoci", "runc")
@pytest.mark.parametrize(
    "attributes",
    ["compression=estargz", "compression=zstd", "compression=uncompressed", "compression-level=9"],
)
def test_others_take_every_compression(
    pybuild: Pybuild, context: Path, tmp_path: Path, podman: Podman, attributes: str
) -> None:
    outputs = [f"type=oci,tar=false,dest={tmp_path}/layout", f"type=docker,dest={tmp_path}/d.tar"]
    flags = [word for output in outputs for word in ("-o", f"{output},{attributes},force-compression=true")]

    pybuild(*flags, "-t", "app:1", context)

    run(["skopeo", "copy", f"oci:{tmp_path}/layout:1", f"dir:{tmp_path}/dir"])
    if "zstd" not in attributes:  # umoci knows no zstd
        run(["umoci", "unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle"])
        assert (tmp_path / "bundle/rootfs/data/three").read_text() == "three\n"
    podman("load", "--quiet", "-i", f"{tmp_path}/d.tar")
    assert podman.run("app:1") == SAID


def test_a_squashed_image_is_one_layer_above_its_base(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    outputs = ["-o", f"type=oci,tar=false,dest={tmp_path}/squashed"]
    pybuild("-o", f"type=oci,tar=false,dest={tmp_path}/plain", "-t", "app:1", context)

    pybuild("--squash", *outputs, "-t", "app:1", context)

    plain, squashed = read_image(tmp_path / "plain", "1"), read_image(tmp_path / "squashed", "1")
    assert squashed.diff_ids[0] == plain.diff_ids[0]
    assert len(squashed.diff_ids) == 2
    assert _without_layers(squashed) == _without_layers(plain)
    assert {"bin/.wh.vi", "data/again", "data/e/new"} <= squashed.layers[1].keys()
    assert not {"data/two", "data/.wh.two", "data/.wh.d"} & squashed.layers[1].keys()
    above = squashed.config["history"][len(squashed.config["history"]) - 6 :]
    assert [entry.get("empty_layer", False) for entry in above] == [True] * 5 + [False]
    assert above[-1]["comment"] == "squashed: 4 layers above the base are one"
    assert squashed.run == plain.run


def _without_layers(image: ReadImage) -> dict[str, Any]:
    """The files, but for the layer that each came with, and the times of folders that were only passed."""
    tree = image.tree()
    return {p: (m.kind, m.mode, m.uid, m.gid, m.data, m.device) for p, m in tree.items()}


def test_squashing_what_has_one_layer_changes_nothing(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "c", "FROM busybox\nCOPY a /a\nLABEL x=y\n", {"a": "a"})
    digests = [pybuild("-q", *flags, tmp_path / "c").stdout for flags in ([], ["--squash"], ["--squash"])]

    assert len(set(digests)) == 1


def test_a_squashed_image_from_nothing_has_one_layer(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "c", "FROM scratch\nCOPY a /a\nCOPY b /a\nCOPY b /b\n", {"a": "a", "b": "b"})

    output = f"type=oci,tar=false,dest={tmp_path}/layout,compression=zstd"
    pybuild("--squash", "-o", output, "-t", "a:1", tmp_path / "c")

    image = read_image(tmp_path / "layout", "1")
    assert {path: member.data for path, member in image.layers[0].items()} == {"a": b"b", "b": b"b"}
    assert image.manifest["layers"][0]["mediaType"].endswith("+zstd")


def test_a_cached_build_squashes_by_what_it_remembers(pybuild: Pybuild, context: Path) -> None:
    one = pybuild("-q", "--squash", "-t", "app", context).stdout
    two = pybuild("-q", "--squash", "-t", "app", context).stdout

    assert one == two != pybuild("-q", context).stdout


def test_annotations_go_where_they_belong(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    flags = ["--annotation", "one=1", "--annotation", "manifest,manifest-descriptor:org.Two=2=2"]

    pybuild(
        "-o",
        f"type=oci,tar=false,dest={layout},annotation.one=0,annotation.three=3",
        *flags,
        "-t",
        "a:1",
        context,
    )

    image = read_image(layout, "1")
    assert image.manifest["annotations"] == {"one": "1", "org.Two": "2=2", "three": "3"}
    (row,) = index_of(layout)
    assert row["annotations"]["org.Two"] == "2=2"
    assert row["annotations"]["org.opencontainers.image.ref.name"] == "1"


def test_annotations_of_an_index_and_of_one_platform(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "c", "FROM scratch\nCOPY a /a\n", {"a": "a"})
    annotations = [
        "index:i=1", "index-descriptor:d=2", "manifest[linux/arm64]:m=arm", "manifest:m=all", "m2=x",
        "manifest-descriptor[linux/amd64]:c=3",
    ]  # fmt: skip
    flags = [word for text in annotations for word in ("--annotation", text)]

    pybuild(
        "--platform", "linux/amd64,linux/arm64", "-o", f"type=oci,tar=false,dest={tmp_path}/layout", *flags,
        "-t", "a:1", tmp_path / "c",
    )  # fmt: skip

    (row,) = index_of(tmp_path / "layout")
    index = json.loads(blob_of(tmp_path / "layout", row["digest"]))
    assert row["annotations"]["d"] == "2"
    assert index["annotations"] == {"i": "1"}
    amd, arm = index["manifests"]
    assert (amd["annotations"], arm.get("annotations")) == ({"c": "3"}, None)
    documents = [json.loads(blob_of(tmp_path / "layout", each["digest"])) for each in (amd, arm)]
    assert [each["annotations"] for each in documents] == [{"m": "all", "m2": "x"}, {"m": "arm", "m2": "x"}]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--annotation", "index:a=b"], "a single image has no index"),
        (["--annotation", "manifest[linux/s390x]:a=b"], "linux/s390x, which is not built"),
        (["--annotation", "x"], "KEY=VALUE"),
        (["--annotation", "foo:a=b"], "no type 'foo'"),
        (["--annotation", "[linux/amd64]:a=b"], "a type is missing"),
        (["--squash", "--cache-to", "type=inline"], "inline cache"),
        (["-o", "type=oci,dest=x,compression=estargz,oci-mediatypes=false"], "do not go together"),
        (["-o", "type=oci,dest=x,rewrite-timestamp=true"], "needs SOURCE_DATE_EPOCH"),
    ],
)
def test_what_has_no_place_is_refused(
    pybuild: Pybuild, tmp_path: Path, flags: list[str], message: str
) -> None:
    lay(tmp_path / "c", "FROM scratch\nCOPY Dockerfile /a\n")

    done = pybuild(*flags, tmp_path / "c", check=False, cwd=tmp_path)

    assert done.returncode in (1, 2)
    assert message in done.stderr


@pytest.mark.peers
@needs("skopeo", "podman", "runc")
def test_docker_media_types_are_schema_2(
    pybuild: Pybuild, context: Path, tmp_path: Path, podman: Podman
) -> None:
    flags = [f"type=docker,dest={tmp_path}/d.tar,oci-mediatypes=false", "type=image,oci-mediatypes=false"]

    pybuild("-o", flags[0], "-o", flags[1], "-t", "schema2:1", context)

    image = read_archive(tmp_path / "d.tar", tmp_path / "unpacked")
    assert image.manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert image.manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    assert {layer["mediaType"] for layer in image.manifest["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert "oci" not in json.dumps(image.manifest)
    podman("load", "--quiet", "-i", f"{tmp_path}/d.tar")
    assert podman.run("schema2:1") == SAID
    run(["skopeo", "inspect", f"docker-archive:{tmp_path}/d.tar:schema2:1"])
    assert json.loads(pybuild("inspect", "schema2:1").stdout)[0]["Descriptor"]["digest"] == image.digest


def test_an_image_without_a_name_can_have_one_with_its_digest(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "c", "FROM scratch\nCOPY Dockerfile /a\n")
    attributes = "dangling-name-prefix=host.x/anonymous,danging-name-empty-only=true"

    digest = pybuild("-q", "-o", f"type=image,{attributes}", tmp_path / "c").stdout.strip()
    named = pybuild("-o", f"type=image,{attributes},name-canonical=true", "-t", "app:1", "--metadata-file",
                    tmp_path / "meta", tmp_path / "c")  # fmt: skip

    name = f"host.x/anonymous@{digest}"
    assert named.returncode == 0
    assert json.loads(pybuild("inspect", name).stdout)[0]["Descriptor"]["digest"] == digest
    assert json.loads(pybuild("inspect", f"app@{digest}").stdout)[0]["RepoTags"] == ["app:1"]
    assert [row["Tag"] for row in _listed(pybuild) if row["Repository"] == "host.x/anonymous"] == ["<none>"]
    assert json.loads((tmp_path / "meta").read_text())["image.name"] == "docker.io/library/app:1"


def _listed(pybuild: Pybuild) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pybuild("images", "--format=json").stdout.splitlines()]


def test_the_metadata_are_buildx_s(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "c", "FROM scratch\nCOPY Dockerfile /a\n")
    meta = tmp_path / "meta"

    def told(*flags: str) -> dict[str, Any]:
        pybuild("--metadata-file", meta, *flags, tmp_path / "c")
        found: dict[str, Any] = json.loads(meta.read_text())
        return found

    first = told("-t", "a:1", "-t", "b", "--annotation", "manifest-descriptor:x=y")
    files = told("-o", f"type=local,dest={tmp_path}/out", "--no-cache")
    index = told("--platform", "linux/amd64,linux/arm64")

    descriptor = first["containerimage.descriptor"]
    record = first.pop("buildx.build.ref").split("/")
    assert record[:2] == ["pybuild", "pybuild"]
    assert (pybuild.root / "builds" / record[2]).is_dir()
    assert first.keys() == {
        "containerimage.config.digest", "containerimage.descriptor", "containerimage.digest", "image.name",
    }  # fmt: skip
    assert first["image.name"] == "docker.io/library/a:1,docker.io/library/b:latest"
    assert descriptor["digest"] == first["containerimage.digest"]
    assert descriptor["annotations"].keys() == {"org.opencontainers.image.created", "x"}
    assert files.keys() == {"buildx.build.ref"}
    assert index["containerimage.descriptor"]["mediaType"].endswith("index.v1+json")
    assert "containerimage.config.digest" not in index

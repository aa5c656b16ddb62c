"""What `--output` hands out: archives, layouts, folders and tars, read by other people's tools."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.contexts import lay
from tests.support.images import read_archive, read_image, read_only_image
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.peers import Podman

pytestmark = [pytest.mark.root, pytest.mark.peers, needs_root(), needs("busybox", "skopeo", "podman", "runc")]

DOCKERFILE = """\
FROM busybox
COPY a /data/a
RUN ln /data/a /data/hard && ln -s a /data/soft && chmod 4755 /data/a && mkdir -m 1770 /data/d \\
    && chown 12:34 /data/d && mknod /data/null c 1 3
ENV GREETING=hello
CMD ["sh", "-c", "echo $GREETING $(cat /data/hard)"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return lay(tmp_path / "context", DOCKERFILE, {"a": "content"})


def build_to_stdout(pybuild: Pybuild, *words: str | Path) -> bytes:
    """The bytes that a build writes to standard output."""
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(pybuild.root)}
    command = [sys.executable, "-m", "builder", "--progress=plain", *words]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_in_store(pybuild: Pybuild) -> list[str]:
    rows = [json.loads(line) for line in pybuild("images", "--format=json").stdout.splitlines()]
    return [f"{row['Repository']}:{row['Tag']}" for row in rows]


def check_data(folder: Path) -> None:
    """The files of /data as the Dockerfile made them; owners are the builder's own in a local output."""
    data = folder / "data"
    assert (data / "a").read_text() == "content"
    assert stat.S_IMODE((data / "a").stat().st_mode) == 0o4755
    assert (data / "a").stat().st_ino == (data / "hard").stat().st_ino
    assert os.readlink(data / "soft") == "a"
    assert stat.S_IMODE((data / "d").stat().st_mode) == 0o1770
    device = (data / "null").stat()
    assert stat.S_ISCHR(device.st_mode)
    assert device.st_rdev == os.makedev(1, 3)


def test_an_oci_archive_holds_the_image_and_leaves_the_store_alone(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    pybuild("-o", f"type=oci,dest={tmp_path}/app.tar", "-t", "app:1", "-t", "app:2", context)

    inspected = json.loads(run(["skopeo", "inspect", f"oci-archive:{tmp_path}/app.tar:1"]).stdout)
    image = read_archive(tmp_path / "app.tar", tmp_path / "unpacked")
    index = json.loads((tmp_path / "unpacked/index.json").read_text())
    named = [entry["annotations"] for entry in index["manifests"]]
    assert inspected["Env"] == image.run["Env"]
    assert {entry["io.containerd.image.name"] for entry in named} == {
        "docker.io/library/app:1", "docker.io/library/app:2",
    }  # fmt: skip
    assert names_in_store(pybuild) == ["busybox:latest"]


def test_an_oci_folder_is_a_layout_that_takes_further_images(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    for tag in ("1", "2", "1"):
        flags = ["-o", f"type=oci,tar=false,dest={layout}", "--label", f"tag={tag}"]
        pybuild(*flags, "-t", f"app:{tag}", context)

    run(["skopeo", "copy", f"oci:{layout}:2", f"dir:{tmp_path}/copied"])
    assert read_image(layout, "1").run["Labels"] == {"tag": "1"}
    assert read_image(layout, "2").run["Labels"] == {"tag": "2"}


def test_an_image_without_a_name_is_the_latest_of_an_oci_folder(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    layout, archive = tmp_path / "layout", tmp_path / "x.tar"
    pybuild("-o", f"type=oci,tar=false,dest={layout}", "-t", "app:1", "--label", "n=0", context)
    for number in ("1", "2"):
        pybuild("-o", f"type=oci,tar=false,dest={layout}", "--label", f"n={number}", context)
    pybuild("-o", f"type=oci,dest={archive}", context)

    names = [row["annotations"] for row in json.loads((layout / "index.json").read_text())["manifests"]]
    assert [row["org.opencontainers.image.ref.name"] for row in names] == ["1", "latest"]
    assert "io.containerd.image.name" not in names[1]
    assert read_image(layout, "latest").run["Labels"] == {"n": "2"}
    read_archive(archive, tmp_path / "unpacked")
    (row,) = json.loads((tmp_path / "unpacked/index.json").read_text())["manifests"]
    assert "org.opencontainers.image.ref.name" not in row["annotations"]


def test_a_docker_archive_loads_and_runs_in_podman(
    pybuild: Pybuild, context: Path, tmp_path: Path, podman: Podman
) -> None:
    pybuild("-o", f"type=docker,dest={tmp_path}/app.tar", "-t", "loaded:1", context)

    loaded = podman("load", "--quiet", "-i", f"{tmp_path}/app.tar")
    assert "loaded:1" in loaded
    assert podman.run("loaded:1") == "hello content\n"
    run(["skopeo", "inspect", f"docker-archive:{tmp_path}/app.tar:docker.io/library/loaded:1"])
    read_archive(tmp_path / "app.tar", tmp_path / "unpacked")
    (listed,) = json.loads((tmp_path / "unpacked/manifest.json").read_text())
    assert listed["RepoTags"] == ["loaded:1"]


def test_docker_without_a_destination_is_the_store(pybuild: Pybuild, context: Path) -> None:
    pybuild("-o", "type=docker", "-t", "docker", context)
    pybuild("-o", "type=image", "-t", "image", context)
    pybuild("-o", "type=image,name=named:7", "-t", "unused", context)

    assert set(names_in_store(pybuild)) == {"busybox:latest", "docker:latest", "image:latest", "named:7"}


def test_a_tar_holds_the_filesystem(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    pybuild("-o", f"type=tar,dest={tmp_path}/app.tar", context)

    (tmp_path / "unpacked").mkdir()
    run(["tar", "-xpf", tmp_path / "app.tar", "--numeric-owner", "-C", tmp_path / "unpacked"])
    check_data(tmp_path / "unpacked")
    owner = (tmp_path / "unpacked/data/d").stat()
    assert (owner.st_uid, owner.st_gid) == (12, 34)


@pytest.mark.parametrize("text", ["type=local,dest={}", "{}"])
def test_a_local_output_is_a_folder_of_files(
    pybuild: Pybuild, context: Path, tmp_path: Path, text: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_text("stays")

    pybuild("-o", text.format(folder), context)

    check_data(folder)
    assert (folder / "data/d").stat().st_uid == os.geteuid()
    assert (folder / "mine").read_text() == "stays"
    assert names_in_store(pybuild) == ["busybox:latest"]


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_archive_goes_to_standard_output(
    pybuild: Pybuild, context: Path, tmp_path: Path, kind: str
) -> None:
    data = build_to_stdout(pybuild, "-o", f"type={kind},dest=-", "-t", "app:1", context)

    (tmp_path / "app.tar").write_bytes(data)
    image = read_archive(tmp_path / "app.tar", tmp_path / "unpacked")
    assert image.env["GREETING"] == "hello"


@pytest.mark.parametrize("text", ["type=tar,dest=-", "type=tar", "-"])
def test_a_tar_goes_to_standard_output(pybuild: Pybuild, context: Path, text: str) -> None:
    data = build_to_stdout(pybuild, "-o", text, context)

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {"data/a", "data/hard", "bin/busybox"} <= {
            name.removeprefix("./") for name in archive.getnames()
        }


def test_several_outputs_of_one_build(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    outputs = [
        f"type=oci,dest={tmp_path}/oci.tar", f"type=docker,dest={tmp_path}/docker.tar",
        f"type=local,dest={tmp_path}/local", f"type=oci,tar=false,dest={tmp_path}/layout",
        f"type=oci,dest={tmp_path}/zstd.tar,compression=zstd,force-compression=true",
    ]  # fmt: skip
    flags = [word for output in outputs for word in ("-o", output)]

    data = build_to_stdout(pybuild, *flags, "-o", "type=tar,dest=-", "--load", "-t", "app:1", context)

    same = [
        read_image(pybuild.root, "app:1"),
        read_image(tmp_path / "layout", "1"),
        read_archive(tmp_path / "oci.tar", tmp_path / "a"),
        read_archive(tmp_path / "docker.tar", tmp_path / "b"),
    ]
    zstd = read_archive(tmp_path / "zstd.tar", tmp_path / "c")
    assert len({image.digest for image in same}) == 1
    assert zstd.diff_ids == same[0].diff_ids
    assert all(layer["mediaType"].endswith("+zstd") for layer in zstd.manifest["layers"])
    check_data(tmp_path / "local")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmember("data/a").mode == 0o4755


@pytest.mark.parametrize(
    ("attributes", "ending"),
    [
        ("compression=uncompressed", ".tar"),
        ("compression=zstd,compression-level=3", "+zstd"),
        ("compression=gzip", "+gzip"),
    ],
)
def test_new_layers_are_compressed_as_asked(
    pybuild: Pybuild, tmp_path: Path, attributes: str, ending: str
) -> None:
    lay(tmp_path / "small", "FROM scratch\nCOPY a /\n", {"a": "a" * 1000})

    pybuild("-o", f"type=oci,tar=false,dest={tmp_path}/layout,{attributes}", "-t", "a:1", tmp_path / "small")

    (layer,) = read_image(tmp_path / "layout", "1").manifest["layers"]
    assert layer["mediaType"].endswith(ending)
    run(["skopeo", "copy", f"oci:{tmp_path}/layout:1", f"dir:{tmp_path}/copied"])


def test_annotations_and_names_of_an_output(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    output = f"type=oci,tar=false,dest={tmp_path}/layout,name=other:9,annotation.org.example.key=value"

    pybuild("-o", output, "-t", "app:1", context)

    assert read_image(tmp_path / "layout", "9").manifest["annotations"] == {"org.example.key": "value"}


def test_a_cached_build_can_still_be_handed_out(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    digest = pybuild("-q", "-t", "app", context).stdout.strip()

    pybuild("-o", f"type=oci,dest={tmp_path}/app.tar", "--metadata-file", tmp_path / "meta", context)

    assert read_archive(tmp_path / "app.tar", tmp_path / "unpacked").digest == digest
    assert json.loads((tmp_path / "meta").read_text())["containerimage.digest"] == digest


def test_an_archive_appears_whole_or_not_at_all(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    (tmp_path / "app.tar").write_text("what was there")
    lay(context, "FROM busybox\nRUN false\n")

    done = pybuild("-o", f"type=oci,dest={tmp_path}/app.tar", context, check=False)

    assert done.returncode == 1
    assert (tmp_path / "app.tar").read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.tar", "context", "store"]


def test_skopeo_copies_from_what_is_handed_out(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    outputs = ["-o", f"type=oci,dest={tmp_path}/a.tar", "-o", f"type=oci,tar=false,dest={tmp_path}/layout"]
    pybuild(*outputs, "-t", "app:1", context)

    for number, source in enumerate((f"oci-archive:{tmp_path}/a.tar:1", f"oci:{tmp_path}/layout:1")):
        run(["skopeo", "copy", "--preserve-digests", source, f"oci:{tmp_path}/copy{number}:x"])

    assert read_only_image(tmp_path / "copy0").digest == read_only_image(tmp_path / "copy1").digest


def test_a_local_output_of_a_scratch_stage_is_what_was_copied(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(
        tmp_path / "c",
        "FROM busybox AS made\nRUN echo made > /out.txt\nFROM scratch\nCOPY --from=made /out.txt /\n",
    )

    pybuild("-o", "out", "c", cwd=tmp_path)

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["out.txt"]
    assert (tmp_path / "out/out.txt").read_text() == "made\n"


def test_a_place_that_cannot_be_written_is_told(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    done = pybuild("-o", f"type=oci,dest={tmp_path}/no/such/folder/app.tar", context, check=False)

    assert done.returncode in (1, 2)
    assert "no/such/folder" in done.stderr


def test_a_build_for_the_cache_alone_names_nothing_and_is_found_later(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    before = names_in_store(pybuild)

    pybuild("-o", "type=cacheonly", "-t", "app", "--metadata-file", tmp_path / "meta", context)

    assert names_in_store(pybuild) == before
    assert json.loads((tmp_path / "meta").read_text()).keys() == {"buildx.build.ref"}
    assert "all 3 steps cached" in pybuild("-t", "app", context).stderr
    assert "app:latest" in names_in_store(pybuild)

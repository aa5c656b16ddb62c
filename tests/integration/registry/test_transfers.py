"""`pybuild push` and `pull`, and builds that push, with a real registry and other clients at both ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.oci.spec import OCI_MANIFEST
from tests.support.dockerd import dockerd
from tests.support.fakeregistry import Answer, Asked, fake_registry
from tests.support.layouts import LayoutMaker, Row, digest_of
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.peers import Podman
from tests.support.registry import RunningRegistry, free_port, running_registry

pytestmark = [pytest.mark.peers, needs("docker-registry", "skopeo", "openssl")]

PLATFORMS = ("linux/amd64", "linux/arm64")
# What a push that has nothing to do must not pay for.
HEAVY = {"asyncio", "httpx", "json", "msgspec", "re", "socket", "ssl", "typing"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(tmp_path / "store")


def skopeo(*words: str) -> str:
    return run(["skopeo", *words]).stdout


def raw(registry: RunningRegistry, name: str) -> bytes:
    """The bytes that a name means, as another client gets them."""
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{name}").encode()


def put(registry: RunningRegistry, layout: LayoutMaker, row: Row, name: str) -> None:
    tag = f"pushed-{len(layout.entries)}"
    layout.name(row, tag)
    registry.push(layout.folder, tag, name)


def build(pybuild: Pybuild, folder: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(text)
    (folder / "file").write_text(text)
    return pybuild.build(folder, *words)


def loaded_by(*words: str) -> set[str]:
    """The modules that a command has loaded, by an interpreter that has none of its own."""
    program = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\nfrom builder.cli import main\n"
    program += f"assert main({list(words)!r}) == 0\nprint(*sys.modules, sep='\\n')"
    return set(run([sys.executable, "-I", "-S", "-c", program]).stdout.split())


def row_of(pybuild: Pybuild, name: str) -> dict[str, Any]:
    index = json.loads((pybuild.root / "index.json").read_bytes())
    rows = [row for row in index["manifests"] if name in json.dumps(row.get("annotations", {}))]
    return dict(rows[0])


# ── push ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_push_ends_as_dockers_does(registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/team/app"
    build(pybuild, tmp_path / "context", "FROM scratch\nCOPY file /\n", "-t", f"{name}:1")

    first = pybuild("push", f"{name}:1")
    again = pybuild("push", f"{name}:1")
    quiet = pybuild("push", "-q", f"{name}:1", "--digestfile", str(tmp_path / "digest"))

    data = raw(registry, "team/app:1")
    closing = f"1: digest: {digest_of(data)} size: {len(data)}"
    assert first.stdout == again.stdout == f"The push refers to repository [{name}]\n{closing}\n"
    assert f"#1 pushing {name}:1\n" in first.stderr
    assert again.stderr == ""
    assert (quiet.stdout, (tmp_path / "digest").read_text()) == (f"{name}:1\n", digest_of(data))


def test_a_digest_file_that_cannot_be_written_is_told_before_the_push(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/app:unpushed"
    build(pybuild, tmp_path / "context", "FROM scratch\nCOPY file /\n", "-t", name)

    done = pybuild("push", name, "--digestfile", str(tmp_path / "no/such/folder/digest"), check=False)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "no/such/folder/digest cannot be written: no such file or directory" in done.stderr
    assert pybuild("pull", name, check=False).returncode == 1


def test_a_digest_may_be_written_to_a_stream(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/app:1"
    build(pybuild, tmp_path / "context", "FROM scratch\nCOPY file /\n", "-t", name)

    done = pybuild("push", "-q", name, "--digestfile", "/dev/stdout")

    assert digest_of(raw(registry, "team/app:1")) in done.stdout


def test_a_push_of_what_is_there_loads_next_to_nothing(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    name, context = f"{registry.host}/light/app:1", tmp_path / "context"
    build(pybuild, context, "FROM scratch\nCOPY file /\n", "-t", name)
    pybuild("push", name)

    loaded = loaded_by("push", "--root", str(pybuild.root), name)

    assert "builder.unchanged" in loaded
    assert not loaded & HEAVY


def test_a_cached_build_that_was_pushed_loads_next_to_nothing(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    name, context = f"{registry.host}/light/built:1", tmp_path / "context"
    words = ["-o", f"type=image,name={name},push=true,registry.insecure=true"]
    build(pybuild, context, "FROM scratch\nCOPY file /\n", *words)

    loaded = loaded_by("--root", str(pybuild.root), *words, str(context))

    assert {"builder.unchanged", "builder.warm"} <= loaded
    assert not loaded & (HEAVY - {"json", "re"})


def test_a_blob_that_a_registry_has_lost_is_pushed_again_by_force(pybuild: Pybuild, tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/app:1"
        build(pybuild, tmp_path / "context", "FROM scratch\nCOPY file /\n", "-t", name)
        pybuild("push", name)
        layer = json.loads(raw(registry, "app:1"))["layers"][0]["digest"].removeprefix("sha256:")
        links = registry.storage / "docker/registry/v2/repositories/app/_layers/sha256"
        (links / layer / "link").unlink()

        pybuild("push", "--force", name)

        skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/copy:1")


def test_an_index_goes_with_all_that_it_lists(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    images = {platform: layout.image([{platform: b"1"}], platform=platform) for platform in PLATFORMS}
    put(registry, layout, layout.index(images), "many/source:1")
    source, target = f"{registry.host}/many/source:1", f"{registry.host}/many/target:1"
    pybuild("pull", "--all-platforms", source)

    pybuild("push", source, target)

    assert raw(registry, "many/target:1") == raw(registry, "many/source:1")
    for platform in PLATFORMS:
        variant = ["--override-arch", platform.partition("/")[2]]
        skopeo(
            *variant, "copy", "--src-tls-verify=false", f"docker://{target}", f"oci:{layout.folder}-copy:1"
        )


def test_of_an_index_that_is_not_whole_the_image_goes_alone(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    images = {platform: layout.image([{platform: b"2"}], platform=platform) for platform in PLATFORMS}
    put(registry, layout, layout.index(images), "part/source:1")
    source, target = f"{registry.host}/part/source:1", f"{registry.host}/part/target:1"
    pybuild("pull", "--platform", "linux/amd64", source)

    done = pybuild("push", source, target)

    assert digest_of(raw(registry, "part/target:1")) == images["linux/amd64"]["digest"]
    assert "note: not all platforms" in done.stderr


def test_one_image_of_an_index_can_be_pushed(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    images = {platform: layout.image([{platform: b"3"}], platform=platform) for platform in PLATFORMS}
    put(registry, layout, layout.index(images), "one/source:1")
    source, target = f"{registry.host}/one/source:1", f"{registry.host}/one/target:1"
    pybuild("pull", "--all-platforms", source)

    pybuild("push", "--platform", "linux/arm64", source, target)

    assert digest_of(raw(registry, "one/target:1")) == images["linux/arm64"]["digest"]


def test_blobs_come_from_another_repository_of_the_registry(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    row = layout.image([{"big": os.urandom(100_000)}])
    put(registry, layout, row, "mounted/from:1")
    pybuild("pull", f"{registry.host}/mounted/from:1")
    moved = f"{registry.host}/mounted/to:1"

    first = pybuild("push", f"{registry.host}/mounted/from:1", moved, "--progress=plain")
    pybuild("rmi", "--force", f"{registry.host}/mounted/from:1", check=False)

    assert first.stderr.count("mounted from mounted/from") == 2
    assert digest_of(raw(registry, "mounted/to:1")) == row["digest"]


def test_what_was_pushed_once_is_mounted_later(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    text = "FROM scratch\nCOPY file /\nLABEL pushed=twice\n"
    build(pybuild, tmp_path / "context", text, "-t", f"{registry.host}/first:1", "--push")

    again = build(pybuild, tmp_path / "context", text, "-t", f"{registry.host}/second:1", "--push")

    assert "mounted from first" in again.stderr


def test_all_tags_of_a_repository_are_pushed_and_pulled(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    name = f"{registry.host}/tags/app"
    build(pybuild, tmp_path / "context", "FROM scratch\nCOPY file /\n", "-t", f"{name}:1", "-t", f"{name}:2")
    build(pybuild, tmp_path / "context", "FROM scratch\nCOPY file /other\n", "-t", f"{registry.host}/else:1")

    pushed = pybuild("push", "--all-tags", name)
    other = Pybuild(tmp_path / "other")
    other("pull", "-a", name)

    assert [line.split(":")[0] for line in pushed.stdout.splitlines()[1:]] == ["1", "2"]
    assert row_of(other, f"{name}:1")["digest"] == row_of(other, f"{name}:2")["digest"]


def test_what_refers_to_images_is_no_tag_to_pull(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    name = f"{registry.host}/told/app"
    key = tmp_path / "cosign.key"
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)])
    told = ("--provenance=true", "--attest-as=referrers", f"--sign={key}", "--push")
    build(
        pybuild, tmp_path / "context", "FROM scratch\nCOPY file /\nLABEL told=1\n", "-t", f"{name}:1", *told
    )
    assert "sha256-" in skopeo("list-tags", "--tls-verify=false", f"docker://{name}")
    other = Pybuild(tmp_path / "other")

    done = other("pull", "-aq", name)

    assert done.stdout == f"{name}:1\n"


def test_a_layer_that_is_got_elsewhere_is_not_uploaded(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    row = layout.image([{"own": b"1"}], platform="linux/amd64")
    manifest = layout.manifest(row)
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    foreign = {"mediaType": kind, "digest": digest_of(b"far"), "size": 3, "urls": ["https://far.example/1"]}
    manifest["layers"].insert(0, foreign)
    whole = layout.document(manifest, manifest["mediaType"])
    index = layout.index({"windows/amd64": whole, "linux/amd64": row}, tag="foreign")
    pybuild.build(
        layout.folder, "-f-", "-t", "x", stdin=b"FROM scratch\nCOPY oci-layout /\n"
    )  # makes a store
    for blob in layout.blobs.iterdir():
        (pybuild.root / "blobs/sha256" / blob.name).write_bytes(blob.read_bytes())
    names = {
        "org.opencontainers.image.ref.name": "far:1",
        "io.containerd.image.name": "docker.io/library/far:1",
    }
    table = {"schemaVersion": 2, "manifests": [{**index, "annotations": names}]}
    (pybuild.root / "index.json").write_text(json.dumps(table))

    done = pybuild("push", "far:1", f"{registry.host}/far:1", check=False)

    assert "not uploaded" in done.stderr
    assert not registry.blob(foreign["digest"]).exists()


def test_a_blob_that_is_damaged_is_named(registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/damaged:1"
    build(pybuild, tmp_path / "context", "FROM scratch\nCOPY file /\nLABEL damaged=1\n", "-t", name)
    digest = row_of(pybuild, name)["digest"]
    manifest = json.loads((pybuild.root / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes())
    layer = manifest["layers"][0]
    path = pybuild.root / "blobs/sha256" / layer["digest"].removeprefix("sha256:")
    path.chmod(0o600)
    path.write_bytes(bytes(layer["size"]))
    path.chmod(0o400)

    done = pybuild("push", name, check=False)

    assert done.returncode == 1
    assert f"blob {layer['digest']}" in done.stderr
    assert "damaged" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "nowhere/app:1"], "image nowhere/app:1 is not in the store"),
        (["pull", "{dead}/app:1"], "nothing listens there"),
        (["pull", "{host}/no/such:1"], "is not in registry"),
        (["pull", "--platform", "linux/s390x", "{host}/plain:1"], "is not there for linux/s390x"),
        (["pull", "scratch"], "that is a reserved name"),
        (["pull", "sha256:abcdef"], "that is a reserved name"),
        (["pull", "-a", "{host}/no/such"], "there is no repository no/such in registry"),
    ],
)
def test_what_cannot_be_transferred_is_told(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild, words: list[str], message: str
) -> None:
    put(registry, layout, layout.image(), "plain:1")
    typed = [word.format(host=registry.host, dead=f"127.0.0.1:{free_port()}") for word in words]

    done = pybuild(*typed, check=False)

    assert done.returncode == 1
    assert message in done.stderr


def test_progress_is_told_in_bytes(registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/told:1"
    (tmp_path / "context").mkdir()
    (tmp_path / "context/noise").write_bytes(os.urandom(3_000_000))
    build(pybuild, tmp_path / "context", "FROM scratch\nCOPY noise /\n", "-t", name)

    done = pybuild("push", "--progress=rawjson", name)

    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert told[0] | {"time": 0} == {"event": "export-started", "time": 0, "name": name, "verb": "pushing"}
    amounts = [event for event in told if event["event"] == "progress" and event["total"] > 1_000_000]
    assert [event["done"] for event in amounts] == sorted(event["done"] for event in amounts)
    assert len(amounts) > 2
    assert amounts[-1]["done"] == amounts[-1]["total"]
    assert told[-1]["event"] == "export-finished"


# ── pull ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pull_ends_as_dockers_does(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    row = layout.image()
    put(registry, layout, row, "plain/app:latest")
    name = f"{registry.host}/plain/app"

    first, again, quiet = pybuild("pull", name), pybuild("pull", name), pybuild("pull", "-q", name)

    head, digest = "Using default tag: latest", f"Digest: {row['digest']}"
    newer, same = f"Status: Downloaded newer image for {name}", f"Status: Image is up to date for {name}"
    assert first.stdout.splitlines() == [head, digest, f"{newer}:latest", f"{name}:latest"]
    assert again.stdout.splitlines() == [head, digest, f"{same}:latest", f"{name}:latest"]
    assert quiet.stdout == f"{name}:latest\n"
    assert "nothing is damaged" in pybuild("fsck").stdout


def test_the_environment_says_for_which_platform(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    rows = {platform: layout.image([{platform[6:]: b""}], platform=platform) for platform in PLATFORMS}
    put(registry, layout, layout.index(rows), "environ:several")
    put(registry, layout, layout.image(platform="linux/amd64"), "environ:one")
    told = {"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}

    pybuild("pull", f"{registry.host}/environ:several", env=told)
    pybuild("pull", f"{registry.host}/environ:one", env=told)
    pybuild("push", f"{registry.host}/environ:one", env=told)

    shown = pybuild("images", "--format", "{{.Tag}} {{.Platform}}").stdout
    assert sorted(shown.splitlines()) == ["one linux/amd64", "several linux/arm64"]


def test_what_was_pulled_by_its_digest_is_up_to_date_the_next_time(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    row = layout.image()
    put(registry, layout, row, "plain/app:latest")
    name = f"{registry.host}/plain/app@{row['digest']}"

    first, again = pybuild("pull", name), pybuild("pull", name)

    assert f"Status: Downloaded newer image for {name}" in first.stdout
    assert f"Status: Image is up to date for {name}" in again.stdout


@needs_root()
def test_what_was_pulled_is_what_a_build_begins_with(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild, tmp_path: Path
) -> None:
    images = {platform: layout.image([{platform: b"4"}], platform=platform) for platform in PLATFORMS}
    index = layout.index(images)
    put(registry, layout, index, "base:1")
    pybuild("pull", f"{registry.host}/base:1")

    done = build(pybuild, tmp_path / "context", f"FROM {registry.host}/base:1\nCOPY file /\n", "-t", "on:1")

    assert row_of(pybuild, f"{registry.host}/base:1")["digest"] == index["digest"]
    assert "FROM" in done.stderr
    assert "1 of 2 steps cached" in done.stderr


def test_an_image_can_be_pulled_by_its_digest(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    row = layout.image()
    put(registry, layout, row, "pinned:1")
    name = f"{registry.host}/pinned@{row['digest']}"

    done = pybuild("pull", name)

    assert done.stdout.splitlines()[-1] == name
    pybuild("prune", "--force")
    (listed,) = pybuild("images", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}").stdout.splitlines()
    assert listed == f"{registry.host}/pinned <none> {row['digest']}"
    assert pybuild("rmi", name).stdout.splitlines()[:2] == [f"Untagged: {name}", f"Deleted: {row['digest']}"]


def test_what_was_pulled_is_removed_with_its_name(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild
) -> None:
    rows = {platform: layout.image([{platform[6:]: b""}], platform=platform) for platform in PLATFORMS}
    row = layout.index(rows)
    put(registry, layout, row, "leaving:1")
    name = f"{registry.host}/leaving:1"

    pybuild("pull", "--all-platforms", name)
    first = pybuild("rmi", "--platform", PLATFORMS[0], name).stdout
    rest = pybuild("rmi", name).stdout

    assert f"Deleted: {rows[PLATFORMS[0]]['digest']}" in first
    assert f"Deleted: {rows[PLATFORMS[1]]['digest']}" in rest
    assert name in pybuild("rmi", name, check=False).stderr, "nothing remembers it"


def test_an_id_is_no_name_in_a_registry(pybuild: Pybuild, layout: LayoutMaker) -> None:
    row = layout.image(tag="app:1")
    pybuild("load", layout.folder)

    done = pybuild("push", row["digest"][7:19], check=False)

    assert done.returncode == 1
    assert f"image {row['digest'][7:19]}:latest is not in the store" in done.stderr
    assert "that is an id, and no name" in pybuild("push", row["digest"], check=False).stderr


@pytest.mark.parametrize("kind", ["schema 2", "zstd"])
def test_images_of_every_kind_come_and_go_as_they_are(
    registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild, tmp_path: Path, kind: str
) -> None:
    layout.image([{"a": b"1" * 5000}, {"b": b"2"}], tag="1")
    forms = {"schema 2": ["--format", "v2s2"], "zstd": ["--dest-compress-format", "zstd", "--dest-compress"]}
    words = [*forms[kind], "--dest-tls-verify=false", f"oci:{layout.folder}:1"]
    repository = f"kinds/{kind.replace(' ', '')}"
    skopeo("copy", *words, f"docker://{registry.host}/{repository}:1")
    source, target = f"{registry.host}/{repository}:1", f"{registry.host}/{repository}-again:1"

    pybuild("pull", source)
    pybuild("push", source, target)

    data = raw(registry, f"{repository}:1")
    assert raw(registry, f"{repository}-again:1") == data
    assert ("docker" if kind == "schema 2" else "oci.image") in json.loads(data)["mediaType"]
    skopeo("copy", "--src-tls-verify=false", f"docker://{target}", f"oci:{tmp_path}/copy:1")


def test_a_pull_need_not_unpack(registry: RunningRegistry, layout: LayoutMaker, pybuild: Pybuild) -> None:
    put(registry, layout, layout.image(), "packed:1")

    pybuild("pull", "--unpack=false", f"{registry.host}/packed:1")

    assert not any((pybuild.root / "layers").iterdir())
    assert f"{registry.host}/packed" in pybuild("images").stdout


async def test_a_layer_that_is_nowhere_is_told_with_the_reason(layout: LayoutMaker, pybuild: Pybuild) -> None:
    row = layout.image([{"a": b"1"}])
    manifest = layout.manifest(row)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    manifest["layers"][0] |= {"mediaType": kind, "urls": ["https://far.example/layer"]}
    lost = layout.document(manifest, manifest["mediaType"])
    layout.path(manifest["layers"][0]["digest"]).unlink()

    def answer(asked: Asked) -> Answer:
        digest = lost["digest"] if asked.path.endswith("/manifests/1") else asked.path.rpartition("/")[2]
        kinds = {"content-type": OCI_MANIFEST} if digest == lost["digest"] else {}
        path = layout.path(digest)
        return Answer(200, path.read_bytes(), kinds) if path.exists() else Answer(404)

    async with fake_registry(answer) as fake:
        done = await asyncio.to_thread(pybuild, "pull", f"{fake.host}/lost:1", check=False)

    assert done.returncode == 1
    assert "to be got elsewhere, and no such address is followed" in done.stderr


# ── TLS that nobody vouches for ──────────────────────────────────────────────────────────────────────────


def test_certificates_that_nobody_vouches_for_are_taken_where_that_is_said(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    with running_registry(tmp_path / "registry", tls=True) as registry:
        name, text = f"{registry.host}/tls:1", "FROM scratch\nCOPY file /\n"
        build(pybuild, tmp_path / "context", text, "-t", name)

        refused = pybuild("push", name, check=False)
        pybuild("push", "--tls-verify=false", name)
        other = Pybuild(tmp_path / "other")
        other("pull", "--tls-verify=false", name)
        output = f"type=image,name={registry.host}/tls:2,push=true,registry.insecure=true"
        build(pybuild, tmp_path / "context", text, "-o", output)

    assert refused.returncode == 1
    assert "certificate" in refused.stderr
    assert row_of(other, name)["digest"] == row_of(pybuild, name)["digest"]


# ── builds that push ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["--push", "type=registry", "type=image"])
def test_a_build_pushes_once_and_then_asks(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path, way: str
) -> None:
    repository = f"built/{way.strip('-').replace('=', '-')}"
    name, text = f"{registry.host}/{repository}:1", "FROM scratch\nCOPY file /\n"
    outputs = {
        "--push": ["-t", name, "--push"],
        "type=registry": ["-t", name, "-o", "type=registry"],
        "type=image": ["-o", f"type=image,name={name},push=true,registry.insecure=true"],
    }

    first = build(pybuild, tmp_path / "context", text, *outputs[way])
    again = build(pybuild, tmp_path / "context", text, *outputs[way])
    other = build(pybuild, tmp_path / "context", text + "LABEL a=b\n", *outputs[way])

    assert f"pushing {name}" in first.stderr
    assert "pushing" not in again.stderr
    assert f"pushing {name}" in other.stderr
    assert digest_of(raw(registry, f"{repository}:1")) in other.stderr
    assert (f"{registry.host}/{repository}" in pybuild("images").stdout) == (way == "type=image")


def test_a_push_by_digest_gives_no_tag(registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path) -> None:
    output = f"type=image,name={registry.host}/untagged,push=true,push-by-digest=true"
    metadata = tmp_path / "metadata"

    build(
        pybuild,
        tmp_path / "context",
        "FROM scratch\nCOPY file /\n",
        "-o",
        output,
        f"--metadata-file={metadata}",
    )

    told = json.loads(metadata.read_text())
    digest = told["containerimage.digest"]
    assert told["image.name"] == f"{registry.host}/untagged"
    assert digest_of(raw(registry, f"untagged@{digest}")) == digest
    tags = run(["curl", "-s", f"http://{registry.host}/v2/untagged/tags/list"]).stdout
    assert not json.loads(tags).get("tags")


def test_a_build_for_several_platforms_pushes_an_index(
    registry: RunningRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    name = f"{registry.host}/several:1"
    words = ["--platform", ",".join(PLATFORMS), "-t", name, "--push"]

    build(pybuild, tmp_path / "context", "FROM scratch\nCOPY file /\n", *words)

    listed = json.loads(raw(registry, "several:1"))["manifests"]
    assert [row["platform"]["architecture"] for row in listed] == ["amd64", "arm64"]
    for architecture in ("amd64", "arm64"):
        source = ["--override-arch", architecture, "copy", "--src-tls-verify=false", f"docker://{name}"]
        skopeo(*source, f"oci:{tmp_path}/copy:{architecture}")


def test_a_build_whose_push_fails_fails(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")

    words = ("-t", f"127.0.0.1:{free_port()}/app:1", "--push")
    done = pybuild.build(tmp_path / "context", *words, check=False)

    assert done.returncode == 1
    assert "nothing listens there" in done.stderr


# ── other clients ────────────────────────────────────────────────────────────────────────────────────────


@needs_root()
@needs("podman", "runc")
def test_podman_runs_what_was_pushed_and_pushes_what_is_pulled(
    registry: RunningRegistry, busybox_seed: Path, podman: Podman, tmp_path: Path
) -> None:
    run(["cp", "-a", busybox_seed, tmp_path / "store"])
    pybuild = Pybuild(tmp_path / "store")
    ours, theirs = f"{registry.host}/ours:1", f"{registry.host}/theirs:1"
    build(pybuild, tmp_path / "context", "FROM busybox\nRUN echo ours > /made\n", "-t", ours, "--push")

    image = podman("pull", "-q", "--tls-verify=false", ours).split()[-1]
    made = podman.run(image, "cat", "/made")
    podman("tag", image, theirs)
    podman("push", "-q", "--tls-verify=false", "--format", "v2s2", theirs)
    pybuild("pull", theirs)
    done = build(pybuild, tmp_path / "context", f"FROM {theirs}\nRUN cat /made\n", "-t", "last")

    assert made == "ours\n"
    assert "ours" in done.stderr


@needs_root()
@needs("docker", "dockerd", "setpriv")
def test_docker_runs_what_was_pushed_and_pushes_what_is_pulled(
    registry: RunningRegistry, busybox_seed: Path, tmp_path: Path
) -> None:
    run(["cp", "-a", busybox_seed, tmp_path / "store"])
    pybuild = Pybuild(tmp_path / "store")
    ours, theirs = f"{registry.host}/docker/ours:1", f"{registry.host}/docker/theirs:1"
    build(pybuild, tmp_path / "context", "FROM busybox\nRUN echo docker > /made\n", "-t", ours, "--push")
    with tempfile.TemporaryDirectory(prefix="dockerd-") as folder, dockerd(Path(folder)) as docker:
        if isinstance(docker, str):
            pytest.skip(docker)
        docker("pull", "--quiet", ours)
        made = docker.run(ours, ["cat", "/made"], []).stdout
        docker("tag", ours, theirs)
        docker("push", "--quiet", theirs)
    pybuild("pull", theirs)
    done = build(pybuild, tmp_path / "context", f"FROM {theirs}\nRUN cat /made\n", "-t", "last")

    assert made == "docker\n"
    assert "docker" in done.stderr


@needs_root()
@needs("buildah", "runc")
@pytest.mark.parametrize(("form", "compression"), [("docker", "gzip"), ("oci", "zstd")])
def test_buildah_builds_on_what_was_pushed_and_pushes_what_a_build_begins_with(
    registry: RunningRegistry, busybox_seed: Path, tmp_path: Path, form: str, compression: str
) -> None:
    run(["cp", "-a", busybox_seed, tmp_path / "store"])
    pybuild = Pybuild(tmp_path / "store")
    ours, theirs = f"{registry.host}/buildah/ours:{form}", f"{registry.host}/buildah/theirs:{form}"
    build(pybuild, tmp_path / "context", "FROM busybox\nRUN echo ours > /made\n", "-t", ours, "--push")
    (tmp_path / "Containerfile").write_text(f"FROM {ours}\nRUN cat /made > /copy && echo {form} >> /copy\n")

    def buildah(*words: str) -> None:
        storage = ["--root", f"{tmp_path}/buildah", "--runroot", f"{tmp_path}/run", "--storage-driver", "vfs"]
        run(["buildah", *storage, *words])

    buildah(
        "bud", "--isolation=chroot", "--tls-verify=false", f"--format={form}", "-t", theirs,
        "-f", str(tmp_path / "Containerfile"), str(tmp_path / "context"),
    )  # fmt: skip
    buildah("push", "--tls-verify=false", f"--compression-format={compression}", theirs)
    pybuild("pull", theirs)
    done = build(pybuild, tmp_path / "context", f"FROM {theirs}\nRUN cat /copy\n", "-t", "last")

    layers = [layer["mediaType"] for layer in json.loads(raw(registry, f"buildah/theirs:{form}"))["layers"]]
    assert layers[-1].endswith({"gzip": ".gzip", "zstd": "+zstd"}[compression])
    told = [line.split()[-1] for line in done.stderr.splitlines() if line.endswith((" ours", f" {form}"))]
    assert told == ["ours", form]

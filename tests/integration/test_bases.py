"""Base images from everywhere: scratch, the store, layouts, archives, registries; layers that others made."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support.contexts import lay, said, steps_run
from tests.support.images import read_image, read_only_image
from tests.support.layouts import LayoutMaker, Row, digest_of
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.registry import RunningRegistry, running_registry

pytestmark = [
    pytest.mark.root,
    pytest.mark.peers,
    needs_root(),
    needs("busybox", "skopeo", "docker-registry", "openssl", "umoci"),
]

Item = tuple[str, str, bytes | str]  # path, kind, content or link target
TYPES = {
    "file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
}  # fmt: skip


def tar_of(*items: Item, mode: int = 0o644) -> bytes:
    """A layer as others write it: exactly these members, no parents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, kind, content in items:
            info = tarfile.TarInfo(path)
            info.type, info.mtime = TYPES[kind], 1_500_000_000
            info.mode = 0o755 if kind == "folder" else mode
            if isinstance(content, str):
                info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def file(path: str, content: str = "") -> Item:
    return (path, "file", content.encode())


def folder(path: str) -> Item:
    return (path, "folder", "")


def image_of_tars(maker: LayoutMaker, tars: Sequence[bytes], tag: str, packing: str = "gzip") -> Row:
    """An image whose layers are these tars, packed: gzip, zstd, none."""
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress, "none": bytes}[packing]
    ending = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}[packing]
    layers = [maker.blob(pack(tar), f"application/vnd.oci.image.layer.v1.tar{ending}") for tar in tars]
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [{"created_by": f"layer {number}"} for number in range(len(tars))],
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": maker.document(config, "application/vnd.oci.image.config.v1+json"), "layers": layers,
    }  # fmt: skip
    row = maker.document(manifest, manifest["mediaType"])  # type: ignore[arg-type]
    maker.name(row, tag)
    return row


@pytest.fixture
def maker(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "foreign")


@pytest.fixture
def shell(busybox_layout: Path) -> bytes:
    """The busybox image's one layer, uncompressed: the lowest of an image that is to run something."""
    (layer,) = read_only_image(busybox_layout).manifest["layers"]
    return gzip.decompress((busybox_layout / "blobs/sha256" / layer["digest"][7:]).read_bytes())


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def push(source: str, registry: RunningRegistry, name: str, *flags: str) -> None:
    target = f"docker://{registry.host}/{name}"
    run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", *flags, source, target])


# ── the store, layouts, archives ─────────────────────────────────────────────────────────────────────────


def test_scratch_has_nothing(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nCOPY a /deep/er/a\n", {"a": "a"})

    pybuild("-t", "app", context)

    image = read_image(pybuild.root, "app:latest")
    assert {path: member.mode for path, member in image.tree().items()} == {
        "deep": 0o755, "deep/er": 0o755, "deep/er/a": 0o644,
    }  # fmt: skip


def test_an_image_that_was_built_is_a_base_and_its_layers_are_shared(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo one > /one\nENV ONE=1\nWORKDIR /work\nUSER 1000\n")
    pybuild("-t", "one", context)
    lay(context, "FROM one\nCOPY a .\nRUN id -u > /tmp/uid\n", {"a": "a"})

    pybuild("-t", "two", context)

    one, two = read_image(pybuild.root, "one:latest"), read_image(pybuild.root, "two:latest")
    assert two.manifest["layers"][:3] == one.manifest["layers"]
    assert len(two.manifest["layers"]) == 5
    assert two.config["history"][: len(one.config["history"])] == one.config["history"]
    assert (two.env["ONE"], two.run["WorkingDir"], two.run["User"]) == ("1", "/work", "1000")
    assert (two.text("work/a"), two.text("tmp/uid")) == ("a", "1000\n")


def test_a_base_by_its_digest(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nCOPY a /\n", {"a": "first"})
    digest = pybuild("-q", "-t", "base:1", context).stdout.strip()
    lay(context, "FROM scratch\nCOPY a /\n", {"a": "second"})
    pybuild("-t", "base:1", context)
    lay(context, f"FROM base@{digest}\nLABEL a=b\n")

    pybuild("-t", "app", context)

    assert read_image(pybuild.root, "app:latest").text("a") == "first"


def test_copy_takes_from_an_image(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nCOPY --from=busybox /bin/busybox /sh\n")

    pybuild("-t", "app", context)

    assert read_image(pybuild.root, "app:latest").tree()["sh"].mode == 0o755


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_a_loaded_archive_of_another_tool_is_a_base(
    pybuild: Pybuild, context: Path, busybox_layout: Path, tmp_path: Path, transport: str
) -> None:
    archive = tmp_path / "saved.tar"
    name = "team/base:7" if transport == "docker-archive" else "docker.io/team/base:7"
    run(["skopeo", "copy", "--quiet", f"oci:{busybox_layout}:1", f"{transport}:{archive}:{name}"])
    lay(context, "FROM team/base:7\nRUN echo works > /made\n")

    loaded = pybuild("load", "-i", archive)
    pybuild("-t", "app", context)

    assert "team/base:7" in loaded.stdout
    image = read_image(pybuild.root, "app:latest")
    assert image.text("made") == "works\n"
    assert image.diff_ids[0] == read_only_image(busybox_layout).diff_ids[0]


def test_an_archive_comes_on_standard_input(pybuild: Pybuild, busybox_layout: Path, tmp_path: Path) -> None:
    run(["skopeo", "copy", "--quiet", f"oci:{busybox_layout}:1", f"docker-archive:{tmp_path}/a.tar:piped:1"])

    with (tmp_path / "a.tar").open("rb") as archive:
        done = run_with_stdin(pybuild, archive.fileno(), "load", "--format=json")

    assert json.loads(done)["Names"] == ["piped:1"]


def run_with_stdin(pybuild: Pybuild, fd: int, *words: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(pybuild.root)}
    command = [sys.executable, "-m", "builder", *words]
    return subprocess.run(command, stdin=fd, env=env, capture_output=True, check=True, text=True).stdout


def test_a_podman_save_is_loaded(pybuild: Pybuild, context: Path, busybox_layout: Path, podman: Any,
                                 tmp_path: Path) -> None:  # fmt: skip
    ident = podman.pull(busybox_layout, "1")
    podman("tag", ident, "localhost/saved:3")
    podman("save", "--quiet", "-o", str(tmp_path / "saved.tar"), "localhost/saved:3")
    lay(context, "FROM localhost/saved:3\nRUN echo works > /made\n")

    pybuild("load", tmp_path / "saved.tar")
    pybuild("-t", "app", context)

    assert read_image(pybuild.root, "app:latest").text("made") == "works\n"


# ── registries ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_a_base_comes_over_http(
    pybuild: Pybuild, context: Path, busybox_layout: Path, registry: RunningRegistry, form: str
) -> None:
    push(f"oci:{busybox_layout}:1", registry, f"team/{form}:1", f"--format={form}")
    lay(context, f"FROM {registry.host}/team/{form}:1\nRUN echo works > /made\n")

    done = pybuild("--progress=plain", "-t", "app", context)

    image = read_image(pybuild.root, "app:latest")
    assert image.text("made") == "works\n"
    assert image.diff_ids[0] == read_only_image(busybox_layout).diff_ids[0]
    assert image.manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert f"FROM {registry.host}/team/{form}:1" in done.stderr


@pytest.mark.parametrize("packing", ["gzip", "zstd", "none"])
def test_layers_come_in_every_packing(
    pybuild: Pybuild, context: Path, registry: RunningRegistry, maker: LayoutMaker, shell: bytes, packing: str
) -> None:
    image_of_tars(maker, [shell, tar_of(file("second", packing))], "1", packing)
    push(f"oci:{maker.folder}:1", registry, f"packed:{packing}", "--preserve-digests")
    lay(context, f"FROM {registry.host}/packed:{packing}\nRUN cp /second /third\n")

    pybuild("-t", "app", context)

    image = read_image(pybuild.root, "app:latest")
    assert image.text("third") == packing
    assert image.manifest["layers"][:2] == read_image(maker.folder, "1").manifest["layers"]


def test_a_base_comes_over_https_with_an_authority_of_one_s_own(
    pybuild: Pybuild, context: Path, busybox_layout: Path, tmp_path: Path
) -> None:
    with running_registry(tmp_path / "registry", tls=True) as registry:
        push(f"oci:{busybox_layout}:1", registry, "base:1")
        lay(context, f"FROM {registry.host}/base:1\nRUN echo works > /made\n")

        refused = pybuild("-t", "app", context, check=False, env={"SSL_CERT_FILE": ""})
        pybuild("-t", "app", context, env={"SSL_CERT_FILE": str(registry.ca)})

    assert refused.returncode == 1
    assert "certificate" in refused.stderr
    assert read_image(pybuild.root, "app:latest").text("made") == "works\n"


def test_the_base_for_a_platform_is_chosen_from_an_index(
    pybuild: Pybuild, context: Path, registry: RunningRegistry, maker: LayoutMaker
) -> None:
    rows = {f"linux/{arch}": maker.image([{"arch": arch.encode()}], platform=f"linux/{arch}")
            for arch in ("amd64", "arm64", "arm/v7")}  # fmt: skip
    maker.index(rows, "many")
    registry.push(maker.folder, "many", "many:1")
    lay(context, f"FROM {registry.host}/many:1\nARG TARGETPLATFORM\nCOPY a /$TARGETPLATFORM/\n", {"a": "a"})

    for platform in rows:
        pybuild("--platform", platform, "-t", "app", context)
        image = read_image(pybuild.root, "app:latest")
        assert image.text("arch") == platform.removeprefix("linux/")
        assert image.config["architecture"] == platform.split("/")[1]
        assert f"{platform}/a" in image.tree()
    missing = pybuild("--platform=linux/s390x", context, check=False)

    assert missing.returncode == 1
    assert "linux/s390x" in missing.stderr
    assert "linux/arm64" in missing.stderr


def test_a_stage_has_a_platform_of_its_own(
    pybuild: Pybuild, context: Path, registry: RunningRegistry, maker: LayoutMaker
) -> None:
    rows = {f"linux/{arch}": maker.image([{"arch": arch.encode()}], platform=f"linux/{arch}")
            for arch in ("amd64", "arm64", "riscv64")}  # fmt: skip
    maker.index(rows, "many")
    registry.push(maker.folder, "many", "own:1")
    base = f"{registry.host}/own:1"
    lay(context, f"FROM --platform=linux/riscv64 {base} AS r\nFROM --platform=$TARGETPLATFORM {base} AS t\n"
                 f"FROM {base}\nCOPY --from=r /arch /r\nCOPY --from=t /arch /t\n")  # fmt: skip

    pybuild("--platform=linux/arm64", "-t", "app", context)

    image = read_image(pybuild.root, "app:latest")
    assert [image.text(path) for path in ("arch", "r", "t")] == ["arm64", "riscv64", "arm64"]


def test_a_moved_tag_is_seen_only_where_pull_asks(
    pybuild: Pybuild, context: Path, registry: RunningRegistry, maker: LayoutMaker
) -> None:
    def move(text: str) -> None:
        maker.name(maker.image([{"version": text.encode()}]), text)
        registry.push(maker.folder, text, "moving:1")

    lay(context, f"FROM {registry.host}/moving:1\nCOPY a /\n", {"a": "a"})

    def version(*flags: str) -> str:
        pybuild(*flags, "-t", "app", context)
        return read_image(pybuild.root, "app:latest").text("version")

    move("one")
    assert version() == "one"
    move("two")
    assert version() == "one"
    assert version("--pull") == "two"
    assert version() == "two"
    move("three")
    assert version("--pull") == "three"


def test_a_known_base_needs_no_registry(
    pybuild: Pybuild, context: Path, busybox_layout: Path, tmp_path: Path
) -> None:
    with running_registry(tmp_path / "registry") as registry:
        push(f"oci:{busybox_layout}:1", registry, "base:1")
        lay(context, f"FROM {registry.host}/base:1\nRUN echo first > /made\n")
        pybuild("-t", "app", context)

    assert steps_run(pybuild, context, "-t", "app") == []
    lay(context, f"FROM {registry.host}/base:1\nRUN echo second > /made\n")
    pybuild("-t", "app", context)
    assert read_image(pybuild.root, "app:latest").text("made") == "second\n"
    gone = pybuild("--pull", context, check=False)
    assert gone.returncode == 1
    assert registry.host in gone.stderr


def test_a_layer_that_is_not_what_its_digest_says_is_refused(
    pybuild: Pybuild, context: Path, registry: RunningRegistry, maker: LayoutMaker
) -> None:
    row = maker.image([{"good": os.urandom(5000)}])
    maker.name(row, "broken")
    registry.push(maker.folder, "broken", "broken:1")
    (layer,) = maker.manifest(row)["layers"]
    blob = registry.blob(layer["digest"])
    damaged = bytearray(blob.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    blob.write_bytes(damaged)
    lay(context, f"FROM {registry.host}/broken:1\nCOPY a /\n", {"a": "a"})

    done = pybuild("-t", "app", context, check=False)

    assert done.returncode == 1
    assert layer["digest"][7:19] in done.stderr
    blob.write_bytes(maker.path(layer["digest"]).read_bytes())
    pybuild("-t", "app", context)
    assert "good" in read_image(pybuild.root, "app:latest").tree()


def test_a_layer_whose_content_is_not_its_diff_id_is_refused(
    pybuild: Pybuild, context: Path, maker: LayoutMaker
) -> None:
    row = maker.image(
        [{"a": b"a"}], config={"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}
    )
    maker.name(row, "wrong")
    lay(context, "FROM base\nCOPY b /\n", {"b": "b"})

    done = pybuild("--build-context", f"base=oci-layout://{maker.folder}:wrong", context, check=False)

    assert done.returncode == 1
    assert "diff" in done.stderr


@pytest.mark.parametrize(
    "name", ["docker.io/busybox", "library/busybox:latest", "index.docker.io/library/busybox"]
)
def test_docker_s_names_are_normalised(pybuild: Pybuild, context: Path, name: str) -> None:
    lay(context, f"FROM {name}\nRUN true\n")

    pybuild("-t", "app", context)


# ── layers as others make them ───────────────────────────────────────────────────────────────────────────


def build_on(pybuild: Pybuild, context: Path, maker: LayoutMaker, tars: Sequence[bytes], steps: str) -> Any:
    """Build these steps on an image of these layers; the image that was made, and what its RUNs said."""
    image_of_tars(maker, tars, "1")
    lay(context, "FROM base\n" + steps)
    lines = said(pybuild, context, f"--build-context=base=oci-layout://{maker.folder}:1", "-t", "app")
    image = read_image(pybuild.root, "app:latest")
    assert image.manifest["layers"][: len(tars)] == read_image(maker.folder, "1").manifest["layers"]
    return image, lines


def test_opaque_whiteouts_hide_what_is_below(
    pybuild: Pybuild, context: Path, maker: LayoutMaker, shell: bytes
) -> None:
    tars = [
        shell,
        tar_of(folder("d"), file("d/old"), folder("d/sub"), file("d/sub/old")),
        tar_of(file("gone"), folder("e"), file("e/x")),
        tar_of(folder("d"), file("d/.wh..wh..opq"), file("d/new"), file(".wh.gone"), file(".wh.e")),
        tar_of(folder("e"), file("e/again")),
    ]  # fmt: skip

    image, lines = build_on(
        pybuild, context, maker, tars, "RUN find /d /e /gone 2>/dev/null | sort; rm -r /d && mkdir /d\n"
    )

    assert lines == ["/d", "/d/new", "/e", "/e/again"]
    assert {path for path in image.tree() if path.split("/")[0] in ("d", "e", "gone")} == {
        "d",
        "e",
        "e/again",
    }


def test_a_hard_link_of_a_layer_below_is_split_where_one_name_changes(
    pybuild: Pybuild, context: Path, maker: LayoutMaker, shell: bytes
) -> None:
    linked = [("two", "hardlink", "one"), ("three", "hardlink", "two")]
    tars = [shell, tar_of(file("one", "content"), *linked), tar_of(file("two", "other"))]

    image, lines = build_on(
        pybuild, context, maker, tars, "RUN cat /one /two /three; echo; stat -c %h /two; echo x >> /three\n"
    )

    assert lines == ["contentothercontent", "1"]
    assert [image.text(path) for path in ("one", "two", "three")] == ["content", "other", "contentx\n"]


def test_a_hard_link_to_another_layer_s_file_is_refused(
    pybuild: Pybuild, context: Path, maker: LayoutMaker, shell: bytes
) -> None:
    """As podman and docker's own storage have it: a layer is unpacked without those below."""
    image_of_tars(maker, [shell, tar_of(file("low")), tar_of(("high", "hardlink", "low"))], "1")
    lay(context, "FROM base\nRUN true\n")

    done = pybuild(f"--build-context=base=oci-layout://{maker.folder}:1", context, check=False)

    assert done.returncode == 1
    assert "hard link 'high' to 'low'" in done.stderr


def test_folders_that_a_layer_only_implies_keep_what_they_are_below(
    pybuild: Pybuild, context: Path, maker: LayoutMaker, shell: bytes
) -> None:
    tars = [shell, tar_of(("tmp/deep/file", "file", b"a")), tar_of(file("new/deep/er", "b"))]

    _, lines = build_on(
        pybuild,
        context,
        maker,
        tars,
        "RUN stat -c '%a %n' /tmp /tmp/deep /new /new/deep\nCOPY --from=base /new /copied\n",
    )

    assert lines == ["1777 /tmp", "755 /tmp/deep", "755 /new", "755 /new/deep"]


def test_removals_of_what_is_not_there_leave_no_name(
    pybuild: Pybuild, context: Path, maker: LayoutMaker, shell: bytes
) -> None:
    stale = tar_of(folder("only"), file("only/.wh.never"), file("implied/.wh.never"), file(".wh.none"))

    steps = "RUN find /only /implied 2>&1; rmdir /only && ls -d /only || true\n"

    image, lines = build_on(pybuild, context, maker, [shell, stale], steps)

    assert lines == ["/only", "/implied", "ls: /only: No such file or directory"]
    assert "only" not in image.tree()


def test_a_file_takes_a_folder_s_place_and_the_other_way_round(
    pybuild: Pybuild, context: Path, maker: LayoutMaker, shell: bytes
) -> None:
    tars = [
        shell,
        tar_of(folder("a"), file("a/in"), file("b", "file"), ("c", "symlink", "a")),
        tar_of(file("a", "now a file"), folder("b"), file("b/in"), folder("c"), file("c/in")),
    ]

    _, lines = build_on(pybuild, context, maker, tars, "RUN cat /a && echo && ls /b /c && stat -c %F /c\n")

    assert lines == ["now a file", "/b:", "in", "", "/c:", "in", "directory"]


def test_symlinks_of_an_image_lead_nowhere_outside(
    pybuild: Pybuild, context: Path, maker: LayoutMaker, shell: bytes, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    up = "/".join([".."] * 20)
    tars = [
        shell,
        tar_of(("out", "symlink", str(victim)), ("up", "symlink", f"{up}{victim}")),
        tar_of(file("out/pwned", "1"), file("up/pwned", "2")),
    ]

    build_on(pybuild, context, maker, tars, "COPY Dockerfile /out/\nRUN echo x > /up/x || true\n")

    assert list(victim.iterdir()) == []


def test_an_image_of_umoci_is_a_base(
    pybuild: Pybuild, context: Path, busybox_layout: Path, tmp_path: Path
) -> None:
    """umoci deletes and replaces by its own rules; what it repacks is taken as it unpacks it."""
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    shutil.copytree(busybox_layout, layout)
    run(["umoci", "unpack", "--image", f"{layout}:1", bundle])
    root = bundle / "rootfs"
    shutil.rmtree(root / "home")
    (root / "home").write_text("now a file")
    (root / "etc/group").unlink()
    (root / "made").mkdir(mode=0o2750)
    os.chown(root / "made", 5, 6)
    (root / "made").chmod(0o2750)
    run(["umoci", "repack", "--image", f"{layout}:2", bundle])
    lay(context, "FROM base\nRUN cat /home; echo; ls /etc; stat -c '%a %u %g' /made; touch /made/x\n")

    lines = said(pybuild, context, f"--build-context=base=oci-layout://{layout}:2", "-t", "app")

    assert lines[0] == "now a file"
    assert "group" not in lines
    assert lines[-1] == "2750 5 6"


def test_layers_are_stored_and_unpacked_once(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo a\n")
    pybuild("-t", "a", context)
    before = len(os.listdir(pybuild.root / "layers"))
    lay(context, "FROM busybox\nRUN echo b\n")

    pybuild("-t", "b", context)

    assert len(os.listdir(pybuild.root / "layers")) == before + 1


def test_an_image_of_the_store_for_another_platform_is_told_of(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nLABEL a=b\n")
    pybuild("--platform=linux/s390x", "-t", "127.0.0.1:1/elsewhere:1", context)
    lay(context, "FROM 127.0.0.1:1/elsewhere:1\nLABEL c=d\n")

    done = pybuild("--platform=linux/arm64", context, check=False)
    pybuild("--platform=linux/s390x", context)

    assert done.returncode == 1
    assert "127.0.0.1:1/elsewhere:1 for linux/s390x, not for linux/arm64" in done.stderr

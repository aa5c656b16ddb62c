"""Builds for several platforms: one index, what is shared done once, programs of other machines emulated."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.binfmt import needs_binfmt_misc, program_of_arm64, registered
from tests.support.images import ReadImage, read_descriptor
from tests.support.machine import needs, needs_root, run
from tests.support.workshop import Workshop

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

INDEX = "application/vnd.oci.image.index.v1+json"
TWO = "--platform=linux/amd64,linux/arm64"
PLAIN = """\
FROM scratch AS files
COPY shared /shared
FROM scratch
COPY --from=files /shared /shared
ARG TARGETARCH
COPY $TARGETARCH /own
LABEL arch=$TARGETARCH
"""
CROSS = """\
FROM --platform=$BUILDPLATFORM busybox AS build
RUN echo common > /common
ARG TARGETARCH
RUN echo for $TARGETARCH on $(uname -m) > /out
FROM scratch
COPY --from=build /common /out /
"""
FOREIGN = "FROM scratch\nCOPY program /bin/sh\nRUN one\n"


@pytest.fixture
def shop(workshop: Workshop) -> Workshop:
    """With a context for PLAIN."""
    workshop.dockerfile(PLAIN)
    workshop.write("shared", "shared")
    for name in ("amd64", "arm64"):
        workshop.write(name, name)
    return workshop


def images_of(layout: Path, name: str = "") -> dict[str, ReadImage]:
    """Platform -> image, of the one index of a layout (or that of a name)."""
    rows = json.loads((layout / "index.json").read_bytes())["manifests"]
    found = {
        row["digest"]: row
        for row in rows
        if not name or (row.get("annotations") or {}).get("org.opencontainers.image.ref.name") == name
    }
    (row,) = found.values()
    assert row["mediaType"] == INDEX
    assert "platform" not in row
    index = json.loads((layout / "blobs/sha256" / row["digest"].removeprefix("sha256:")).read_bytes())
    assert (index["schemaVersion"], index["mediaType"]) == (2, INDEX)
    return {_name_of(child): read_descriptor(layout, child) for child in index["manifests"]}


def _name_of(child: dict[str, Any]) -> str:
    platform = child["platform"]
    return "/".join(platform[key] for key in ("os", "architecture", "variant") if key in platform)


def recorded(shop: Workshop) -> int:
    """How many builds were recorded: those that had something to do."""
    return len(set(os.listdir(shop.root / "builds")) - {"cached"})


# ── the index ────────────────────────────────────────────────────────────────────────────────────────────


def test_several_platforms_give_an_index_in_the_store(shop: Workshop) -> None:
    told, iid = shop.folder / "told.json", shop.folder / "iid"
    flags = ("-t", "app:1", "-t", "app:2", "--metadata-file", told, "--iidfile", iid)

    platforms = ("--platform", "linux/amd64", "--platform=linux/arm64,linux/arm/v6")
    outcome = shop.build(*platforms, *flags, dockerfile=PLAIN.replace("COPY $TARGETARCH /own\n", ""))

    images = images_of(shop.root, "app:1")
    assert list(images) == ["linux/amd64", "linux/arm64", "linux/arm/v6"]
    assert [image.run["Labels"] for image in images.values()] == [
        {"arch": "amd64"}, {"arch": "arm64"}, {"arch": "arm"},
    ]  # fmt: skip
    assert images["linux/arm/v6"].config["variant"] == "v6"
    assert shop.names()["app:1"] == shop.names()["app:2"] == outcome.digest
    metadata = json.loads(told.read_text())
    assert metadata["containerimage.digest"] == iid.read_text() == outcome.digest
    assert metadata["containerimage.descriptor"]["mediaType"] == INDEX
    assert metadata["image.name"] == "docker.io/library/app:1,docker.io/library/app:2"
    assert "containerimage.config.digest" not in metadata


def test_what_platforms_share_is_done_once_and_steps_tell_theirs(shop: Workshop) -> None:
    outcome = shop.build(TWO)

    assert sorted(outcome.ran) == [
        "[linux/amd64 files 1/1] COPY shared /shared",
        "[linux/amd64 stage-1 1/2] COPY --from=files /shared /shared",
        "[linux/amd64 stage-1 2/2] COPY amd64 /own",
        "[linux/arm64 stage-1 2/2] COPY arm64 /own",
    ]


def test_a_base_is_chosen_by_platform(shop: Workshop) -> None:
    shop.build("--platform=linux/amd64,linux/arm64", "-t", "base:1")

    shop.build(TWO, "-t", "app:1", dockerfile="FROM base:1\nLABEL app=1\n")
    lacking = shop.fail("--platform=linux/amd64,linux/s390x", dockerfile="FROM base:1\n")

    images = images_of(shop.root, "app:1")
    assert [image.text("own") for image in images.values()] == ["amd64", "arm64"]
    assert [image.config["architecture"] for image in images.values()] == ["amd64", "arm64"]
    assert "linux/s390x" in lacking.message
    assert lacking.hint == "it is there for linux/amd64, linux/arm64"
    assert lacking.marked == "FROM base:1"


def test_a_base_is_chosen_by_variant(shop: Workshop) -> None:
    text = "FROM scratch\nARG TARGETARCH\nARG TARGETVARIANT\nCOPY shared /$TARGETARCH$TARGETVARIANT\n"
    shop.build("--platform=linux/arm/v6,linux/arm/v7,linux/arm64", "-t", "base:1", dockerfile=text)

    asked = "linux/arm/v6,linux/arm/v7,linux/arm/v8,linux/arm64/v8,linux/arm64/v9"
    shop.build(f"--platform={asked}", "-t", "app:1", dockerfile="FROM base:1\n")
    older = shop.fail("--platform=linux/arm/v5", dockerfile="FROM base:1\n")

    files = {platform: list(image.tree()) for platform, image in images_of(shop.root, "app:1").items()}
    assert files == {
        "linux/arm/v6": ["armv6"], "linux/arm/v7": ["armv7"], "linux/arm/v8": ["armv7"],
        "linux/arm64": ["arm64"], "linux/arm64/v9": ["arm64"],
    }  # fmt: skip
    assert "linux/arm/v5" in older.message


def test_cross_builds_need_no_emulation(shop: Workshop) -> None:
    outcome = shop.build("--platform=linux/amd64,linux/arm64,linux/riscv64", "-t", "app:1", dockerfile=CROSS)

    images = images_of(shop.root, "app:1")
    machine = os.uname().machine
    assert [image.text("out") for image in images.values()] == [
        f"for {architecture} on {machine}\n" for architecture in ("amd64", "arm64", "riscv64")
    ]
    assert sum("echo common" in step for step in outcome.ran) == 1
    assert any(step.startswith("[linux/amd64->riscv64 build 3/3] RUN") for step in outcome.ran)


# ── the cached path ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("output", ["", "type=oci,dest=out", "type=tar,dest=out", "type=local,dest=out"])
@pytest.mark.parametrize("form", [TWO, "--build-arg=BUILDKIT_MULTI_PLATFORM=1"])
def test_a_cached_build_gives_the_same_again(shop: Workshop, form: str, output: str) -> None:
    words = [form, *(["-o", output] if output else ["-t", "app:1"])]
    out = shop.folder / "out"

    def build() -> object:
        if out.exists():
            (shutil.rmtree if out.is_dir() else os.unlink)(out)
        outcome = shop.build(*words)
        if not output:
            return outcome.digest
        return sorted(map(str, out.rglob("*"))) if out.is_dir() else out.read_bytes()

    first = build()
    before = recorded(shop)

    assert build() == first
    assert recorded(shop) == before


def test_a_change_for_one_platform_is_seen_by_the_cached_path(shop: Workshop) -> None:
    shop.build(TWO, "-t", "app:1")
    shop.write("arm64", "other")

    outcome = shop.build(TWO, "-t", "app:1")

    assert outcome.ran == ["[linux/arm64 stage-1 2/2] COPY arm64 /own"]
    assert [image.text("own") for image in images_of(shop.root, "app:1").values()] == ["amd64", "other"]


def test_the_order_of_platforms_is_that_of_the_index(shop: Workshop) -> None:
    shop.build(TWO, "-t", "app:1")

    shop.build("--platform=linux/arm64,linux/amd64", "-t", "app:1")

    assert list(images_of(shop.root, "app:1")) == ["linux/arm64", "linux/amd64"]


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────


def files_of(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def test_folders_and_tars_have_a_folder_for_each_platform(shop: Workshop) -> None:
    out, archive = shop.folder / "out", shop.folder / "out.tar"

    shop.build("--platform=linux/amd64,linux/arm64/v8", "-o", out, "-o", f"type=tar,dest={archive}")

    expected = {
        "linux_amd64/own": "amd64", "linux_amd64/shared": "shared",
        "linux_arm64/own": "arm64", "linux_arm64/shared": "shared",
    }  # fmt: skip
    assert files_of(out) == expected
    with tarfile.open(archive) as tar:
        members = tar.getnames()
    assert members == ["linux_amd64", "linux_amd64/own", "linux_amd64/shared", "linux_arm64",
                       "linux_arm64/own", "linux_arm64/shared"]  # fmt: skip


def test_folders_of_platforms_can_be_left_out_or_asked_for(shop: Workshop) -> None:
    lone = PLAIN.replace("/own", "/").replace("COPY --from=files /shared /shared\n", "")
    out, one, bad = shop.folder / "out", shop.folder / "one", shop.folder / "bad"

    shop.build(TWO, "-o", f"type=local,dest={out},platform-split=false", dockerfile=lone)
    shop.build("--platform=linux/arm64", "-o", f"type=local,dest={one},platform-split=true")
    refused = shop.fail(TWO, "-o", f"type=local,dest={bad},platform-split=false", dockerfile=PLAIN)

    assert files_of(out) == {"amd64": "amd64", "arm64": "arm64"}
    assert files_of(one) == {"linux_arm64/arm64": "arm64"}
    assert "is there for linux/amd64 and for linux/arm64" in refused.message
    assert not bad.exists()


def test_one_platform_has_the_form_of_several_where_that_is_asked_for(shop: Workshop) -> None:
    out, told = shop.folder / "out", shop.folder / "told.json"
    asked = ("--platform=linux/arm64", "--build-arg=BUILDKIT_MULTI_PLATFORM=1")

    plain = shop.build("--platform=linux/arm64", "-t", "app:0")
    index = shop.build(*asked, "-t", "app:1", "--annotation=index:of=one")
    folder = shop.build(*asked, "-o", out)
    told_of = shop.build(*asked, "-t", "app:2", "--provenance=true", "--metadata-file", told)
    refused = shop.fail(*asked, "-o", f"type=docker,dest={shop.folder}/out.tar")
    merged = f"type=local,dest={shop.folder}/merged,platform-split=false"
    shop.build(*asked, "--provenance=true", "-o", merged)

    images = images_of(shop.root, "app:1")
    assert list(images) == ["linux/arm64"]
    assert images["linux/arm64"].digest == plain.digest != index.digest
    assert files_of(out) == {"linux_arm64/own": "arm64", "linux_arm64/shared": "shared"}
    assert index.ran == folder.ran == told_of.ran == []
    assert sorted(os.listdir(shop.folder / "merged")) == ["own", "provenance.linux_arm64.json", "shared"]
    assert "buildx.build.provenance/linux/arm64" in json.loads(told.read_text())
    assert "cannot hold an image of several platforms" in refused.message


def test_a_docker_archive_takes_one_platform(shop: Workshop) -> None:
    out = shop.folder / "out.tar"

    refused = shop.fail(TWO, "-o", f"type=docker,dest={out}")
    shop.build(TWO, "--load", "-t", "app:1")

    assert "cannot hold an image of several platforms" in refused.message
    assert "type=oci" in refused.hint
    assert list(images_of(shop.root, "app:1")) == ["linux/amd64", "linux/arm64"]


@pytest.mark.peers
@needs("skopeo", "umoci")
def test_peers_read_the_index(shop: Workshop) -> None:
    out = shop.folder / "out.tar"
    shop.build(TWO, "-o", f"type=oci,dest={out},name=app:1")

    copied = shop.folder / "copied"
    run(["skopeo", "copy", "--all", f"oci-archive:{out}", f"oci:{copied}:one"])

    for architecture in ("amd64", "arm64"):
        words = ["skopeo", "--override-os=linux", f"--override-arch={architecture}", "inspect"]
        told = json.loads(run([*words, f"oci-archive:{out}"]).stdout)
        assert (told["Architecture"], told["Labels"]) == (architecture, {"arch": architecture})
    run(["umoci", "stat", "--image", f"{copied}:one"], check=False)  # it takes no index, and must not crash
    assert list(images_of(copied)) == ["linux/amd64", "linux/arm64"]


# ── told, not built ──────────────────────────────────────────────────────────────────────────────────────


def told(shop: Workshop, *words: str) -> dict[str, Any]:
    outcome = shop.run(*words, shop.context)
    assert outcome.status == 0, outcome.err
    document: dict[str, Any] = json.loads(outcome.out)
    return document


def test_a_plan_and_an_account_tell_of_all_platforms(shop: Workshop) -> None:
    plan = told(shop, "--plan", "--format=json", TWO)
    shop.build(TWO)
    shop.write("amd64", "changed")
    later = told(shop, "--plan", "--format=json", TWO)

    assert plan["platform"] == "linux/amd64,linux/arm64"
    names = [step["label"] for step in plan["steps"]]
    assert "[linux/arm64 stage-1 2/2] COPY arm64 /own" in names
    states = {step["label"]: step["state"] for step in later["steps"]}
    assert states["[linux/amd64 stage-1 2/2] COPY amd64 /own"] == "miss"
    assert states["[linux/arm64 stage-1 2/2] COPY arm64 /own"] == "hit"


def test_the_graph_has_a_target_for_each_platform(shop: Workshop) -> None:
    graph = told(shop, "--call=graph,format=json", TWO)

    assert len(graph["targets"]) == 2
    assert graph["target"] == graph["targets"][-1]
    assert sum("COPY shared" in vertex["label"] for vertex in graph["vertices"]) == 1


def test_a_check_looks_at_all_platforms_and_tells_once(shop: Workshop) -> None:
    shop.build("--platform=linux/amd64", "-t", "only:1")
    shop.dockerfile("FROM only:1\nARG TARGETARCH\nCOPY $TARGETARCH $nothing/own\nENTRYPOINT true\n")

    outcome = shop.run("--check", "--platform=linux/amd64,linux/amd64/v2", shop.context)

    assert outcome.status == 1
    assert outcome.out.count("JSONArgsRecommended") == 1
    assert outcome.out.count("UndefinedVar") == 1


# ── caches elsewhere ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_cache_elsewhere_has_all_platforms(shop: Workshop, busybox_seed: Path, mode: str) -> None:
    cache, other = shop.folder / "cache", shop.folder / "other"
    shutil.copytree(busybox_seed, other, symlinks=True)
    first = shop.build(TWO, "--cache-to", f"type=local,dest={cache},mode={mode}", dockerfile=CROSS)

    again = shop.run(TWO, "--cache-from", f"type=local,src={cache}", shop.context, root=other)

    assert [step for step in again.ran if "RUN" in step or "COPY" in step] == []
    assert again.digest == first.digest


# ── emulation ────────────────────────────────────────────────────────────────────────────────────────────


def fake_emulator(folder: Path) -> Path:
    """A static program of this machine that says what it is to run: it stands for an emulator."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    echo = folder / "emulator" / "echo"
    echo.parent.mkdir(mode=0o755)
    shutil.copy(busybox, echo)
    return echo


@pytest.fixture
def foreign(shop: Workshop) -> Workshop:
    """With a stage whose shell is a program of another machine."""
    shop.dockerfile(FOREIGN)
    program = shop.write("program", program_of_arm64(b"run by arm64\n", b"/made"))
    data = bytearray(program.read_bytes())
    data[18:20] = (243).to_bytes(2, "little")  # riscv64, which nobody else on this machine is likely to test
    program.write_bytes(data)
    program.chmod(0o755)
    return shop


def test_without_an_emulator_the_line_is_named_and_what_to_install(foreign: Workshop) -> None:
    outcome = foreign.fail("--platform=linux/amd64,linux/riscv64", dockerfile=FOREIGN)
    alone = foreign.fail("--platform=linux/riscv64", dockerfile=FOREIGN)

    assert alone.message == (
        "cannot run /bin/sh for linux/riscv64: no emulator is registered for it in binfmt_misc"
    )
    assert "apt-get install qemu-user-static" in alone.hint
    assert "FROM --platform=$BUILDPLATFORM" in alone.hint
    assert alone.marked == outcome.marked == "RUN one"


@needs_binfmt_misc()
@pytest.mark.parametrize("flags", ["F", ""])
def test_a_step_of_another_platform_is_given_to_the_emulator(
    foreign: Workshop, tmp_path: Path, flags: str
) -> None:
    echo = fake_emulator(tmp_path)

    with registered("riscv64", echo, flags):
        outcome = foreign.build("--platform=linux/riscv64", "-t", "app:1")

    assert "/bin/sh -c one" in outcome.err
    rows = json.loads((foreign.root / "index.json").read_bytes())["manifests"]
    (row,) = [row for row in rows if row["digest"] == outcome.digest]
    first = tmp_path.parts[1]
    assert not any(path.split("/")[0] == first for path in read_descriptor(foreign.root, row).tree())


@needs_binfmt_misc()
def test_an_emulator_that_is_brought_cannot_be_changed(foreign: Workshop, tmp_path: Path) -> None:
    echo = fake_emulator(tmp_path)
    before = echo.read_bytes()
    text = (
        "FROM --platform=$BUILDPLATFORM busybox AS native\n"
        "FROM scratch\nCOPY --from=native / /\n"
        f"RUN test -x {echo} && ! echo bad > {echo} && ! rm {echo} && ! chmod 4777 {echo}\n"
    )

    with registered("riscv64", echo):
        foreign.build("--platform=linux/riscv64", dockerfile=text)

    assert echo.read_bytes() == before
    assert echo.stat().st_mode & 0o7777 == 0o755


@needs_binfmt_misc()
def test_an_emulator_that_is_gone_is_named(foreign: Workshop, tmp_path: Path) -> None:
    echo = fake_emulator(tmp_path)

    with registered("riscv64", echo):
        echo.unlink()
        outcome = foreign.fail("--platform=linux/riscv64")

    assert f"its emulator {echo} is not there" in outcome.message
    assert outcome.marked == "RUN one"


@needs_binfmt_misc()
@needs("qemu-aarch64-static")
@pytest.mark.parametrize("flags", ["F", ""])
def test_qemu_runs_what_was_made_for_arm64(shop: Workshop, flags: str) -> None:
    program = shop.write("program", program_of_arm64(b"run by arm64\n", b"/made"))
    program.chmod(0o755)
    qemu = Path(shutil.which("qemu-aarch64-static") or "")
    text = "FROM scratch AS one\nCOPY program /bin/sh\nRUN one\nFROM scratch\nCOPY --from=one /made /\n"

    with registered("arm64", qemu, flags):
        outcome = shop.build("--platform=linux/arm64", "-o", shop.folder / "out", dockerfile=text)

    assert "run by arm64" in outcome.err
    assert files_of(shop.folder / "out") == {"made": "run by arm64\n"}

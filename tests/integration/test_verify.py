"""Images that are built again from nothing: what is the same everywhere, and what is told of the rest."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.digest import Digest
from builder.images.find import find_image
from builder.store.leases import held_by_builds
from builder.store.root import open_store
from builder.verify.rebuild import Verification
from tests.support.machine import Pybuild, needs, needs_root, run
from tests.support.web import Answer, Web

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

NOBODY = 1 << 22  # the number of no process: it is the kernel's highest bound for them
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
EXACT = ("-o", "type=image,name=app,rewrite-timestamp=true")
# One of each kind of step, with names, owners, modes, links and times that a writer could get wrong.
ALL_KINDS = """\
FROM busybox AS made
WORKDIR /made/by/workdir
RUN echo one > one && ln one two && ln -s one three && mkfifo pipe && chown 17:18 one && chmod 4711 one
FROM busybox
ARG WORD=word
ENV WORD=$WORD
COPY --from=made /made /made
COPY --chown=5:6 --chmod=640 . /context/
COPY --link sub /linked/
COPY <<EOF /heredoc
text
EOF
ADD archive.tar /unpacked/
RUN --mount=type=cache,target=/cache ls /cache > /cached; echo more >> /cache/more
RUN rm /heredoc && mkdir -p /z /a/é "/b c" && for i in 9 1 5; do echo $i > /z/$i; done
LABEL b=2 a=1
VOLUME /v
EXPOSE 80/tcp 22/tcp
USER 17
"""


@pytest.fixture
def whole_context(context: Path) -> Path:
    """A context for ALL_KINDS."""
    (context / "Dockerfile").write_text(ALL_KINDS)
    (context / "sub").mkdir()
    (context / "sub/é").write_text("é")
    (context / ("long" * 40)).write_text("a name that a tar header has no room for\n")
    (context / "link").symlink_to("sub/é")
    (context / "run").write_text("#!/bin/sh\n")
    (context / "run").chmod(0o755)
    run(["tar", "--mtime=@1600000000", "--owner=7", "--group=8", "-cf", "archive.tar", "sub"], cwd=context)
    return context


def verified(pybuild: Pybuild, *words: str, **options: Any) -> dict[str, Any]:
    """What is found, as the document has it; the exit status says the same."""
    done = pybuild("verify", "--format=json", "-q", *words, check=False, **options)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["reproduced"] else 1), done.stderr
    assert os.listdir(pybuild.root / "ingest") == []
    return found


def kinds_of(found: dict[str, Any]) -> dict[str, list[str]]:
    """The kinds of differences by path, times left out."""
    (platform,) = found["platforms"]
    files = [file for step in platform["steps"] for file in step["files"]]
    return {file["path"]: rest for file in files if (rest := [k for k in file["kinds"] if k != "time"])}


def test_all_that_the_builder_makes_is_made_the_same_again(pybuild: Pybuild, whole_context: Path) -> None:
    pybuild.build(whole_context, *EXACT, env=EPOCH)

    found = verified(pybuild, "app", "--twice")

    assert found["reproduced"], found
    (platform,) = found["platforms"]
    assert len(set(platform["digests"].values())) == 1


def test_an_image_is_the_same_wherever_and_by_whomever_it_is_built(
    pybuild: Pybuild, whole_context: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "with a longer name"
    shutil.copytree(whole_context, other, symlinks=True)
    for path in sorted(other.rglob("*")):
        os.chown(path, 1234, 1234, follow_symlinks=False)
    store = Pybuild(tmp_path / "other-store")
    run(["cp", "-a", pybuild.root, store.root])
    odd = {
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "4711",
        "HOME": "/nowhere",
        "USER": "nobody",
    }
    flags = ["--progress=plain", *EXACT, "--metadata-file", str(tmp_path / "meta.json")]

    pybuild("build", *flags, whole_context, env=EPOCH)
    here = json.loads((tmp_path / "meta.json").read_bytes())
    umask = os.umask(0o077)
    try:
        store("build", *flags, "--jobs=1", ".", env={**EPOCH, **odd}, cwd=other)
    finally:
        os.umask(umask)
    there = json.loads((tmp_path / "meta.json").read_bytes())

    assert there["containerimage.digest"] == here["containerimage.digest"]
    assert there["containerimage.config.digest"] == here["containerimage.config.digest"]


def test_layers_of_copied_files_are_the_same_without_a_time_given(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY --chown=3:4 a /etc/\nADD archive.tar /etc/\n")
    (context / "a").write_text("a")
    run(["tar", "--mtime=@1600000000", "-cf", "archive.tar", "a"], cwd=context)
    pybuild.build(context, "-t", "app")

    found = verified(pybuild, "app", "--twice")

    assert found["onlyTimes"]
    assert not any(step["files"] for step in found["platforms"][0]["steps"])


def test_an_image_whose_layers_are_one_is_compared_as_such(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo a > /a\nRUN echo b > /b\n")
    pybuild.build(context, *EXACT, "--squash", "--annotation", "a=b", env=EPOCH)

    found = verified(pybuild, "app")

    assert found["reproduced"], found
    assert len(set(found["platforms"][0]["digests"].values())) == 1


def test_what_a_step_makes_otherwise_each_time_is_told_by_file_and_kind(
    pybuild: Pybuild, context: Path
) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN cat /proc/sys/kernel/random/uuid > /content && echo same > /same\n"
        "RUN touch /a && chown 1$(tr -dc 0-9 < /proc/sys/kernel/random/uuid | head -c 6) /a\n"
    )
    pybuild.build(context, *EXACT, env=EPOCH)

    found = verified(pybuild, "app", "--twice")

    assert kinds_of(found) == {"/content": ["content"], "/a": ["owner"]}
    (platform,) = found["platforms"]
    assert [step["betweenRebuilds"] for step in platform["steps"]] == [True, True]
    assert [step["step"].split()[3] for step in platform["steps"]] == ["cat", "touch"]
    text = pybuild("verify", "-q", "app", "--twice", check=False).stdout
    assert "differs from one rebuild to the next\n    /content: content (image sha256:" in text
    assert "app is not reproduced: 2 rebuilds from nothing, 2 steps gave something else" in text


def test_times_are_told_apart_and_may_be_left_out_of_the_verdict(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo a > /a\n")
    pybuild.build(context, "-t", "app")

    found = verified(pybuild, "app")

    assert found["onlyTimes"]
    assert kinds_of(found) == {}
    assert [each["path"] for each in found["platforms"][0]["config"]] == ["created"]
    assert pybuild("verify", "-q", "--ignore-times", "app").returncode == 0


def test_a_context_that_has_changed_shows_in_the_step_that_copies_it(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY . /files/\nENV A=1\n")
    (context / "changed").write_text("one")
    (context / "gone").write_text("one")
    pybuild.build(context, *EXACT, env=EPOCH)
    (context / "changed").write_text("three")
    (context / "gone").unlink()
    (context / "gone").mkdir()
    (context / "more").touch()

    found = verified(pybuild, "app", "--twice")

    assert kinds_of(found) == {
        "/files/changed": ["content", "size"], "/files/gone": ["type"], "/files/more": ["missing"],
    }  # fmt: skip
    (platform,) = found["platforms"]
    assert not any(step["betweenRebuilds"] for step in platform["steps"])


def test_another_config_is_told_by_its_fields(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nENV A=1 B=2\nCMD one\n")
    pybuild.build(context, *EXACT, env=EPOCH)
    (context / "Dockerfile").write_text("FROM busybox\nENV A=1 B=3\nCMD one\n")

    found = verified(pybuild, "app")

    (platform,) = found["platforms"]
    assert [each["path"] for each in platform["config"]] == ["config.Env.B"]
    assert [step["history"][0]["path"] for step in platform["steps"]] == ["created_by"]


def test_a_rebuild_has_no_cache_of_any_kind(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox\nRUN --mount=type=cache,target=/c touch /c/$(ls /c | wc -l) && ls /c > /seen\n"
    )
    pybuild.build(context, *EXACT, env=EPOCH)
    pybuild.build(context, "--no-cache", *EXACT, env=EPOCH)

    found = verified(pybuild, "app", "--twice")

    assert kinds_of(found) == {"/seen": ["content", "size"]}
    (platform,) = found["platforms"]
    assert not platform["steps"][0]["betweenRebuilds"]


def test_what_is_typed_is_built_where_a_context_is_named(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox AS one\nRUN echo 1 > /a\nFROM busybox\nRUN echo 2 > /a\n"
    )
    pybuild.build(context, *EXACT, "--target", "one", env=EPOCH)
    shutil.rmtree(pybuild.root / "builds")

    gone = pybuild("verify", "app", check=False)
    assert gone.returncode == 1
    assert "no build of app is recorded" in gone.stderr
    out = ("-o", "type=image,rewrite-timestamp=true")
    assert verified(pybuild, *out, "--target=one", "app", str(context), env=EPOCH)["reproduced"]
    assert not verified(pybuild, *out, "app", str(context), env=EPOCH)["reproduced"]


def test_how_the_image_is_written_is_as_recorded_where_nobody_typed_it(
    pybuild: Pybuild, context: Path
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo 1 > /a\n")
    pybuild.build(context, *EXACT, env=EPOCH)

    assert verified(pybuild, "app", "--twice", str(context))["reproduced"]
    assert verified(pybuild, "app", str(context), env={"SOURCE_DATE_EPOCH": "5"})["onlyTimes"]
    assert verified(pybuild, "-o", "type=image", "app", str(context), env=EPOCH)["onlyTimes"]


def test_a_time_that_is_typed_nowhere_is_as_recorded_whatever_output_is_typed(
    pybuild: Pybuild, context: Path
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo 1 > /a\n")
    pybuild.build(context, *EXACT, env=EPOCH)

    assert verified(pybuild, "-o", "type=image,rewrite-timestamp=true", "app", str(context))["reproduced"]


def test_a_time_that_the_dockerfile_has_is_had_again(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "ARG SOURCE_DATE_EPOCH=1700000000\nFROM busybox\nARG SOURCE_DATE_EPOCH\nRUN echo 1 > /a\n"
    )
    pybuild.build(context, *EXACT)

    assert verified(pybuild, "app", env={"SOURCE_DATE_EPOCH": "5"})["reproduced"]


@pytest.mark.parametrize("words", [("app",), ("app", "CONTEXT")])
def test_an_index_of_one_platform_is_built_as_such(
    pybuild: Pybuild, context: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo 1 > /a\n")
    iid = tmp_path / "iid"
    asked = ("--build-arg=BUILDKIT_MULTI_PLATFORM=1", f"--iidfile={iid}")
    pybuild.build(context, *EXACT, *asked, env=EPOCH)

    done = pybuild("verify", *[str(context) if word == "CONTEXT" else word for word in words])

    assert done.stdout == "app is reproduced: a rebuild from nothing gave the same\n"
    assert f"built {iid.read_text()} " in done.stderr


def test_an_image_that_is_one_of_several_outputs_is_built_as_that_one(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY a /\n")
    (context / "a").touch()
    archive = f"type=oci,dest={tmp_path / 'archive'},compression=zstd"
    pybuild.build(context, "-o", archive, *EXACT, env=EPOCH)
    pybuild.build(context, "-t", "other", "-o", f"{archive},rewrite-timestamp=true", "--load", env=EPOCH)

    for name in ("app", "other"):
        found = verified(pybuild, name)
        assert found["reproduced"], found
        assert len(set(found["platforms"][0]["digests"].values())) == 1


def test_what_a_record_does_not_keep_has_to_be_typed(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox\nARG WORD\nRUN --mount=type=secret,id=key cat /run/secrets/key > /a; echo $WORD >> /a\n"
    )
    (context / "key").write_text("canary-1")
    secret = f"--secret=id=key,src={context / 'key'}"
    pybuild.build(context, *EXACT, "--build-arg=WORD=canary-2", secret, env=EPOCH)

    lacking = pybuild("verify", "app", check=False)

    assert lacking.returncode == 1
    assert "does not keep --build-arg WORD, --secret key" in lacking.stderr
    records = b"".join(path.read_bytes() for path in (pybuild.root / "builds").rglob("request.json"))
    assert b"canary" not in records
    assert verified(pybuild, "--build-arg=WORD=canary-2", secret, "app")["reproduced"]
    assert not verified(pybuild, "--build-arg=WORD=other", secret, "app")["reproduced"]


def test_base_images_are_those_that_the_store_has(pybuild: Pybuild, context: Path) -> None:
    """The name `busybox` is the store's own; nobody has to be asked for it."""
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo a > /a\n")
    pybuild.build(context, *EXACT, env=EPOCH)

    assert verified(pybuild, "--offline", "app", "--twice")["reproduced"]


def test_an_image_that_is_compressed_otherwise_is_the_same(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo a > /a\n")
    pybuild.build(context, *EXACT, env=EPOCH)

    found = verified(
        pybuild, "-o", "type=image,rewrite-timestamp=true,compression=zstd", "app", str(context), env=EPOCH
    )

    assert found["reproduced"]
    assert found["platforms"][0]["repackedLayers"] == 1


def test_a_build_that_fails_now_is_an_error_of_that_build(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY a /\n")
    (context / "a").touch()
    pybuild.build(context, "-t", "app")
    (context / "a").unlink()

    failed = pybuild("verify", "-q", "app", check=False)

    assert failed.returncode == 1
    assert "Dockerfile:2\n" in failed.stderr
    assert failed.stdout == ""
    assert os.listdir(pybuild.root / "ingest") == []


def test_the_layers_that_are_compared_in_the_end_cannot_be_removed_meanwhile(
    pybuild: Pybuild, context: Path
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo 1 > /a\n")
    pybuild.build(context, "-t", "app")
    store = open_store(pybuild.root)
    layers = find_image(store, "app").manifest.layers

    with Verification(store, "app"):
        held = held_by_builds(store.folder)

    assert len(layers) == 2
    assert {layer.digest for layer in layers} <= held


def test_a_layer_that_has_lost_its_bytes_is_no_difference(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /a\n")
    pybuild.build(context, "-o", f"{EXACT[1]},compression=uncompressed", env=EPOCH)
    blobs = open_store(pybuild.root).blobs
    blob = blobs.path(Digest(find_image(open_store(pybuild.root), "app").manifest.layers[-1].digest))
    data = blob.read_bytes()
    blob.write_bytes(data.replace(b"-", b"_"))

    failed = pybuild("verify", "-q", "app", check=False)

    assert failed.returncode == 1
    assert "is damaged" in failed.stderr
    assert failed.stdout == ""


def test_what_a_killed_one_left_is_swept(pybuild: Pybuild, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\n")
    pybuild.build(context, *EXACT, env=EPOCH)
    left = pybuild.root / "ingest" / f"{NOBODY}-{'0' * 16}"
    left.mkdir(parents=True)

    pybuild("verify", "-q", "app")

    assert not left.exists()


def test_what_is_fetched_is_fetched_again(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    with Web(tmp_path / "repositories").running() as web:
        web.answers["/file"] = Answer(b"one\n", headers={"ETag": '"1"'})
        (context / "Dockerfile").write_text(f"FROM busybox\nADD {web.url}/file /file\n")
        pybuild.build(context, *EXACT, env=EPOCH)
        assert verified(pybuild, "app")["reproduced"]
        web.answers["/file"] = Answer(b"two\n", headers={"ETag": '"2"'})

        found = verified(pybuild, "app", "--twice")

    assert kinds_of(found) == {"/file": ["content"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "the image is missing"),
        (("nothing-of-the-kind",), "image nothing-of-the-kind is not in the store"),
        (("busybox", ".", "more"), "one build context is taken, not 2"),
        (("busybox", "-"), "standard input can be read once"),
        (("--target", "x", "busybox"), "--target goes with a CONTEXT"),
        (("--network", "none", "busybox"), "--network goes with a CONTEXT"),
        (("--format=xml", "busybox"), "--format xml: no such format"),
    ],
)
def test_what_cannot_be_verified_is_told_in_one_line(
    pybuild: Pybuild, words: tuple[str, ...], said: str
) -> None:
    failed = pybuild("verify", *words, check=False)

    assert failed.returncode in (1, 2)
    assert said in failed.stderr

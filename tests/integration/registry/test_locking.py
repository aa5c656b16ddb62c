"""Lock files by the whole command: written, gone by, demanded, ignored, and told to be out of date."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.layouts import LayoutMaker
from tests.support.machine import Pybuild, needs
from tests.support.registry import RunningRegistry, running_registry
from tests.support.web import Answer, Repository, Web

pytestmark = [pytest.mark.peers, needs("skopeo", "docker-registry", "git")]

ALL = "FROM {registry}/base:1 AS base\nADD {web}/file /file\nADD {web}/repo.git#main /repo/\n"


@dataclass(frozen=True)
class World:
    """What a Dockerfile's names lead to, which may change."""

    registry: RunningRegistry
    web: Web
    repository: Repository
    folder: Path

    def write(self, text: str) -> Path:
        """A context with this Dockerfile."""
        context = self.folder / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(text.format(registry=self.registry.host, web=self.web.url))
        return context

    def push(self, word: str, *architectures: str) -> None:
        """Have `base:1` be an image, or an index, that holds this word."""
        layout = self.folder / f"layout-{word}"
        maker = LayoutMaker(layout)
        files = {"etc/word": word.encode()}
        if architectures:
            platforms = [f"linux/{name}" for name in architectures]
            maker.index({platform: maker.image([files], platform=platform) for platform in platforms}, "1")
        else:
            maker.image([files], tag="1")
        self.registry.push(layout, "1", "base:1")

    def change(self) -> None:
        """Have all names lead elsewhere."""
        self.push("second")
        self.web.answers["/file"] = Answer(b"second\n", headers={"ETag": '"2"'})
        self.repository.commit({"word": "second\n"})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_registry(tmp_path / "registry") as registry, Web(tmp_path / "repositories").running() as web:
        world = World(registry, web, Repository(web, tmp_path / "work"), tmp_path)
        world.push("first")
        web.answers["/file"] = Answer(b"first\n", headers={"ETag": '"1"'})
        world.repository.commit({"word": "first\n"}, "v1")
        yield world


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(tmp_path / "store")


def lock_of(context: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((context / "Dockerfile.lock").read_bytes())
    return found


def built(pybuild: Pybuild, context: Path, *flags: str) -> dict[str, str]:
    """Build to a folder; the words in it."""
    out = pybuild.root.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    pybuild.build(context, *flags, "-o", str(out))
    paths = {"image": "etc/word", "file": "file", "git": "repo/word"}
    return {name: (out / path).read_text().strip() for name, path in paths.items() if (out / path).exists()}


FIRST = {"image": "first", "file": "first", "git": "first"}
SECOND = {"image": "second", "file": "second", "git": "second"}


def test_a_build_goes_by_the_lock_whatever_the_names_mean_since(world: World, pybuild: Pybuild) -> None:
    context = world.write(ALL)
    pybuild("lock", context)
    world.push("second")
    world.repository.commit({"word": "second\n"})

    elsewhere = Pybuild(world.folder / "elsewhere")
    assert built(elsewhere, context) == FIRST
    assert built(elsewhere, context, "--locked") == FIRST
    assert built(elsewhere, context, "--pull") == {**SECOND, "file": "first"}
    assert built(elsewhere, context, "--locked") == FIRST


def test_a_locked_image_is_the_very_one_that_its_digest_pins(world: World, pybuild: Pybuild) -> None:
    context = world.write("FROM {registry}/base:1\nENV a=b\n")
    pybuild("lock", context)
    digest = lock_of(context)["images"][f"{world.registry.host}/base:1"]["linux/amd64"]
    locked = pybuild("build", "-q", context).stdout
    world.write("FROM {registry}/base:1@" + digest + "\nENV a=b\n")
    (context / "Dockerfile.lock").unlink()

    assert pybuild("build", "-q", context).stdout == locked


def test_provenance_tells_for_which_platform_a_locked_image_was_chosen(
    world: World, pybuild: Pybuild, tmp_path: Path
) -> None:
    world.push("several", "amd64", "arm64")
    context, out = world.write("FROM {registry}/base:1\n"), tmp_path / "out"
    pybuild("lock", "--platform", "linux/amd64", context)

    for words in ([], ["--pull"]):  # by the lock, and by what the name means
        pybuild.build(context, "--platform=linux/amd64", "--provenance=mode=min", *words, "-o", str(out))

        told = json.loads((out / "provenance.json").read_text())["predicate"]["buildDefinition"]
        (base,) = told["resolvedDependencies"]
        assert base["uri"].endswith("/base@1?platform=linux%2Famd64")
    (index,) = json.loads((world.folder / "layout-several" / "index.json").read_text())["manifests"]
    assert index["digest"] == "sha256:" + base["digest"]["sha256"]


def test_the_same_lock_is_the_same_bytes_and_another_names_what_changed(
    world: World, pybuild: Pybuild
) -> None:
    context = world.write(ALL)
    assert pybuild("lock", "--check", context, check=False).returncode == 1
    assert not (context / "Dockerfile.lock").exists()
    pybuild("lock", context)
    first = (context / "Dockerfile.lock").read_bytes()

    Pybuild(world.folder / "elsewhere")("lock", context)
    assert (context / "Dockerfile.lock").read_bytes() == first
    assert pybuild("lock", "--check", context).stdout == ""
    assert built(pybuild, context, "--locked") == FIRST

    world.change()
    done = pybuild("lock", "--check", context, check=False)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["image", "git", "url"]
    assert (context / "Dockerfile.lock").read_bytes() == first

    document = json.loads(pybuild("lock", "--format=json", context).stdout)
    assert document["changed"]
    assert [change["kind"] for change in document["changes"]] == ["image", "git", "url"]
    assert built(pybuild, context, "--locked") == SECOND


@pytest.mark.parametrize(
    ("kind", "line"), [("images", 1), ("urls", 2), ("git", 3)], ids=["image", "file", "repository"]
)
def test_what_is_missing_is_a_warning_and_an_error_where_the_lock_is_demanded(
    world: World, pybuild: Pybuild, kind: str, line: int
) -> None:
    context = world.write(ALL)
    pybuild("lock", context)
    document = lock_of(context)
    document[kind] = {}
    (context / "Dockerfile.lock").write_text(json.dumps(document))

    for _ in range(2):  # the second one finds all in the cache
        done = pybuild.build(context)
        assert (
            f"is not in Dockerfile.lock, so it is whatever it is now: `pybuild lock` adds it (line {line})"
            in (done.stderr)
        )
    failed = pybuild.build(context, "--locked", check=False)
    assert failed.returncode == 1
    assert "is not in Dockerfile.lock, and --locked was given" in failed.stderr
    assert f"Dockerfile:{line}\n" in failed.stderr
    assert "hint: `pybuild lock` adds it" in failed.stderr


def test_a_lock_that_is_demanded_must_be_there(world: World, pybuild: Pybuild) -> None:
    context = world.write(ALL)

    failed = pybuild.build(context, "--locked", check=False)

    assert failed.returncode == 1
    assert "Dockerfile.lock is not there" in failed.stderr
    assert "pybuild lock" in failed.stderr


def test_a_file_that_is_not_what_was_locked_is_refused_at_its_line(world: World, pybuild: Pybuild) -> None:
    context = world.write(ALL)
    pybuild("lock", context)
    world.change()

    failed = Pybuild(world.folder / "elsewhere").build(context, check=False)

    assert failed.returncode == 1
    assert "has the checksum sha256:" in failed.stderr
    assert "Dockerfile:2\n" in failed.stderr
    assert "hint: that is what the lock file has: `pybuild lock` writes it anew" in failed.stderr


def test_an_image_that_the_registry_has_lost_is_told_with_the_lock(world: World, pybuild: Pybuild) -> None:
    context = world.write("FROM {registry}/base:1\n")
    pybuild("lock", context)
    document = lock_of(context)
    name = f"{world.registry.host}/base:1"
    document["images"][name]["linux/amd64"] = "sha256:" + "0" * 64
    (context / "Dockerfile.lock").write_text(json.dumps(document))

    failed = pybuild.build(context, check=False)

    assert failed.returncode == 1
    assert "Dockerfile.lock has sha256:000" in failed.stderr
    assert "Dockerfile:1\n" in failed.stderr


def test_a_lock_speaks_for_each_platform_and_is_renewed_for_those_that_it_has(
    world: World, pybuild: Pybuild
) -> None:
    world.push("several", "amd64", "arm64")
    context = world.write("FROM {registry}/base:1\n")

    pybuild("lock", "--platform", "linux/amd64,linux/arm64", context)

    by_platform = lock_of(context)["images"][f"{world.registry.host}/base:1"]
    assert list(by_platform) == ["linux/amd64", "linux/arm64"]
    assert len(set(by_platform.values())) == 2
    pybuild("lock", "--check", context)
    pybuild.build(context, "--locked", "--platform", "linux/arm64")
    failed = pybuild.build(context, "--locked", "--platform", "linux/s390x", check=False)
    assert "for linux/s390x is not in Dockerfile.lock" in failed.stderr


def test_all_stages_are_locked_or_what_a_target_needs(world: World, pybuild: Pybuild) -> None:
    context = world.write("FROM {registry}/base:1 AS unused\nFROM scratch AS last\nADD {web}/file /\n")

    pybuild("lock", "--target", "last", context)
    assert lock_of(context)["images"] == {}

    pybuild("lock", context)
    assert list(lock_of(context)["images"]) == [f"{world.registry.host}/base:1"]
    absent = world.write("FROM {registry}/absent:1 AS unused\nFROM scratch AS last\nADD {web}/file /\n")
    failed = pybuild("lock", absent, check=False)
    assert failed.returncode == 1
    assert "--target STAGE locks what that one needs" in failed.stderr
    world.write("FROM {registry}/base:1 AS unused\nFROM scratch AS last\nADD {web}/file /\n")
    pybuild.build(context, "--locked", "--target", "unused")


def test_images_that_steps_take_from_are_locked_too_and_what_is_pinned_is_not(
    world: World, pybuild: Pybuild
) -> None:
    digest = pybuild_digest(world, pybuild)
    context = world.write(
        "# syntax=docker/dockerfile:1\nARG TAG=1\nFROM scratch\n"
        "COPY --from={registry}/base:1 /etc/word /a\n"
        "COPY --from={registry}/base:1@" + digest + " /etc/word /b\n"
    )
    (context / "Dockerfile").write_text(
        (context / "Dockerfile").read_text() + f"FROM {world.registry.host}/base:$TAG\n"
    )

    pybuild("lock", context)

    document = lock_of(context)
    assert document["images"] == {f"{world.registry.host}/base:1": {"linux/amd64": digest}}
    assert (document["urls"], document["git"]) == ({}, {})


def pybuild_digest(world: World, pybuild: Pybuild) -> str:
    """The digest of base:1."""
    context = world.write("FROM {registry}/base:1\n")
    pybuild("lock", context)
    (digest,) = lock_of(context)["images"][f"{world.registry.host}/base:1"].values()
    (context / "Dockerfile.lock").unlink()
    return str(digest)


def test_entries_of_other_arguments_are_kept_where_that_is_asked_for(world: World, pybuild: Pybuild) -> None:
    world.web.answers["/other"] = Answer(b"other\n")
    context = world.write("ARG NAME=file\nFROM scratch\nARG NAME\nADD {web}/$NAME /\n")

    pybuild("lock", context)
    pybuild("lock", "--keep", "--build-arg", "NAME=other", context)

    assert set(lock_of(context)["urls"]) == {f"{world.web.url}/file", f"{world.web.url}/other"}
    pybuild("lock", context)
    assert set(lock_of(context)["urls"]) == {f"{world.web.url}/file"}


def test_a_repository_as_context_brings_the_lock_beside_its_dockerfile(
    world: World, pybuild: Pybuild
) -> None:
    context = world.write("FROM {registry}/base:1\n")
    pybuild("lock", context)
    files = {name: (context / name).read_text() for name in ("Dockerfile", "Dockerfile.lock")}
    app = Repository(world.web, world.folder / "app", "app.git")
    app.commit(dict(files))
    world.push("second")

    out = world.folder / "out"
    Pybuild(world.folder / "elsewhere")("build", "--locked", "-o", out, app.url)

    assert (out / "etc/word").read_text() == "first"


def test_credentials_of_addresses_do_not_get_into_the_lock(world: World, pybuild: Pybuild) -> None:
    address = world.web.url.replace("http://", "http://user:canary@")
    context = world.write("FROM scratch\nADD {web}/file /\n".replace("{web}", address))

    pybuild("lock", context)

    assert "canary" not in (context / "Dockerfile.lock").read_text()
    pybuild.build(context, "--locked")


def test_a_cached_build_by_a_lock_asks_nobody(world: World, pybuild: Pybuild) -> None:
    context = world.write(ALL)
    pybuild("lock", context)
    pybuild.build(context, "-t", "app")
    world.web.asked.clear()
    plans = [path for path in (pybuild.root / "cache/programs").rglob("*") if path.is_file()]

    pybuild.build(context, "-t", "app", "--offline")

    assert len(plans) == 2  # a plan and its programs, so that the second build compiles nothing
    assert world.web.asked == []
    (context / "Dockerfile.lock").unlink()
    world.change()
    pybuild.build(context, "-t", "app")
    assert world.web.asked != []


# ── --offline ────────────────────────────────────────────────────────────────────────────────────────────


def test_who_is_offline_builds_from_what_was_fetched_without_a_lock_too(
    world: World, pybuild: Pybuild
) -> None:
    context = world.write(ALL)
    assert built(pybuild, context) == FIRST
    world.change()
    world.web.asked.clear()

    assert built(pybuild, context, "--offline", "--no-cache") == FIRST
    assert world.web.asked == []


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("FROM scratch\nCOPY --from={registry}/base:1 / /\n", "{registry}/base:1", 2),
        ("FROM scratch\n\nADD {web}/file /\n", "{web}/file", 3),
        ("FROM scratch\n\nADD {web}/repo.git#main /\n", "{web}/repo.git#main", 3),
    ],
)
def test_what_is_not_in_the_store_is_named_with_its_line(
    world: World, pybuild: Pybuild, text: str, what: str, line: int
) -> None:
    context = world.write(text)

    failed = pybuild.build(context, "--offline", check=False)

    shown = what.format(registry=world.registry.host, web=world.web.url)
    assert failed.returncode == 1
    assert f"{shown} is not in the store, and --offline" in failed.stderr
    assert f"Dockerfile:{line}\n" in failed.stderr
    assert "hint: build once without --offline" in failed.stderr
    assert "blob" not in failed.stderr  # the manifest was not asked for either
    assert world.web.asked == []


def test_a_layer_that_was_never_fetched_is_named_with_its_line(world: World, pybuild: Pybuild) -> None:
    context = world.write("FROM scratch\nCOPY --from={registry}/base:1 / /\n")
    pybuild("lock", context)  # which brings documents, and no layers

    failed = pybuild.build(context, "--offline", check=False)

    assert failed.returncode == 1
    assert f"of {world.registry.host}/base:1" in failed.stderr
    assert "is not in the store, and --offline asks no registry" in failed.stderr
    assert "Dockerfile:2\n" in failed.stderr


def test_a_context_that_is_far_is_not_fetched_either(world: World, pybuild: Pybuild) -> None:
    failed = pybuild("build", "--offline", world.repository.url, check=False)

    assert failed.returncode == 1
    assert "is not in the store, and --offline" in failed.stderr
    assert world.web.asked == []


@pytest.mark.parametrize(
    "flags",
    [
        ("--pull", "--offline"),
        ("--pull", "--locked"),
        ("--offline", "--push"),
        ("--offline", "-o", "type=registry"),
        ("--offline", "-o", "type=image,push=true"),
        ("--offline", "--cache-to", "localhost/cache"),
    ],
)
def test_what_contradicts_itself_is_refused(world: World, pybuild: Pybuild, flags: tuple[str, ...]) -> None:
    failed = pybuild.build(world.write(ALL), "-t", "localhost/app", *flags, check=False)

    assert failed.returncode == 2
    assert "offline" in failed.stderr or "locked" in failed.stderr


def test_a_cache_in_a_registry_is_left_out_with_a_word(world: World, pybuild: Pybuild) -> None:
    context = world.write("FROM scratch\nCOPY Dockerfile /\n")

    done = pybuild.build(context, "--offline", "--cache-from", f"{world.registry.host}/cache:1")

    assert "is left out: --offline asks no registry" in done.stderr


# ── built again ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["by its lock file", "by an index's digest"])
def test_an_image_on_a_pinned_base_is_verified_without_its_registry(
    world: World, pybuild: Pybuild, how: str
) -> None:
    world.push("several", "amd64", "arm64")
    context = world.write("FROM {registry}/base:1\nENV a=b\n")
    if how == "by its lock file":
        pybuild("lock", context)
    else:
        index = json.loads((world.folder / "layout-several/index.json").read_bytes())
        world.write("FROM {registry}/base:1@" + index["manifests"][0]["digest"] + "\nENV a=b\n")
    exact = ("-o", "type=image,name=app,rewrite-timestamp=true")
    pybuild.build(context, *exact, env={"SOURCE_DATE_EPOCH": "1"})
    world.push("second")

    done = pybuild("verify", "-q", "--offline", "--twice", "app")

    assert "app is reproduced" in done.stdout


def test_an_image_whose_build_ignored_the_lock_file_is_verified_without_it(
    world: World, pybuild: Pybuild
) -> None:
    context = world.write("FROM {registry}/base:1\nCOPY Dockerfile /\n")
    pybuild("lock", context)
    world.change()
    time = {"SOURCE_DATE_EPOCH": "1700000000"}
    exact = "type=image,name=app,rewrite-timestamp=true"
    pybuild.build(context, "--pull", "-o", exact, env=time)

    assert "app is reproduced" in pybuild("verify", "-q", "app").stdout
    assert "app is reproduced" in pybuild("verify", "-q", "app", context).stdout
    pybuild.build(context, "-o", exact, env=time)
    assert "app is reproduced" in pybuild("verify", "-q", "app").stdout

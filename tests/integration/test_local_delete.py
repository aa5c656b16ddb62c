"""`type=local,mode=delete`: the folder holds what the image holds, and nothing outside of it is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.contexts import lay
from tests.support.machine import Pybuild, needs_root, run

DOCKERFILE = "FROM scratch\nCOPY a /kept/deep/a\nCOPY a /top\n"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    lay(tmp_path / "c", DOCKERFILE, {"a": "new"})
    folder = tmp_path / "out"
    for path in ("stale/deep/file", "kept/deep/stale", "kept/stale", "top/was/a/folder"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("old")
    return tmp_path


def paths(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


RESULT = {"kept", "kept/deep", "kept/deep/a", "top"}


def build(here: Path, dest: str, *flags: str, check: bool = True, cwd: Path | None = None) -> str:
    done = Pybuild(here / "store")(
        "-o", f"type=local,dest={dest},mode=delete", *flags, here / "c", check=check, cwd=cwd or here
    )
    assert check or done.returncode
    return done.stderr


def test_what_the_image_has_not_is_removed(here: Path) -> None:
    build(here, "out")

    assert paths(here / "out") == RESULT
    assert (here / "out/top").read_text() == "new"
    build(here, "out")
    assert paths(here / "out") == RESULT


def test_without_it_what_was_there_stays(here: Path) -> None:
    Pybuild(here / "store")("-o", "type=local,dest=out,mode=copy", here / "c", cwd=here)

    assert {"stale/deep/file", "kept/stale"} <= paths(here / "out")


def test_nothing_behind_a_link_is_touched(here: Path) -> None:
    outside = here / "outside"
    for name in ("deep/a", "precious"):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_text("precious")
    run(["rm", "-r", here / "out/kept"])
    (here / "out/kept").symlink_to(outside)
    (here / "out/stale/link").symlink_to(outside)
    (here / "out/file").symlink_to(outside / "precious")

    build(here, "out")

    assert paths(here / "out") == RESULT
    assert not (here / "out/kept").is_symlink()
    assert {path: (outside / path).read_text() for path in ("deep/a", "precious")} == {
        "deep/a": "precious", "precious": "precious",
    }  # fmt: skip


def test_a_destination_that_is_a_link_is_the_folder_that_it_names(here: Path) -> None:
    (here / "link").symlink_to("out")

    build(here, "link")

    assert (here / "link").is_symlink()
    assert paths(here / "out") == RESULT


@pytest.mark.root
@needs_root()
def test_what_is_mounted_in_it_is_left_alone(here: Path) -> None:
    (here / "elsewhere").mkdir()
    (here / "elsewhere/precious").write_text("precious")
    run(["mount", "--bind", here / "elsewhere", here / "out/stale"])
    try:
        said = build(here, "out", check=False)
    finally:
        run(["umount", here / "out/stale"])

    assert "something is mounted there" in said
    assert (here / "elsewhere/precious").read_text() == "precious"


@pytest.mark.parametrize("dest", [".", "..", "../out", "{here}/out"])
def test_a_folder_that_is_not_below_the_working_one_needs_consent(here: Path, dest: str) -> None:
    place = dest.format(here=here)
    (here / "work").mkdir()
    before = paths(here / "out")

    said = build(here, place, check=False, cwd=here / "work")

    assert "--allow buildx.local.delete" in said
    assert paths(here / "out") == before
    if dest.endswith("out"):
        build(here, place, "--allow", "buildx.local.delete", cwd=here / "work")
        assert paths(here / "out") == RESULT


def test_a_link_out_of_the_working_folder_needs_consent(here: Path) -> None:
    (here / "work").mkdir()
    (here / "work/out").symlink_to(here / "out")

    assert "--allow" in build(here, "out", check=False, cwd=here / "work")


def test_folders_of_platforms_that_are_no_longer_built_go(here: Path) -> None:
    (here / "out").rename(here / "old")
    for platforms in ("linux/amd64,linux/arm64", "linux/amd64,linux/s390x"):
        build(here, "out", "--platform", platforms)

    assert sorted(os.listdir(here / "out")) == ["linux_amd64", "linux_s390x"]


def test_another_mode_is_refused(here: Path) -> None:
    done = Pybuild(here / "store")("-o", "type=local,dest=out,mode=mirror", here / "c", check=False, cwd=here)

    assert "mode=mirror" in done.stderr

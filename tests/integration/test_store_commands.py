"""images, tag, rmi, history, inspect, load: the local store as docker's commands show theirs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.contexts import lay, steps_run
from tests.support.images import read_image
from tests.support.machine import Pybuild, needs, needs_root

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

DOCKERFILE = """\
FROM busybox
COPY a /a
RUN echo made > /made
ENV A=1
EXPOSE 80
CMD ["cat", "/a"]
"""


@pytest.fixture
def app(pybuild: Pybuild, context: Path) -> Pybuild:
    """A store that holds app:1 beside its base."""
    lay(context, DOCKERFILE, {"a": "a" * 1000})
    pybuild("-t", "team/app:1", context)
    return pybuild


def objects(pybuild: Pybuild, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pybuild(*words, "--format=json").stdout.splitlines()]


def names(pybuild: Pybuild) -> set[str]:
    return {f"{row['Repository']}:{row['Tag']}" for row in objects(pybuild, "images")}


def test_images_are_a_table_with_docker_s_columns(app: Pybuild) -> None:
    image = read_image(app.root, "team/app:1")

    lines = app("images").stdout.splitlines()

    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    row = next(line for line in lines if line.startswith("team/app "))
    ident = image.manifest["config"]["digest"][7:19]
    assert re.fullmatch(rf"team/app +1 +{ident} +(Less than a second|\d+ seconds?) ago +1\.\d\dMB", row)
    assert len(lines) == 3


def test_images_as_objects(app: Pybuild) -> None:
    image = read_image(app.root, "team/app:1")

    (row,) = objects(app, "images", "team/app", "--no-trunc")

    size = image.manifest["config"]["size"] + sum(layer["size"] for layer in image.manifest["layers"])
    assert row == {
        "Repository": "team/app", "Tag": "1", "ID": image.manifest["config"]["digest"],
        "Digest": image.digest, "CreatedAt": row["CreatedAt"], "CreatedSince": row["CreatedSince"],
        "Size": row["Size"], "VirtualSize": row["Size"], "SharedSize": "N/A", "UniqueSize": "N/A",
        "Containers": "N/A", "Bytes": size, "Platform": row["Platform"], "Damaged": False,
    }  # fmt: skip
    assert row["Platform"].startswith("linux/")
    assert row["Size"] == f"{size / 1e6:.3g}MB"
    created = datetime.strptime(row["CreatedAt"].rpartition(" ")[0], "%Y-%m-%d %H:%M:%S %z")
    assert abs((datetime.now(UTC) - created).total_seconds()) < 600
    (short,) = objects(app, "images", "team/app")
    assert row["ID"][7:19] == short["ID"]


def test_images_of_a_name_and_their_ids_alone(app: Pybuild) -> None:
    app("tag", "team/app:1", "team/app:2", "other")

    assert len(objects(app, "images", "team/app")) == 2
    assert len(objects(app, "images", "team/app:2")) == 1
    assert objects(app, "images", "nobody") == []
    ident = read_image(app.root, "team/app:1").manifest["config"]["digest"]
    assert app("images", "-q", "team/app").stdout.split() == [ident[7:19]]
    assert app("images", "-q", "--no-trunc", "other").stdout.split() == [ident]
    assert read_image(app.root, "team/app:1").digest in app("images", "--digests").stdout


def test_an_image_gets_more_names_by_name_id_or_digest(app: Pybuild) -> None:
    image = read_image(app.root, "team/app:1")

    app("tag", "team/app:1", "by-name")
    app("tag", image.manifest["config"]["digest"][7:19], "by-id:2")
    app("tag", f"team/app@{image.digest}", "by-digest:3", "localhost:5000/x:4")

    assert names(app) == {
        "busybox:latest", "team/app:1", "by-name:latest", "by-id:2", "by-digest:3", "localhost:5000/x:4",
    }  # fmt: skip
    assert read_image(app.root, "by-id:2").digest == image.digest


def test_a_name_is_moved_to_another_image(app: Pybuild, context: Path) -> None:
    old = read_image(app.root, "team/app:1").digest
    lay(context, "FROM scratch\nLABEL new=1\n")

    app("-t", "team/app:1", context)

    new = read_image(app.root, "team/app:1").digest
    assert new != old
    assert {row["Digest"]: row["Repository"] for row in objects(app, "images")}[old] == "<none>"


def test_names_are_removed_and_with_the_last_one_the_image(app: Pybuild) -> None:
    image = read_image(app.root, "team/app:1")
    app("tag", "team/app:1", "second")

    first = app("rmi", "team/app:1").stdout
    second = app("rmi", "second").stdout

    assert first == "Untagged: team/app:1\n"
    assert second.splitlines()[:2] == ["Untagged: second:latest", f"Deleted: {image.digest}"]
    assert names(app) == {"busybox:latest"}
    gone = image.digest.removeprefix("sha256:")
    assert not (app.root / "blobs/sha256" / gone).exists()


def test_an_id_with_several_names_is_removed_by_force(app: Pybuild) -> None:
    app("tag", "team/app:1", "second")
    ident = read_image(app.root, "team/app:1").manifest["config"]["digest"]

    refused = app("rmi", ident, check=False)
    app("rmi", "-f", ident)

    assert refused.returncode == 1
    assert "team/app:1" in refused.stderr
    assert names(app) == {"busybox:latest"}


def test_removing_goes_on_after_one_that_is_not_there(app: Pybuild) -> None:
    done = app("rmi", "team/ap:1", "team/app:1", check=False)

    assert done.returncode == 1
    assert "team/ap:1" in done.stderr
    assert "did you mean team/app:1?" in done.stderr
    assert "Untagged: team/app:1" in done.stdout


def test_a_build_after_a_removal_still_finds_its_cache(app: Pybuild, context: Path) -> None:
    before = read_image(app.root, "team/app:1").diff_ids
    app("rmi", "team/app:1")

    assert steps_run(app, context, "-t", "team/app:1") == []
    assert read_image(app.root, "team/app:1").diff_ids == before


def test_shared_layers_stay_with_the_image_that_needs_them(app: Pybuild, context: Path) -> None:
    lay(context, "FROM team/app:1\nRUN echo child > /child\n")
    app("-t", "child", context)

    app("rmi", "team/app:1", "busybox")

    assert read_image(app.root, "child:latest").text("made") == "made\n"


def test_the_history_is_told_newest_first(app: Pybuild) -> None:
    image = read_image(app.root, "team/app:1")

    rows = objects(app, "history", "--no-trunc", "--human=false", "team/app:1")
    table = app("history", "team/app:1").stdout.splitlines()

    assert [row["CreatedBy"] for row in rows] == [
        row["created_by"] for row in reversed(image.config["history"])
    ]
    assert set(rows[0]) == {"ID", "CreatedSince", "CreatedAt", "CreatedBy", "Size", "Comment"}
    assert rows[0]["ID"] == image.manifest["config"]["digest"]
    assert {row["ID"] for row in rows[1:]} == {"<missing>"}
    assert sum(int(row["Size"]) for row in rows) == sum(layer["size"] for layer in image.manifest["layers"])
    assert table[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert len(table) == len(rows) + 1
    assert "RUN /bin/sh -c echo made > /made" in app("history", "--no-trunc", "team/app:1").stdout


def test_inspect_has_docker_s_shape(app: Pybuild) -> None:
    image = read_image(app.root, "team/app:1")

    (told,) = json.loads(app("inspect", "team/app:1").stdout)
    both = json.loads(app("inspect", "--format=json", "team/app:1", "busybox").stdout)

    assert both[0] == told
    assert len(both) == 2
    assert app("inspect", "-f", "{{.Id}} {{index .RepoTags 0}}", "team/app:1").stdout == (
        f"{told['Id']} team/app:1\n"
    )
    assert told["Id"] == image.manifest["config"]["digest"]
    assert told["RepoTags"] == ["team/app:1"]
    assert told["RepoDigests"] == [f"team/app@{image.digest}"]
    assert told["RootFS"] == {"Type": "layers", "Layers": image.diff_ids}
    assert (told["Os"], told["Architecture"]) == ("linux", image.config["architecture"])
    assert told["Created"] == image.config["created"]
    assert told["Config"]["Cmd"] == ["cat", "/a"]
    assert told["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert told["Config"]["Entrypoint"] is None
    assert "A=1" in told["Config"]["Env"]
    assert told["Descriptor"]["digest"] == image.digest


@pytest.mark.parametrize("command", ["inspect", "history", "rmi"])
def test_a_name_that_is_not_there_is_told_with_the_nearest(app: Pybuild, command: str) -> None:
    done = app(command, "busybos", check=False)

    assert done.returncode == 1
    assert "image busybos is not in the store" in done.stderr
    assert "did you mean busybox:latest?" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tag", "x"], "an image and a name"), (["rmi"], "an image"), (["history"], "an image"),
        (["inspect"], "an image"), (["images", "--format", "{{.Id}}"], "no field .Id"),
        (["images", "a", "b"], "one argument"), (["tag", "busybox", "UPPER:case:x"], "UPPER:case:x"),
        (["load", "a", "b"], "one argument"), (["run", "x"], "not available"),
    ],
)  # fmt: skip
def test_bad_usage_of_a_command_is_told(pybuild: Pybuild, words: list[str], message: str) -> None:
    done = pybuild(*words, check=False)

    assert done.returncode == 2
    assert message in done.stderr


def test_an_archive_of_our_own_comes_back_whole(app: Pybuild, context: Path, tmp_path: Path) -> None:
    for kind in ("oci", "docker"):
        app("-o", f"type={kind},dest={tmp_path}/{kind}.tar", "-t", "saved:1", context)
        other = Pybuild(tmp_path / f"store-{kind}")

        loaded = other("load", "-i", tmp_path / f"{kind}.tar").stdout

        assert loaded == "Loaded image: saved:1\n"
        assert read_image(other.root, "saved:1").digest == read_image(app.root, "team/app:1").digest


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, b"\x1f\x8b broken"])
def test_what_is_no_archive_is_refused(pybuild: Pybuild, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)

    done = pybuild("load", tmp_path / "a.tar", check=False)

    assert done.returncode == 1
    assert "a.tar" in done.stderr
    assert names(pybuild) == {"busybox:latest"}


def test_an_empty_store_has_an_empty_table(tmp_path: Path) -> None:
    pybuild = Pybuild(tmp_path / "new")

    assert pybuild("images").stdout.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert pybuild("images", "--format=json").stdout == ""

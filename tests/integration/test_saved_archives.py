"""What `pybuild save` writes, others read, and what they write `pybuild load` and `import` read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.oci import spec
from builder.store.root import open_store
from tests.support.archives import add_image, image_of_tars, members_of, tar_of
from tests.support.dockerd import Docker, dockerd
from tests.support.layouts import LayoutMaker
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.peers import Podman

pytestmark = pytest.mark.peers


@pytest.fixture
def two(tmp_path: Path) -> Pybuild:
    """A store with one:1 (and also:2), two:1, and multi:1 of two platforms."""
    pybuild = Pybuild(tmp_path / "root")
    store, layout = open_store(pybuild.root), LayoutMaker(tmp_path / "layout")
    shared = tar_of(("etc/shared", {"data": b"shared\n"}))
    one = image_of_tars(layout, [shared, tar_of(("one", {"data": b"1\n"}))], Cmd=["/one"])
    add_image(store, layout, one, "one:1", "team/also:2")
    add_image(store, layout, image_of_tars(layout, [shared], Env=["A=2"]), "two:1")
    rows = {
        "linux/amd64": layout.image([{"a": b"amd"}], platform="linux/amd64"),
        "linux/arm64": layout.image([{"a": b"arm"}], platform="linux/arm64"),
    }
    add_image(store, layout, layout.index(rows), "multi:1")
    return pybuild


@pytest.fixture
def saved(two: Pybuild, tmp_path: Path) -> Path:
    two("save", "-o", tmp_path / "saved.tar", "one:1", "team/also:2", "two")
    return tmp_path / "saved.tar"


@needs("skopeo")
def test_skopeo_reads_each_image_of_the_archive(two: Pybuild, saved: Path) -> None:
    for name in ("one:1", "team/also:2", "two:1"):
        told = run(["skopeo", "inspect", "--config", "--raw", f"docker-archive:{saved}:{name}"]).stdout
        (own,) = json.loads(two("inspect", name).stdout)

        assert json.loads(told)["rootfs"]["diff_ids"] == own["RootFS"]["Layers"]


@needs("skopeo")
def test_skopeo_reads_all_platforms_of_one_image(two: Pybuild, tmp_path: Path) -> None:
    two("save", "-o", tmp_path / "multi.tar", "multi:1")
    layout = f"oci:{tmp_path}/copied:x"

    run(["skopeo", "copy", "--quiet", "--all", f"oci-archive:{tmp_path}/multi.tar:1", layout])

    index = json.loads(run(["skopeo", "inspect", "--raw", layout]).stdout)
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]


@needs_root()
@needs("podman")
def test_podman_loads_all_images_and_we_load_what_it_saves(
    two: Pybuild, saved: Path, tmp_path: Path, podman: Podman
) -> None:
    loaded = podman("load", "--quiet", "-i", str(saved))
    for form in ("docker-archive", "oci-archive"):
        podman("save", "--format", form, "-o", str(tmp_path / f"{form}.tar"), "localhost/one:1")
        two("rmi", "-f", "localhost/one:1", check=False)
        told = two("load", "-i", tmp_path / f"{form}.tar").stdout

        assert told == "Loaded image: localhost/one:1\n"
        (ours,), (theirs,) = (
            json.loads(two("inspect", name).stdout) for name in ("one:1", "localhost/one:1")
        )
        assert theirs["RootFS"] == ours["RootFS"]
        assert theirs["Config"]["Cmd"] == ["/one"]
    assert [line.removeprefix("Loaded image: localhost/") for line in loaded.splitlines()] == [
        "one:1",
        "team/also:2",
        "two:1",
    ]


@pytest.fixture
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with dockerd(tmp_path_factory.mktemp("d")) as found:
        if isinstance(found, str):
            pytest.skip(found)
        yield found


@needs_root()
@needs("dockerd", "docker")
def test_docker_loads_what_we_save_and_both_show_the_same(
    two: Pybuild, saved: Path, docker: Docker, tmp_path: Path
) -> None:
    told = docker("load", "-i", str(saved)).stdout

    assert told.splitlines() == ["Loaded image: one:1", "Loaded image: team/also:2", "Loaded image: two:1"]
    two("rmi", "multi:1")
    templates = {
        "images": ["{{.Repository}}:{{.Tag}} {{.ID}}", "table {{.ID}}\\t{{.Tag}}", "{{json .ID}}"],
        "history": ["{{.ID}} {{.CreatedBy}} {{.CreatedAt}} {{.Comment}}", "table {{.CreatedBy}}"],
        "inspect": [
            "{{.Id}} {{.Architecture}} {{json .RepoTags}} {{.Config.Cmd}}",
            "{{json .RootFS}} {{len .RootFS.Layers}} {{index .RootFS.Layers 0}}",
            "{{range .Config.Env}}{{println .}}{{end}}{{.Config.Labels}} {{json .Config.Volumes}}",
            '{{if .Config.Cmd}}yes{{else}}no{{end}} {{with .Config.Env}}{{join . ","}}{{end}}',
        ],
    }
    for command, forms in templates.items():
        words = [] if command == "images" else ["one:1"]
        for form in forms:
            shown = [show(command, "--format", form, *words).stdout for show in (two, docker)]
            assert sorted(shown[0].splitlines()) == sorted(shown[1].splitlines()), form
    ours, theirs = (
        [json.loads(line) for line in shown.splitlines()]
        for shown in (two("images", "--format", "json").stdout, docker("images", "--format", "json").stdout)
    )
    assert {key for row in theirs for key in row} <= set(ours[0])
    assert {row["ID"] for row in theirs} == {row["ID"] for row in ours}


@needs_root()
@needs("dockerd", "docker")
def test_what_docker_saves_and_exports_we_load_and_import(
    two: Pybuild, saved: Path, docker: Docker, tmp_path: Path
) -> None:
    docker("load", "-i", str(saved))
    docker("save", "-o", str(tmp_path / "docker.tar"), "one:1", "two:1")
    subprocess.run(["gzip", "-k", tmp_path / "docker.tar"], check=True)
    docker("create", "--name", "box", "one:1")
    docker("export", "-o", str(tmp_path / "box.tar"), "box")

    other = Pybuild(tmp_path / "other")
    told = other("load", "-i", tmp_path / "docker.tar.gz").stdout
    ident = other("import", "-c", 'CMD ["/one"]', tmp_path / "box.tar", "box:1").stdout.strip()

    # docker saves them in no order
    assert sorted(told.splitlines()) == ["Loaded image: one:1", "Loaded image: two:1"]
    text = other("inspect", "-f", "{{.Id}} {{.Config.Cmd}}", "box:1").stdout
    assert text == f"{ident} [/one]\n"
    files = json.loads(other("diff", "--format", "json", "one:1", "box:1").stdout)["Files"]
    assert not [change for change in files if change["Path"] in ("/one", "/etc/shared") and change["What"]]


def test_an_archive_in_a_pipe_goes_from_store_to_store(two: Pybuild, tmp_path: Path) -> None:
    other = Pybuild(tmp_path / "other")
    script = f'"$0" -m builder save multi:1 | gzip | "$0" -m builder load --root {other.root}'
    environ = {"PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(two.root), "PATH": os.environ["PATH"]}

    told = run(["bash", "-o", "pipefail", "-c", script, sys.executable], env=environ).stdout

    assert told == "Loaded image: multi:1\n"
    ids = [each("inspect", "-f", "{{.Id}}", "multi:1").stdout for each in (two, other)]
    assert ids[0] == ids[1]


def test_the_index_of_the_archive_has_the_platforms(two: Pybuild, tmp_path: Path) -> None:
    two("save", "-o", tmp_path / "multi.tar", "multi:1")

    (entry,) = json.loads(members_of(tmp_path / "multi.tar")["index.json"])["manifests"]

    assert entry["mediaType"] == spec.OCI_INDEX

"""The main job on real input: every project builds, is cached the second time, and its image works."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures"))

import bases

from tests.support.machine import FIXTURES, Pybuild, needs, needs_root, run
from tests.support.peers import Podman, skopeo_inspect, umoci_unpack

pytestmark = [
    pytest.mark.root,
    pytest.mark.peers,
    pytest.mark.network,
    needs_root(),
    pytest.mark.skipif(not bases.apt_sources(), reason="this machine has no Debian package sources"),
    needs("skopeo", "umoci", "podman", "runc", "mmdebstrap", "busybox", "curl", "nsenter", "pgrep"),
]


class Project:
    """Builds fixtures into one store, and knows the machine's settings."""

    def __init__(self, folder: Path, podman: Podman, bases_folder: Path) -> None:
        self.folder = folder
        self.bases_folder = bases_folder
        self.root = folder / "store"
        self.pybuild = Pybuild(self.root)
        settings = folder / "settings"
        settings.mkdir()
        self.secrets = bases.machine_secrets(settings)
        self.podman = podman

    def base(self, name: str) -> None:
        work = self.bases_folder
        contexts = {"debian": bases.debian_context, "busybox": bases.busybox_context}
        context = contexts[name](work) if name in contexts else bases.BASES / name
        dockerfile = str(bases.BASES / name / "Dockerfile")
        self.pybuild.build(context, "-t", bases.NAMES[name], "-f", dockerfile, *self.secrets)

    def build(self, name: str, *flags: str, context: Path | None = None) -> str:
        """Build a fixture twice: the second time, nothing may run. Returns the image's name."""
        tag = f"{name.replace('/', '-')}:1"
        folder = context or FIXTURES / name
        words = ["-t", tag, *self.secrets, *flags]
        if context is not None:
            words += ["-f", str(FIXTURES / name / "Dockerfile")]
        self.pybuild.build(folder, *words)
        again = self.pybuild.build(folder, *words)
        assert re.search(r"all \d+ steps cached$", again.stderr.strip()), again.stderr
        return tag

    def config(self, tag: str) -> dict[str, object]:
        config: dict[str, object] = skopeo_inspect(self.root, tag, config=True)["config"]
        return config


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, podman: Podman, bases_folder: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("projects"), podman, bases_folder)
    project.base("busybox")
    return project


@pytest.fixture(scope="session")
def debian(project: Project) -> Project:
    project.base("debian")
    return project


def test_a_c_program_made_in_one_stage_runs_in_another(debian: Project) -> None:
    tag = debian.build("c-program", "--build-arg", "VERSION=2.1")
    image = debian.podman.pull(debian.root, tag)

    assert debian.podman.run_status(image) == (0, "2\n3\n5\n7\n11\n13\n17\n19\n", "")
    assert debian.podman.run_status(image, "--version")[1] == "primes 2.1\n"
    assert debian.podman.run_status(image, "none")[0] == 64
    config = debian.config(tag)
    assert config["User"] == "1000:1000"
    assert config["Labels"] == {"org.opencontainers.image.title": "primes"}
    assert (config["Entrypoint"], config["Cmd"]) == (["primes"], ["20"])


def test_a_python_web_app_answers_200(debian: Project) -> None:
    tag = debian.build("python-web")
    image = debian.podman.pull(debian.root, tag)

    with debian.podman.service(image) as service:
        assert service.get("http://127.0.0.1:8000/") == (200, "hello from uid 10001\n")
        assert service.user_ids() == {10001}
    assert debian.config(tag)["ExposedPorts"] == {"8000/tcp": {}}


def test_a_node_app_answers_200_and_does_not_run_as_root(debian: Project) -> None:
    debian.base("node")
    tag = debian.build("node-app")
    image = debian.podman.pull(debian.root, tag)

    with debian.podman.service(image) as service:
        assert service.get("http://127.0.0.1:3000/") == (200, "hello from uid 1000 in production\n")
        assert service.get("http://127.0.0.1:3000/static/style.css")[0] == 200
        assert service.user_ids() == {1000}
        manifest = skopeo_inspect(debian.root, tag, config=True)
        health = manifest["config"]["Healthcheck"]
        service.exec(*health["Test"][1:])
    assert (health["Interval"], health["Timeout"], health["StartPeriod"], health["Retries"]) == (
        30_000_000_000, 3_000_000_000, 5_000_000_000, 3,
    )  # fmt: skip


def test_an_nginx_site_serves_its_page(debian: Project) -> None:
    tag = debian.build("nginx-site")
    image = debian.podman.pull(debian.root, tag)
    page = (FIXTURES / "nginx-site/html/index.html").read_text()

    with debian.podman.service(image) as service:
        assert service.get("http://127.0.0.1:8080/index.html") == (200, page)
        assert service.get("http://127.0.0.1:8080/img/dot.svg")[0] == 200
        assert service.get("http://127.0.0.1:8080/healthz")[0] == 204
        assert service.get("http://127.0.0.1:8080/nothing")[0] == 404


def test_a_database_starts_by_its_entrypoint_and_answers_a_client(debian: Project) -> None:
    tag = debian.build("database")
    image = debian.podman.pull(debian.root, tag)

    with debian.podman.service(image) as service:
        service.wait_for_port(6379)
        assert service.exec("redis-cli", "SET", "key", "value").strip() == "OK"
        assert service.exec("redis-cli", "GET", "key").strip() == "value"
        assert service.user_ids() == {999}
        owner = service.exec("stat", "-c", "%U:%G", "/data").strip()
    assert owner == "redis:redis"
    config = debian.config(tag)
    assert config["Volumes"] == {"/data": {}}
    assert config["WorkingDir"] == "/data"


def test_two_dozen_stages_join_and_the_unused_one_is_not_built(project: Project, tmp_path: Path) -> None:
    tag = project.build("many-stages")
    rootfs = umoci_unpack(project.root, tag, tmp_path / "bundle")

    assert (rootfs / "sum.txt").read_text() == "".join(f"LINE {i}\n" for i in range(8))
    assert (rootfs / "count.txt").read_text() == "8\n"
    assert sorted(path.name for path in (rootfs / "ok").iterdir()) == [f"ok-{i}" for i in range(6)]


def test_heredocs_become_scripts_and_files(project: Project) -> None:
    tag = project.build("heredocs")
    image = project.podman.pull(project.root, tag)

    assert project.podman.run(image) == (
        "hello, world\none two\n1\n2\n3\n<h1>world</h1>\ncosts $5 and \\ stays\n"
    )


def test_onbuild_triggers_run_in_the_child(project: Project) -> None:
    project.build("onbuild/parent")
    project.pybuild("tag", "onbuild-parent:1", "onbuild-parent:latest")
    parent = project.config("onbuild-parent:1")
    tag = project.build("onbuild/child", "--build-arg", "MODE=debug")
    image = project.podman.pull(project.root, tag)

    assert parent["OnBuild"] == ["ARG MODE=release", "COPY . /app", 'RUN sh build.sh "$MODE"']
    assert project.podman.run(image) == "built as debug from child\n"
    assert "OnBuild" not in project.config(tag)


def test_a_static_binary_alone_in_an_image_runs(debian: Project, tmp_path: Path) -> None:
    tag = debian.build("static-binary")
    rootfs = umoci_unpack(debian.root, tag, tmp_path / "bundle")
    image = debian.podman.pull(debian.root, tag)

    assert [path.name for path in rootfs.iterdir()] == ["hello"]
    assert debian.podman.run(image) == "static\n"


def test_a_large_dockerignore_decides_what_is_in_the_image(project: Project, tmp_path: Path) -> None:
    context = tmp_path / "context"
    kept: set[str] = set()
    dropped: set[str] = set()
    for line in (FIXTURES / "big-ignore/tree.txt").read_text().splitlines():
        sign, _, path = line.partition(" ")
        if sign in "+-":
            (kept if sign == "+" else dropped).add(path)
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            (context / path).write_text(path)
    (context / ".dockerignore").write_bytes((FIXTURES / "big-ignore/.dockerignore").read_bytes())

    tag = project.build("big-ignore", context=context)
    rootfs = umoci_unpack(project.root, tag, tmp_path / "bundle")

    found = {str(p.relative_to(rootfs / "project")) for p in (rootfs / "project").rglob("*") if p.is_file()}
    assert found == kept
    assert len(kept) > 15
    assert len(dropped) > 50


def test_the_smallest_example_needs_only_this_machine(project: Project) -> None:
    run([sys.executable, FIXTURES / "hello/run.py", "--root", project.root])
    image = project.podman.pull(project.root, "hello:latest")

    assert project.podman.run(image) == "hello, world\n"


def test_images_of_all_projects_are_listed_with_their_names(project: Project) -> None:
    project.build("heredocs")
    listed = [json.loads(line) for line in project.pybuild("images", "--format", "json").stdout.splitlines()]

    assert {"Repository": "heredocs", "Tag": "1"}.items() <= next(
        row for row in listed if row["Repository"] == "heredocs"
    ).items()

"""A docker daemon takes, and runs, the forms of image that `type=docker` writes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.contexts import lay
from tests.support.dockerd import Docker, dockerd
from tests.support.machine import Pybuild, needs, needs_root, run

pytestmark = [pytest.mark.root, pytest.mark.peers, needs_root(), needs("busybox", "dockerd")]

DOCKERFILE = """\
FROM busybox
COPY a /data/a
RUN echo new > /data/new && rm /bin/vi && mkdir /data/d
RUN rmdir /data/d && mv /data/new /data/moved
CMD ["sh", "-c", "cat /data/a /data/moved; ls /data; ls /bin/vi || true"]
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    folder = Path(tempfile.mkdtemp(prefix="docker-"))
    try:
        with dockerd(folder) as found:
            if isinstance(found, str):
                pytest.skip(found)
            yield found
    finally:
        run(["rm", "-rf", folder])  # which does not mind what containerd removes at its end


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "compression=estargz,force-compression=true",
        "compression=uncompressed,force-compression=true",
        "oci-mediatypes=false",
        "annotation.org.example.key=value,annotation-manifest-descriptor.x=y",
        "squash",
        "attested",
    ],
)
def test_docker_loads_and_runs_it(pybuild: Pybuild, tmp_path: Path, docker: Docker, attributes: str) -> None:
    lay(tmp_path / "c", DOCKERFILE, {"a": "content\n"})
    flags = {"squash": ["--squash"], "attested": ["--provenance=true", "--sbom=true"]}.get(attributes, [])
    output = f"type=docker,dest={tmp_path}/a.tar{',' + attributes if attributes and not flags else ''}"

    pybuild("-o", output, *flags, "-t", "formed:1", tmp_path / "c")

    name = docker.load(tmp_path / "a.tar", "formed:1")
    done = docker.run(name, [], [])
    assert done.stdout == "content\nnew\na\nmoved\n"
    assert "No such file" in done.stderr
    layers = docker("image", "inspect", "--format", "{{len .RootFS.Layers}}", name).stdout.strip()
    assert layers == ("2" if attributes == "squash" else "4")
    docker("rmi", name)

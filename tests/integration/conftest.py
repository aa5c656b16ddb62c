"""The small base (a static busybox), built once a session; every test gets a store of its own with it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.machine import FIXTURES, Pybuild, run
from tests.support.peers import Podman
from tests.support.workshop import Workshop

sys.path.insert(0, str(FIXTURES.parent))

import bases


@pytest.fixture(scope="session")
def busybox_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds busybox:latest, to be copied."""
    folder = tmp_path_factory.mktemp("seed")
    root = folder / "store"
    context = bases.busybox_context(folder)
    Pybuild(root).build(context, "-t", "busybox", "-f", str(bases.BASES / "busybox" / "Dockerfile"))
    return root


@pytest.fixture(scope="session")
def busybox_layout(busybox_seed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same image as a layout of its own, tagged `1`; to be copied where it is to be broken."""
    folder = tmp_path_factory.mktemp("layout")
    (folder / "Dockerfile").write_text("FROM busybox\n")
    layout = folder / "busybox"
    run(["cp", "-a", busybox_seed, folder / "store"])  # so that the seed stays as it is
    Pybuild(folder / "store").build(folder, "-t", "layout:1", "-o", f"type=oci,tar=false,dest={layout}")
    return layout


@pytest.fixture(scope="session")
def bases_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `bases` keeps what takes long to make."""
    return tmp_path_factory.mktemp("bases")


@pytest.fixture(scope="session")
def debian_layout(bases_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian as a layout of its own, tagged `1`; what needs it needs mmdebstrap and package sources."""
    folder = tmp_path_factory.mktemp("debian")
    context, layout = bases.debian_context(bases_folder), folder / "debian"
    words = ["-t", "debian:1", "-f", str(bases.BASES / "debian" / "Dockerfile")]
    Pybuild(folder / "store").build(context, *words, "-o", f"type=oci,tar=false,dest={layout}")
    return layout


@pytest.fixture
def workshop(tmp_path: Path, busybox_seed: Path) -> Iterator[Workshop]:
    with closing(Workshop(tmp_path, busybox_seed)) as workshop:
        yield workshop


@pytest.fixture
def pybuild(tmp_path: Path, busybox_seed: Path) -> Pybuild:
    """The command with a store of the test's own, which holds busybox:latest."""
    run(["cp", "-a", busybox_seed, tmp_path / "store"])
    return Pybuild(tmp_path / "store")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An empty folder to build from."""
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


@pytest.fixture
def empty_workshop(tmp_path: Path) -> Iterator[Workshop]:
    """One whose store has to be made yet."""
    with closing(Workshop(tmp_path, None)) as workshop:
        yield workshop


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """podman with a storage of its own, in a folder whose name is short enough for it."""
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    yield Podman(folder)
    run(["umount", "-l", folder / "root/overlay"], check=False)  # it mounts its storage on itself
    run(["rm", "-rf", folder])  # which does not mind what a container's end removes meanwhile

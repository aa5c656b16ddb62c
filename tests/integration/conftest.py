"""What tests of the whole command stand on: a store with a small base image in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.busybox import make_store
from tests.support.machine import Pybuild, run


@pytest.fixture(scope="session")
def busybox_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds `busybox:latest` and nothing else; copied, never built in."""
    return make_store(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def pybuild(busybox_store: Path, tmp_path: Path) -> Pybuild:
    """The command with a store of the test's own, which holds `busybox:latest`."""
    run(["cp", "-a", busybox_store, tmp_path / "store"])
    return Pybuild(tmp_path / "store")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An empty folder to build from."""
    folder = tmp_path / "context"
    folder.mkdir()
    return folder

"""Machines that share nothing but a cache: each has a store of its own with the small base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.registry import RunningRegistry, running_registry
from tests.support.remotecaches import Machine


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, busybox_seed: Path) -> Callable[[str], Machine]:
    """Makes a machine with a name."""
    return lambda name: Machine(tmp_path / name, busybox_seed)

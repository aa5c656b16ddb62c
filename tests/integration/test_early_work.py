"""What is done before it is asked for: layers are compressed while later steps still run."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest

from tests.support.machine import needs_root
from tests.support.workshop import Workshop, find_process, stop

pytestmark = [pytest.mark.root, needs_root()]

SLEEP = "sleep 4713.25"


def blobs(workshop: Workshop, size: int) -> list[Path]:
    """The blobs of at least that many bytes."""
    folder = workshop.root / "blobs" / "sha256"
    return [path for path in folder.iterdir() if path.stat().st_size >= size] if folder.is_dir() else []


@pytest.mark.parametrize(
    "step", ["COPY noise /noise", "RUN --mount=target=/context cp /context/noise /noise"]
)
def test_a_finished_layer_is_compressed_while_a_later_step_runs(workshop: Workshop, step: str) -> None:
    workshop.write("noise", os.urandom(3 << 20))
    workshop.dockerfile(f"FROM busybox\n{step}\nRUN {SLEEP}\n")
    process = workshop.start(workshop.context)

    workshop.wait_until(lambda: find_process(SLEEP) and blobs(workshop, 3 << 20))
    outcome = stop(process, signal.SIGINT, 60)

    assert outcome.status == 130
    workshop.check_clean()
    (blob,) = blobs(workshop, 3 << 20)
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    workshop.check_usable()


def test_compressing_beside_a_step_that_fails_leaves_nothing(workshop: Workshop) -> None:
    workshop.write("noise", os.urandom(24 << 20))
    workshop.dockerfile("FROM busybox\nCOPY noise /noise\nRUN test ! -e /noise\n")

    outcome = workshop.run(workshop.context)

    assert outcome.status == 1
    assert "did not complete successfully" in outcome.message
    assert outcome.err.count("error:") == 1
    workshop.check_clean()
    workshop.check_usable()


def test_the_image_is_the_same_however_early_its_layers_are_compressed(workshop: Workshop) -> None:
    workshop.write("noise", os.urandom(3 << 20))
    workshop.dockerfile("FROM busybox\nCOPY noise /noise\nRUN sleep 0.7; touch -d @0 /last\n")
    env = {"SOURCE_DATE_EPOCH": "0"}
    digests = [
        workshop.build("--no-cache", f"--output=type=oci,rewrite-timestamp=true,dest={name}.tar", env=env)
        and hashlib.sha256((workshop.folder / f"{name}.tar").read_bytes()).hexdigest()
        for name in ("one", "two")
    ]

    assert digests[0] == digests[1]

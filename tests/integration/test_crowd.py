"""A crowd of builds on one store, round after round, and somebody who prunes it all the while.

PYBUILD_CROWD_ROUNDS sets the number of rounds (20 for a long trial).
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builder.oci import spec
from tests.support.images import read_image
from tests.support.machine import needs_root
from tests.support.storecheck import wrong_in
from tests.support.workshop import Workshop, finish

pytestmark = [pytest.mark.root, needs_root()]

ROUNDS = int(os.environ.get("PYBUILD_CROWD_ROUNDS", "2"))
BUILDS = 16
KINDS = 4
DOCKERFILE = """
FROM {host}/base{number}
RUN echo common {number}; sleep 0.1; echo {number} > /common
ARG KIND
RUN echo $KIND; sleep 0.1; cat /common /base > /made; echo $KIND >> /made
"""


class Bases:
    """host: a registry of layouts by their names' numbers; asked: how often each layer was."""

    def __init__(self, layouts: list[Path]) -> None:
        self.layouts = layouts
        self.host = ""
        self.asked: Counter[tuple[int, str]] = Counter()

    def read(self, path: str) -> tuple[bytes, str]:
        """The answer to `/v2/base<number>/manifests|blobs/<name>`: its body and media type."""
        _, _, name, kind, digest = path.split("/")
        number = int(name.removeprefix("base"))
        layout = self.layouts[number]
        if kind == "manifests":
            digest = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
        else:
            self.asked[number, digest] += 1
        data = (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
        return data, spec.OCI_MANIFEST if kind == "manifests" else "application/octet-stream"


@contextmanager
def serving(bases: Bases) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            data, kind = bases.read(self.path) if self.path != "/v2/" else (b"", "text/plain")
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.send_header("content-type", kind)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    bases.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def pruning(workshop: Workshop, failures: list[str]) -> Iterator[None]:
    """Prune the store, over and over, while the block lasts."""
    over = threading.Event()
    command = [*workshop.command()[:3], "prune", "-f", "--root", str(workshop.root)]

    def prune() -> None:
        while not over.is_set():
            done = subprocess.run(
                command, env=workshop.environment(), cwd=workshop.folder, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if done.returncode:
                failures.append(done.stderr)

    thread = threading.Thread(target=prune)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def make_base(workshop: Workshop, number: int) -> Path:
    """A base image of its own for a round, as a layout."""
    layout = workshop.folder / f"layout{number}"
    workshop.dockerfile(f"FROM busybox\nRUN echo base {number} > /base\n")
    workshop.build("-o", f"type=oci,tar=false,dest={layout}")
    return layout


def test_a_crowd_of_builds_does_equal_work_once_while_the_store_is_pruned(workshop: Workshop) -> None:
    bases = Bases([make_base(workshop, number) for number in range(ROUNDS)])
    failures: list[str] = []

    with serving(bases), pruning(workshop, failures):
        for number in range(ROUNDS):
            workshop.dockerfile(DOCKERFILE.format(host=bases.host, number=number))
            building = [
                workshop.start("-t", f"app:{number}-{n}", f"--build-arg=KIND={n % KINDS}", workshop.context)
                for n in range(BUILDS)
            ]
            outcomes = [finish(process, 600) for process in building]
            assert [outcome.err for outcome in outcomes if outcome.status] == []
            ran = Counter(step for outcome in outcomes for step in outcome.ran if " RUN " in step)
            assert sum(count for step, count in ran.items() if "RUN echo common" in step) == 1, ran
            assert sum(count for step, count in ran.items() if "RUN echo $KIND" in step) == KINDS, ran

    assert failures == []
    assert set(bases.asked.values()) == {1}, bases.asked
    for number in range(ROUNDS):
        for n in range(BUILDS):
            made = read_image(workshop.root, f"app:{number}-{n}").text("made")
            assert made == f"{number}\nbase {number}\n{n % KINDS}\n"
    assert wrong_in(workshop.root) == []
    workshop.check_clean()

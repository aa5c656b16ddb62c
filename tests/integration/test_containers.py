"""Builds inside containers, as CI runs them: which rung there is, what is weaker, what is refused.

The image is Debian with the builder installed by pip, made by the builder itself.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.contexts import lay
from tests.support.dockerd import Docker, dockerd
from tests.support.machine import CHECKOUT, FIXTURES, Pybuild, needs, needs_root, run
from tests.support.peers import Podman

sys.path.insert(0, str(FIXTURES.parent))

import bases

pytestmark = [
    pytest.mark.root,
    pytest.mark.peers,
    pytest.mark.network,
    needs_root(),
    pytest.mark.skipif(not bases.apt_sources(), reason="this machine has no Debian package sources"),
    needs("busybox", "podman", "runc", "mmdebstrap", "dockerd", "docker"),
]

IMAGE = """
FROM debian
RUN --mount=type=secret,id=apt-sources,target=/etc/apt/sources.list.d/machine.sources \
    apt-get update && apt-get install -y --no-install-recommends python3 python3-pip uidmap
COPY source /source
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,mode=0444 \
    pip install --break-system-packages --root-user-action=ignore /source \
    && useradd --uid 1000 --create-home user && mkdir -m 1777 /volume
COPY base /base
COPY context /context
COPY trial /usr/local/bin/trial
"""

STEPS = """
FROM busybox
RUN mkdir -m 700 /d && echo x > /d/f && chown -R 5:6 /d && rm /usr/bin/wget
USER 5:6
RUN stat -c '%n %u:%g' /d/f && id -u && test ! -e /usr/bin/wget
"""

TRIAL = """#!/bin/sh
build() {
    pybuild build --progress=plain --build-context busybox=oci-layout:///base:1 "$@" /context 2>&1
    echo "status $?"
}
echo ==doctor
pybuild doctor --format json
echo ==build
build
echo ==full
build --no-cache --network none --require-isolation=full
echo ==without
build -f /context/without
"""

PROC, HOSTNAME, COPIES, ONE_ID = (
    "a new /proc is refused",
    "a host name is refused",
    "works on a copy",
    "one id",
)


class Told:
    """What the trial in a container said."""

    def __init__(self, text: str) -> None:
        self.text = text
        parts = dict(re.findall(r"^==(\w+)\n(.*?)(?=^==|\Z)", text, re.MULTILINE | re.DOTALL))
        self.doctor = json.loads(parts["doctor"])
        self.build, self.full, self.without = parts["build"], parts["full"], parts["without"]

    def lines(self) -> list[str]:
        return re.findall(r"^#\d+ \d+\.\d+ (.*)$", self.build, re.MULTILINE)

    def check_built(self, rung: str, weaker: Sequence[str]) -> None:
        """RUN works on that rung, with owners, and these weakenings are told, once each, and no others."""
        assert self.doctor["rung"] == rung, self.text
        found = [row["line"] for row in self.doctor["weaker"]]
        assert [[word in line for line in found] for word in weaker] == [
            [number == other for other in range(len(found))] for number in range(len(weaker))
        ], (found, weaker)
        assert self.lines() == ["/d/f 5:6", "5"], self.build
        assert "status 0" in self.build
        told = re.findall(r"^- (.*)$", self.build, re.MULTILINE)
        assert told == found, self.build
        self._check_full(found)

    def _check_full(self, weaker: Sequence[str]) -> None:
        if not weaker:
            assert "status 0" in self.full, self.full
            return
        assert "status 1" in self.full
        assert f"error: --require-isolation=full is not met: {'; '.join(weaker)}" in self.full

    def check_refused(self, reason: str, remedy: str) -> None:
        """RUN is refused with advice; what needs none is built."""
        assert self.doctor["rung"] == "", self.text
        assert re.search(rf"^error: RUN cannot be run here: .*{re.escape(reason)}", self.build, re.MULTILINE)
        (hint,) = re.findall(r"^hint: (.*)$", self.build, re.MULTILINE)
        assert remedy in hint
        assert "status 1" in self.build
        assert "status 0" in self.without


@pytest.fixture(scope="session")
def builder_archive(
    debian_layout: Path, busybox_layout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An archive of `docker save` with the image `builder:1`."""
    folder = tmp_path_factory.mktemp("builder")
    context, secrets = folder / "context", folder / "secrets"
    secrets.mkdir()
    lay(context, IMAGE, {"context/Dockerfile": STEPS, "trial": TRIAL})
    lay(context / "context", None, {"without": "FROM busybox\nCOPY --chown=7:8 Dockerfile /d\n"})
    (context / "trial").chmod(0o755)
    shutil.copytree(busybox_layout, context / "base")
    for name in ("builder", "grammar", "scripts"):
        shutil.copytree(
            CHECKOUT / name, context / "source" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, context / "source" / name)
    named = ("--build-context", f"debian=oci-layout://{debian_layout}:1")
    archive = folder / "builder.tar"
    flags = (
        *named,
        *bases.machine_secrets(secrets),
        "-o",
        f"type=docker,compression=uncompressed,dest={archive}",
    )
    Pybuild(folder / "store").build(context, "-t", "builder:1", *flags)
    return archive


Trial = Callable[..., Told]


@pytest.fixture(scope="session")
def in_podman(podman: Podman, builder_archive: Path) -> Trial:
    """Run the trial in a container of podman with these options."""
    image = podman("load", "--quiet", "--input", str(builder_archive)).split()[-1]

    def trial(*options: str) -> Told:
        done = run([*podman.base, "run", "--rm", *podman.flags(), *options, image, "trial"], check=False)
        return Told(done.stdout + done.stderr)

    return trial


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    folder = Path(tempfile.mkdtemp(prefix="docker-"))
    try:
        with dockerd(folder) as started:
            if isinstance(started, str):
                pytest.skip(started)
            yield started
    finally:
        subprocess.run(["rm", "-rf", folder], check=False)


@pytest.fixture(scope="session")
def in_docker(docker: Docker, builder_archive: Path) -> Trial:
    """The same by docker."""
    image = docker.load(builder_archive, "builder:1")

    def trial(*options: str) -> Told:
        done = docker.run(image, ["trial"], options)
        return Told(done.stdout + done.stderr)

    return trial


USER = ("--user", "1000", "--env", "HOME=/home/user")
VOLUME = ("--volume", "/volume", "--env", "PYBUILD_ROOT=/volume/store")
UNCONFINED = ("--security-opt", "seccomp=unconfined")
UNMASKED = (*UNCONFINED, "--security-opt", "unmask=ALL")
ADMIN = ("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN")
SYSTEMPATHS = (*UNCONFINED, "--security-opt", "systempaths=unconfined")


@pytest.mark.parametrize(
    ("options", "rung", "weaker"),
    [
        ((), "userns", (PROC, HOSTNAME, COPIES)),
        (VOLUME, "userns", (PROC, HOSTNAME)),
        (USER, "single-uid", (ONE_ID, PROC, HOSTNAME, COPIES)),
        (("--security-opt", "no-new-privileges", *USER), "single-uid", (ONE_ID, PROC, HOSTNAME, COPIES)),
        (UNCONFINED, "userns", (PROC, COPIES)),
        ((*UNCONFINED, *USER), "single-uid", (ONE_ID, PROC, COPIES)),
        ((*UNMASKED, *VOLUME), "userns", ()),
        ((*UNMASKED, *USER, *VOLUME), "single-uid", (ONE_ID,)),
        (("--privileged",), "root", (COPIES,)),
        (("--privileged", *VOLUME), "root", ()),
        (("--privileged", *USER), "userns", (COPIES,)),
    ],
)
def test_podman_s_containers_can_build(
    in_podman: Trial, options: tuple[str, ...], rung: str, weaker: tuple[str, ...]
) -> None:
    in_podman(*options).check_built(rung, weaker)


def test_a_root_without_capabilities_is_told_what_it_lacks(in_podman: Trial) -> None:
    in_podman("--cap-drop", "all").check_refused("this root lacks CAP_SETFCAP", "--cap-add SETFCAP")


def test_a_user_without_chroot_is_told_what_it_lacks(in_podman: Trial) -> None:
    in_podman("--cap-drop", "all", *USER).check_refused("chroot(2) is refused", "--cap-add SYS_CHROOT")


@pytest.mark.parametrize("options", [(), USER, VOLUME])
def test_docker_s_profile_forbids_namespaces_and_the_refusal_says_how_to_grant_them(
    in_docker: Trial, options: tuple[str, ...]
) -> None:
    in_docker(*options).check_refused("the kernel refuses user namespaces", "seccomp=unconfined")


@pytest.mark.parametrize(
    ("options", "rung", "weaker"),
    [
        (UNCONFINED, "userns", (PROC, COPIES)),
        ((*UNCONFINED, *USER), "single-uid", (ONE_ID, PROC, COPIES)),
        ((*SYSTEMPATHS, *VOLUME), "userns", ()),
        ((*SYSTEMPATHS, *USER, *VOLUME), "single-uid", (ONE_ID,)),
        ((*SYSTEMPATHS, *ADMIN, *VOLUME), "root", ()),
    ],
)
def test_docker_s_containers_can_build_where_that_is_granted(
    in_docker: Trial, options: tuple[str, ...], rung: str, weaker: tuple[str, ...]
) -> None:
    in_docker(*options).check_built(rung, weaker)
